"""How the tests share processes, and how many examples the property tests try."""

import os
import signal
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# The gate tries the same examples every time; `make fuzz` tries new ones, and forty times as many.
settings.register_profile("gate", max_examples=50, derandomize=True, deadline=None, database=None)
settings.register_profile("long", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))

# A shell that starts the gate in the background has it ignore Ctrl-C, and with it every command that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _OneStack(config, log)


class _OneStack(LoadScopeScheduling):  # type: ignore[misc]
    """One process runs all tests of the stack, so that there is only one; other files go to any free process."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return (
            "the stack" if path.startswith("tests/integration/") and not path.endswith("test_sam_deploy.py") else path
        )
