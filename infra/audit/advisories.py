"""The snapshot of known vulnerabilities: `python -m infra.audit.advisories [<git directory>]` makes it anew.

The audit of the gate reads it, because the gate has to work without a network. It holds facts alone - which versions
of which package, under which numbers, mended in which version - of the packages that the lock files pin.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from infra.audit import pins

SNAPSHOT = Path(__file__).with_name("advisories.json")
SOURCE = "https://github.com/pypa/advisory-database"
LICENCE = "CC-BY-4.0"


@dataclass(frozen=True)
class Range:
    """Versions from one on (None: from the first), up to but without `fixed`, or up to and with `last_affected`."""

    introduced: Version | None
    fixed: Version | None = None
    last_affected: Version | None = None

    def __contains__(self, version: Version) -> bool:
        return (
            (self.introduced is None or version >= self.introduced)
            and (self.fixed is None or version < self.fixed)
            and (self.last_affected is None or version <= self.last_affected)
        )


@dataclass(frozen=True)
class Advisory:
    """One known vulnerability of one package. `versions` are affected beside those of the ranges."""

    id: str
    aliases: tuple[str, ...]
    package: NormalizedName
    ranges: tuple[Range, ...]
    versions: tuple[Version, ...] = ()

    def affects(self, version: Version) -> bool:
        return version in self.versions or any(version in one for one in self.ranges)

    def fixed_for(self, version: Version) -> Version | None:
        """The lowest version above this one that is mended and no longer affected."""
        fixes = {one.fixed for one in self.ranges if one.fixed is not None and one.fixed > version}
        return min((fix for fix in fixes if not self.affects(fix)), default=None)

    def names(self) -> str:
        return ", ".join((self.id, *self.aliases))


@dataclass(frozen=True)
class Snapshot:
    """Advisories of these packages as they were known on a day."""

    commit: str
    taken: date
    packages: frozenset[NormalizedName]
    advisories: tuple[Advisory, ...]


def load(path: Path = SNAPSHOT) -> Snapshot:
    """The snapshot that is in the repository."""
    told = json.loads(path.read_text(encoding="utf-8"))
    return Snapshot(
        commit=told["commit"],
        taken=date.fromisoformat(told["taken"]),
        packages=frozenset(map(canonicalize_name, told["packages"])),
        advisories=tuple(_from_facts(one) for one in told["advisories"]),
    )


def dump(snapshot: Snapshot) -> str:
    """The snapshot as it is written down: one line for each advisory, so that a change of one shows as one."""
    head = {
        "source": SOURCE,
        "licence": LICENCE,
        "commit": snapshot.commit,
        "taken": snapshot.taken.isoformat(),
        "packages": sorted(snapshot.packages),
    }
    lines = [json.dumps(_facts(one)) for one in sorted(snapshot.advisories, key=lambda one: (one.package, one.id))]
    body = ",\n".join(f"    {line}" for line in lines)
    return json.dumps(head, indent=2)[:-2] + ',\n  "advisories": [\n' + body + "\n  ]\n}\n"


def _facts(advisory: Advisory) -> dict[str, Any]:
    facts: dict[str, Any] = {"id": advisory.id, "aliases": list(advisory.aliases), "package": advisory.package}
    facts["ranges"] = [
        {name: str(value) for name, value in vars(one).items() if value is not None} for one in advisory.ranges
    ]
    if advisory.versions:
        facts["versions"] = [str(one) for one in advisory.versions]
    return facts


def _from_facts(facts: Mapping[str, Any]) -> Advisory:
    return Advisory(
        id=facts["id"],
        aliases=tuple(facts["aliases"]),
        package=canonicalize_name(facts["package"]),
        ranges=tuple(
            Range(**{"introduced": None, **{name: Version(value) for name, value in one.items()}})
            for one in facts["ranges"]
        ),
        versions=tuple(map(Version, facts.get("versions", ()))),
    )


def parse_record(record: Mapping[str, Any], packages: Iterable[NormalizedName]) -> Iterator[Advisory]:
    """The advisories in one record of the database (OSV): one for each of these packages that it affects, none if it
    was withdrawn."""
    if record.get("withdrawn"):
        return
    wanted = set(packages)
    for affected in record["affected"]:
        package = canonicalize_name(affected["package"]["name"])
        if affected["package"]["ecosystem"] != "PyPI" or package not in wanted:
            continue
        ranges = tuple(
            one for given in affected.get("ranges", ()) if given["type"] == "ECOSYSTEM" for one in _ranges(given)
        )
        listed = [one for one in map(_version, affected.get("versions", ())) if one is not None]
        beside = tuple(sorted(one for one in listed if not any(one in other for other in ranges)))
        yield Advisory(record["id"], tuple(sorted(record.get("aliases", ()))), package, ranges, beside)


def _ranges(given: Mapping[str, Any]) -> Iterator[Range]:
    """Events come in any order: sorted by version, every introduction lasts until the fix or last version after it."""
    events = [(kind, version) for event in given["events"] for kind, version in event.items() if kind != "limit"]
    introduced: list[Version | None] = []
    # At one version, a fix ends what was there before something else begins.
    for kind, text in sorted(events, key=lambda event: (_order(event[1]), event[0] == "introduced")):
        version = None if text == "0" else Version(text)
        if kind == "introduced":
            introduced.append(version)
        elif introduced:
            begin = introduced[0]
            introduced.clear()
            yield Range(begin, **{kind: version})
    if introduced:
        yield Range(introduced[0])


def _order(text: str) -> Version:
    # Below every version there is, development versions of 0 included.
    return Version("0.dev0" if text == "0" else text)


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None  # from before versions had rules; nothing that pip installs today


def snapshot_of(repository: Path, packages: Iterable[NormalizedName]) -> Snapshot:
    """What a clone of the database (its work tree, or a bare one) knows of these packages."""
    wanted = frozenset(packages)
    commit, taken = git(repository, "log", "-1", "--format=%H %cs").decode().split()
    found: list[Advisory] = []
    with tarfile.open(fileobj=io.BytesIO(git(repository, "archive", "HEAD", "vulns"))) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            # One directory for each package; a record that affects several is in one of them.
            if path.suffix != ".yaml" or (content := archive.extractfile(member)) is None:
                continue
            text = content.read()
            if any(name.encode() in text.lower().replace(b"_", b"-").replace(b".", b"-") for name in wanted):
                found += parse_record(yaml.load(text, Loader=_Loader), wanted)  # noqa: S506 - a subclass of SafeLoader
    return Snapshot(commit, date.fromisoformat(taken), wanted, tuple(found))


class _Loader(yaml.SafeLoader):
    """YAML with texts alone: `1.10` is a version, not the number 1.1."""


_Loader.yaml_implicit_resolvers = {}


def git(repository: Path, *arguments: str) -> bytes:
    """Run git in a repository and return what it prints; whatever repository a hook was started for is left alone."""
    command = ["git", "-C", str(repository), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(command, env=environment, check=True, capture_output=True).stdout


def main(arguments: list[str]) -> int:
    packages = {pin.package for pin in pins.read(pins.lock_files())}
    with tempfile.TemporaryDirectory() as directory:
        repository = Path(arguments[0] if arguments else directory)
        if not arguments:
            clone = ["git", "clone", "--quiet", "--depth", "1", SOURCE, directory]
            subprocess.run(clone, check=True)
        snapshot = snapshot_of(repository, packages)
    SNAPSHOT.write_text(dump(snapshot), encoding="utf-8")
    print(f"{len(snapshot.advisories)} advisories for {len(packages)} packages, as of {snapshot.taken}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
