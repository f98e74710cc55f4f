"""The fault matrix: what can go wrong, and what must happen then. `make faults` writes docs/faults.md from it.

A test covers a row by its marker: `@pytest.mark.fault(7, 9)`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "faults.md"

# "Kept": the message is still in the work queue and becomes visible again; it has no dead letter yet.
FAULTS = {
    1: ("The API answers 422.", "A dead letter with reason and detail; the other ids are unaffected."),
    2: (
        "The API answers 400, 404, 405, 409, 410, another 4xx, or a 3xx.",
        "A dead letter, unless the session has exited. No redirect is followed.",
    ),
    3: (
        "429 with Retry-After in seconds, as a date, absent, nonsense, negative or huge.",
        "Kept, with a visibility timeout between the backoff and 15 minutes. The invocation makes no further call.",
    ),
    4: ("500, 502, 503 or 504, with HTML or nothing in the body.", "Kept."),
    5: (
        "Connection refused, DNS or TLS failure, a reset before or during the response.",
        "Kept. A call over a stale connection is repeated once at once.",
    ),
    6: ("The API hangs, drips, or sends an endless body.", "Time and memory are bounded; kept."),
    7: (
        "200 with a body that does not say that the session ended.",
        "The session is read: exited is done, anything else is kept. An empty body of a 2xx is an end.",
    ),
    8: ("401 after the secret was rotated.", "The new key is read and the call repeated once."),
    9: (
        "401 without a new key.",
        "One more read of the secret, no further call, everything kept, a metric. The next invocation tries again.",
    ),
    10: ("403 for one id among good ones.", "That id is kept, the others end."),
    11: (
        "The secret is missing, unreadable, throttled, binary, empty, malformed, or holds a line break.",
        "Kept. A log line says what to do and never shows the value.",
    ),
    12: (
        "The dead-letter queue is missing, denied or throttled, or the body leaves no room for attributes.",
        "Kept. Attributes are cut to fit.",
    ),
    13: ("ChangeMessageVisibility fails, or the receipt handle has expired.", "Reported as failed, no exception."),
    14: (
        "The function is killed at any point of a batch.",
        "Every id ends after redelivery. What ended before the kill gets no dead letter.",
    ),
    15: ("The time limit of the function is near.", "Unfinished ids are kept, finished ones acknowledged."),
    16: ("A body of 1 MiB, 10,000 records.", "Memory is bounded and each body is read."),
    17: (
        "Duplicate deliveries; the same id many times in a batch and across batches.",
        "One call per invocation. The rejection of a redelivered id is looked into.",
    ),
    18: (
        "A poison message: deep JSON, lone surrogates, NUL, a number of a million digits.",
        "A dead letter `invalid_message` with the body as it came.",
    ),
    19: ("An unexpected exception for one record.", "That record is kept, with one traceback; the others are done."),
    20: (
        "An EventBridge invocation fails half way.",
        "Ids that are done are not called again; the others are in the work queue or the failure destination.",
    ),
    21: (
        "The work queue cannot be written during an EventBridge invocation.",
        "The invocation fails, so that Lambda's retry and failure destination keep the event.",
    ),
    22: (
        "A message is received too often.",
        "The redrive policy moves it to the dead-letter queue unchanged; redriven, it works.",
    ),
    23: ("Each dead letter of rows 1 to 22, redriven once its cause is gone.", "The session ends."),
    24: ("A session wakes up between sweep and termination.", "It is spared."),
    25: (
        "List pages shift, repeat, are empty, never end, or lie; sessions without a date or tags.",
        "Only what is provably stale is chosen, and the sweep ends.",
    ),
    26: (
        "A policy with a typo, a negative age, an age of zero, or no criteria.",
        "Refused with the reason before the first call.",
    ),
    27: ("More sessions match than the cap.", "Nothing is enqueued, and the sweep fails."),
    28: (
        "Clocks that differ by an hour; naive and zoned timestamps; the year 9999.",
        "Compared in UTC, refused when in doubt.",
    ),
    29: ("A sweep is killed half way; two sweeps run at once.", "Repeats are harmless."),
    30: (
        "Hostile ids: path traversal, CRLF, percent escapes, Unicode look-alikes, addresses.",
        "Never sent to the API.",
    ),
    31: (
        "A hostile API: CRLF or megabytes in the detail, ANSI escapes, redirects to another host.",
        "One JSON line per log event; the key goes nowhere else.",
    ),
    32: (
        "A thousand messages, a fifth of which fail at random, while workers are killed at random.",
        "Terminated + dead-lettered = sent. None lost, none in both places.",
    ),
    33: (
        "A message is requeued more often than Lambda's recursive-loop detection allows.",
        "The template allows it and an alarm watches it. The failure record can be redriven.",
    ),
    34: (
        "A session gets the protect tag after the sweep enqueued it.",
        "It is spared. A request without a condition still ends it.",
    ),
    35: ("Tags and users that differ in spaces, invisible characters, composition or case.", "They protect."),
    36: (
        "A condition in the future, before 2024, or that is no date.",
        "A dead letter `invalid_message`, and no call.",
    ),
    37: ("The read shows another session.", "Nothing is ended; kept."),
    38: (
        "Two requests for one session with different conditions, both rejected.",
        "The dead letter asks for the wider one.",
    ),
    39: ("An idle parent with a busy or protected child, and the reverse.", "Not chosen."),
    40: ("A session that the API rejects at every sweep.", "One dead letter, then reported as rejected before."),
    41: (
        "No key, a malformed or refused key, a lasting 429, no time left.",
        "Each has a metric that raises an alarm within the hour.",
    ),
    42: (
        "The customer managed key is switched off while messages wait.",
        "They are still processed, or the change is refused.",
    ),
    43: ("An SNS topic, or a rule of another account, as producer.", "A parameter admits it."),
    44: (
        "Attributes of producers or earlier dead letters on a message that SQS moved.",
        "The operator sees `received_too_often` and the ids of the body.",
    ),
    45: (
        "A success record; a new key beside Records; an asynchronous event shaped like a batch.",
        "Refused; read as a batch; no id is lost.",
    ),
    46: ("A direct invocation with an id that is not plain text.", "The answer is plain ASCII."),
    47: ("Ten answers at the size limit, with the smallest memory allowed.", "Memory is bounded."),
    48: ("A message of 80,000 ids.", "Each id is settled and reported once."),
    49: ("401 with a v3 key, because of the enterprise's IP access list.", "The log says so; messages are kept."),
    50: (
        "Archived sessions, and those with the status `error`.",
        "Never chosen. A rejection of such a session is looked into once.",
    ),
}

_INTRODUCTION = """# Faults

