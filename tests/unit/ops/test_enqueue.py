"""`enqueue`: each id is sent once, or it is said why not; an interrupted run goes on where it stopped."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from infra.ops.journal import Journal, open_journal
from infra.ops.problems import AwsError, FoundError, UsageError
from infra.ops.sending import Sending, send_all
from tests.unit.ops.world import Operator

SEND = "sqs.SendMessageBatch"
JOB = {"queue": "here", "unless_updated_since": None}


def ids(number: int) -> list[str]:
    return [f"devin-{one:03}" for one in range(number)]


def file_of(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def send(operator: Operator, given: list[str], journal: Journal, waits: list[float] | None = None) -> Sending:
    def sleep(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    world = operator.world
    return send_all(
        world.sqs,
        world.work_queue,
        given,
        unless_updated_since=None,
        journal=journal,
        progress=lambda _: None,
        sleep=sleep,
    )


def failing(*codes: tuple[str, bool]) -> Callable[[dict[str, Any]], object]:
    """SQS that fails the first entry of each batch with these, call by call; then it takes what it gets."""
    left = list(codes)

    def answer(_: dict[str, Any]) -> object:
        if not left:
            return None
        code, fault = left.pop(0)
        return {"Successful": [], "Failed": [{"Id": "0", "Code": code, "SenderFault": fault}]}

    return answer


def test_each_id_is_a_message_of_its_own_with_its_condition(operator: Operator) -> None:
    ran = operator.run("enqueue", "devin-1", "devin-2", "devin-1", "--unless-updated-since", "2026-11-01", "--json")
    assert (ran.status, ran.data["sent"], ran.data["repeats"]) == (0, 2, 1)
    assert operator.world.enqueued() == [
        {"session_id": one, "unless_updated_since": "2026-11-01T00:00:00+00:00"} for one in ("devin-1", "devin-2")
    ]


def test_what_is_enqueued_ends(operator: Operator) -> None:
    operator.run("enqueue", "devin-1")
    assert operator.world.deliver() == []
    assert operator.world.api.deleted() == ["devin-1"]


def test_hundreds_are_sent_in_tens_and_none_is_forgotten(operator: Operator, tmp_path: Path) -> None:
    ran = operator.run("enqueue", "--file", file_of(tmp_path / "ids", *ids(105)), "--yes")
    assert ran.status == 0
    assert operator.world.aws.names().count(SEND) == 11
    assert operator.sent() == ids(105)


def test_watching_counts_dead_letters_from_before_the_first_message(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.ops.commands.following.EVERY_SECONDS", 0)
    monkeypatch.setattr("infra.ops.commands.following.SETTLE_SECONDS", 0)
    operator.dead_letter("devin-before")
    world = operator.world

    def lose(_: dict[str, Any]) -> object:
        operator.dead_letter("devin-1")
        return {"Successful": [{"Id": "0", "MessageId": "x", "MD5OfMessageBody": "x"}]}

    world.aws.faults[SEND] = lose
    ran = operator.run("enqueue", "devin-1", "--watch", "--json")
    assert (ran.status, ran.data["watch"]["drained"], ran.data["watch"]["new_dead_letters"]) == (1, True, 1)
    assert "of 1 sent" in ran.err


def test_a_pipe_is_read(operator: Operator) -> None:
    assert operator.run("enqueue", given="devin-1\ndevin-2\n").status == 0
    assert operator.sent() == ["devin-1", "devin-2"]


def test_an_invalid_id_keeps_all_from_being_sent_and_its_line_is_told(operator: Operator, tmp_path: Path) -> None:
    ran = operator.run("enqueue", "-f", file_of(tmp_path / "ids", "devin-1", "", "devin-1/../x"), "--json")
    assert (ran.status, ran.out) == (2, "")
    assert "line 3: devin-1/../x" in ran.err
    assert operator.sent() == []


@pytest.mark.parametrize("told", [(), ("--delimiter", "tab"), ("--delimiter", r"\t"), ("--delimiter", "\t")])
def test_a_column_is_sent(operator: Operator, told: tuple[str, ...]) -> None:
    given = "who\tsession\r\nAnn, B\tdevin-1\r\n"
    assert operator.run("enqueue", "--csv-column", "session", *told, given=given).status == 0
    assert operator.sent() == ["devin-1"]


@pytest.mark.parametrize("told", [("--delimiter", ";"), ("--csv-column", "1", "--delimiter", "ab")])
def test_a_delimiter_that_makes_no_sense_is_refused(operator: Operator, told: tuple[str, ...]) -> None:
    ran = operator.run("enqueue", *told, given="devin-1\n")
    assert (ran.status, operator.sent()) == (2, [])
    assert "--delimiter" in ran.err


def test_invalid_ids_can_be_left_out(operator: Operator) -> None:
    ran = operator.run("enqueue", "--skip-invalid", "--json", given="devin-1\nnope\n")
    assert (ran.status, ran.data["invalid"], operator.sent()) == (0, [2], ["devin-1"])


def test_a_dry_run_sends_nothing_and_leaves_no_journal(operator: Operator, tmp_path: Path) -> None:
    path = tmp_path / "ids"
    ran = operator.run("enqueue", "-f", file_of(path, *ids(30)), "--dry-run", "--json")
    assert (ran.status, ran.data["would_send"]) == (0, ids(30))
    assert (operator.sent(), list(tmp_path.iterdir())) == ([], [path])


def test_many_are_not_sent_unless_somebody_says_so(operator: Operator) -> None:
    ran = operator.run("enqueue", given="\n".join(ids(21)))
    assert ran.status == 2
    assert "End 21 sessions?" in ran.err
    assert operator.sent() == []


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(("says", "status", "sent"), [("y\n", 0, 2), ("n\n", 1, 0)])
def test_somebody_is_asked(operator: Operator, says: str, status: int, sent: int) -> None:
    ran = operator.run("enqueue", "devin-1", "devin-2", "--ask-above", "1", given=says)
    assert (ran.status, len(operator.sent())) == (status, sent)


@pytest.mark.usefixtures("somebody")
def test_a_no_leaves_no_journal_behind(operator: Operator, tmp_path: Path) -> None:
    path = tmp_path / "ids"
    ran = operator.run("enqueue", "-f", file_of(path, *ids(30)), given="n\n")
    assert (ran.status, list(tmp_path.iterdir())) == (1, [path])
    # What an earlier run knows stays.
    journal = tmp_path / "journal"
    operator.run("enqueue", "devin-x", "--resume", str(journal))
    before = journal.read_bytes()
    assert operator.run("enqueue", "-f", str(path), "--resume", str(journal), given="n\n").status == 1
    assert journal.read_bytes() == before


def test_what_sqs_fails_for_now_is_tried_again_and_alone(operator: Operator) -> None:
    operator.world.aws.faults[SEND] = failing(("ServiceUnavailable", False))
    waits: list[float] = []
    sending = send(operator, ids(1), Journal(), waits)
    assert (sending.sent, sending.refused, len(waits)) == (1, {}, 1)
    assert operator.sent() == ids(1)


def test_what_sqs_says_is_the_senders_fault_is_not_tried_again(operator: Operator) -> None:
    operator.world.aws.faults[SEND] = failing(("InvalidMessageContents", True))
    journal, waits = Journal(), list[float]()
    sending = send(operator, ids(3), journal, waits)
    assert (sending.sent, sending.refused, waits) == (2, {"devin-000": "InvalidMessageContents"}, [])
    assert (journal.sent, journal.in_doubt) == ({"devin-001", "devin-002"}, set())


def test_what_sqs_goes_on_failing_is_reported_in_the_end(operator: Operator, tmp_path: Path) -> None:
    operator.world.aws.faults[SEND] = failing(("InvalidMessageContents", True))
    path = tmp_path / "ids"
    ran = operator.run("enqueue", "-f", file_of(path, *ids(2)), "--json")
    assert (ran.status, ran.data["sent"], list(ran.data["refused"])) == (1, 1, ["devin-000"])
    assert path.with_name("ids.journal").exists()


def test_a_call_that_is_refused_leaves_nothing_in_doubt(operator: Operator) -> None:
    operator.world.aws.fail(SEND, "AccessDenied")
    journal = Journal()
    with pytest.raises(AwsError, match="AccessDenied"):
        send(operator, ids(3), journal)
    assert (journal.sent, journal.in_doubt) == (set(), set())


def test_a_call_that_is_refused_after_its_answer_was_lost_leaves_its_batch_in_doubt(operator: Operator) -> None:
    # Botocore tried again by itself: the first time SQS may have taken it.
    operator.world.aws.faults[SEND] = ClientError(
        {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403, "RetryAttempts": 1}},  # type: ignore[typeddict-item]
        "SendMessageBatch",
    )
    journal = Journal()
    with pytest.raises(AwsError):
        send(operator, ids(3), journal)
    assert journal.in_doubt == set(ids(3))


def test_how_many_are_in_doubt_is_told(operator: Operator) -> None:
    operator.world.aws.faults[SEND] = ConnectionClosedError(endpoint_url="https://sqs")
    ran = operator.run("enqueue", "devin-1", "devin-2")
    assert ran.status == 3
    assert "0 of 2 were sent, and 2 more may have been" in ran.err


def test_a_connection_that_breaks_leaves_its_batch_in_doubt(operator: Operator) -> None:
    operator.world.aws.faults[SEND] = ConnectionClosedError(endpoint_url="https://sqs")
    journal = Journal()
    with pytest.raises(AwsError):
        send(operator, ids(3), journal)
    assert journal.in_doubt == set(ids(3))


def test_a_run_that_failed_half_way_is_resumed_and_nothing_is_sent_twice(operator: Operator, tmp_path: Path) -> None:
    path, calls = tmp_path / "ids", count()

    def answer(_: dict[str, Any]) -> object:
        if next(calls) >= 3:  # batches are sent side by side
            operator.world.aws.fail(SEND, "AccessDenied")
            raise operator.world.aws.faults[SEND]  # type: ignore[misc]
        return None

    operator.world.aws.faults[SEND] = answer
    first = operator.run("enqueue", "-f", file_of(path, *ids(200)), "--yes")
    assert first.status == 3
    assert "30 of 200 were sent; repeat the command" in first.err
    del operator.world.aws.faults[SEND]
    second = operator.run("enqueue", "-f", str(path), "--yes", "--json")
    assert (second.status, second.data["already_sent"], second.data["sent"]) == (0, 30, 170)
    assert operator.sent() == ids(200)
    assert list(tmp_path.iterdir()) == [path], "there is nothing left to resume"


def test_a_journal_of_ones_own_is_kept_and_nothing_in_it_is_sent_again(operator: Operator, tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    operator.run("enqueue", "devin-1", "--resume", journal)
    ran = operator.run("enqueue", "devin-1", "devin-2", "--resume", journal, "--json")
    assert (ran.status, ran.data["already_sent"], ran.data["sent"]) == (0, 1, 1)
    assert operator.sent() == ["devin-1", "devin-2"]


def test_a_journal_of_other_work_is_not_resumed(operator: Operator, tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    operator.run("enqueue", "devin-1", "--resume", journal)
    ran = operator.run("enqueue", "devin-2", "--resume", journal, "--unless-updated-since", "2026-11-01")
    assert ran.status == 2
    assert operator.sent() == ["devin-1"]


def test_what_was_under_way_when_a_run_was_killed_is_sent_again_and_that_is_said(
    operator: Operator, tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    job = {"queue": operator.world.work_queue, "unless_updated_since": None}
    lines = [{"job": job}, {"sending": ["devin-1", "devin-2"]}, {"sent": ["devin-1"]}, {"sending": ["devin-3"]}]
    path.write_text("\n".join(json.dumps(line) for line in lines) + '\n{"sent": ["dev')
    ran = operator.run("enqueue", "devin-1", "devin-2", "devin-3", "--resume", str(path))
    assert "2 were under way" in ran.err
    assert operator.sent() == ["devin-2", "devin-3"]
    with open_journal(path, job) as journal:
        assert (journal.sent, journal.in_doubt) == ({"devin-1", "devin-2", "devin-3"}, set())


def test_two_runs_do_not_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with open_journal(path, JOB), pytest.raises(UsageError, match="another run"), open_journal(path, JOB):
        pass


HEADER = json.dumps({"job": JOB}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"devin-1",
        b"devin-1\n",
        b'{"sent": ["devin-1"]}\n',
        b"[]\n",
        b'{"job": 1, "more": 2}\n',
        b"\x89PNG\xff\n",
        b"\x89PNG\xff",
        HEADER + b'\n{"sent": 5}\n',
        HEADER + b'\n{"sent": [5]}\n',
        HEADER + b'\n{"sent": {"devin-1": 1}}\n',
        HEADER + b"\n\xff\n",
        HEADER + b"\n\n",
    ],
)
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="no journal"), open_journal(path, JOB):
        pass
    assert path.read_bytes() == content


@pytest.mark.parametrize("place", ["", "nowhere/journal", "/dev/null"])
def test_what_cannot_be_a_journal_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match="name another with --resume"), open_journal(tmp_path / place, JOB):
        pass


@pytest.mark.parametrize("cut", [0, 1, 20, len(HEADER)])
def test_a_run_that_was_killed_as_it_began_its_journal_is_begun_anew(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal"
    path.write_bytes(HEADER[:cut])
    with open_journal(path, JOB) as journal:
        journal.sending(["devin-1"])
    with open_journal(path, JOB) as journal:
        assert journal.in_doubt == {"devin-1"}


def test_a_line_that_was_cut_within_a_letter_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(HEADER + b'\n{"sending": ["devin-1"]}\n{"sent": ["devin-\xc3')
    with open_journal(path, JOB) as journal:
        assert (journal.sent, journal.in_doubt) == (set(), {"devin-1"})
        journal.sent_now(["devin-1"])
    assert path.read_bytes() == HEADER + b'\n{"sending": ["devin-1"]}\n{"sent": ["devin-1"]}\n'


class FullDisk(io.BytesIO):
    """Takes so many bytes more."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: Any) -> int:
        taken = bytes(data)[: self.room]
        self.room -= len(taken)
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(taken)


# A line about ten ids takes about 150 bytes.
@pytest.mark.parametrize("room", [0, 10, 500, 900])
def test_a_full_disk_ends_the_run_and_loses_nothing(operator: Operator, room: int) -> None:
    disk = FullDisk(room)
    journal = Journal(disk, Path("mine"))
    with pytest.raises(FoundError, match=r"mine cannot be written \(No space left on device\)"):
        send(operator, ids(200), journal)
    told = [json.loads(line) for line in disk.getvalue().decode().splitlines()]
    ours = {one for line in told for one in line.get("sending", [])}
    assert set(operator.sent()) <= ours, "whatever may have been sent is in the journal"
    assert journal.sent <= ours
    assert disk.getvalue() == b"" or disk.getvalue().endswith(b"\n")


def test_a_full_disk_is_told_in_a_sentence(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("infra.ops.journal.write_whole", full)
    ran = operator.run("enqueue", "devin-1", "--resume", str(tmp_path / "journal"))
    assert ran.status == 1
    assert "0 of 1 were sent" in ran.err
    assert operator.sent() == []


def test_without_any_id_nothing_is_asked_of_aws(operator: Operator) -> None:
    assert operator.run("enqueue", given="# nothing\n").status == 2
    assert operator.world.aws.calls == []
