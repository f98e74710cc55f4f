"""`status`, `watch`, `stop` and `go`: how the stack is, and the switch for everything."""

import re
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import boto3
import pytest
from botocore.stub import Stubber

from infra.environments import ROOT
from infra.ops.commands.following import STALLED_SECONDS, Moment, _line, settle_seconds, watch
from infra.ops.depth import Depth
from infra.ops.switch import Switch, Written, throw
from stop_switch import stop_switch
from tests.unit.ops.world import STACK, Operator, logged, report
from tests.unit.world import SWITCH, client


def mapping(function: str = "terminate", state: str = "Enabled") -> dict[str, str]:
    """Of the work queue to this function, or to its alias."""
    arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{function}"
    return {"UUID": str(UUID(int=1)), "FunctionArn": arn, "State": state, "LastProcessingResult": "OK"}


def write_log(operator: Operator, *lines: tuple[float, dict[str, Any]]) -> None:
    """Lines of the sweep's log, with how many minutes ago they were written; CloudWatch tells them oldest first."""
    events = logged(
        *((minutes, ({"message": "sweep completed"} if "report" in line else {}) | line) for minutes, line in lines)
    )

    def answer(given: dict[str, Any]) -> dict[str, Any]:
        start, end, text = given["startTime"], given["endTime"], given["filterPattern"].strip('"')
        found = [one for one in events if start <= one["timestamp"] <= end and text in str(one["message"])]
        first = int(given.get("nextToken", 0))
        return {"events": found[first : first + 1]} | ({"nextToken": str(first + 1)} if found[first + 1 :] else {})

    operator.world.aws.faults["logs.FilterLogEvents"] = answer


@pytest.fixture
def healthy(operator: Operator) -> Operator:
    """A stack with nothing wrong and one sweep in its log."""
    faults = operator.world.aws.faults
    faults["lambda.ListEventSourceMappings"] = lambda _: {"EventSourceMappings": [mapping()]}
    faults["cloudwatch.DescribeAlarms"] = lambda _: {"MetricAlarms": []}
    faults["cloudwatch.GetMetricStatistics"] = lambda _: {
        "Datapoints": [
            {"Timestamp": datetime(2026, 11, 24, 10, minute, tzinfo=UTC), "Maximum": seconds}
            for minute, seconds in ((2, 120.0), (1, 60.0))
        ]
    }
    error, report = {"level": "ERROR"}, {"mode": "dry_run", "listed": 20, "chosen": 2, "due": ["…"]}
    second = {"function_request_id": "second"}
    write_log(
        operator,
        (50, error | {"message": "sweep failed", "function_request_id": "third"}),
        (110, second | error | {"message": "max_sessions is 1", "refused": "CapExceededError"}),
        (110, second | {"report": {"mode": "refused", "why": "max_sessions is 1"}}),
        (170, {"function_request_id": "first", "report": report}),
    )
    return operator


def test_all_is_well_until_the_stack_is_rolled_back(healthy: Operator) -> None:
    ran = healthy.run("status", "--json")
    assert (ran.status, ran.data["wrong"], ran.data["unread"]) == (0, [], {})
    assert ran.data["work_queue"] == {"waiting": 0, "in_flight": 0, "delayed": 0, "oldest_seconds": 0}
    assert ran.data["deployment"]["at"] == "2026-11-01T00:00:00Z"
    assert healthy.run("status").status == 0
    healthy.status = "UPDATE_ROLLBACK_COMPLETE"
    assert healthy.run("status").status == 1


def test_sweeps_are_shown_newest_first_and_once_each(healthy: Operator) -> None:
    sweeps = healthy.run("status", "--json").data["sweeps"]
    assert [one["mode"] for one in sweeps] == ["failed", "refused", "dry_run"]
    assert re.fullmatch(r"20[0-9-]+T[0-9:]+Z", sweeps[0]["at"])


def test_the_newest_sweeps_are_shown_however_much_the_log_says(healthy: Operator) -> None:
    many = [(n, {"function_request_id": str(n), "report": {"mode": "dry_run", "listed": n}}) for n in range(30, 200)]
    write_log(healthy, *many)
    sweeps = healthy.run("status", "--json").data["sweeps"]
    assert [one["listed"] for one in sweeps] == [30, 31, 32]


