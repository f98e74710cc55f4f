"""The whole handler: hostile messages, an API and queues that answer anything, and the books kept on every id."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any, cast
from unittest import mock

from aws_lambda_powertools.utilities.typing import LambdaContext
from terminate.memory import Memory
from terminate.pace import Pace

from devin.api_key import ApiKeyError
from devin.client import DevinClient
from devin.http import Reply, TransportError
from eventbridge import Bus
from queues import Queues
from redaction import Redactor
from runtime import Runtime
from terminate import handler
from terminate.messages import Item, Message, Request, parse_body, parse_event, parse_record
from terminate.outcomes import Outcome, Then, outcome_of, then
from tests.fuzz import answers, sources
from tests.fuzz.checking import Target
from tests.fuzz.doubles import WAYS, AtOnce, Call, ScriptedBus, ScriptedSqs, ScriptedTransport, Write, disguised

KEYS = ("apk_fuzz-0123456789/a", "cog_fuzz-0123456789+b", "apk_fuzz-9876543210~c")
_ORG = "org-1"
_PATH = re.compile(rf"(?:/v1|/v3/organizations/{_ORG})/sessions/(devin-[A-Za-z0-9_-]{{1,122}})", re.ASCII)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SQS_ERRORS = ("AccessDenied", "RequestThrottled", "InvalidParameterValue", "AWS.SimpleQueueService.NonExistentQueue")
_REASON = re.compile(r"invalid_message|rejected_[34]\d\d")


# --- what is tried ---


def _answer(rng: Random) -> dict[str, Any] | str:
    kind = rng.randrange(16)
    if kind == 0:
        return rng.choice(("connection refused", "no whole response in time", "a bug"))
    if kind < 6:
        return {"status": 200, "body": answers.answer_body(rng, answers.session(rng))}
    made: dict[str, Any] = {"status": answers.status(rng), "body": answers.answer_body(rng, answers.explanation(rng))}
    if kind < 9:
        made["retry_after"] = answers.retry_after(rng)
    if kind == 9:
        made["leak"] = rng.randrange(WAYS)
    if kind == 10:
        made["repeated"] = True
    return made


def _errors(rng: Random) -> list[str | None]:
    return [rng.choice(_SQS_ERRORS) if not rng.randrange(3) else None for _ in range(rng.choice((1, 2, 5)))]


def _secret(rng: Random) -> str | None:
    kind = rng.randrange(8)
    if kind == 0:
        return None
    return sources.text(rng) if kind == 1 else rng.choice((*KEYS, json.dumps({"api_key": KEYS[0]})))


def _surroundings(rng: Random) -> dict[str, Any]:
    made: dict[str, Any] = {"answers": [_answer(rng) for _ in range(rng.choice((1, 2, 4, 8)))]}
    rare: dict[str, Any] = {
        "secrets": [_secret(rng), _secret(rng)],
        "work": _errors(rng),
        "dead": _errors(rng),
        "hide": _errors(rng),
        "bus": rng.choice((None, "partly", "InternalFailure")),
        "milliseconds": rng.choice((0, 400, 900, 1600, 2600, 3600, 10_000)),
        "each": rng.choice((0, 1, 100, 500)),
        "stop": "stopped by the switch",
        "dry_run": True,
        "archive": True,
    }
    for name in rng.sample(list(rare), rng.choice((0, 1, 1, 2, 3))):
        made[name] = rare[name]
    return made


def _few_ids(rng: Random) -> str:
    """A body about one of a few sessions, so that messages of a batch have some in common."""
    ids = [f"devin-{rng.randrange(4)}" for _ in range(rng.randint(1, 3))]
    asked: dict[str, Any] = {"session_id": ids[0]} if len(ids) == 1 else {"session_ids": ids}
    if rng.randrange(2):
        asked["unless_updated_since"] = rng.choice(sources.INSTANTS[:3])
    return json.dumps(sources.enveloped(rng, asked))


def _record(rng: Random) -> dict[str, Any]:
    made: dict[str, Any] = {"body": _few_ids(rng) if rng.randrange(2) else sources.body(rng)}
    if not rng.randrange(3):
        made["receives"] = rng.choice((2, 3, 4, 5, 9))
    if not rng.randrange(5):
        made["attempts"] = rng.choice(("1", "7", "x"))
    return made


def batch(rng: Random) -> dict[str, Any]:
    """A batch of SQS records, and what becomes of all that the function then does."""
    return {"records": [_record(rng) for _ in range(rng.choice((1, 1, 2, 3, 5, 10)))], **_surroundings(rng)}


def direct(rng: Random) -> dict[str, Any]:
    """An event, a schedule or a caller, likewise."""
    chosen = json.loads(_few_ids(rng)) if rng.randrange(3) else sources.event(rng)
    return {"event": chosen, **_surroundings(rng)}


# --- the world it is tried in ---


@dataclass
class _Context:
    """Lambda's context: each look at the clock costs some time."""

    left: int
    each: int
    aws_request_id: str = "request-1"
    function_name: str = "terminate"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:eu-west-1:123456789012:function:terminate"

    def get_remaining_time_in_millis(self) -> int:
        self.left -= self.each
        return self.left


