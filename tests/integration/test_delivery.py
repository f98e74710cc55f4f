"""What a job on GitHub does with its role, tried with the role's own policy: the emulator refuses what that lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from infra.environments import ROOT
from infra.local.emulator import REGION
from infra.local.stack import Stack
from tests.template.delivery import policy_of_the_job

ACCOUNT = "000000000000"


@pytest.fixture(scope="module")
def credentials(stack: Stack) -> dict[str, str]:
    """Of somebody who may do what a job may do."""
    iam, name = stack.aws.iam, "job-of-a-test"
    iam.create_user(UserName=name)
    policy = policy_of_the_job(stack.name, ACCOUNT, REGION)
    # AWS asks for this on the role whose policies are simulated, the emulator on all.
    policy["Statement"].append({"Effect": "Allow", "Action": "iam:SimulatePrincipalPolicy", "Resource": "*"})
    iam.put_user_policy(UserName=name, PolicyName="deploy", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def test_the_job_can_ask_the_stack_how_it_is_and_not_for_its_key(stack: Stack, credentials: dict[str, str]) -> None:
    ran = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "infra.ops", "doctor", "--no-api", "--json", "--stack-name", stack.name],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": stack.aws.endpoint_url,
            "AWS_CA_BUNDLE": str(stack.aws.ca_bundle),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            **credentials,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    findings = json.loads(ran.stdout)["findings"]
    unseen = {one["check"]: one["found"] for one in findings if "could not be checked" in one["found"]}
    assert unseen.keys() == {"secret"}, unseen
    assert "AccessDenied" in unseen["secret"]