def platform(request: str, status: str, **more: str) -> dict[str, Any]:
    """What Lambda itself says of an invocation."""
    return {"type": "platform.report", "record": {"requestId": request, "status": status, **more}}


def test_sweeps_that_were_killed_are_shown(healthy: Operator) -> None:
    write_log(
        healthy,
        (1, platform("a", "timeout")),
        (9, platform("b", "error", errorType="Runtime.OutOfMemory")),
        (10, platform("c", "success")),
        # One that failed is shown once, though three lines say so.
        (14, platform("d", "error", errorType="SweepError")),
        (15, {"level": "ERROR", "requestId": "d", "message": "SweepError"}),
        (16, {"level": "ERROR", "function_request_id": "d", "message": "sweep failed"}),
    )
    sweeps = healthy.run("status", "--json").data["sweeps"]
    assert [(one["mode"], one["why"]) for one in sweeps] == [
        ("killed", "timeout"),
        ("killed", "error: Runtime.OutOfMemory"),
        ("failed", "sweep failed"),
    ]


def test_the_age_of_the_oldest_message_is_the_newest_of_the_metric(healthy: Operator) -> None:
    healthy.world.send("devin-1")
    assert healthy.run("status", "--json").data["work_queue"]["oldest_seconds"] == 120.0


def test_dead_letters_are_counted_by_a_sample_and_left_alone(healthy: Operator) -> None:
    for number in range(60):
        healthy.dead_letter(f"devin-{number}", reason="rejected_404")
    ran = healthy.run("status", "--json")
    assert ran.data["dead_letters"] == {"number": 60, "reasons": {"rejected_404": 50}, "sample": 50}
    assert ran.status == 1
    assert len(healthy.bodies(healthy.world.dead_letter_queue)) == 60


@pytest.mark.parametrize(
    ("mappings", "says"),
    [
        ([mapping(state="Disabled")], "mapping is Disabled"),
        ([], "mapping is missing"),
        ([mapping("terminated"), mapping("other:live")], "mapping is missing"),
    ],
)
def test_a_queue_that_is_not_processed_is_wrong(healthy: Operator, mappings: list[dict[str, str]], says: str) -> None:
    healthy.world.aws.faults["lambda.ListEventSourceMappings"] = lambda _: {"EventSourceMappings": mappings}
    ran = healthy.run("status", "--json")
    assert ran.status == 1
    assert says in ran.err


def test_alarms_are_this_stacks_and_no_others(healthy: Operator) -> None:
    names = re.findall(r"AlarmName: !Sub \$\{MonitoredStack}-(.*)", (ROOT / "infra" / "observability.yaml").read_text())
    asked: list[list[str]] = []

    def answer(given: dict[str, Any]) -> dict[str, Any]:
        asked.append(given["AlarmNames"])
        return {"MetricAlarms": [{"AlarmName": f"{STACK}-errors", "StateReason": "above"}]}

    healthy.world.aws.faults["cloudwatch.DescribeAlarms"] = answer
    ran = healthy.run("status", "--json")
    assert (ran.status, ran.data["alarms"]) == (1, [{"name": f"{STACK}-errors", "why": "above"}])
    assert sorted(asked[0]) == sorted(f"{STACK}-{name}" for name in names)


@pytest.mark.parametrize(
    ("operation", "unread", "still"),
    [
        ("logs.FilterLogEvents", "sweeps", "go"),
        ("cloudwatch.GetMetricStatistics", "oldest_message", "1 waiting"),
        ("sqs.ReceiveMessage", "reasons", "dead letters\t1"),
    ],
)
def test_what_may_not_be_read_hides_nothing_else_and_is_not_well(
    healthy: Operator, operation: str, unread: str, still: str
) -> None:
    healthy.world.send("devin-1")
    healthy.dead_letter("devin-1")
    healthy.world.aws.fail(operation, "AccessDenied")
    assert list(healthy.run("status", "--json").data["unread"]) == [unread]
    ran = healthy.run("status")
    assert ran.status == 1
    assert still in ran.out
    assert f"{unread} could not be read" in ran.err
    assert "not all could be read" in ran.err


