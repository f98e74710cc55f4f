"""The layer for gradual deployments: what it adds to the template, and that it changes nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from infra import gradual
from terminate.report import METRICS
from tests.template.layered import layered, layered_source, written
from tests.template.rendered import ROOT, Json, Stack, render, source, statements

BOUNDARY = "arn:aws:iam::123456789012:policy/delivery/boundary"
ALIAS = "TerminateFunctionAliaslive"


@pytest.fixture(scope="module")
def stack() -> Stack:
    return layered(UseCustomerManagedKey="true", ScheduledSessionIds="devin-1")


@pytest.fixture(scope="module")
def plain() -> Stack:
    return render(UseCustomerManagedKey="true", ScheduledSessionIds="devin-1")


def version(stack: Stack) -> str:
    (name,) = stack.of_type("AWS::Lambda::Version")
    return name


def test_queue_and_rule_go_by_the_alias(stack: Stack) -> None:
    assert stack.only("AWS::Lambda::EventSourceMapping")["FunctionName"] == ALIAS
    rule = stack.only("AWS::Events::Rule")
    assert [target["Arn"] for target in rule["Targets"]] == [ALIAS]
    permission = stack.only("AWS::Lambda::Permission")
    assert permission["FunctionName"] == ALIAS
    assert permission["SourceArn"] == "TerminateFunctionTerminationRequested.Arn"
    assert stack.only("AWS::Lambda::Alias")["FunctionVersion"] == f"{version(stack)}.Version"


def test_both_ways_in_keep_what_fails(stack: Stack, plain: Stack) -> None:
    def settings(one: Json) -> Json:
        return {key: value for key, value in one.items() if key != "Qualifier"}

    before = plain.resources["TerminateFunctionEventInvokeConfig"]["Properties"]
    configs = {
        one["Qualifier"]: settings(one)
        for one in stack.of_type("AWS::Lambda::EventInvokeConfig").values()
        if one["FunctionName"] == "TerminateFunction"
    }
    assert configs == {"$LATEST": settings(before), "live": settings(before)}


def test_settings_of_latest_stay_the_same_resource(stack: Stack, plain: Stack) -> None:
    """Under another name they would be made anew, and the old ones deleted after: the very same settings."""
    name = "TerminateFunctionEventInvokeConfig"
    assert stack.resources[name]["Properties"] == plain.resources[name]["Properties"]
    assert stack.resources[name]["Properties"]["Qualifier"] == "$LATEST"
    assert stack.resources["LiveInvokeConfig"]["DependsOn"] in (ALIAS, [ALIAS])


def test_a_tenth_goes_first_and_alarms_take_it_back(stack: Stack) -> None:
    group = stack.only("AWS::CodeDeploy::DeploymentGroup")
    assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent5Minutes"
    assert group["AutoRollbackConfiguration"]["Enabled"] is True
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    assert group["AlarmConfiguration"]["Enabled"] is True
    named = {alarm["Name"] for alarm in group["AlarmConfiguration"]["Alarms"]}
    assert named == set(stack.of_type("AWS::CloudWatch::Alarm"))
    assert len(named) == 2
    update = stack.resources[ALIAS]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
    assert update["DeploymentGroupName"] == "TerminateFunctionDeploymentGroup"


def test_alarms_look_at_metrics_that_exist(stack: Stack) -> None:
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    looks = {
        (alarm["Namespace"], alarm["MetricName"]): {one["Name"]: one["Value"] for one in alarm["Dimensions"]}
        for alarm in alarms.values()
    }
    assert looks == {
        # Lambda has all three for what comes by an alias.
        # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html
        ("AWS/Lambda", "Errors"): {
            "FunctionName": "TerminateFunction",
            "Resource": "TerminateFunction:live",
            "ExecutedVersion": f"{version(stack)}.Version",
        },
        ("DevinSessionCleanup", "unexpected_errors"): {"function_name": "TerminateFunction", "service": "terminate"},
    }
    assert "unexpected_errors" in {str(name) for name in METRICS}
    variables = stack.resources["TerminateFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_SERVICE_NAME"] == "terminate"


def test_alarms_are_in_time(stack: Stack) -> None:
    for alarm in stack.of_type("AWS::CloudWatch::Alarm").values():
        assert alarm["Period"] * alarm["EvaluationPeriods"] <= 60, "five minutes is all there is"
        assert alarm["Statistic"] == "Sum"
        assert alarm["Threshold"] == 1
        assert alarm["TreatMissingData"] == "notBreaching"
        assert not alarm.get("AlarmActions"), "the deployment fails, and that is seen"


def test_the_role_may_move_the_alias_and_look(stack: Stack) -> None:
    role = stack.resources["DeploymentRole"]["Properties"]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "codedeploy.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    assert stack.only("AWS::CodeDeploy::DeploymentGroup")["ServiceRoleArn"] == "DeploymentRole.Arn"
    (policy,) = role["Policies"]
    granted = {action: where for _, actions, where in statements(policy["PolicyDocument"]) for action in actions}
    function = ["TerminateFunction.Arn", "TerminateFunction.Arn:*"]
    assert granted == {
        "lambda:GetAlias": function,
        "lambda:UpdateAlias": function,
        "lambda:GetProvisionedConcurrencyConfig": function,
        "cloudwatch:DescribeAlarms": ["arn:aws:cloudwatch:eu-west-1:123456789012:alarm:*"],
    }


def test_every_deployment_is_a_new_version(stack: Stack) -> None:
    """Whatever it changes: SAM alone would publish nothing for a parameter."""
    first, second = layered("0a1b-7-1"), layered("0a1b-7-2")
    assert version(first) != version(second)
    for one, name in ((first, "0a1b-7-1"), (second, "0a1b-7-2")):
        assert one.resources["TerminateFunction"]["Properties"]["Environment"]["Variables"]["DEPLOYMENT"] == name
    assert stack.resources[version(stack)]["DeletionPolicy"] == "Retain", "the alias points there until it is moved"


def test_two_deployments_differ_in_nothing_else() -> None:
    def without_names(stack: Stack, deployment: str) -> str:
        text = json.dumps(stack.resources, sort_keys=True)
        sha = stack.resources["TerminateFunction"]["Properties"]["Description"].split()[-1]
        return text.replace(version(stack), "VERSION").replace(sha, "SHA").replace(deployment, "DEPLOYMENT")

    first, second = (without_names(layered(name), name) for name in ("0a1b-7-1", "2c3d-8-1"))
    assert first == second


def test_nothing_else_of_the_template_changes(stack: Stack, plain: Stack) -> None:
    added = set(stack.resources) - set(plain.resources)
    assert added == {
        ALIAS,
        version(stack),
        "DeploymentErrorsAlarm",
        "DeploymentRole",
        "DeploymentUnexpectedErrorsAlarm",
        "LiveInvokeConfig",
        "ServerlessDeploymentApplication",
        "TerminateFunctionDeploymentGroup",
    }
    assert not set(plain.resources) - set(stack.resources)
    changed = {
        f"{name}.{key}"
        for name, one in plain.resources.items()
        for key in one["Properties"]
        if stack.resources[name]["Properties"][key] != one["Properties"][key]
    }
    assert changed == {
        "TerminateFunction.Description",  # SAM adds the version's hash
        "TerminateFunction.Environment",
        "TerminateFunctionTerminationRequested.Targets",
        "TerminateFunctionTerminationRequestedPermission.FunctionName",
        "TerminateFunctionWork.FunctionName",
    }
    assert all(
        stack.resources[name]["Properties"].keys() == one["Properties"].keys() for name, one in plain.resources.items()
    )
    assert stack.outputs == plain.outputs | {"TerminateAliasArn": stack.outputs["TerminateAliasArn"]}
    assert stack.outputs["TerminateAliasArn"]["Value"] == ALIAS


def test_parameters_of_the_template_stay_and_one_is_added() -> None:
    template = layered_source()
    ours = template.pop("Parameters")
    assert ours.keys() - source()["Parameters"].keys() == {"RolesBoundary"}
    assert {name: ours[name] for name in source()["Parameters"]} == source()["Parameters"]
    parameter = ours["RolesBoundary"]
    assert parameter["Default"] == ""
    for value, admitted in {BOUNDARY: True, "": True, "boundary": False, f"{BOUNDARY}*": False}.items():
        assert bool(re.fullmatch(parameter["AllowedPattern"], value)) is admitted


def test_every_role_is_bounded_if_there_is_a_boundary() -> None:
    bounded = layered(RolesBoundary=BOUNDARY, ScheduledSessionIds="devin-1").of_type("AWS::IAM::Role")
    assert {name: role.get("PermissionsBoundary") for name, role in bounded.items()} == dict.fromkeys(bounded, BOUNDARY)
    assert {"TerminateRole", "SweepRole", "DeploymentRole", "ScheduleRole"} <= bounded.keys()
    nested = yaml_parse((ROOT / "infra" / "observability.yaml").read_text(encoding="utf-8"))
    assert not [one for one in nested["Resources"].values() if one["Type"].startswith("AWS::IAM::")]


def test_no_role_is_bounded_otherwise(stack: Stack) -> None:
    assert not [role for role in stack.of_type("AWS::IAM::Role").values() if "PermissionsBoundary" in role]


def test_what_it_has_no_say_in_is_left_alone() -> None:
    below = {"a": {"b": 1, "c": [1, 2]}, "d": 2, "e": {"f": 3}}
    assert gradual.laid_over(below, {"a": {"c": [3], "g": {"h": 4}}, "d": None}) == {
        "a": {"b": 1, "c": [3], "g": {"h": 4}},
        "e": {"f": 3},
    }
    assert below == {"a": {"b": 1, "c": [1, 2]}, "d": 2, "e": {"f": 3}}


def test_cfn_lint_finds_nothing_in_what_is_deployed(tmp_path: Path) -> None:
    lint = [str(Path(sys.executable).with_name("cfn-lint")), "--include-checks", "I", "--", str(written(tmp_path))]
    result = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 0, result.stdout + result.stderr


def run(monkeypatch: pytest.MonkeyPatch, build: Path, *arguments: str) -> int:
    monkeypatch.setattr(gradual, "BUILD", build)
    monkeypatch.setattr(gradual, "GRADUAL", build / "gradual.json")
    monkeypatch.setattr(gradual, "ROOT", build)
    monkeypatch.setattr(sys, "argv", ["gradual", *arguments])
    return gradual.main()


def test_the_command_writes_beside_the_built_template(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "template.yaml").write_text((ROOT / "template.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    name = f"{'0a1b2c3d4e' * 4}-18446744073709551615-12"  # as long as GitHub's can be
    assert run(monkeypatch, tmp_path, name) == 0
    assert capsys.readouterr().out == "gradual.json\n"
    template: Any = json.loads((tmp_path / "gradual.json").read_text(encoding="utf-8"))
    assert template["Resources"]["TerminateFunction"]["Properties"]["Environment"]["Variables"]["DEPLOYMENT"] == name


def test_the_command_wants_a_build_and_a_usable_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, "0a1b-7-1") == 1
    assert "make build" in capsys.readouterr().err
    for name in ("", "a b", "$(id)", "a" * 129):
        with pytest.raises(SystemExit) as refused:
            run(monkeypatch, tmp_path, name)
        assert refused.value.code == 2
