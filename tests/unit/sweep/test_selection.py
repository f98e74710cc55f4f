"""Selections: families, caps, and what holds for any policy and any listing."""

import json
import math
import random
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from comparison import as_seen
from devin.client import Answer
from devin.session import Session, parse_page_body
from devin.session_id import InvalidSessionIdError, parse_session_id
from devin.version import V1, V3
from queues import Outgoing
from redaction import Redactor
from sweep.policy import Policy, parse_policy
from sweep.selection import CapExceededError, Selection, check_caps
from sweep.sweep import Sweep, SweepError
from tests.unit.world import NOW, stale, stale_v3

HOUR = timedelta(hours=1)
IDLE = {"idle_for": "P1D", "statuses": ["blocked"]}


def one(session_id: str | None, *, idle: timedelta = 120 * HOUR, **fields: Any) -> Session:
    usual: dict[str, Any] = {
        "session_id": session_id,
        "status": "blocked",
        "created_at": NOW - idle - 24 * HOUR,
        "updated_at": NOW - idle,
        "tags": (),
        "users": ("ann",),
    }
    return Session(**usual | fields)


def select(*sessions: Session, **policy: Any) -> Selection:
    selection = Selection()
    for session in sessions:
        selection.add(session, parse_policy(policy or IDLE), NOW, "keep")
    selection.keep_families()
    return selection


# Families ----------------------------------------------------------------------------------------------------------

KEPT_BY_CHILD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "in use": ({"idle": HOUR}, {}, "idle_for: no"),
    "at work": ({"status": "working"}, {}, "statuses: no"),
    "protected": ({"tags": ("keep ",)}, {}, "protected by its tag"),
    "to be left alone": ({"tags": ("ci",)}, {"without_tags": ["ci"]}, "without_tags: no"),
    "of an excluded user": ({"users": ("bob",)}, {"exclude_users": ["bob"]}, "exclude_users: no"),
    "of unknown tags": ({"tags": None}, {}, "tags unknown"),
    "ended a moment ago": ({"idle": HOUR, "exited": True, "status": "exit"}, {}, "idle_for: no"),
    "ended and protected": ({"exited": True, "tags": ("keep",)}, {}, "protected by its tag"),
}
LINKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the child names its parent": ({}, {"parent_session_id": "devin-parent"}),
    "the parent names its child": ({"child_session_ids": ("devin-child",)}, {}),
}


@pytest.mark.fault(39)
@pytest.mark.parametrize(("child", "policy", "reason"), KEPT_BY_CHILD.values(), ids=KEPT_BY_CHILD)
@pytest.mark.parametrize(("up", "down"), LINKS.values(), ids=LINKS)
def test_an_idle_parent_is_kept_by_its_child(
    up: dict[str, Any], down: dict[str, Any], child: dict[str, Any], policy: dict[str, Any], reason: str
) -> None:
    selection = select(one("devin-parent", **up), one("devin-child", **child | down), one("devin-x"), **IDLE | policy)
    assert [*selection.matched] == ["devin-x"]
    assert selection.kept[f"family: {reason}"] == 1


@pytest.mark.parametrize("busy", ["devin-1", "devin-2", "devin-3", "devin-4"])
def test_a_family_is_as_busy_as_its_busiest_member_however_far_away(busy: str) -> None:
    parents = {"devin-2": "devin-1", "devin-3": "devin-2", "devin-4": "devin-1"}
    family = [
        one(
            f"devin-{n}", idle=HOUR if busy == f"devin-{n}" else 120 * HOUR, parent_session_id=parents.get(f"devin-{n}")
        )
        for n in range(1, 5)
    ]
    assert select(*family).matched == {}
    assert len(select(*(replace(member, updated_at=NOW - 25 * HOUR) for member in family)).matched) == 4


@pytest.mark.parametrize("fields", [{"parent_session_id": "devin-gone"}, {"child_session_ids": ("devin-gone",)}])
def test_of_a_relative_that_is_not_listed_nothing_is_known_so_it_keeps(fields: dict[str, Any]) -> None:
    assert select(one("devin-1", **fields)).kept == {"family: not listed": 1}


@pytest.mark.parametrize("fields", [{"parent_session_id": "devin-1"}, {"child_session_ids": ("devin-1",)}])
def test_a_relative_without_an_id_keeps(fields: dict[str, Any]) -> None:
    for listing in ([one("devin-1"), one(None, **fields)], [one(None, **fields), one("devin-1")]):
        assert select(*listing, one("devin-2")).kept == {"family: no session id": 1, "no session id": 1}


