"""The stack as it is deployed, with every reference as text."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from infra.rendered import PSEUDO_PARAMETERS, REGION, TEMPLATE, Json, resolved, source, translated

__all__ = ["PSEUDO_PARAMETERS", "REGION", "TEMPLATE", "Json", "Stack", "of", "render", "source", "statements"]


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


@cache
def _translated() -> Json:
    return translated(source())


def of(template: Json, **parameters: str) -> Stack:
    """A template that SAM need not translate, with these parameters, defaults for the others."""
    rendered = resolved(template, parameters, references=True)
    return Stack(rendered["Resources"], rendered["Outputs"])


def render(**parameters: str) -> Stack:
    """template.yaml with these parameters, defaults for the others."""
    return of(_translated(), **parameters)


def statements(document: Json) -> Iterator[tuple[Json, list[str], list[str]]]:
    """Every statement of a policy, with its actions and its resources as lists."""
    for statement in document["Statement"]:
        yield statement, _as_list(statement["Action"]), _as_list(statement.get("Resource", []))


def _as_list(one_or_more: str | list[str]) -> list[str]:
    return [one_or_more] if isinstance(one_or_more, str) else one_or_more
