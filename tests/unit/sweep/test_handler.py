"""Sweeps from the policy to the end of the sessions: what is enqueued, announced, reported and ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from sweep.announcements import AnnouncementsError

from eventbridge import BusError
from redaction import MaskedError
from settings import SettingsError
from sweep.selection import CapExceededError
from sweep.sweep import SweepError
from tests.unit.world import DAYS, KEY, NOT_VALID, NOW, TABLE, World, answer, page, session, stale

Log = Callable[[], list[dict[str, Any]]]

IDLE: dict[str, Any] = {"idle_for": "P1D", "max_share": 1}
ENDS = IDLE | {"dry_run": False}
HOURS = timedelta(hours=1)


def ids(world: World) -> list[str]:
    return [body["session_id"] for body in world.enqueued()]


def used(session_id: str, at: datetime, **fields: Any) -> dict[str, Any]:
    """A session that was last used then."""
    return stale(session_id, idle=NOW - at, **fields)


# What is enqueued --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{}, {"dry_run": True}])
def test_nothing_is_enqueued_unless_the_policy_says_that_it_is_no_dry_run(world: World, said: dict[str, bool]) -> None:
    world.api.have(stale("devin-1"), stale("devin-2"))
    report = world.sweep(**IDLE | said)
    assert (report["mode"], report["chosen"], report["enqueued"]) == ("dry_run", 2, 0)
    assert [choice["session_id"] for choice in report["due"]] == ["devin-1", "devin-2"]
    assert world.queued() == (0, 0, 0)
    assert not {"sqs.SendMessage", "sqs.SendMessageBatch"} & set(world.aws.names())


@pytest.mark.parametrize("said", ["true", "1"])
def test_in_a_stack_that_ends_nothing_no_policy_enqueues(
    table: World, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("DRY_RUN", said)
    table.api.have(stale("devin-1"))
    assert table.sweep(**ENDS)["mode"] == "dry_run"
    assert table.sweep(**NOTICE)["mode"] == "dry_run"
    assert table.queued() == (0, 0, 0)
    assert table.remembered() == []


def test_each_message_asks_for_one_session_unless_it_was_used_since_it_was_listed(world: World) -> None:
    world.api.have(stale("devin-1", idle=2 * DAYS), stale("devin-2", idle=3 * DAYS), stale("devin-3", idle=0 * DAYS))
    report = world.sweep(**ENDS)
    assert (report["mode"], report["chosen"], report["enqueued"]) == ("enforce", 2, 2)
    assert world.enqueued() == [
        {"session_id": "devin-1", "unless_updated_since": "2026-11-22T10:00:00+00:00"},
        {"session_id": "devin-2", "unless_updated_since": "2026-11-21T10:00:00+00:00"},
    ]
    assert world.dead_letters() == []


def test_what_is_enqueued_ends_but_for_the_session_that_woke_up(world: World, log: Log) -> None:
    world.api.have(stale("devin-1"), stale("devin-2"), stale("devin-woke-up"), stale("devin-safe", tags=["Keep"]))
    world.sweep(**ENDS)
    world.api.have(stale("devin-1"), stale("devin-2"), used("devin-woke-up", NOW - timedelta(seconds=1)))
    log()

    assert world.deliver() == []

    assert sorted(world.api.deleted()) == ["devin-1", "devin-2"]
    outcomes = {line["session_id"]: line["outcome"] for line in log()}
    assert outcomes == {"devin-1": "terminated", "devin-2": "terminated", "devin-woke-up": "spared"}
    assert world.queued() == (0, 0, 0)
    assert world.dead_letters() == []


def test_a_session_that_woke_up_by_a_microsecond_is_spared(world: World) -> None:
    world.api.have(stale("devin-1", updated_at="2026-11-20T10:00:00.123456Z"))
    world.sweep(**ENDS)
    world.api.have(stale("devin-1", updated_at="2026-11-20T10:00:00.123457Z"))
    world.deliver()
    assert world.api.deleted() == []


def test_a_session_of_the_next_sweep_that_has_ended_is_no_dead_letter(world: World) -> None:
    world.api.have(stale("devin-1"))
    world.sweep(**ENDS)
    world.api.have(stale("devin-1", status_enum="finished"))
    report = world.sweep(**ENDS)
    assert report["kept"] == {"exited": 1}
    assert ids(world) == ["devin-1"]


# Caps --------------------------------------------------------------------------------------------------------------


def capped(world: World, stale_ones: int, others: int, **caps: Any) -> CapExceededError:
    world.api.have(
        *(stale(f"devin-{number:03}") for number in range(stale_ones)),
        *(stale(f"devin-in-use-{number}", idle=0 * DAYS) for number in range(others)),
    )
    with pytest.raises(CapExceededError) as exceeded:
        world.sweep(**{"idle_for": "P1D", "dry_run": False} | caps)
    assert world.queued() == (0, 0, 0)
    assert "sqs.SendMessage" not in world.aws.names()
    return exceeded.value


def test_more_than_max_sessions_is_loud_with_numbers_and_a_sample_and_nothing_is_enqueued(
    world: World, log: Log
) -> None:
    error = capped(world, 51, 60)
    assert str(error).startswith("51 of 111 sessions match, a share of 0.46, but max_sessions is 50; ")
    sample = [f"devin-{number:03}" for number in range(10)]
    assert str(error).endswith(f"nothing was enqueued. Among them: {', '.join(sample)}")
    lines = log()
    assert [line["message"] for line in lines if line["level"] == "ERROR"] == [str(error)]
    assert not any("exception" in line for line in lines)


def test_more_than_max_share_is_loud_too(world: World) -> None:
    assert str(capped(world, 2, 1)).startswith("2 of 3 sessions match, a share of 0.67, but max_share is 0.5; ")


def test_both_caps_are_told(world: World) -> None:
    error = capped(world, 3, 1, max_sessions=2, max_share=0.7)
    assert "max_sessions is 2 and max_share is 0.7" in str(error)


@pytest.mark.parametrize(("stale_ones", "others", "caps"), [(1, 1, {}), (3, 0, {"max_sessions": 3, "max_share": 1})])
def test_just_as_many_as_the_caps_allow_are_enqueued(
    world: World, stale_ones: int, others: int, caps: dict[str, Any]
) -> None:
    world.api.have(
        *(stale(f"devin-{number}") for number in range(stale_ones)),
        *(stale(f"devin-in-use-{number}", idle=0 * DAYS) for number in range(others)),
    )
    world.sweep(**{"idle_for": "P1D", "dry_run": False} | caps)
    assert len(ids(world)) == stale_ones


def test_a_dry_run_over_the_caps_is_loud_too(world: World) -> None:
    world.api.have(stale("devin-1"))
    with pytest.raises(CapExceededError):
        world.sweep(idle_for="P1D")


def test_protected_sessions_count_as_listed_but_not_as_chosen(world: World) -> None:
    world.api.have(stale("devin-1"), stale("devin-2", tags=["keep"]))
    assert world.sweep(idle_for="P1D", dry_run=False)["enqueued"] == 1


def test_nothing_is_announced_beyond_the_caps(table: World) -> None:
    capped(table, 3, 1, notify_first="PT24H")
    assert (table.remembered(), table.heard("Devin Session Termination Announced")) == ([], [])


def test_a_sweep_that_exceeds_its_caps_is_told_as_well(world: World) -> None:
    error = capped(world, 3, 0)
    assert world.heard("Devin Sweep Completed") == [{"mode": "refused", "why": str(error), "enqueued": 0}]


def test_a_sweep_that_exceeds_its_caps_is_counted(world: World, counted: Callable[[], dict[str, float]]) -> None:
    capped(world, 3, 0)
    assert counted() == {"sweep_refused": 1}


# Announcements -----------------------------------------------------------------------------------------------------

NOTICE = ENDS | {"notify_first": "PT24H"}


def announced(world: World, after: timedelta, **policy: Any) -> tuple[list[str], list[str], list[str]]:
    """Sweep so long after NOW: the ids that were announced, that wait, and that were enqueued."""
    world.now = NOW + after
    report = world.sweep(**NOTICE | policy)
    told = [detail["session_id"] for detail in world.heard("Devin Session Termination Announced")]
    enqueued = ids(world)
    assert (report["announced"], report["enqueued"]) == (len(told), len(enqueued))
    return told, [choice["session_id"] for choice in report["waiting"]], enqueued


def test_a_session_is_announced_then_waited_for_then_ended(table: World) -> None:
    table.api.have(stale("devin-1"), stale("devin-2"))
    both = ["devin-1", "devin-2"]
    assert announced(table, 0 * HOURS) == (both, [], [])
    assert announced(table, 1 * HOURS) == ([], both, [])
    assert announced(table, 24 * HOURS - timedelta(seconds=1)) == ([], both, [])
    assert announced(table, 24 * HOURS) == ([], [], both)


def test_an_announcement_says_what_ends_and_when_and_why(table: World, log: Log) -> None:
    table.api.have(stale("devin-1"))
    report = table.sweep(**NOTICE, tags=["nightly"])
    (detail,) = table.heard("Devin Session Termination Announced")
    assert (detail["session_id"], detail["ends_after"]) == ("devin-1", "2026-11-25T10:00:00+00:00")
    assert detail["why"] == ["idle_for: 5 days, 0:00:00", "tags: nightly"]
    assert report["to_announce"] == [
        {"session_id": "devin-1", "updated_at": "2026-11-19T10:00:00+00:00", "why": detail["why"]}
    ]
    assert log()[-1]["report"] == report


def test_a_session_that_was_used_after_its_announcement_is_announced_anew_and_waited_for_again(table: World) -> None:
    table.api.have(stale("devin-1"), stale("devin-2"))
    announced(table, 0 * HOURS)
    table.api.have(used("devin-1", NOW + 20 * HOURS), stale("devin-2"))
    assert announced(table, 24 * HOURS) == ([], [], ["devin-2"])
    table.api.have(used("devin-1", NOW + 20 * HOURS))
    assert announced(table, 43 * HOURS) == ([], [], []), "not idle for a day yet"
    assert announced(table, 44 * HOURS) == (["devin-1"], [], [])
    assert announced(table, 67 * HOURS) == ([], ["devin-1"], [])
    assert announced(table, 68 * HOURS) == ([], [], ["devin-1"])


def test_a_session_that_matches_all_the_time_is_announced_anew_each_time_it_is_used(table: World) -> None:
    policy: dict[str, Any] = {"older_than": "P1D", "idle_for": "PT1H"}
    for day in range(4):
        at = NOW + day * 25 * HOURS
        table.api.have(stale("devin-1", idle=9 * DAYS, updated_at=(at - 2 * HOURS).isoformat()))
        assert announced(table, day * 25 * HOURS, **policy) == (["devin-1"], [], [])


def test_a_session_that_is_used_between_the_last_sweep_and_its_end_is_spared(table: World, log: Log) -> None:
    table.api.have(stale("devin-1"))
    table.sweep(**NOTICE)
    table.now = NOW + 24 * HOURS
    assert table.sweep(**NOTICE)["enqueued"] == 1
    table.api.have(used("devin-1", NOW + 24 * HOURS))
    log()
    table.deliver()
    assert [line["outcome"] for line in log()] == ["spared"]
    assert table.api.deleted() == []


def test_a_session_that_is_protected_after_its_announcement_is_not_ended(table: World) -> None:
    table.api.have(stale("devin-1"))
    announced(table, 0 * HOURS)
    table.api.have(stale("devin-1", tags=["KEEP"]))
    assert announced(table, 24 * HOURS) == ([], [], [])


def test_a_policy_with_other_criteria_starts_over(table: World) -> None:
    table.api.have(stale("devin-1"))
    announced(table, 0 * HOURS)
    assert announced(table, 24 * HOURS, idle_for="P2D") == (["devin-1"], [], [])
    assert announced(table, 25 * HOURS, idle_for="P2D") == ([], ["devin-1"], [])
    assert announced(table, 25 * HOURS) == ([], [], ["devin-1"])


def test_a_policy_with_other_limits_does_not(table: World) -> None:
    table.api.have(stale("devin-1"))
    announced(table, 0 * HOURS)
    assert announced(table, 24 * HOURS, max_sessions=7, max_share=0.9 + 0.1) == ([], [], ["devin-1"])


def test_a_longer_notice_is_waited_for(table: World) -> None:
    table.api.have(stale("devin-1"))
    announced(table, 0 * HOURS)
    assert announced(table, 24 * HOURS, notify_first="PT48H") == ([], ["devin-1"], [])


def test_no_session_ends_before_the_time_that_was_announced(table: World) -> None:
    table.api.have(stale("devin-1"))
    announced(table, 0 * HOURS)
    _, _, enqueued = announced(table, 2 * HOURS, notify_first="PT1H")
    assert enqueued == [], "it was told that it has until tomorrow"


def test_a_dry_run_announces_and_remembers_nothing(table: World) -> None:
    table.api.have(stale("devin-1"))
    report = table.sweep(**NOTICE | {"dry_run": True})
    assert [choice["session_id"] for choice in report["to_announce"]] == ["devin-1"]
    assert (report["announced"], report["enqueued"]) == (0, 0)
    assert table.heard("Devin Session Termination Announced") == []
    assert table.remembered() == []
    assert announced(table, 24 * HOURS) == (["devin-1"], [], [])


def test_an_announcement_from_the_future_counts_for_nothing(table: World) -> None:
    table.api.have(stale("devin-1"))
    announced(table, 48 * HOURS)
    assert announced(table, 24 * HOURS) == (["devin-1"], [], [])


def test_what_is_remembered_is_forgotten_in_time(table: World) -> None:
    table.api.have(stale("devin-1"))
    table.sweep(**NOTICE)
    (item,) = table.remembered()
    kept_for = timedelta(seconds=int(item["expires"]["N"]) - NOW.timestamp())
    assert kept_for > timedelta(days=30), "the longest notice there is"


def test_hundreds_are_announced_and_remembered(table: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WORKERS", "4")
    table.api.have(*(stale(f"devin-{number:03}") for number in range(230)))
    first = table.sweep(**NOTICE, max_sessions=1000)
    table.now = NOW + 23 * HOURS
    then = table.sweep(**NOTICE, max_sessions=1000)
    assert (first["announced"], then["announced"], then["chosen"]) == (230, 0, 230)
    assert len(then["waiting"]) == 100, "as many as a report tells in full"
    assert table.aws.names().count("events.PutEvents") == 23 + 1 + 1, "and a report each"
    assert table.aws.names().count("dynamodb.BatchGetItem") == 2 * 3


def test_keys_that_dynamodb_had_no_time_for_are_asked_for_again(table: World) -> None:
    table.api.have(stale("devin-1"), stale("devin-2"))
    table.sweep(**NOTICE)
    refusals = iter([True, True])

    def busy(given: dict[str, Any]) -> object:
        if next(refusals, False):
            return {"Responses": {}, "UnprocessedKeys": given["RequestItems"]}
        return None

    table.aws.faults["dynamodb.BatchGetItem"] = busy
    table.now = NOW + 24 * HOURS
    assert table.sweep(**NOTICE)["enqueued"] == 2


def test_a_table_that_never_has_time_fails_the_sweep(table: World) -> None:
    table.api.have(stale("devin-1"))
    asked = 0

    def busy(given: dict[str, Any]) -> object:
        nonlocal asked
        asked += 1
        table.context.remaining_milliseconds -= 1000
        assert asked < 1000, "it asks for ever"
        return {"Responses": {}, "UnprocessedKeys": given["RequestItems"]}

    table.aws.faults["dynamodb.BatchGetItem"] = busy
    with pytest.raises(AnnouncementsError):
        table.sweep(**NOTICE)
    assert ids(table) == []


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException", "ThrottlingException"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_memory_that_cannot_be_read_fails_the_sweep(table: World, code: str, *, dry_run: bool) -> None:
    table.api.have(stale("devin-1"), stale("devin-2"))
    table.sweep(**NOTICE)
    table.heard("")
    table.now = NOW + 24 * HOURS
    table.aws.fail("dynamodb.BatchGetItem", code)
    with pytest.raises(ClientError, match=code):
        table.sweep(**NOTICE | {"dry_run": dry_run})
    assert ids(table) == []
    assert table.heard("Devin Session Termination Announced") == []


@pytest.mark.parametrize(
    "spoilt", [{"announced_at": {"S": "once"}}, {"updated_at": {"S": ""}}, {"updated_at": {"N": "1"}}]
)
def test_a_memory_that_makes_no_sense_ends_nothing(table: World, spoilt: dict[str, Any]) -> None:
    table.api.have(stale("devin-1"))
    table.sweep(**NOTICE)
    (item,) = table.remembered()
    table.dynamodb.put_item(TableName=TABLE, Item=item | spoilt)
    table.now = NOW + 24 * HOURS
    with pytest.raises((ValueError, KeyError)):
        table.sweep(**NOTICE)
    assert ids(table) == []


def test_an_announcement_that_cannot_be_remembered_fails_the_sweep_and_is_repeated(table: World) -> None:
    table.api.have(stale("devin-1"))
    table.aws.fail("dynamodb.PutItem")
    with pytest.raises(ClientError):
        table.sweep(**NOTICE)
    assert [one["session_id"] for one in table.heard("Devin Session Termination Announced")] == ["devin-1"]
    table.aws.faults.clear()
    assert announced(table, 24 * HOURS) == (["devin-1"], [], [])


def test_an_announcement_that_cannot_be_published_fails_the_sweep_and_is_not_remembered(table: World) -> None:
    table.api.have(stale("devin-1"))
    table.aws.fail("events.PutEvents")
    with pytest.raises(BusError, match="AccessDeniedException"):
        table.sweep(**NOTICE)
    assert table.remembered() == []
    table.aws.faults.clear()
    assert announced(table, 24 * HOURS) == (["devin-1"], [], [])


def test_an_announcement_that_the_bus_does_not_take_is_not_remembered(table: World) -> None:
    table.api.have(stale("devin-1"))
    entries = [{"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"}]
    table.aws.faults["events.PutEvents"] = lambda _: {"FailedEntryCount": 1, "Entries": entries}
    with pytest.raises(BusError, match="ThrottlingException"):
        table.sweep(**NOTICE)
    assert table.remembered() == []


def test_without_a_table_nothing_can_be_announced(world: World) -> None:
    world.api.have(stale("devin-1"))
    with pytest.raises(SweepError, match="ANNOUNCEMENTS_TABLE"):
        world.sweep(**NOTICE)
    assert world.api.calls == []
    assert ids(world) == []


def test_a_policy_that_does_not_announce_needs_no_table(world: World) -> None:
    world.api.have(stale("devin-1"))
    world.sweep(**ENDS)
    assert not any(name.startswith("dynamodb") for name in world.aws.names())


# The stop switch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["stop", "halt", "no go", "go?", "false", "0", "-"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_with_the_switch_on_nothing_is_listed_and_nothing_enqueued(switch: World, value: str, *, dry_run: bool) -> None:
    switch.api.have(stale("devin-1"))
    switch.switch(value)
    report = switch.sweep(**ENDS | {"dry_run": dry_run})
    assert report["mode"] == "stopped"
    assert "set it to go" in report["why"]
    assert (report["chosen"], report["enqueued"]) == (0, 0)
    assert switch.api.calls == []
    assert ids(switch) == []
    assert "secretsmanager.GetSecretValue" not in switch.aws.names()
    assert switch.heard("Devin Sweep Completed") == [report]


@pytest.mark.parametrize("code", ["ParameterNotFound", "AccessDeniedException", "ThrottlingException"])
def test_a_switch_that_cannot_be_read_means_stop(switch: World, code: str) -> None:
    switch.api.have(stale("devin-1"))
    switch.aws.fail("ssm.GetParameter", code)
    report = switch.sweep(**ENDS)
    assert report["mode"] == "stopped"
    assert code in report["why"]
    assert "stop-switch cannot be read" in report["why"]
    assert switch.api.calls == []
    assert ids(switch) == []


def test_a_switch_that_does_not_exist_means_stop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOP_SWITCH_PARAMETER", "/nowhere")
    world.api.have(stale("devin-1"))
    assert world.sweep(**ENDS)["mode"] == "stopped"
    assert world.api.calls == []


@pytest.mark.parametrize("value", ["go", "GO", " go\n"])
def test_go_means_go(switch: World, value: str) -> None:
    switch.api.have(stale("devin-1"))
    switch.switch(value)
    switch.sweep(**ENDS)
    assert ids(switch) == ["devin-1"]


def test_a_switch_that_is_thrown_while_sessions_are_listed_stops_the_sweep(switch: World) -> None:
    switch.api.have(stale("devin-1"))
    switch.api.before = lambda: switch.switch("stop")
    try:
        report = switch.sweep(**ENDS)
    except SweepError as error:
        assert "stop" in str(error)  # noqa: PT017 - loud or not, either way is right
    else:
        assert report["enqueued"] == 0
    assert ids(switch) == []


# Reports -----------------------------------------------------------------------------------------------------------


def test_the_report_says_what_was_kept_and_chosen_and_why(world: World) -> None:
    world.api.have(
        stale("devin-1"),
        stale("devin-2", idle=2 * DAYS, title=None),
        stale("devin-busy", idle=0 * DAYS),
        stale("devin-busy-too", idle=1 * HOURS),
        stale("devin-keep", tags=["keep"]),
        stale("devin-ended", status_enum="expired"),
        stale("devin-other-tag", tags=["other"]),
        stale("devin-dateless", updated_at=None),
        stale("devin-new", idle=timedelta(0), created_at=(NOW - timedelta(minutes=59)).isoformat()),
    )
    report = world.sweep(**ENDS, tags=["nightly"], max_sessions=9)
    why = "idle_for: 5 days, 0:00:00"
    assert report == {
        "mode": "enforce",
        "listed": 9,
        "pages": 2,
        "listing": "complete",
        "kept": {
            "exited": 1,
            "idle_for: no": 2,
            "no date": 1,
            "protected by its tag": 1,
            "tags: no": 1,
            "younger than an hour": 1,
        },
        "chosen": 2,
        "enqueued": 2,
        "announced": 0,
        "caps": {"max_sessions": 9, "max_share": 1},
        "due": [
            {"session_id": "devin-1", "updated_at": "2026-11-19T10:00:00+00:00", "why": [why, "tags: nightly"]},
            {
                "session_id": "devin-2",
                "updated_at": "2026-11-22T10:00:00+00:00",
                "why": ["idle_for: 2 days, 0:00:00", "tags: nightly"],
            },
        ],
        "to_announce": [],
        "waiting": [],
    }
    assert json.loads(json.dumps(report)) == report
    assert world.heard("Devin Sweep Completed") == [report]


def test_the_report_is_one_log_record(world: World, log: Log) -> None:
    world.api.have(stale("devin-1"))
    report = world.sweep(**ENDS)
    (line,) = log()
    assert (line["level"], line["message"], line["service"]) == ("INFO", "sweep completed", "sweep")
    assert line["report"] == report
    assert line["function_request_id"] == "request-1"


def test_the_numbers_are_metrics(table: World, capsys: pytest.CaptureFixture[str]) -> None:
    table.api.have(stale("devin-1"), stale("devin-2"))
    table.sweep(**NOTICE)
    table.api.have(stale("devin-1"), stale("devin-2"), stale("devin-3"), stale("devin-4", tags=["keep"]))
    table.now = NOW + 24 * HOURS
    capsys.readouterr()

    table.sweep(**NOTICE)

    (blob,) = (json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line)
    (published,) = blob["_aws"]["CloudWatchMetrics"]
    assert published["Namespace"] == "DevinSessionCleanup"
    assert blob["service"] == "sweep"
    numbers = {metric["Name"]: blob[metric["Name"]] for metric in published["Metrics"]}
    assert numbers == {
        "sweep_listed": [4],
        "sweep_chosen": [3],
        "sweep_kept": [1],
        "sweep_enqueued": [2],
        "sweep_announced": [1],
    }


def test_a_bus_that_takes_no_report_changes_nothing(world: World, log: Log) -> None:
    world.api.have(stale("devin-1"))
    world.aws.fail("events.PutEvents")
    assert world.sweep(**ENDS)["enqueued"] == 1
    assert ids(world) == ["devin-1"]
    assert [line["message"] for line in log()] == ["sweep completed", "publishing events: AccessDeniedException"]


def test_what_an_api_says_is_reported_without_the_key_and_within_bounds(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = f"blocked\r\n\x1b[31m {KEY} Bearer {KEY} " + "x" * 300_000
    world.api.have(stale("devin-1", status_detail=hostile))
    report = world.sweep(**ENDS, statuses=["blocked"])
    printed = capsys.readouterr().out
    assert all(json.loads(line) for line in printed.splitlines())
    assert "canary" not in printed
    assert "canary" not in json.dumps(report), "what is returned is for others to read and log"
    heard = world.heard("Devin Sweep Completed")
    assert "canary" not in json.dumps(heard)
    assert len(json.dumps(report)) < 10_000
    assert len(heard) == 1


def test_what_an_api_says_is_announced_without_the_key_and_within_bounds(table: World) -> None:
    table.api.have(stale("devin-1", status_detail=f"\r\n\x1b[31m {KEY} " + "x" * 300_000))
    table.sweep(**NOTICE, statuses=["blocked"])
    (detail,) = table.heard("Devin Session Termination Announced")
    assert "canary" not in json.dumps(detail)
    assert all(why.isprintable() and len(why) < 1000 for why in detail["why"])


def test_a_hundred_choices_are_told_in_full_and_the_others_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_WORKERS", "4")
    world.api.have(*(stale(f"devin-{number:03}") for number in range(120)))
    report = world.sweep(**IDLE, max_sessions=120)
    assert (report["chosen"], len(report["due"])) == (120, 100)


# Failures ----------------------------------------------------------------------------------------------------------


def test_a_sweep_that_fails_is_one_log_record_and_counted(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.api.on("LIST", "", answer(500, f"{KEY}\r\n\x1b[31m" + "x" * 100_000))
    with pytest.raises(SweepError):
        world.sweep(**ENDS)
    printed = capsys.readouterr().out
    record, metric = (json.loads(line) for line in printed.splitlines())
    assert (record["level"], record["message"], record["exception_name"]) == ("ERROR", "sweep failed", "SweepError")
    assert "the API answered 500" in record["exception"]
    assert metric["sweep_failed"] == [1]
    assert "canary" not in printed


@pytest.mark.parametrize(
    ("bug", "raised", "says"),
    [
        # Lambda prints what is raised, so it is raised without the key.
        (ZeroDivisionError(f"with {KEY} in it"), MaskedError, r"^ZeroDivisionError: with \[redacted\] in it$"),
        (RecursionError("too deep"), RecursionError, "^too deep$"),
    ],
)
def test_a_bug_fails_the_sweep_loudly(
    world: World, capsys: pytest.CaptureFixture[str], bug: Exception, raised: type[Exception], says: str
) -> None:
    world.api.on("LIST", "", page(stale("devin-1")), bug)
    with pytest.raises(raised, match=says):
        world.sweep(**ENDS)
    printed = capsys.readouterr().out
    assert '"sweep_failed"' in printed
    assert "canary" not in printed
    assert ids(world) == []


def failing_sends(world: World, *failing: int) -> None:
    """Have these of the messages, counted from zero, not be sent."""
    sends = iter(range(1000))

    def send(_: dict[str, Any]) -> None:
        if next(sends) in failing:
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow"}}, "SendMessage")

    world.aws.faults["sqs.SendMessage"] = send


def test_an_enqueueing_that_fails_in_part_is_loud_and_repeating_it_does_no_harm(world: World, log: Log) -> None:
    world.api.have(stale("devin-1"), stale("devin-2"), stale("devin-3"))
    failing_sends(world, 1)
    with pytest.raises(SweepError) as failed:
        world.sweep(**ENDS)
    assert "enqueued 2 of 3 sessions: sending to the work queue: ThrottlingException" in str(failed.value)
    assert world.queued() == (2, 0, 0)

    world.aws.faults.clear()
    assert world.sweep(**ENDS)["enqueued"] == 3
    log()
    assert world.deliver() == []

    assert sorted(world.api.deleted()) == ["devin-1", "devin-2", "devin-3"]
    assert world.dead_letters() == []
    assert {line["outcome"] for line in log()} == {"terminated"}


def test_two_sweeps_at_once_end_each_session_once(world: World, log: Log) -> None:
    world.api.have(stale("devin-1"), stale("devin-2"))
    world.sweep(**ENDS)
    world.sweep(**ENDS)
    world.sweep(older_than="P2D", max_share=1, dry_run=False)
    log()
    assert world.deliver() == []
    assert sorted(world.api.deleted()) == ["devin-1", "devin-2"]
    assert world.queued() == (0, 0, 0)


def test_a_repeat_that_another_invocation_overtakes_finds_the_session_ended(world: World) -> None:
    """Both read the session alive, and the other one ends it first."""
    world.api.on("GET", "devin-1", session(), session("expired"))
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.send('{"session_id": "devin-1", "unless_updated_since": "2999-01-01T00:00:00Z"}')
    assert world.deliver() == []
    assert world.dead_letters() == []


def test_a_repeat_that_comes_later_finds_the_session_ended(world: World, log: Log) -> None:
    world.api.have(stale("devin-1"))
    world.sweep(**ENDS)
    world.deliver()
    world.send('{"session_id": "devin-1", "unless_updated_since": "2026-11-19T10:00:00+00:00"}')
    world.api.on("DELETE", "devin-1", answer(409, {"detail": "has exited"}))
    world.api.have(stale("devin-1", status_enum="finished"))
    log()
    world.deliver()
    assert [line["outcome"] for line in log()] == ["already_exited"]
    assert world.dead_letters() == []


def test_a_sweep_killed_half_way_and_repeated_ends_each_session_once(world: World) -> None:
    world.api.have(stale("devin-1"), stale("devin-2"), stale("devin-3"))

    class Killed(BaseException):
        pass

    sends = iter(range(1000))

    def kill(_: dict[str, Any]) -> None:
        if next(sends) == 1:
            raise Killed

    world.aws.faults["sqs.SendMessage"] = kill
    with pytest.raises(Killed):
        world.sweep(**ENDS)
    world.aws.faults.clear()
    world.sweep(**ENDS)
    assert world.deliver() == []
    assert sorted(world.api.deleted()) == ["devin-1", "devin-2", "devin-3"]


def test_without_a_work_queue_the_sweep_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.api.have(stale("devin-1"))
    monkeypatch.setenv("WORK_QUEUE_URL", world.work_queue + "-gone")
    with pytest.raises(SweepError, match=r"enqueued 0 of 1 sessions: .*NonExistentQueue"):
        world.sweep(**ENDS)


@pytest.mark.parametrize("name", ["DEVIN_API_URL", "MAX_WORKERS", "PUBLISH_OUTCOMES", "DEVIN_ORG_ID"])
def test_an_unusable_setting_fails_the_sweep_and_names_the_variable(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "../x y")
    with pytest.raises(SettingsError, match=name):
        world.sweep(**ENDS)
    assert world.api.calls == []


def test_another_protect_tag_protects(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTECT_TAG", "Do Not Touch")
    world.api.have(stale("devin-1", tags=["keep"]), stale("devin-2", tags=["do not touch", "nightly"]))
    world.sweep(**ENDS)
    assert ids(world) == ["devin-1"]


def test_no_tags_and_null_for_tags_are_the_same(world: World) -> None:
    world.api.have(stale("devin-1", tags=None), stale("devin-2", tags=[]))
    world.sweep(**ENDS, without_tags=["nightly"])
    assert ids(world) == ["devin-1", "devin-2"]


def test_an_empty_protect_tag_is_the_usual_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTECT_TAG", "")
    world.api.have(stale("devin-1", tags=["keep"]))
    world.sweep(**ENDS)
    assert ids(world) == []


def test_the_sessions_of_a_listing_are_never_called_by_the_sweep(world: World) -> None:
    world.api.on("LIST", "", page(stale("devin-1"), stale("devin-2")), page())
    world.sweep(**ENDS)
    assert {method for method, _ in world.api.calls} == {"LIST"}