def test_a_session_whose_family_is_not_known_in_full_keeps_those_it_names() -> None:
    body = json.dumps({"items": [stale_v3("devin-1", child_session_ids=["devin-2", None]), stale_v3("devin-2")]})
    page = parse_page_body(body.encode(), V3, None)
    assert page is not None
    assert select(*page.sessions, idle_for="P1D").kept == {"family unknown": 1, "family: family unknown": 1}


def test_a_relative_that_only_does_not_match_keeps_nobody() -> None:
    for child in ({"status": "exit", "exited": True}, {"is_archived": True}, {"title": None}):
        selection = select(
            one("devin-1", title="a"),
            one("devin-2", **{"parent_session_id": "devin-1", "title": "b"} | child),
            **IDLE | {"title_matches": "a"},
        )
        assert [*selection.matched] == ["devin-1"]


def test_a_session_that_is_its_own_parent_is_no_family() -> None:
    assert [*select(one("devin-1", parent_session_id="devin-1")).matched] == ["devin-1"]


# Caps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("matching", "others", "fits"), [(1, 1, True), (2, 1, False)])
def test_the_share_is_of_what_could_be_ended(matching: int, others: int, *, fits: bool) -> None:
    selection = select(
        *(one(f"devin-{number}") for number in range(matching)),
        *(one(f"devin-busy-{number}", idle=HOUR) for number in range(others)),
        *(one(f"devin-old-{number}", exited=True) for number in range(20)),
        *(one(f"devin-put-away-{number}", is_archived=True) for number in range(20)),
        *(one(None) for _ in range(20)),
    )
    assert selection.listed == matching + others + 60
    if fits:
        check_caps(selection, parse_policy(IDLE))
        return
    with pytest.raises(CapExceededError) as exceeded:
        check_caps(selection, parse_policy(IDLE))
    assert str(exceeded.value) == (
        "2 of 3 sessions that could be ended match, a share of 0.67, but max_share is 0.5; nothing was enqueued. "
        "Among them: devin-0, devin-1"
    )


def test_a_session_that_one_occurrence_shows_exited_could_not_be_ended() -> None:
    assert select(one("devin-1"), one("devin-1", exited=True), one("devin-2")).alive == 1


# A whole sweep over whatever an API may list -----------------------------------------------------------------------


def sweep(policy: Policy, sessions: list[object], size: int) -> list[dict[str, str]]:
    """What is enqueued when an API lists these sessions, so many to a page."""
    sent: list[Outgoing] = []

    def list_page(cursor: str | None) -> Answer:
        start = int(cursor or 0)
        body = json.dumps({"sessions": sessions[start : start + size]}).encode()
        return Answer(status=200, page=parse_page_body(body, V1, cursor))

    def enqueue(messages: list[Outgoing]) -> list[None]:
        sent.extend(messages)
        return [None] * len(messages)

    runtime = SimpleNamespace(queues=SimpleNamespace(enqueue=enqueue), reason_to_stop=lambda: None, table=None)
    Sweep(
        run="run-1",
        runtime=runtime,  # type: ignore[arg-type]
        client=SimpleNamespace(list_page=list_page),  # type: ignore[arg-type]
        redact=Redactor(),
        protect_tag="keep",
        remaining_seconds=lambda: 300.0,
    ).carry_out(policy, NOW)
    return [json.loads(message.body) for message in sent]


