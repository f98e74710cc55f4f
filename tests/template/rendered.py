"""The template as it is deployed: what SAM makes of it, with parameters, conditions and functions worked out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from samtranslator.translator.transform import transform  # type: ignore[import-untyped]
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "template.yaml"
REGION = "eu-west-1"
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackName": "cleanup",
    "AWS::URLSuffix": "amazonaws.com",
}
_NO_VALUE = object()

Json = dict[str, Any]


class _NoManagedPolicies:
    """SAM asks for their ARNs when a function names some; the roles here are written out."""

    def load(self) -> dict[str, str]:
        raise AssertionError("the template relies on a managed policy")


@dataclass(frozen=True)
class Stack:
    """A rendered template: `resources` and `outputs` by logical id, without those whose condition is false.

    `Ref` of a resource is its logical id, `GetAtt` is `<logical id>.<attribute>`.
    """

    resources: dict[str, Json]
    outputs: dict[str, Json]

    def of_type(self, kind: str) -> dict[str, Json]:
        """The properties of every resource of a type, by logical id."""
        return {name: one.get("Properties", {}) for name, one in self.resources.items() if one["Type"] == kind}

    def only(self, kind: str) -> Json:
        """The properties of the one resource of a type."""
        (properties,) = self.of_type(kind).values()
        return properties


def source() -> Json:
    """The template as it is written, short forms of functions spelt out."""
    template: Json = yaml_parse(TEMPLATE.read_text())
    return template


def render(template: Json | None = None, /, **parameters: str) -> Stack:
    """Render a template, template.yaml unless said, with these parameters, defaults for the others."""
    packaged = deepcopy(template) if template else source()
    # SAM CLI uploads the code first, and SAM takes nothing else than the address it got.
    packaged["Globals"]["Function"]["CodeUri"] = "s3://bucket/code"
    with patch.dict(os.environ, {"AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}):
        plain = transform(packaged, {}, _NoManagedPolicies())
    values = {name: parameters.get(name, str(one["Default"])) for name, one in plain["Parameters"].items()}
    renderer = _Renderer(plain, values)
    return Stack(
        resources={name: renderer.value(one) for name, one in plain["Resources"].items() if renderer.exists(one)},
        outputs={name: renderer.value(one) for name, one in plain["Outputs"].items() if renderer.exists(one)},
    )


class _Renderer:
    """Works out the functions that the template uses; a KeyError means that it uses one more."""

    def __init__(self, template: Json, parameters: dict[str, str]) -> None:
        self._template = template
        self._parameters = parameters
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Fn::Equals": lambda both: self.value(both[0]) == self.value(both[1]),
            "Fn::FindInMap": self._find_in_map,
            "Fn::GetAtt": ".".join,
            "Fn::If": lambda choice: self.value(choice[1] if self._holds(choice[0]) else choice[2]),
            "Fn::Join": lambda parts: parts[0].join(self.value(parts[1])),
            "Fn::Not": lambda one: not self.value(one[0]),
            "Fn::Select": lambda choice: self.value(choice[1])[choice[0]],
            "Fn::Sub": self._sub,
        }

    def exists(self, entry: Json) -> bool:
        """Whether a resource or output is part of the stack."""
        return "Condition" not in entry or self._holds(entry["Condition"])

    def value(self, node: Any) -> Any:
        """A part of the template with everything in it worked out."""
        if isinstance(node, list):
            return [one for item in node if (one := self.value(item)) is not _NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1 and (name := next(iter(node))) in ("Ref", *(key for key in node if key.startswith("Fn::"))):
            return self._functions[name](node[name])
        return {key: one for key, item in node.items() if (one := self.value(item)) is not _NO_VALUE}

    def _holds(self, condition: str) -> bool:
        return bool(self.value(self._template["Conditions"][condition]))

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in self._parameters:
            is_list = self._template["Parameters"][name]["Type"] == "CommaDelimitedList"
            given = self._parameters[name]
            return [one.strip() for one in given.split(",")] if is_list else given
        return PSEUDO_PARAMETERS.get(name, name)

    def _find_in_map(self, keys: list[Any]) -> Any:
        name, first, second = map(self.value, keys)
        return self._template["Mappings"][name][first][second]

    def _sub(self, given: Any) -> str:
        text, variables = (given, {}) if isinstance(given, str) else given
        known = {**PSEUDO_PARAMETERS, **{name: self.value(one) for name, one in variables.items()}}
        # As `Ref` of them, or `GetAtt`; a KeyError means that the text names something else.
        known |= {name: name for name in self._template["Resources"]} | self._parameters

        def value(found: re.Match[str]) -> str:
            name, dot, attribute = found[1].partition(".")
            return f"{known[name]}{dot}{attribute}"

        return re.sub(r"\$\{([^}]+)\}", value, text)


def statements(document: Json) -> Iterator[tuple[Json, list[str], list[str]]]:
    """Every statement of a policy, with its actions and its resources as lists."""
    for statement in document["Statement"]:
        yield statement, _as_list(statement["Action"]), _as_list(statement.get("Resource", []))


def _as_list(one_or_more: str | list[str]) -> list[str]:
    return [one_or_more] if isinstance(one_or_more, str) else one_or_more
