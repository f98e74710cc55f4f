"""A few seconds of fuzzing, the same inputs every time; `make fuzz` tries a million."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from terminate.calls import Calls

from devin.session import Session
from redaction import Redactor
from terminate.invocation import Invocation
from terminate.outcomes import Outcome
from tests.fuzz.campaign import inputs_of, tally
from tests.fuzz.sources import BytesAsChoices
from tests.fuzz.targets import TARGETS
from tests.unit.world import World

pytestmark = pytest.mark.thorough

SEED = 1
# The whole handler takes a hundred times as long as most readers.
SHARES = {"batch": 120, "direct": 120, "redaction": 200}


def share(name: str) -> int:
    return SHARES.get(name, 200 * TARGETS[name].weight)


# In threads the order of calls is another one every time: that is left to `make fuzz`.
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "batch_threads"])
def test_nothing_is_found(name: str) -> None:
    found = tally(TARGETS[name], inputs_of(TARGETS[name], SEED, 0, share(name)))

    assert found.inputs == share(name)
    assert not found.findings, "\n".join(map(str, found.findings.values()))


# What was found once, as small as it was made. Each of them failed before it was mended.
FOUND: list[tuple[str, Any]] = [
    # A number is no id, but as the body of its dead letter it was one.
    ("event", 12121212121212121212121212121212),
    # Of a key that an API repeats half escaped, neither form was masked.
    ("redaction", {"keys": ["_YZ8Y_"], "way": 10}),
    ("redaction", {"keys": ["apk_user_a/b"], "way": 8}),
    ("redaction", {"keys": ["apk_user_!a*b+c"], "way": 4}),
    # Addresses that swallow the path, or that the HTTP client reads otherwise.
    *(
        (
            "settings",
            {"API_KEY_SECRET_ARN": "n", "WORK_QUEUE_URL": "w", "DEAD_LETTER_QUEUE_URL": "d", "DEVIN_API_URL": url},
        )
        for url in ("https://api.devin.ai?", "https://api.devin.ai#", "https://\\", "http://evil.example[::1]")
    ),
]


@pytest.mark.parametrize(("name", "given"), FOUND)
def test_what_was_found_is_mended(name: str, given: object) -> None:
    TARGETS[name].check(given)


def test_a_number_that_was_no_id_is_none_when_its_dead_letter_is_redriven(world: World) -> None:
    assert world.invoke(int("12" * 16)) == {"invalid": []}
    ((body, _),) = world.dead_letters()

    world.send(body)
    assert world.deliver() == []

    assert world.api.calls == []
    ((again, attributes),) = world.dead_letters()
    assert (again, attributes["reason"]) == (body, "invalid_message")


def _keep_going(_: Calls) -> None:
    """Ignore the stop switch and the brake."""


def _nothing(*_: object, **__: object) -> None:
    """Do nothing, and say that it went well."""


def _send_no_part(_: Invocation, *__: object) -> None:
    """Send nothing back to the work queue."""


def _resting(session_id: str, conditions: frozenset[object], _: Calls) -> tuple[dict[object, object], Session]:  # noqa: ARG001
    """Look at no session before it is ended."""
    return {}, Session()


def _gone_is_done(status: int) -> Outcome:
    return Outcome.TERMINATED if status < 300 or status in {404, 410} else Outcome.REJECTED


def _unmasked(_: Redactor, text: str) -> str:
    return text


MISTAKES: list[tuple[str, str, object]] = [
    ("body", "terminate.messages._without_repeats", dict),
    (
        "body",
        "terminate.messages._OWN_KEYS",
        {"session_id", "session_ids", "unless_updated_since", "unles_updated_since"},
    ),
    ("body", "terminate.messages.parse_timestamp", lambda _: None),
    ("body", "terminate.messages._MAX_DEPTH", 2),
    ("event", "terminate.messages._ENVELOPES", {"detail": None}),
    ("record", "terminate.messages._count", lambda _: 0),
    ("record", "terminate.messages._attribute", lambda attributes, name: str(attributes.get(name))),
    ("session_id", "devin.session_id._BARE_ID", re.compile("[0-9A-Fa-f]{2,32}")),
    ("session", "devin.session._EARLIEST", datetime(1, 1, 1, tzinfo=UTC)),
    ("page", "sweep.policy._protection", _nothing),
    ("explanation", "tests.fuzz.answers.one_line", lambda text, _: text),
    ("retry_after", "retry.MAX_DELAY_SECONDS", 100_000),
    ("secret", "devin.api_key.re.fullmatch", lambda _, text: text),
    ("redaction", "redaction.Redactor.__call__", _unmasked),
    ("settings", "settings._is_loopback", lambda _: True),
    ("policy", "sweep.policy.FLOOR", timedelta()),
    ("batch", "terminate.calls.Calls.ensure_going", _keep_going),
    ("batch", "queues.Queues.dead_letter", _nothing),
    ("batch", "terminate.invocation.Invocation._hand_back", _send_no_part),
    ("batch", "terminate.termination._spared", _resting),
    ("batch", "terminate.calls.outcome_of", _gone_is_done),
    ("batch", "redaction.Redactor.__call__", _unmasked),
    ("batch", "terminate.invocation._Once.__call__", lambda _, __, write: write()),
    ("direct", "queues.Queues.enqueue", _nothing),
    ("direct", "terminate.memory.Memory.settled", lambda *_: {}),
]


@pytest.mark.parametrize(("name", "place", "mistake"), MISTAKES, ids=[f"{name}-{place}" for name, place, _ in MISTAKES])
def test_a_mistake_would_be_found(monkeypatch: pytest.MonkeyPatch, name: str, place: str, mistake: object) -> None:
    monkeypatch.setattr(place, mistake)

    for given in inputs_of(TARGETS[name], SEED, 0, 4 * share(name)):
        try:
            TARGETS[name].check(given)
        except Exception:  # noqa: BLE001 - however it shows
            return
    pytest.fail("nothing was found")


def test_a_finding_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("terminate.messages._without_repeats", dict)

    given = '{"source": "somebody", "detail": {"session_id": "devin-abc", "session_id": "devin-abcdef"}}'

    (finding,) = tally(TARGETS["body"], [given, given]).findings.values()

    assert len(finding.smallest) < len(given) - 20
    assert f"TARGETS['body'].check({finding.smallest!r})" in str(finding)
    with pytest.raises(AssertionError):
        TARGETS["body"].check(finding.smallest)


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_follow_from_the_seed(name: str) -> None:
    few = [repr(list(inputs_of(TARGETS[name], seed, 0, 20))) for seed in (1, 1, 2)]
    assert few[0] == few[1] != few[2]


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(range(256)) * 8])
def test_any_bytes_are_choices(data: bytes) -> None:
    for target in TARGETS.values():
        assert repr(target.generate(BytesAsChoices(data))) == repr(target.generate(BytesAsChoices(data)))
