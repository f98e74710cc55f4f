"""cfn-lint and checkov find nothing, and what is suppressed is explained and would be found otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from tests.template.rendered import ROOT, TEMPLATE, Json

CHECKOV = Path(os.environ.get("CHECKOV", ROOT / ".tools" / "checkov" / "bin" / "checkov"))


@pytest.fixture
def templates() -> list[Path]:
    """Every template of the project."""
    return [TEMPLATE, *sorted((ROOT / "infra").glob("*.yaml"))]


def source(template: Path) -> Json:
    """A template as it is written, short forms of functions spelt out."""
    whole: Json = yaml_parse(template.read_text())
    return whole


def test_cfn_lint_finds_nothing(templates: list[Path]) -> None:
    # "I" are the hints; as strict as it gets.
    lint = [str(Path(sys.executable).with_name("cfn-lint")), "--include-checks", "I", "--", *map(str, templates)]
    result = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 0, result.stdout + result.stderr


def test_cfn_lint_is_not_told_to_look_away(templates: list[Path]) -> None:
    for template in templates:
        whole = source(template)
        parts = [whole, *whole["Resources"].values()]
        assert not [part for part in parts if "cfn-lint" in part.get("Metadata", {})], template.name


def test_checkov_finds_nothing_that_is_not_suppressed(templates: list[Path]) -> None:
    results = _checkov(templates)
    assert results["failed_checks"] == [], _found(results, "failed_checks")
    assert results["parsing_errors"] == []
    looked_at = {Path(one["file_path"]).name for one in results["passed_checks"]}
    assert looked_at == {template.name for template in templates}, "checkov looked elsewhere"


def test_every_suppression_is_explained_in_place_and_needed(templates: list[Path], tmp_path: Path) -> None:
    suppressed: set[tuple[str, str, str]] = set()
    bare: list[Path] = []
    for template in templates:
        whole = source(template)
        bare.append(tmp_path / f"bare-{template.stem}.json")
        for name, resource in whole["Resources"].items():
            for skip in resource.get("Metadata", {}).pop("checkov", {}).get("skip", []):
                suppressed.add((bare[-1].name, skip["id"], f"{resource['Type']}.{name}"))
                assert len(skip["comment"].split()) > 5, f"{skip['id']} of {name} says too little: {skip['comment']}"
        bare[-1].write_text(json.dumps(whole))
    assert {name for name, *_ in suppressed} > {"bare-template.json"}, "all suppressions were in one template"
    assert _found(_checkov(bare), "failed_checks") == suppressed


def _checkov(templates: Sequence[Path]) -> dict[str, Any]:
    if not CHECKOV.exists():
        pytest.fail(f"checkov is not at {CHECKOV}; run infra/setup, or name another one in CHECKOV")
    # Told nothing but the files, so that no configuration elsewhere on the machine loosens it.
    scan = [str(CHECKOV), "--file", *map(str, templates), "--framework", "cloudformation", "--output", "json"]
    result = subprocess.run(  # noqa: S603
        [*scan, "--skip-download", "--soft-fail"],
        cwd=templates[-1].parent,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    results: dict[str, Any] = json.loads(result.stdout)["results"]
    return results


def _found(results: dict[str, Any], kind: str) -> set[tuple[str, str, str]]:
    return {(Path(one["file_path"]).name, one["check_id"], one["resource"]) for one in results[kind]}
