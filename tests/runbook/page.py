"""docs/operations.md, taken apart: its headings and the commands that it shows."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from infra.environments import ROOT

PAGE = ROOT / "docs" / "operations.md"
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """Commands that stand together: under which heading, and as which one there, counted from 1."""

    section: str
    number: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.section} {self.number}"


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def headings(markdown: str) -> list[str]:
    """All headings, in order, without what looks like one in a block."""
    return re.findall(r"^#+ (.+)$", _FENCE.sub("", markdown), re.MULTILINE)


def anchors(markdown: str) -> set[str]:
    """Of all headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(markdown)}


def blocks(markdown: str) -> Iterator[Block]:
    """Every block of shell commands, in order."""
    section, number, seen = "", 0, 0
    for fence in _FENCE.finditer(markdown):
        if above := re.findall(r"^#+ (.+)$", markdown[seen : fence.start()], re.MULTILINE):
            section, number = above[-1], 0
        seen = fence.end()
        if fence["language"] == "sh":
            number += 1
            yield Block(section, number, textwrap.dedent(fence["text"]))
