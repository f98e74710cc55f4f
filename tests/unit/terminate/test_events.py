"""EventBridge events, schedules and direct invocations: no queue holds them, so what is left of them goes to one."""

import json
import time
from typing import Any

import pytest

from devin.http import Reply
from terminate.apply import RedeliveryError
from tests.in_memory import Function, MemorySqs, ScriptedTransport, batch
from tests.unit.terminate.test_messages import EVENT, record
from tests.unit.world import KEY, NOT_VALID, Log, World, answer, attributes_of, session


def event(detail: object) -> dict[str, object]:
    return EVENT | {"detail": detail}


@pytest.mark.parametrize(
    ("payload", "source"),
    [
        ({"session_id": "devin-1"}, "direct"),
        ({"session_ids": ["devin-1"]}, "direct"),
        ("devin-1", "direct"),
        (event({"session_id": "devin-1"}), "eventbridge"),
        (event('{"session_ids": ["devin-1"]}'), "eventbridge"),
    ],
)
def test_the_answer_lists_ids_by_outcome(world: World, log: Log, payload: object, source: str) -> None:
    assert world.invoke(payload) == {"terminated": ["devin-1"]}
    (line,) = log()
    assert (line["source"], line["outcome"]) == (source, "terminated")
    assert "receive_count" not in line


@pytest.mark.fault(20)
def test_each_outcome_is_carried_out(world: World) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.api.on("GET", "devin-422", session("working", session_id="devin-422"))
    world.api.on("DELETE", "devin-409", answer(409))
    world.api.on("GET", "devin-409", session("expired", session_id="devin-409"))
    world.api.on("DELETE", "devin-403", answer(403))
    world.api.on("DELETE", "devin-503", answer(503))
    ids = ["devin-1", "devin-422", "devin-409", "devin-403", "devin-503", "../x", 7]

    assert world.invoke(event({"session_ids": ids})) == {
        "terminated": ["devin-1"],
        "rejected": ["devin-422"],
        "already_exited": ["devin-409"],
        "forbidden": ["devin-403"],
        "retry": ["devin-503"],
        "invalid": ["../x"],
    }

    letters = world.dead_letters()
    assert [json.loads(body)["detail"]["session_ids"] for body, _ in letters] == [["../x"], [7], ["devin-422"]]
    assert {attributes["source"] for _, attributes in letters} == {"eventbridge"}
    assert world.queued() == (0, 0, 2)


@pytest.mark.fault(20)
def test_an_id_that_has_to_wait_is_requeued_and_settled_from_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRY_BASE_SECONDS", "1")
    world.api.on("DELETE", "devin-1", answer(503), NOT_VALID)
    world.api.on("GET", "devin-1", session("working"))
    assert world.invoke(event({"session_id": "devin-1"})) == {"retry": ["devin-1"]}
    (requeued,) = world.requeued()
    assert json.loads(requeued["MessageBody"]) == event({"session_id": "devin-1"})
    assert attributes_of(requeued) == {"attempts": "1", "source": "eventbridge"}
    time.sleep(requeued["DelaySeconds"] + 0.1)

    assert world.deliver() == []

    ((body, attributes),) = world.dead_letters()
    assert json.loads(body) == event({"session_id": "devin-1"})
    wanted = {"source": "eventbridge", "attempts": "2", "session_status": "working"}
    assert attributes.items() >= wanted.items()


@pytest.mark.parametrize(
    "payload",
    [{}, [], None, 1, {"session": "devin-1"}, event({}), event(None), event("{}"),
     {"Records": [], "session_id": "devin-1"},
     {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "devin-1"}}]}],
)  # fmt: skip
def test_an_unusable_payload_is_a_dead_letter(world: World, payload: object) -> None:
    assert world.invoke(payload) == {"invalid": []}
    ((body, attributes),) = world.dead_letters()
    assert json.loads(body) == payload
    assert attributes["reason"] == "invalid_message"
    assert world.api.calls == []


@pytest.mark.fault(46)
@pytest.mark.parametrize("raw", ["d\u00e9vin-1", "devin-\ud83d", "\u2028", "devin-1\x00", "\U0001f600", "\x7f\u202e"])
def test_the_answer_is_plain_ascii(world: World, raw: str) -> None:
    answered = world.invoke({"session_ids": [raw, "devin-2"]})
    assert answered["terminated"] == ["devin-2"]
    (shown,) = answered["invalid"]
    assert shown.isascii()
    json.dumps(answered, ensure_ascii=False).encode("utf-8")
    assert len(world.dead_letters()) == 1


