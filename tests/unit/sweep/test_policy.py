"""Policies: what may be written, and which sessions they choose, whatever is thrown at them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from devin.api_key import ApiKeys
from devin.client import DevinClient
from devin.http import Reply
from devin.session import Session
from devin.session_id import InvalidSessionIdError, parse_session_id
from eventbridge import Bus
from redaction import Redactor
from runtime import Runtime
from sweep import handler
from sweep.policy import CRITERIA, FLOOR, Policy, PolicyError, fingerprint, judge, parse_policy
from sweep.selection import CapExceededError, Selection, check_caps
from sweep.sweep import Sweep, SweepError
from tests.unit.world import KEY, NOW, Context, World, stale

KEYS = (
    "idle_for", "older_than", "statuses", "tags", "without_tags", "users", "exclude_users", "title_matches",
    "has_pull_request", "min_acus", "dry_run", "max_sessions", "max_share", "notify_first",
)  # fmt: skip
HOUR = timedelta(hours=1)

LISTS = ("statuses", "tags", "without_tags", "users", "exclude_users")
NOT_A_DURATION: tuple[object, ...] = (
    None, True, 6, 3600.0, [], {}, "", "P", "PT", "P3DT", "6h", "PT6", "pt6h", "PT 6H", " PT6H", "PT6H\n", "-PT6H",
    "+PT6H", "PT-6H", "P-3D", "PT1.5H", "PT1,5H", "P1Y", "P6M", "P1Y2M3DT4H", "P1W2D", "P1DT", "PT6H3D", "PT٦H",
    "PT６H",  # noqa: RUF001 - a full-width digit, on purpose
    "P0D", "PT0S", "PT59M59S", "PT3599S", "PT0H59M", "P99999D", "P3651D", "P9999W", "PT99999999999999999999S",
)  # fmt: skip
NOT_TEXTS: tuple[object, ...] = (
    None, "blocked", True, 1, {}, [], [""], ["  "], [None], [1], [True], ["a", 1], [["a"]], {"a": 1}, ["a", ""],
)  # fmt: skip
NOT_A_NUMBER: tuple[object, ...] = (
    None, True, False, "1", "0.5", [], {}, [1], 0, 0.0, -0.0, -1, -0.1, math.nan, math.inf, -math.inf, 10**400,
)  # fmt: skip
NOT_A_PATTERN: tuple[object, ...] = (
    None, True, 1, [], {}, "", "*", "**", "?", " * ? ", "   ", "a" * 201, "^nightly", "nightly$", "night.*ly",
    r"nightly\d", r"\*",
)  # fmt: skip
NOT_A_BOOLEAN: tuple[object, ...] = (None, 0, 1, "true", "false", "", [], {})
UNUSABLE: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(("idle_for", "older_than"), NOT_A_DURATION),
    "notify_first": (*NOT_A_DURATION, "P31D", "P5W"),
    **dict.fromkeys(("statuses", "tags", "without_tags", "users", "exclude_users"), NOT_TEXTS),
    "title_matches": NOT_A_PATTERN,
    **dict.fromkeys(("has_pull_request", "dry_run"), NOT_A_BOOLEAN),
    "min_acus": (*NOT_A_NUMBER, 1e6 + 1),
    "max_share": (*NOT_A_NUMBER, 1.0001, 50),
    "max_sessions": (*NOT_A_NUMBER, 1.0, 50.0, 0.5, 10_001),
}


@pytest.mark.parametrize(
    ("key", "value"),
    [pytest.param(key, value, id=f"{key}={value!a:.40}") for key, values in UNUSABLE.items() for value in values],
)
def test_a_value_that_will_not_do_is_refused_by_the_name_of_its_key(key: str, value: object) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy({"idle_for": "PT6H"} | {key: value})
    assert str(refused.value).startswith(f"{key} ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "key", ["idle_fro", "idle-for", "Idle_for", "idle_for ", "", "session_ids", "detail", "dryrun", "x" * 1000, "\n"]
)
def test_an_unknown_key_is_refused_by_its_name(key: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy({"idle_for": "PT6H", key: "PT6H"})
    assert str(refused.value).startswith(repr(key[:50]))
    assert all(known in str(refused.value) for known in KEYS)


@pytest.mark.parametrize("given", [None, True, 0, "", "PT6H", '{"idle_for": "PT6H"}', [], [{"idle_for": "PT6H"}]])
def test_what_is_no_object_is_refused(given: object) -> None:
    with pytest.raises(PolicyError, match="should be a JSON object"):
        parse_policy(given)


@pytest.mark.parametrize(
    "limits",
    [{}, {"dry_run": False}, {"max_sessions": 1, "max_share": 1}, {"notify_first": "PT24H", "dry_run": False}],
)
def test_a_policy_without_criteria_is_refused(limits: dict[str, object]) -> None:
    with pytest.raises(PolicyError, match="no criterion") as refused:
        parse_policy(limits)
    assert all(name in str(refused.value) for name in CRITERIA)


USABLE: list[tuple[str, object, object]] = [
    ("idle_for", "PT1H", HOUR),
    ("idle_for", "PT60M", HOUR),
    ("idle_for", "PT3600S", HOUR),
    ("idle_for", "P1W", timedelta(weeks=1)),
    ("older_than", "P3D", timedelta(days=3)),
    ("older_than", "P1DT2H3M4S", timedelta(days=1, hours=2, minutes=3, seconds=4)),
    ("older_than", "P3650D", timedelta(days=3650)),
    ("notify_first", "PT24H", timedelta(days=1)),
    ("notify_first", "P30D", timedelta(days=30)),
    *((key, ["a", "B c"], ("a", "B c")) for key in LISTS),
    ("title_matches", "nightly*", "nightly*"),
    ("title_matches", "*?x", "*?x"),
    ("title_matches", "a" * 200, "a" * 200),
    ("has_pull_request", True, True),
    ("has_pull_request", False, False),
    ("min_acus", 1, 1),
    ("min_acus", 0.01, 0.01),
    ("min_acus", 1e6, 1e6),
    ("dry_run", False, False),
    ("max_sessions", 1, 1),
    ("max_sessions", 10_000, 10_000),
    ("max_share", 1, 1),
    ("max_share", 0.001, 0.001),
]


@pytest.mark.parametrize(
    ("key", "value", "parsed"),
    [pytest.param(key, value, parsed, id=f"{key}={value!a:.40}") for key, value, parsed in USABLE],
)
def test_every_key_takes_what_it_should(key: str, value: object, parsed: object) -> None:
    assert getattr(parse_policy({"older_than": "PT1H"} | {key: value}), key) == parsed


def test_every_key_is_tried_both_ways() -> None:
    assert UNUSABLE.keys() == {key for key, *_ in USABLE} == set(KEYS)


def test_limits_are_tight_unless_the_policy_says_otherwise() -> None:
    policy = parse_policy({"idle_for": "PT6H"})
    assert (policy.dry_run, policy.max_sessions, policy.max_share, policy.notify_first) == (True, 50, 0.5, None)


@pytest.mark.parametrize("key", CRITERIA)
def test_any_criterion_is_a_policy(key: str) -> None:
    value = next(value for name, value, _ in USABLE if name == key)
    assert getattr(parse_policy({key: value}), key) is not None


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"idle_for": "PT59M"},
        {"idle_for": "-P1D"},
        {"idle_for": "PT0S", "dry_run": False},
        {"idle_four": "PT6H"},
        {"dry_run": False},
        {"detail": {"idle_for": "PT6H"}},
        "PT6H",
        None,
    ],
)
def test_a_refused_policy_leads_to_no_call_at_all(world: World, log: Callable[[], list[Any]], event: object) -> None:
    with pytest.raises(PolicyError) as refused:
        handler.lambda_handler(event, Context())  # type: ignore[arg-type]
    assert (world.api.calls, world.aws.calls) == ([], [])
    (line,) = log()
    assert (line["level"], line["message"]) == ("ERROR", str(refused.value))
    assert "exception" not in line


def test_a_refused_policy_is_counted(world: World, counted: Callable[[], dict[str, float]]) -> None:
    with pytest.raises(PolicyError):
        world.sweep(idle_for="PT59M")
    assert counted() == {"sweep_refused": 1}


# One session at a time ---------------------------------------------------------------------------------------------

BLOCKED = Session(
    session_id="devin-1",
    status="blocked",
    status_detail="waiting_for_user",
    created_at=NOW - timedelta(days=6),
    updated_at=NOW - timedelta(days=5),
    tags=("nightly", "CI"),
    title="Nightly upgrade [bot]",
    user="Ann@example.com",
    has_pull_request=False,
    acus=2.5,
)


def chooses(policy: dict[str, object], session: Session = BLOCKED, protect_tag: str = "keep") -> bool:
    return judge(parse_policy(policy), session, NOW, protect_tag).chosen


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ({"idle_for": "P5D"}, True),
        ({"idle_for": "P5DT1S"}, False),
        ({"older_than": "P6D"}, True),
        ({"older_than": "P6DT1S"}, False),
        ({"statuses": ["blocked"]}, True),
        ({"statuses": ["BLOCKED", "x"]}, True),
        ({"statuses": ["waiting_for_user"]}, True),
        ({"statuses": ["block"]}, False),
        ({"tags": ["nightly"]}, True),
        ({"tags": ["x", "ci"]}, True),
        ({"tags": ["night"]}, False),
        ({"without_tags": ["x"]}, True),
        ({"without_tags": ["x", "Nightly"]}, False),
        ({"users": ["ann@EXAMPLE.com"]}, True),
        ({"users": ["bob@example.com"]}, False),
        ({"exclude_users": ["bob@example.com"]}, True),
        ({"exclude_users": ["ANN@example.com"]}, False),
        ({"title_matches": "nightly*"}, True),
        ({"title_matches": "*UPGRADE*"}, True),
        ({"title_matches": "nightly"}, False),
        ({"title_matches": "nightly?upgrade*"}, True),
        ({"title_matches": "*[[]bot]"}, True),
        ({"has_pull_request": False}, True),
        ({"has_pull_request": True}, False),
        ({"min_acus": 2.5}, True),
        ({"min_acus": 2.51}, False),
        ({"idle_for": "P5D", "tags": ["nightly"], "min_acus": 1}, True),
        ({"idle_for": "P5D", "tags": ["nightly"], "min_acus": 3}, False),
    ],
)
def test_all_criteria_have_to_hold(policy: dict[str, object], *, chosen: bool) -> None:
    assert chooses(policy) == chosen


def test_a_choice_says_why_for_every_criterion_and_a_refusal_names_the_first_that_fails() -> None:
    policy = parse_policy({"tags": ["ci", "nightly"], "idle_for": "P1D", "min_acus": 1})
    judgement = judge(policy, BLOCKED, NOW, "keep")
    assert [reason.partition(":")[0] for reason in judgement.reasons] == ["idle_for", "tags", "min_acus"]
    assert "5 days" in judgement.reasons[0]
    assert judge(policy, replace(BLOCKED, acus=0.5, tags=("x",)), NOW, "keep").reasons == ("tags: no",)


@pytest.mark.parametrize(
    ("lacking", "policy"),
    [
        ({"title": None}, {"title_matches": "n*"}),
        ({"title": "n" * 1001}, {"title_matches": "n*"}),
        ({"user": None}, {"users": ["ann@example.com"]}),
        ({"user": None}, {"exclude_users": ["bob@example.com"]}),
        ({"has_pull_request": None}, {"has_pull_request": False}),
        ({"acus": None}, {"min_acus": 1}),
        ({"acus": math.nan}, {"min_acus": 1}),
    ],
)
def test_a_session_of_which_it_is_not_known_is_kept(lacking: dict[str, Any], policy: dict[str, object]) -> None:
    assert not chooses(policy, replace(BLOCKED, **lacking))


PROTECTED: list[dict[str, Any]] = [
    {"session_id": None},
    {"created_at": None},
    {"updated_at": None},
    {"status": None},
    {"tags": None},
    {"tags": ("keep",)},
    {"tags": ("nightly", "KEEP")},
    {"tags": ("KeeP",)},
    {"updated_at": NOW + timedelta(seconds=1)},
    {"created_at": NOW + timedelta(seconds=1), "updated_at": NOW + timedelta(seconds=2)},
    {"created_at": datetime.max.replace(tzinfo=UTC), "updated_at": datetime.max.replace(tzinfo=UTC)},
    {"created_at": NOW - timedelta(days=1), "updated_at": NOW - timedelta(days=2)},
    {"created_at": NOW - FLOOR + timedelta(seconds=1), "updated_at": NOW - FLOOR + timedelta(seconds=2)},
]
POLICIES: dict[str, dict[str, object]] = {key: {key: value} for key, value, _ in reversed(USABLE) if key in CRITERIA}


@pytest.mark.parametrize("fields", PROTECTED)
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_what_is_protected_is_kept_whatever_the_policy(policy: dict[str, object], fields: dict[str, Any]) -> None:
    assert not chooses(policy, replace(BLOCKED, **fields))


@pytest.mark.parametrize("policy", [{"statuses": ["finished"]}, {"idle_for": "PT1H"}, {"tags": ["nightly"]}])
def test_a_session_that_has_exited_is_kept_because_it_cannot_be_ended_twice(policy: dict[str, object]) -> None:
    exited = replace(BLOCKED, status="finished", exited=True)
    assert not chooses(policy, exited)


def test_the_protect_tag_can_be_another_one() -> None:
    assert not chooses({"idle_for": "PT1H"}, replace(BLOCKED, tags=("Straße",)), "STRASSE")
    assert chooses({"idle_for": "PT1H"}, replace(BLOCKED, tags=("keep",)), "STRASSE")


def test_an_hour_old_is_old_enough() -> None:
    session = replace(BLOCKED, created_at=NOW - FLOOR, updated_at=NOW - FLOOR)
    assert chooses({"idle_for": "PT1H"}, session)


def test_a_pattern_that_would_take_a_backtracking_matcher_for_ever_is_judged() -> None:
    session = replace(BLOCKED, title="a" * 999 + "b")
    assert not chooses({"title_matches": "*a" * 99 + "*c"}, session)


@pytest.mark.parametrize("change", [{"max_sessions": 7}, {"max_share": 1}, {"dry_run": False}, {"notify_first": "P1D"}])
def test_a_policy_is_the_same_with_other_limits(change: dict[str, object]) -> None:
    policy: dict[str, object] = {"idle_for": "PT6H", "tags": ["a"]}
    assert fingerprint(parse_policy(policy)) == fingerprint(parse_policy(policy | change))


@pytest.mark.parametrize(
    "change", [{"idle_for": "PT7H"}, {"tags": ["b"]}, {"tags": ["a", "b"]}, {"users": ["a"]}, {"min_acus": 1}]
)
def test_a_policy_is_another_with_other_criteria(change: dict[str, object]) -> None:
    policy: dict[str, object] = {"idle_for": "PT6H", "tags": ["a"]}
    assert fingerprint(parse_policy(policy)) != fingerprint(parse_policy(policy | change))


# Any policy, any session -------------------------------------------------------------------------------------------

texts = st.lists(st.sampled_from(["a", "B", "keep", "x y"]), min_size=1, max_size=3)
durations = st.sampled_from(["PT1H", "PT90M", "PT6H", "P1D", "P1W", "P3650D"])
criteria: dict[str, st.SearchStrategy[object]] = {
    "idle_for": durations,
    "older_than": durations,
    "statuses": st.lists(st.sampled_from(["blocked", "working", "finished", "exit"]), min_size=1, max_size=3),
    "tags": texts,
    "without_tags": texts,
    "users": texts,
    "exclude_users": texts,
    "title_matches": st.sampled_from(["a*", "*b", "?x*", "[ab]*", "*[!a]", "["]),
    "has_pull_request": st.booleans(),
    "min_acus": st.sampled_from([0.5, 1, 10]),
}
limits: dict[str, st.SearchStrategy[object]] = {
    "dry_run": st.just(False),
    "max_sessions": st.integers(1, 8),
    "max_share": st.floats(0.01, 1),
}
policies = st.fixed_dictionaries({}, optional=criteria | limits).filter(lambda policy: policy.keys() & CRITERIA.keys())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | durations,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
some_value = policies.flatmap(lambda policy: st.sampled_from([*policy.values()]))
odd_policies = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), json_values | some_value)

zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(timezones=zones | st.just(UTC))
# Anything, and what is like the policies above often enough to be chosen.
strange_sessions = st.builds(
    Session,
    session_id=st.none() | st.text(),
    status=st.none() | st.text(),
    status_detail=st.none() | st.text(),
    exited=st.booleans(),
    created_at=st.none() | moments,
    updated_at=st.none() | moments,
    tags=st.none() | st.lists(st.text(), max_size=3).map(tuple),
    title=st.none() | st.text(),
    user=st.none() | st.text(),
    has_pull_request=st.none() | st.booleans(),
    acus=st.none() | st.floats() | st.integers(),
)
AGES = [timedelta(minutes=minutes) for minutes in (0, 1, 59, 60, 61, 360, 1440, 20_000, 6_000_000)]


def likely_session(some: random.Random) -> Session:
    """One that the policies above might choose."""
    idle, older = some.choice(AGES), some.choice(AGES)
    status = some.choice(["blocked", "working", "finished"])
    return Session(
        session_id=f"devin-{some.randrange(20)}",
        status=status,
        exited=status == "finished",
        created_at=NOW - idle - older,
        updated_at=NOW - idle,
        tags=tuple(some.sample(["a", "b", "X Y", "c"], some.randrange(3))),
        title=some.choice(["a", "axb", "bx", None]),
        user=some.choice(["a", "b", "c", None]),
        has_pull_request=some.choice([True, False, None]),
        acus=some.choice([0.0, 1, 10, None]),
    )


POPULATION = [likely_session(random.Random(number)) for number in range(500)]  # noqa: S311 - the same ones every time
likely_sessions = st.sampled_from(POPULATION)


@given(odd_policies | json_values)
def test_no_policy_crashes_the_reader(given: object) -> None:
    try:
        policy = parse_policy(given)
    except PolicyError as refused:
        assert len(str(refused)) < 1000  # noqa: PT017 - either way is right
        assert "\n" not in str(refused)  # noqa: PT017
    else:
        assert any(getattr(policy, name) not in (None, ()) for name in CRITERIA)
        assert policy.max_sessions >= 1
        assert 0 < policy.max_share <= 1


@given(policies, strange_sessions | likely_sessions, moments, st.text(min_size=1))
def test_no_session_crashes_the_judge(policy: dict[str, object], session: Session, now: datetime, tag: str) -> None:
    judgement = judge(parse_policy(policy), session, now, tag)
    assert judgement.reasons
    assert all(isinstance(reason, str) for reason in judgement.reasons)


@given(policies | odd_policies, likely_sessions | strange_sessions, st.sampled_from(PROTECTED))
def test_no_policy_chooses_a_protected_session(
    policy: dict[str, object], session: Session, protection: dict[str, Any]
) -> None:
    try:
        parsed = parse_policy(policy)
    except PolicyError:
        return
    assert not judge(parsed, replace(session, **protection), NOW, "keep").chosen


def smaller(values: object) -> object:
    return values[:1] if isinstance(values, list) else values


WIDER: dict[str, Callable[[Any], object]] = {
    "idle_for": lambda _: "PT1H",
    "older_than": lambda _: "PT1H",
    "statuses": lambda given: [*given, "blocked", "finished"],
    "tags": lambda given: [*given, "a", "c"],
    "without_tags": smaller,
    "users": lambda given: [*given, "a", "c"],
    "exclude_users": smaller,
    "title_matches": lambda given: f"*{given}*",
    "min_acus": lambda given: given / 2,
}


def assert_no_fewer(policy: dict[str, object], wider: dict[str, object]) -> None:
    narrow, wide = (parse_policy(one) for one in (policy, wider))
    chosen = [session for session in POPULATION if judge(narrow, session, NOW, "keep").chosen]
    event("something is chosen" if chosen else "nothing is chosen")
    missed = [session for session in chosen if not judge(wide, session, NOW, "keep").chosen]
    assert missed == []


def with_key(key: str) -> st.SearchStrategy[dict[str, object]]:
    others = {name: strategy for name, strategy in criteria.items() if name != key}
    required = {key: criteria[key]}
    # Few other criteria, or nothing would be chosen at all.
    return st.sets(st.sampled_from([*others]), min_size=1, max_size=2).flatmap(
        lambda names: st.fixed_dictionaries(required | {name: others[name] for name in sorted(names)})
    )


@pytest.mark.parametrize("key", WIDER)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_wider_criterion_never_chooses_fewer(key: str, data: st.DataObject) -> None:
    policy = data.draw(with_key(key))
    assert_no_fewer(policy, policy | {key: WIDER[key](policy[key])})


@pytest.mark.parametrize("key", CRITERIA)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_policy_without_one_of_its_criteria_never_chooses_fewer(key: str, data: st.DataObject) -> None:
    policy = data.draw(with_key(key))
    assert_no_fewer(policy, {name: value for name, value in policy.items() if name != key})


@given(policies, st.lists(likely_sessions, max_size=30))
def test_what_is_within_the_caps_is_no_more_than_they_say(policy: dict[str, object], sessions: list[Session]) -> None:
    parsed = parse_policy(policy)
    selection = Selection()
    for session in sessions:
        selection.add(session, parsed, NOW, "keep")
    listed = len({session.session_id for session in sessions})
    within = len(selection.chosen) <= parsed.max_sessions and len(selection.chosen) <= parsed.max_share * listed
    assert len(selection.chosen) + selection.kept.total() == selection.listed == listed
    try:
        check_caps(selection, parsed)
    except CapExceededError as exceeded:
        assert not within
        assert str(exceeded).startswith(f"{len(selection.chosen)} of {listed} sessions")  # noqa: PT017 - either way
    else:
        assert within


@given(policies, st.lists(likely_sessions, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_a_listing_changes_nothing(
    policy: dict[str, object], sessions: list[Session], shuffling: random.Random
) -> None:
    parsed = parse_policy(policy)
    shuffled = sessions.copy()
    shuffling.shuffle(shuffled)
    found = []
    for order in (sessions, shuffled):
        selection = Selection()
        for session in order:
            selection.add(session, parsed, NOW, "keep")
        found.append({one.session_id: one.updated_at for one in selection.chosen.values()})
    assert found[0] == found[1]


# A whole sweep over whatever an API may list -----------------------------------------------------------------------


class Inline(Executor):
    """Runs at once what it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class Pages:
    """A transport to an API with these sessions, so many to a page."""

    def __init__(self, sessions: list[object], size: int) -> None:
        self._sessions = sessions
        self._size = size

    def request(self, _method: str, _path: str, *, params: dict[str, str], **_: object) -> Reply:
        start = int(params["offset"])
        return Reply(200, {}, json.dumps({"sessions": self._sessions[start : start + self._size]}).encode())


