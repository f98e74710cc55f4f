"""SECURITY.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "SECURITY.md"
# A name without a file is of the file that was named before it.
NAMED = re.compile(r"`(?:(\w+/test_\w+\.py)|\u2026)::(test_\w+)`")
FILE = re.compile(r"`(\w+/test_\w+\.py)(?:::|`)")


def named() -> list[tuple[str, str]]:
    found, path = [], ""
    for given, name in NAMED.findall(PAGE.read_text(encoding="utf-8")):
        path = given or path
        found.append((path, name))
    return found


def test_whatever_looks_like_the_name_of_a_test_is_read_as_one() -> None:
    assert PAGE.read_text(encoding="utf-8").count("::") == len(named()) > 20


@pytest.mark.parametrize(("path", "name"), named())
def test_a_named_test_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", sorted(set(FILE.findall(PAGE.read_text(encoding="utf-8")))))
def test_a_named_file_exists(path: str) -> None:
    assert (ROOT / "tests" / path).is_file()


def test_every_file_of_the_project_that_is_named_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for path in {*re.findall(r"\]\(((?!https)[^)]+)\)", text), *re.findall(r"`(infra/[\w./]+)`", text)}:
        assert (ROOT / path).exists(), path
