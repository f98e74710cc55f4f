"""What the checks of `doctor` find."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """From what is best to what is worst."""

    OK = "ok"
    WARNING = "warning"
    # It could not be looked at.
    UNKNOWN = "unknown"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `remedy` says what to do unless all is well."""

    check: str
    status: Status
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"check": self.check, "status": self.status.value, "found": self.found, "remedy": self.remedy}


def worst(findings: Iterable[Finding]) -> Status:
    statuses = {finding.status for finding in findings}
    return next((status for status in reversed(Status) if status in statuses), Status.OK)


def is_blind(findings: Iterable[Finding]) -> bool:
    """Whether nothing could be looked at, but for what CloudFormation says of the stack."""
    return all(finding.status is Status.UNKNOWN for finding in findings if finding.check != "stack")
