"""One chaos run: send, disturb, heal, drain, audit; then send every dead letter back, and audit again."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from infra.local.fake_devin import Call
from tests.chaos import reconciler
from tests.chaos.disturbances import Disturbances
from tests.chaos.plan import EARLY, LATE, Kill, Kind, Latency, Message, Plan, Sweep
from tests.chaos.reconciler import Audit, Books, Problem, audit, named
from tests.integration.world import Letter, World

# Ends a run that would not end by itself; the books say what is missing then.
PATIENCE_SECONDS = 180.0
_MOST_REDRIVES = 3
_MOST_REPEATS = 30

type Progress = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What a run found: the books after the chaos, and after every usable dead letter was sent back."""

    books: Books
    first: Audit
    redriven: Audit
    letters_redriven: int
    rounds: int
    messages_sent: int
    disturbances: Counter[str]
    seconds_to_send: float
    seconds_to_drain: float

    @property
    def balanced(self) -> bool:
        return self.first.balanced and self.redriven.balanced

    def story(self, name: str) -> list[str]:
        """All that the record has on an id."""
        asked = [f"asked for {self.books.asks.get(name, 0)} times, made as {self.books.kinds.get(name, 'nothing')}"]
        calls = [_told(call) for call in self.books.calls if call.session_id == name]
        letters = [
            f"dead letter {letter.body[:300]!r} {dict(letter.attributes)}"
            for letter in self.books.letters
            if name in letter.body
        ]
        sent = self.books.sent.get(name)
        asked += [f"sent at {sent:%H:%M:%S}"] if sent else []
        return [*asked, *calls, *letters]


