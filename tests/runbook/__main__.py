"""`make runbook`: every command of docs/operations.md, run by a shell against the stack on this machine.

What has to fail here is named in `FAILS`, so that a command which works after all does not stay there.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from infra.environments import ENVIRONMENTS, ROOT
from infra.local.emulator import CREDENTIALS, REGION
from infra.local.metrics import Forwarder
from infra.local.processes import ProcessFailedError
from infra.local.stack import API_KEY, Stack, running_stack
from tests.runbook.page import Block, blocks, text

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
    ("Redrive 3", "aws sqs start-message-move-task"): "the emulator has no move tasks",
    ("Redrive 3", "aws sqs list-message-move-tasks"): "the emulator has no move tasks",
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
    "Sweep errors 1": r"idle_fr",
    "Sweep errors 2": r"^dry_run",
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


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a block: commands that failed, each with its exit status, and all that was printed."""

    block: Block
    seconds: float
    failed: tuple[tuple[int, str], ...]
    printed: str

    def excuses(self) -> Iterator[tuple[str, str]]:
        """The entries of `FAILS` that apply."""
        for block, command in FAILS:
            if block == self.block.name and any(failed.startswith(command) for _, failed in self.failed):
                yield block, command

    def problems(self) -> Iterator[str]:
        known = tuple(command for _, command in self.excuses())
        for status, command in self.failed:
            if not command.startswith(known or ("\0",)):
                yield f"{command} ended with {status}"
        wanted = SHOWS.get(self.block.name)
        if wanted is not None and not re.search(wanted, self.printed, re.MULTILINE | re.DOTALL):
            yield f"does not print {wanted}"


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

    def begin(self, first: Block) -> Run:
        return self._run(first, f"{first.text}\n{{ declare -px; declare -f; }} > '{self._state}'")

    def run(self, block: Block) -> Run:
        script = block.text
        for placeholder, value in PLACEHOLDERS.items():
            script = script.replace(placeholder, value)
        return self._run(block, f". '{self._state}'\n{script}")

    def _run(self, block: Block, script: str) -> Run:
        self._failures.write_text("")
        trap = f"""trap 'printf "%s\\t%s\\0" $? "$BASH_COMMAND" >> "{self._failures}"' ERR"""
        began = time.monotonic()
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
        failed = [one.split("\t", 1) for one in self._failures.read_text().split("\0") if one]
        return Run(
            block, time.monotonic() - began, tuple((int(status), command) for status, command in failed), ran.stdout
        )


def prepare(stack: Stack) -> None:
    """What somebody would be called for: two dead letters of different reasons, and a policy that cannot be used."""
    for body in ("devin-of-nobody", "this names no session"):
        stack.aws.sqs.send_message(QueueUrl=stack.work_queue_url, MessageBody=body)
    stack.api.add_sessions("devin-ends-well")
    stack.aws.lambda_.invoke(FunctionName=stack.terminate_function_name, Payload=b'{"session_id": "devin-ends-well"}')
    stack.aws.lambda_.invoke(FunctionName=stack.sweep_function_name, Payload=b'{"idle_fr": "P3D"}')
    end = time.monotonic() + 60
    while _letters(stack) < 2:
        if time.monotonic() > end:
            raise ProcessFailedError("there are no two dead letters")
        time.sleep(0.2)


def _letters(stack: Stack) -> int:
    attributes = stack.aws.sqs.get_queue_attributes(
        QueueUrl=stack.dead_letter_queue_url, AttributeNames=["ApproximateNumberOfMessages"]
    )["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"])


def tell(console: Console, run: Run) -> bool:
    """Prints what became of a block; says whether that is as it should be."""
    problems = list(run.problems())
    excuses = "".join(f"; {command}: {FAILS[block, command]}" for block, command in run.excuses())
    console.print(f"{'failed' if problems else 'ok':<6} {run.seconds:5.1f} s  {run.block.name}{excuses}", markup=False)
    for line in (*problems, *(f"| {line}" for line in run.printed.splitlines())) if problems else ():
        console.print(f"       {line}", markup=False)
    return not problems


def run_all(console: Console, stack: Stack, directory: Path) -> bool:
    first, *others = blocks(text())
    prepare(stack)
    shell = Shell(stack, directory)
    runs = [shell.begin(first)]
    well = [tell(console, runs[0])]
    for block in others:
        runs.append(shell.run(block))
        well.append(tell(console, runs[-1]))
    for needless in FAILS.keys() - {excuse for run in runs for excuse in run.excuses()}:
        console.print(f"failed: {' '.join(needless)} was to fail ({FAILS[needless]}) and did not", markup=False)
        well.append(False)
    console.print(f"{len(runs)} blocks, {well.count(False)} problems")
    return all(well)


def main(arguments: Sequence[str]) -> int:
    console = Console(highlight=False, soft_wrap=True)
    if arguments:
        console.print("usage: python -m tests.runbook")
        return 2
    try:
        with (
            running_stack(progress=console.print) as stack,
            tempfile.TemporaryDirectory() as directory,
            Forwarder(stack).running(),
        ):
            return 0 if run_all(console, stack, Path(directory)) else 1
    except ProcessFailedError as error:
        console.print(str(error), *getattr(error, "__notes__", ()), sep="\n", markup=False)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