def _pick(among: list[Any], *what: object) -> Any:
    """One of them, always the same for the same things, in whichever order threads ask."""
    return among[zlib.crc32(repr(what).encode()) % len(among)] if among else None


@cache
def _threads() -> Executor:
    return ThreadPoolExecutor(4)


class World:
    """One case, played."""

    def __init__(self, case: dict[str, Any], *, threads: bool) -> None:
        self.case = case
        self.transport = ScriptedTransport(self._reply)
        self.sqs = ScriptedSqs(self._sqs_error)
        self.bus = ScriptedBus(case.get("bus"))
        self.context = _Context(case.get("milliseconds", 300_000), case.get("each", 0))
        self.log = io.StringIO()
        self.fetched: list[bool] = []
        self.dry_run = bool(case.get("dry_run"))
        self.stop: str | None = case.get("stop") or None
        self.runtime = Runtime(
            client=DevinClient(self.transport, org_id=_ORG, archive=bool(case.get("archive"))),
            queues=Queues(cast(Any, self.sqs), work_queue_url="work", dead_letter_queue_url="dead"),
            executor=_threads() if threads else AtOnce(),
            fetch_secret=self._fetch,
            reason_to_stop=lambda: self.stop,
            bus=Bus(lambda: cast(Any, self.bus)),
            dynamodb=_no_table,
        )

    def _reply(self, method: str, path: str, number: int, key: str) -> Reply:
        told = _pick(self.case.get("answers", []), method, path, number)
        if isinstance(told, str):
            raise RuntimeError(told) if told == "a bug" else TransportError(told)
        told = told or {}
        body = told.get("body", b"")
        if "leak" in told:
            body += disguised(key, told["leak"]).encode()
        headers = {} if told.get("retry_after") is None else {"Retry-After": told["retry_after"]}
        return Reply(told.get("status", 200), headers, body, bool(told.get("repeated")))

    def _sqs_error(self, queue: str, text: str) -> str | None:
        error: str | None = _pick(self.case.get(queue, []), text)
        return error

    def _fetch(self, anew: bool) -> str | bytes:
        self.fetched.append(anew)
        held = [*self.case.get("secrets", []), KEYS[0], KEYS[0]][1 if anew else 0]
        if held is None:
            raise ApiKeyError("the secret cannot be read")
        return cast(str, held)

    def invoke(self, event: Any) -> Any:
        environment = {
            "API_KEY_SECRET_ARN": "arn",
            "WORK_QUEUE_URL": "work",
            "DEAD_LETTER_QUEUE_URL": "dead",
            "DEVIN_ORG_ID": _ORG,
            "DRY_RUN": str(self.dry_run).lower(),
            "PUBLISH_OUTCOMES": "true" if "bus" in self.case else "false",
        }
        with (
            mock.patch.object(handler, "runtime_for", return_value=self.runtime),
            mock.patch.object(handler, "redact", Redactor()),
            # Answers are random here, and nobody waits for a 429 of long ago.
            mock.patch.object(handler, "pace", Pace()),
            mock.patch.dict(os.environ, environment, clear=True),
            _captured(self.log),
        ):
            return handler.lambda_handler(event, cast(LambdaContext, self.context))


