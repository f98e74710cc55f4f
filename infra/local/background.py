"""The stack left running for a person: `python -m infra.local.background up`, and `... down`.

`up` starts a process that owns the stack, and returns; `down` ends the owner, and the stack ends with it.
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.environments import ENVIRONMENTS, ROOT
from infra.local.fake_devin import FakeDevin
from infra.local.processes import ProcessFailedError, ended_by_signals
from infra.local.run_directory import LOCAL
from infra.local.stack import Stack, running_stack

STATE = LOCAL / "stack.json"
EXPORTS = LOCAL / "env"
COMMANDS = LOCAL / "bin"
OWNER = LOCAL / "owner"
LOG = LOCAL / "stack.log"


def owner() -> int | None:
    """The process that owns the stack, or None: it holds a lock on the file that names it."""
    with contextlib.suppress(FileNotFoundError), OWNER.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read() or "0") or None
    return None


def forget() -> None:
    for path in (STATE, EXPORTS):
        path.unlink(missing_ok=True)


def add_examples(api: FakeDevin) -> None:
    """Sessions for a person to end: those that tests/events names, some for its policies, and others that must stay."""
    old = datetime.now(UTC) - timedelta(days=2)
    named = [*(f"devin-example-{number}" for number in range(1, 21)), "devin-0123456789abcdef0123456789abcdef"]
    api.add_sessions(*named, status_detail="waiting_for_user", created_at=old, updated_at=old)
    api.add_sessions("devin-nightly-1", "devin-nightly-2", tags=("nightly",), created_at=old, updated_at=old)
    api.add_sessions("devin-protected", tags=("nightly", "keep"), created_at=old, updated_at=old)
    # More than half of all, or a policy on idleness alone would exceed its max_share.
    busy = [f"devin-busy-{number}" for number in range(1, 31)]
    api.add_sessions(*busy, tags=("nightly",), status_detail="working", created_at=old, updated_at=datetime.now(UTC))


def variable(output: str) -> str:
    """The shell variable of an output, as infra/outputs calls it."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", re.sub(r"(Parameter)?Name$", "", output)).upper()


def exports(aws: Mapping[str, str], outputs: Mapping[str, str], stack_name: str) -> str:
    """What `. .local/env` does: it points a shell, and what is started from it, at the stack and away from all else."""
    variables = {
        **aws,
        "AWS_PAGER": "",
        "SAM_CLI_TELEMETRY": "0",
        "STACK_NAME": stack_name,
        **{variable(name): value for name, value in outputs.items()},
    }
    here = shlex.quote(str(COMMANDS))
    lines = [
        "# Made by `make up`.",
        "for name in $(env | sed -n 's/^\\(AWS_[A-Z0-9_]*\\)=.*/\\1/p'); do unset \"$name\"; done",
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        'export NO_PROXY="127.0.0.1${NO_PROXY:+,$NO_PROXY}" no_proxy="127.0.0.1${no_proxy:+,$no_proxy}"',
        f'case ":$PATH:" in *:{here}:*) ;; *) export PATH={here}:"$PATH" ;; esac',
    ]
    return "\n".join([*lines, ""])


def make_commands(directory: Path) -> None:
    """`aws`, `sam` and `devin-ops` for a shell that has read the exports.

    The aws CLI before 2.13 does not know AWS_ENDPOINT_URL, and would call AWS. Where there is no aws CLI, that of
    `infra/setup awscli` is used.
    """
    directory.mkdir(exist_ok=True)
    awscli, sam, ops = (ENVIRONMENTS[name].path / "bin" for name in ("awscli", "sam", "dev"))
    here = shlex.quote(str(directory))
    others = f'$(printf %s "$PATH" | tr : "\\n" | grep -vxF {here} | paste -s -d : -)'
    scripts = {
        "aws": f'PATH={others}:{shlex.quote(str(awscli))}\nexec aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"',
        "sam": f'exec {shlex.quote(str(sam / "sam"))} "$@"',
        "devin-ops": f'exec {shlex.quote(str(ops / "devin-ops"))} "$@"',
    }
    for name, script in scripts.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)


def describe(stack: Stack) -> str:
    """Write what a shell needs to use the running stack; return what a person needs."""
    make_commands(COMMANDS)
    EXPORTS.write_text(exports(stack.aws.environment, stack.outputs, stack.name))
    listing = "\n".join(f"  {variable(name):<28}{value}" for name, value in sorted(stack.outputs.items()))
    return f"""
AWS emulator  {stack.aws.endpoint_url}
Devin API     {stack.api.url}  (a fake: `curl` {stack.api.url}/_fake/sessions or /_fake/calls)
logs          {stack.directory}

In your shell, `. {EXPORTS.relative_to(ROOT)}` points aws, sam and devin-ops at it and sets:
{listing}

Then for example:
  aws sqs send-message --queue-url "$WORK_QUEUE_URL" --message-body devin-example-1
  devin-ops status
  sam logs --stack-name {stack.name}

`make down` ends it."""


def serve() -> int:
    """Owns the stack until SIGTERM."""
    with OWNER.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another process owns the stack", file=sys.stderr)
            return 1
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            with running_stack(lambda line: print(line, flush=True)) as stack:
                add_examples(stack.api)
                print(describe(stack), flush=True)
                # Last, because `up` waits for it.
                STATE.write_text(json.dumps({"aws": stack.aws.endpoint_url, "api": stack.api.url}))
                while True:
                    signal.pause()
        finally:
            forget()


def up() -> int:
    """Starts an owner in the background, if there is none, and returns when the stack can be used."""
    if owner() is not None and STATE.exists():
        print(f"The stack is running already; `make down` ends it.\n\n{LOG.read_text()}")
        return 0
    LOCAL.mkdir(exist_ok=True)
    forget()
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.background", "serve"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives this program and its terminal
        )
    try:
        with ended_by_signals(), LOG.open() as said:
            ready = False
            while not ready:
                ready = STATE.exists()
                print(said.read(), end="", flush=True)
                if process.poll() is not None:
                    print(f"\nThe stack did not start (whole log: {LOG}).", file=sys.stderr)
                    return 1
                time.sleep(0.1)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return 0


def down() -> int:
    """Ends the owner, if there is one; returns when everything has ended."""
    pid = owner()
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 10
            while owner() == pid:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)  # what it started ends with it all the same
                time.sleep(0.05)
    forget()
    print("The stack is not running." if pid is None else "The stack has ended.")
    return 0


def main() -> int:
    commands = {"up": up, "down": down, "serve": serve}
    parser = argparse.ArgumentParser(prog="python -m infra.local.background", description=__doc__)
    parser.add_argument("command", choices=commands)
    try:
        return commands[parser.parse_args().command]()
    except ProcessFailedError as error:
        print(error, *error.__notes__, sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
