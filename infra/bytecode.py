"""Bytecode beside the sources of the built functions.

Lambda cannot write it: where it is missing, every cold start compiles every module that it imports, which takes longer
than all else that a cold start does (docs/performance.md).
"""

from __future__ import annotations

import compileall
import py_compile
import sys
from pathlib import Path

# Where Lambda unpacks a function: what the bytecode says of its sources is true there, wherever it was made.
PLACE = "/var/task"


class BytecodeError(Exception):
    """A module does not compile; what is wrong with it is on the standard output."""


def compile_functions(build: Path) -> None:
    """Compile every module of every function in a build directory of SAM CLI. Raises BytecodeError.

    By the hash of the source instead of its time, because zip files keep times to two seconds, and checked at import,
    so that a source which somebody edits in the console still counts.
    https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation
    """
    if sys.version_info[:2] != (3, 13):
        raise BytecodeError("Python 3.13 is needed: the functions' runtime reads no other bytecode")
    for function in sorted(path for path in build.iterdir() if (path / "settings.py").is_file()):
        compiled = compileall.compile_dir(
            function,
            maxlevels=sys.getrecursionlimit(),
            force=True,
            quiet=1,
            stripdir=str(function),
            prependdir=PLACE,
            invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH,
        )
        if not compiled:
            raise BytecodeError(f"not every module of {function.name} compiles")
