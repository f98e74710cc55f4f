"""What a chaos run does, drawn from a seed: sessions, messages, faults, and the times of every disturbance. Pure."""

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

from infra.local.fake_devin import Fault
from infra.local.fake_devin.faults import html_error, too_many_requests

# runs      ends like any other            exited    has exited already
# awake     was used since: spared         unknown   the API knows no such session
# refused   the API says 422               fails     the API says 500, always
# unusable  is no id any more as sent      swept     nobody sends it, a sweep's policy finds it
type Kind = Literal["runs", "exited", "awake", "unknown", "refused", "fails", "unusable", "swept"]
type Trigger = Literal["queue", "invoke", "invoke later", "schedule"]

KINDS: dict[Kind, float] = {
    "runs": 74, "exited": 5, "awake": 6, "unknown": 3, "refused": 3, "fails": 2, "unusable": 3, "swept": 4,
}  # fmt: skip
TRIGGERS: dict[Trigger, float] = {"queue": 80, "invoke": 8, "invoke later": 11, "schedule": 1}
# Names are told apart wherever they stand: in a body, inside any envelope, on the path of a call.
NAME = re.compile(r"devin-chaos-[0-9]+-[a-z]+-[0-9]{5}")
EARLY, MIDDLE, LATE = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3))

_EVENT = json.loads((Path(__file__).parents[1] / "events" / "eventbridge.json").read_text())
_MOST_SCHEDULES = 20
_CONDITIONAL = 0.35
_REPEATED = 0.04
_DECOYS = 0.05
# What makes an id none. All keep the id whole, so that a dead letter can be told whose it is.
_SPOILT = [
    "ID/../x",
    "ID%2e%2e",
    "ID\u0430",
    "ID ",
    "ID\r\nHost: example.com",
    "please end ID now",
    "//ID@example.com/",
]
_SPOILT_BODIES = [
    *_SPOILT,
    '{"session_id": "ID", "unless_updated_sinse": "2026-01-01"}',
    '{"session_id": "ID", "session_id": "ID"}',
    '{"session_ids": "ID"}',
    '{"session_id": "ID"',
    '[{"session_id": "ID"}]',
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


class Message(NamedTuple):
    """One thing that is sent: how, the ids that it asks for, and its text."""

    trigger: Trigger
    ids: tuple[str, ...]
    text: str


class Act(NamedTuple):
    """How many seconds after the beginning it is due, what it is, and with what.

    `send` and `sweep`, or a method of Disturbances.
    """

    at: float
    name: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A whole run. `decoys` are sessions that no message names: strangers, and near misses of the sweep's policy.
    `rules`: faults of the API, and when they act."""

    seed: int
    seconds: float
    kill_every: float
    subjects: Mapping[str, Kind]
    decoys: Mapping[str, str]
    messages: Sequence[Message]
    timeline: Sequence[Act]
    rules: Sequence[tuple[Fault, Mapping[str, Any]]]

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

    def of_kind(self, kind: Kind) -> list[str]:
        return [one for one, made_as in self.subjects.items() if made_as == kind]


def make_plan(seed: int, ids: int, seconds: float, kill_every: float) -> Plan:
    """The run of this seed and size; the same arguments make the same plan."""
    draw = random.Random(f"chaos/{seed}")  # noqa: S311 - not a secret
    numbers = count(1)
    kinds = draw.choices([*KINDS], [*KINDS.values()], k=ids)
    subjects: dict[str, Kind] = {f"devin-chaos-{seed}-{kind}-{next(numbers):05}": kind for kind in kinds}
    decoys = {
        f"devin-chaos-{seed}-decoy-{next(numbers):05}": draw.choice(["stranger", "protected", "busy"])
        for _ in range(max(3, round(ids * _DECOYS)))
    }
    messages = list(_messages(draw, subjects))
    timeline = [*_sends(draw, messages, seconds), *_disturbances(draw, seconds), *_kills(draw, seconds, kill_every)]
    # First, so that no other fault carries out what is to fail.
    always = {"refused": Fault(status=422, body='{"detail": "not this one"}'), "fails": html_error(500)}
    rules: list[tuple[Fault, dict[str, Any]]] = [
        (always[kind], {"session_id": session_id, "operation": "terminate"})
        for session_id, kind in subjects.items()
        if kind in always
    ]
    rules += [
        (fault, {"operation": operation, "probability": probability, "seed": seed * 100 + number})
        for number, (probability, operation, fault) in enumerate(_FAULTS)
    ]
    timeline.sort(key=lambda act: act.at)
    return Plan(seed, seconds, kill_every, subjects, decoys, messages, timeline, rules)


def _messages(draw: random.Random, subjects: Mapping[str, Kind]) -> Iterator[Message]:
    """Every id that is to be named at least once, in company or alone; some in several messages."""
    groups: dict[tuple[Trigger, bool, bool], list[str]] = defaultdict(list)
    schedules = 0
    for session_id, kind in subjects.items():
        if kind == "swept":
            continue
        triggers = draw.choices([*TRIGGERS], [*TRIGGERS.values()])
        schedules += triggers == ["schedule"]
        if triggers == ["schedule"] and schedules > _MOST_SCHEDULES:
            triggers = ["queue"]
        if kind == "runs" and draw.random() < _REPEATED:
            triggers += ["queue"] * draw.choice([1, 2])
        for trigger in triggers:
            on_condition = kind == "awake" or draw.random() < _CONDITIONAL
            # In company it would be sent again, with a longer backoff for each further receive.
            alone = kind == "fails" or trigger == "schedule"
            groups[trigger, on_condition, alone].append(session_id)
    for (trigger, on_condition, alone), ids in groups.items():
        draw.shuffle(ids)
        while ids:
            size = 1 if alone else draw.choice([1, 1, 1, 2, 5, 12])
            yield Message(trigger, tuple(ids[:size]), _text(draw, trigger, ids[:size], on_condition, subjects))
            del ids[:size]


def _text(
    draw: random.Random, trigger: Trigger, ids: list[str], on_condition: bool, subjects: Mapping[str, Kind]
) -> str:
    # An event has to be JSON, so what spoils it is in there.
    if len(ids) == 1 and trigger == "queue":
        if subjects[ids[0]] == "unusable":
            return draw.choice(_SPOILT_BODIES).replace("ID", ids[0])
        if not on_condition and draw.random() < 0.6:
            return ids[0]
    written = [_written(draw, one, subjects[one]) for one in ids]
    payload: dict[str, object] = {"session_ids": written}
    if len(ids) == 1 and draw.random() < 0.7:
        payload = {"session_id": written[0]}
    if on_condition:
        payload["unless_updated_since"] = MIDDLE.isoformat()
    if trigger == "queue" and draw.random() < 0.2:
        payload = {**_EVENT, "detail": payload}
    return json.dumps(payload)


def _written(draw: random.Random, session_id: str, kind: Kind) -> str:
    if kind == "unusable":
        return draw.choice(_SPOILT).replace("ID", session_id)
    return f"https://app.devin.ai/sessions/{session_id}" if draw.random() < 0.1 else session_id


def _sends(draw: random.Random, messages: Sequence[Message], seconds: float) -> Iterator[Act]:
    for message in messages:
        # The emulator looks at schedules every ten seconds.
        latest = 0.3 if message.trigger == "schedule" else 0.9
        yield Act(draw.uniform(0, latest * seconds), "send", (message,))
    yield Act(seconds * 0.4, "sweep")


def _disturbances(draw: random.Random, seconds: float) -> Iterator[Act]:
    """One after the other, so that no two undo each other; besides, processes are killed all the time."""
    slots = ["refused, then rotated", "rotated, then refused", "dead letters", "secret"] * max(1, round(seconds / 60))
    draw.shuffle(slots)
    length = seconds / len(slots)
    key = 0
    for slot, name in enumerate(slots):
        yield Act(slot * length, "latency", draw.choice([(0.0, 0.01), (0.005, 0.05), (0.02, 0.2)]))
        begin = (slot + draw.uniform(0.1, 0.4)) * length
        end = begin + min(draw.uniform(2, 5), length / 2)
        match name:
            case "refused, then rotated":
                key += 1
                yield from (Act(begin, "accept", (key,)), Act(end, "store", (key,)))
            case "rotated, then refused":
                key += 1
                yield from (Act(begin, "accept", (key - 1, key)), Act(begin, "store", (key,)))
                yield Act(end, "accept", (key,))
            case _:
                yield from (Act(begin, "deny", (name,)), Act(end, "permit"))
        if name == "secret":
            # Environments that are warm have the key; those that follow them have to read it.
            yield Act(begin, "kill", (1.0,))


def _kills(draw: random.Random, seconds: float, kill_every: float) -> Iterator[Act]:
    at = draw.uniform(0.5, 1.5) * kill_every
    while at < seconds:
        yield Act(at, "kill", (draw.uniform(0.3, 1.0),))
        at += draw.uniform(0.5, 1.5) * kill_every
