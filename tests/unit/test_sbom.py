"""The list of what ships: made from the pins, valid, and the one that is in the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.audit import pins, sbom
from infra.audit.sbom import SBOM, SbomError


def test_the_list_in_the_repository_is_what_the_pins_say() -> None:
    assert sbom.main(["--check"]) == 0
    assert SBOM.read_text(encoding="utf-8") == sbom.render()


def test_a_list_that_is_out_of_date_or_missing_shuts_the_gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sbom, "ROOT", tmp_path)
    old = tmp_path / "sbom.cdx.json"
    assert sbom.main(["--check"], old) == 1
    old.write_text(SBOM.read_text().replace("urllib3@", "urllib4@"))
    assert sbom.main(["--check"], old) == 1
    assert sbom.main([], old) == 0
    assert sbom.main(["--check"], old) == 0


def test_every_component_has_purl_licence_and_the_hashes_of_its_pin() -> None:
    components = json.loads(sbom.render())["components"]
    pinned = {str(pin.package): pin for pin in pins.read([pins.RUNTIME])}
    assert [one["name"] for one in components] == sorted(pinned)
    for one in components:
        pin = pinned[one["name"]]
        assert one["version"] == str(pin.version)
        assert one["purl"] == f"pkg:pypi/{pin.package}@{pin.version}"
        assert one["licenses"]
        (files,) = one["externalReferences"]
        assert sorted(found["content"] for found in files["hashes"]) == sorted(pin.hashes)


def test_what_the_functions_ask_for_leads_to_everything_that_ships() -> None:
    listed = json.loads(sbom.render())
    needs = {one["ref"]: one.get("dependsOn", []) for one in listed["dependencies"]}
    reached, left = set(), ["functions"]
    while left:
        one = left.pop()
        if one not in reached:
            reached.add(one)
            left += needs[one]
    assert reached - {"functions"} == {one["bom-ref"] for one in listed["components"]}


def test_the_list_is_not_made_from_another_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "requirements.txt"
    other.write_text(f"requests==2.31.0 --hash=sha256:{'0' * 64}\n")
    pin = pins.read([other], tmp_path)
    monkeypatch.setattr(pins, "read", lambda _: pin)
    with pytest.raises(SbomError, match=r"2\.31\.0 is pinned; run `make setup`"):
        sbom.render()