def _no_table() -> Any:
    raise AssertionError("terminate asked for a table")


@contextmanager
def _captured(log: io.StringIO) -> Iterator[None]:
    """Log lines and metrics go here."""
    streams = [one for one in handler.logger.handlers if isinstance(one, logging.StreamHandler)]
    before = [one.setStream(log) for one in streams]
    try:
        with redirect_stdout(log):
            yield
    finally:
        for one, stream in zip(streams, before, strict=True):
            if stream is not None:
                one.setStream(stream)


# --- the books ---


Asked = tuple[str, datetime | None]


def _asked(items: tuple[Item, ...]) -> list[Asked]:
    return [(one.session_id, one.unless_updated_since) for one in items if isinstance(one, Request)]


class Books:
    """What was asked for, what was done, and whether the two agree."""

    def __init__(self, world: World, messages: list[Message]) -> None:
        self.world = world
        self.messages = messages
        self.wanted = {asked for message in messages for asked in _asked(message.reading.items)}
        self.conditions: dict[str, set[datetime | None]] = {}
        for session_id, since in self.wanted:
            self.conditions.setdefault(session_id, set()).add(since)
        self.calls: dict[str, list[Call]] = {}
        for call in world.transport.calls:
            found = _PATH.fullmatch(call.path)
            assert found, f"called {call.path!r}"
            self.calls.setdefault(found[1], []).append(call)
        self.letters = [write for write in world.sqs.writes if write.queue == "dead"]
        self.returned = [write for write in world.sqs.writes if write.queue == "work"]
        assert len(self.letters) + len(self.returned) == len(world.sqs.writes)
        # Threads finish in any order, and one that has begun is not called back.
        self.in_order = isinstance(world.runtime.executor, AtOnce)

    # What the API was asked.

    def check_calls(self) -> None:
        assert self.calls.keys() <= self.conditions.keys(), "called for a session that nobody asked for"
        for session_id, calls in self.calls.items():
            deleted = [call for call in calls if call.method == "DELETE"]
            assert {call.method for call in calls} <= {"GET", "DELETE"}
            assert len(deleted) <= 1 or (len(deleted) == 2 and self._was_refused(deleted[0])), "ended twice"
            if deleted:
                assert not self.world.dry_run, "ended in a dry run"
                assert None in self.conditions[session_id] or self._resting(session_id), "ended without a look"
        for call in self.world.transport.calls:
            assert self.world.stop is None, "called while stopped"
            assert call.key in {*KEYS, *self.world.case.get("secrets", [])}, "called with a key that is none"
            assert call.path.startswith("/v3/") == call.key.startswith("cog_"), "called the other version"
            assert 1 <= call.seconds <= 10
            archived = call.method == "DELETE" and call.key.startswith("cog_") and self.world.case.get("archive")
            assert call.params == ({"archive": "true"} if archived else None)
        if self.in_order:
            statuses = [call.reply.status if call.reply else None for call in self.world.transport.calls]
            assert 429 not in statuses[:-1], "called on after a 429"
            refused = set()
            for call in self.world.transport.calls:
                assert call.key not in refused, "called on with a refused key"
                refused |= {call.key} if call.reply is not None and call.reply.status == 401 else set()
        assert self.world.fetched.count(True) <= 1

    def _was_refused(self, call: Call) -> bool:
        return call.reply is not None and call.reply.status in {401, 403}

    def _looks(self, session_id: str) -> list[tuple[datetime | None, bool]]:
        """What the successful reads of a session said: when it was updated, and whether it has exited."""
        told = []
        for call in self.calls.get(session_id, []):
            if call.method == "GET" and call.reply is not None and 200 <= call.reply.status < 300:
                version = "v3" if call.key.startswith("cog_") else "v1"
                fields = answers.parsed(call.reply.body)
                if isinstance(fields, dict):
                    told.append((_moment(fields.get("updated_at")), _exited(fields, version)))
        return told

    def _resting(self, session_id: str) -> bool:
        """Whether a read showed that somebody's condition held."""
        conditions = [since for since in self.conditions[session_id] if since is not None]
        return any(at is not None and at <= max(conditions) for at, _ in self._looks(session_id))

    def _deleted(self, session_id: str) -> list[int]:
        calls = self.calls.get(session_id, [])
        return [call.reply.status for call in calls if call.method == "DELETE" and call.reply is not None]

    def _ended(self, session_id: str) -> bool:
        return any(200 <= status < 300 for status in self._deleted(session_id))

    def done(self, asked: Asked) -> bool:
        """Whether there is evidence that nothing is left to do for this."""
        session_id, since = asked
        deleted = self._deleted(session_id)
        looks = self._looks(session_id)
        ended = self._ended(session_id)
        exited = any(outcome_of(status) is Outcome.REJECTED for status in deleted) and any(over for _, over in looks)
        spared = since is not None and any(at is not None and at > since for at, _ in looks)
        spoken_for = self.world.dry_run and self.world.stop is None
        would_end = spoken_for and (None in self.conditions[session_id] or self._resting(session_id))
        return ended or exited or spared or would_end

    # What was written.

    def check_writes(self) -> None:
        for write in self.world.sqs.writes:
            items = parse_body(write.body).items
            assert set(_asked(items)) <= self.wanted, "a message asks for more than was asked for"
            assert len(write.attributes) <= 10
            for name, value in write.attributes.items():
                assert value, f"{name} is empty"
                assert not _CONTROLS.search(value), f"{name} has a control character"
        for write in self.letters:
            assert write.delay is None
            assert _REASON.fullmatch(write.attributes["reason"])
            assert len(parse_body(write.body).items) == 1, "a dead letter of several ids"
            named = write.attributes.get("session_id")
            assert (named is None) == (write.attributes["reason"] == "invalid_message")
            assert [session_id for session_id, _ in _asked(parse_body(write.body).items)] == ([named] if named else [])
        for write in self.returned:
            assert write.delay is not None
            assert 1 <= write.delay <= 900
            assert write.attributes["source"] in {"sqs", "eventbridge", "direct"}
            assert int(write.attributes["attempts"]) >= 1
        named_letters = Counter(
            write.attributes["session_id"] for write in self.letters if write.taken and "session_id" in write.attributes
        )
        assert all(number == 1 for number in named_letters.values()), "dead-lettered twice"

    def _written(self, writes: list[Write]) -> tuple[set[str], int]:
        """Ids in what was written and taken, and how many things in it are no ids."""
        items = [item for write in writes if write.taken for item in parse_body(write.body).items]
        ids = {item.session_id for item in items if isinstance(item, Request)}
        return ids, sum(not isinstance(item, Request) for item in items)

    # Whether all of it adds up.

    def check_accounts(self, kept: list[bool]) -> None:
        dead, invalid = self._written(self.letters)
        back, returned = self._written(self.returned)
        failed = any(not write.taken for write in self.world.sqs.writes)
        unusable = 0
        for message, is_kept in zip(self.messages, kept, strict=True):
            ids = _asked(message.reading.items)
            unusable += 0 if is_kept else len(message.reading.items) - len(ids)
            for asked in ids:
                if not is_kept:
                    assert self.done(asked) or asked[0] in dead | back, f"{asked[0]} is lost"
        assert invalid + returned >= unusable, "something unusable is lost"
        if not failed and all(kept):
            assert not dead, "kept and dead-lettered"
            assert not back, "kept and sent again"
        if not failed and self.world.context.left > 10_000:
            assert invalid == unusable
            assert not dead & {session_id for session_id in dead if self._ended(session_id)}, "ended, and dead"

    def check_log(self) -> None:
        lines = self.world.log.getvalue().splitlines()
        told = [json.loads(line) for line in lines]
        said = [line for line in told if "outcome" in line]
        everything = self.world.log.getvalue() + "".join(self.world.bus.details)
        everything += "".join(value for write in self.world.sqs.writes for value in write.attributes.values())
        for key in KEYS:
            assert key.lower() not in everything.lower(), "a key came through"
            assert json.dumps(key)[1:-1] not in everything
        assert len(said) == sum(len(message.reading.items) for message in self.messages), "not one line for each id"
        for line in said:
            outcome = Outcome(line["outcome"])
            assert (then(outcome) is Then.TRY_AGAIN) or "retry_in_seconds" not in line
            assert line["level"] == ("INFO" if then(outcome) is Then.DONE else "WARNING")
        counted = sum(sum(line.get(outcome.value, [])) for line in told if "_aws" in line for outcome in Outcome)
        named = {(line["outcome"], line["session_id"]) for line in said if "session_id" in line}
        assert counted == len(named) + sum("session_id" not in line for line in said), "counted otherwise than logged"


