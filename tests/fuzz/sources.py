"""Where inputs come from: a generator of choices, and hostile values made from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

EVENTS = Path(__file__).parents[1] / "events"
ADDRESS = "https://app.devin.ai/sessions/"


class BytesAsChoices(Random):
    """Choices that are read off some bytes: what a coverage-guided fuzzer mutates becomes another structure.

    When the bytes have run out every choice is the first one.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data = data
        self._at = 0

    def getrandbits(self, k: int, /) -> int:
        size = (k + 7) // 8
        taken = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "big") >> (size * 8 - k) if len(taken) == size else 0

    def random(self) -> float:
        return self.getrandbits(16) / 65536


_ALPHABET = "abcXYZ019_-"
_HOSTILE_CHARACTERS = (
    "/.%\\\"'{}[]:, \t\r\n\x00\x1f\x7f\x85\u00e4\u200b\u202e\u2028\uff0d\u0430\ud800\U0001f4a5#?&=@;<>*"
)
_HOSTILE_TEXTS = (
    "",
    " ",
    "..",
    "devin-",
    "devin-..",
    "devin-a/../b",
    "devin-a%2f..",
    "devin-a\n",
    "devin-\u0430",
    "DEVIN-a",
    "devin-" + "a" * 123,
    "devin_a",
    "null",
    "NaN",
    "1e999",
    "9" * 30,
    "-1",
    "true",
    "{}",
    "[]",
    "{",
    '"',
    '{"session_id": "devin-in-text"}',
    "[" * 200,
    "https://app.devin.ai/sessions/",
    "https://app.devin.ai/sessions/devin-a?x=1",
    "https://app.devin.ai/sessions/https://app.devin.ai/sessions/devin-a",
    "http://app.devin.ai/sessions/devin-a",
    "__proto__",
    "\ufeff",
)
INSTANTS = (
    "2026-01-31T18:00:00Z",
    "2026-01-31T18:00:00+01:00",
    "2026-01-31",
    "20260131T180000",
    "2024-02-29T00:00:00.123456Z",
    "2026-W05-6",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-01:00",
)
NO_INSTANTS: tuple[object, ...] = (
    "",
    "yesterday",
    "2026-13-01",
    "2026-01-31T25:00Z",
    None,
    0,
    1769882400,
    True,
    [],
    {},
)
_KEYS = (
    "session_id",
    "session_ids",
    "unless_updated_since",
    "unles_updated_since",
    "detail",
    "Message",
    "Type",
    "requestPayload",
    "requestContext",
    "MessageBody",
    "QueueUrl",
    "Payload",
    "FunctionName",
    "Session_Id",
    "session_id ",
    "",
)


def plain_id(rng: Random) -> str:
    """A session id in the form of the API's paths."""
    return "devin-" + "".join(rng.choices(_ALPHABET, k=rng.choice((1, 2, 3, 8, 32, 122))))


def given_id(rng: Random) -> str:
    """A session id in one of the forms in which it may be given."""
    form = rng.randrange(8)
    text = "".join(rng.choices("0123456789abcdefABCDEF", k=32)) if form in {4, 5} else plain_id(rng)
    return ADDRESS + text if form in {5, 6} else text


def text(rng: Random) -> str:
    """Some text, seldom nice."""
    kind = rng.randrange(6)
    if kind == 0:
        return given_id(rng)
    if kind == 1:
        return rng.choice(_HOSTILE_TEXTS)
    if kind == 2:
        return "".join(rng.choices(_ALPHABET + _HOSTILE_CHARACTERS, k=rng.randrange(12)))
    if kind == 3:
        return mutated_text(rng, given_id(rng))
    if kind == 4:
        return rng.choice(INSTANTS)
    return "".join(rng.choices(_ALPHABET, k=rng.randrange(9)))


_NUMBERS: tuple[object, ...] = (
    0,
    1,
    -1,
    int("12" * 16),
    2**31,
    2**63,
    10**30,
    0.5,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
    1769882400,
)


def scalar(rng: Random) -> Any:
    """A JSON value without parts."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.choice(_NUMBERS)
    return text(rng)


def json_value(rng: Random, depth: int = 3) -> Any:
    """Any JSON value, with a liking for the keys that mean something here."""
    kind = rng.randrange(6) if depth else 0
    if kind == 4:
        return [json_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 5:
        return {key(rng): json_value(rng, depth - 1) for _ in range(rng.randrange(4))}
    return scalar(rng)


def key(rng: Random) -> str:
    """A key of a JSON object."""
    return rng.choice(_KEYS) if rng.randrange(5) else text(rng)


def mutated_text(rng: Random, given: str) -> str:
    """The text with one to three small changes."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(given) + 1)
        to = min(len(given), at + rng.choice((1, 1, 2, 8, 40)))
        match rng.randrange(7):
            case 0:
                given = given[:at] + given[to:]
            case 1:
                given = given[:to] + given[at:to] + given[to:]
            case 2:
                given = given[:at] + rng.choice(_HOSTILE_CHARACTERS) + given[at:]
            case 3:
                given = given[:at] + rng.choice(_HOSTILE_CHARACTERS) + given[to:]
            case 4:
                given = given[:at] + rng.choice(_HOSTILE_TEXTS) + given[to:]
            case 5:
                given = given[:at]
            case _:
                given = given[:at] + json.dumps(rng.choice(_KEYS)) + rng.choice((":", ",", "")) + given[at:]
    return given


