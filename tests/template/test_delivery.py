"""Delivery: who may become the role, what it may do, and that the workflow uses what the template makes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped]
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from infra.environments import ENVIRONMENTS
from infra.local.sam import _quoted
from tests.template.delivery import ACCOUNT, EXISTING_SECRET, REGION, STACK, resources, template
from tests.template.layered import layered
from tests.template.rendered import ROOT, Json, source, statements

WORKFLOWS = ROOT / ".github" / "workflows"
EXISTING_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b2c3d"


def documents(name: str) -> Iterator[Json]:
    """The policies of a role, its own and those that are attached to it."""
    yield from (policy["PolicyDocument"] for policy in resources()[name]["Policies"])
    yield from (one["PolicyDocument"] for one in resources().values() if name in one.get("Roles", []))


def allowed(name: str) -> list[tuple[Json, list[str], list[str]]]:
    """What a role may do: every statement with its actions and resources."""
    found = [one for document in documents(name) for one in statements(document)]
    return [one for one in found if one[0]["Effect"] == "Allow"]


def where(name: str, action: str) -> set[str]:
    """The resources on which a role may do something."""
    return {
        resource
        for _, actions, on in allowed(name)
        if any(fnmatchcase(action, pattern) for pattern in actions)
        for resource in on
    }


# Who gets the role.


def test_only_a_job_of_one_environment_of_one_repository_becomes_the_role() -> None:
    (statement,) = resources()["DeployRole"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": "repo:octo@1/clean.up@2:environment:stage",
        }
    }


@pytest.mark.parametrize(
    ("repository", "admitted"),
    {
        "octocat/hello-world": True,
        "octocat@583231/hello.world_2@1296269": True,
        "octocat_corp@583231/hello-world@1296269": True,
        # One has both ids or none.
        "octocat@583231/hello-world": False,
        "octocat/hello-world@1296269": False,
        "octocat@/hello-world@": False,
        "octocat@x/hello-world@y": False,
        "octocat/*": False,
        "*": False,
        "octocat@*/hello-world@*": False,
        "octocat/hello-world:ref:refs/heads/main": False,
        "octocat": False,
        "": False,
    }.items(),
)
def test_a_repository_is_named_exactly_with_ids_or_without(repository: str, admitted: bool) -> None:
    assert bool(re.fullmatch(template()["Parameters"]["Repository"]["AllowedPattern"], repository)) is admitted


def test_an_environment_is_named_exactly() -> None:
    pattern = template()["Parameters"]["Environment"]["AllowedPattern"]
    assert re.fullmatch(pattern, "production")
    assert not [text for text in ("*", "a:b", "a b", "") if re.fullmatch(pattern, text)]


def test_only_cloudformation_becomes_the_execution_role() -> None:
    (statement,) = resources()["ExecutionRole"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "cloudformation.amazonaws.com"}


# What the job may do.


def test_the_job_makes_nothing_itself() -> None:
    changing = re.compile(r"[a-z0-9]+:(?!Get|List|Describe|Simulate)")
    assert {action for _, actions, _ in allowed("DeployRole") for action in actions if changing.match(action)} == {
        "cloudformation:CreateChangeSet",
        "cloudformation:ExecuteChangeSet",
        "cloudformation:DeleteChangeSet",
        "s3:PutObject",
        "iam:PassRole",
    }
    (hand_over,) = [statement for statement, actions, _ in allowed("DeployRole") if actions == ["iam:PassRole"]]
    assert hand_over["Resource"] == "ExecutionRole.Arn"
    assert hand_over["Condition"] == {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}


def test_the_job_takes_nothing_of_others_into_the_stack() -> None:
    """Or the execution role, which may change keys that have no names, could change those of others."""
    (denied,) = [
        one for document in documents("DeployRole") for one in document["Statement"] if one["Effect"] == "Deny"
    ]
    assert (denied["Action"], denied["Resource"]) == ("cloudformation:*", "*")
    assert denied["Condition"] == {"ForAnyValue:StringLike": {"cloudformation:ImportResourceTypes": ["*"]}}


@pytest.mark.parametrize("name", ["DeployRole", "ExecutionRole"])
def test_nobody_reads_the_key_to_deploy(name: str) -> None:
    assert where(name, "secretsmanager:GetSecretValue") == set()


# What CloudFormation may do.


def kinds() -> set[str]:
    """Every type of resource that a deployment may make."""
    nested = yaml_parse((ROOT / "infra" / "observability.yaml").read_text(encoding="utf-8"))
    mine = layered(UseCustomerManagedKey="true", ScheduledSessionIds="devin-1").resources
    return {one["Type"] for one in (*mine.values(), *nested["Resources"].values())}


def needed(kind: str) -> set[str]:
    """What CloudFormation calls for a type, as its registry says; cfn-lint brings a copy along.

    Without `list`, which no deployment asks for.
    """
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    return {action for handler, one in schema["handlers"].items() if handler != "list" for action in one["permissions"]}


# The registry names all that a type could ever ask for. What is withheld, and why it is not missed.
WITHHELD = {
    "The key is nobody's business. Asked for by drift detection, and by updates of a secret that is generated": {
        "secretsmanager:GetSecretValue",
        "secretsmanager:GetRandomPassword",
    },
    "The secret has no replicas": {
        "secretsmanager:ReplicateSecretToRegions",
        "secretsmanager:RemoveRegionsFromReplication",
    },
    "A role keeps its boundary, and has no policies but those that are written out": {
        "iam:DeleteRolePermissionsBoundary",
        "iam:AttachRolePolicy",
        "iam:DetachRolePolicy",
    },
    "Keys are made enabled and rotated, and stay so": {"kms:DisableKey", "kms:EnableKey", "kms:DisableKeyRotation"},
    "The table has no replicas, no stream and no import, and DynamoDB retires its grants itself": {
        "iam:CreateServiceLinkedRole",
        "kinesis:DescribeStream",
        "kinesis:PutRecords",
        "kms:ListAliases",
        "kms:RevokeGrant",
        "s3:GetObjectMetadata",
        "s3:ListBucket",
    },
    "Functions have no network and no file system": {
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
        "elasticfilesystem:DescribeMountTargets",
        "s3files:ListMountTargets",
    },
    "The bucket keeps no versions": {"s3:GetObjectVersion"},
    "Logs are delivered nowhere else": {"firehose:TagDeliveryStream", "s3:REST.PUT.OBJECT"},
}


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_type_of_the_templates_can_be_made_changed_and_deleted(kind: str) -> None:
    """A resource of a new type fails here, and not in the first deployment."""
    wanted = needed(kind) - set().union(*WITHHELD.values())
    assert wanted
    for action in wanted:
        service = action.split(":")[0]
        on = where("ExecutionRole", action)
        assert [one for one in on if one == "*" or one.split(":")[2:3] == [service] or "." in one], action


def test_nothing_is_withheld_in_vain() -> None:
    asked_for = {action for kind in kinds() for action in needed(kind)}
    withheld = set().union(*WITHHELD.values())
    assert withheld - asked_for == set()
    assert {action for action in withheld if where("ExecutionRole", action)} == set()


@pytest.mark.parametrize(
    "action",
    [
        # These know no resources, or are asked of all there are.
        "cloudwatch:DescribeAlarms",
        "codedeploy:StopDeployment",
        "kms:CreateKey",
        "lambda:CreateEventSourceMapping",
        "logs:DescribeLogGroups",
        "logs:DescribeQueryDefinitions",
        "logs:PutQueryDefinition",
        "sns:GetSubscriptionAttributes",
        "sns:SetSubscriptionAttributes",
        "sns:Unsubscribe",
        "ssm:DescribeParameters",
    ],
)
def test_what_knows_no_resource_is_allowed_on_all(action: str) -> None:
    assert "*" in where("ExecutionRole", action)


def test_a_stack_with_a_key_can_be_made() -> None:
    """Whoever makes a secret or a table with a key has to be allowed to use the key by way of the service."""
    by_service = {
        action: statement["Condition"]["StringEquals"]["kms:ViaService"]
        for statement, actions, _ in allowed("ExecutionRole")
        for action in actions
        if "kms:ViaService" in json.dumps(statement.get("Condition", {}))
    }
    assert by_service["kms:GenerateDataKey"] == by_service["kms:Decrypt"]
    assert by_service["kms:Decrypt"] == [f"{name}.{REGION}.amazonaws.com" for name in ("secretsmanager", "dynamodb")]
    (grants,) = [one for one, actions, _ in allowed("ExecutionRole") if "kms:CreateGrant" in actions]
    assert grants["Action"] == "kms:CreateGrant"
    assert grants["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": True}}


def test_the_nested_stack_can_be_made() -> None:
    """CloudFormation hands the role on to it, so the role has to be allowed to pass itself."""
    passed = [one for one in allowed("ExecutionRole") if "iam:PassRole" in one[1]]
    services = {
        resource: statement["Condition"]["StringEquals"]["iam:PassedToService"]
        for statement, _, on in passed
        for resource in on
    }
    assert services == {
        "ExecutionRole.Arn": "cloudformation.amazonaws.com",
        f"arn:aws:iam::{ACCOUNT}:role/{STACK}-*": [
            "lambda.amazonaws.com",
            "scheduler.amazonaws.com",
            "codedeploy.amazonaws.com",
        ],
    }
    nested = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}-ObservabilityStack-A1B2C3/0a1b"
    assert any(fnmatchcase(nested, one) for one in where("ExecutionRole", "cloudformation:CreateStack"))


@pytest.mark.parametrize("delivery", [f"{STACK}-delivery-stage", STACK, "anything"])
def test_what_is_deployed_changes_nothing_about_who_may_deploy(delivery: str) -> None:
    paths = {name: resources()[name]["Path"] for name in ("DeployRole", "ExecutionRole", "RolesBoundary")}
    assert set(paths.values()) == {"/delivery/"}
    of_the_delivery = [
        *(
            f"arn:aws:iam::{ACCOUNT}:role{paths[name]}{delivery}-{name}-A1B2"
            for name in ("DeployRole", "ExecutionRole")
        ),
        f"arn:aws:iam::{ACCOUNT}:policy{paths['RolesBoundary']}{delivery}-RolesBoundary-A1B2",
        f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{delivery}/0a1b",
        f"arn:aws:s3:::{delivery}-artefacts-a1b2",
    ]
    within_reach = [
        (action, arn)
        for _, actions, on in allowed("ExecutionRole")
        for action in actions
        if action.split(":")[0] in {"iam", "cloudformation", "s3"}
        for arn in of_the_delivery
        for resource in on
        if fnmatchcase(arn, resource)
    ]
    assert within_reach == []


# What the roles of the stack may do at most.


def test_a_role_is_made_within_the_boundary_and_stays_there() -> None:
    giving = {"iam:CreateRole", "iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary"}
    for statement, actions, _ in allowed("ExecutionRole"):
        if giving & set(actions):
            assert set(actions) == giving
            assert statement["Condition"] == {"StringEquals": {"iam:PermissionsBoundary": "RolesBoundary"}}
    assert all(where("ExecutionRole", action) == {f"arn:aws:iam::{ACCOUNT}:role/{STACK}-*"} for action in giving)
    for action in (
        "iam:DeleteRolePermissionsBoundary",
        "iam:AttachRolePolicy",
        "iam:CreatePolicyVersion",
        "iam:CreateUser",
    ):
        assert where("ExecutionRole", action) == set()


def physical(resource: str) -> str:
    """A resource of the stack as AWS calls it, for the rendered template's `<logical id>.<attribute>`."""
    logical, _, rest = resource.partition(".")
    named = {
        "WorkQueue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-work",
        "DeadLetterQueue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-dead-letters",
        "ApiKeySecret": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:ApiKeySecret-A1B2C3-AbCdEf",
        "AnnouncementsTable": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{STACK}-AnnouncementsTable-A1B2",
        "Key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b2c3d",
        **{
            f"{name}Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}-{name}Function-A1B2"
            for name in ("Terminate", "Sweep")
        },
        **{
            f"{name}LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{STACK}-{name.lower()}:*"
            for name in ("Terminate", "Sweep")
        },
    }
    if resource.startswith("arn:") or resource == "*":
        # The switch is named by a parameter of Systems Manager, whose `Ref` is its name.
        return resource.replace("parameterStopSwitch", f"parameter/devin-session-cleanup/{STACK}/stop-switch")
    return named[logical] + rest.removeprefix("Arn").removeprefix("Id")