class ChaosRun:
    """One run against a deployed stack that nobody else uses meanwhile."""

    def __init__(self, world: World, plan: Plan, progress: Progress = lambda _: None) -> None:
        self._world = world
        self._plan = plan
        self._progress = progress
        self._disturbances = Disturbances(world, plan.seed)
        self._asks = plan.asks()
        self._lock = threading.Lock()
        self._sent_back: list[Letter] = []
        self._first_call = len(world.stack.api.calls())
        self._schedules = 0
        self._sent: dict[str, datetime] = {}
        self._messages_sent = 0
        self._visibility = timedelta.max
        self._patience = PATIENCE_SECONDS

    def run(self, *, visibility_seconds: int, patience_seconds: float = PATIENCE_SECONDS) -> Result:
        """The whole of it. `visibility_seconds`: after how long what a killed process held comes back.
        `patience_seconds`: how long the work queue may take to drain; what was tried often waits for minutes."""
        self._patience = patience_seconds
        self._visibility = timedelta(seconds=visibility_seconds)
        self._populate()
        begun = time.monotonic()
        # An invocation ends well before its messages come back, a cold start on a busy machine included.
        limit = visibility_seconds // 4
        with self._world.visibility_timeout(visibility_seconds), self._world.time_limit(limit):
            with self._disturbances.faults(self._plan.rules):
                self._walk()
                sent = time.monotonic()
                self._progress("all is sent; the API still fails, nothing else is disturbed")
                books, first = self._settle(self._plan.subjects)
                drained = time.monotonic()
            self._progress(f"drained; {len(books.letters)} dead letters: what caused them is mended, and they go back")
            letters_redriven, rounds, redriven = self._redrive_all()
        return Result(
            books=books,
            first=first,
            redriven=redriven,
            letters_redriven=letters_redriven,
            rounds=rounds,
            messages_sent=self._messages_sent,
            disturbances=self._disturbances.counts,
            seconds_to_send=sent - begun,
            seconds_to_drain=drained - begun,
        )

    # What there is, and what is sent.

    def _populate(self) -> None:
        api, plan = self._world.stack.api, self._plan
        stale = {"created_at": EARLY, "updated_at": EARLY}
        api.add_sessions(*plan.of_kind("runs", "refused", "fails", "unusable"), created_at=EARLY, updated_at=EARLY)
        api.add_sessions(*plan.of_kind("exited"), status="exit", created_at=EARLY, updated_at=EARLY)
        api.add_sessions(*plan.of_kind("awake"), created_at=EARLY, updated_at=LATE)
        api.add_sessions(*plan.of_kind("swept"), tags=(plan.tag,), created_at=EARLY, updated_at=EARLY)
        for name, kind in plan.decoys.items():
            tags = {"stranger": (), "protected": (plan.tag, "keep"), "busy": (plan.tag,)}[kind]
            updated = datetime.now(UTC) if kind == "busy" else stale["updated_at"]
            api.add_sessions(name, tags=tags, created_at=EARLY, updated_at=updated)

    def _walk(self) -> None:
        """Do everything in its order, when it is due. What is late makes all that follows later by as much, so that an
        outage never becomes shorter than planned."""
        begun = time.monotonic()
        with ThreadPoolExecutor(4) as callers:
            waits = []
            for timed in self._plan.timeline:
                early = begun + timed.at - time.monotonic()
                # Pacing, not waiting for anything.
                threading.Event().wait(max(0.0, early))
                begun += max(0.0, -early)
                match timed.act:
                    case Message() as message:
                        self._messages_sent += 1
                        for one in message.ids:
                            self._sent.setdefault(one, datetime.now(UTC))
                        if message.trigger == "invoke":
                            waits.append(callers.submit(self._invoke_until_answered, message))
                        else:
                            self._send(message)
                    case Sweep():
                        waits.append(callers.submit(self._sweep_until_done))
                    case disturbance:
                        self._disturbances.disturb(disturbance)
                        if not isinstance(disturbance, Kill | Latency):
                            self._progress(str(disturbance))
            for wait in waits:
                wait.result()

    def _send(self, message: Message) -> None:
        match message.trigger:
            case "queue":
                self._world.send(message.text)
            case "invoke later":
                self._world.invoke_later(json.loads(message.text))
            case "schedule":
                self._schedule(message.text)
            case "invoke":
                raise AssertionError("a caller waits for its answer")

    def _schedule(self, text: str) -> None:
        outputs = self._world.stack.outputs
        self._schedules += 1
        self._world.stack.aws.scheduler.create_schedule(
            Name=f"chaos-{self._plan.seed}-{self._schedules}",
            ScheduleExpression=f"at({datetime.now(UTC) + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S})",
            FlexibleTimeWindow={"Mode": "OFF"},
            ActionAfterCompletion="DELETE",
            Target={
                "Arn": outputs["WorkQueueArn"],
                "RoleArn": outputs["OneTimeScheduleRoleArn"],
                "Input": text,
                "DeadLetterConfig": {"Arn": outputs["DeadLetterQueueArn"]},
            },
        )

    def _invoke_until_answered(self, message: Message) -> None:
        """As a caller does: a direct invocation that failed is repeated, and so asks again."""
        ids = list(message.ids)
        self._invoke(self._world.stack.terminate_function_name, json.loads(message.text), lambda: ids, already=1)

    def _sweep_until_done(self) -> None:
        policy = {"tags": [self._plan.tag], "idle_for": "PT6H", "max_sessions": 10_000, "max_share": 1}
        swept = self._plan.of_kind("swept")
        self._invoke(
            self._world.stack.sweep_function_name, {**policy, "dry_run": False}, lambda: swept, already=0, pause=1.0
        )

    def _invoke(
        self, function: str, payload: object, ids: Callable[[], list[str]], *, already: int, pause: float = 0.0
    ) -> None:
        said = b""
        for attempt in range(_MOST_REPEATS):
            if attempt >= already:
                with self._lock:
                    self._asks.update(ids())
            answer = self._world.stack.aws.lambda_.invoke(FunctionName=function, Payload=json.dumps(payload))
            said = answer["Payload"].read()
            if not answer.get("FunctionError"):
                return
            with self._lock:
                self._disturbances.counts["invocations that failed and were repeated by the caller"] += 1
            threading.Event().wait(pause)
        raise AssertionError(f"{function} failed {_MOST_REPEATS} times: {said!r}")

    # What became of it.

    def _calls(self) -> list[Call]:
        return self._world.stack.api.calls()[self._first_call :]

    def _letters(self) -> list[Letter]:
        """Dead letters of this run that were not sent back; others may be there from before."""
        back = {id(letter) for letter in self._sent_back}
        return [
            letter
            for letter in self._world.letters()
            if id(letter) not in back and any(f"-{self._plan.seed}-" in name for name in named(letter.body))
        ]

    def _books(self, kinds: Mapping[str, Kind]) -> Books:
        queued, hidden = self._read_work_queue() if self._world.queued() else ([], 0)
        mine = kinds.keys() | self._plan.decoys.keys()
        return Books(
            kinds=kinds,
            asks=self._asks,
            decoys=self._plan.decoys.keys(),
            calls=self._calls(),
            exited={
                one.session_id for one in self._world.stack.api.sessions() if one.exited and one.session_id in mine
            },
            letters=self._letters(),
            queued=queued,
            hidden=hidden,
            sent=self._sent,
            visibility=self._visibility,
        )

    def _read_work_queue(self) -> tuple[list[str], int]:
        """What is in the work queue, and how much more there is that is hidden."""
        stack = self._world.stack
        bodies = []
        with stack.work_queue_held():
            there = self._world.queued()
            while messages := stack.aws.sqs.receive_message(
                QueueUrl=stack.work_queue_url, MaxNumberOfMessages=10, VisibilityTimeout=5
            ).get("Messages"):
                bodies += [message["Body"] for message in messages]
        return bodies, max(0, there - len(bodies))

    def _settle(self, kinds: Mapping[str, Kind]) -> tuple[Books, Audit]:
        """Wait until the work queue is empty and nobody is missing, or patience is over; then the books."""
        end = time.monotonic() + self._patience
        while True:
            late = time.monotonic() > end
            if late or self._world.queued() == 0:
                books = self._books(kinds)
                found = audit(books)
                if late or (found.settled and not books.queued):
                    return books, found
            threading.Event().wait(0.3)

    # And once the causes are mended.

    def _redrive_all(self) -> tuple[int, int, Audit]:
        """Send all dead letters back that name a session, until none is left or it does not help."""
        api = self._world.stack.api
        unknown = self._plan.of_kind("unknown")
        api.add_sessions(*unknown, created_at=EARLY, updated_at=EARLY)
        mended: dict[Kind, Kind] = {"unknown": "runs", "refused": "runs", "fails": "runs"}
        kinds = {name: mended.get(kind, kind) for name, kind in self._plan.subjects.items()}
        number, rounds = 0, 0
        while rounds < _MOST_REDRIVES and (letters := [one for one in self._letters() if self._usable(one)]):
            rounds += 1
            number += len(letters)
            with self._world.stack.work_queue_held():
                for letter in letters:
                    self._world.redrive(letter)
                    self._sent_back.append(letter)
            self._settle(kinds)
        books, found = self._settle(kinds)
        left = [Problem(None, f"still dead: {letter.body[:200]!r}") for letter in books.letters if self._usable(letter)]
        return number, rounds, replace(found, problems=[*found.problems, *left])

    def _usable(self, letter: reconciler.Letter) -> bool:
        return any(self._plan.subjects.get(name, "unusable") != "unusable" for name in named(letter.body))


def _told(call: Call) -> str:
    parts = [f"{call.at:%H:%M:%S.%f} {call.method} {call.status or 'no answer'}"]
    parts += [f"fault {call.fault}"] if call.fault else []
    parts += ["ended it"] if call.ended else []
    parts += ["key refused"] if not call.authorised else []
    return ", ".join(parts)
