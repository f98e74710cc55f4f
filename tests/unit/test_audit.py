"""The audit of the pins: a cooked lock file and cooked advisories, and then the real ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from infra.audit import advisories, check, online, pins
from infra.audit.advisories import SNAPSHOT, Advisory, Snapshot
from infra.audit.check import Acceptance
from infra.audit.pins import LockError
from infra.environments import ROOT

TODAY = date(2026, 11, 24)
HASH = f"--hash=sha256:{'0' * 64}"
PACKAGE = canonicalize_name("Typing_Extensions")


def locked(root: Path, *lines: str) -> list[pins.Pin]:
    path = root / "requirements.txt"
    path.write_text("".join(f"{line} \\\n    {HASH}\n    # via somebody\n" for line in lines))
    return pins.read([path], root)


def record(*events: dict[str, str], versions: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """A record of the database, as YAML is read: texts alone."""
    affected = {
        "package": {"name": "typing.Extensions", "ecosystem": "PyPI"},
        "ranges": [
            {"type": "GIT", "repo": "https://example.com/x", "events": [{"introduced": "0"}, {"fixed": "0a1b"}]},
            {"type": "ECOSYSTEM", "events": list(events)},
        ],
        "versions": list(versions),
    }
    return {"id": "PYSEC-1", "aliases": ["GHSA-1", "CVE-1"], "details": "prose", "affected": [affected]} | fields


def snapshot(*records: dict[str, Any]) -> Snapshot:
    found = [one for given in records for one in advisories.parse_record(given, {PACKAGE})]
    return Snapshot("commit", TODAY, frozenset({PACKAGE}), tuple(found))


def problems(pinned: list[pins.Pin], known: Snapshot, *acceptances: Acceptance) -> list[str]:
    return list(check.problems(pinned, known, acceptances, TODAY))


@pytest.mark.parametrize(
    ("events", "affected", "spared"),
    [
        ([{"introduced": "0"}, {"fixed": "4.2"}], ["0.dev1", "0.1", "4.1.9", "4.2rc1"], ["4.2", "4.2.post1", "4.10"]),
        ([{"introduced": "4.2"}, {"fixed": "4.10"}], ["4.2", "4.9", "4.2.0"], ["4.1", "4.10", "5"]),
        ([{"introduced": "4.2"}, {"last_affected": "4.3"}], ["4.2", "4.3", "4.3.0"], ["4.3.1", "4.1"]),
        ([{"introduced": "4.2"}], ["4.2", "99"], ["4.1"]),
        ([{"introduced": "0"}], ["0.0.1", "99"], []),
        (
            [{"introduced": "0"}, {"fixed": "1.5"}, {"introduced": "2.0"}, {"fixed": "2.3"}],
            ["1.4", "2.0", "2.2"],
            ["1.5", "1.9", "2.3"],
        ),
        (
            [{"fixed": "2.3"}, {"introduced": "2.0"}, {"fixed": "1.5"}, {"introduced": "0"}],
            ["1.4", "2.0"],
            ["1.5", "2.3"],
        ),
        ([{"introduced": "1.0"}, {"fixed": "2.0"}, {"introduced": "2.0"}, {"fixed": "3.0"}], ["1.0", "2.0"], ["3.0"]),
        ([{"introduced": "1!1.0"}, {"fixed": "1!2.0"}], ["1!1.5"], ["1.5", "2!0"]),
    ],
)
def test_a_version_is_affected_in_the_ranges_and_nowhere_else(
    tmp_path: Path, events: list[dict[str, str]], affected: list[str], spared: list[str]
) -> None:
    known = snapshot(record(*events))
    for version in affected:
        assert problems(locked(tmp_path, f"typing-extensions=={version}"), known), version
    for version in spared:
        assert not problems(locked(tmp_path, f"typing-extensions=={version}"), known), version


def test_a_version_that_is_listed_is_affected_without_a_range(tmp_path: Path) -> None:
    known = snapshot(record({"introduced": "0"}, {"fixed": "1.0"}, versions=("0.9", "3.1", "2004-ancient")))
    assert problems(locked(tmp_path, "typing-extensions==3.1"), known)
    assert not problems(locked(tmp_path, "typing-extensions==3.2"), known)
    (advisory,) = known.advisories
    assert advisory.versions == (Version("3.1"),), "what a range says need not be said again"


def test_a_finding_names_lock_package_version_advisory_and_cure(tmp_path: Path) -> None:
    known = snapshot(record({"introduced": "0"}, {"fixed": "4.2"}))
    assert problems(locked(tmp_path, "Typing.Extensions==4.1"), known) == [
        "requirements.txt: typing-extensions 4.1 is affected by PYSEC-1, CVE-1, GHSA-1; mended in 4.2"
    ]


def test_a_cure_that_another_range_affects_is_none() -> None:
    first, second = {"introduced": "1.0"}, {"introduced": "2.0"}
    (advisory,) = advisories.parse_record(record(first, {"fixed": "2.0"}, second, {"fixed": "2.1"}), {PACKAGE})
    assert advisory.fixed_for(Version("1.5")) == Version("2.1")
    (advisory,) = advisories.parse_record(record({"introduced": "1.0"}), {PACKAGE})
    assert advisory.fixed_for(Version("1.5")) is None


def test_what_was_withdrawn_or_is_of_another_world_affects_nothing(tmp_path: Path) -> None:
    everything = record({"introduced": "0"})
    elsewhere = record({"introduced": "0"})
    elsewhere["affected"][0]["package"]["ecosystem"] = "npm"
    other = record({"introduced": "0"})
    other["affected"][0]["package"]["name"] = "typing-extensions-more"
    pinned = locked(tmp_path, "typing-extensions==4.1")
    assert problems(pinned, snapshot(everything))
    for harmless in (everything | {"withdrawn": "2026-01-01T00:00:00Z"}, elsewhere, other):
        assert problems(pinned, snapshot(harmless)) == []


def test_a_pin_that_the_snapshot_was_not_made_for_fails(tmp_path: Path) -> None:
    (said,) = problems(locked(tmp_path, "newcomer==1.0"), snapshot())
    assert said.startswith("requirements.txt: newcomer: ")
    assert "make advisories" in said


ACCEPTANCE = Acceptance("CVE-1", PACKAGE, frozenset({"requirements.txt"}), "for this test", TODAY)


def test_what_is_accepted_passes_until_its_day(tmp_path: Path) -> None:
    known = snapshot(record({"introduced": "0"}))
    pinned = locked(tmp_path, "typing-extensions==4.1")
    assert problems(pinned, known, ACCEPTANCE) == []
    (said,) = problems(pinned, known, replace(ACCEPTANCE, until=date(2026, 11, 23)))
    assert said.endswith("no version is mended; its acceptance has ended")


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"advisory": "CVE-2"},
        {"package": canonicalize_name("other")},
        {"locks": frozenset({"infra/requirements/dev.txt"})},
    ],
)
def test_an_acceptance_covers_one_advisory_of_one_package_in_its_locks(
    tmp_path: Path, elsewhere: dict[str, Any]
) -> None:
    known = snapshot(record({"introduced": "0"}))
    finding, idle = problems(locked(tmp_path, "typing-extensions==4.1"), known, replace(ACCEPTANCE, **elsewhere))
    assert "is affected by" in finding
    assert "affects no pin" in idle


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ('reason = "aws-sam-cli pins it, and reads our own template alone"\nuntil = 2027-01-31', None),
        ('reason = "later"\nuntil = 2027-01-31', ValueError),
        ('reason = "aws-sam-cli pins it, and reads our own template alone"\nuntil = "2027-01-31"', ValueError),
        ('reason = "aws-sam-cli pins it, and reads our own template alone"', TypeError),
    ],
)
def test_an_acceptance_says_why_and_until_when(tmp_path: Path, entry: str, error: type[Exception] | None) -> None:
    path = tmp_path / "accepted.toml"
    path.write_text(f'[[accepted]]\nadvisory = "CVE-1"\npackage = "Typing_Extensions"\nlocks = ["a.txt"]\n{entry}\n')
    if error is None:
        (one,) = check.accepted(path)
        assert (one.package, one.locks) == (PACKAGE, frozenset({"a.txt"}))
    else:
        with pytest.raises(error):
            check.accepted(path)


@pytest.mark.parametrize(
    "line",
    [
        f"example>=1.0 {HASH}",
        f"example==1.* {HASH}",
        f"example==1.0,!=1.1 {HASH}",
        f"example {HASH}",
        "example==1.0",
        f"example @ https://example.com/example.whl {HASH}",
        "-r other.txt",
        "https://example.com/example.whl",
    ],
)
def test_a_line_that_pins_nothing_is_not_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(f"{line}\n")
    with pytest.raises(LockError, match=r"requirements\.txt"):
        pins.read([path], tmp_path)


def test_extras_markers_and_many_hashes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(
        f"# made by hand\nTyping_Extensions[more]==4.1 ; python_full_version < '3.14' \\\n    {HASH} \\\n    {HASH}\n"
    )
    (pin,) = pins.read([path], tmp_path)
    assert (pin.package, str(pin.version), len(pin.hashes)) == ("typing-extensions", "4.1", 2)


def test_a_snapshot_is_made_from_a_clone(tmp_path: Path) -> None:
    directory = tmp_path / "vulns" / "typing-extensions"
    directory.mkdir(parents=True)
    (directory / "PYSEC-1.yaml").write_text(
        "id: PYSEC-1\naliases: [CVE-1]\ndetails: prose\n"
        "affected:\n- package: {name: Typing_Extensions, ecosystem: PyPI}\n"
        '  ranges:\n  - type: ECOSYSTEM\n    events: [{introduced: "0"}, {fixed: 4.10}]\n'
    )
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "--no-gpg-sign", "-m", "x"],
    ):
        advisories.git(tmp_path, *command)
    made = advisories.snapshot_of(tmp_path, {PACKAGE, canonicalize_name("other")})
    assert made.packages == {"typing-extensions", "other"}
    (advisory,) = made.advisories
    assert advisory.affects(Version("4.9")), "4.10 is a version, no number"
    assert not advisory.affects(Version("4.10"))
    path = tmp_path / "advisories.json"
    path.write_text(advisories.dump(made))
    assert "prose" not in path.read_text()
    assert advisories.load(path) == made


def test_the_snapshot_in_the_repository_is_as_it_was_made() -> None:
    assert advisories.dump(advisories.load()) == SNAPSHOT.read_text()
    assert advisories.load().advisories


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md"])
def test_a_page_says_of_which_day_the_snapshot_is(page: str) -> None:
    assert f" of {advisories.load().taken}" in " ".join((ROOT / page).read_text(encoding="utf-8").split())


def test_the_snapshot_knows_a_vulnerability_that_we_know_of(tmp_path: Path) -> None:
    # CVE-2023-32681: requests sent proxy credentials to the wrong host.
    (said,) = [
        one for one in problems(locked(tmp_path, "requests==2.30.0"), advisories.load()) if "CVE-2023-32681" in one
    ]
    assert "mended in 2.31.0" in said


def test_the_lock_files_pin_nothing_that_is_known_to_be_vulnerable() -> None:
    paths = pins.lock_files()
    assert {ROOT / "requirements.txt", ROOT / "infra/requirements/dev.txt"} < set(paths)
    assert not list(check.problems(pins.read(paths), advisories.load(), check.accepted(), TODAY))


def test_pip_audit_ignores_what_is_accepted_and_no_longer() -> None:
    lock = ROOT / "requirements.txt"
    assert "--ignore-vuln=CVE-1" in online.command(lock, [ACCEPTANCE], TODAY)
    assert "--ignore-vuln=CVE-1" not in online.command(lock, [ACCEPTANCE], date(2026, 11, 25))
    assert "--ignore-vuln=CVE-1" not in online.command(ROOT / "infra/requirements/dev.txt", [ACCEPTANCE], TODAY)


@pytest.mark.parametrize(("pin", "status"), [("requests==2.30.0", 1), ("requests==2.34.2", 0)])
def test_the_gate_is_shut_by_a_vulnerable_pin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pin: str, status: int
) -> None:
    pinned = locked(tmp_path, pin)
    monkeypatch.setattr(pins, "read", lambda _: pinned)
    monkeypatch.setattr(check, "accepted", list)
    assert check.main() == status
    assert ("is affected by" in capsys.readouterr().out) is bool(status)


@pytest.mark.parametrize(("days", "warned"), [(29, False), (32, True)])
def test_an_old_snapshot_is_a_warning_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], days: int, warned: bool
) -> None:
    pinned = locked(tmp_path, "requests==2.34.2")
    known = replace(advisories.load(), taken=datetime.now(UTC).date() - timedelta(days=days))
    monkeypatch.setattr(pins, "read", lambda _: pinned)
    monkeypatch.setattr(check, "accepted", list)
    monkeypatch.setattr(advisories, "load", lambda: known)
    assert check.main() == 0
    assert ("days old" in capsys.readouterr().err) is warned


def test_the_gate_says_how_much_is_lived_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = locked(tmp_path, "Typing_Extensions==4.1")
    known = snapshot(record({"introduced": "0"}))
    monkeypatch.setattr(pins, "read", lambda _: pinned)
    monkeypatch.setattr(check, "accepted", lambda: [replace(ACCEPTANCE, until=date.max)])
    monkeypatch.setattr(advisories, "load", lambda: known)
    assert check.main() == 0
    assert "1 pins, none with a known vulnerability but 1 accepted" in capsys.readouterr().out


def test_an_advisory_is_named_with_its_aliases() -> None:
    assert Advisory("PYSEC-1", ("CVE-1", "GHSA-1"), PACKAGE, ()).names() == "PYSEC-1, CVE-1, GHSA-1"
