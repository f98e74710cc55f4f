"""What the checks of `doctor` find."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """From best to worst."""

    OK = "ok"
    WARNING = "warning"
    # It could not be checked.
    UNKNOWN = "unknown"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` says what to do unless the status is ok."""

    check: str
    status: Status
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Status.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Status.WARNING, found, remedy)


def verdict(check: str, *, good: bool, found: str, remedy: str) -> Finding:
    return ok(check, found) if good else failed(check, found, remedy)


def unknown(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Status.UNKNOWN, found, remedy)


def failed(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Status.FAILED, found, remedy)
