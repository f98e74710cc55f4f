"""docs/faults.md: `make faults` writes the tests of each row below it; rows are written by hand.

A test covers a row by its marker: `@pytest.mark.fault(7, 9)`.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "faults.md"


def covered() -> dict[int, dict[str, list[str]]]:
    """For each row the files and functions of the tests with its marker."""
    tests: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                for row in _rows(node):
                    tests[row][str(path.relative_to(TESTS))].append(f"`{node.name}`")
    return tests


def _rows(function: ast.FunctionDef) -> set[int]:
    nodes = (node for decorator in function.decorator_list for node in ast.walk(decorator))
    marks = (one for one in nodes if isinstance(one, ast.Call) and ast.unparse(one.func) == "pytest.mark.fault")
    return {ast.literal_eval(argument) for mark in marks for argument in mark.args}


def page() -> str:
    """The page as it should be. Raises ValueError if not exactly its rows have tests."""
    tests = covered()
    lines = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("    - "):
            lines.append(line)
        if row := re.match(r"(\d+)\. ", line):
            of_row = tests.pop(int(row[1]), {})
            if not of_row:
                raise ValueError(f"no test has the marker of row {row[1]}")
            lines += [f"    - [{path}](../tests/{path}): {', '.join(names)}" for path, names in of_row.items()]
    if tests:
        raise ValueError(f"docs/faults.md lacks rows {sorted(tests)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
