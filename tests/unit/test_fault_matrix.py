"""The table of faults in the documentation: complete, and naming tests that exist, at the level it says."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "faults.md"
FAULTS = range(1, 33)
ROW = re.compile(r"^\| *(\d+) *\|(.*)\|$", re.MULTILINE)
NAMED = re.compile(r"(\w+): `([^`\s:]+)::([^`\s]+)`")
LEVELS = {"unit", "property", "contract", "template", "integration"}


def rows() -> list[tuple[int, str]]:
    return [(int(number), text) for number, text in ROW.findall(TABLE.read_text(encoding="utf-8"))]


def named() -> list[tuple[str, str, str]]:
    """Level, file and function of every test in the table, each once."""
    return sorted({found for _, text in rows() for found in NAMED.findall(text)})


@cache
def functions_in(path: str) -> dict[str, bool]:
    """The test functions of a file, and whether Hypothesis makes up what they are given."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {
        node.name: any(_is_given(decorator) for decorator in node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def _is_given(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "given"


def test_every_fault_has_one_row() -> None:
    assert Counter(number for number, _ in rows()) == Counter(FAULTS)


@pytest.mark.parametrize("number", FAULTS)
def test_every_row_names_a_test_or_says_that_there_is_none(number: int) -> None:
    text = "".join(text for other, text in rows() if other == number)
    assert NAMED.search(text) or "not yet" in text


def test_whatever_looks_like_the_name_of_a_test_is_read_as_one() -> None:
    assert TABLE.read_text(encoding="utf-8").count("::") == sum(len(NAMED.findall(text)) for _, text in rows())


@pytest.mark.parametrize(("level", "path", "name"), named())
def test_a_named_test_exists_at_its_level(level: str, path: str, name: str) -> None:
    assert level in LEVELS
    assert name.startswith("test_")
    assert name in functions_in(path)
    if level == "property":
        assert functions_in(path)[name]
    else:
        assert Path(path).parts[:2] == ("tests", level)
        assert not functions_in(path)[name]


def test_the_readme_leads_to_the_table() -> None:
    assert "(docs/faults.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
