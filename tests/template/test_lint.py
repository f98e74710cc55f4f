"""`make lint` looks at what is deployed, and its suppressions are needed."""

from __future__ import annotations

import json
from pathlib import Path

from infra.lint import SUPPRESSED, cfn_lint, complaints, rendered
from tests.template.rendered import Json

DEPLOYED = dict(rendered())


def test_no_condition_is_left_for_the_linters() -> None:
    """checkov leaves out checks of a role that has a statement inside Fn::If."""
    text = json.dumps(DEPLOYED)
    assert "Fn::If" not in text
    assert "AWS::NoValue" not in text
    assert "AWS::Serverless" not in text


def test_wrong_values_of_a_function_are_found(tmp_path: Path) -> None:
    """In template.yaml itself, cfn-lint sees none of these."""
    template: Json = json.loads(json.dumps(DEPLOYED["template-default.json"]))
    resources = template["Resources"]
    resources["TerminateFunction"]["Properties"]["Runtime"] = "python3.1"
    resources["SweepFunction"]["Properties"]["Timeout"] = 1000
    resources["SweepFunction"]["Properties"]["Role"] = {"Fn::GetAtt": ["SweepRole", "Nothing"]}
    resources["TerminateFunctionWork"]["Properties"]["FunctionResponseTypes"] = ["ReportBatchItemFailure"]
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(template, indent=1))
    found = cfn_lint([path])
    assert found.returncode != 0
    for wrong in ("python3.1", "1000", "Nothing", "ReportBatchItemFailure"):
        assert f"'{wrong}'" in found.stdout or f" {wrong} " in found.stdout, found.stdout


def test_a_finding_has_to_be_suppressed_and_a_suppression_found() -> None:
    expected = set(SUPPRESSED)
    gone = next(iter(expected))
    assert complaints(expected) == []
    (unneeded,) = complaints(expected - {gone})
    assert "remove its suppression" in unneeded
    assert complaints(expected | {("CKV_AWS_1", "WorkQueue")}) == ["checkov: CKV_AWS_1 fails for WorkQueue"]
