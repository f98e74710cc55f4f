"""Every order of events on a small scale, through the functions' own decisions.

A state is a work queue, a dead-letter queue, sessions, and what one or two execution environments are in the middle of.
A step is a delivery, one answer of the API, one write to SQS that succeeds or fails, an acknowledgement, a kill between
any two of them, a redrive, a sweep, a session that wakes up or is protected. `explore` visits all states breadth-first
and stops at the first that breaks a promise, with the shortest way to it.

What is called is `terminate.termination.end_session`, `terminate.plan.plan` and `terminate.apply.apply`: each is run
again from its beginning with the answers that it got so far, until it asks for one more.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from devin.client import Answer, NotCalled
from devin.session import Session
from queues import Outgoing, QueueError
from settings import Settings
from terminate import apply as application
from terminate.messages import Message, Request, parse_record
from terminate.outcomes import Disposition, Result
from terminate.plan import MessageResult, Order, plan
from terminate.termination import calls_for, end_session

CREATED = datetime(2026, 11, 1, tzinfo=UTC)
CONDITION = "2026-11-02T00:00:00+00:00"
WOKEN = datetime(2026, 11, 3, tzinfo=UTC)
MAX_RECEIVES = 5
SETTINGS = Settings.from_environment(
    dict.fromkeys(("API_KEY_SECRET_ARN", "WORK_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"), "any")
)

type Trace = list[str]


@dataclass(frozen=True, slots=True, order=True)
class Queued:
    """A message of a queue. `attempts` is the attribute, `tried` whether it, or what it was requeued from, was
    delivered before: what the attribute should say. `lineage` is the message that it descends from."""

    lineage: str
    body: str
    attempts: int = 0
    receives: int = 0
    tried: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Letter:
    """A dead letter."""

    lineage: str
    body: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Environment:
    """An invocation under way: its messages, the answers to the call that it is making, the results of those before,
    and which entries of its writes failed so far. `ended_before`: sessions that had ended when they were called."""

    messages: tuple[Queued, ...]
    stopped: bool = False
    answers: tuple[Answer, ...] = ()
    results: tuple[tuple[Order, Result], ...] = ()
    writes: tuple[tuple[bool, ...], ...] = ()
    ended_before: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Budget:
    """How many of each may still happen."""

    kills: int = 0
    failures: int = 0
    oddities: int = 0
    redrives: int = 0
    sweeps: int = 0
    changes: int = 0
    stops: int = 0


@dataclass(frozen=True, slots=True)
class State:
    queue: tuple[Queued, ...]
    letters: tuple[Letter, ...] = ()
    # Sessions by id: has ended, has woken up, carries the protect tag.
    sessions: tuple[tuple[str, bool, bool, bool], ...] = ()
    environments: tuple[Environment | None, ...] = (None,)
    budget: Budget = field(default_factory=Budget)
    # Orders that were acknowledged as done: lineage, session, condition.
    done: frozenset[tuple[str, str, datetime | None]] = frozenset()
    # Something else than the first delivery may explain a repeated letter.
    excused: frozenset[str] = frozenset()


class BrokenPromiseError(Exception):
    """A state breaks a promise; `trace` is the shortest way to it."""

    def __init__(self, promise: str, trace: Trace) -> None:
        super().__init__(f"{promise}, after:\n  " + "\n  ".join(trace))
        self.trace = trace


class _NeedError(Exception):
    """The code asks for an answer that it has not got yet."""

    def __init__(self, *asked: Any) -> None:
        super().__init__(*asked)
        self.asked = asked


@dataclass
class _Client:
    """Stands in for DevinClient: gives the answers it has, one after the other."""

    answers: Iterator[Answer]
    stopped: bool

    def get(self, session_id: str) -> Answer:
        return self._next("GET", session_id)

    def terminate(self, session_id: str, *, at_once: bool = False) -> Answer:  # noqa: ARG002
        return self._next("DELETE", session_id)

    def _next(self, method: str, session_id: str) -> Answer:
        if self.stopped:
            return Answer(detail="stopped", not_called=NotCalled.STOPPED)
        for answer in self.answers:
            return answer
        raise _NeedError(method, session_id)


@dataclass
class _Queues:
    """Stands in for Queues: every method fails for the entries that `writes` names."""

    writes: Iterator[tuple[bool, ...]]

    def enqueue(self, messages: Sequence[Outgoing]) -> list[QueueError | None]:
        return self._next("work", tuple((one.body, int(one.attributes["attempts"])) for one in messages))

    def dead_letter(self, messages: Sequence[Outgoing], _: Callable[[], bool]) -> list[QueueError | None]:
        return self._next("dead", tuple((one.body, int(one.attributes["attempts"])) for one in messages))

    def change_visibility(self, timeouts: Sequence[tuple[str, int]]) -> list[QueueError | None]:
        return [None] * len(timeouts)

    def _next(self, queue: str, entries: tuple[tuple[str, int], ...]) -> list[QueueError | None]:
        if not entries:
            return []
        for failed in self.writes:
            return [QueueError("write", "Busy") if one else None for one in failed]
        raise _NeedError(queue, entries)


class Model:
    """The functions' decisions, each computed once for the same input. Made again after something is patched."""

    def __init__(self) -> None:
        self.call = cache(self._call)
        self.settle = cache(self._settle)
        self.parse = cache(self._parse)

    @staticmethod
    def _parse(one: Queued, number: int) -> Message:
        return parse_record({
            "body": one.body,
            "messageId": str(number),
            "receiptHandle": str(number),
            "attributes": {"ApproximateReceiveCount": str(one.receives)},
            "messageAttributes": {"attempts": {"stringValue": str(one.attempts)}},
        })  # fmt: skip

    def messages(self, environment: Environment) -> list[Message]:
        return [self.parse(one, number) for number, one in enumerate(environment.messages)]

    def _call(self, environment: Environment) -> tuple[str, Any]:
        """What the invocation does next: `("ask", (method, id))`, `("result", pairs)` or `("settle", None)`."""
        known = {(session_id, action) for (session_id, action, _), _ in environment.results}
        for call in calls_for(self.messages(environment)):
            if (call.session_id, call.action) in known:
                continue
            client: Any = _Client(iter(environment.answers), environment.stopped)
            try:
                results = end_session(client, call, SETTINGS)
            except _NeedError as need:
                return "ask", need.asked
            return "result", tuple(((call.session_id, call.action, since), one) for since, one in results.items())
        return "settle", None

    def _settle(self, environment: Environment) -> tuple[str, Any]:
        """`("write", (queue, entries))` or `("done", results of the messages)`."""
        results: Mapping[Order, Result] = dict(environment.results)
        plans = [plan(message, results, 30) for message in self.messages(environment)]
        queues: Any = _Queues(iter(environment.writes))
        try:
            return "done", application.apply(plans, queues, "r", lambda: True)
        except _NeedError as need:
            return "write", need.asked