def _moment(value: Any) -> datetime | None:
    try:
        moment = answers.told(value).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return moment if moment.year >= 2024 and not isinstance(value, bool) else None


def _exited(fields: dict[str, Any], version: str) -> bool:
    enum = fields.get("status_enum") if version == "v1" else None
    status = enum if isinstance(enum, str) and enum else fields.get("status")
    return isinstance(status, str) and status.lower() in answers.EXITED[version]


def sqs_event(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Lambda's event for records of SQS, the n-th with the message id `m-n`."""
    return {
        "Records": [
            {
                "messageId": f"m-{number}",
                "receiptHandle": f"r-{number}",
                "body": record.get("body", ""),
                "attributes": {"ApproximateReceiveCount": str(record.get("receives", 1))},
                "messageAttributes": {"attempts": {"stringValue": record["attempts"]}} if "attempts" in record else {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:work",
                "awsRegion": "eu-west-1",
            }
            for number, record in enumerate(records)
        ]
    }


def check_batch(case: dict[str, Any], *, threads: bool = False) -> None:
    """A batch is answered, and every id in it accounted for."""
    world = World(case, threads=threads)
    event = sqs_event(case.get("records", []))
    answer = world.invoke(event)
    assert answer.keys() == {"batchItemFailures"}
    reported = [entry["itemIdentifier"] for entry in answer["batchItemFailures"]]
    assert all(entry.keys() == {"itemIdentifier"} for entry in answer["batchItemFailures"])
    delivered = [record["messageId"] for record in event["Records"]]
    assert len(set(reported)) == len(reported)
    assert set(reported) <= set(delivered), "reported what was not delivered"
    books = Books(world, [parse_record(record) for record in event["Records"]])
    books.check_calls()
    books.check_writes()
    books.check_accounts([message_id in reported for message_id in delivered])
    books.check_log()
    assert {f"r-{name.removeprefix('m-')}" for name in reported} >= world.sqs.hidden.keys(), "hid what it took"


def check_batch_in_threads(case: dict[str, Any]) -> None:
    """The same with calls side by side."""
    check_batch(case, threads=True)


def check_direct(case: dict[str, Any]) -> None:
    """An event is accounted for, or raised about; Lambda's retry repeats nothing that is done."""
    world = World(case, threads=False)
    event = case.get("event")
    with mock.patch.object(handler, "memory", Memory()):
        answer, kept = _invoked(world, event)
        books = Books(world, [parse_event(event)])
        books.check_calls()
        books.check_writes()
        books.check_accounts([kept])
        books.check_log()
        assert not world.sqs.hidden
        if not kept:
            given = [one for ids in answer.values() for one in ids]
            assert set(answer) <= set(Outcome)
            assert {session_id for session_id, _ in books.wanted} <= set(given), "an id is missing from the answer"
            return
        settled = {session_id for session_id, since in books.wanted if books.done((session_id, since))}
        again = World({"answers": case.get("answers", [])}, threads=False)
        _invoked(again, event)
        deleted = {call.path.rsplit("/", 1)[-1] for call in again.transport.calls if call.method == "DELETE"}
        assert not settled & deleted, "a retry repeats what is done"


def _invoked(world: World, event: Any) -> tuple[dict[str, list[str]], bool]:
    try:
        return world.invoke(event), False
    except handler.RedeliveryError:
        return {}, True


TARGETS = (
    Target("batch", batch, check_batch, weight=2),
    Target("batch_threads", batch, check_batch_in_threads),
    Target("direct", direct, check_direct),
)
