"""docs/faults.md: as the markers on the tests say, and with a test for each row."""

from tests import faults


def test_the_page_is_what_the_markers_say() -> None:
    assert faults.PAGE.read_text(encoding="utf-8") == faults.page(), "run `make faults`"