What can go wrong, what must happen then, and the tests that show it. *Kept* means that the message is still in the work
queue and becomes visible again. `unit` tests run in memory (moto is AWS), `contract` tests over sockets, `template`
tests read the rendered template, `integration` tests run the built artefact in the stack on this machine. No test here
has run against AWS or the vendor's API. `make faults` generates this page from the markers on the tests.
"""


def covered() -> Iterator[tuple[int, str, str]]:
    """Row, file and function of each test with the marker."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                for row in _rows(node):
                    yield row, str(path.relative_to(TESTS)), node.name


def _rows(function: ast.FunctionDef) -> set[int]:
    nodes = (node for decorator in function.decorator_list for node in ast.walk(decorator))
    marks = (one for one in nodes if isinstance(one, ast.Call) and ast.unparse(one.func) == "pytest.mark.fault")
    return {ast.literal_eval(argument) for mark in marks for argument in mark.args}


def page() -> str:
    """The page as it should be."""
    tests: dict[int, dict[str, list[str]]] = {row: {} for row in FAULTS}
    for row, path, name in covered():
        tests[row].setdefault(path, []).append(f"`{name}`")
    lines = [_INTRODUCTION]
    for row, (fault, promise) in FAULTS.items():
        lines.append(f"{row}. **{fault}** {promise}")
        lines += [f"    - [{path}](../tests/{path}): {', '.join(names)}" for path, names in tests[row].items()]
        lines += [] if tests[row] else ["    - no test yet"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