VARIANTS = {
    "default": {"ScheduledSessionIds": "devin-1", "PublishOutcomes": "true"},
    "own key": {"ScheduledSessionIds": "devin-1", "UseCustomerManagedKey": "true"},
    "existing secret": {"ExistingApiKeySecretArn": EXISTING_SECRET, "ExistingApiKeySecretKmsKeyArn": EXISTING_KEY},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_boundary_leaves_every_role_what_it_needs(variant: str) -> None:
    boundary = list(statements(resources()["RolesBoundary"]["PolicyDocument"]))
    for name, role in layered(**VARIANTS[variant]).of_type("AWS::IAM::Role").items():
        for policy in role["Policies"]:
            for statement, actions, on in statements(policy["PolicyDocument"]):
                for action, resource in [(action, physical(one)) for action in actions for one in on]:
                    assert any(
                        action in most
                        and any(fnmatchcase(resource, pattern) for pattern in there)
                        and _as_wide(bound.get("Condition", {}), statement.get("Condition", {}))
                        for bound, most, there in boundary
                    ), f"{name}: {action} on {resource}"


def _as_wide(bound: Json, condition: Json) -> bool:
    """Whether what meets the condition also meets that of the boundary, which asks for one key alone."""

    def services(one: Json) -> set[str]:
        found = one.get("StringEquals", {}).get("kms:ViaService", [])
        return {found} if isinstance(found, str) else set(found)

    return not bound or (bool(services(condition)) and services(condition) <= services(bound))


def test_the_boundary_names_what_it_allows() -> None:
    for statement, actions, on in statements(resources()["RolesBoundary"]["PolicyDocument"]):
        assert not [action for action in actions if "*" in action]
        assert on != ["*"] or statement["Sid"] == "Traces"
        assert not {action.split(":")[0] for action in actions} & {"iam", "sts", "cloudformation"}
    secrets = {
        resource
        for _, actions, on in statements(resources()["RolesBoundary"]["PolicyDocument"])
        if "secretsmanager:GetSecretValue" in actions
        for resource in on
    }
    assert EXISTING_SECRET in secrets
    assert f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:*" not in secrets


def test_policies_fit() -> None:
    """IAM counts without white space. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""

    def size(*documents: Json) -> int:
        longest = {f'"{STACK}': f'"{"s" * 25}', f"{STACK}-": f"{'s' * 25}-", "Artefacts.Arn": "a" * 80}
        text = json.dumps(documents, separators=(",", ":"))
        for short, long in longest.items():
            text = text.replace(short, long)
        return len(text)

    for role in ("DeployRole", "ExecutionRole"):
        assert size(*documents(role)) < 10_240
    assert size(resources()["RolesBoundary"]["PolicyDocument"]) < 6_144


def test_names_that_are_made_begin_with_the_whole_name_of_the_stack() -> None:
    """64 less a hyphen and 12 random characters, half of it for the stack, the other for the logical id."""
    longest = 64 - 13
    pattern = template()["Parameters"]["StackName"]["AllowedPattern"]
    assert re.fullmatch(pattern, "s" * (longest // 2))
    assert not re.fullmatch(pattern, "s" * (longest // 2 + 1))
    assert re.fullmatch(pattern, template()["Parameters"]["StackName"]["Default"])


def test_an_existing_secret_is_named_as_in_the_template() -> None:
    mine, theirs = (one["Parameters"]["ExistingApiKeySecretArn"] for one in (template(), source()))
    assert mine["AllowedPattern"] == theirs["AllowedPattern"]


# The workflow.


def jobs(workflow: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((WORKFLOWS / workflow).read_text(encoding="utf-8"))["jobs"]
    return found


def step(job: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in jobs("deploy.yml")[job]["steps"] if one.get("name") == name]
    step: dict[str, Any] = found
    return step


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


def test_stage_has_to_be_well_before_production_is_touched() -> None:
    asks = step("stage", "Ask the stack how it is")
    assert "infra.ops doctor --no-api" in asks["run"]
    assert jobs("deploy.yml")["stage"]["steps"][-1] == asks
    assert asks["continue-on-error"] == "${{ github.job == 'production' }}"


def test_the_workflow_asks_for_the_variables_that_the_template_tells_of() -> None:
    text = (WORKFLOWS / "deploy.yml").read_text(encoding="utf-8")
    told = {re.findall(r"Variable (\w+)", output["Description"])[0] for output in template()["Outputs"].values()}
    assert told == {"DEPLOY_ROLE_ARN", "EXECUTION_ROLE_ARN", "ROLES_BOUNDARY_ARN", "ARTEFACTS_BUCKET"}
    assert {name for name in told if f"vars.{name} }}}}" not in text} == set()


def test_the_readme_tells_of_every_variable() -> None:
    asked_for = set(re.findall(r"vars\.(\w+)", (WORKFLOWS / "deploy.yml").read_text(encoding="utf-8")))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "DEPLOY" in asked_for
    assert {name for name in asked_for if f"`{name}`" not in readme} == set()


def test_no_job_has_more_than_a_token() -> None:
    for workflow in WORKFLOWS.glob("*.yml"):
        whole = yaml.safe_load(workflow.read_text(encoding="utf-8"))
        assert whole["permissions"] == {"contents": "read"}
        assert "secrets." not in workflow.read_text(encoding="utf-8")
        for name, job in whole["jobs"].items():
            expected = {"contents": "read", "id-token": "write"} if name in {"stage", "production"} else None
            assert job.get("permissions") == expected


def test_what_others_write_is_not_part_of_a_script() -> None:
    """Names of tags and branches are anybody's; as variables of the environment they are text."""
    for workflow in WORKFLOWS.glob("*.yml"):
        for job in jobs(workflow.name).values():
            assert not [one["run"] for one in job["steps"] if "${{" in one.get("run", "")]


BASH = ["bash", "--noprofile", "--norc", "-e"]
VALUES = {
    "ROLES_BOUNDARY_ARN": f"arn:aws:iam::{ACCOUNT}:policy/delivery/boundary",
    "STACK_NAME": "cleanup",
    "EXECUTION_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/delivery/execution",
    "ARTEFACTS_BUCKET": "artefacts",
    "GITHUB_SHA": "0a1b",
    "GITHUB_RUN_ID": "7",
    "GITHUB_RUN_ATTEMPT": "2",
}
AWKWARD = {
    "ScheduleExpression": "cron(0 7 ? * MON-FRI *)",
    "SweepPolicy": '{"title_matches": "it\'s $HOME & [a-z]* `id` ~", "idle_for": "PT12H", "tags": ["a=b", "c d"]}',
    "DevinOrgId": "",
    "SweepEnabled": "true",
}


def deploy(place: Path, parameters: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The workflow's own script, in a directory where a stranger's files could be taken for arguments."""
    (place / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    python = place / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "gradual: $*" >&2\n')
    python.chmod(0o755)
    for name in ("a", "MON-FRI", "*)"):
        (place / name).touch()
    return subprocess.run(  # noqa: S603
        [*BASH, "-c", step("stage", "Deploy what was built")["run"]],
        cwd=place,
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere", **VALUES, "PARAMETERS": parameters, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """With a `sam` that says what it was given."""
    sam = tmp_path / ".tools" / "sam" / "bin" / "sam"
    sam.parent.mkdir(parents=True)
    sam.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    sam.chmod(0o755)
    return tmp_path


def overrides(ran: subprocess.CompletedProcess[str]) -> list[str]:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    given = ran.stdout.split("\0")[:-1]
    return given[given.index("--parameter-overrides") + 1 :]


def boundary_and(parameters: dict[str, str]) -> list[str]:
    """As the local stack hands them to SAM CLI."""
    return [
        f"{name}={_quoted(value)}"
        for name, value in {"RolesBoundary": VALUES["ROLES_BOUNDARY_ARN"], **parameters}.items()
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_parameters_reach_sam_as_they_were_written(place: Path, end: str) -> None:
    lines = [f"{name}={value}" for name, value in AWKWARD.items()]
    assert overrides(deploy(place, end.join([*lines, ""]))) == boundary_and(AWKWARD)
    assert overrides(deploy(place, end.join(lines))) == boundary_and(AWKWARD)


def test_without_parameters_only_the_boundary_is_given(place: Path) -> None:
    assert overrides(deploy(place, "")) == boundary_and({})


@pytest.mark.parametrize(
    "line", ["SweepEnabled", "=true", "Sweep Enabled=true", "--force=x", 'SweepPolicy={"a": "\\\\d"}']
)
def test_what_is_no_parameter_stops_the_deployment(place: Path, line: str) -> None:
    ran = deploy(place, f"DevinOrgId=org-1\n{line}\n")
    assert ran.returncode != 0
    assert "PARAMETERS has a line" in ran.stdout
    assert "deploy" not in ran.stdout.split("\0")


def test_sam_understands_the_parameters(place: Path) -> None:
    """Its own reader of the command line gets them back."""
    given = overrides(deploy(place, "\n".join(f"{name}={value}" for name, value in AWKWARD.items())))
    read = (
        "import json, sys; from samcli.cli.types import CfnParameterOverridesType as T; "
        "print(json.dumps(T().convert(tuple(sys.argv[1:]), None, None)))"
    )
    python = ENVIRONMENTS["sam"].path / "bin" / "python"
    ran = subprocess.run([python, "-c", read, *given], capture_output=True, text=True, check=True)  # noqa: S603
    assert json.loads(ran.stdout) == {"RolesBoundary": VALUES["ROLES_BOUNDARY_ARN"], **AWKWARD}


def test_every_deployment_has_a_name_of_its_own(place: Path) -> None:
    ran = deploy(place, "")
    assert ran.stderr.splitlines() == ["gradual: -m infra.gradual 0a1b-7-2"]
    assert "--template-file\0.aws-sam/build/gradual.json" in ran.stdout


def test_sam_finds_the_configuration(tmp_path: Path) -> None:
    """Beside the built template, where it would look, there is none: nothing would say which capabilities."""
    (tmp_path / ".tools").symlink_to(ROOT / ".tools")
    (tmp_path / "samconfig.toml").write_text((ROOT / "samconfig.toml").read_text(encoding="utf-8"), encoding="utf-8")
    build = tmp_path / ".aws-sam" / "build"
    build.mkdir(parents=True)
    # With nothing to upload, so that it comes to say what it has understood before it fails for want of AWS.
    (build / "gradual.json").write_text('{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}')
    ran = deploy(
        tmp_path,
        "",
        HOME=str(tmp_path),
        SAM_CLI_TELEMETRY="0",
        SAM_CLI_CHECK_FOR_UPDATES="0",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION=REGION,
        AWS_ENDPOINT_URL="http://127.0.0.1:1",
        AWS_MAX_ATTEMPTS="1",
    )
    assert ran.returncode != 0
    assert re.search(r'Capabilities\s*: \["CAPABILITY_IAM"\]', ran.stdout + ran.stderr), ran.stdout + ran.stderr


@pytest.mark.parametrize("right", [True, False])
def test_a_tag_names_the_version(right: bool) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    holds = step("build", "Hold the tag to the version")
    assert holds["if"] == "github.ref_type == 'tag'"
    assert jobs("deploy.yml")["build"]["steps"].index(holds) < 3, "before what takes long"
    ran = subprocess.run(  # noqa: S603
        [*BASH, "-c", holds["run"]],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "TAG": f"v{version}" if right else f"v{version}.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode == 0) is right, ran.stdout + ran.stderr
