"""What a chaos run does, drawn from a seed: sessions, messages, faults, and the times of every disturbance. Pure."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Literal

from infra.local.fake_devin import Fault, Rule
from infra.local.fake_devin.faults import html_error, too_many_requests

# runs      ends like any other            exited    has exited already
# awake     was used since: spared         unknown   the API knows no such session
# refused   the API says 422               fails     the API says 500, always
# unusable  is no id any more as sent      swept     nobody sends it, a sweep's policy finds it
type Kind = Literal["runs", "exited", "awake", "unknown", "refused", "fails", "unusable", "swept"]
type Trigger = Literal["queue", "invoke", "invoke later", "schedule"]
type Resource = Literal["dead letters", "secret"]
type Decoy = Literal["stranger", "protected", "busy"]
type Slot = Literal["refused, then rotated", "rotated, then refused", "dead letters", "secret"]

KINDS: dict[Kind, float] = {
    "runs": 74, "exited": 5, "awake": 6, "unknown": 3, "refused": 3, "fails": 2, "unusable": 3, "swept": 4,
}  # fmt: skip
TRIGGERS: dict[Trigger, float] = {"queue": 80, "invoke": 8, "invoke later": 11, "schedule": 1}
# Names are told apart wherever they stand: in a body, inside any envelope, on the path of a call.
NAME = re.compile(r"devin-chaos-[0-9]+-[a-z]+-[0-9]{5}")
EARLY, MIDDLE, LATE = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3))
DETAIL_TYPE = "Devin Session Termination Requested"

# What `make chaos` does unless told otherwise. Several ids share a message: so many make well over a thousand messages,
# whatever the seed.
IDS, SECONDS, KILL_EVERY = 4500, 150.0, 6.0
LEAST_MESSAGES = 1000

_MOST_SCHEDULES = 20
_CONDITIONAL = 0.35
_REPEATED = 0.04
_DECOYS = 0.05
_DECOY_KINDS: list[Decoy] = ["stranger", "protected", "busy"]
# What makes an id none. All keep the id whole, so that a dead letter can be told whose it is.
_SPOILT = [
    "{}/../x",
    "{}%2e%2e",
    "{}\u0430",
    "{} ",
    "{}\r\nHost: example.com",
    "please end {} now",
    "//{}@example.com/",
]
_SPOILT_BODIES = [
    *_SPOILT,
    '{{"session_id": "{}", "unless_updated_sinse": "2026-01-01"}}',
    '{{"session_id": "{}", "session_id": "{}"}}',
    '{{"session_ids": "{}"}}',
    '{{"session_id": "{}"',
    '[{{"session_id": "{}"}}]',
]
_FAULTS: list[tuple[float, Literal["terminate", "get", "list"], Fault]] = [
    (0.04, "terminate", html_error(500)),
    (0.02, "terminate", Fault(status=503, headers={"Retry-After": "1"})),
    # Rare, because each brakes a whole invocation.
    (0.006, "terminate", too_many_requests("1")),
    (0.02, "terminate", Fault(status=403)),
    (0.015, "terminate", Fault(kind="reset")),
    (0.02, "terminate", Fault(kind="reset", effect=True)),
    (0.02, "terminate", Fault(kind="close", part="body")),
    # Rare and short, because a batch waits for its slowest call.
    (0.002, "terminate", Fault(kind="hang", effect=True, seconds=2)),
    (0.002, "terminate", Fault(kind="drip", interval=0.03)),
    (0.03, "get", html_error(500)),
    (0.02, "get", Fault(kind="close", part="body")),
    (0.003, "get", too_many_requests("1")),
    (0.005, "list", html_error(500)),
]


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that is sent: how, the ids that it asks for, and its text."""

    trigger: Trigger
    ids: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """Run the sweep that finds what no message names."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End this share of the function's processes, drawn from `seed`, by SIGKILL."""

    share: float
    seed: int


@dataclass(frozen=True, slots=True)
class Latency:
    """From now on every call takes so many seconds."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Accept:
    """From now on the API accepts the keys with these numbers alone."""

    keys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Store:
    """Store the key with this number in the secret."""

    key: int


@dataclass(frozen=True, slots=True)
class Permit:
    """Give the permission to the function's role, or take it away."""

    resource: Resource
    granted: bool