def test_where_nothing_may_be_read_aws_refused(healthy: Operator) -> None:
    for operation in (
        "ssm.GetParameter",
        "sqs.GetQueueAttributes",
        "lambda.ListEventSourceMappings",
        "cloudwatch.DescribeAlarms",
        "logs.FilterLogEvents",
    ):
        healthy.world.aws.fail(operation, "AccessDeniedException")
    ran = healthy.run("status", "--json")
    assert (ran.status, len(ran.data["unread"])) == (3, 6)


def test_what_keeps_sessions_alive_is_shown_first(healthy: Operator) -> None:
    healthy.parameters["DryRun"] = "true"
    healthy.world.switch("stop: ask Ann")
    ran = healthy.run("status")
    assert ran.out.splitlines()[0] == "dry run\tDryRun is true: messages are consumed, and no session is ended"
    assert ran.out.splitlines()[1].startswith("stop switch\tSTOPPED: ask Ann, since 20")
    assert healthy.run("status", "--json").data["deployment"]["dry_run"] is True


@pytest.mark.parametrize(
    "command",
    [
        ("watch", "--every", "0.2"),
        ("explain", "devin-1"),
        ("enqueue", "devin-1"),
        ("sweep", '{"idle_for": "PT6H"}'),
        ("dead-letters", "redrive", "--yes"),
    ],
)
def test_a_stack_that_ends_nothing_says_so_first(healthy: Operator, command: tuple[str, ...]) -> None:
    healthy.answer_sweeps(report())
    healthy.world.send("devin-1")
    healthy.parameters["DryRun"] = "true"
    healthy.run("stop", "--reason", "ask Ann")
    first, second = healthy.run(*command).err.splitlines()[:2]
    assert first == "DryRun is true: messages are consumed, and no session is ended"
    assert second.startswith("the stop switch is on (ask Ann, since 20")
    assert second.endswith("no session is ended before devin-ops go")


def test_a_reason_to_stop_stops_the_functions_and_is_there_for_the_next_one(healthy: Operator) -> None:
    ran = healthy.run("stop", "--reason", "the API is\non fire: ask {{Ann}}", "--json")
    assert (ran.status, ran.data["before"]) == (0, "go")
    assert healthy.switch_says() == "stop: the API is on fire: ask ((Ann))"
    assert stop_switch(healthy.switch_says, SWITCH)() is not None
    status = healthy.run("status", "--json")
    assert (status.status, status.data["stop_switch"]["reason"]) == (1, "the API is on fire: ask ((Ann))")


EARLIER = "2026-01-01T00:00:00Z"


def test_a_second_stop_keeps_the_first_ones_reason_and_time(healthy: Operator) -> None:
    healthy.run("stop", "--reason", "the API is on fire")
    since = healthy.run("status", "--json").data["stop_switch"]["since"]
    healthy.run("stop", "--reason", "Bob agrees")
    healthy.run("stop")
    assert healthy.switch_says() == f"stop: the API is on fire ({since}); Bob agrees"
    switch = healthy.run("status", "--json").data["stop_switch"]
    assert (switch["reason"], switch["since"]) == ("the API is on fire; Bob agrees", since)
    # Though the parameter is written later.
    assert Switch(healthy.switch_says().replace(since, EARLIER), datetime.now(UTC)).since == EARLIER
    healthy.run("go", "--yes")
    assert healthy.run("stop", "--json").data["now"] == "stop"
    healthy.run("stop", "--reason", "again")
    assert re.fullmatch(r"stop: no reason given \(20[0-9T:Z-]+\); again", healthy.switch_says())


def test_the_hundredth_version_is_written_though_the_oldest_carries_a_label() -> None:
    ssm = boto3.client("ssm")
    put = {"Name": SWITCH, "Value": "stop", "Type": "String", "Overwrite": True}
    versions = [{"Name": SWITCH, "Version": 8}, {"Name": SWITCH, "Version": 7, "Labels": ["live"]}]
    with Stubber(ssm) as stub:
        stub.add_client_error("put_parameter", "ParameterMaxVersionLimitExceeded", expected_params=put)
        stub.add_response("get_parameter_history", {"Parameters": versions}, {"Name": SWITCH})
        unlabelled = {"Name": SWITCH, "ParameterVersion": 7, "Labels": ["live"]}
        stub.add_response("unlabel_parameter_version", {"RemovedLabels": ["live"]}, unlabelled)
        stub.add_response("put_parameter", {"Version": 107}, put)
        assert throw(ssm, SWITCH, None) == Written("stop", 107)


