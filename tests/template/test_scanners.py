"""cfn-lint and checkov find nothing, and what is suppressed is explained and would be found otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.template.layered import written
from tests.template.rendered import ROOT, TEMPLATE, source

CHECKOV = Path(os.environ.get("CHECKOV", ROOT / ".tools" / "checkov" / "bin" / "checkov"))


def test_cfn_lint_finds_nothing() -> None:
    # "I" are the hints; as strict as it gets.
    lint = [str(Path(sys.executable).with_name("cfn-lint")), "--include-checks", "I", "--", str(TEMPLATE)]
    result = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 0, result.stdout + result.stderr


def test_cfn_lint_is_not_told_to_look_away() -> None:
    template = source()
    parts = [template, *template["Resources"].values()]
    assert not [part for part in parts if "cfn-lint" in part.get("Metadata", {})]


def test_checkov_finds_nothing_that_is_not_suppressed(tmp_path: Path) -> None:
    results = _checkov(TEMPLATE, written(tmp_path))
    assert results["failed_checks"] == [], _found(results, "failed_checks")
    assert results["parsing_errors"] == []
    seen = {Path(one["file_path"]).name for one in results["passed_checks"]}
    assert seen == {TEMPLATE.name, "gradual.json"}, "checkov looked elsewhere"


def test_every_suppression_is_explained_in_place_and_needed(tmp_path: Path) -> None:
    template = source()
    suppressed: set[tuple[str, str]] = set()
    for name, resource in template["Resources"].items():
        for skip in resource.get("Metadata", {}).pop("checkov", {}).get("skip", []):
            suppressed.add((skip["id"], f"{resource['Type']}.{name}"))
            assert len(skip["comment"].split()) > 5, f"{skip['id']} of {name} says too little: {skip['comment']}"
    bare = tmp_path / "template.json"
    bare.write_text(json.dumps(template))
    assert _found(_checkov(bare), "failed_checks") == suppressed


def _checkov(*templates: Path) -> dict[str, Any]:
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


def _found(results: dict[str, Any], kind: str) -> set[tuple[str, str]]:
    return {(one["check_id"], one["resource"]) for one in results[kind]}
