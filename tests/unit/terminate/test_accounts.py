"""Property tests: for any input, any answers of the API and SQS, each id is accounted for and no key is shown."""

import json
import re
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devin.http import Reply, TransportError
from terminate.apply import RedeliveryError
from terminate.messages import Item, Message, Request, parse_body, parse_event, parse_record
from terminate.outcomes import Disposition, Outcome, Result
from tests.in_memory import ORG_ID, Function, MemorySqs, ScriptedTransport, Write, batch

PATH = re.compile(rf"(?:/v1|/v3/organizations/{ORG_ID})/sessions(?:/(devin-[A-Za-z0-9_-]{{1,122}})(?:/archive)?)?")
KEYS = ("apk_user_secret-0123456789/a", "cog_secret-0123456789+b")
NOW = datetime.now(UTC)

# Few sessions, so that messages have some in common.
ids = st.sampled_from([f"devin-{number}" for number in range(4)] + ["devin-/../x", "", "devin-\ud800"])
conditions = st.sampled_from([None, "2026-01-31T18:00:00Z", "2025-01-31T18:00:00+01:00", "soon", NOW.isoformat()])
payloads = st.builds(
    lambda some, since, action: {
        **({"session_id": some[0]} if len(some) == 1 else {"session_ids": some}),
        **({"unless_updated_since": since} if since else {}),
        **({"action": action} if action else {}),
    },
    st.lists(ids, min_size=1, max_size=4),
    conditions,
    st.sampled_from([None, None, "archive", "terminate"]),
)
events = st.recursive(
    payloads,
    lambda inner: st.one_of(
        st.builds(lambda one: {"detail-type": "any", "source": "s", "detail": one}, inner),
        st.builds(lambda one: {"Type": "Notification", "Message": json.dumps(one)}, inner),
        st.builds(lambda one: {"requestPayload": one, "requestContext": {"approximateInvokeCount": 3}}, inner),
    ),
    max_leaves=2,
)
records = st.fixed_dictionaries(
    {
        "body": st.one_of(events.map(json.dumps), ids, st.text(max_size=20)),
        "receives": st.sampled_from([1, 1, 2, 4, 5]),
    },
    optional={"attempts": st.sampled_from(["1", "7", "x"])},
)


def session(session_id: str, status: str, updated_at: str, tags: list[str]) -> bytes:
    return json.dumps({"session_id": session_id, "status": status, "updated_at": updated_at, "tags": tags}).encode()


sessions = st.builds(
    session,
    st.sampled_from(["devin-0", "devin-1", "2"]),
    st.sampled_from(["running", "exit", "finished", ""]),
    st.sampled_from(["2024-06-01T00:00:00Z", "2026-06-01T00:00:00Z", "yesterday"]),
    st.sampled_from([[], ["keep"], ["Keep\u200b "]]),
)
bodies = st.one_of(
    sessions,
    st.just(b""),
    st.binary(max_size=10),
    st.sampled_from([b'{"detail": "Session terminated"}', b"<h1>maintenance</h1>"]),
    st.sampled_from(KEYS).map(lambda key: json.dumps({"detail": f"no {key} \r\n\x1b[0m"}).encode()),
)
statuses = st.sampled_from([200, 200, 200, 202, 302, 400, 401, 403, 404, 409, 410, 422, 425, 429, 500, 503])
replies = st.one_of(
    st.builds(
        Reply,
        statuses,
        st.sampled_from([{}, {"Retry-After": "3"}, {"Retry-After": "soon"}]),
        bodies,
        st.booleans(),
    ),
    st.just(TransportError("connection refused")),
    st.just(RuntimeError("a bug")),
)
errors = st.lists(st.sampled_from([None, None, "AccessDenied", "RequestThrottled"]), max_size=4)


