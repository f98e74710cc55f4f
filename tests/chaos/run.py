"""One chaos run: send, disturb, heal, drain, audit; then send every dead letter back, and audit again."""

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from infra.local.fake_devin import Call
from tests.chaos.disturbances import Disturbances
from tests.chaos.plan import EARLY, LATE, Kind, Message, Plan
from tests.chaos.reconciler import Audit, Books, Problem, audit, named
from tests.integration.world import Letter, World

# After how long what a killed process held comes back. Longer than any invocation of the run lasts: what is still
# worked on must not be delivered again.
VISIBILITY_SECONDS = 25
_MOST_REDRIVES = 3
_MOST_REPEATS = 30


@dataclass(frozen=True)
class Result:
    """What a run found: the books after the chaos, and after every usable dead letter was sent back."""

    books: Books
    first: Audit
    redriven: Audit
    letters_redriven: int
    disturbances: Counter[str]
    seconds_to_send: float
    seconds_to_drain: float

    def story(self, name: str) -> list[str]:
        """All that the record has on an id."""
        books = self.books
        asked = f"asked for {books.asks.get(name, 0)} times, made as {books.kinds.get(name, 'nothing')}"
        return [
            f"{asked}, not delivered again before {books.again.get(name)}",
            *(_told(call) for call in books.calls if call.session_id == name),
            *(f"dead letter {one.body[:300]!r} {one.attributes}" for one in books.letters if name in one.body),
        ]


