"""Ids as an operator brings them, and times as an operator writes them."""

from datetime import timedelta

import pytest

from infra.ops.ids import Given, from_csv, from_lines
from infra.ops.problems import UsageError
from infra.ops.time_args import parse_time
from tests.unit.world import NOW


def test_lines_are_read_without_comments_and_blanks_and_keep_their_numbers() -> None:
    assert from_lines(["# mine\n", "\n", "  devin-1 \r\n", "devin-2"]) == [Given(3, "devin-1"), Given(4, "devin-2")]


def test_a_column_of_a_csv_is_found_by_its_name() -> None:
    rows = ["name, session id\n", '"Ann, B",devin-1\n', "\n", "short\n"]
    assert from_csv(rows, "session id") == [Given(2, "devin-1"), Given(4, "")]


@pytest.mark.parametrize(
    ("column", "says"), [("id", "no column"), ("1", "no column"), ("9" * 5000, "no column"), ("b", "2 columns 'b'")]
)
def test_a_column_that_is_not_there_or_is_there_twice_is_refused(column: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        from_csv(["a,b,b\n", "devin-1,x,y\n"], column)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_csv_is_found(delimiter: str) -> None:
    rows = [["who, or what", "session"], ["Ann; B|C, D", "devin-1"]]
    # A text that holds a delimiter stands in quotes, as spreadsheets write it.
    lines = [delimiter.join(f'"{text}"' if len(text) > 8 else text for text in row) + "\n" for row in rows]
    assert [one.text for one in from_csv(lines, "session")] == ["devin-1"]


def test_a_quote_that_is_never_closed_swallows_nothing() -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        from_csv(["id,note\n", 'devin-1,"so\n', "devin-2,x\n"], "id")


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("+2h", timedelta(hours=2)),
        ("+1d12h", timedelta(hours=36)),
        ("+90m", timedelta(minutes=90)),
        ("2026-11-24T18:00:00+01:00", timedelta(hours=7)),
    ],
)
def test_a_time_counts_from_now_or_has_a_zone(text: str, after: timedelta) -> None:
    assert parse_time(text, NOW) == NOW + after


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-12-01T18:00:00", "no zone"),
        ("2026-11-24T09:59:59Z", "is over"),
        ("+0h", "is over"),
        ("+", "no time"),
        ("tonight", r"no time; .*or \+2h"),
        ("9999-12-31T23:59:59-01:00", "outside the years"),
        ("0001-01-01T00:00:00+01:00", "outside the years"),
    ],
)
def test_a_time_that_will_not_do_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_time(text, NOW)
