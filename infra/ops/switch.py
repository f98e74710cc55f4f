"""The stop switch: what it says, and how to turn it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from redaction import one_line

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

_REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Switch:
    """`value` as it stands in the parameter."""

    value: str
    turned_at: datetime | None

    @property
    def goes(self) -> bool:
        """As the functions read it: only `go` is go."""
        return self.value.strip().lower() == "go"

    @property
    def reason(self) -> str | None:
        """Why it was thrown, if whoever did it said so."""
        _, colon, reason = self.value.partition(":")
        return reason.strip() or None if colon and not self.goes else None

    def as_dict(self) -> dict[str, object]:
        return {
            "go": self.goes,
            "reason": self.reason,
            "since": self.turned_at and self.turned_at.isoformat(timespec="seconds"),
        }


def read_switch(ssm: SSMClient, name: str) -> Switch:
    parameter = ssm.get_parameter(Name=name)["Parameter"]
    return Switch(parameter["Value"], parameter.get("LastModifiedDate"))


def throw(ssm: SSMClient, name: str, reason: str | None) -> None:
    """Stop everything. The reason is kept in the value: whatever is not `go` stops."""
    # SSM would take {{…}} for a reference.
    told = one_line((reason or "").replace("{", "(").replace("}", ")"), _REASON_CHARACTERS)
    _write(ssm, name, f"stop: {told}" if told else "stop")


def release(ssm: SSMClient, name: str) -> None:
    _write(ssm, name, "go")


def _write(ssm: SSMClient, name: str, value: str) -> None:
    ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)
