"""The deployed stack on this machine: its cold start, and how long it takes to drain a queue."""

from __future__ import annotations

import io
import os
import select
import signal
import statistics
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import batched, count
from pathlib import Path

from infra.local.stack import API_KEY, Stack, local_account
from tests.bench.fleet import OURS, Server, Spread
from tests.bench.result import Goal, Section, Table

NOTHING = "does-nothing"
_NOTHING = "a function that does nothing"
_CODE = """\
def lambda_handler(event, context):
    return {"batchItemFailures": []}
"""
# As the template's mapping has it.
BATCH, AT_ONCE = 10, 5
_PATIENCE_SECONDS = 600
_NUMBERS = count(1_000_000)


@dataclass(frozen=True, slots=True)
class Drain:
    """How long a queue took to become empty, and the CPU seconds that processes took meanwhile."""

    seconds: float
    function: float
    emulator: float
    api: float


@dataclass(frozen=True, slots=True)
class Target:
    """A function behind a queue; `emulator` is the emulator's process id."""

    stack: Stack
    server: Server
    emulator: int
    function: str
    queue_url: str

    def drain(self, messages: int) -> Drain:
        """Fill the queue while nothing is taken from it, then let the function have it.

        Raises RuntimeError if what the function should have done for each message was not done.
        """
        functions = self.stack.aws.lambda_
        (mapping,) = functions.list_event_source_mappings(FunctionName=self.function)["EventSourceMappings"]
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(self._send, batched(range(messages), 10, strict=False)))
        self.server.counts()
        before, began = self._cpu(), time.monotonic()
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
        while waiting := self._messages(self.queue_url):
            if time.monotonic() - began > _PATIENCE_SECONDS:
                raise RuntimeError(f"{waiting} messages are still there")
            time.sleep(0.02)
        seconds = time.monotonic() - began
        spent = [after - start for after, start in zip(self._cpu(), before, strict=True)]
        called, dead = self.server.counts().get("DELETE", 0), self._messages(self.stack.dead_letter_queue_url)
        if dead or called != (0 if self.function == NOTHING else messages):
            raise RuntimeError(f"{messages} messages: {called} calls, {dead} dead letters")
        return Drain(seconds, *spent)

    def cold(self) -> float:
        """Seconds of an invocation for which a process has to be started."""
        with ExitStack() as open_ones:
            # Dead with all their threads, which is when their connections are closed: before, another invocation may
            # still be handed to one of them.
            descriptors = [os.pidfd_open(worker) for worker in self._workers()]
            for descriptor in descriptors:
                open_ones.callback(os.close, descriptor)
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            for descriptor in descriptors:
                if not select.select([descriptor], [], [], 10)[0]:
                    raise RuntimeError("a worker does not die")
        return self.invoke()

    def invoke(self) -> float:
        """Seconds until it answers; the emulator first finds out that a process is gone, and says so."""
        began = time.perf_counter()
        while self.stack.aws.lambda_.invoke(FunctionName=self.function, Payload=b'{"Records": []}').get(
            "FunctionError"
        ):
            pass
        return time.perf_counter() - began

    def _send(self, numbers: tuple[int, ...]) -> None:
        bodies = [f'{{"session_id": "devin-bench-{next(_NUMBERS)}"}}' for _ in numbers]
        self.stack.aws.sqs.send_message_batch(
            QueueUrl=self.queue_url,
            Entries=[{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)],
        )

    def _messages(self, queue_url: str) -> int:
        """All that is in a queue, in whatever state."""
        found: Mapping[str, str] = self.stack.aws.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])[
            "Attributes"
        ]  # type: ignore[assignment]
        names = ("Messages", "MessagesNotVisible", "MessagesDelayed")
        return sum(int(found[f"ApproximateNumberOf{name}"]) for name in names)

    def _workers(self) -> list[int]:
        """The function's processes."""
        place = f"{self.stack.directory}/scratch/ministack-lambda-{self.function}-"
        found = []
        for process in Path("/proc").iterdir():
            try:
                if any(part.startswith(place) for part in (process / "cmdline").read_text().split("\0")):
                    found.append(int(process.name))
            except (OSError, UnicodeDecodeError):
                continue  # no process, or one that has just ended
        return found

    def _cpu(self) -> Sequence[float]:
        """CPU seconds up to now: of the function's processes, of the emulator, of the API."""
        return _cpu(self._workers()), _cpu([self.emulator]), _cpu([self.server.pid])


def _cpu(processes: Iterable[int]) -> float:
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _make_nothing(stack: Stack) -> str:
    """A function that does nothing, behind a queue of its own, whose URL is returned, with our mapping's sizes."""
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
        BatchSize=BATCH,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": AT_ONCE},
    )
    return url


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


