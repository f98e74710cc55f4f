"""Draws docs/pictures/fleet.svg: the chart of `devin-ops sweep --chart`, of a made-up fleet."""

import math
import statistics
from datetime import UTC, datetime, timedelta
from pathlib import Path

from devin.session import Session
from infra.ops.chart import picture
from infra.ops.fleet import Fleet, survey

_NOW = datetime(2026, 11, 30, 7, tzinfo=UTC)
_POLICY = {"idle_for": "P2D", "without_tags": ["long-running"], "exclude_users": ["user-release"]}
_NUMBER = 140
_USERS = ["user-ann", "user-ben", "user-ann", "user-cleo", "service-user-nightly", "user-ann", "user-release"]
_DETAILS = ["working", "waiting_for_user", "finished"]


def sample_fleet() -> Fleet:
    """Most are asleep, some of them for weeks."""
    idle_times = statistics.NormalDist(mu=3.1, sigma=1.7)
    sessions = []
    for number in range(_NUMBER):
        hours = math.exp(idle_times.inv_cdf((number + 0.5) / _NUMBER))
        awake = hours < 1 or number % 8 == 0
        updated_at = _NOW - timedelta(hours=hours)
        sessions.append(
            Session(
                session_id=f"devin-{number}",
                status="running" if awake else "suspended",
                status_detail=_DETAILS[number % 3] if awake else "inactivity",
                created_at=updated_at - timedelta(hours=1 + number * 7 % 40),
                updated_at=updated_at,
                tags=("keep",) if number % 11 == 0 else ("long-running",) if number % 13 == 0 else (),
                users=(_USERS[number * 5 % 7],),
                acus=0.5 + number * 3 % 12,
            )
        )
    return survey(sessions, "complete", _POLICY, _NOW, protect_tag="keep", rejected={})


if __name__ == "__main__":
    Path("docs/pictures/fleet.svg").write_text(picture(sample_fleet()) + "\n", encoding="utf-8")
