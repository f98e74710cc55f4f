"""What the import of the handler goes to, and what it would be without some of it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from infra.environments import ROOT
from tests.bench.artefact import said

# Without its settings the handler makes no clients when it is imported.
ALONE = "import os; del os.environ['WORK_QUEUE_URL']; import terminate.handler"
# Modules that take anything and do nothing, in the place of others.
_STUBS = """\
import sys, types
class Nothing:
    def __init__(self, *_, **__): pass
class Module(types.ModuleType):
    __path__, __version__ = [], "3.0.0"
    def __getattr__(self, name):
        if name.startswith("__"): raise AttributeError(name)
        return Nothing
for name in {names}:
    sys.modules[name] = Module(name)
"""
_UTILITIES = "aws_lambda_powertools.utilities"
_LEFT_OUT = {
    "Powertools batch, and its SQS record": [
        f"{_UTILITIES}.batch",
        f"{_UTILITIES}.batch.types",
        f"{_UTILITIES}.data_classes",
        f"{_UTILITIES}.data_classes.sqs_event",
    ],
    "Powertools parameters": [f"{_UTILITIES}.parameters", f"{_UTILITIES}.parameters.exceptions"],
    "Powertools metrics": ["aws_lambda_powertools.metrics"],
    "Powertools tracing, which its package imports": ["aws_lambda_powertools.tracing"],
    "charset_normalizer, which requests imports": ["charset_normalizer"],
}
_OWN = sorted(path.stem for path in (ROOT / "functions").iterdir() if path.name != "__pycache__")
OWN = "this project's own modules"


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """Scripts that import the handler with something left out, by what that is. What others import as well stays."""
    scripts = {name: f"{_STUBS.format(names=modules)}\n{ALONE}" for name, modules in _LEFT_OUT.items()}
    scripts[OWN] = _imports_of_own(environment)
    return scripts


def _imports_of_own(environment: Mapping[str, str]) -> str:
    """A script with the import statements of all own modules that the handler needs, but for those of each other."""
    own = f"[m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in {_OWN}]"
    places, _ = said(f"{ALONE}, sys; print(*{own}, sep=chr(10))", environment)
    found = []
    for place in places.split():
        for statement in ast.parse(Path(place).read_text()).body:
            module = _module(statement)
            if module is not None and module.split(".")[0] not in {*_OWN, "__future__"}:
                found.append(ast.unparse(statement))
    return "\n".join(found)


def _module(statement: ast.stmt) -> str | None:
    """What a statement imports, if it does. Nobody here imports two modules in one."""
    if isinstance(statement, ast.Import):
        return statement.names[0].name
    return statement.module if isinstance(statement, ast.ImportFrom) else None


def by_package(artefact: Path, environment: Mapping[str, str]) -> Counter[str]:
    """Microseconds of the import by top-level package, in the fastest of five runs."""
    runs = [_timed(environment) for _ in range(5)]
    shipped = {path.name.removesuffix(".py") for path in artefact.iterdir()}
    found: Counter[str] = Counter()
    for package, microseconds in min(runs, key=Counter.total).items():
        found[OWN if package in _OWN else package if package in shipped else "standard library"] += microseconds
    return found


def _timed(environment: Mapping[str, str]) -> Counter[str]:
    found: Counter[str] = Counter()
    _, lines = said(ALONE, environment, "-X", "importtime")
    for line in lines.splitlines():
        cells = line.removeprefix("import time:").split("|")
        if len(cells) == 3 and cells[0].strip().isdigit():
            found[cells[2].strip().split(".")[0]] += int(cells[0])
    return found