@pytest.mark.parametrize("reason", [(), ("--reason", "go"), ("--reason", " ")])
def test_no_reason_makes_stop_mean_go(operator: Operator, reason: tuple[str, ...]) -> None:
    assert operator.run("stop", *reason).status == 0
    assert operator.switch_says() == ("stop: go" if "go" in reason else "stop")


def test_who_may_only_write_the_switch_can_stop(operator: Operator) -> None:
    for operation in ("ssm.GetParameter", "sqs.GetQueueAttributes"):
        operator.world.aws.fail(operation)
    ran = operator.run("stop", "--json")
    assert (ran.status, ran.data) == (0, {"switch": SWITCH, "before": None, "now": "stop"})
    operator.world.aws.faults.clear()
    assert operator.switch_says() == "stop"


def test_a_switch_that_was_deleted_stops_until_it_is_created_again(healthy: Operator) -> None:
    client("ssm").delete_parameter(Name=SWITCH)
    status = healthy.run("status", "--json")
    assert (status.status, status.data["stop_switch"]["go"]) == (1, False)
    ran = healthy.run("go", "--yes")
    assert (ran.status, healthy.switch_says()) == (0, "go")
    assert "no such parameter" in ran.out
    client("ssm").delete_parameter(Name=SWITCH)
    ran = healthy.run("stop", "--json")
    assert (ran.status, ran.data["before"], healthy.switch_says()) == (0, None, "stop")
    assert "was no such parameter" in ran.err


STACKS_SWITCH = f"/devin-session-cleanup/{STACK}/stop-switch"


def test_who_may_not_look_at_the_stack_can_stop_by_the_name_that_the_template_gives(operator: Operator) -> None:
    assert "Name: !Sub /devin-session-cleanup/${AWS::StackName}/stop-switch" in (ROOT / "template.yaml").read_text()
    operator.world.aws.fail("cloudformation.DescribeStacks")
    client("ssm").put_parameter(Name=STACKS_SWITCH, Value="go", Type="String")
    ran = operator.run("stop", "--json")
    assert (ran.status, ran.data) == (0, {"switch": STACKS_SWITCH, "before": "go", "now": "stop"})
    assert "could not be looked at" in ran.err


def test_a_switch_of_that_name_that_nobody_had_made_is_no_success(operator: Operator) -> None:
    operator.world.aws.fail("cloudformation.DescribeStacks")
    ran = operator.run("stop")
    assert ran.status == 1
    assert "check --stack-name" in ran.err


def test_a_stack_that_is_not_there_is_not_stopped(operator: Operator) -> None:
    operator.world.aws.fail("cloudformation.DescribeStacks", "ValidationError")
    assert operator.run("stop").status == 3
    assert "ssm.PutParameter" not in operator.world.aws.names()


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(("says", "status", "switch"), [("y\n", 0, "go"), ("n\n", 1, "stop")])
def test_go_says_how_much_waits_and_asks(operator: Operator, says: str, status: int, switch: str) -> None:
    operator.run("stop")
    operator.world.send("devin-1", "devin-2")
    ran = operator.run("go", given=says)
    assert (ran.status, operator.switch_says()) == (status, switch)
    assert "2 messages in the work queue" in ran.out
    assert ("It may take the functions 15 s to see it." in ran.out) == (switch == "go")


def test_go_when_it_goes_already_writes_nothing(operator: Operator) -> None:
    assert operator.run("go").status == 0
    assert "ssm.PutParameter" not in operator.world.aws.names()


