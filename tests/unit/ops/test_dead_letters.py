"""`dead-letters`: looked at where they are, sent back before they are deleted, discarded after a copy is kept."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from botocore.stub import Stubber

from infra.ops.problems import AwsError, FoundError
from infra.ops.redrive import Moved, NotOfferedError, move_all
from tests.unit.ops.world import Operator
from tests.unit.world import KEY

REJECTED = {"reason": "rejected_422", "http_status": "422", "detail": "has exited", "attempts": "2"}
SOURCE, DESTINATION = "arn:aws:sqs:eu-west-1:123456789012:dead", "arn:aws:sqs:eu-west-1:123456789012:work"


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "DeleteMessage")


@pytest.fixture
def letters(operator: Operator) -> Operator:
    """Two rejected sessions and a message that says nothing."""
    operator.dead_letter("devin-1", session_id="devin-1", **REJECTED)
    operator.dead_letter('{"session_id": "devin-2"}', session_id="devin-2", **REJECTED)
    operator.dead_letter("please end it", reason="invalid_message")
    return operator


def dead(operator: Operator) -> list[str]:
    return operator.bodies(operator.world.dead_letter_queue)


def refuse_move(operator: Operator) -> None:
    for call in ("sqs.StartMessageMoveTask", "sqs.ListMessageMoveTasks"):
        operator.world.aws.fail(call, "InvalidAction")


def offer_move(operator: Operator, moved: int, started: Callable[[], object] = lambda: None) -> None:
    """Have SQS end a move, of which it says afterwards that so many were moved."""
    tasks: list[dict[str, Any]] = [
        {"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": 9, "StartedTimestamp": 1}
    ]
    expected = {
        "SourceArn": operator.outputs["DeadLetterQueueArn"],
        "DestinationArn": operator.outputs["WorkQueueArn"],
    }

    def start(given: dict[str, Any]) -> object:
        assert given == expected
        started()
        counts = {"ApproximateNumberOfMessagesMoved": moved, "ApproximateNumberOfMessagesToMove": moved}
        tasks.insert(0, {"Status": "COMPLETED", "StartedTimestamp": 2, **counts})
        return {"TaskHandle": "mine"}

    operator.world.aws.faults["sqs.StartMessageMoveTask"] = start
    operator.world.aws.faults["sqs.ListMessageMoveTasks"] = lambda _: {"Results": tasks}


def test_looking_takes_nothing_away_and_hides_nothing(letters: Operator) -> None:
    for arguments in (("list",), ("show", "devin-1"), ("redrive", "--dry-run"), ("discard", "--all", "--dry-run")):
        assert letters.run("dead-letters", *arguments).status == 0
    assert len(dead(letters)) == 3


def test_a_list_says_why_and_whom_it_is_about(letters: Operator) -> None:
    ran = letters.run("dead-letters", "list", "--reason", "rejected_422", "--json")
    found = {(*one["session_ids"], one["reason"], one["attributes"]["detail"]) for one in ran.data}
    assert found == {("devin-1", "rejected_422", "has exited"), ("devin-2", "rejected_422", "has exited")}
    assert letters.run("dead-letters", "list", "--session", "devin-2", "--json").data[0]["session_ids"] == ["devin-2"]


@pytest.mark.parametrize(
    ("body", "attributes", "reason", "about"),
    [
        ("devin-9", {}, "received_too_often", ["devin-9"]),
        ('{"session_ids": ["devin-8", "devin-9"]}', {}, "received_too_often", ["devin-8", "devin-9"]),
        (
            '{"detail": {"session_id": "devin-9"}, "detail-type": "x"}',
            {"ERROR_CODE": "NO_PERMISSIONS", "ERROR_MESSAGE": "no"},
            "undelivered_event",
            ["devin-9"],
        ),
        (
            '{"requestContext": {}, "requestPayload": {"session_id": "devin-9"}}',
            {},
            "failed_invocation",
            ["devin-9"],
        ),
    ],
)
def test_what_others_put_there_has_a_reason_too(
    operator: Operator, body: str, attributes: dict[str, str], reason: str, about: list[str]
) -> None:
    operator.dead_letter(body, **attributes)
    (found,) = operator.run("dead-letters", "list", "--json").data
    assert (found["reason"], found["session_ids"]) == (reason, about)


def test_no_key_that_somebody_sent_is_shown(operator: Operator) -> None:
    operator.dead_letter(f"end it with {KEY}", reason="invalid_message", detail=f"so {KEY}")
    for arguments in (("list",), ("list", "--json"), ("show", "")):
        ran = operator.run("dead-letters", *arguments)
        assert "redacted" in ran.out
        assert KEY not in ran.out + ran.err


@pytest.mark.parametrize("before", ["\n", "\t", " "])
def test_no_key_is_shown_whatever_stands_before_it(operator: Operator, before: str) -> None:
    # In JSON, a line break ends in a letter, so that no word seems to begin after it.
    operator.dead_letter(f"mine:{before}{KEY}", reason="invalid_message")
    ran = operator.run("dead-letters", "list", "--json")
    assert KEY not in ran.out
    assert "redacted" in ran.data[0]["body"]


def test_what_nobody_has_is_not_shown(letters: Operator) -> None:
    assert letters.run("dead-letters", "show", "devin-3").status == 1


def test_selected_ones_go_back_as_they_are(letters: Operator) -> None:
    ran = letters.run("dead-letters", "redrive", "--session", "devin-1", "--yes", "--json")
    assert (ran.status, ran.data["sent_back"]) == (0, 1)
    assert letters.work_messages() == [("devin-1", {"session_id": "devin-1", **REJECTED})]
    assert dead(letters) == ["please end it", '{"session_id": "devin-2"}']


def test_those_that_say_nothing_usable_stay_unless_they_are_asked_for(letters: Operator) -> None:
    ran = letters.run("dead-letters", "redrive", "--yes", "--json")
    assert (ran.data["sent_back"], ran.data["left_out"]) == (2, 1)
    assert "sqs.StartMessageMoveTask" not in letters.world.aws.names(), "it would move all"
    refuse_move(letters)
    assert letters.run("dead-letters", "redrive", "--unusable", "--yes", "--json").data["sent_back"] == 1
    assert dead(letters) == []


def test_all_are_moved_by_sqs_once_the_look_at_them_is_over(operator: Operator) -> None:
    operator.dead_letter("devin-1", **REJECTED)
    hidden: list[str] = []
    offer_move(operator, 1, lambda: hidden.append(depth(operator)))
    ran = operator.run("dead-letters", "redrive", "--yes", "--json")
    assert (ran.status, ran.data["sent_back"], hidden) == (0, 1, ["0"])


def test_a_move_that_leaves_some_behind_is_no_success(operator: Operator) -> None:
    for number in range(3):
        operator.dead_letter(f"devin-{number}", **REJECTED)
    offer_move(operator, 2)
    ran = operator.run("dead-letters", "redrive", "--yes", "--json")
    assert (ran.status, ran.data["sent_back"]) == (1, 2)
    assert "SQS moved 2 of 3" in ran.err


def test_a_move_goes_on_if_whoever_waits_for_it_leaves(operator: Operator) -> None:
    operator.dead_letter("devin-1", **REJECTED)

    def leave() -> None:
        raise KeyboardInterrupt

    offer_move(operator, 1)
    start = operator.world.aws.faults["sqs.StartMessageMoveTask"]

    def start_and_leave(given: dict[str, Any]) -> object:
        operator.world.aws.faults["sqs.ListMessageMoveTasks"] = lambda _: leave()
        return start(given)  # type: ignore[operator]

    operator.world.aws.faults["sqs.StartMessageMoveTask"] = start_and_leave
    ran = operator.run("dead-letters", "redrive", "--yes")
    assert ran.status == 130
    assert "SQS goes on" in ran.err


def depth(operator: Operator) -> str:
    """How many dead letters are hidden."""
    name = "ApproximateNumberOfMessagesNotVisible"
    attributes: Any = operator.world.sqs.get_queue_attributes(
        QueueUrl=operator.world.dead_letter_queue, AttributeNames=["All"]
    )["Attributes"]
    return str(attributes[name])


def test_where_sqs_cannot_move_they_are_sent_one_by_one(operator: Operator) -> None:
    refuse_move(operator)
    for number in range(25):
        operator.dead_letter(f"devin-{number:03}", **REJECTED)
    ran = operator.run("dead-letters", "redrive", "--yes", "--json")
    assert (ran.status, ran.data["sent_back"]) == (0, 25)
    assert (len(operator.work_messages()), dead(operator)) == (25, [])


@pytest.mark.parametrize(("dies_again", "status"), [(False, 0), (True, 1)])
def test_what_is_sent_back_can_be_watched(
    letters: Operator, monkeypatch: pytest.MonkeyPatch, dies_again: bool, status: int
) -> None:
    monkeypatch.setattr("infra.ops.commands.following.EVERY_SECONDS", 0)
    monkeypatch.setattr("infra.ops.commands.following.SETTLE_SECONDS", 0)

    def handle(_: dict[str, Any]) -> object:
        if dies_again:
            del letters.world.aws.faults["sqs.SendMessage"]
            letters.dead_letter("devin-1")
        return {"MessageId": "x"}

    letters.world.aws.faults["sqs.SendMessage"] = handle
    ran = letters.run("dead-letters", "redrive", "--session", "devin-1", "--yes", "--watch", "--json")
    assert (ran.status, ran.data["watch"]["new_dead_letters"]) == (status, int(dies_again))


def test_a_dead_letter_that_cannot_be_sent_stays(letters: Operator) -> None:
    letters.world.aws.fail("sqs.SendMessage", "AccessDenied")
    ran = letters.run("dead-letters", "redrive", "--session", "devin-1", "--yes")
    assert ran.status == 3
    assert "0 of 1 were sent back" in ran.err
    assert len(dead(letters)) == 3


def test_a_dead_letter_that_cannot_be_deleted_is_in_both_queues(letters: Operator) -> None:
    letters.world.aws.fail("sqs.DeleteMessage", "AccessDenied")
    ran = letters.run("dead-letters", "redrive", "--session", "devin-1", "--yes")
    assert ran.status == 3
    assert "1 of 1 were sent back" in ran.err
    assert "in both queues" in ran.err
    assert "still dead letters" not in ran.err
    assert (len(letters.work_messages()), len(dead(letters))) == (1, 3)


def test_a_dead_letter_of_which_nobody_knows_whether_it_was_sent_is_said_to_be(letters: Operator) -> None:
    letters.world.aws.faults["sqs.SendMessage"] = ConnectionClosedError(endpoint_url="https://sqs")
    ran = letters.run("dead-letters", "redrive", "--session", "devin-1", "--yes")
    assert ran.status == 3
    assert "0 of 1 were sent back" in ran.err
    assert "may be in both queues" in ran.err


@pytest.mark.parametrize("command", ["redrive", "discard"])
@pytest.mark.parametrize("selection", [("--session", "devin-9"), ("--reason", "none"), ("--message", "x", "--dry-run")])
def test_a_selection_that_finds_nothing_is_no_success(
    letters: Operator, command: str, selection: tuple[str, ...]
) -> None:
    ran = letters.run("dead-letters", command, *selection, "--yes", "--json")
    assert (ran.status, ran.data["chosen"]) == (1, 0)
    assert "no dead letter" in ran.err


def test_nothing_to_send_back_is_a_success(operator: Operator) -> None:
    assert operator.run("dead-letters", "redrive", "--yes").status == 0


@pytest.mark.parametrize(
    "form", ["{0}", "https://app.devin.ai/sessions/{0}", "https://app.devin.ai/sessions/devin-{0}"]
)
def test_a_session_may_be_named_as_in_enqueue(operator: Operator, form: str) -> None:
    name = form.format("0" * 32)
    operator.dead_letter("devin-2")
    operator.dead_letter(f"devin-{'0' * 32}")
    assert len(operator.run("dead-letters", "list", "--session", name, "--json").data) == 1
    assert len(operator.run("dead-letters", "show", name, "--json").data) == 1
    refuse_move(operator)
    assert operator.run("dead-letters", "redrive", "--session", name, "--yes", "--json").data["sent_back"] == 1


def test_what_is_no_session_is_not_looked_for(letters: Operator) -> None:
    ran = letters.run("dead-letters", "redrive", "--session", "devin/1", "--yes")
    assert (ran.status, len(dead(letters))) == (2, 3)


def test_what_cannot_be_put_back_is_told(letters: Operator) -> None:
    letters.world.aws.faults["sqs.ChangeMessageVisibilityBatch"] = lambda given: {
        "Successful": [],
        "Failed": [{"Id": one["Id"], "Code": "InternalError", "SenderFault": False} for one in given["Entries"][:2]],
    }
    ran = letters.run("dead-letters", "list", "--json")
    assert (ran.status, len(ran.data)) == (0, 3)
    assert "2 dead letters could not be put back" in ran.err
    letters.world.aws.fail("sqs.ChangeMessageVisibilityBatch")
    operator = letters
    operator.dead_letter("devin-3")
    assert "1 dead letter could not be put back" in operator.run("dead-letters", "list").err


def test_no_more_are_looked_at_than_asked_for(letters: Operator) -> None:
    ran = letters.run("dead-letters", "list", "--most", "2", "--json")
    assert len(ran.data) == 2
    assert "may be more" in ran.err


@pytest.mark.parametrize("command", [("redrive", "--session", "devin-1"), ("discard", "--session", "devin-1")])
def test_an_answer_that_comes_too_late_is_not_acted_on(
    letters: Operator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr("infra.ops.dlq.HIDDEN_SECONDS", 10)  # less than its margin: over as it begins
    monkeypatch.chdir(tmp_path)
    ran = letters.run("dead-letters", *command, "--yes")
    assert (ran.status, letters.work_messages(), len(dead(letters))) == (1, [], 3)
    assert "run it again" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("redrive",), ("discard", "--all")])
def test_nothing_is_done_without_an_answer(letters: Operator, command: tuple[str, ...]) -> None:
    assert letters.run("dead-letters", *command).status == 2
    assert (letters.work_messages(), len(dead(letters))) == ([], 3)


def test_a_copy_of_what_is_discarded_is_kept(letters: Operator, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    ran = letters.run("dead-letters", "discard", "--reason", "rejected_422", "--to", str(path), "--yes", "--json")
    assert (ran.status, ran.data["discarded"]) == (0, 2)
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(one["body"] for one in kept) == ["devin-1", '{"session_id": "devin-2"}']
    assert kept[0]["attributes"]["attempts"] == "2"
    assert path.stat().st_mode & 0o077 == 0, "bodies are whatever somebody sent"
    assert dead(letters) == ["please end it"]


def test_attributes_that_are_no_text_are_in_the_copy_too(operator: Operator, tmp_path: Path) -> None:
    operator.world.sqs.send_message(
        QueueUrl=operator.world.dead_letter_queue,
        MessageBody="devin-1",
        MessageAttributes={
            "seal": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
            "n": {"DataType": "Number", "StringValue": "1"},
        },
    )
    path = tmp_path / "copy"
    assert operator.run("dead-letters", "discard", "--all", "--to", str(path), "--yes").status == 0
    kept = json.loads(path.read_text())
    assert (kept["attributes"], kept["binary_attributes"]) == ({"n": "1"}, {"seal": "AP8="})


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (refused("AccessDenied"), 3)])
def test_discarding_that_is_cut_short_says_how_many_are_gone(
    letters: Operator, tmp_path: Path, error: BaseException, status: int
) -> None:
    calls = count()

    def delete(_: dict[str, Any]) -> object:
        if next(calls) == 1:
            raise error
        return None

    letters.world.aws.faults["sqs.DeleteMessage"] = delete
    path = tmp_path / "copy"
    ran = letters.run("dead-letters", "discard", "--all", "--to", str(path), "--yes")
    assert ran.status == status
    assert "1 of 3 are gone" in ran.err
    assert str(path) in ran.err.replace("\n", "")
    assert (len(path.read_text().splitlines()), len(dead(letters))) == (3, 2)


def test_a_copy_that_was_not_finished_is_not_kept(
    letters: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    ran = letters.run("dead-letters", "discard", "--all", "--to", str(tmp_path / "copy"), "--yes")
    assert (ran.status, list(tmp_path.iterdir()), len(dead(letters))) == (2, [], 3)


@pytest.mark.parametrize("place", ["taken", "nowhere/copy"])
def test_nothing_is_discarded_without_a_copy(letters: Operator, tmp_path: Path, place: str) -> None:
    (tmp_path / "taken").write_text("mine")
    ran = letters.run("dead-letters", "discard", "--all", "--to", str(tmp_path / place), "--yes")
    assert (ran.status, len(dead(letters))) == (2, 3)
    assert (tmp_path / "taken").read_text() == "mine"


def test_it_has_to_be_said_which_to_discard(letters: Operator) -> None:
    assert letters.run("dead-letters", "discard", "--yes").status == 2
    assert letters.run("dead-letters", "discard", "--all", "--session", "devin-1", "--yes").status == 2
    assert len(dead(letters)) == 3


type Tasks = Callable[..., tuple[Moved, list[Moved]]]


@pytest.fixture
def tasks(operator: Operator) -> Tasks:  # noqa: ARG001 - for its environment
    """Have SQS say these of its move task, one after the other."""
    sqs = boto3.client("sqs", region_name="eu-west-1")

    def follow(*states: dict[str, Any]) -> tuple[Moved, list[Moved]]:
        with Stubber(sqs) as stub:
            asked = {"SourceArn": SOURCE, "MaxResults": 10}
            old = state("COMPLETED", 3, StartedTimestamp=1)
            stub.add_response("list_message_move_tasks", {"Results": [old]}, asked)
            start = {"SourceArn": SOURCE, "DestinationArn": DESTINATION}
            stub.add_response("start_message_move_task", {"TaskHandle": "mine"}, start)
            for one in states:
                stub.add_response("list_message_move_tasks", {"Results": [*([one] if one else []), old]}, asked)
            seen: list[Moved] = []
            moved = move_all(
                sqs, source_arn=SOURCE, destination_arn=DESTINATION, progress=seen.append, sleep=lambda _: None
            )
            stub.assert_no_pending_responses()
            return moved, seen

    return follow


def state(status: str, moved: int, **more: Any) -> dict[str, Any]:
    counts = {"ApproximateNumberOfMessagesMoved": moved, "ApproximateNumberOfMessagesToMove": 7}
    return {"Status": status, "StartedTimestamp": 2, **counts, **more}


def test_a_move_is_followed_to_its_end(tasks: Tasks) -> None:
    moved, seen = tasks(state("RUNNING", 3, TaskHandle="mine"), state("COMPLETED", 7))
    assert moved == Moved(7, 7)
    assert seen == [Moved(3, 7), Moved(7, 7)]


def test_an_old_move_is_not_taken_for_the_new_one(tasks: Tasks) -> None:
    moved, seen = tasks({}, state("RUNNING", 1, TaskHandle="mine"), state("COMPLETED", 7, StartedTimestamp=2))
    assert (moved, len(seen)) == (Moved(7, 7), 2)


def test_a_move_that_never_shows_up_is_not_waited_for_without_end(tasks: Tasks) -> None:
    with pytest.raises(AwsError, match="does not know the move"):
        tasks(*[{}] * 10)


def test_a_move_that_fails_is_said_with_its_reason(tasks: Tasks) -> None:
    with pytest.raises(FoundError, match=r"FAILED after 3 of 7: AccessDenied"):
        tasks(state("FAILED", 3, FailureReason="AccessDenied"))


@pytest.mark.parametrize(("code", "error"), [("InvalidAction", NotOfferedError), ("AccessDenied", Exception)])
def test_only_a_call_that_does_not_exist_is_replaced(operator: Operator, code: str, error: type[Exception]) -> None:
    for call in ("sqs.StartMessageMoveTask", "sqs.ListMessageMoveTasks"):
        operator.world.aws.fail(call, code)
    with pytest.raises(error) as raised:
        move_all(operator.world.sqs, source_arn=SOURCE, destination_arn=DESTINATION, progress=lambda _: None)
    assert isinstance(raised.value, NotOfferedError) == (code == "InvalidAction")