def explore(start: State, model: Model) -> int:
    """Visit every state that can be reached, and return how many there are. Raises BrokenPromiseError."""
    before: dict[State, tuple[State, str] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        for label, following, broken in _steps(state, model):
            promise = broken or _broken(start, following)
            if promise:
                raise BrokenPromiseError(promise, [*_way(before, state), label])
            if following not in before:
                before[following] = (state, label)
                waiting.append(following)
    return len(before)


def _way(before: Mapping[State, tuple[State, str] | None], state: State) -> Trace:
    labels: Trace = []
    while (step := before[state]) is not None:
        state, label = step
        labels.append(label)
    return labels[::-1]


type Step = tuple[str, State, str | None]
"""What happens, the state after it, and which promise the step itself breaks."""


def _steps(state: State, model: Model) -> Iterator[Step]:
    for number, environment in enumerate(state.environments):
        if environment is None:
            yield from _deliveries(state, number)
        else:
            yield from _progress(state, number, environment, model)
            if state.budget.kills:
                yield f"environment {number} is killed", _killed(state, number, environment), None
    yield from _changes(state)


def _with(state: State, number: int, environment: Environment | None, **changes: Any) -> State:
    environments = tuple(environment if at == number else one for at, one in enumerate(state.environments))
    return replace(state, environments=environments, **changes)


def _deliveries(state: State, number: int) -> Iterator[Step]:
    """One message, or all that are there."""
    choices = {(one,) for one in state.queue} | {state.queue}
    for chosen in sorted(choice for choice in choices if choice):
        left = list(state.queue)
        for one in chosen:
            left.remove(one)
        letters, received = list(state.letters), []
        for one in chosen:
            if one.receives == MAX_RECEIVES:
                letters.append(Letter(one.lineage, one.body, one.attempts))
            else:
                received.append(replace(one, receives=one.receives + 1))
        changes = {"queue": tuple(left), "letters": tuple(sorted(letters))}
        environment = Environment(tuple(received)) if received else None
        label = f"environment {number} receives {', '.join(one.body for one in chosen)}"
        yield label, _with(state, number, environment, **changes), None
        if state.budget.stops and received:
            budget = replace(state.budget, stops=state.budget.stops - 1)
            stopped = Environment(tuple(received), stopped=True)
            yield f"{label}, stopped", _with(state, number, stopped, budget=budget, **changes), None


def _progress(state: State, number: int, environment: Environment, model: Model) -> Iterator[Step]:
    kind, asked = model.call(environment)
    if kind == "result":
        # A result changes nothing that others see: go on to what does.
        following = replace(environment, answers=(), results=environment.results + asked)
        yield from _progress(_with(state, number, following), number, following, model)
        return
    if kind == "ask":
        for said, answer, sessions, odd in _answers(state, *asked):
            if odd and not state.budget.oddities:
                continue
            budget = replace(state.budget, oddities=state.budget.oddities - odd)
            ended_before = environment.ended_before
            if asked[0] == "DELETE" and any(name == asked[1] and ended for name, ended, _, _ in state.sessions):
                ended_before |= {asked[1]}
            following = replace(environment, answers=(*environment.answers, answer), ended_before=ended_before)
            label = f"environment {number}: {asked[0]} {asked[1]} -> {said}"
            yield label, _with(state, number, following, budget=budget, sessions=sessions), None
        return
    kind, asked = model.settle(environment)
    if kind == "write":
        yield from _writes(state, number, environment, asked)
    else:
        yield _acknowledged(state, number, environment, asked)


def _answers(
    state: State, method: str, session_id: str
) -> Iterator[tuple[str, Answer, tuple[tuple[str, bool, bool, bool], ...], int]]:
    """What the API may answer, the sessions after it, and whether that is an oddity."""
    sessions = state.sessions
    (ended, woken, tagged) = next((e, w, t) for name, e, w, t in sessions if name == session_id)
    gone = tuple((name, True, w, t) if name == session_id else (name, e, w, t) for name, e, w, t in sessions)
    if method == "GET":
        session = Session(
            session_id=session_id,
            status="exit" if ended else "running",
            exited=ended,
            is_archived=False,
            created_at=CREATED,
            updated_at=WOKEN if woken else CREATED,
            tags=("keep",) if tagged else (),
        )
        yield "the session", Answer(200, session=session), sessions, 0
        yield "another session", Answer(200, other_session=True), sessions, 1
        yield "503", Answer(503), sessions, 1
        return
    if ended:
        yield "422", Answer(422), sessions, 0
        yield "400", Answer(400), sessions, 0
    else:
        yield "200", Answer(200, confirmed=True), gone, 0
        yield "no answer, and ended", Answer(), gone, 1
        yield "no answer, over two connections, and ended", Answer(422, replayed=True), gone, 1
        yield "422 of a living session", Answer(422), sessions, 1
        yield "200 without a word", Answer(200), sessions, 1
    yield "503", Answer(503), sessions, 1
    yield "429", Answer(429), sessions, 1
    yield "401", Answer(401, key_refused=True), sessions, 1


def _writes(state: State, number: int, environment: Environment, asked: Any) -> Iterator[Step]:
    queue, entries = asked
    choices = [tuple(False for _ in entries)]
    if state.budget.failures:
        choices.append(tuple(True for _ in entries))
        if len(entries) > 1:
            choices += [(True, *[False] * (len(entries) - 1)), (*[False] * (len(entries) - 1), True)]
    for failed in choices:
        budget = replace(state.budget, failures=state.budget.failures - any(failed))
        following = replace(environment, writes=(*environment.writes, failed))
        written = [entry for entry, one in zip(entries, failed, strict=True) if not one]
        changes: dict[str, Any] = {"budget": budget}
        broken = None
        if queue == "work":
            sent = [Queued(_lineage(environment, body), body, attempts, tried=True) for body, attempts in written]
            changes["queue"] = tuple(sorted([*state.queue, *sent]))
        else:
            added = [Letter(_lineage(environment, body), body, attempts) for body, attempts in written]
            changes["letters"] = tuple(sorted([*state.letters, *added]))
            broken = _broken_letter(environment, added)
        label = f"environment {number}: {queue} queue takes {[body for body, _ in written]}"
        label += ", and fails for others" if any(failed) else ""
        yield label, _with(state, number, following, **changes), broken


def _lineage(environment: Environment, body: str) -> str:
    """The message that a body comes from: the one that asks for the same, or at least for the same sessions."""
    wanted = set(asked_for(body))
    names = {name for name, _ in wanted}
    same = [one for one in environment.messages if wanted <= set(asked_for(one.body))]
    alike = [one for one in environment.messages if names & {name for name, _ in asked_for(one.body)}]
    return [*same, *alike][0].lineage


def _broken_letter(environment: Environment, letters: Sequence[Letter]) -> str | None:
    for letter in letters:
        tried = any(one.lineage == letter.lineage and (one.tried or one.receives > 1) for one in environment.messages)
        for name, _ in asked_for(letter.body):
            if tried and name in environment.ended_before:
                return f"{name} had ended, was tried before, and is a dead letter"
    return None


def _acknowledged(state: State, number: int, environment: Environment, settled: Sequence[MessageResult]) -> Step:
    kept = [one for one, result in zip(environment.messages, settled, strict=True) if result.redeliver]
    done = {
        (one.lineage, item.session_id, item.unless_updated_since)
        for one, settled_one in zip(environment.messages, settled, strict=True)
        if not settled_one.redeliver
        for item, result in settled_one.results
        if isinstance(item, Request) and result.disposition is Disposition.DONE
    }
    changes = {"queue": tuple(sorted([*state.queue, *kept])), "done": state.done | done}
    label = f"environment {number} answers: again {[one.body for one in kept]}"
    return label, _with(state, number, None, **changes), None


def _killed(state: State, number: int, environment: Environment) -> State:
    budget = replace(state.budget, kills=state.budget.kills - 1)
    excused = state.excused | {one.lineage for one in environment.messages}
    queue = tuple(sorted([*state.queue, *environment.messages]))
    return _with(state, number, None, budget=budget, queue=queue, excused=excused)


def _changes(state: State) -> Iterator[Step]:
    budget = state.budget
    for letter in sorted(set(state.letters)) if budget.redrives else ():
        left = list(state.letters)
        left.remove(letter)
        queue = tuple(sorted([*state.queue, Queued(letter.lineage, letter.body, letter.attempts, tried=True)]))
        less = replace(budget, redrives=budget.redrives - 1)
        excused = state.excused | {letter.lineage}
        redriven = replace(state, letters=tuple(left), queue=queue, budget=less, excused=excused)
        yield f"{letter.body} is redriven", redriven, None
    for name, ended, woken, tagged in state.sessions:
        if ended:
            continue
        if budget.sweeps and not woken and not tagged:
            body = json.dumps({"session_id": name, "unless_updated_since": CONDITION})
            queue = tuple(sorted([*state.queue, Queued("sweep", body)]))
            swept = replace(state, queue=queue, budget=replace(budget, sweeps=budget.sweeps - 1))
            yield f"a sweep asks for {name}", swept, None
        if budget.changes:
            less = replace(budget, changes=budget.changes - 1)
            changes = {"wakes up": (name, ended, True, tagged), "is protected": (name, ended, woken, True)}
            for label, changed in changes.items():
                sessions = tuple(changed if one[0] == name else one for one in state.sessions)
                if sessions != state.sessions:
                    yield f"{name} {label}", replace(state, sessions=sessions, budget=less), None


@cache
def asked_for(body: str) -> tuple[tuple[str, datetime | None], ...]:
    """Ids and conditions of a body."""
    message = Model._parse(Queued("", body, receives=1), 0)
    return tuple((item.session_id, item.unless_updated_since) for item in message.items if isinstance(item, Request))


def _broken(start: State, state: State) -> str | None:
    """Which promise a state breaks, if any: what is in flight is nowhere yet, so it is judged when nothing is."""
    for letter in state.letters:
        count = sum(one.lineage == letter.lineage and one.body == letter.body for one in state.letters)
        if count > 1 and letter.lineage not in state.excused:
            return f"{letter.body} is two dead letters, and no redelivery explains it"
    return None if any(state.environments) else _lost(start, state)


def _lost(start: State, state: State) -> str | None:
    places: list[Queued | Letter] = [*state.queue, *state.letters]
    ended = {name for name, gone, _, _ in state.sessions if gone}
    for first in start.queue:
        for name, since in asked_for(first.body):
            if name in ended or (first.lineage, name, since) in state.done:
                continue
            left = [asked for place in places for other, asked in asked_for(place.body) if other == name]
            if not left:
                return f"{name} has not ended and is nowhere"
            if since is None and None not in left:
                return f"{name} was asked for without a condition, and what is left has one"
    unconditional = {
        (first.lineage, name) for first in start.queue for name, since in asked_for(first.body) if since is None
    }
    for place in places:
        for name, since in asked_for(place.body):
            if since is None and (place.lineage, name) not in unconditional:
                return f"the condition of {name} was lost on the way"
    return None
