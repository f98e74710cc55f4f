"""This project without its log lines and metrics."""

from __future__ import annotations

from terminate import handler


def _nothing(*_: object, **__: object) -> None:
    pass


handler.report = _nothing  # type: ignore[attr-defined]
lambda_handler = handler.lambda_handler
