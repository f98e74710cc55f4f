"""The templates as they are deployed: translated by SAM, with parameters and conditions worked out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any
from unittest.mock import patch

from samtranslator.translator.transform import transform  # type: ignore[import-untyped]
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from infra.environments import ROOT

TEMPLATE = ROOT / "template.yaml"
OBSERVABILITY = ROOT / "infra" / "observability.yaml"
REGION = "eu-west-1"
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackName": "cleanup",
    "AWS::URLSuffix": "amazonaws.com",
}
_NO_VALUE = object()

type Json = dict[str, Any]


def source() -> Json:
    """template.yaml as it is written, short forms of functions spelt out."""
    template: Json = yaml_parse(TEMPLATE.read_text())
    return template


def observability() -> Json:
    """infra/observability.yaml as it is written."""
    template: Json = yaml_parse(OBSERVABILITY.read_text())
    return template


def translated(template: Json) -> Json:
    """What SAM makes of a template."""
    packaged = deepcopy(template)
    # SAM CLI uploads the code first, and the translator accepts no path.
    packaged["Globals"]["Function"]["CodeUri"] = "s3://bucket/code"
    with patch.dict(os.environ, {"AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}):
        # The roles here are written out, so SAM does not ask for the ARNs of managed policies.
        plain: Json = transform(packaged, {}, None)
    return plain


def resolved(template: Json, parameters: Mapping[str, str], *, references: bool) -> Json:
    """The resources and outputs that exist with these parameters, defaults for the others.

    `Ref`, `GetAtt` and `Sub` of a resource stay as they are for a linter. With `references`, they become text: a `Ref`
    the logical id, a `GetAtt` `<logical id>.<attribute>`.
    """
    resolver = _Resolver(template, parameters, references=references)
    return {section: resolver.section(section) for section in ("Resources", "Outputs") if section in template}


class _Resolver:
    """Works out the functions that the templates use; a KeyError means that one more is used."""

    def __init__(self, template: Json, parameters: Mapping[str, str], *, references: bool) -> None:
        self._template = template
        self._parameters = {
            name: _typed(one["Type"], parameters.get(name, str(one.get("Default", name))))
            for name, one in template["Parameters"].items()
        }
        self._references = references
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Condition": self._holds,
            "Fn::And": lambda each: all(map(self.value, each)),
            "Fn::Equals": lambda both: str(self.value(both[0])) == str(self.value(both[1])),
            "Fn::GetAtt": lambda path: ".".join(path) if references else {"Fn::GetAtt": path},
            "Fn::If": lambda choice: self.value(choice[1] if self._holds(choice[0]) else choice[2]),
            "Fn::Not": lambda one: not self.value(one[0]),
            "Fn::Or": lambda each: any(map(self.value, each)),
            "Fn::Select": lambda choice: self.value(choice[1])[choice[0]],
            "Fn::Sub": self._sub,
            "Ref": self._ref,
        }

    def section(self, name: str) -> Json:
        return {
            key: {part: self.value(value) for part, value in entry.items() if part != "Condition"}
            for key, entry in self._template[name].items()
            if "Condition" not in entry or self._holds(entry["Condition"])
        }

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [one for item in node if (one := self.value(item)) is not _NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            if (name in ("Ref", "Condition") and isinstance(argument, str)) or name.startswith("Fn::"):
                return self._functions[name](argument)
        return {key: one for key, item in node.items() if (one := self.value(item)) is not _NO_VALUE}

    def _holds(self, condition: str) -> bool:
        return bool(self.value(self._template["Conditions"][condition]))

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in self._parameters:
            return self._parameters[name]
        return PSEUDO_PARAMETERS.get(name, name) if self._references else {"Ref": name}

    def _sub(self, argument: Any) -> Any:
        text, variables = (argument, {}) if isinstance(argument, str) else argument
        known = self._parameters | {name: self.value(one) for name, one in variables.items()}
        if not self._references:
            used = {name: one for name, one in known.items() if f"${{{name}}}" in text}
            return {"Fn::Sub": [text, used] if used else text}
        known |= PSEUDO_PARAMETERS | {name: name for name in self._template["Resources"]}
        return re.sub(r"\$\{([^}.]+)([^}]*)\}", lambda found: f"{known[found[1]]}{found[2]}", text)


def _typed(kind: str, text: str) -> Any:
    match kind:
        case "CommaDelimitedList":
            return [one.strip() for one in text.split(",")]
        case "Number" if text.isdigit():
            return int(text)
        case _:
            return text
