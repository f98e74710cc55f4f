"""Bodies made to break a parser: each is a dead letter as it came."""

import json

import pytest

from devin.http import Reply
from tests.in_memory import Function, ScriptedTransport, batch

MILLION = 1_000_000
BOM = "\ufeff"


def never(method: str, path: str) -> Reply:
    raise AssertionError(f"{method} {path}")


@pytest.fixture
def function() -> Function:
    return Function(ScriptedTransport(never), "apk_made-up-0123")


def dead_letters(function: Function, body: str) -> list[str]:
    """The bodies of the dead letters that a message leads to."""
    assert function.invoke(batch({"body": body})) == {"batchItemFailures": []}
    found = [write.body for write in function.written("dead")]
    function.sqs.writes.clear()
    return found


POISON = {
    "an id of a million digits": '{"session_id": ' + "1" * MILLION + "}",
    "a fraction of a million digits": '{"session_id": 0.' + "3" * MILLION + "}",
    "an exponent of a million digits": '{"session_id": 1e' + "9" * MILLION + "}",
    "a date of a million digits": '{"session_id": "devin-1", "unless_updated_since": "' + "2" * MILLION + '"}',
    # Reading has the same limit as writing, so nothing is read that a dead letter could not hold.
    "a number that Python would not write": '{"session_ids": [' + "7" * 4301 + ', "y"]}',
    "minus zero": '{"session_id": -0.0}',
    "not a number": '{"session_id": NaN}',
    "infinity": '{"session_ids": [-Infinity]}',
    "too large for a double": '{"session_id": 1e999}',
    "a lone surrogate": "devin-\udfff",
    "a lone surrogate in JSON": '{"session_id": "devin-\ud83d"}',
    "an escaped lone surrogate": '{"session_id": "devin-\\udc00"}',
    "NUL after an id": "devin-1\x00",
    "NUL in JSON": '{"session_id":\x00"devin-1"}',
    "100,000 lists": "[" * 100_000,
    "100,000 lists in an id": '{"session_id": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "100,000 objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "90,000 envelopes": '{"detail":' * 90_000 + '{"session_id":"devin-1"}' + "}" * 90_000,
    "as many lists as can be read": '{"session_id": ' + "[" * 9_990 + "]" * 9_990 + "}",
    "a key twice": '{"session_id": "devin-1", "session\\u005fid": "devin-2"}',
    "a key twice inside": '{"detail": {"session_id": "devin-1"}, "a": {"b": 1, "b": 2}}',
    "a byte order mark": BOM + '{"session_id": "devin-1"}',
    "a text of a million letters": '{"session_id": "' + "a" * MILLION + '"}',
    "a million escapes": '{"session_id": "' + "\\n" * (MILLION // 2) + '"}',
    "a key of a million letters": '{"' + "a" * MILLION + '": 1}',
    "a million blanks": " " * MILLION,
    "two documents": '{"session_id": "devin-1"}{"session_id": "devin-2"}',
    "a comment": '{"session_id": "devin-1" /* devin-2 */}',
    "nothing": "",
    "an id in UTF-16": "devin-1".encode("utf-16").decode("latin-1"),
}


@pytest.mark.fault(18)
@pytest.mark.parametrize("body", POISON.values(), ids=POISON)
def test_a_poison_message_is_a_dead_letter_as_it_came(function: Function, body: str) -> None:
    assert dead_letters(function, body) == [body]


@pytest.mark.parametrize(
    "odd", ["NaN", "-Infinity", "-0.0", "1e999", "null", '"\\ud800"', "[" * 9_000 + "]" * 9_000, '{"session_id": "x"}']
)
def test_an_invalid_item_among_ids_is_a_dead_letter_that_is_read_the_same_again(function: Function, odd: str) -> None:
    one, empty = dead_letters(function, f'{{"session_ids": [{odd}, {odd}, ""]}}')
    assert json.loads(empty) == {"session_ids": [""]}
    assert dead_letters(function, one) == [one]
