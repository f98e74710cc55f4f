"""What is changed in the built templates for this machine, so that they need not allow for it."""

from __future__ import annotations

from typing import Any

# The emulator knows neither saved queries nor alarms on metric math.
_UNSUPPORTED_TYPE, _UNSUPPORTED_PROPERTY = "AWS::Logs::QueryDefinition", "Metrics"
# The first step of the backoff, so that what is retried is back within seconds.
_RETRY_BASE_SECONDS = "1"


def adapt(template: dict[str, Any]) -> dict[str, Any]:
    """A built template, template.yaml or a nested one, as it is deployed here."""
    resources = {
        name: one
        for name, one in template["Resources"].items()
        if one["Type"] != _UNSUPPORTED_TYPE and _UNSUPPORTED_PROPERTY not in one.get("Properties", {})
    }
    adapted = {**template, "Resources": resources}
    if "Globals" in template:
        template["Globals"]["Function"]["Environment"]["Variables"]["RETRY_BASE_SECONDS"] = _RETRY_BASE_SECONDS
    return adapted