class ChaosRun:
    """One run against a deployed stack that nobody else uses meanwhile.

    `patience_seconds`: how long the work queue may take to drain; what was tried often waits for minutes.
    """

    def __init__(
        self, world: World, plan: Plan, progress: Callable[[str], None] = lambda _: None, patience_seconds: float = 180
    ) -> None:
        self._world = world
        self._plan = plan
        self._progress = progress
        self._patience = patience_seconds
        self._disturbances = Disturbances(world, plan)
        # Once for each message, the sweep, and each invocation that a caller repeats.
        self._asked: list[Collection[str]] = [*(set(message.ids) for message in plan.messages), plan.of_kind("swept")]
        self._again: dict[str, datetime] = {}
        self._sent_back: list[Letter] = []
        self._first_call = len(world.stack.api.calls())

    def run(self) -> Result:
        self._populate()
        begun = time.monotonic()
        # An invocation ends well before its messages come back, a cold start on a busy machine included.
        limit = VISIBILITY_SECONDS // 4
        with self._world.visibility_timeout(VISIBILITY_SECONDS), self._world.time_limit(limit):
            with self._disturbances.faults():
                self._walk()
                sent = time.monotonic()
                self._progress("all is sent; the API still fails, nothing else is disturbed")
                books, first = self._settle(self._plan.subjects)
                drained = time.monotonic()
            self._progress(f"drained; {len(books.letters)} dead letters: what caused them is mended, and they go back")
            redriven = self._redrive_all()
        return Result(
            books=books,
            first=first,
            redriven=redriven,
            letters_redriven=len(self._sent_back),
            disturbances=self._disturbances.counts,
            seconds_to_send=sent - begun,
            seconds_to_drain=drained - begun,
        )

    # What there is, and what is sent.

    def _populate(self) -> None:
        plan = self._plan
        stale: dict[str, Any] = {"created_at": EARLY, "updated_at": EARLY}
        special = {
            "exited": {**stale, "status": "exit"},
            "awake": {**stale, "updated_at": LATE},
            "swept": {**stale, "tags": (plan.tag,)},
            "protected": {**stale, "tags": (plan.tag, "keep")},
            "busy": {"created_at": EARLY, "updated_at": datetime.now(UTC), "tags": (plan.tag,)},
        }
        for name, kind in {**plan.subjects, **plan.decoys}.items():
            if kind != "unknown":
                self._world.stack.api.add_sessions(name, **special.get(kind, stale))

    def _walk(self) -> None:
        """Do everything in its order, when it is due. What is late makes all that follows later by as much, so that an
        outage never becomes shorter than planned."""
        begun = time.monotonic()
        waits = []
        with ThreadPoolExecutor(4) as callers:
            for act in self._plan.timeline:
                early = begun + act.at - time.monotonic()
                time.sleep(max(0.0, early))
                begun += max(0.0, -early)
                match act.name:
                    case "send":
                        waits += self._send(callers, *act.arguments)
                    case "sweep":
                        waits.append(callers.submit(self._sweep))
                    case name:
                        getattr(self._disturbances, name)(*act.arguments)
                        if name not in {"kill", "latency"}:
                            self._progress(f"{name} {' '.join(map(str, act.arguments))}")
            for wait in waits:
                wait.result()

    def _send(self, callers: Executor, message: Message) -> list[Future[None]]:
        """Send it; what is to be waited for."""
        for one in message.ids:
            self._again.setdefault(one, datetime.now(UTC) + timedelta(seconds=VISIBILITY_SECONDS))
        match message.trigger:
            case "queue":
                self._world.send(message.text)
            case "invoke later":
                self._world.invoke_later(json.loads(message.text))
            case "schedule":
                self._schedule(message)
            case "invoke":
                function = self._world.stack.terminate_function_name
                return [callers.submit(self._invoke, function, message.text, set(message.ids))]
        return []

    def _schedule(self, message: Message) -> None:
        outputs = self._world.stack.outputs
        self._world.stack.aws.scheduler.create_schedule(
            Name=message.ids[0],
            ScheduleExpression=f"at({datetime.now(UTC) + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S})",
            FlexibleTimeWindow={"Mode": "OFF"},
            ActionAfterCompletion="DELETE",
            Target={
                "Arn": outputs["WorkQueueArn"],
                "RoleArn": outputs["OneTimeScheduleRoleArn"],
                "Input": message.text,
                "DeadLetterConfig": {"Arn": outputs["DeadLetterQueueArn"]},
            },
        )

    def _sweep(self) -> None:
        policy = {"tags": [self._plan.tag], "idle_for": "PT6H", "max_sessions": 10_000, "max_share": 1}
        payload = json.dumps({**policy, "dry_run": False})
        self._invoke(self._world.stack.sweep_function_name, payload, self._plan.of_kind("swept"))

    def _invoke(self, function: str, payload: str, ids: Collection[str]) -> None:
        """As a caller does: an invocation that failed is repeated, and so asks again."""
        said = b""
        for _ in range(_MOST_REPEATS):
            answer = self._world.stack.aws.lambda_.invoke(FunctionName=function, Payload=payload)
            said = answer["Payload"].read()
            if not answer.get("FunctionError"):
                return
            self._asked.append(ids)
            time.sleep(1)
        raise AssertionError(f"{function} failed {_MOST_REPEATS} times: {said!r}")

    # What became of it.

    def _letters(self) -> list[Letter]:
        """Dead letters of this run that were not sent back; others may be there from before."""
        back = {id(letter) for letter in self._sent_back}
        mine = f"devin-chaos-{self._plan.seed}-"
        return [one for one in self._world.letters() if id(one) not in back and mine in one.body]

    def _settle(self, kinds: Mapping[str, Kind]) -> tuple[Books, Audit]:
        """Wait until the work queue is empty and nobody is missing, or patience is over; then the books."""
        api = self._world.stack.api
        end = time.monotonic() + self._patience
        while True:
            queued, late = self._world.queued(), time.monotonic() > end
            if late or not queued:
                books = Books(
                    kinds=kinds,
                    asks=Counter(chain.from_iterable(self._asked)),
                    decoys=self._plan.decoys.keys(),
                    calls=api.calls()[self._first_call :],
                    exited={one.session_id for one in api.sessions() if one.exited},
                    letters=self._letters(),
                    queued=queued,
                    again=self._again,
                )
                found = audit(books)
                if late or not any(problem.may_pass for problem in found.problems):
                    return books, found
            time.sleep(0.3)

    # And once the causes are mended.

    def _redrive_all(self) -> Audit:
        """Send all dead letters back that name a session, until none is left or it does not help."""
        self._world.stack.api.add_sessions(*self._plan.of_kind("unknown"), created_at=EARLY, updated_at=EARLY)
        mended: dict[Kind, Kind] = {"unknown": "runs", "refused": "runs", "fails": "runs"}
        kinds = {name: mended.get(kind, kind) for name, kind in self._plan.subjects.items()}
        for _ in range(_MOST_REDRIVES):
            letters = [letter for letter in self._letters() if self._usable(letter)]
            if not letters:
                break
            with self._world.stack.work_queue_held():
                for letter in letters:
                    self._world.redrive(letter)
            self._sent_back += letters
            self._settle(kinds)
        books, found = self._settle(kinds)
        left = [Problem(None, f"still dead: {letter.body[:200]!r}") for letter in books.letters if self._usable(letter)]
        return Audit(found.places, [*found.problems, *left])

    def _usable(self, letter: Letter) -> bool:
        return any(self._plan.subjects.get(name, "unusable") != "unusable" for name in named(letter.body))


def _told(call: Call) -> str:
    parts = [f"{call.at:%H:%M:%S.%f} {call.method} {call.status or 'no answer'}"]
    parts += [f"fault {call.fault}"] if call.fault else []
    parts += ["ended it"] if call.ended else []
    parts += ["key refused"] if not call.authorised else []
    return ", ".join(parts)
