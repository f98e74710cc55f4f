"""The stop switch: reading and writing it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.problems import code_of
from infra.ops.time_args import iso
from redaction import one_line

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

ABSENT = "there is no such parameter"
_REASON_CHARACTERS = 300
_VALUE_CHARACTERS = 1500  # SSM takes 4,096 bytes
# Written behind the first reason when a second is added: SSM keeps only the time of the last change.
_SINCE = re.compile(r" \((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\)")


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
        """Why it was thrown, if a reason was given."""
        if self.value == ABSENT:
            return ABSENT
        reason = _SINCE.sub("", self.value, count=1).partition(":")[2].strip()
        return None if self.goes else reason or None

    @property
    def since(self) -> str | None:
        """When it was thrown first."""
        if found := _SINCE.search(self.value):
            return found[1]
        return iso(self.turned_at) if self.turned_at else None

    def as_dict(self) -> dict[str, object]:
        return {"go": self.goes, "reason": self.reason, "since": self.since}


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, as which version of the parameter. The first version made it."""

    value: str
    version: int


def read_switch(ssm: SSMClient, name: str) -> Switch:
    try:
        parameter = ssm.get_parameter(Name=name)["Parameter"]
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        return Switch(ABSENT, None)
    return Switch(parameter["Value"], parameter.get("LastModifiedDate"))


def switch_before(ssm: SSMClient, name: str, written: Written) -> Switch | None:
    """What the switch said before this was written; None if there was none or it cannot be read."""
    with suppress(ClientError, BotoCoreError):
        before = read_switch(ssm, f"{name}:{written.version - 1}")
        return before if before.value != ABSENT else None
    return None


def throw(ssm: SSMClient, name: str, reason: str | None) -> Written:
    """Stop everything. The reason is part of the value: all but `go` stops."""
    # SSM would take {{…}} for a reference.
    shown = one_line((reason or "").replace("{", "(").replace("}", ")"), _REASON_CHARACTERS)
    return write(ssm, name, f"stop: {shown}" if shown else "stop")


def keep_first(ssm: SSMClient, name: str, before: Switch, written: Written) -> Written:
    """After a second stop: the first reason and its time, with the second reason behind them."""
    first, second = before.value, Switch(written.value, None).reason
    if not _SINCE.search(first):
        first = f"{first if before.reason else 'stop: no reason given'} ({before.since or 'at an unknown time'})"
    return write(ssm, name, one_line(f"{first}; {second}" if second else first, _VALUE_CHARACTERS))


def write(ssm: SSMClient, name: str, value: str) -> Written:
    try:
        return _put(ssm, name, value)
    except ssm.exceptions.ParameterMaxVersionLimitExceeded:
        # SSM keeps a hundred versions and deletes the oldest for a new one, unless it carries a label.
        pages = ssm.get_paginator("get_parameter_history").paginate(Name=name)
        oldest = min((one for page in pages for one in page["Parameters"]), key=lambda one: one["Version"])
        labels = oldest.get("Labels", [])
        ssm.unlabel_parameter_version(Name=name, ParameterVersion=oldest["Version"], Labels=labels)
        return _put(ssm, name, value)


def _put(ssm: SSMClient, name: str, value: str) -> Written:
    return Written(value, ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)["Version"])