type Disturbance = Kill | Latency | Accept | Store | Permit
type Act = Message | Sweep | Disturbance


@dataclass(frozen=True, slots=True)
class Timed:
    """An act, and how many seconds after the beginning it is due."""

    at: float
    act: Act


@dataclass(frozen=True)
class Plan:
    """A whole run. `decoys` are sessions that no message names: strangers, and near misses of the sweep's policy."""

    seed: int
    seconds: float
    kill_every: float
    subjects: Mapping[str, Kind]
    decoys: Mapping[str, Decoy]
    messages: Sequence[Message]
    timeline: Sequence[Timed]
    rules: Sequence[Rule]

    @property
    def replay(self) -> str:
        """The command that makes this plan: the seed alone does not, everything else is drawn for a size."""
        return (
            f"make chaos SEED={self.seed} IDS={len(self.subjects)} SECONDS={self.seconds} KILL_EVERY={self.kill_every}"
        )

    @property
    def tag(self) -> str:
        """What the sweep's policy looks for."""
        return f"chaos-{self.seed}"

    def asks(self) -> Counter[str]:
        """How many messages ask for each id."""
        return Counter(one for message in self.messages for one in set(message.ids))

    def of_kind(self, *kinds: Kind) -> list[str]:
        """The ids of these kinds."""
        return [one for one, kind in self.subjects.items() if kind in kinds]


def make_plan(seed: int, *, ids: int, seconds: float, kill_every: float) -> Plan:
    """The run of this seed and size; the same arguments make the same plan."""
    draw = random.Random(f"chaos/{seed}")  # noqa: S311 - not a secret
    numbers = count(1)
    kinds = draw.choices([*KINDS], [*KINDS.values()], k=ids)
    subjects: dict[str, Kind] = {f"devin-chaos-{seed}-{kind}-{next(numbers):05}": kind for kind in kinds}
    decoys = {
        f"devin-chaos-{seed}-decoy-{next(numbers):05}": draw.choice(_DECOY_KINDS)
        for _ in range(max(3, round(ids * _DECOYS)))
    }
    messages = list(_messages(draw, subjects))
    slots, slot_seconds = _slots(draw, seconds)
    timeline = [
        *_disturbances(draw, slots, slot_seconds),
        *_kills(draw, seconds, kill_every),
        *_sends(draw, messages, seconds),
        Timed(seconds * 0.4, Sweep()),
    ]
    # First, so that no other fault carries out what is to fail.
    always = {"refused": Fault(status=422, body='{"detail": "not this one"}'), "fails": html_error(500)}
    rules = [
        Rule(fault=always[kind], session_id=session_id, operation="terminate")
        for session_id, kind in subjects.items()
        if kind in always
    ]
    rules += [
        Rule(fault=fault, operation=operation, probability=probability, seed=seed * 100 + number)
        for number, (probability, operation, fault) in enumerate(_FAULTS)
    ]
    timeline.sort(key=lambda timed: timed.at)
    return Plan(seed, seconds, kill_every, subjects, decoys, messages, timeline, rules)


def _messages(draw: random.Random, subjects: Mapping[str, Kind]) -> Iterator[Message]:
    """Every id that is to be named at least once, in company or alone; some in several messages."""
    by_trigger: dict[Trigger, list[str]] = {trigger: [] for trigger in TRIGGERS}
    for session_id, kind in subjects.items():
        if kind == "swept":
            continue
        (trigger,) = draw.choices([*TRIGGERS], [*TRIGGERS.values()])
        if trigger == "schedule" and len(by_trigger[trigger]) == _MOST_SCHEDULES:
            trigger = "queue"
        by_trigger[trigger].append(session_id)
        if kind == "runs" and draw.random() < _REPEATED:
            by_trigger["queue"] += [session_id] * draw.choice([1, 2])
    for trigger, ids in by_trigger.items():
        draw.shuffle(ids)
        # Alone, because in company it would be sent again, with a longer backoff for each further receive.
        alone = {one for one in ids if subjects[one] == "fails"}
        on_condition = {one for one in ids if subjects[one] == "awake" or draw.random() < _CONDITIONAL} - alone
        for one in sorted(alone):
            yield _message(draw, trigger, [one], None, subjects)
        for some, since in (
            ([one for one in ids if one in on_condition], MIDDLE),
            ([one for one in ids if one not in on_condition | alone], None),
        ):
            for company in _companies(draw, trigger, some):
                yield _message(draw, trigger, company, since, subjects)


