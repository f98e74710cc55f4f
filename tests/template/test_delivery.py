"""Delivery: who may become the role, what it may do, and that the workflow uses what the template makes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from tests.template.rendered import ROOT, render, statements

WORKFLOWS = ROOT / ".github" / "workflows"


def template() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml_parse((ROOT / "infra" / "delivery.yaml").read_text(encoding="utf-8"))
    return parsed


def role(name: str) -> dict[str, Any]:
    properties: dict[str, Any] = template()["Resources"][name]["Properties"]
    return properties


def granted(name: str) -> list[tuple[dict[str, Any], list[str]]]:
    (policy,) = role(name)["Policies"]
    return [(statement, actions) for statement, actions, _ in statements(policy["PolicyDocument"])]


def test_only_a_job_of_one_environment_of_one_repository_becomes_the_role() -> None:
    (statement,) = role("DeployRole")["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": {"Fn::Sub": "repo:${Repository}:environment:${Environment}"},
        }
    }
    for name in ("Repository", "Environment"):
        pattern = template()["Parameters"][name]["AllowedPattern"]
        assert not re.fullmatch(pattern, "*")
        assert not re.fullmatch(pattern, "owner/*")


def test_the_job_makes_nothing_itself() -> None:
    services = {action.split(":")[0] for _, actions in granted("DeployRole") for action in actions}
    assert services == {"cloudformation", "s3", "iam"}
    (hand_over,) = [statement for statement, actions in granted("DeployRole") if actions == ["iam:PassRole"]]
    assert hand_over["Resource"] == {"Fn::GetAtt": ["ExecutionRole", "Arn"]}
    assert hand_over["Condition"] == {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}


def test_nobody_reads_the_key_to_deploy() -> None:
    for name in ("DeployRole", "ExecutionRole"):
        actions = {action for _, actions in granted(name) for action in actions}
        assert not {
            action for action in actions if action in {"*", "secretsmanager:*", "secretsmanager:GetSecretValue"}
        }


def kinds() -> set[str]:
    rendered = render(UseCustomerManagedKey="true", ScheduledSessionIds="devin-1")
    return {resource["Type"] for resource in rendered.resources.values()}


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_type_of_the_template_can_be_made(kind: str) -> None:
    """A resource of a new service fails here, and not in the first deployment."""
    service = kind.split("::")[1].lower()
    assert any(action.startswith(f"{service}:") for _, actions in granted("ExecutionRole") for action in actions)


def jobs(workflow: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((WORKFLOWS / workflow).read_text(encoding="utf-8"))["jobs"]
    return found


@pytest.mark.parametrize("workflow", sorted(path.name for path in WORKFLOWS.glob("*.yml")))
def test_actions_are_pinned_by_commit(workflow: str) -> None:
    used = [step["uses"] for job in jobs(workflow).values() for step in job["steps"] if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action)] == []


def test_production_gets_what_stage_got_and_after_it() -> None:
    found = jobs("deploy.yml")
    assert found["production"]["needs"] == "stage"
    assert found["stage"]["needs"] == "build"
    assert found["production"]["steps"] == found["stage"]["steps"]
    assert [found[name].get("environment") for name in ("build", "stage", "production")] == [
        None,
        "stage",
        "production",
    ]
    building = [
        name for name, job in found.items() if any("make build" in step.get("run", "") for step in job["steps"])
    ]
    assert building == ["build"]


def test_the_workflow_asks_for_the_variables_that_the_template_tells_of() -> None:
    text = (WORKFLOWS / "deploy.yml").read_text(encoding="utf-8")
    told = {re.findall(r"Variable (\w+)", output["Description"])[0] for output in template()["Outputs"].values()}
    assert told == {"DEPLOY_ROLE_ARN", "EXECUTION_ROLE_ARN", "ARTEFACTS_BUCKET"}
    assert {name for name in told if f"vars.{name} }}}}" not in text} == set()


def test_no_job_has_more_than_a_token() -> None:
    for workflow in WORKFLOWS.glob("*.yml"):
        whole = yaml.safe_load(workflow.read_text(encoding="utf-8"))
        assert whole["permissions"] == {"contents": "read"}
        assert "secrets." not in workflow.read_text(encoding="utf-8")
        for name, job in whole["jobs"].items():
            expected = {"contents": "read", "id-token": "write"} if name in {"stage", "production"} else None
            assert job.get("permissions") == expected
