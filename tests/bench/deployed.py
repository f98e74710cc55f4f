"""The deployed stack on this machine: its cold start, and how long it takes to drain a queue."""

from __future__ import annotations

import io
import os
import signal
import time
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import batched, count
from pathlib import Path

from infra.local.stack import Stack, running_stack
from tests.bench.fleet import Server, Spread
from tests.bench.result import Goal, Section, Table

NOTHING = "does-nothing"
_CODE = """\
def lambda_handler(event, context):
    return {"batchItemFailures": []}
"""
_PATIENCE_SECONDS = 600
_NUMBERS = count(1_000_000)


@dataclass(frozen=True, slots=True)
class Drain:
    """How long a queue took to become empty, and the CPU seconds of the function's processes meanwhile."""

    seconds: float
    cpu: float


class Target:
    """A function behind a queue."""

    def __init__(self, stack: Stack, function: str, queue_url: str) -> None:
        self._stack = stack
        self._function = function
        self._queue_url = queue_url
        (mapping,) = stack.aws.lambda_.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
        self._mapping = mapping["UUID"]

    def drain(self, messages: int) -> Drain:
        """Fill the queue while nothing is taken from it, then let the function have it."""
        self._stack.aws.lambda_.update_event_source_mapping(UUID=self._mapping, Enabled=False)
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(self._send, batched(range(messages), 10, strict=False)))
        cpu, began = self._cpu(), time.monotonic()
        self._stack.aws.lambda_.update_event_source_mapping(UUID=self._mapping, Enabled=True)
        while self._waiting():
            if time.monotonic() - began > _PATIENCE_SECONDS:
                raise RuntimeError(f"{self._waiting()} messages are still there")
            time.sleep(0.05)
        return Drain(time.monotonic() - began, self._cpu() - cpu)

    def cold(self) -> float:
        """Seconds of an invocation for which a process has to be started."""
        for worker in self._workers():
            os.kill(worker, signal.SIGKILL)
        while list(self._workers()):
            time.sleep(0.01)
        return self.invoke()

    def invoke(self) -> float:
        """Seconds until it answers; the emulator first finds out that a process is gone, and says so."""
        began = time.perf_counter()
        while self._stack.aws.lambda_.invoke(FunctionName=self._function, Payload=b'{"Records": []}').get(
            "FunctionError"
        ):
            pass
        return time.perf_counter() - began

    def _send(self, numbers: tuple[int, ...]) -> None:
        bodies = [f'{{"session_id": "devin-bench-{next(_NUMBERS)}"}}' for _ in numbers]
        self._stack.aws.sqs.send_message_batch(
            QueueUrl=self._queue_url,
            Entries=[{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)],
        )

    def _waiting(self) -> int:
        found: Mapping[str, str] = self._stack.aws.sqs.get_queue_attributes(
            QueueUrl=self._queue_url, AttributeNames=["All"]
        )["Attributes"]  # type: ignore[assignment]
        names = ("Messages", "MessagesNotVisible", "MessagesDelayed")
        return sum(int(found[f"ApproximateNumberOf{name}"]) for name in names)

    def _workers(self) -> Iterator[int]:
        """The function's processes."""
        place = f"{self._stack.directory}/scratch/ministack-lambda-{self._function}-"
        for process in Path("/proc").iterdir():
            try:
                if any(part.startswith(place) for part in (process / "cmdline").read_text().split("\0")):
                    yield int(process.name)
            except (OSError, UnicodeDecodeError):
                continue  # no process, or one that has just ended

    def _cpu(self) -> float:
        ticks = 0
        for worker in self._workers():
            fields = Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _nothing(stack: Stack) -> Target:
    """A function that does nothing, behind a queue of its own, with our mapping's sizes and our role."""
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("nothing.py", _CODE)
    ours = stack.aws.lambda_.get_function_configuration(FunctionName=stack.terminate_function_name)
    stack.aws.lambda_.create_function(
        FunctionName=NOTHING,
        Runtime="python3.13",
        Handler="nothing.lambda_handler",
        Role=_role(stack),
        Code={"ZipFile": code.getvalue()},
        Timeout=60,
        MemorySize=ours["MemorySize"],
    )
    url = stack.aws.sqs.create_queue(QueueName=NOTHING, Attributes={"VisibilityTimeout": "420"})["QueueUrl"]
    arn = stack.aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    stack.aws.lambda_.create_event_source_mapping(
        FunctionName=NOTHING,
        EventSourceArn=arn,
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": 5},
    )
    return Target(stack, NOTHING, url)


def _role(stack: Stack) -> str:
    trust = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", '
        '"Principal": {"Service": "lambda.amazonaws.com"}}]}'
    )
    rights = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["sqs:*", "logs:*"], "Resource": "*"}]}'
    )
    role = stack.aws.iam.create_role(RoleName=NOTHING, AssumeRolePolicyDocument=trust)["Role"]
    stack.aws.iam.put_role_policy(RoleName=NOTHING, PolicyName="all", PolicyDocument=rights)
    return role["Arn"]


def measure(server: Server, *, quick: bool) -> Section:
    """Deploys the unmodified template, with an API of 20 ms."""
    sizes, colds = ((100,), 2) if quick else ((100, 1000, 10_000), 7)
    with running_stack({"DevinApiUrl": server.url("fixed-20-0")}) as stack:
        targets = {
            "this project": Target(stack, stack.terminate_function_name, stack.work_queue_url),
            "a function that does nothing": _nothing(stack),
        }
        for target in targets.values():
            target.drain(50)
        starts = {name: (Spread.of([target.cold() for _ in range(colds)]), target) for name, target in targets.items()}
        warm = {name: Spread.of([target.invoke() for _ in range(colds)]) for name, target in targets.items()}
        for target in targets.values():
            target.drain(200)
        drains = {(name, size): target.drain(size) for size in sizes for name, target in targets.items()}
    rows = [
        [
            f"{size:,}",
            *(f"{drains[name, size].seconds:.1f}" for name in targets),
            *(f"{drains[name, size].seconds / size * 1000:.2f}" for name in targets),
            f"{drains['this project', size].cpu / size * 1000:.2f}",
        ]
        for size in sizes
    ]
    each = [drains["this project", size].cpu / size for size in sizes]
    growth = each[-1] / each[0]
    return Section(
        "The deployed stack on this machine",
        [
            (
                "The unmodified template, deployed by `sam deploy` to the emulator, calls an API that takes 20 ms. The "
                "queue is filled while its mapping is off. The same messages through a function that does nothing "
                "show the "
                "emulator's share; the emulator and all environments of the function share this machine's cores, so "
                "the "
                "time says more about the machine than about AWS. CPU per id is that of the function's processes."
            ),
            "Cold start: the function's processes are killed, then it is invoked with an empty batch.",
        ],
        [
            Table(
                "Draining a queue",
                [
                    "messages",
                    *(f"s, {name}" for name in targets),
                    *(f"ms per id, {name}" for name in targets),
                    "ms of CPU per id, this project",
                ],
                rows,
            ),
            Table(
                "Cold and warm, ms",
                ["function", "cold", "warm"],
                [[name, cold.told(1000), warm[name].told(1000, 1)] for name, (cold, _) in starts.items()],
            ),
        ],
        [
            Goal(
                f"CPU per id, {sizes[-1]:,} messages to {sizes[0]:,}",
                "does not grow (at most 1.10 x)",
                f"{growth:.2f} x",
                growth <= 1.10,
            )
        ],
    )