def _row(size: int, ours: Sequence[Drain], nothing: Sequence[Drain], held: float) -> list[str]:
    seconds = [statistics.median(drain.seconds for drain in drains) for drains in (ours, nothing)]
    whole = sum(drain.seconds for drain in ours)
    cores = [
        sum(spent) / whole
        for spent in zip(*((drain.emulator, drain.function, drain.api) for drain in ours), strict=True)
    ]
    return [
        f"{size:,}" + (f" ({len(ours)} times)" if len(ours) > 1 else ""),
        *(f"{one:.2f}" for one in seconds),
        *(f"{one / size * 1000:.2f}" for one in seconds),
        f"{_per_id(size, ours) * 1000:.2f}",
        *(f"{one:.2f}" for one in cores),
        f"{size / BATCH / AT_ONCE * held:.2f}",
    ]


def _per_id(size: int, drains: Sequence[Drain]) -> float:
    """CPU seconds of the function for each id: all of them, since a single drain of few ids takes some ticks alone."""
    return sum(drain.function for drain in drains) / (size * len(drains))


def measure(server: Server, *, quick: bool) -> Section:
    """Deploys the unmodified template, with an API of 20 ms."""
    repeats, colds = ({100: 2}, 2) if quick else ({100: 10, 1000: 1, 10_000: 1}, 7)
    with local_account() as account:
        stack = account.deploy(parameters={"DevinApiUrl": server.url("fixed-20-0")})
        stack.put_api_key(API_KEY)
        emulator = account.emulator.process.pid
        targets = {
            OURS: Target(stack, server, emulator, stack.terminate_function_name, stack.work_queue_url),
            _NOTHING: Target(stack, server, emulator, NOTHING, _make_nothing(stack)),
        }
        for target in targets.values():
            target.drain(50)
        cold = {name: Spread.of([target.cold() for _ in range(colds)]) for name, target in targets.items()}
        warm = {name: Spread.of([target.invoke() for _ in range(colds)]) for name, target in targets.items()}
        for target in targets.values():
            target.drain(200)
        drains: dict[tuple[str, int], list[Drain]] = {}
        for size, times in repeats.items():
            for _ in range(times):
                for name, target in targets.items():
                    drains.setdefault((name, size), []).append(target.drain(size))
    sizes = list(repeats)
    growth = _per_id(sizes[-1], drains[OURS, sizes[-1]]) / _per_id(sizes[0], drains[OURS, sizes[0]])
    return Section(
        "The deployed stack on this machine",
        [
            (
                "The unmodified template, deployed by `sam deploy` to the emulator, calls an API that takes 20 ms. The "
                f"queue is filled while its mapping is off. Of {sizes[0]} messages, {repeats[sizes[0]]} drains: their "
                "median time, and the CPU of all of them together; larger drains are single runs. After each, the API "
                "had as many DELETEs as there were messages, and the dead-letter queue was empty."
            ),
            (
                "CPU per id is that of the function's processes. Who is the limit, the cores say: CPU seconds of the "
                "emulator's one process, of the function's, and of the API's, for each second that a drain took, of "
                f"the {os.cpu_count()} cores that they share. As long as these do not add up to all cores, it is "
                "waiting that takes the time. The emulator waits: up to a second until it looks at a mapping that was "
                "switched on, and after each answer for log lines. That alone makes a warm invocation of a function "
                f"that does nothing last {warm[_NOTHING].median * 1000:.0f} ms, and so the drain as long as *held* "
                "says: batches of ten, five at once. The time says more about the emulator than about AWS."
            ),
            (
                f"Cold start: the function's processes are killed, then it is invoked with an empty batch, {colds} "
                "times; warm: without killing them."
            ),
        ],
        [
            Table(
                "Draining a queue",
                [
                    "messages",
                    *(f"s, {name}" for name in targets),
                    *(f"ms per id, {name}" for name in targets),
                    "ms of CPU per id, this project",
                    "cores: emulator",
                    "cores: function",
                    "cores: API",
                    "held, s",
                ],
                [_row(size, drains[OURS, size], drains[_NOTHING, size], warm[_NOTHING].median) for size in sizes],
            ),
            Table(
                "Cold and warm, ms",
                ["function", "cold", "warm"],
                [[name, cold[name].told(1000), warm[name].told(1000, 1)] for name in targets],
            ),
        ],
        [Goal.flat(f"CPU per id in the deployed stack, {sizes[-1]:,} messages to {sizes[0]:,}", growth)],
    )
