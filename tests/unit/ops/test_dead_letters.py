"""`dead-letters`: looked at where they are, sent back before they are deleted, discarded after a copy is kept."""

import errno
import json
import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.unit.ops.world import STACK, Operator
from tests.unit.world import KEY

REJECTED = {"reason": "rejected_422", "http_status": "422", "detail": "has exited", "attempts": "2"}
DELETE = "sqs.DeleteMessageBatch"
SEND = "sqs.SendMessageBatch"


@pytest.fixture
def letters(operator: Operator) -> Operator:
    """Two rejected sessions and a message that says nothing."""
    operator.dead_letter("devin-1", session_id="devin-1", **REJECTED)
    operator.dead_letter('{"session_id": "devin-2"}', session_id="devin-2", **REJECTED)
    operator.dead_letter("please end it", reason="invalid_message")
    return operator


def dead(operator: Operator) -> list[str]:
    return operator.bodies(operator.world.dead_letter_queue)


def hold_some(operator: Operator, number: int) -> Callable[[], object]:
    """Let somebody else look at so many dead letters; returns what puts them back."""
    world = operator.world
    queue = {"QueueUrl": world.dead_letter_queue}
    held = world.sqs.receive_message(**queue, MaxNumberOfMessages=number, VisibilityTimeout=60)["Messages"]

    def put_back() -> None:
        for message in held:
            world.sqs.change_message_visibility(**queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)

    return put_back


def test_looking_takes_nothing_away_and_hides_nothing(letters: Operator) -> None:
    for arguments in (("list",), ("show", "devin-1"), ("redrive", "--dry-run"), ("discard", "--all", "--dry-run")):
        assert letters.run("dead-letters", *arguments).status == 0
    assert len(dead(letters)) == 3


def test_a_list_says_why_and_which_sessions_it_is_about(letters: Operator) -> None:
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
        ('{"requestContext": {}, "requestPayload": {"session_id": "devin-9"}}', {}, "failed_invocation", ["devin-9"]),
    ],
)
def test_what_aws_puts_there_has_a_reason_too(
    operator: Operator, body: str, attributes: dict[str, str], reason: str, about: list[str]
) -> None:
    operator.dead_letter(body, **attributes)
    (found,) = operator.run("dead-letters", "list", "--json").data
    assert (found["reason"], found["session_ids"]) == (reason, about)


STALE = {**REJECTED, "reason": "rejected_404", "session_id": "devin-other", "ERROR_CODE": "NO_PERMISSIONS"}


@pytest.mark.fault(44)
def test_attributes_of_what_sqs_moved_say_nothing_about_it(operator: Operator, tmp_path: Path) -> None:
    # SQS keeps the attributes of the producer, or of the dead letter that it was before.
    operator.moved_by_sqs('{"session_ids": ["devin-1", "devin-2"]}', **STALE)
    (found,) = operator.run("dead-letters", "list", "--json").data
    assert (found["reason"], found["session_ids"]) == ("received_too_often", ["devin-1", "devin-2"])
    shown = operator.run("dead-letters", "list")
    assert "has exited" not in shown.out
    assert "not known" in shown.err
    copy = str(tmp_path / "copy")
    for selection in (("--reason", "rejected_404"), ("--session", "devin-other"), ("--reason", "undelivered_event")):
        assert operator.run("dead-letters", "discard", *selection, "--yes", "--to", copy).status == 1
    assert operator.run("dead-letters", "redrive", "--session", "devin-2", "--yes", "--json").data["sent_back"] == 1


@pytest.mark.parametrize(("earlier", "tries"), [({}, "2"), ({"attempts": "5"}, "7"), ({"attempts": "many"}, "2")])
def test_what_sqs_moved_is_sent_back_with_its_tries(operator: Operator, earlier: dict[str, str], tries: str) -> None:
    operator.moved_by_sqs("devin-1", **earlier)
    operator.run("dead-letters", "list")
    assert operator.run("dead-letters", "redrive", "--yes").status == 0
    ((_, attributes),) = operator.work_messages()
    assert attributes["attempts"] == tries


@pytest.mark.parametrize("before", ["end it with ", "mine:\n", "mine:\t"])
def test_no_key_that_somebody_sent_is_shown(operator: Operator, before: str) -> None:
    # In JSON, a line break ends in a letter, so that no word seems to begin after it.
    message_id = operator.dead_letter(f"{before}{KEY}", reason="invalid_message", detail=f"so {KEY}")
    for arguments in (("list",), ("list", "--json"), ("show", message_id)):
        ran = operator.run("dead-letters", *arguments)
        assert "redacted" in ran.out
        assert KEY not in ran.out + ran.err


