"""This project with log lines as `json.dumps` makes them unless told otherwise: a space after each comma and colon."""

from __future__ import annotations

import json
from typing import Any

from terminate import handler


def _spaced(fields: dict[str, Any]) -> str:
    return handler.redact(json.dumps(fields, default=str))


handler.logger.registered_formatter.json_serializer = _spaced  # type: ignore[attr-defined]
lambda_handler = handler.lambda_handler
