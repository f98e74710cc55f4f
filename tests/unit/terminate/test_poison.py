"""Bodies made to break a reader: each is a dead letter as it came, or kept if not even SQS would take it back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from terminate import handler
from tests.unit.bare import BareSqs, Inline, bare_environment, bare_runtime
from tests.unit.world import Context

BOM = "\ufeff"
MILLION = 1_000_000


class NoApi:
    """Is never called."""

    def request(self, method: str, path: str, **_: object) -> None:
        raise AssertionError(f"{method} {path}")


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> BareSqs:
    bare_environment(monkeypatch)
    made = BareSqs()
    runtime = bare_runtime(NoApi(), made, Inline())  # type: ignore[arg-type]
    monkeypatch.setattr(handler, "runtime_for", lambda _: runtime)
    return made


def deliver(sqs: BareSqs, body: str) -> list[str]:
    """Invoke the function with a message; the ids of those that it keeps."""
    sqs.put(body)
    answered: Any = handler.lambda_handler({"Records": sqs.records()}, Context())  # type: ignore[arg-type]
    return [item["itemIdentifier"] for item in answered["batchItemFailures"]]


POISON = {
    "a number of a million digits": "1" * MILLION,
    "an id of a million digits": '{"session_id": ' + "1" * MILLION + "}",
    "a negative one": '{"session_id": -' + "9" * MILLION + "}",
    "a fraction of a million digits": '{"session_id": 0.' + "3" * MILLION + "}",
    "an exponent of a million digits": '{"session_id": 1e' + "9" * MILLION + "}",
    "a date of a million digits": '{"session_id": "devin-1", "unless_updated_since": "' + "2" * MILLION + '"}',
    "minus zero": '{"session_id": -0}',
    "minus zero as a fraction": '{"session_id": -0.0}',
    "bare minus zero": "-0",
    "not a number": '{"session_id": NaN}',
    "infinity": '{"session_id": Infinity}',
    "minus infinity": '{"session_ids": [-Infinity]}',
    "too large for a double": '{"session_id": 1e999}',
    "bare not a number": "NaN",
    "a lone surrogate": "\ud800",
    "a lone surrogate in an id": "devin-\udfff",
    "a lone surrogate in JSON": '{"session_id": "devin-\ud83d"}',
    "surrogates the wrong way round": '"\ude00\ud83d"',
    "an escaped lone surrogate": '{"session_id": "devin-\\udc00"}',
    "NUL": "\x00",
    "NUL after an id": "devin-1\x00",
    "NUL in JSON": '{"session_id": "devin-1\x00"}',
    "NUL between": '{"session_id":\x00"devin-1"}',
    "NUL after JSON": '{"session_id": "devin-1"}\x00',
    "100,000 lists": "[" * 100_000,
    "100,000 lists in an id": '{"session_id": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "100,000 objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "90,000 envelopes": '{"detail":' * 90_000 + '{"session_id":"devin-1"}' + "}" * 90_000,
    "as many lists as can be read": '{"session_id": ' + "[" * 9_990 + "]" * 9_990 + "}",
    "a key twice": '{"session_id": "devin-1", "session_id": "devin-1"}',
    "a key twice, escaped": '{"session_id": "devin-1", "session\\u005fid": "devin-2"}',
    "a key twice inside": '{"detail": {"session_id": "devin-1", "session_id": "devin-2"}}',
    "a key twice where nobody looks": '{"detail": {"session_id": "devin-1"}, "a": {"b": 1, "b": 2}}',
    "a byte order mark and an id": BOM + "devin-1",
    "a byte order mark and JSON": BOM + '{"session_id": "devin-1"}',
    "a byte order mark in an id": '{"session_id": "' + BOM + 'devin-1"}',
    "a text of a million letters": '{"session_id": "' + "a" * MILLION + '"}',
    "an open text of a million letters": '"' + "a" * MILLION,
    "a million escapes": '{"session_id": "' + "\\n" * (MILLION // 2) + '"}',
    "a key of a million letters": '{"' + "a" * MILLION + '": 1}',
    "a million blanks": " " * MILLION,
    "two documents": '{"session_id": "devin-1"}{"session_id": "devin-2"}',
    "a comment": '{"session_id": "devin-1" /* devin-2 */}',
    "nothing": "",
    "an id in UTF-16": "devin-1".encode("utf-16").decode("latin-1"),
}


@pytest.mark.parametrize("body", POISON.values(), ids=POISON)
def test_a_poisonous_body_is_a_dead_letter_as_it_came(sqs: BareSqs, body: str) -> None:
    assert deliver(sqs, body) == []
    ((kept, attributes),) = sqs.letters
    assert kept == body
    assert attributes["reason"]["StringValue"] == "invalid_message"
    assert "session_id" not in attributes


# What stands among ids and is none comes out alone, written so that it is read as the same again.
@pytest.mark.parametrize(
    "odd",
    ["NaN", "Infinity", "-Infinity", "-0", "-0.0", "1e999", "null", "true", '"\\ud800"', '"\\u0000"',
     "[" * 9_000 + "]" * 9_000,
     '{"session_id": "devin-1"}', '""', '"' + "x" * 100_000 + '"'],
)  # fmt: skip
def test_what_is_no_id_among_others_comes_out_alone_and_stays_what_it_is(sqs: BareSqs, odd: str) -> None:
    assert deliver(sqs, f'{{"session_ids": [{odd}, {odd}, ""]}}') == []
    letters = [body for body, _ in sqs.letters]
    assert len(letters) == (1 if odd == '""' else 2)
    sqs.letters.clear()
    sqs.work.clear()
    assert deliver(sqs, letters[0]) == []
    assert [body for body, _ in sqs.letters] == [letters[0]]


def test_a_number_that_python_would_not_write_is_not_read_either(sqs: BareSqs) -> None:
    # Reading has the same limit as writing, so nothing is read that a dead letter could not hold.
    body = json.dumps({"session_ids": ["x", "y"]}).replace('"x"', "7" * 4301)
    assert deliver(sqs, body) == []
    assert [letter for letter, _ in sqs.letters] == [body]
