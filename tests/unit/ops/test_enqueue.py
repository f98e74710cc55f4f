"""`enqueue`: each id is sent, or it is said why not."""

import os
import signal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from tests.unit.ops.world import STACK, Operator

SEND = "sqs.SendMessageBatch"
UUID = "0b4e28ba-2fa1-11d2-883f-0016d3cca427"


def ids(number: int) -> list[str]:
    return [f"devin-{one:03}" for one in range(number)]


def test_each_id_is_a_message_of_its_own_with_its_condition(operator: Operator) -> None:
    condition = ("--unless-updated-since", "2024-11-01T01:00:00+01:00")
    ran = operator.run("enqueue", "devin-1", "devin-2", "devin-1", *condition, "--json")
    assert (ran.status, ran.data["sent"], ran.data["repeats"]) == (0, 2, 1)
    assert operator.world.enqueued() == [
        {"session_id": one, "unless_updated_since": "2024-11-01T00:00:00+00:00"} for one in ("devin-1", "devin-2")
    ]


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("2024-11-01T00:00:00", "no zone"),
        ("2024-11-01", "no zone"),
        ("2099-01-01T00:00:00Z", "in the future"),
        ("2023-12-31T23:59:59Z", "before 2024"),
        ("1700000000000", "no time"),
        ("20241101T000000Z", "not an ISO 8601"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(operator: Operator, condition: str, says: str) -> None:
    ran = operator.run("enqueue", "devin-1", "--unless-updated-since", condition)
    assert (ran.status, operator.sent()) == (2, [])
    assert says in ran.err


def test_watching_counts_dead_letters_from_before_the_first_message(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.ops.commands.following.EVERY_SECONDS", 0)
    monkeypatch.setattr("infra.ops.commands.following.SETTLE_SECONDS", 0)
    operator.dead_letter("devin-before")

    def lose(_: dict[str, Any]) -> object:
        operator.dead_letter("devin-1")
        return {"Successful": [{"Id": "0", "MessageId": "x", "MD5OfMessageBody": "x"}]}

    operator.world.aws.faults[SEND] = lose
    ran = operator.run("enqueue", "devin-1", "--watch", "--json")
    assert (ran.status, ran.data["watch"]["drained"], ran.data["watch"]["new_dead_letters"]) == (1, True, 1)
    assert "of 1 sent" in ran.err


@pytest.mark.parametrize("arguments", [(), ("-",), ("--file", "-")])
def test_a_pipe_is_read(operator: Operator, arguments: tuple[str, ...]) -> None:
    assert operator.run("enqueue", *arguments, given="devin-1\ndevin-2\n").status == 0
    assert operator.sent() == ["devin-1", "devin-2"]


@pytest.mark.parametrize(("encoding", "form"), [("utf-8", "@{}"), ("utf-8-sig", "--file={}"), ("utf-16", "--file={}")])
def test_a_file_is_read_as_windows_writes_it_too(operator: Operator, tmp_path: Path, encoding: str, form: str) -> None:
    (tmp_path / "ids").write_bytes("devin-1\r\n".encode(encoding))
    assert operator.run("enqueue", form.format(tmp_path / "ids")).status == 0
    assert operator.sent() == ["devin-1"]


@pytest.mark.parametrize(
    ("line", "shown", "why"),
    [
        ("DEVIN-1", "DEVIN-1", "upper case"),
        (UUID, UUID, "a UUID"),
        ("http://app.devin.ai/x", "http://app.devin.ai/x", "an address, but not https://"),
        ("devin-1\u200b", r"devin-1\u200b", r"a character that is not ASCII, or invisible: '\u200b'"),
        ("devin\x07-1", r"devin\x07-1", r"a character that is not ASCII, or invisible: '\x07'"),
        ("devin\u20111", r"devin\u20111", r"a character that is not ASCII, or invisible: '\u2011'"),
        ('["devin-1",', '["devin-1",', "JSON"),
        ("devin-1 devin-2", "devin-1 devin-2", "more than one word"),
        ("devin-1/../x", "devin-1/../x", "an id is devin-"),
        ('""', '""', "empty"),
        ("[red]x[/red]", "[red]x[/red]", "JSON"),
    ],
)
def test_a_line_that_is_no_id_keeps_all_from_being_sent_and_is_shown_with_its_reason(
    operator: Operator, line: str, shown: str, why: str
) -> None:
    ran = operator.run("enqueue", "--json", given=f"devin-1\n\n{line}\n")
    assert (ran.status, ran.out, operator.sent()) == (2, "", [])
    assert f"line 3: {shown}\n    {why}" in ran.err


def test_latin_1_is_said_with_its_line(operator: Operator) -> None:
    ran = operator.run("enqueue", given=b"devin-1\n# \xe9t\xe9\n")
    assert (ran.status, operator.sent()) == (2, [])
    assert "line 2 has the byte 0xe9, as in Latin-1; convert it: iconv -f LATIN1 -t UTF-8\n" in ran.err


def test_what_is_unambiguous_is_read_and_said(operator: Operator) -> None:
    lines = ['"devin-1",', "devin-2;", "'devin-3'", "https://app.devin.ai/sessions/devin-4?tab=1", "A" * 32]
    ran = operator.run("enqueue", given="\n".join(lines))
    assert (ran.status, operator.sent()) == (0, ["devin-1", "devin-2", "devin-3", "devin-4", f"devin-{'a' * 32}"])
    assert "3 ids were read without the quotes or comma around them" in ran.out
    assert "1 id was read from their addresses" in ran.out
    assert "1 id was read in lower case" in ran.out


def test_invalid_ids_can_be_left_out(operator: Operator) -> None:
    ran = operator.run("enqueue", "--skip-invalid", "--json", given="devin-1\nnope\n")
    assert (ran.status, ran.data["invalid"], operator.sent()) == (0, [2], ["devin-1"])


def test_a_dry_run_sends_nothing_and_asks_nothing_of_aws(operator: Operator) -> None:
    ran = operator.run("enqueue", "--dry-run", "--json", given="\n".join(ids(30)))
    assert (ran.status, ran.data["would_send"], operator.world.aws.calls) == (0, ids(30), [])
    assert operator.run("enqueue", given="# nothing\n").status == 2
    assert "argument 2: nope" in operator.run("enqueue", "devin-1", "nope").err
    assert operator.world.aws.calls == []


def test_many_are_not_sent_unless_somebody_says_so(operator: Operator) -> None:
    ran = operator.run("enqueue", given="\n".join(ids(21)))
    assert (ran.status, operator.sent()) == (2, [])
    assert f"account 123456789012, eu-west-1, stack {STACK}: Terminate 21 sessions?" in ran.err.replace("\n", " ")


def test_what_sqs_refuses_is_said_with_its_reason(operator: Operator) -> None:
    operator.world.aws.faults[SEND] = lambda given: {
        "Successful": [{"Id": one["Id"], "MessageId": "x", "MD5OfMessageBody": "x"} for one in given["Entries"][1:]],
        "Failed": [{"Id": "0", "Code": "InvalidMessageContents", "SenderFault": True}],
    }
    ran = operator.run("enqueue", *ids(3), "--json")
    assert (ran.status, ran.data["sent"]) == (1, 2)
    assert ran.data["refused"] == {"devin-000": "sending to the work queue: InvalidMessageContents"}


@pytest.mark.parametrize("how", ["Ctrl-C", "no connection"])
def test_a_run_that_is_cut_short_says_how_many_were_sent_and_can_be_repeated(operator: Operator, how: str) -> None:
    calls = count()

    def answer(_: dict[str, Any]) -> object:
        number = next(calls)  # batches are sent side by side
        if number == 3 and how == "Ctrl-C":
            os.kill(os.getpid(), signal.SIGINT)
        elif number >= 3 and how == "no connection":
            raise ConnectionClosedError(endpoint_url="https://sqs")
        return None

    operator.world.aws.faults[SEND] = answer
    ran = operator.run("enqueue", "--yes", given="\n".join(ids(60)))
    assert ran.status == (130 if how == "Ctrl-C" else 3)
    sent = len(operator.sent())
    assert sent < 60
    assert f"{sent} of 60 were sent; repeat the command" in ran.err
    del operator.world.aws.faults[SEND]
    assert operator.run("enqueue", "--yes", "--json", given="\n".join(ids(60))).data["sent"] == 60
    assert operator.sent() == ids(60)
