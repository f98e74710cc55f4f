"""The template with the layer for gradual deployments over it."""

from __future__ import annotations

from pathlib import Path

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from infra import gradual
from tests.template.rendered import ROOT, TEMPLATE, Json, Stack, render, source


def layered_source(deployment: str = "0a1b-7-1") -> Json:
    """As it is handed to `sam deploy`."""
    return gradual.gradual(source(), yaml_parse(gradual.OVERLAY.read_text(encoding="utf-8")), deployment)


def layered(deployment: str = "0a1b-7-1", **parameters: str) -> Stack:
    """What CloudFormation makes of it."""
    return render(layered_source(deployment), **parameters)


def written(to: Path) -> Path:
    """As the command writes it, in a directory of its own, with what it names beside it."""
    gradual.write(TEMPLATE, "0a1b-7-1", to / "gradual.json")
    for name in ("functions", "infra"):
        (to / name).symlink_to(ROOT / name)
    return to / "gradual.json"
