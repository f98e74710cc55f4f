"""Policies: what may be written, and which sessions match, whatever is thrown at them."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devin.session import Session
from sweep import handler
from sweep.policy import CRITERIA, FLOOR, PolicyError, evaluate, fingerprint, parse_policy
from tests.unit.world import NOW, Context, World

HOUR = timedelta(hours=1)
LISTS = (
    "statuses", "tags", "without_tags", "users", "exclude_users", "origins", "playbook_ids", "automation_ids",
    "categories", "pull_request_states",
)  # fmt: skip
NOT_A_DURATION: tuple[object, ...] = (
    None, True, 6, 3600.0, [], "", "P", "PT", "P3DT", "6h", "PT6", "pt6h", " PT6H", "PT6H\n", "-PT6H", "PT1.5H",
    "P1Y", "P6M", "P1W2D", "PT6H3D", "PT٦H", "P0D", "PT59M59S", "P3651D", "PT99999999999999999999S",
)  # fmt: skip
NOT_A_NUMBER: tuple[object, ...] = (None, True, "1", [], 0, -0.0, -0.1, math.nan, math.inf, -math.inf, 10**400)
NOT_A_BOOLEAN: tuple[object, ...] = (None, 0, 1, "true", "", [])
UNUSABLE: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(("idle_for", "older_than"), NOT_A_DURATION),
    "notify_first": (*NOT_A_DURATION, "P31D"),
    **dict.fromkeys(LISTS, (None, "blocked", 1, {}, [], [""], ["  "], ["\u200b"], [None], ["a", 1], ["a "])),
    "title_matches": (
        None, 1, [], "", "*", " * ? ", "a" * 201, "^nightly", "nightly$", "night.*ly", r"nightly\d", "[WIP]*", "[[]x*",
        "x]",
    ),
    **dict.fromkeys(("has_pull_request", "dry_run"), NOT_A_BOOLEAN),
    "min_acus": (*NOT_A_NUMBER, 1e6 + 1),
    "max_share": (*NOT_A_NUMBER, 1.0001, 50),
    "max_sessions": (*NOT_A_NUMBER, 1.0, 0.5, 10_001),
    "action": (None, True, "", "Archive", "delete", []),
}  # fmt: skip
USABLE: list[tuple[str, object, object]] = [
    ("idle_for", "PT1H", HOUR),
    ("idle_for", "PT3600S", HOUR),
    ("idle_for", "P1W", timedelta(weeks=1)),
    ("older_than", "P1DT2H3M4S", timedelta(days=1, hours=2, minutes=3, seconds=4)),
    ("older_than", "P3650D", timedelta(days=3650)),
    ("notify_first", "P30D", timedelta(days=30)),
    *((key, ["a", "B c"], ("a", "B c")) for key in LISTS),
    ("title_matches", "*?x", "*?x"),
    ("title_matches", "a" * 200, "a" * 200),
    ("has_pull_request", False, False),
    ("min_acus", 0.01, 0.01),
    ("min_acus", 1e6, 1e6),
    ("action", "archive", "archive"),
    ("dry_run", False, False),
    ("max_sessions", 10_000, 10_000),
    ("max_share", 0.001, 0.001),
]


@pytest.mark.fault(26)
@pytest.mark.parametrize("key", UNUSABLE)
def test_a_value_that_will_not_do_is_refused_by_the_name_of_its_key(key: str) -> None:
    for value in UNUSABLE[key]:
        with pytest.raises(PolicyError) as refused:
            parse_policy({"idle_for": "PT6H"} | {key: value})
        assert str(refused.value).startswith(f"{key} "), value
        assert "\n" not in str(refused.value)


def test_brackets_in_a_title_are_refused_with_what_to_write_instead() -> None:
    with pytest.raises(PolicyError, match=r'write \? in place of each, as in "\?WIP\?\*"'):
        parse_policy({"title_matches": "[WIP]*"})


@pytest.mark.fault(26)
@pytest.mark.parametrize("key", ["idle_fro", "Idle_for", "", "session_ids", "detail", "dryrun", "x" * 1000, "\n"])
def test_an_unknown_key_is_refused_by_its_name(key: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy({"idle_for": "PT6H", key: "PT6H"})
    assert str(refused.value).startswith(repr(key[:50]))
    assert all(known in str(refused.value) for known in UNUSABLE)


def test_every_key_takes_what_it_should() -> None:
    for key, value, parsed in USABLE:
        if key in CRITERIA:
            assert parse_policy({key: value}).criteria == {key: parsed}, "any criterion is a policy"
        else:
            assert getattr(parse_policy({"older_than": "PT1H", key: value}), key) == parsed
    assert UNUSABLE.keys() == {key for key, *_ in USABLE}, "every key is tried both ways"


def test_limits_are_tight_unless_the_policy_says_otherwise() -> None:
    policy = parse_policy({"idle_for": "PT6H"})
    assert (policy.dry_run, policy.max_sessions, policy.max_share, policy.notify_first) == (True, 50, 0.5, None)
    assert policy.action == "terminate"


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"dry_run": False, "max_share": 1, "notify_first": "PT24H"},
        {"detail": {"idle_for": "PT6H"}},
        [{"idle_for": "PT6H"}],
        '{"idle_for": "PT6H"}',
        None,
    ],
)
def test_a_refused_policy_leads_to_no_call_and_is_counted(
    world: World, capsys: pytest.CaptureFixture[str], event: object
) -> None:
    with pytest.raises(PolicyError) as refused:
        handler.lambda_handler(event, Context())  # type: ignore[arg-type]
    assert (world.api.calls, world.aws.calls) == ([], [])
    line, metric = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (line["level"], line["message"]) == ("ERROR", str(refused.value))
    assert "exception" not in line
    assert metric["sweep_refused"] == [1]


# One session at a time ---------------------------------------------------------------------------------------------

BLOCKED = Session(
    session_id="devin-1",
    status="blocked",
    status_detail="waiting_for_user",
    created_at=NOW - timedelta(days=6),
    updated_at=NOW - timedelta(days=5),
    tags=("nightly", "CI"),
    title="Nightly upgrade [bot]",
    users=("Ann@example.com", "service-1"),
    origin="api",
    playbook_id="playbook-1",
    automation_id="automation-1",
    category="Testing",
    has_pull_request=True,
    pull_request_states=("merged", "closed"),
    acus=2.5,
)


def matches(policy: dict[str, object], session: Session = BLOCKED, protect_tag: str = "keep") -> bool:
    return evaluate(parse_policy(policy), session, NOW, protect_tag).matched


@pytest.mark.parametrize(
    ("key", "holds", "does_not"),
    [
        ("idle_for", ["P5D"], ["P5DT1S"]),
        ("older_than", ["P6D"], ["P6DT1S"]),
        ("statuses", [["BLOCKED", "x"], ["waiting_for_user"]], [["block"], ["blocked\u200b"]]),
        ("tags", [["nightly"], ["x", "ci"]], [["night"], ["nightly\u200b"], ["nïghtly"]]),
        ("without_tags", [["x"]], [["x", "Nightly"], ["nightly\u200b"], ["\uff4eightly"]]),
        ("users", [["ann@EXAMPLE.com"], ["service-1"]], [["bob@example.com"], ["ann@example.com\u200b"]]),
        ("exclude_users", [["bob@example.com"]], [["ANN@example.com"], ["Service-1"], ["ann@example.com\u2060"]]),
        ("title_matches", ["nightly*", "*UPGRADE*", "nightly?upgrade*", "*?bot?"], ["nightly"]),
        ("origins", [["slack", "API"]], [["slack"]]),
        ("playbook_ids", [["playbook-1"]], [["playbook"]]),
        ("automation_ids", [["automation-1"]], [["automation-2"]]),
        ("categories", [["testing"]], [["test"]]),
        ("has_pull_request", [True], [False]),
        ("pull_request_states", [["Merged", "closed"], ["merged", "closed", "open"]], [["merged"], ["open"]]),
        ("min_acus", [2.5], [2.51]),
    ],
)
def test_every_criterion_holds_or_does_not(key: str, holds: list[object], does_not: list[object]) -> None:
    assert all(matches({key: value}) for value in holds)
    assert not any(matches({key: value}) for value in does_not)
    assert not any(matches({"idle_for": "P1D", key: value}) for value in does_not), "all criteria have to hold"


def test_what_matches_says_why_for_every_criterion_and_what_does_not_names_the_first() -> None:
    policy = parse_policy({"tags": ["ci", "nightly"], "idle_for": "P1D", "min_acus": 1})
    evaluation = evaluate(policy, BLOCKED, NOW, "keep")
    assert evaluation.reasons == ("idle_for: 5 days, 0:00:00", "tags: ci, nightly", "min_acus: 2.5")
    assert evaluate(policy, replace(BLOCKED, acus=0.5, tags=("x",)), NOW, "keep").reasons == ("tags: no",)


UNKNOWN: dict[str, tuple[dict[str, Any], object]] = {
    "title_matches": ({"title": None}, "n*"),
    "users": ({"users": ()}, ["ann@example.com"]),
    "exclude_users": ({"users": ()}, ["bob@example.com"]),
    "origins": ({"origin": None}, ["api"]),
    "playbook_ids": ({"playbook_id": None}, ["playbook-1"]),
    "automation_ids": ({"automation_id": None}, ["automation-1"]),
    "categories": ({"category": None}, ["testing"]),
    "has_pull_request": ({"has_pull_request": None}, True),
    "pull_request_states": ({"pull_request_states": None}, ["merged", "closed"]),
    "min_acus": ({"acus": None}, 1),
}


@pytest.mark.parametrize("key", UNKNOWN)
def test_a_session_of_which_it_is_not_known_is_kept(key: str) -> None:
    fields, wanted = UNKNOWN[key]
    evaluation = evaluate(parse_policy({key: wanted}), replace(BLOCKED, **fields), NOW, "keep")
    assert evaluation.reasons == (f"{key}: unknown",)


def test_what_is_no_number_and_what_has_no_pull_request_is_kept() -> None:
    assert not matches({"min_acus": 1}, replace(BLOCKED, acus=math.nan))
    assert not matches({"pull_request_states": ["merged"]}, replace(BLOCKED, pull_request_states=()))


PROTECTED: list[dict[str, Any]] = [
    {"session_id": None},
    {"created_at": None},
    {"updated_at": None},
    {"status": None},
    {"tags": None},
    {"tags": ("nightly", "KEEP")},
    # What nobody sees: a space, a no-break space, a zero-width space, a variation selector.
    {"tags": ("keep ",)},
    {"tags": ("\u00a0keep",)},
    {"tags": ("ke\u200bep",)},
    {"tags": ("keep\ufe0f",)},
    {"is_family_unknown": True},
    {"is_archived": True},
    # It cannot be ended twice.
    {"exited": True},
    {"updated_at": NOW + timedelta(seconds=1)},
    {"created_at": datetime.max.replace(tzinfo=UTC), "updated_at": datetime.max.replace(tzinfo=UTC)},
    {"created_at": NOW - timedelta(days=1), "updated_at": NOW - timedelta(days=2)},
    {"created_at": NOW - FLOOR + timedelta(seconds=1), "updated_at": NOW - FLOOR + timedelta(seconds=2)},
]


@pytest.mark.fault(25, 35)
@pytest.mark.parametrize("fields", PROTECTED, ids=str)
def test_what_is_protected_is_kept_whatever_the_policy(fields: dict[str, Any]) -> None:
    for key, value, _ in USABLE:
        if key in CRITERIA:
            assert not matches({key: value}, replace(BLOCKED, **fields)), key
    assert not matches({"idle_for": "PT1H"}, replace(BLOCKED, **fields))


def test_the_protect_tag_can_be_another_one() -> None:
    assert not matches({"idle_for": "PT1H"}, replace(BLOCKED, tags=("Straße",)), "STRASSE")
    assert not matches({"idle_for": "PT1H"}, replace(BLOCKED, tags=("cafe\u0301",)), "café ")
    assert matches({"idle_for": "PT1H"}, replace(BLOCKED, tags=("keep", "cafe")), "café")


def test_an_hour_old_is_old_enough_and_not_archived_may_be_said() -> None:
    session = replace(BLOCKED, created_at=NOW - FLOOR, updated_at=NOW - FLOOR, is_archived=False)
    assert matches({"idle_for": "PT1H"}, session)


def test_a_pattern_that_would_take_a_backtracking_matcher_for_ever_is_evaluated() -> None:
    assert not matches({"title_matches": "*a" * 99 + "*c"}, replace(BLOCKED, title="a" * 999 + "b"))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"max_sessions": 7, "max_share": 1, "dry_run": False, "notify_first": "P1D", "action": "terminate"}, True),
        ({"idle_for": "PT7H"}, False),
        ({"tags": ["a", "b"]}, False),
        ({"users": ["a"]}, False),
        ({"action": "archive"}, False),
    ],
)
def test_policies_are_the_same_with_other_limits_but_not_with_other_criteria(
    change: dict[str, object], *, same: bool
) -> None:
    policy: dict[str, object] = {"idle_for": "PT6H", "tags": ["a"]}
    fingerprints = [fingerprint(parse_policy(one)) for one in (policy, policy | change)]
    assert (fingerprints[0] == fingerprints[1]) is same


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(json_values | st.dictionaries(st.sampled_from([*CRITERIA, "max_share", "dry_run"]), json_values, max_size=4))
def test_whatever_is_given_is_a_policy_or_refused_in_one_line(raw: object) -> None:
    try:
        policy = parse_policy(raw)
    except PolicyError as refused:
        assert len(str(refused)) < 1000  # noqa: PT017 - either way is right
        assert "\n" not in str(refused)  # noqa: PT017
    else:
        assert policy.criteria
