"""The stop switch: what it says, and how to turn it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.problems import code_of
from redaction import one_line

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

_REASON_CHARACTERS = 300
ABSENT = "there is no such parameter"


@dataclass(frozen=True, slots=True)
class Switch:
    """`value` as it stands in the parameter, or ABSENT, which stops the functions too."""

    value: str
    turned_at: datetime | None

    @property
    def goes(self) -> bool:
        """As the functions read it: only `go` is go."""
        return self.value.strip().lower() == "go"

    @property
    def reason(self) -> str | None:
        """Why it was thrown, if whoever did it said so."""
        if self.value == ABSENT:
            return ABSENT
        _, colon, reason = self.value.partition(":")
        return reason.strip() or None if colon and not self.goes else None

    def as_dict(self) -> dict[str, object]:
        return {
            "go": self.goes,
            "reason": self.reason,
            "since": self.turned_at and self.turned_at.isoformat(timespec="seconds"),
        }


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, as which version of the parameter. The first version made it."""

    value: str
    version: int


def name_for(stack: str) -> str:
    """What the template calls the switch, for those who may not look at the stack."""
    return f"/devin-session-cleanup/{stack}/stop-switch"


def read_switch(ssm: SSMClient, name: str) -> Switch:
    try:
        parameter = ssm.get_parameter(Name=name)["Parameter"]
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        return Switch(ABSENT, None)
    return Switch(parameter["Value"], parameter.get("LastModifiedDate"))


def value_before(ssm: SSMClient, name: str, written: Written) -> str | None:
    """What the switch said before this was written; None if that cannot be read."""
    try:
        return ssm.get_parameter(Name=f"{name}:{written.version - 1}")["Parameter"]["Value"]
    except (ClientError, BotoCoreError):
        return None


def throw(ssm: SSMClient, name: str, reason: str | None) -> Written:
    """Stop everything. The reason is kept in the value: whatever is not `go` stops."""
    # SSM would take {{…}} for a reference.
    told = one_line((reason or "").replace("{", "(").replace("}", ")"), _REASON_CHARACTERS)
    return _write(ssm, name, f"stop: {told}" if told else "stop")


def release(ssm: SSMClient, name: str) -> Written:
    return _write(ssm, name, "go")


def _write(ssm: SSMClient, name: str, value: str) -> Written:
    return Written(value, ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)["Version"])
