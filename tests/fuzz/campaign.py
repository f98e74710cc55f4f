"""Many inputs against the targets, over all cores, the same ones for the same seed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from random import Random
from types import FrameType

from tests.fuzz.checking import Finding, Target, TooSlowError, examine
from tests.fuzz.targets import TARGETS

# Inputs that share a seed; they go to one process together.
_TOGETHER = 500
# Far longer than any input takes.
_SECONDS = 30


@dataclass(slots=True)
class Tally:
    """What came of a target's inputs; `seconds` are those of all processes together."""

    inputs: int = 0
    seconds: float = 0.0
    findings: dict[str, Finding] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """One finding for each place is enough: the first."""
        self.inputs += other.inputs
        self.seconds += other.seconds
        self.findings = other.findings | self.findings


def inputs_of(target: Target, seed: int, first: int, number: int) -> Iterator[object]:
    """A target's inputs from the one with this number on."""
    rng = Random()  # noqa: S311 - not a secret
    for at in range(first, first + number):
        if at == first or at % _TOGETHER == 0:
            rng.seed(f"{seed}/{target.name}/{at // _TOGETHER}")
        yield target.generate(rng)


def tally(target: Target, inputs: Iterable[object]) -> Tally:
    """Check the inputs one by one."""
    found = Tally()
    started = time.monotonic()
    for given in inputs:
        finding = examine(target, given, found.findings)
        found.inputs += 1
        if finding is not None:
            found.findings.setdefault(finding.where, finding)
    found.seconds = time.monotonic() - started
    return found


def _watched(inputs: Iterable[object]) -> Iterator[object]:
    """Each input with an alarm that goes off if it takes far too long."""

    def too_slow(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise TooSlowError(f"took longer than {_SECONDS} s")

    signal.signal(signal.SIGALRM, too_slow)
    for given in inputs:
        signal.alarm(_SECONDS)
        yield given
    signal.alarm(0)


def _share(name: str, seed: int, first: int, number: int) -> Tally:
    target = TARGETS[name]
    return tally(target, _watched(inputs_of(target, seed, first, number)))


def divided(names: Iterable[str], inputs: int) -> dict[str, int]:
    """How many inputs each target gets: so many for each that is `whole`, and so many more for all others together, by
    their weights."""
    chosen = [TARGETS[name] for name in names]
    weights = sum(target.weight for target in chosen if not target.whole)
    return {target.name: inputs if target.whole else max(1, inputs * target.weight // weights) for target in chosen}


def run(names: Iterable[str], inputs: int, seed: int, jobs: int | None = None) -> Iterator[tuple[str, Tally]]:
    """Inputs as `divided` says; each target's tally when it is whole."""
    with ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        for name, number in divided(names, inputs).items():
            shares = [
                pool.submit(_share, name, seed, first, min(_TOGETHER, number - first))
                for first in range(0, number, _TOGETHER)
            ]
            whole = Tally()
            for share in shares:
                whole.add(share.result())
            yield name, whole
