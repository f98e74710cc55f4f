"""Serves the emulator: `python emulator_server.py <its site-packages> <arguments of hypercorn>`.

Run by a bare interpreter that gets the emulator's packages only here, inside this process. The emulator starts each
function with the interpreter it runs on itself, so a dependency missing from the artefact is missing here too.
"""

import hashlib
import queue
import site
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Ends the log lines of an invocation.
_END_OF_LOG = "\x04"


def correct_differences() -> None:
    """Make the emulator do as AWS does where it does not, so that the template need not allow for it."""
    # Its packages can be imported only now.
    from ministack.core import iam_actions  # noqa: PLC0415
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    # A batch needs the permission of the single action; there is no action of its own.
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
    extract = iam_actions.extract_iam_action

    def extract_iam_action(*args: Any, **kwargs: Any) -> str | None:
        action: str | None = extract(*args, **kwargs)
        return action.removesuffix("Batch") if action and action.startswith("sqs:") else action

    iam_actions.extract_iam_action = extract_iam_action

    # The value of a parameter is text. CloudFormation makes it the integer that the property wants.
    mappings = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]  # noqa: SLF001
    create = mappings["create"]

    def create_mapping(logical_id: str, properties: dict[str, Any], *rest: Any) -> Any:
        scaling = properties["ScalingConfig"]
        scaling["MaximumConcurrency"] = int(scaling["MaximumConcurrency"])
        return create(logical_id, properties, *rest)

    mappings["create"] = create_mapping

    _deliver_logs_with_their_invocation()
    _unpack_each_artefact_once()


def _deliver_logs_with_their_invocation() -> None:
    """The emulator takes log lines that arrive within 5 ms of each other, and the rest with the next invocation. The
    worker ends them with a mark instead, which is waited for."""
    from ministack.core import lambda_runtime  # noqa: PLC0415

    before, flush, after = lambda_runtime._PYTHON_WORKER_SCRIPT.rpartition("_real_stdout.flush()")  # noqa: SLF001
    mark = f"print({_END_OF_LOG!r}, file=sys.stderr, flush=True); "
    lambda_runtime._PYTHON_WORKER_SCRIPT = before + mark + flush + after  # noqa: SLF001

    def drain(worker: Any, **_: object) -> str:
        lines, give_up = [], time.monotonic() + 10
        while time.monotonic() < give_up:
            try:
                line = worker._stderr_queue.get(timeout=0.1)  # noqa: SLF001
            except queue.Empty:
                if worker._proc is None or worker._proc.poll() is not None:  # noqa: SLF001
                    break
                continue
            if line == _END_OF_LOG:
                break
            lines.append(line)
        return "\n".join(lines)

    lambda_runtime.Worker._drain_stderr_bounded = drain  # noqa: SLF001


def _unpack_each_artefact_once() -> None:
    """The emulator unpacks the artefact for each execution environment, and does nothing else for seconds. Lambda's
    environments share one, which is read-only."""
    from ministack.core import lambda_runtime  # noqa: PLC0415

    lock = threading.Lock()

    class Artefact(zipfile.ZipFile):
        def extractall(self, path: Any = None, *_: object) -> None:
            digest = hashlib.sha256(Path(str(self.filename)).read_bytes()).hexdigest()
            unpacked = Path(tempfile.gettempdir()) / f"artefact-{digest}"
            with lock:
                if not unpacked.exists():
                    partial = unpacked.with_suffix(".partial")
                    super().extractall(partial)
                    partial.rename(unpacked)
            Path(path).rmdir()
            Path(path).symlink_to(unpacked)

    lambda_runtime.zipfile = SimpleNamespace(**{**vars(zipfile), "ZipFile": Artefact})


if __name__ == "__main__":
    site.addsitedir(sys.argv[1])
    correct_differences()

    from hypercorn.__main__ import main

    sys.exit(main(sys.argv[2:]))