def test_selected_ones_go_back_as_they_are(letters: Operator) -> None:
    ran = letters.run("dead-letters", "redrive", "--session", "devin-1", "--yes", "--json")
    assert (ran.status, ran.data["sent_back"]) == (0, 1)
    assert letters.work_messages() == [("devin-1", {"session_id": "devin-1", **REJECTED})]
    assert dead(letters) == ["please end it", '{"session_id": "devin-2"}']


def test_those_that_say_nothing_usable_stay_unless_they_are_asked_for(letters: Operator) -> None:
    ran = letters.run("dead-letters", "redrive", "--yes", "--json")
    assert (ran.data["sent_back"], ran.data["left_out"]) == (2, 1)
    ran = letters.run("dead-letters", "redrive", "--yes")
    assert (ran.status, ran.out) == (1, "")
    assert "1 say nothing usable and are left where they are" in ran.err
    assert letters.run("dead-letters", "redrive", "--unusable", "--yes", "--json").data["sent_back"] == 1
    assert dead(letters) == []


REFUSED = {"Successful": [], "Failed": [{"Id": "0", "Code": "InvalidMessageContents", "SenderFault": True}]}
DENIED = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "any")


@pytest.mark.parametrize(
    ("call", "fault", "says", "sent"),
    [
        (SEND, DENIED, "0 of 1 were sent back; the others are still dead letters", 0),
        (SEND, lambda _: REFUSED, "InvalidMessageContents", 0),
        (DELETE, DENIED, "1 of 1 that were sent back are dead letters too", 1),
    ],
)
def test_a_dead_letter_is_deleted_only_after_it_was_sent(
    letters: Operator, call: str, fault: Any, says: str, sent: int
) -> None:
    letters.world.aws.faults[call] = fault
    ran = letters.run("dead-letters", "redrive", "--session", "devin-1", "--yes")
    assert ran.status == (3 if fault is DENIED else 1)
    assert says in ran.err
    letters.world.aws.faults.clear()
    assert (len(letters.work_messages()), len(dead(letters))) == (sent, 3)


@pytest.mark.parametrize("command", ["redrive", "discard"])
@pytest.mark.parametrize(
    "selection", [("--session", "devin-9"), ("--reason", "rejected_404"), ("--message", "x", "--dry-run")]
)
def test_a_selection_that_finds_nothing_is_no_success(
    letters: Operator, command: str, selection: tuple[str, ...]
) -> None:
    ran = letters.run("dead-letters", command, *selection, "--yes", "--json")
    assert (ran.status, ran.data["chosen"]) == (1, 0)
    assert "no dead letter" in ran.err


def test_nothing_to_send_back_is_a_success_and_nothing_to_show_is_none(operator: Operator) -> None:
    assert operator.run("dead-letters", "redrive", "--yes").status == 0
    assert operator.run("dead-letters", "show", "devin-3").status == 1


@pytest.mark.parametrize("command", ["list", "redrive", "discard"])
def test_a_reason_that_does_not_exist_is_refused_with_those_that_do(letters: Operator, command: str) -> None:
    ran = letters.run("dead-letters", command, "--reason", "rejectd_422")
    assert (ran.status, len(dead(letters))) == (2, 3)
    assert "there are: rejected_422, invalid_message" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("redrive", "--message", ""),
        ("discard", "--message", " "),
        ("discard", "--reason", ""),
        ("redrive", "--session", ""),
        ("redrive", "--session", "devin/1"),
        ("show", ""),
        ("discard",),
        ("discard", "--all", "--session", "devin-1"),
    ],
)
def test_an_unset_variable_selects_nothing(letters: Operator, arguments: tuple[str, ...]) -> None:
    ran = letters.run("dead-letters", *arguments, *([] if arguments[0] == "show" else ["--yes"]))
    assert (ran.status, letters.work_messages(), len(dead(letters))) == (2, [], 3)


@pytest.mark.parametrize("command", [("redrive", "--yes", "--message"), ("discard", "--yes", "--message"), ("show",)])
def test_the_beginning_of_several_message_ids_is_refused(operator: Operator, command: tuple[str, ...]) -> None:
    ids = [operator.dead_letter(f"devin-{number}") for number in range(17)]
    twice = next(first for first in "0123456789abcdef" if sum(one.startswith(first) for one in ids) > 1)
    ran = operator.run("dead-letters", *command, twice)
    assert (ran.status, len(dead(operator))) == (2, 17)
    assert "give more of the id" in ran.err


def test_a_part_is_not_shown_as_the_whole(letters: Operator) -> None:
    hold_some(letters, 2)
    ran = letters.run("dead-letters", "list", "--json")
    assert (ran.status, len(ran.data)) == (0, 1)
    assert "2 more could not be seen: somebody else is looking at them" in ran.err


