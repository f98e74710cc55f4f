"""`make fuzz GUIDED=<target>`: Atheris looks for inputs that reach new code, where `tests.fuzz` only throws dice.

Its bytes decide what the target's own generator chooses, so that what it mutates is structure. Runs in an environment
of its own, until it is interrupted, has found something, or has done `-runs=<n>`; other options are libFuzzer's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]
# Only what is under test is watched: its branches are the ones to be reached.
with atheris.instrument_imports(include=["terminate", "sweep", "devin", "instant", "redaction", "retry", "settings"]):
    from tests.fuzz.checking import Target, examine
    from tests.fuzz.sources import BytesAsChoices
    from tests.fuzz.targets import TARGETS


class FoundError(Exception):
    """The message is the finding."""


def watch(target: Target) -> None:
    """Does not return."""

    def one(data: bytes) -> None:
        finding = examine(target, target.generate(BytesAsChoices(data)))
        if finding is not None:
            raise FoundError(str(finding))

    # Inputs that reached something new are kept from one run to the next, and out of the repository.
    corpus = ROOT / ".fuzz" / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    options = ["-max_len=4096", f"-artifact_prefix={corpus}{os.sep}", *sys.argv[2:]]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == [] or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: guided.py <target> [libFuzzer options]; targets: {', '.join(TARGETS)}")
    watch(TARGETS[sys.argv[1]])