def mutated_value(rng: Random, value: Any) -> Any:
    """The JSON value with something in it exchanged, renamed, repeated, added or taken out."""
    if isinstance(value, dict) and value and rng.randrange(4):
        return _mutated_object(rng, value)
    if isinstance(value, list) and value and rng.randrange(4):
        return _mutated_list(rng, value)
    match rng.randrange(4):
        case 0:
            return json_value(rng, 2)
        case 1:
            return mutated_text(rng, value) if isinstance(value, str) else [value]
        case 2:
            return json.dumps(value)
        case _:
            return {key(rng): value}


def _mutated_object(rng: Random, value: dict[str, Any]) -> dict[str, Any]:
    name = rng.choice(list(value))
    rest = {other: one for other, one in value.items() if other != name}
    match rng.randrange(6):
        case 0:
            return rest
        case 1:
            return rest | {key(rng): value[name]}
        case 2:
            return value | {key(rng): json_value(rng, 1)}
        case _:
            return value | {name: mutated_value(rng, value[name])}


def _mutated_list(rng: Random, value: list[Any]) -> list[Any]:
    at = rng.randrange(len(value))
    match rng.randrange(4):
        case 0:
            return value[:at] + value[at + 1 :]
        case 1:
            return [*value, value[at]]
        case 2:
            return [*value[:at], mutated_value(rng, value[at]), *value[at + 1 :]]
        case _:
            return [*value[:at], json_value(rng, 2), *value[at:]]


def shaken(rng: Random, value: Any, least: int = 0) -> Any:
    """The JSON value after some mutations."""
    for _ in range(rng.randint(least, 3)):
        value = mutated_value(rng, value)
    return value


@cache
def _samples() -> Sequence[tuple[Any, tuple[str, ...]]]:
    """The sample events, each with the bodies in it."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(EVENTS.glob("*.json"))]
    return [(one, tuple(record["body"] for record in one.get("Records", ()))) for one in read]


@cache
def sample_events() -> Sequence[Any]:
    """The sample events that are no batch."""
    return [event for event, bodies in _samples() if not bodies]


@cache
def sample_bodies() -> Sequence[str]:
    """The bodies in the sample events, and the other events as bodies."""
    return [*(body for _, bodies in _samples() for body in bodies), *map(json.dumps, sample_events())]


def payload(rng: Random) -> dict[str, Any]:
    """Our own payload, as it should be."""
    if rng.randrange(2):
        asked: dict[str, Any] = {"session_id": given_id(rng)}
    else:
        asked = {"session_ids": [given_id(rng) for _ in range(rng.choice((1, 2, 2, 3, 5)))]}
        if not rng.randrange(4):
            asked["session_ids"].append(rng.choice(asked["session_ids"]))
        if not rng.randrange(4):
            asked["session_ids"].insert(rng.randrange(2), json_value(rng, 2))
    if rng.randrange(2):
        asked["unless_updated_since"] = rng.choice(INSTANTS[:-2])
    return asked


_ENVELOPES: tuple[Callable[[Any], dict[str, Any]], ...] = (
    lambda inner: {"detail-type": "any", "source": "s", "detail": inner},
    lambda inner: {"detail-type": "any", "detail": _as_text(inner)},
    lambda inner: {"Type": "Notification", "TopicArn": "t", "Message": _as_text(inner)},
    lambda inner: {"requestContext": {"approximateInvokeCount": 3}, "requestPayload": inner, "responsePayload": None},
    lambda inner: {"QueueUrl": "u", "MessageBody": _as_text(inner)},
    lambda inner: {"FunctionName": "f", "Payload": inner},
)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def enveloped(rng: Random, inner: Any) -> Any:
    """The payload in up to four envelopes."""
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        inner = rng.choice(_ENVELOPES)(inner)
    return inner


def with_a_repeated_key(rng: Random, given: str) -> str:
    """The text of an object in which a key may stand twice: a Python dictionary cannot say that."""
    if not given.startswith("{"):
        return given
    repeated = json.dumps({rng.choice(_KEYS[:6]): scalar(rng)})
    return "{" + repeated[1:-1] + ", " + given[1:] if rng.randrange(2) else given[:-1] + ", " + repeated[1:]


def body(rng: Random) -> str:
    """The body of a queue message: what is right, what is almost right, and what is neither."""
    kind = rng.randrange(10)
    if kind == 0:
        return text(rng)
    if kind == 1:
        return json.dumps(json_value(rng), ensure_ascii=bool(rng.randrange(2)))
    if kind == 2:
        return mutated_text(rng, rng.choice(sample_bodies()))
    asked = enveloped(rng, shaken(rng, payload(rng)) if kind < 6 else payload(rng))
    if kind == 6:
        asked = shaken(rng, asked, 1)
    written = json.dumps(asked, ensure_ascii=bool(rng.randrange(4)))
    if kind == 7:
        return mutated_text(rng, written)
    return with_a_repeated_key(rng, written) if kind == 8 else written


def event(rng: Random) -> Any:
    """What Lambda hands over when it is no batch."""
    kind = rng.randrange(5)
    if kind == 0:
        return json_value(rng)
    if kind == 1:
        return shaken(rng, rng.choice(sample_events()))
    return shaken(rng, enveloped(rng, payload(rng))) if kind == 2 else enveloped(rng, payload(rng))