class Queue:
    """A work queue."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, str]] = []

    def enqueue(self, body: str, _attributes: object, _delay: int) -> None:
        self.bodies.append(json.loads(body))


def unneeded() -> Any:
    raise AssertionError("no client is needed where nothing is announced")


def sweep(policy: Policy, sessions: list[object], size: int) -> list[dict[str, str]]:
    """What is enqueued."""
    queue = Queue()
    client = DevinClient(Pages(sessions, size), org_id=None, archive=False)  # type: ignore[arg-type]
    runtime = Runtime(
        client=client,
        queues=queue,  # type: ignore[arg-type]
        executor=Inline(),
        fetch_secret=lambda _: KEY,
        reason_to_stop=lambda: None,
        bus=Bus(unneeded),
        dynamodb=unneeded,
    )
    keys = ApiKeys(runtime.fetch_secret, lambda _: None)
    sweeping = Sweep(runtime, keys, Redactor(), announcements=None, protect_tag="keep", remaining_seconds=lambda: 300.0)
    sweeping.run(policy, NOW)
    return queue.bodies


def moment(told: Any) -> datetime:
    """Either version's way to tell a date."""
    if isinstance(told, (int, float)) and not isinstance(told, bool):
        return datetime.fromtimestamp(told, UTC)
    date = datetime.fromisoformat(told)
    return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)


