"""What the benchmark reckons with and writes; no test measures time."""

from __future__ import annotations

import pytest

from tests.bench.bill import million
from tests.bench.report import Goal, Table, document


def test_the_document_says_which_goals_are_met() -> None:
    text = document(
        [Goal("speed", 1, 1.0), Goal("size", 7, 7.2)], [Table("Times", "Of one run.", ["", "ms"], [["a", "1"]])]
    )
    assert "| speed | 1.00 | 1.00 | met |" in text
    assert "| size | 7.00 | 7.20 | **not met** |" in text
    assert text.endswith("## Times\n\nOf one run.\n\n|  | ms |\n| --- | ---: |\n| a | 1 |\n")


def test_a_million_ids_are_billed_by_what_they_use() -> None:
    cheap, dear = million(0.001, 500, 0.5), million(0.002, 1000, 0.5)
    assert dear["compute"] - cheap["compute"] == pytest.approx(1e6 * 0.001 * 1769 / 512 * 0.5 * 0.0000133334)
    assert dear["logs"] > cheap["logs"]
    assert cheap["requests of SQS: send, receive, delete"] == pytest.approx(1.2)
