"""`explain`: what became of a session id, from logs, queues, dead letters and schedules."""

import json
from typing import Any

import pytest

from tests.unit.ops.world import Operator, logged, report

ID = "devin-1"
TERMINATE, SWEEP = "/aws/lambda/terminate", "/aws/lambda/sweep"


class Logs:
    """Lines of both log groups, with how many minutes ago they were written."""

    def __init__(self, operator: Operator) -> None:
        self.lines: dict[str, list[tuple[float, dict[str, Any]]]] = {TERMINATE: [], SWEEP: []}
        self.asked: list[dict[str, Any]] = []
        operator.outputs["TerminateLogGroupName"] = TERMINATE
        operator.world.aws.faults["logs.FilterLogEvents"] = self._answer
        operator.world.aws.faults["scheduler.ListSchedules"] = lambda _: {"Schedules": []}

    def _answer(self, given: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(given)
        events = logged(*self.lines[given["logGroupName"]])
        text = given["filterPattern"].strip('"')
        return {"events": [one for one in events if text in str(one["message"])]}

    def attempt(self, minutes: float, outcome: str, session_id: str = ID, **fields: Any) -> None:
        line = {"outcome": outcome, "session_id": session_id, "source": "sqs", "function_request_id": "r", **fields}
        self.lines[TERMINATE].append((minutes, line))


@pytest.fixture
def logs(operator: Operator) -> Logs:
    return Logs(operator)


def test_attempts_are_shown_in_their_order_with_where_they_came_from(operator: Operator, logs: Logs) -> None:
    logs.attempt(9, "retry", attempts=1, http_status=503, retry_in_seconds=40, source="eventbridge")
    logs.attempt(5, "terminated", attempts=2, http_status=200)
    logs.attempt(7, "rejected", session_id=f"{ID}0")
    ran = operator.run("explain", ID, "--json")
    assert ran.status == 0
    assert [(one["what"], one["source"]) for one in ran.data["events"]] == [
        ("attempt 1: retry", "eventbridge"),
        ("attempt 2: terminated", "sqs"),
    ]
    assert (ran.data["state"], ran.data["now"][:13]) == ("done", "terminated at")
    rows = operator.run("explain", f"https://app.devin.ai/sessions/{ID}").out.splitlines()
    assert rows[0].split("\t")[1:] == ["attempt 1: retry", "eventbridge", "HTTP 503; again in 40 s"]
    assert operator.world.queued() == (0, 0, 0)


@pytest.mark.parametrize("list_name", ["due", "to_announce", "waiting"])
def test_the_sweep_that_chose_it_is_shown_with_why(operator: Operator, logs: Logs, list_name: str) -> None:
    found = report(ID, mode="enforce")
    choices = {name: found["due"] if name == list_name else [] for name in ("due", "to_announce", "waiting")}
    logs.lines[SWEEP].append((3.001, {"message": "sweep completed", "report": found | choices}))
    logs.attempt(3, "spared", source="sweep")
    events = operator.run("explain", ID, "--json").data["events"]
    assert [one["source"] for one in events] == ["sweep", "sweep"]
    assert events[0]["what"].startswith("a sweep (enforce) chose it")
    assert events[0]["detail"] == "idle_for: 5 days"


def test_one_that_a_dry_sweep_alone_chose_was_not_sent(operator: Operator, logs: Logs) -> None:
    logs.lines[SWEEP].append((3, {"message": "sweep completed", "report": report(ID)}))
    ran = operator.run("explain", ID, "--json")
    assert (ran.status, ran.data["state"]) == (0, "chosen")
    assert ran.data["now"].startswith("a dry sweep chose it, which sends nothing")


def test_a_dead_letter_is_where_it_is(operator: Operator, logs: Logs) -> None:
    logs.attempt(1, "rejected", http_status=404)
    operator.dead_letter(ID, reason="rejected_404", session_id=ID, detail="Session not found")
    data = operator.run("explain", ID, "--json").data
    assert data["state"] == "dead letter"
    assert data["events"][-1]["detail"] == "rejected_404 Session not found"
    assert len(operator.bodies(operator.world.dead_letter_queue)) == 1, "it was looked at and is still there"


@pytest.mark.parametrize(
    ("attempt", "state", "says"),
    [
        ({"outcome": "rejected", "http_status": 404}, "gone", "no longer a dead letter"),
        ({"outcome": "forbidden", "retry_in_seconds": 600}, "queued", "the next attempt is due about 20"),
    ],
)
def test_the_last_attempt_says_where_an_id_is_that_is_not_seen(
    operator: Operator, logs: Logs, attempt: dict[str, Any], state: str, says: str
) -> None:
    logs.attempt(2, **attempt)
    data = operator.run("explain", ID, "--json").data
    assert (data["state"], says in data["now"]) == (state, True)


def test_what_waits_in_the_work_queue_is_found_and_left_there(operator: Operator, logs: Logs) -> None:
    logs.attempt(60, "terminated", session_id="devin-2")
    operator.world.send(json.dumps({"session_ids": ["devin-2", ID]}))
    data = operator.run("explain", ID, "--json").data
    assert (data["state"], data["events"][-1]["what"]) == ("queued", "sent to the work queue")
    assert len(operator.bodies(operator.world.work_queue)) == 1


def test_a_message_that_was_received_often_is_not_looked_at_with_others(operator: Operator, logs: Logs) -> None:
    operator.world.send(ID)
    for _ in range(4):
        assert operator.run("explain", ID, "--json").data["state"] == "queued"
    (message,) = operator.world.receive(operator.world.work_queue)
    assert int(message["Attributes"]["ApproximateReceiveCount"]) == 5
    assert logs.asked


def test_a_schedule_that_will_send_it_is_shown(operator: Operator, logs: Logs) -> None:
    target = {"Arn": operator.outputs["WorkQueueArn"], "Input": ID}
    schedule = {"Name": "mine", "State": "ENABLED", "Target": target, "ScheduleExpression": "at(2099-01-01T00:00:00)"}
    operator.world.aws.faults["scheduler.ListSchedules"] = lambda _: {"Schedules": [schedule]}
    operator.world.aws.faults["scheduler.GetSchedule"] = lambda _: schedule
    data = operator.run("explain", ID, "--json").data
    assert (data["state"], logs.lines[TERMINATE]) == ("scheduled", [])
    assert "2099-01-01T00:00:00" in data["now"]


def test_one_that_nothing_is_known_of_ends_with_1(operator: Operator, logs: Logs) -> None:
    operator.world.send("devin-2")
    ran = operator.run("explain", ID, "--since", "6h")
    assert (ran.status, ran.out) == (1, "")
    assert "nothing is known of it since" in ran.err
    assert "1 messages in the work queue" in ran.err
    asked = logs.asked[0]
    assert (asked["endTime"] - asked["startTime"]) / 3_600_000 == pytest.approx(6, abs=0.1)


def test_what_may_not_be_read_hides_nothing_else(operator: Operator, logs: Logs) -> None:
    operator.world.aws.fail("logs.FilterLogEvents")
    operator.dead_letter(ID, reason="rejected_404", session_id=ID)
    ran = operator.run("explain", ID, "--json")
    assert (ran.status, ran.data["state"]) == (0, "dead letter")
    assert list(ran.data["unread"]) == ["terminate's log", "sweep's log"]
    assert logs.asked == []


@pytest.mark.parametrize("arguments", [("not an id",), (ID, "--since", "soon")])
def test_what_is_no_id_and_no_length_is_refused(operator: Operator, arguments: tuple[str, ...]) -> None:
    assert operator.run("explain", *arguments).status == 2
    assert operator.world.aws.calls == []