def provably_stale(raw: Any) -> bool:
    """By what is told of it in so many words, and by the protections alone."""
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
    return "keep" not in {tag.lower() for tag in tags or ()} and created_at <= updated_at and NOW - created_at >= HOUR


ages = st.sampled_from(AGES)


@st.composite
def listed_sessions(draw: st.DrawFn) -> object:
    """As v1 tells them, now and then with something odd about them."""
    idle, older = draw(ages), draw(ages)
    raw = stale(
        f"devin-{draw(st.integers(0, 9))}",
        idle=idle,
        created_at=(NOW - idle - older).isoformat(),
        status_enum=draw(st.sampled_from(["blocked", "working", "finished", None])),
        tags=draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=2)),
        requesting_user_email=draw(st.sampled_from(["a", "b", None])),
        title=draw(st.sampled_from(["a", "axb", None])),
    )
    for name in draw(st.lists(st.sampled_from([*raw]), max_size=2)):
        # An id that is none is text here; others have a test of their own.
        odd = st.sampled_from(["", "../x", "devin-é"]) if name == "session_id" else draw_odd
        raw[name] = draw(odd)
    if draw(st.integers(0, 9)) == 0:
        raw.pop(draw(st.sampled_from([name for name in raw if name != "session_id"])))
    return draw(st.sampled_from([raw] * 30 + [None, [], "devin-1", 7]))


