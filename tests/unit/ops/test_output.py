"""What is printed where: rows in pipes, tables in terminals, and nothing that is not what it looks like."""

import re
from itertools import count

import pytest

from infra.ops.output import Output, visible
from tests.unit.ops.terminal import in_pipe, in_terminal, into
from tests.unit.ops.world import Operator

IDS = [f"devin-{number:032x}" for number in (10, 11)]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def letters(operator: Operator) -> Operator:
    """Two dead letters with long ids and details."""
    for one in IDS:
        detail = "the session has exited and so cannot be terminated by anybody"
        operator.dead_letter(one, reason="rejected_422", session_id=one, detail=detail)
    return operator


@pytest.mark.usefixtures("letters")
def test_in_a_pipe_each_item_is_a_row_with_tabs_whatever_force_color_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("COLUMNS", "40")
    status, said = in_pipe("dead-letters", "list")
    rows = [line.split("\t") for line in said.splitlines() if "\t" in line]
    assert status == 0
    assert [row[2] for row in rows] == IDS
    assert len({len(row) for row in rows}) == 1
    assert "\x1b" not in said


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize("columns", [40, 80, 120])
def test_in_a_terminal_ids_are_whole_and_the_rest_gives(columns: int) -> None:
    status, screen = in_terminal("dead-letters", "list", columns=columns)
    lines = ESCAPES.sub("", screen).splitlines()
    assert status == 0
    rows = [next(line for line in lines if one in line) for one in IDS]
    if columns > 40:
        assert all(len(row) <= columns for row in rows)
    assert "exited" in screen


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("ok", "ok"),
        ("[red]x[/red] [a]b \\[", "[red]x[/red] [a]b \\["),
        ("devin-1\u200b", r"devin-1\u200b"),
        ("\x1b[2Jgone\x07", r"\x1b[2Jgone\x07"),
        ("a\u00a0b\u202ec", r"a\xa0b\u202ec"),
        ("a\tb\nc", r"a\tb\nc"),
        ("\ud800\u3164", r"\ud800\u3164"),
        ("Grüße 会話 🙂", "Grüße 会話 🙂"),
        ("key apk_0123456789", "key [redacted]"),
    ],
)
def test_text_from_outside_is_shown_as_it_is(given: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=False)
    output.say(given)
    output.warn(given)
    output.table("", ("one", "two"), [(given, "end")])
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [shown, f"{shown}\tend"]
    assert printed.err.splitlines() == [shown]
    assert visible(visible(given)) == visible(given)


def test_a_full_disk_ends_with_a_sentence(operator: Operator) -> None:
    operator.dead_letter("devin-1")
    for arguments in (("dead-letters", "list"), ("--help",), ("status", "--json")):
        status, said = into("/dev/full", *arguments)
        assert (status, "Traceback" in said) == (1, False)
        assert "cannot be written: No space left on device" in said


@pytest.mark.usefixtures("operator")
def test_sending_in_a_terminal_shows_a_bar() -> None:
    status, screen = in_terminal("enqueue", "devin-1", "devin-2")
    assert status == 0
    assert "sending" in screen
    assert "2 sent to the work queue" in screen


def test_progress_without_a_terminal_is_a_line_with_a_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = count()
    monkeypatch.setattr("infra.ops.output.time.monotonic", lambda: next(seconds))
    assert list(Output(as_json=True).progress("sending", range(12))) == list(range(12))
    assert capsys.readouterr().err.splitlines() == [
        "sending: 4 of 12, 0.8/s, about 10 s left",
        "sending: 9 of 12, 0.9/s, about 3 s left",
    ]