@pytest.mark.fault(21)
def test_if_the_work_queue_cannot_be_written_the_invocation_fails_and_lambdas_retry_repeats_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.api.on("DELETE", "devin-503", answer(503))
    payload = event({"session_ids": ["devin-1", "devin-422", "devin-503"]})
    with monkeypatch.context() as outage:
        outage.setenv("WORK_QUEUE_URL", world.work_queue + "-gone")
        with pytest.raises(RedeliveryError):
            world.invoke(payload)
    assert world.dead_letters() == []

    answered = world.invoke(payload)

    assert answered == {"terminated": ["devin-1"], "rejected": ["devin-422"], "retry": ["devin-503"]}
    assert world.queued() == (0, 0, 1)
    assert len(world.dead_letters()) == 1


def test_without_a_dead_letter_queue_a_rejected_id_waits_in_the_work_queue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", world.dead_letter_queue + "-gone")
    assert world.invoke({"session_id": "devin-422"}) == {"retry": ["devin-422"]}
    assert world.queued() == (0, 0, 1)
    monkeypatch.setenv("WORK_QUEUE_URL", world.work_queue + "-gone")
    with pytest.raises(RedeliveryError):
        world.invoke({"session_id": "devin-422"})


@pytest.mark.fault(45)
def test_a_batch_that_no_queue_holds_is_sent_to_the_queue(world: World) -> None:
    """An asynchronous invocation that is shaped like one: its answer is not read."""
    world.api.on("DELETE", "devin-1", answer(503))
    world.api.on("DELETE", "devin-2", NOT_VALID)
    records = [record("devin-1"), record("devin-2", messageId="m2"), record("devin-3", messageId="m3")]
    assert world.invoke({"Records": records}) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert [body for body, _ in world.dead_letters()] == ["devin-2"]
    assert [one["MessageBody"] for one in world.requeued()] == ["devin-1"]
    world.aws.fail("sqs.SendMessage")
    with pytest.raises(RedeliveryError, match="sending to the work queue"):
        world.invoke({"Records": [record("devin-1")]})


# Killed functions: tests/model tries every point at which one may end ----------------------------------------------


class KilledError(BaseException):
    """The function ended at once; like SIGKILL, nothing catches it."""


@pytest.mark.fault(14)
@pytest.mark.parametrize("payload", [{"session_ids": ["devin-1", "devin-2"]}, batch({"body": "devin-1"})])
def test_a_session_that_ended_before_the_function_was_killed_is_no_dead_letter(payload: dict[str, Any]) -> None:
    ended: set[str] = set()

    def api(method: str, path: str) -> Reply:
        session_id = path.rpartition("/")[2]
        if method == "GET":
            return Reply(200, {}, json.dumps({"session_id": session_id, "status_enum": "expired"}).encode())
        if session_id in ended:
            return Reply(422, {}, b"")
        ended.add(session_id)
        if len(ended) == 1:
            raise KilledError
        return Reply(200, {}, b"")

    function = Function(ScriptedTransport(api), KEY)
    with pytest.raises(KilledError):
        function.invoke(payload)
    for one in payload.get("Records", ()):
        one["attributes"]["ApproximateReceiveCount"] = "2"
    function.invoke(payload)
    assert function.lines()[0]["outcome"] == "already_exited"
    assert function.sqs.writes == []


@pytest.mark.fault(14)
def test_a_kill_between_a_dead_letter_and_its_acknowledgement_makes_a_second_one() -> None:
    """SQS takes no two writes as one, so dead letters are written at least once."""

    def kill(queue: str, _: str) -> None:
        if queue == "dead" and sqs.writes:
            raise KilledError

    sqs = MemorySqs(kill)
    function = Function(ScriptedTransport(lambda *_: Reply(422, {}, b"")), KEY, sqs=sqs)
    event = batch({"body": "devin-1"}, {"body": "devin-2"})
    with pytest.raises(KilledError):
        function.invoke(event)
    sqs.error = lambda *_: None
    assert function.invoke(event) == {"batchItemFailures": []}
    assert [write.body for write in sqs.writes] == ["devin-1", "devin-1", "devin-2"]
