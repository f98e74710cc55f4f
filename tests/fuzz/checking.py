"""What a target is, and how a finding is made small."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """Something to be fuzzed. `generate` makes an input, a value that `repr` can write down; `check` raises whatever
    it likes if the input shows a mistake. `weight`: its part of the inputs that targets share in a campaign; one that
    is `whole` shares with nobody."""

    name: str
    generate: Callable[[Random], Any]
    check: Callable[[Any], None]
    weight: int = 1
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that showed a mistake, and as small a one as shows the same."""

    target: str
    given: Any
    smallest: Any
    error: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.error}\n    TARGETS[{self.target!r}].check({self.smallest!r})"


class TooSlowError(BaseException):
    """An input took longer than anything should. No Exception: code under test must not swallow it."""


def trial(target: Target, given: Any) -> tuple[str, str] | None:
    """Where it went wrong, and how, if it does."""
    try:
        target.check(given)
    except (Exception, TooSlowError) as error:  # noqa: BLE001 - whatever it is, it is a finding
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{frame.filename}:{frame.lineno}", f"{type(error).__name__}: {error}"[:1000]
    return None


def examine(target: Target, given: Any, known: Container[str] = ()) -> Finding | None:
    """Check an input; a finding comes with the smallest input that goes wrong at the same place. What goes wrong at
    a place that is known is none."""
    failed = trial(target, given)
    if failed is None or failed[0] in known:
        return None
    return Finding(target.name, given, *_smallest(target, given, failed))


def _smallest(target: Target, given: Any, failed: tuple[str, str], tries: int = 2000) -> tuple[Any, str, str]:
    where, error = failed
    better = True
    while better and tries > 0:
        better = False
        for smaller in _smaller(given):
            tries -= 1
            again = trial(target, smaller)
            if again is not None and again[0] == where:
                given, error, better = smaller, again[1], True
                break
            if tries <= 0:
                break
    return given, error, where


def _smaller(value: Any) -> Iterator[Any]:
    """Simpler values of the same type, the boldest first."""
    match value:
        case str() | bytes():
            yield from _shorter(value)
        case list():
            yield from (value[:at] + value[at + 1 :] for at in range(len(value)))
            for at, one in enumerate(value):
                yield from ([*value[:at], smaller, *value[at + 1 :]] for smaller in _smaller(one))
        case dict():
            yield from ({other: one for other, one in value.items() if other != name} for name in value)
            for name, one in value.items():
                yield from (value | {name: smaller} for smaller in _smaller(one))
        case int() | float() if value:
            yield type(value)(0)
        case _:
            pass


def _shorter(value: Any) -> Iterator[Any]:
    """Without one of its halves, quarters or characters."""
    for size in (len(value), len(value) // 2, len(value) // 4, 1):
        if size:
            yield from (value[:at] + value[at + size :] for at in range(0, len(value), size))