def test_what_somebody_else_looks_at_is_waited_for(letters: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    put_back = hold_some(letters, 3)
    monkeypatch.setattr("infra.ops.commands.dead_letters.time.sleep", lambda _: put_back())
    ran = letters.run("dead-letters", "list", "--json")
    assert (ran.status, len(ran.data), ran.err) == (0, 3, "")


def test_after_ctrl_c_everything_is_visible_again(letters: Operator) -> None:
    # The signal comes while SQS answers: what it hands out then must not stay hidden.
    world, calls = letters.world, count()

    def receive(given: dict[str, Any]) -> object:
        del world.aws.faults["sqs.ReceiveMessage"]
        answer = world.sqs.receive_message(**given)
        if next(calls) == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return answer

    world.aws.faults["sqs.ReceiveMessage"] = receive
    assert letters.run("dead-letters", "list").status == 130
    assert len(dead(letters)) == 3


def test_what_cannot_be_made_visible_is_said(letters: Operator) -> None:
    letters.world.aws.faults["sqs.ChangeMessageVisibilityBatch"] = lambda given: {
        "Successful": [{"Id": one["Id"]} for one in given["Entries"][2:]],
        "Failed": [{"Id": one["Id"], "Code": "InternalError", "SenderFault": False} for one in given["Entries"][:2]],
    }
    ran = letters.run("dead-letters", "list", "--json")
    assert (ran.status, len(ran.data)) == (0, 3)
    assert "2 messages could not be made visible" in ran.err


@pytest.mark.parametrize("command", ["redrive", "discard"])
def test_an_answer_that_comes_too_late_is_not_acted_on(
    letters: Operator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.setattr("infra.ops.dlq.HIDDEN_SECONDS", 10)  # less than its margin: over as it begins
    monkeypatch.chdir(tmp_path)
    ran = letters.run("dead-letters", command, "--session", "devin-1", "--yes")
    assert (ran.status, letters.work_messages(), len(dead(letters))) == (1, [], 3)
    assert "run it again" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "what"), [(("redrive",), "Send back 2"), (("discard", "--all"), "Discard 3")])
def test_the_question_says_where_and_without_an_answer_nothing_is_done(
    letters: Operator, command: tuple[str, ...], what: str
) -> None:
    ran = letters.run("dead-letters", *command)
    assert (ran.status, letters.work_messages(), len(dead(letters))) == (2, [], 3)
    assert f"account 123456789012, eu-west-1, stack {STACK}: {what} dead letters?" in ran.err.replace("\n", " ")


def test_a_copy_of_what_is_discarded_is_kept(letters: Operator, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    ran = letters.run("dead-letters", "discard", "--reason", "rejected_422", "--to", str(path), "--yes", "--json")
    assert (ran.status, ran.data["discarded"]) == (0, 2)
    kept = sorted((json.loads(line) for line in path.read_text().splitlines()), key=lambda one: str(one["body"]))
    assert [one["body"] for one in kept] == ["devin-1", '{"session_id": "devin-2"}']
    assert kept[0]["attributes"]["attempts"] == "2"
    assert path.stat().st_mode & 0o077 == 0, "bodies are whatever somebody sent"
    assert dead(letters) == ["please end it"]


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (ConnectionClosedError(endpoint_url="https://sqs"), 3)]
)
def test_discarding_that_is_cut_short_says_how_many_are_gone(
    operator: Operator, tmp_path: Path, error: BaseException, status: int
) -> None:
    for number in range(12):
        operator.dead_letter(f"devin-{number}")
    calls = count()

    def delete(_: dict[str, Any]) -> object:
        if next(calls) == 1:
            raise error
        return None

    operator.world.aws.faults[DELETE] = delete
    path = tmp_path / "copy"
    ran = operator.run("dead-letters", "discard", "--all", "--to", str(path), "--yes")
    assert ran.status == status
    assert "10 of 12 were deleted" in ran.err
    assert str(path) in ran.err.replace("\n", "")
    assert (len(path.read_text().splitlines()), len(dead(operator))) == (12, 2)


@pytest.mark.parametrize("place", ["taken", "nowhere/copy", "full"])
def test_nothing_is_discarded_without_a_copy(
    letters: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if place == "full":
        monkeypatch.setattr("os.fsync", full)
    (tmp_path / "taken").write_text("mine")
    ran = letters.run("dead-letters", "discard", "--all", "--to", str(tmp_path / place), "--yes")
    assert (ran.status, len(dead(letters))) == (2, 3)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("taken", "mine")]
