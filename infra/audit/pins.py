"""What the lock files pin."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from infra.environments import LOCKS, ROOT

RUNTIME = ROOT / "requirements.txt"
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)")


class LockError(Exception):
    """A lock file holds something else than hashed pins; the message says where."""


@dataclass(frozen=True, order=True)
class Pin:
    """One package at one version, and where it is pinned: `hashes` are those of all its files."""

    lock: str
    package: NormalizedName
    version: Version
    hashes: tuple[str, ...]


def lock_files() -> list[Path]:
    """Every lock file of the project: what ships, and what builds and tests it."""
    return [RUNTIME, *sorted(LOCKS.glob("*.txt"))]


def read(paths: Iterable[Path], root: Path = ROOT) -> list[Pin]:
    """All pins of these lock files. Raises LockError for a line that pins nothing: it would go unaudited."""
    return [pin for path in paths for pin in _pins(str(path.relative_to(root)), path.read_text(encoding="utf-8"))]


def _pins(lock: str, text: str) -> Iterator[Pin]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(None, map(str.strip, joined.splitlines())):
        written = _HASH.sub("", line).strip()
        try:
            requirement = Requirement(written)
        except InvalidRequirement:
            raise LockError(f"{lock}: cannot be read: {written}") from None
        (specifier, *others) = requirement.specifier or [None]
        hashes = tuple(_HASH.findall(line))
        if specifier is None or others or specifier.operator != "==" or "*" in specifier.version or not hashes:
            raise LockError(f"{lock}: not one version with its hashes: {written}")
        yield Pin(lock, canonicalize_name(requirement.name), Version(specifier.version), hashes)
