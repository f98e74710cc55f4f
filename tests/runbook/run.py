"""`make runbook`: every command of docs/operations.md, run by a shell against the stack on this machine.

What has to fail here is named in `FAILS`, so that a command which works after all does not stay there.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.environments import ENVIRONMENTS, ROOT
from infra.local.emulator import CREDENTIALS, REGION
from infra.local.metrics import Forwarder
from infra.local.stack import API_KEY, Stack, running_stack
from infra.ops.depth import depth_of
from tests.runbook.page import Block, blocks, text

FIRST, *OTHERS = blocks(text())
# PyPI has version 1, which takes the address of SQS from nowhere but this option.
AWS = """\
#!/bin/sh
exec '{program}' --endpoint-url "$AWS_ENDPOINT_URL" "$@"
"""
# What stands for something that only the reader knows.
PLACEHOLDERS = {"org-…": "org-abc123"}
# Commands that end with another status than 0, by block and how they begin, and why.
FAILS = {
    ("Before anything else 3", "devin-ops"): "1, because there are dead letters",
    ("Withdraw 1", "devin-ops withdraw"): "1, because no message asks for these",
}
# What has to be among what a block prints.
SHOWS = {
    "Before anything else 2": r"devin-session-cleanup-dead-letters.*#dead-letters",
    "Before anything else 3": r"2: 1 invalid_message, 1 rejected_404",
    "Before anything else 4": r"Session not found.*idle_fr",
    "Dead letters 1": r"rejected_404",
    "Oldest message 1": r"^go$.*Enabled",
    "Errors 1": r"platform|RequestId",
    "Throttles 1": r"^\d+\s+\d+$",
    "Unauthorized 1": r"AWSCURRENT",
    "Stopped 1": r"^go",
    "Sweep errors 1": r"^dry_run",
    "Sweep missing 1": r"PeriodicSweep.*DISABLED",
    "Destination failures 1": r"direct",
    "Events lost 1": r"UndeliveredEvents.*events\.amazonaws\.com",
    "Schedules dropped 1": r"PeriodicSweep",
    "Stop everything 1": r"^stop$",
    "Stop everything 2": r"wrong sessions end",
    "Stop everything 3": r"-> go",
    "Redrive 2": r"devin-|names no session",
    "Redrive 1": r"sent back",
    "Saved queries 1": r"@message",
}


class Shell:
    """A shell for each block, with what the first one on the page has set."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self._state = directory / "state"
        self._failures = directory / "failures"
        aws = directory / "bin" / "aws"
        aws.parent.mkdir()
        aws.write_text(AWS.format(program=ENVIRONMENTS["awscli"].path / "bin" / "aws"))
        aws.chmod(0o700)
        self._environment = {
            # devin-ops is beside the interpreter.
            "PATH": os.pathsep.join([str(aws.parent), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(directory),
            "AWS_ENDPOINT_URL": stack.aws.endpoint_url,
            "AWS_CA_BUNDLE": str(stack.aws.ca_bundle),
            "AWS_DEFAULT_REGION": REGION,
            "NO_PROXY": "127.0.0.1",
            **CREDENTIALS,
        }

    def run(self, block: Block) -> tuple[list[str], str]:
        """The commands that failed, and all that was printed."""
        script = f"{block.text}\n{{ declare -px; declare -f; }} > '{self._state}'"
        if block is not FIRST:
            script = f". '{self._state}'\n{block.text}"
        for placeholder, value in PLACEHOLDERS.items():
            script = script.replace(placeholder, value)
        self._failures.write_text("")
        trap = f"""trap 'printf "%s\\0" "$BASH_COMMAND" >> "{self._failures}"' ERR"""
        ran = subprocess.run(  # noqa: S603 - the project's own commands
            ["/bin/bash", "-E", "-u", "-o", "pipefail", "-c", f"{trap}\n{script}"],
            cwd=ROOT,
            env=self._environment,
            input=f"{API_KEY}\n",  # where somebody is asked for the key
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return [one for one in self._failures.read_text().split("\0") if one], ran.stdout


def prepare(stack: Stack) -> None:
    """What somebody would be called for: two dead letters of different reasons, and a policy that cannot be used."""
    for body in ("devin-of-nobody", "this names no session"):
        stack.aws.sqs.send_message(QueueUrl=stack.work_queue_url, MessageBody=body)
    stack.api.add_sessions("devin-ends-well")
    stack.aws.lambda_.invoke(FunctionName=stack.terminate_function_name, Payload=b'{"session_id": "devin-ends-well"}')
    stack.aws.lambda_.invoke(FunctionName=stack.sweep_function_name, Payload=b'{"idle_fr": "P3D"}')
    end = time.monotonic() + 60
    while depth_of(stack.aws.sqs, stack.dead_letter_queue_url).waiting < 2:
        if time.monotonic() > end:
            pytest.fail("there are no two dead letters")
        time.sleep(0.2)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with running_stack(progress=print) as stack, Forwarder(stack).running():
        prepare(stack)
        yield Shell(stack, tmp_path_factory.mktemp("shell"))


@pytest.mark.parametrize("block", [FIRST, *OTHERS], ids=lambda block: block.name)
def test_block_does_what_the_page_says(shell: Shell, block: Block) -> None:
    failed, printed = shell.run(block)
    expected = [command for name, command in FAILS if name == block.name]
    assert [one for one in failed if not one.startswith((*expected, "\0"))] == [], printed
    assert all(any(one.startswith(command) for one in failed) for command in expected), "it works after all"
    assert re.search(SHOWS.get(block.name, ""), printed, re.MULTILINE | re.DOTALL), printed