draw_odd: st.SearchStrategy[object] = st.one_of(
    st.sampled_from([
        None, True, 0, -1, 1e300, math.nan, "", "soon", "keep", ["keep"], ["KEEP", "a"], ["a", None], {}, {"a": "b"},
        "2026-11-01", "2026-11-01T00:00:00", "2026-11-01T00:00:00+14:00", "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-24T10:00:01Z", "2026-11-24T09:59:59-14:00",
    ]),
    json_values,
)  # fmt: skip


# Caps that let something through more often than not.
wide_policies = st.fixed_dictionaries(
    {"max_share": st.sampled_from([0.5, 1]), "max_sessions": st.integers(1, 12)},
    optional={"idle_for": st.just("PT1H"), "without_tags": st.just(["c"])},
).map(lambda policy: {"older_than": "PT6H"} | policy)


@given(wide_policies | policies | odd_policies, st.lists(listed_sessions(), max_size=12), st.integers(1, 15))
@settings(deadline=None)
def test_nothing_is_enqueued_that_is_not_provably_stale_nor_more_than_the_caps_allow(
    policy: dict[str, object], sessions: list[object], size: int
) -> None:
    try:
        parsed = replace(parse_policy(policy), dry_run=False, notify_first=None)
        enqueued = sweep(parsed, sessions, size)
    except (PolicyError, CapExceededError, SweepError):
        return
    event("something is enqueued" if enqueued else "nothing is enqueued")
    chosen = {body["session_id"] for body in enqueued}
    of = {one: [raw for raw in sessions if isinstance(raw, dict) and raw["session_id"] == one] for one in chosen}
    assert len(enqueued) == len(chosen) <= parsed.max_sessions
    assert len(chosen) <= parsed.max_share * len(sessions)
    for body in enqueued:
        showings: list[Any] = of[body["session_id"]]
        assert showings
        assert [raw for raw in showings if not provably_stale(raw)] == []
        since = datetime.fromisoformat(body["unless_updated_since"])
        assert all(since <= moment(raw["updated_at"]) for raw in showings), "so terminate spares it if it was used"
        assert body.keys() == {"session_id", "unless_updated_since"}


@pytest.mark.parametrize("session_id", [None, True, False, 5, "", "devin-", [], {}, "../x", "devin-é", "a" * 200])
def test_a_session_with_no_usable_id_is_nobodys(session_id: object) -> None:
    policy = replace(parse_policy({"idle_for": "PT1H"}), dry_run=False, max_share=1)
    assert sweep(policy, [stale() | {"session_id": session_id}], 10) == []


@pytest.mark.parametrize("unset", [0, 0.0, -1, "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01"])
def test_a_date_from_before_there_were_sessions_is_no_date(unset: object) -> None:
    policy = replace(parse_policy({"idle_for": "PT1H"}), dry_run=False, max_share=1)
    assert sweep(policy, [stale(created_at=unset, updated_at=unset)], 10) == []
    assert sweep(policy, [stale(created_at=unset)], 10) == []
