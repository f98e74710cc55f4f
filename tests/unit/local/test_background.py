"""What `make up` gives a shell: variables that lead to the stack on this machine alone, and commands that use them."""

import os
import subprocess
from pathlib import Path

import pytest

from infra.environments import ROOT
from infra.local import background
from infra.local.aws import Aws
from infra.local.background import exports, make_commands, variable

OUTPUTS = {
    "WorkQueueUrl": "https://127.0.0.1:1/0/work",
    "TerminateFunctionName": "terminate",
    "StopSwitchParameterName": "/a stack/stop-switch",
}


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    """A directory with an `aws` that says how it was called; describe-stacks has OUTPUTS."""
    directory = tmp_path / "user's bin"
    directory.mkdir()
    rows = "\\n".join(f"{name}\\t{value}" for name, value in OUTPUTS.items())
    aws = f"""#!/bin/sh
case "$*" in *describe-stacks*) printf '{rows}\\n' ;; *) echo "real aws $*" ;; esac
"""
    (directory / "aws").write_text(aws)
    (directory / "aws").chmod(0o755)
    return directory


def shell(script: str, **environment: str) -> list[str]:
    answer = subprocess.run(  # noqa: S603 - our own
        ["/bin/sh", "-euc", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return answer.stdout.splitlines()


def test_a_shell_is_led_to_the_stack_and_away_from_everything_else(
    tmp_path: Path, bin_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = tmp_path / "commands of the stack"
    monkeypatch.setattr(background, "COMMANDS", commands)
    make_commands(commands)
    aws = Aws("https://127.0.0.1:1", Path("ca.pem"))
    (tmp_path / "env").write_text(exports(aws.environment, OUTPUTS, "a stack"))
    foreign = {"AWS_PROFILE": "production", "AWS_SESSION_TOKEN": "x", "AWS_ENDPOINT_URL_SQS": "https://elsewhere"}

    lines = shell(
        '. "$EXPORTS"; . "$EXPORTS"; env | grep ^AWS_ | cut -d= -f1 | sort; echo "$STOP_SWITCH"; aws sqs "two words"',
        **foreign,
        EXPORTS=str(tmp_path / "env"),
        PATH=f"{bin_directory}:{os.defpath}",
    )

    own = sorted([*aws.environment, "AWS_PAGER"])
    assert lines == [*own, "/a stack/stop-switch", "real aws --endpoint-url https://127.0.0.1:1 sqs two words"]


def test_one_call_sets_a_variable_for_each_output(bin_directory: Path) -> None:
    names = ["STACK_NAME", *map(variable, OUTPUTS)]

    lines = shell(
        'eval "$(infra/outputs mine)"; for name in $NAMES; do eval "echo \\$$name"; done',
        NAMES=" ".join(names),
        PATH=f"{bin_directory}:{os.defpath}",
    )

    assert names == ["STACK_NAME", "WORK_QUEUE_URL", "TERMINATE_FUNCTION", "STOP_SWITCH"]
    assert lines == ["mine", *OUTPUTS.values()]