def _companies(draw: random.Random, trigger: Trigger, ids: list[str]) -> Iterator[list[str]]:
    sizes = [1] if trigger == "schedule" else [1, 1, 1, 2, 5, 12]
    begin = 0
    while begin < len(ids):
        end = begin + draw.choice(sizes)
        yield ids[begin:end]
        begin = end


def _message(
    draw: random.Random, trigger: Trigger, company: list[str], since: datetime | None, subjects: Mapping[str, Kind]
) -> Message:
    ids = tuple(company)
    # An event has to be JSON, so what spoils it is in there.
    if len(company) == 1 and subjects[ids[0]] == "unusable" and trigger == "queue":
        return Message(trigger, ids, draw.choice(_SPOILT_BODIES).format(ids[0], ids[0]))
    if len(company) == 1 and since is None and trigger == "queue" and draw.random() < 0.6:
        return Message(trigger, ids, ids[0])
    written = [_written(draw, one, subjects[one]) for one in ids]
    payload: dict[str, object] = (
        {"session_id": written[0]} if len(written) == 1 and draw.random() < 0.7 else {"session_ids": written}
    )
    if since is not None:
        payload["unless_updated_since"] = since.isoformat()
    if trigger == "queue" and draw.random() < 0.2:
        return Message(trigger, ids, json.dumps(_envelope(payload)))
    return Message(trigger, ids, json.dumps(payload))


def _written(draw: random.Random, session_id: str, kind: Kind) -> str:
    if kind == "unusable":
        return draw.choice(_SPOILT).format(session_id)
    return f"https://app.devin.ai/sessions/{session_id}" if draw.random() < 0.1 else session_id


def _envelope(payload: Mapping[str, object]) -> dict[str, object]:
    return {
        "version": "0",
        "id": "33334444-5555-6666-7777-888899990000",
        "detail-type": DETAIL_TYPE,
        "source": "tests.chaos",
        "account": "000000000000",
        "time": "2026-02-01T00:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": payload,
    }


def _slots(draw: random.Random, seconds: float) -> tuple[list[Slot], float]:
    """One disturbance after the other, so that no two undo each other; besides, processes are killed all the time."""
    slots: list[Slot] = ["refused, then rotated", "rotated, then refused", "dead letters", "secret"]
    slots *= max(1, round(seconds / 60))
    draw.shuffle(slots)
    return slots, seconds / len(slots)


def _disturbances(draw: random.Random, slots: Sequence[Slot], length: float) -> Iterator[Timed]:
    key = 0
    for slot, name in enumerate(slots):
        yield Timed(slot * length, Latency(*draw.choice([(0.0, 0.01), (0.005, 0.05), (0.02, 0.2)])))
        begin = (slot + draw.uniform(0.1, 0.4)) * length
        end = begin + min(draw.uniform(2, 5), length / 2)
        match name:
            case "refused, then rotated":
                key += 1
                yield from (Timed(begin, Accept((key,))), Timed(end, Store(key)))
            case "rotated, then refused":
                key += 1
                yield from (Timed(begin, Accept((key - 1, key))), Timed(begin, Store(key)), Timed(end, Accept((key,))))
            case "dead letters":
                yield from (Timed(begin, Permit(name, granted=False)), Timed(end, Permit(name, granted=True)))
            case "secret":
                # Environments that are warm have the key; those that follow them have to read it.
                yield from (Timed(begin, Permit(name, granted=False)), Timed(begin, Kill(1.0, 0)))
                yield Timed(end, Permit(name, granted=True))


def _kills(draw: random.Random, seconds: float, kill_every: float) -> Iterator[Timed]:
    at = draw.uniform(0.5, 1.5) * kill_every
    while at < seconds:
        yield Timed(at, Kill(draw.uniform(0.3, 1.0), draw.randrange(1 << 30)))
        at += draw.uniform(0.5, 1.5) * kill_every


def _sends(draw: random.Random, messages: Sequence[Message], seconds: float) -> Iterator[Timed]:
    latest: dict[Trigger, float] = {"schedule": 0.3}  # the emulator looks at schedules every ten seconds
    for message in messages:
        yield Timed(draw.uniform(0, latest.get(message.trigger, 0.9) * seconds), message)
