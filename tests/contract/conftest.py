"""These tests speak real HTTP over real sockets, to this machine alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.fake_devin import FakeDevin
from tests.contract.keys import V1_KEY, V3_KEY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Given before any fixture is set up, so that fixtures of a whole module may connect too."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.allow_hosts(["127.0.0.1"]))


@pytest.fixture
def api() -> Iterator[FakeDevin]:
    """A fake API without sessions that knows one key of each version."""
    with FakeDevin(keys=[V1_KEY, V3_KEY]) as fake:
        yield fake
