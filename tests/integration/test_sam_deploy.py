"""SAM CLI builds and deploys what the other tests look at, which the local build and the API of CloudFormation made."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from infra.environments import ENVIRONMENTS, ROOT
from infra.local import build, cloudformation
from infra.local.stack import Account, Stack

SAM = ENVIRONMENTS["sam"].path / "bin" / "sam"
# What differs between runs and between pip and uv.
UNEQUAL = {".pyc", "INSTALLER", "RECORD", "REQUESTED"}


def sam(account: Account, *arguments: str | Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAM_CLI_"))}
    variables = {
        **account.aws.environment,
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.2",
        "__SAM_CLI_APP_DIR": str(account.directory / "scratch"),
        "TMPDIR": str(account.directory / "scratch"),
        "NO_PROXY": "127.0.0.1",
    }
    with (account.directory / "sam.log").open("a") as log:
        subprocess.run([SAM, *arguments], env=clean | variables, cwd=ROOT, stdout=log, stderr=log, check=True)  # noqa: S603


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): b"" if UNEQUAL & {path.suffix, path.name} else path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "REQUESTED"
    }


def test_sam_makes_the_same_stack(account: Account, stack: Stack) -> None:
    policy = json.dumps({"idle_for": "PT12H", "tags": ["a tag"]})
    built = account.directory / "scratch" / "sam-build"

    sam(account, "build", "--build-dir", built)
    build.write_template(built / "template.yaml", built / "local.json")
    sam(
        account,
        *("deploy", "--stack-name", "by-sam", "--template-file", built / "local.json"),
        # Named, because SAM CLI would look for it beside the built template.
        *("--config-file", ROOT / "samconfig.toml"),
        # A bucket that there is spares the stack that --resolve-s3 would make first.
        *("--s3-bucket", cloudformation.BUCKET, "--no-resolve-s3", "--no-confirm-changeset", "--no-progressbar"),
        # SAM CLI takes a value apart at spaces and quotes unless it is quoted itself.
        *("--parameter-overrides", f'SweepPolicy="{policy.replace('"', '\\"')}"', f"DevinApiUrl={account.api.url}"),
        *("AlarmEmail=on-call@example.com", "Dashboard=true"),
    )

    for function in ("TerminateFunction", "SweepFunction"):
        assert files(built / function) == files(build.FUNCTIONS)
    (deployed,) = account.aws.cloudformation.describe_stacks(StackName="by-sam")["Stacks"]
    assert {one["OutputKey"] for one in deployed["Outputs"]} == stack.outputs.keys()
    parameters = {one["ParameterKey"]: one["ParameterValue"] for one in deployed["Parameters"]}
    assert (parameters["SweepPolicy"], parameters["DevinApiUrl"]) == (policy, account.api.url)
