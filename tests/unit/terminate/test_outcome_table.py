"""Lines of the table of outcomes that no other test would miss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from devin.api_key import ApiKeys
from devin.client import CALL_SECONDS, DevinClient
from devin.http import Reply
from devin.throttle import Throttle
from redaction import Redactor
from terminate.messages import Action
from terminate.outcomes import Outcome
from terminate.termination import end_session
from tests.unit.world import NOT_VALID, World, session

SINCE = '{"session_id": "devin-1", "unless_updated_since": "2026-11-02T00:00:00Z"}'
Log = Callable[[], list[dict[str, Any]]]


class Transport:
    """Answers 422 to a DELETE, `repeated` or not, and tells of an exited session; `seconds` are what calls got."""

    def __init__(self, *, repeated: bool = False) -> None:
        self.repeated = repeated
        self.seconds: list[float] = []

    def request(self, method: str, path: str, *, seconds: float, **_: object) -> Reply:
        assert path.endswith("/devin-1")
        self.seconds.append(seconds)
        if method == "DELETE":
            return Reply(422, {}, b"{}", repeated=self.repeated)
        return Reply(200, {}, b'{"session_id": "devin-1", "status_enum": "expired"}')


def client(transport: Transport, seconds_left: float) -> DevinClient:
    keys = ApiKeys(lambda _: "apk_made-up", lambda _: None)
    return DevinClient(
        transport,  # type: ignore[arg-type]
        keys,
        Throttle(),
        Redactor(),
        org_id=None,
        archive=False,
        seconds_left=lambda: seconds_left,
    )


@pytest.mark.fault(6)
@pytest.mark.parametrize(("left", "given"), [(1.0, 1.0), (9.5, 9.5), (CALL_SECONDS, 10.0), (600.0, 10.0)])
def test_a_call_gets_what_is_left_and_ten_seconds_at_most(left: float, given: float) -> None:
    transport = Transport()
    client(transport, left).terminate("devin-1")
    assert transport.seconds == [given]


@pytest.mark.parametrize(("repeated", "outcome"), [(True, Outcome.ALREADY_EXITED), (False, Outcome.REJECTED)])
def test_a_rejection_of_a_request_that_was_sent_twice_is_looked_at(repeated: bool, outcome: Outcome) -> None:
    made = client(Transport(repeated=repeated), 10)
    results = end_session(
        made, "devin-1", Action.TERMINATE, {None}, may_have_ended=False, dry_run=False, protect_tag="keep"
    )
    assert results[None].outcome is outcome


def test_a_session_that_had_exited_when_it_was_read_is_no_dead_letter(world: World, log: Log) -> None:
    world.api.on("GET", "devin-1", session("expired"))
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.send(SINCE)
    assert world.deliver() == []
    assert [line["outcome"] for line in log()] == ["already_exited"]
    assert world.dead_letters() == []


def test_a_session_that_was_alive_when_it_was_read_and_is_rejected_is_a_dead_letter(world: World) -> None:
    world.api.on("GET", "devin-1", session("working"))
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.send(SINCE)
    assert world.deliver() == []
    assert [attributes["session_status"] for _, attributes in world.dead_letters()] == ["working"]


@pytest.mark.parametrize("bodies", [(SINCE, "devin-1"), ("devin-1", SINCE)])
def test_who_asks_without_a_condition_is_obeyed_whatever_others_say(world: World, bodies: tuple[str, str]) -> None:
    world.api.on("GET", "devin-1", session(updated_at="2026-11-03T00:00:00Z"))
    world.send(*bodies)
    assert world.deliver() == []
    assert world.api.calls == [("DELETE", "devin-1")]
