"""Messages deleted once a copy of each is in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import Any

from infra.ops.dlq import Message, Peek
from infra.ops.problems import UsageError
from infra.ops.sending import BATCH


def delete_all(look: Peek, messages: Sequence[Message], copy: Path, warn: Callable[[str], object]) -> None:
    """Delete messages that were saved. If not all are deleted, `warn` gets how many are. Raises FoundError if the look
    has lasted too long, AwsError if SQS does not delete all."""
    deleted = 0
    try:
        for some in batched(messages, BATCH, strict=False):
            gone, problem = look.delete(some)
            deleted += gone
            if problem is not None:
                raise problem
    finally:
        if deleted < len(messages):
            warn(f"{deleted} of {len(messages)} were deleted; the others are still there. A copy of all is in {copy}")


def save(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A line of JSON for each. Every line is on the disk in the end, or there is no file. Raises UsageError."""
    refusal = f"{path} cannot be written ({{}}), so nothing was deleted; see --to"
    try:
        # Never over another file. For its owner alone: bodies are whatever somebody sent.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(refusal.format(error.strerror)) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UsageError(refusal.format(error.strerror)) from None
        raise