class World:
    """One invocation, with answers and errors picked by what they are about, so that their order does not matter."""

    def __init__(self, answers: list[Any], refusals: list[str | None], key: str, **options: Any) -> None:
        def answer(method: str, path: str) -> Reply:
            chosen = pick(answers, method, path)
            if isinstance(chosen, Exception):
                raise chosen
            assert isinstance(chosen, Reply)
            return chosen

        self.transport = ScriptedTransport(answer)
        sqs = MemorySqs(lambda queue, text: pick(refusals, queue, text))
        self.function = Function(self.transport, key, sqs=sqs, **options)

    def check(self, messages: list[Message], redelivered: list[bool]) -> None:
        """`redelivered`: for each message, whether it is delivered again."""
        wanted = {item.session_id for message in messages for item in message.items if isinstance(item, Request)}
        called = {found[1] for _, path in self.transport.calls if (found := PATH.fullmatch(path))}
        assert all(PATH.fullmatch(path) for _, path in self.transport.calls), "called another path"
        assert called - {None} <= wanted, "called for what was not asked for"
        everything = {subject(item) for message in messages for item in message.items}
        for session_id in (one for one in wanted if str((one, None)) not in everything):
            methods = [method for method, path in self.transport.calls if f"/{session_id}" in path]
            assert methods[:1] in ([], ["GET"]), "ended without a look"
        self._check_writes(everything)
        dead, back = (asked(self.function.written(queue)) for queue in ("dead", "work"))
        lines = iter(self.function.lines())
        for message, again in zip(messages, redelivered, strict=True):
            for item in message.items:
                line = next(lines)
                match Result(Outcome(line["outcome"])).disposition:
                    case Disposition.DONE:
                        assert isinstance(item, Request)
                    case Disposition.DEAD_LETTER:
                        covered = again or subject(item) in dead or is_covered(item, dead)
                        assert covered, "a rejection without a dead letter"
                    case Disposition.RETRY:
                        assert again or subject(item) in back, "nothing tries it again"
        assert next(lines, None) is None, "more lines than ids"
        shown = self.function.log.getvalue() + "".join(self.function.bus.details)
        shown += "".join(value for write in self.function.sqs.writes for value in write.attributes.values())
        for key in KEYS:
            assert key not in shown, "a key got out"

    def _check_writes(self, everything: set[str]) -> None:
        assert asked(self.function.sqs.writes) <= everything, "asks for more than was asked for"
        for write in self.function.written("work"):
            assert write.delay is not None
            assert 1 <= write.delay <= 900
            assert int(write.attributes["attempts"]) >= 1
        for write in self.function.written("dead"):
            assert re.fullmatch(r"invalid_message|rejected_[34]\d\d", write.attributes["reason"])
            assert all(value.isprintable() for value in write.attributes.values())
        assert all(1 <= seconds <= 900 for seconds in self.function.sqs.timeouts.values())


def subject(item: Item) -> str:
    return str((item.session_id, item.unless_updated_since) if isinstance(item, Request) else item.raw)


def asked(writes: list[Write]) -> set[str]:
    return {subject(item) for write in writes for item in parse_body(write.body)}


def is_covered(item: object, dead: set[str]) -> bool:
    """Whether a dead letter asks for more than this request: one without its condition, or with a later one."""
    return isinstance(item, Request) and any(item.session_id in one for one in dead)


def pick(among: list[Any], *what: str) -> Any:
    """One of them, always the same for the same things."""
    return among[zlib.crc32(repr(what).encode("utf-8", "replace")) % len(among)] if among else None


@pytest.mark.fault(19, 32)
@given(
    st.lists(records, min_size=1, max_size=4),
    st.lists(replies, min_size=1, max_size=5),
    errors,
    st.sampled_from(KEYS),
    st.sampled_from([None, None, None, "stopped by the switch"]),
)
def test_every_id_of_a_batch_is_accounted_for(
    given_records: list[dict[str, Any]], answers: list[Any], refusals: list[str | None], key: str, stop: str | None
) -> None:
    world = World(answers, refusals, key, stop=stop)
    event = batch(*given_records)

    answer = world.function.invoke(event)

    assert answer.keys() == {"batchItemFailures"}
    failed = [entry["itemIdentifier"] for entry in answer["batchItemFailures"]]
    assert len(set(failed)) == len(failed)
    assert set(failed) <= {record["messageId"] for record in event["Records"]}
    messages = [parse_record(record) for record in event["Records"]]
    world.check(messages, [record["messageId"] in failed for record in event["Records"]])


@given(events, st.lists(replies, min_size=1, max_size=5), errors, st.sampled_from(KEYS))
def test_every_id_of_an_event_is_accounted_for(
    event: object, answers: list[Any], refusals: list[str | None], key: str
) -> None:
    world = World(answers, refusals, key)
    try:
        answer = world.function.invoke(event)
    except RedeliveryError:
        # Lambda's retry and its failure destination have the event.
        answer = None
    world.check([parse_event(event)], [answer is None])
    if answer is not None:
        assert json.dumps(answer).isascii()
        assert set(answer) <= set(Outcome)
