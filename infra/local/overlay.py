"""What is changed in the built templates for this machine, so that they need not allow for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

NAME = "local.json"
# The emulator knows neither saved queries nor alarms on metric math.
_UNSUPPORTED_TYPE, _UNSUPPORTED_PROPERTY = "AWS::Logs::QueryDefinition", "Metrics"
# The first step of the backoff, so that what is retried is back within seconds.
_RETRY_BASE_SECONDS = "1"


def write(built: Path) -> None:
    """Write each template of a build a second time, as it is deployed here."""
    for path in (built / "template.yaml", *built.glob("*/template.yaml")):
        adapted = _adapt(yaml.safe_load(path.read_text(encoding="utf-8")))
        path.with_name(NAME).write_text(json.dumps(adapted), encoding="utf-8")


def _adapt(template: dict[str, Any]) -> dict[str, Any]:
    resources = {}
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == _UNSUPPORTED_TYPE or _UNSUPPORTED_PROPERTY in properties:
            continue
        if resource["Type"] == "AWS::CloudFormation::Stack":
            properties["TemplateURL"] = str(Path(properties["TemplateURL"]).with_name(NAME))
        resources[name] = resource
    if "Globals" in template:
        template["Globals"]["Function"]["Environment"]["Variables"]["RETRY_BASE_SECONDS"] = _RETRY_BASE_SECONDS
    return {**template, "Resources": resources}
