"""`make lint` looks at what is deployed, and its suppressions are needed."""

from __future__ import annotations

import json

from infra.lint import SUPPRESSED, complaints, rendered

DEPLOYED = dict(rendered())


def test_no_condition_is_left_for_the_linters() -> None:
    """checkov leaves out checks of a role that has a statement inside Fn::If."""
    text = json.dumps(DEPLOYED)
    assert "Fn::If" not in text
    assert "AWS::NoValue" not in text
    assert "AWS::Serverless" not in text


def test_a_finding_has_to_be_suppressed_and_a_suppression_found() -> None:
    expected = set(SUPPRESSED)
    gone = next(iter(expected))
    assert complaints(expected) == []
    (unneeded,) = complaints(expected - {gone})
    assert "remove its suppression" in unneeded
    assert complaints(expected | {("CKV_AWS_1", "WorkQueue")}) == ["checkov: CKV_AWS_1 fails for WorkQueue"]
