"""The audit of the gate: no lock file pins what is known to be vulnerable. `python -m infra.audit.check`"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from packaging.utils import NormalizedName, canonicalize_name

from infra.audit import advisories, pins
from infra.audit.advisories import Advisory, Snapshot
from infra.audit.pins import Pin

ACCEPTED = Path(__file__).with_name("accepted.toml")
# Most weeks, something becomes known about some package of this size of a list.
_FRESH_DAYS = 30


@dataclass(frozen=True)
class Acceptance:
    """A vulnerability that is lived with, in these lock files, for a reason and until a day."""

    advisory: str
    package: NormalizedName
    locks: frozenset[str]
    reason: str
    until: date

    def covers(self, pin: Pin, advisory: Advisory) -> bool:
        named = {advisory.id, *advisory.aliases}
        return self.advisory in named and self.package == pin.package and pin.lock in self.locks


def accepted(path: Path = ACCEPTED) -> list[Acceptance]:
    """What is lived with. Raises KeyError or TypeError if an entry lacks something, ValueError if it says no reason."""
    acceptances = []
    for given in tomllib.loads(path.read_text(encoding="utf-8")).get("accepted", ()):
        one = Acceptance(
            **{**given, "package": canonicalize_name(given["package"]), "locks": frozenset(given["locks"])}
        )
        if len(one.reason.split()) <= 5 or type(one.until) is not date:
            raise ValueError(f"{one.advisory}: say why in a sentence, and until which day")
        acceptances.append(one)
    return acceptances


def problems(
    locked: Iterable[Pin], snapshot: Snapshot, acceptances: Iterable[Acceptance], today: date
) -> Iterator[str]:
    """What keeps the gate shut, one line each: vulnerable pins, pins that the snapshot was not made for, and
    acceptances that have ended or fit nothing."""
    locked, acceptances = list(locked), list(acceptances)
    left = set(acceptances)
    for pin in sorted(set(locked)):
        if pin.package not in snapshot.packages:
            yield f"{pin.lock}: {pin.package}: the snapshot was made without it; run `make advisories`"
    for pin, advisory in vulnerable(locked, snapshot):
        found = {one for one in acceptances if one.covers(pin, advisory)}
        left -= found
        if not any(today <= one.until for one in found):
            fixed = advisory.fixed_for(pin.version)
            mended = "no version is mended" if fixed is None else f"mended in {fixed}"
            ended = "; its acceptance has ended" if found else ""
            yield f"{pin.lock}: {pin.package} {pin.version} is affected by {advisory.names()}; {mended}{ended}"
    for one in sorted(left, key=lambda one: one.advisory):
        yield f"{ACCEPTED.name}: {one.advisory} of {one.package} affects no pin of these lock files (any more)"


def vulnerable(locked: Iterable[Pin], snapshot: Snapshot) -> list[tuple[Pin, Advisory]]:
    """Every pin with each advisory that affects it."""
    return [
        (pin, advisory)
        for pin in sorted(set(locked))
        for advisory in snapshot.advisories
        if advisory.package == pin.package and advisory.affects(pin.version)
    ]


def main() -> int:
    snapshot, today = advisories.load(), datetime.now(UTC).date()
    locked, lived_with = pins.read(pins.lock_files()), accepted()
    found = list(problems(locked, snapshot, lived_with, today))
    age = (today - snapshot.taken).days
    if age > _FRESH_DAYS:
        print(
            f"warning: the snapshot of advisories is {age} days old and knows nothing younger than {snapshot.taken}; "
            "with a network, `make advisories` renews it and `make audit` asks PyPI",
            file=sys.stderr,
        )
    but = f" but {len(lived_with)} accepted" if lived_with else ""
    print("\n".join(found) or f"{len(locked)} pins, none with a known vulnerability{but} as of {snapshot.taken}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