def moment(value: Any) -> datetime:
    """A date of either version."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    date = datetime.fromisoformat(value)
    return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)


def provably_stale(raw: Any) -> bool:
    """By what is said of it in so many words, and by the protections alone."""
    if not isinstance(raw, dict) or not (raw.get("status_enum") or raw.get("status")):
        return False
    tags = raw.get("tags", ...)
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        return False
    try:
        created_at, updated_at = (moment(raw[name]) for name in ("created_at", "updated_at"))
        parse_session_id(raw["session_id"])
    except (KeyError, TypeError, ValueError, OverflowError, InvalidSessionIdError):
        return False
    return "keep" not in map(as_seen, tags or ()) and created_at <= updated_at and NOW - created_at >= HOUR


ODD: tuple[object, ...] = (
    None, True, 0, -1, 1e300, math.nan, "", "soon", "keep", ["KEEP", "a"], ["keep\u200b"], ["a", None], {}, {"a": []},
    "2026-11-01", "2026-11-01T00:00:00", "2026-11-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00", "2026-11-24T10:00:01Z", "2026-11-24T09:59:59-14:00", "\x00\ud800", [[7], "devin-1"],
)  # fmt: skip


AGES = [timedelta(minutes=minutes) for minutes in (0, 1, 59, 60, 61, 360, 1440, 20_000, 6_000_000)]


@st.composite
def listed_sessions(draw: st.DrawFn) -> object:
    """As v1 lists them, now and then with something odd about them."""
    idle, older = draw(st.sampled_from(AGES)), draw(st.sampled_from(AGES))
    raw = stale(
        f"devin-{draw(st.integers(0, 9))}",
        idle=idle,
        created_at=(NOW - idle - older).isoformat(),
        status_enum=draw(st.sampled_from(["blocked", "working", "finished", None])),
        tags=draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=2)),
        parent_session_id=draw(st.sampled_from([None] * 30 + ["devin-0"])),
    )
    for name in draw(st.lists(st.sampled_from([*raw]), max_size=2)):
        # An id that is none is text here; tests/unit/devin/test_session.py has others.
        raw[name] = draw(st.sampled_from(["", "../x", "devin-é"] if name == "session_id" else ODD))
    if draw(st.integers(0, 9)) == 0:
        raw.pop(draw(st.sampled_from([name for name in raw if name != "session_id"])))
    return draw(st.sampled_from([raw] * 30 + [None, [], "devin-1", 7]))


policies = st.fixed_dictionaries(
    {"older_than": st.just("PT6H"), "max_share": st.sampled_from([0.5, 1]), "max_sessions": st.integers(1, 12)},
    optional={"idle_for": st.just("PT1H"), "without_tags": st.just(["c"]), "exclude_users": st.just(["a"])},
)


@pytest.mark.fault(25, 27)
@given(policies, st.lists(listed_sessions(), max_size=12), st.integers(1, 15))
@settings(deadline=None)
def test_nothing_is_enqueued_that_is_not_provably_stale_nor_more_than_the_caps_allow(
    raw: dict[str, object], sessions: list[object], size: int
) -> None:
    policy = replace(parse_policy(raw), dry_run=False)
    try:
        enqueued = sweep(policy, sessions, size)
    except (CapExceededError, SweepError):
        return
    event("something is enqueued" if enqueued else "nothing is enqueued")
    ids = {body["session_id"] for body in enqueued}
    assert len(enqueued) == len(ids) <= policy.max_sessions
    assert len(ids) <= policy.max_share * len(sessions)
    for body in enqueued:
        occurrences: list[Any] = [
            one for one in sessions if isinstance(one, dict) and one["session_id"] == body["session_id"]
        ]
        assert occurrences
        assert [one for one in occurrences if not provably_stale(one)] == []
        since = min(moment(one["updated_at"]) for one in occurrences)
        assert datetime.fromisoformat(body["unless_updated_since"]) == since, "so it is spared if it was used"
        assert body.keys() == {"session_id", "unless_updated_since"}


@given(policies, st.lists(listed_sessions(), max_size=12), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_selection_counts_everything_once_in_any_order_and_is_held_to_its_caps(
    raw: dict[str, Any], listed: list[object], shuffling: random.Random
) -> None:
    page = parse_page_body(json.dumps({"sessions": listed}).encode(), V1, None)
    assert page is not None
    selection = select(*page.sessions, **raw)
    other = select(*shuffling.sample(page.sessions, len(listed)), **raw)
    chosen = [{one.session_id: one.updated_at for one in each.matched.values()} for each in (selection, other)]
    assert chosen[0] == chosen[1]
    ids = {one.session_id for one in page.sessions} - {None}
    nameless = sum(one.session_id is None for one in page.sessions)
    matched = len(selection.matched)
    assert matched + selection.kept.total() == selection.listed == len(ids) + nameless
    ended = {one.session_id for one in page.sessions if one.exited or one.is_archived}
    assert selection.alive == other.alive == len(ids - ended)
    policy = parse_policy(raw)
    fits = matched <= policy.max_sessions and matched <= policy.max_share * selection.alive
    with nullcontext() if fits else pytest.raises(CapExceededError):
        check_caps(selection, policy)
