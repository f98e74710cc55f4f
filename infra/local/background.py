"""The stack left running for a person: `python -m infra.local.background up`, and `... down`.

`up` starts a process that owns the stack, and returns; `down` ends the owner, and the stack ends with it.
"""

import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from infra.environments import ENVIRONMENTS, ROOT
from infra.local.emulator import CREDENTIALS, REGION
from infra.local.processes import ProcessFailedError, ended_by_signals
from infra.local.run_directory import LOCAL
from infra.local.stack import Stack, running_stack

STATE = LOCAL / "stack.json"
EXPORTS = LOCAL / "env"
OWNER = LOCAL / "owner"
LOG = LOCAL / "stack.log"
# Sessions for a person to end.
EXAMPLES = [f"devin-example-{number}" for number in range(1, 10)]


def owner() -> int | None:
    """The process that owns the stack, or None.

    It holds a lock on the file that names it: an id in a file alone might be that of a process long gone.
    """
    try:
        with OWNER.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or "0") or None
    except FileNotFoundError:
        pass
    return None


def forget() -> None:
    for path in (STATE, EXPORTS):
        path.unlink(missing_ok=True)


def write(path: Path, text: str) -> None:
    """Whole or not at all, because others wait for it to appear."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text)
    unfinished.replace(path)


def describe(stack: Stack) -> None:
    variables = {
        "AWS_ENDPOINT_URL": stack.aws.endpoint_url,
        "AWS_CA_BUNDLE": str(stack.aws.ca_bundle),
        "AWS_DEFAULT_REGION": REGION,
        **CREDENTIALS,
    }
    write(EXPORTS, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
    state = {
        "pid": os.getpid(),
        "stack": stack.name,
        "aws": stack.aws.endpoint_url,
        "api": stack.api.url,
        "outputs": dict(stack.outputs),
        "logs": str(stack.directory),
    }
    write(STATE, json.dumps(state, indent=2) + "\n")


def serve() -> int:
    """Owns the stack until SIGTERM."""
    LOCAL.mkdir(exist_ok=True)
    with OWNER.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another process owns the stack", file=sys.stderr)
            return 1
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        forget()
        try:
            with running_stack(progress=lambda line: print(line, flush=True)) as stack:
                stack.api.add_sessions(*EXAMPLES)
                describe(stack)
                while True:
                    signal.pause()
        finally:
            forget()


def explain() -> str:
    """What a person needs to use the running stack."""
    state = json.loads(STATE.read_text())
    outputs = state["outputs"]
    exports = EXPORTS.read_text()
    sam = ENVIRONMENTS["sam"].path / "bin" / "sam"
    width = max(map(len, outputs))
    listing = "\n".join(f"  {name:<{width}}  {value}" for name, value in sorted(outputs.items()))
    return f"""\
AWS emulator  {state["aws"]}
Devin API     {state["api"]}  (stand-in; its sessions: {EXAMPLES[0]} to {EXAMPLES[-1]})
logs          {state["logs"]}

Stack {state["stack"]}:
{listing}

For the aws CLI and sam (or: . {EXPORTS.relative_to(ROOT)}):
{exports}
Then for example:
  aws sqs send-message --queue-url {outputs["WorkQueueUrl"]} --message-body {EXAMPLES[0]}
  aws sqs receive-message --queue-url {outputs["DeadLetterQueueUrl"]} --message-attribute-names All
  {sam.relative_to(ROOT)} logs --stack-name {state["stack"]}
  {sam.relative_to(ROOT)} list stack-outputs --stack-name {state["stack"]}

The stand-in's sessions, with what became of them, and the calls that it got:
  curl {state["api"]}/_fake/sessions
  curl {state["api"]}/_fake/calls

`make down` ends it."""


def up() -> int:
    """Starts an owner in the background and returns when the stack can be used."""
    if owner() is not None:
        print("The stack is running already; `make down` ends it.", file=sys.stderr)
        if STATE.exists():
            print(f"\n{explain()}")
        return 1
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
            while True:
                ready = STATE.exists()
                print(said.read(), end="", flush=True)
                if ready:
                    break
                if process.poll() is not None:
                    print(f"\nThe stack did not start (whole log: {LOG}).", file=sys.stderr)
                    return 1
                time.sleep(0.1)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    print(f"\n{explain()}")
    return 0


def down(patience: float = 10) -> int:
    """Ends the owner, if there is one; returns when everything has ended."""
    pid = owner()
    if pid is None:
        print("The stack is not running.")
        forget()
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while owner() == pid:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)  # what it started ends with it all the same
                deadline += patience
            time.sleep(0.05)
    forget()
    print("The stack has ended.")
    return 0


def main(arguments: list[str]) -> int:
    commands = {"up": up, "down": down, "serve": serve}
    if len(arguments) != 1 or arguments[0] not in commands:
        print(f"usage: python -m infra.local.background {'|'.join(commands)}", file=sys.stderr)
        return 2
    try:
        return commands[arguments[0]]()
    except ProcessFailedError as error:
        print(error, *error.__notes__, sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