def seen(
    *totals: int,
    letters: tuple[int, ...] = (0,),
    timeout: float | None = None,
    before: int | None = None,
    settle: float = 0,
    sent: int = 0,
    stopped: str | None = None,
) -> list[Moment]:
    """What a watch sees if the queue holds so many messages, look by look a second apart."""
    ticks, looks, counts = count(), iter(totals), iter(letters)
    last = [0]

    def dead() -> int:
        last[0] = next(counts, last[0])
        return last[0]

    return list(
        watch(
            lambda: (Depth(next(looks), 0, 0), dead(), stopped),
            every=1,
            settle=settle,
            timeout=timeout,
            letters_before=dead() if before is None else before,
            sent=sent,
            clock=lambda: float(next(ticks)),
            sleep=lambda _: None,
        )
    )


def test_a_queue_is_drained_once_it_was_seen_empty_again_and_again() -> None:
    moments = seen(5, 0, 3, 0, 0, 0, 9)
    assert [one.work.total for one in moments] == [5, 0, 3, 0, 0, 0]
    assert [one.drained for one in moments] == [False] * 5 + [True]


def test_where_numbers_settle_slowly_it_has_to_stay_empty_for_as_long() -> None:
    # What was sent a moment ago is not counted yet.
    moments = seen(*[0] * 10, 40, *[0] * 100, settle=60)
    assert (len(moments), moments[-1].drained) == (11 + 61, True)
    assert [one.to_settle for one in moments[-2:]] == [1, 0]


def test_what_was_sent_counts_before_it_is_seen() -> None:
    (_, second, *_) = seen(0, 30, 0, 0, 0, sent=40)
    assert second.per_second == 10 / 2  # two seconds after the watch began
    assert ", 5.0/s, about 6 s left" in _line(second)


@pytest.mark.parametrize(("letters", "before"), [((4, 4, 4, 6), None), ((6,), 4)])
def test_dead_letters_of_before_do_not_count(letters: tuple[int, ...], before: int | None) -> None:
    assert seen(0, 0, 0, letters=letters, before=before)[-1].new_letters == 2


def test_a_watch_gives_up_in_time() -> None:
    moments = seen(*[3] * 100, timeout=5)
    assert (len(moments), moments[-1].drained) == (5, False)


def test_a_watch_does_not_wait_for_what_never_comes() -> None:
    assert len(seen(3, 3, 3, stopped="the switch is on")) == 1
    assert seen(0, 0, 0, stopped="the switch is on")[-1].drained
    moments = seen(4, *[3] * 5000)
    assert (moments[-1].stopped, moments[-1].seconds) == ("nothing has changed for 20 minutes", 3 + STALLED_SECONDS)


def test_watching_a_stopped_stack_ends_and_says_how_to_go_on(operator: Operator) -> None:
    operator.run("stop", "--reason", "ask Ann")
    operator.world.send("devin-1")
    operator.world.receive(operator.world.work_queue)
    ran = operator.run("watch", "--json")
    assert (ran.status, ran.data["in_flight"]) == (1, 1)
    assert "the stop switch is on (ask Ann" in ran.data["stopped"]
    assert re.search(r"hidden until 20[0-9-]+T[0-9:]+Z at the latest", ran.err)
    assert "1 message left, and the stop switch is on" in ran.err
    assert "to carry on: devin-ops go; see: devin-ops status" in ran.err
    assert "1 in flight" in operator.run("watch").err, "without a terminal, a line on the standard error"


def test_watching_says_when_nothing_is_left(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert operator.world.sqs.meta.endpoint_url.startswith("https://"), "AWS, where numbers are late"
    monkeypatch.setattr("infra.ops.commands.following.SETTLE_SECONDS", 1)
    ran = operator.run("watch", "--every", "0.2", "--json")
    assert (ran.status, ran.data["drained"], ran.data["new_dead_letters"]) == (0, True, 0)
    assert "0 waiting, 0 in flight, 0 delayed" in ran.err, "a line without a terminal"
    assert "drained if that stays so for 1 s" in ran.err
    assert ran.data["seconds"] >= 1


@pytest.mark.parametrize(
    ("address", "seconds"),
    [
        ("https://sqs.eu-west-1.amazonaws.com", 60),
        ("https://127.0.0.1:4566", 0),
        ("http://localhost:4566", 0),
        ("http://[::1]:4566", 0),
        ("https://127.0.0.1.example.com", 60),
    ],
)
def test_on_this_machine_numbers_need_no_time_to_settle(address: str, seconds: float) -> None:
    assert settle_seconds(address) == seconds
