"""How `make test` shares the tests among processes."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _OneStack(config, log)


class _OneStack(LoadScopeScheduling):  # type: ignore[misc]
    """One process runs all tests of the stack, so that there is one; every other file is run by whoever is free."""

    def _split_scope(self, nodeid: str) -> str:
        return "the stack" if nodeid.startswith("tests/integration/") else nodeid.partition("::")[0]
