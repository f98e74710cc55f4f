"""What the API says of an error."""

import json
from typing import Any


def error_detail(body: bytes) -> str | None:
    """FastAPI's `detail` (a text, or a list of complaints), a problem of RFC 9457, or else the body; None if empty."""
    fields = parse_json(body)
    if isinstance(fields, dict):
        detail = fields.get("detail")
        if isinstance(detail, list):
            return "; ".join(_complaint(item) for item in detail) or None
        told = [text for text in (fields.get("title"), detail) if isinstance(text, str) and text]
        if told:
            return ": ".join(told)
    return body.decode("utf-8", "replace").strip() or None


def _complaint(item: object) -> str:
    if not isinstance(item, dict):
        return str(item)
    location, message = item.get("loc"), str(item.get("msg", ""))
    where = ".".join(str(part) for part in location) if isinstance(location, list) else ""
    return f"{where}: {message}" if where else message


def parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
