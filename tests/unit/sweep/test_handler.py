"""Sweeps from the policy to the end of the sessions: what is enqueued, announced, remembered, reported and ended."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from eventbridge import BusError
from redaction import MaskedError
from sweep.selection import CapExceededError
from sweep.sweep import SweepError
from table import Table, TableError, remember_rejections
from tests.unit.world import DAYS, KEY, NOT_VALID, NOW, TABLE, World, answer, attributes_of, page, stale, stale_v3

Log = Callable[[], list[dict[str, Any]]]

IDLE: dict[str, Any] = {"idle_for": "P1D", "max_share": 1}
ENDS = IDLE | {"dry_run": False}
NOTICE = ENDS | {"notify_first": "PT24H"}
HOURS = timedelta(hours=1)
ANNOUNCED = "Devin Session Termination Announced"


def ids(world: World) -> list[str]:
    return [body["session_id"] for body in world.enqueued()]


def used(session_id: str, at: datetime, **fields: Any) -> dict[str, Any]:
    """A session that was last used then."""
    return stale(session_id, idle=NOW - at, **fields)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("table", "queues"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(sleep=lambda _: None))


# What is enqueued --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "stack"), [({}, ""), ({"dry_run": True}, ""), ({"dry_run": False}, "true")])
def test_nothing_is_enqueued_or_announced_unless_policy_and_stack_say_that_it_is_no_dry_run(
    table: World, monkeypatch: pytest.MonkeyPatch, policy: dict[str, Any], stack: str
) -> None:
    monkeypatch.setenv("DRY_RUN", stack)
    table.api.have(stale("devin-1"), stale("devin-2"))
    report = table.sweep(**IDLE | policy)
    assert (report["mode"], report["chosen"], report["enqueued"]) == ("dry_run", 2, 0)
    assert [candidate["session_id"] for candidate in report["due"]] == ["devin-1", "devin-2"]
    report = table.sweep(**IDLE | {"notify_first": "PT24H"} | policy)
    assert ([one["session_id"] for one in report["to_announce"]], report["announced"]) == (["devin-1", "devin-2"], 0)
    assert (table.queued(), table.remembered(), table.heard(ANNOUNCED)) == ((0, 0, 0), [], [])


def test_each_message_asks_for_one_session_unless_it_was_updated_since_it_was_listed(world: World) -> None:
    world.api.have(stale("devin-1", idle=2 * DAYS), stale("devin-2", idle=3 * DAYS), stale("devin-3", idle=0 * DAYS))
    report = world.sweep(**ENDS)
    assert (report["mode"], report["chosen"], report["enqueued"]) == ("enforce", 2, 2)
    messages = world.receive(world.work_queue)
    assert [json.loads(message["Body"]) for message in messages] == [
        {"session_id": "devin-1", "unless_updated_since": "2026-11-22T10:00:00+00:00"},
        {"session_id": "devin-2", "unless_updated_since": "2026-11-21T10:00:00+00:00"},
    ]
    # They name the run, so that it can be withdrawn.
    assert [*map(attributes_of, messages)] == [{"source": "sweep", "sweep_run": report["run"]}] * 2
    assert world.dead_letters() == []
    assert {method for method, _ in world.api.calls} == {"LIST"}, "the sweep itself ends nothing"


def test_messages_are_sent_by_tens(world: World) -> None:
    world.api.have(*(stale(f"devin-{number}") for number in range(21)))
    world.sweep(**ENDS)
    assert world.aws.names().count("sqs.SendMessageBatch") == 3


@pytest.mark.parametrize(("tag", "kept"), [("Do Not Touch", ["devin-2"]), ("", ["devin-1"])])
def test_the_stack_says_which_tag_protects(
    world: World, monkeypatch: pytest.MonkeyPatch, tag: str, kept: list[str]
) -> None:
    monkeypatch.setenv("PROTECT_TAG", tag)
    world.api.have(
        stale("devin-1", tags=["keep"]), stale("devin-2", tags=["do not touch"]), stale("devin-3", tags=None)
    )
    world.sweep(**ENDS)
    assert sorted({"devin-1", "devin-2", "devin-3"} - {*ids(world)}) == kept


def test_archiving_is_asked_for_in_messages_notices_and_report(v3: World, table: World) -> None:
    v3.api.have(stale_v3("devin-1"), stale_v3("devin-2", is_archived=True))
    report = v3.sweep(**ENDS, action="archive")
    assert (report["action"], report["kept"]) == ("archive", {"archived": 1})
    (body,) = v3.enqueued()
    assert body == {"session_id": "devin-1", "unless_updated_since": "2026-11-19T10:00:00+00:00", "action": "archive"}
    table.sweep(**NOTICE, action="archive")
    assert [detail["action"] for detail in v3.heard(ANNOUNCED)] == ["archive"]


def test_version_1_cannot_archive_so_the_sweep_fails(world: World) -> None:
    world.api.have(stale("devin-1"))
    with pytest.raises(SweepError, match=r"archive needs version 3 .* nothing was enqueued"):
        world.sweep(**ENDS, action="archive")
    assert ids(world) == []


@pytest.mark.fault(39)
def test_a_family_is_kept_by_its_busy_member(v3: World) -> None:
    v3.api.have(
        stale_v3("devin-parent", child_session_ids=["child"]),
        stale_v3("child", idle=0 * DAYS, parent_session_id="parent"),
        stale_v3("devin-1", parent_session_id=None, child_session_ids=[]),
    )
    assert v3.sweep(**ENDS)["kept"] == {"family: idle_for: no": 1, "idle_for: no": 1}
    assert ids(v3) == ["devin-1"]


# Caps --------------------------------------------------------------------------------------------------------------


@pytest.mark.fault(27)
@pytest.mark.parametrize("dry_run", [True, False])
def test_beyond_the_caps_nothing_is_done_and_everybody_can_see_it(
    table: World, capsys: pytest.CaptureFixture[str], *, dry_run: bool
) -> None:
    table.api.have(*(stale(f"devin-{number:03}") for number in range(51)))
    with pytest.raises(CapExceededError) as exceeded:
        table.sweep(idle_for="P1D", dry_run=dry_run, notify_first="PT24H")
    says = str(exceeded.value)
    assert says.startswith("51 of 51 sessions that could be ended match, a share of 1.00, but max_sessions is 50 and ")
    assert says.endswith(f"nothing was enqueued. Among them: {', '.join(f'devin-{n:03}' for n in range(10))}")
    assert (table.queued(), table.remembered()) == ((0, 0, 0), [])
    assert {entry["DetailType"] for entry in table.aws.published} == {"Devin Sweep Completed"}
    told = {"mode": "refused", "run": "request-1", "why": says, "enqueued": 0}
    assert table.heard("Devin Sweep Completed") == [told]
    error, metric, report = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (error["level"], error["message"], "exception" in error) == ("ERROR", says, False)
    assert (metric["sweep_refused"], report["report"]) == ([1], told)


# Rejections --------------------------------------------------------------------------------------------------------


def rejected(world: World, **updated_at: datetime | None) -> None:
    found = {f"devin-{name}": moment for name, moment in updated_at.items()}
    assert remember_rejections(Table(lambda: world.dynamodb, TABLE), found, NOW) is None


def test_what_was_rejected_before_is_kept_until_it_is_updated(table: World) -> None:
    table.api.have(*(stale(f"devin-{name}", idle=2 * DAYS) for name in ("same", "older", "newer", "undated", "free")))
    rejected(table, same=NOW - 2 * DAYS, older=NOW - DAYS, newer=NOW - 3 * DAYS, undated=None)
    report = table.sweep(**ENDS)
    assert (report["chosen"], report["kept"]) == (2, {"rejected before": 3})
    assert ids(table) == ["devin-free", "devin-newer"]
    lifetimes = {int(item["expires"]["N"]) - NOW.timestamp() for item in table.remembered()}
    assert lifetimes == {30 * 86_400}


@pytest.mark.fault(40)
def test_a_session_that_cannot_be_ended_is_one_dead_letter_however_often_it_is_swept(world: World) -> None:
    world.api.have(stale("devin-1", status_enum="suspend_requested"))
    world.api.on("DELETE", "devin-1", NOT_VALID)
    reports = []
    for _ in range(3):
        reports.append(world.sweep(**ENDS))
        world.deliver()
    assert [letter[1]["session_id"] for letter in world.dead_letters()] == ["devin-1"]
    assert [report["kept"] for report in reports] == [{}, {"rejected before": 1}, {"rejected before": 1}]
    world.api.have(used("devin-1", NOW - 30 * HOURS))
    assert world.sweep(**ENDS)["enqueued"] == 1


def test_without_a_table_there_is_no_memory_and_nothing_fails_but_a_notice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANNOUNCEMENTS_TABLE")
    world.api.have(stale("devin-1"))
    with pytest.raises(SweepError, match="ANNOUNCEMENTS_TABLE"):
        world.sweep(**NOTICE)
    assert (world.api.calls, world.queued()) == ([], (0, 0, 0))
    world.sweep(**ENDS)
    assert ids(world) == ["devin-1"]
    assert not any(name.startswith("dynamodb") for name in world.aws.names())


# Notices -----------------------------------------------------------------------------------------------------------


def announced(world: World, after: timedelta, **policy: Any) -> tuple[list[str], list[str], list[str]]:
    """Sweep so long after NOW: the ids that were announced, that wait, and that were enqueued."""
    world.now = NOW + after
    report = world.sweep(**NOTICE | policy)
    published = [detail["session_id"] for detail in world.heard(ANNOUNCED)]
    enqueued = ids(world)
    assert (report["announced"], report["enqueued"]) == (len(published), len(enqueued))
    return published, [candidate["session_id"] for candidate in report["waiting"]], enqueued


def test_a_session_is_announced_then_waited_for_then_ended(table: World) -> None:
    table.api.have(stale("devin-1"), stale("devin-2"))
    both = ["devin-1", "devin-2"]
    assert announced(table, 0 * HOURS) == (both, [], [])
    assert announced(table, 24 * HOURS - timedelta(seconds=1)) == ([], both, [])
    assert announced(table, 24 * HOURS) == ([], [], both)
    assert all(int(item["expires"]["N"]) > (NOW + 30 * DAYS).timestamp() for item in table.remembered())


def test_a_notice_says_what_ends_and_when_and_why(table: World) -> None:
    table.api.have(stale("devin-1"))
    report = table.sweep(**NOTICE, tags=["nightly"])
    why = ["idle_for: 5 days, 0:00:00", "tags: nightly"]
    assert table.heard(ANNOUNCED) == [
        {"session_id": "devin-1", "ends_after": "2026-11-25T10:00:00+00:00", "why": why, "run": "request-1"}
    ]
    assert report["to_announce"] == [{"session_id": "devin-1", "updated_at": "2026-11-19T10:00:00+00:00", "why": why}]


def test_a_session_that_was_used_after_its_notice_is_announced_and_waited_for_again(table: World) -> None:
    table.api.have(stale("devin-1"), stale("devin-2"))
    announced(table, 0 * HOURS)
    table.api.have(used("devin-1", NOW + 20 * HOURS), stale("devin-2", tags=["KEEP"]))
    assert announced(table, 24 * HOURS) == ([], [], [])
    assert announced(table, 43 * HOURS) == ([], [], []), "not idle for a day yet"
    assert announced(table, 44 * HOURS) == (["devin-1"], [], [])
    assert announced(table, 67 * HOURS) == ([], ["devin-1"], [])
    assert announced(table, 68 * HOURS) == ([], [], ["devin-1"])


@pytest.mark.parametrize(
    ("before", "later", "policy", "expected"),
    [
        (0, 24, {"max_sessions": 7, "max_share": 0.9 + 0.1}, "ended"),
        (0, 24, {"idle_for": "P2D"}, "announced"),
        (0, 24, {"notify_first": "PT48H"}, "waits"),
        # It was announced that it has until the next day.
        (0, 2, {"notify_first": "PT1H"}, "waits"),
        # A notice from the future.
        (48, 24, {}, "announced"),
    ],
)
def test_a_notice_counts_for_the_same_criteria_and_is_not_shortened(
    table: World, before: int, later: int, policy: dict[str, Any], expected: str
) -> None:
    table.api.have(stale("devin-1"))
    announced(table, before * HOURS)
    found = announced(table, later * HOURS, **policy)
    assert dict(zip(("announced", "waits", "ended"), found, strict=True))[expected] == ["devin-1"]
    assert sum(map(len, found)) == 1


def test_hundreds_are_announced_and_remembered(table: World) -> None:
    table.api.have(*(stale(f"devin-{number:03}") for number in range(230)))
    first = table.sweep(**NOTICE, max_sessions=1000)
    table.now = NOW + 23 * HOURS
    then = table.sweep(**NOTICE, max_sessions=1000)
    assert (first["announced"], then["announced"], then["chosen"]) == (230, 0, 230)
    assert len(then["waiting"]) == 100, "a report names a hundred"
    calls = table.aws.names()
    assert calls.count("events.PutEvents") == 23 + 1 + 1, "and a report each"
    assert (calls.count("dynamodb.BatchGetItem"), calls.count("dynamodb.BatchWriteItem")) == (2 * 2 * 3, 10)


@pytest.mark.parametrize(("busy", "fails"), [(2, False), (1000, True)])
@pytest.mark.parametrize("operation", ["Get", "Write"])
def test_what_dynamodb_left_undone_is_asked_for_again_but_not_for_ever(
    table: World, operation: str, busy: int, *, fails: bool
) -> None:
    table.api.have(stale("devin-1"))
    calls = iter(range(1000))

    def undone(given: dict[str, Any]) -> object:
        if next(calls) >= busy:
            return None
        return {"Responses": {}, "UnprocessedKeys": given["RequestItems"], "UnprocessedItems": given["RequestItems"]}

    table.aws.faults[f"dynamodb.Batch{operation}Item"] = undone
    if fails:
        with pytest.raises(TableError, match="busy"):
            table.sweep(**NOTICE)
        assert next(calls) < 20
    else:
        table.sweep(**NOTICE)
        assert len(table.remembered()) == 1
    assert ids(table) == []


@pytest.mark.parametrize("policy", [NOTICE, NOTICE | {"dry_run": True}, ENDS])
def test_a_table_that_cannot_be_read_fails_the_sweep(table: World, policy: dict[str, Any]) -> None:
    table.api.have(stale("devin-1"))
    table.sweep(**NOTICE)
    table.heard("")
    table.now = NOW + 24 * HOURS
    table.aws.fail("dynamodb.BatchGetItem")
    with pytest.raises(TableError, match="AccessDeniedException"):
        table.sweep(**policy)
    assert (ids(table), table.heard(ANNOUNCED)) == ([], [])


@pytest.mark.parametrize(
    "spoilt", [{"announced_at": {"S": "once"}}, {"updated_at": {"S": ""}}, {"updated_at": {"N": "1"}}]
)
def test_a_table_that_makes_no_sense_ends_nothing(table: World, spoilt: dict[str, Any]) -> None:
    table.api.have(stale("devin-1"))
    table.sweep(**NOTICE)
    (item,) = table.remembered()
    table.dynamodb.put_item(TableName=TABLE, Item=item | spoilt)
    table.now = NOW + 24 * HOURS
    with pytest.raises(TableError, match="cannot be read"):
        table.sweep(**NOTICE)
    table.dynamodb.put_item(TableName=TABLE, Item={"subject": {"S": "rejected/devin-1"}, "updated_at": {"S": "once"}})
    with pytest.raises(TableError, match="cannot be read"):
        table.sweep(**ENDS)
    assert ids(table) == []


def test_a_notice_is_repeated_if_it_cannot_be_remembered_and_not_remembered_if_it_is_not_published(
    table: World,
) -> None:
    table.api.have(stale("devin-1"))
    table.aws.fail("dynamodb.BatchWriteItem")
    with pytest.raises(TableError):
        table.sweep(**NOTICE)
    assert [one["session_id"] for one in table.heard(ANNOUNCED)] == ["devin-1"]
    table.aws.faults.clear()
    entries = [{"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"}]
    table.aws.faults["events.PutEvents"] = lambda _: {"FailedEntryCount": 1, "Entries": entries}
    with pytest.raises(BusError, match="ThrottlingException"):
        table.sweep(**NOTICE)
    table.aws.fail("events.PutEvents")
    with pytest.raises(BusError, match="AccessDeniedException"):
        table.sweep(**NOTICE)
    assert table.remembered() == []
    table.aws.faults.clear()
    assert announced(table, 24 * HOURS) == (["devin-1"], [], [])


# The stop switch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [True, False])
def test_with_the_switch_on_nothing_is_listed_and_nothing_enqueued(switch: World, *, dry_run: bool) -> None:
    switch.api.have(stale("devin-1"))
    switch.switch("stop")
    report = switch.sweep(**ENDS | {"dry_run": dry_run})
    assert (report["mode"], report["run"], report["chosen"], report["enqueued"]) == ("stopped", "request-1", 0, 0)
    assert "set it to go" in report["why"]
    assert "secretsmanager.GetSecretValue" not in switch.aws.names()
    assert switch.heard("Devin Sweep Completed") == [report]
    switch.aws.fail("ssm.GetParameter")
    assert "AccessDeniedException" in switch.sweep(**ENDS)["why"], "a switch that cannot be read"
    assert (switch.api.calls, ids(switch)) == ([], [])


def test_a_switch_that_is_thrown_while_sessions_are_listed_stops_the_sweep(switch: World) -> None:
    switch.api.have(stale("devin-1"))
    switch.api.before = lambda: switch.switch("stop")
    with pytest.raises(SweepError, match="nothing was enqueued"):
        switch.sweep(**ENDS)
    assert ids(switch) == []


# Reports -----------------------------------------------------------------------------------------------------------


def test_the_report_says_what_was_kept_and_chosen_and_why(world: World, log: Log) -> None:
    world.api.have(
        stale("devin-1", title=None),
        stale("devin-busy", idle=0 * DAYS),
        stale("devin-busy-too", idle=1 * HOURS),
        stale("devin-keep", tags=["keep"]),
        stale("devin-ended", status_enum="expired"),
        stale("devin-other-tag", tags=["other"]),
        stale("devin-dateless", updated_at=None),
        stale("devin-new", idle=timedelta(0), created_at=(NOW - timedelta(minutes=59)).isoformat()),
    )
    report = world.sweep(**ENDS, tags=["nightly"], max_sessions=9)
    assert report == {
        "mode": "enforce",
        "run": "request-1",
        "listed": 8,
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
        "chosen": 1,
        "enqueued": 1,
        "announced": 0,
        "caps": {"max_sessions": 9, "max_share": 1},
        "due": [
            {
                "session_id": "devin-1",
                "updated_at": "2026-11-19T10:00:00+00:00",
                "why": ["idle_for: 5 days, 0:00:00", "tags: nightly"],
            },
        ],
        "to_announce": [],
        "waiting": [],
    }
    assert world.heard("Devin Sweep Completed") == [report]
    (line,) = log()
    assert (line["level"], line["message"], line["service"]) == ("INFO", "sweep completed", "sweep")
    assert (line["report"], line["function_request_id"]) == (report, "request-1")


def test_the_numbers_that_are_not_zero_are_metrics(
    table: World, counted: Callable[[], dict[str, float]], recwarn: pytest.WarningsRecorder
) -> None:
    table.sweep(**NOTICE)
    table.sweep(**NOTICE)
    assert (counted(), list(recwarn)) == ({}, [])
    table.api.have(stale("devin-1"), stale("devin-2"))
    table.sweep(**NOTICE)
    assert counted() == {"sweep_listed": 2, "sweep_chosen": 2, "sweep_announced": 2}
    table.api.have(stale("devin-1"), stale("devin-2"), stale("devin-3"), stale("devin-4", tags=["keep"]))
    table.now = NOW + 24 * HOURS
    table.sweep(**NOTICE)
    assert counted() == {
        "sweep_listed": 4, "sweep_chosen": 3, "sweep_kept": 1, "sweep_enqueued": 2, "sweep_announced": 1,
    }  # fmt: skip


def test_a_bus_that_takes_no_report_changes_nothing(world: World, log: Log) -> None:
    world.api.have(stale("devin-1"))
    world.aws.fail("events.PutEvents")
    assert world.sweep(**ENDS)["enqueued"] == 1
    assert ids(world) == ["devin-1"]
    assert [line["message"] for line in log()] == ["sweep completed", "publishing events: AccessDeniedException"]


@pytest.mark.parametrize("hostile", [f"\r\n\x1b[31m {KEY} Bearer {KEY} ", "x" * 300_000])
def test_what_an_api_says_is_repeated_without_the_key_and_within_bounds(
    table: World, capsys: pytest.CaptureFixture[str], hostile: str
) -> None:
    table.api.have(stale("devin-1", status_detail=hostile, title=hostile, tags=[hostile[:900]]), stale(f"devin-{KEY}"))
    report = table.sweep(**NOTICE, statuses=["blocked"])
    printed = capsys.readouterr().out
    assert all(json.loads(line) for line in printed.splitlines())
    everything = printed + json.dumps(report) + json.dumps(table.heard(ANNOUNCED)) + json.dumps(table.remembered())
    assert "canary" not in everything
    assert len(everything) < 20_000
    assert (report["chosen"], report["kept"]) == (1, {"no session id": 1})


# Failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "raised", "says"),
    [
        (answer(500, f"{KEY}\r\n\x1b[31m" + "x" * 100_000), SweepError, "the API answered 500"),
        # Lambda prints what is raised, so it is raised without the key.
        (ZeroDivisionError(f"with {KEY} in it"), MaskedError, r"^ZeroDivisionError: with \[redacted\] in it$"),
        (RecursionError("too deep"), RecursionError, "^too deep$"),
    ],
)
def test_a_sweep_that_fails_is_one_log_record_and_counted(
    world: World, capsys: pytest.CaptureFixture[str], fault: Any, raised: type[Exception], says: str
) -> None:
    world.api.on("LIST", "", page(stale("devin-1")), fault)
    with pytest.raises(raised, match=says):
        world.sweep(**ENDS)
    printed = capsys.readouterr().out
    record, metric = (json.loads(line) for line in printed.splitlines())
    assert (record["level"], record["message"]) == ("ERROR", "sweep failed")
    assert metric["sweep_failed"] == [1]
    assert "canary" not in printed
    assert ids(world) == []


class KilledError(BaseException):
    """The function was killed."""


@pytest.mark.parametrize("killed", [False, True])
def test_an_enqueueing_that_fails_or_is_killed_half_way_is_repeated_without_harm(
    world: World, log: Log, *, killed: bool
) -> None:
    listed = [f"devin-{number:02}" for number in range(23)]
    world.api.have(*map(stale, listed))
    sends = iter(range(1000))

    def second_batch_fails(_: dict[str, Any]) -> None:
        if next(sends) >= 1:
            raise KilledError if killed else ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "Send")

    world.aws.faults["sqs.SendMessageBatch"] = second_batch_fails
    with pytest.raises((KilledError, SweepError)) as failed:
        world.sweep(**ENDS)
    assert killed or "enqueued 10 of 23 sessions: sending to the work queue: AccessDenied" in str(failed.value)
    assert world.queued() == (10, 0, 0)

    world.aws.faults.clear()
    assert world.sweep(**ENDS)["enqueued"] == 23
    world.sweep(older_than="P2D", max_share=1, dry_run=False)
    log()
    assert world.deliver() == []
    assert sorted(world.api.deleted()) == listed
    assert (world.queued(), world.dead_letters()) == ((0, 0, 0), [])
