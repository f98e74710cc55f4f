"""docs/faults.md: as the markers on the tests say, and with a test for each row."""

from __future__ import annotations

from tests import faults


def test_the_page_is_what_the_markers_say() -> None:
    assert faults.PAGE.read_text(encoding="utf-8") == faults.page(), "run `make faults`"


def test_every_fault_has_a_test() -> None:
    assert {row for row, _, _ in faults.covered()} == set(faults.FAULTS)
