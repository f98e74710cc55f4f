"""AWS that throttles, fails, hangs or loses its answers: everything is kept, and works once it is well again."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial

import pytest

from infra.local.fake_devin import Fault
from infra.local.fake_devin.faults import html_error
from tests.integration.faulty_aws import (
    FAILED,
    LOST,
    REQUEST_THROTTLED,
    RESET,
    THROTTLED,
    UNAVAILABLE,
    FaultyAws,
)
from tests.integration.world import World, wait_for

SEND, HIDE = "AmazonSQS.SendMessage", "AmazonSQS.ChangeMessageVisibility"
READ_SECRET, READ_SWITCH = "secretsmanager.GetSecretValue", "AmazonSSM.GetParameter"
NO = Fault(status=422, body='{"detail": "no"}')
TRIES = 3  # that the SDK makes
# What the function says of each in its log.
SQS_FAULTS = {
    "ThrottlingException": THROTTLED,
    "RequestThrottled": REQUEST_THROTTLED,
    "ServiceUnavailable": UNAVAILABLE,
    "InternalFailure": FAILED,
    "ConnectionClosedError": RESET,
}


def names(world: World) -> tuple[str, str]:
    """The queues' names, by which the proxy tells what is sent where: work, dead letters."""
    work, dead = (url.rpartition("/")[2] for url in (world.stack.work_queue_url, world.stack.dead_letter_queue_url))
    return f'/{work}"', f'/{dead}"'


def warnings(world: World, message_id: str) -> list[str]:
    """What the function says of a message, besides what became of its ids."""
    return [line["message"] for line in world.wait_for_lines("message_id", message_id) if "outcome" not in line]


@pytest.mark.fault(12)
def test_a_dead_letter_that_sqs_does_not_take_is_kept_until_it_does(quiet: World, aws: FaultyAws) -> None:
    _, dead = names(quiet)
    ids = {said: quiet.session(f"undead-{said}") for said in SQS_FAULTS}
    with ExitStack() as faults:
        for said, session_id in ids.items():
            quiet.stack.api.script(NO, session_id=session_id, operation="terminate", times=2)
            faults.enter_context(aws.meeting(SQS_FAULTS[said], SEND, dead, session_id, times=TRIES))
            quiet.send(session_id)
            wait_for(partial(aws.requests, SEND, dead, session_id), "the first dead letter")
        for said, session_id in ids.items():
            assert quiet.story(session_id, "rejected") == ["retry", "rejected"]
            first = quiet.lines(session_id)[0]
            assert (first["http_status"], first["detail"]) == (422, f"sending to the dead-letter queue: {said}")
    quiet.wait_until_drained()
    for session_id in ids.values():
        quiet.redrive(quiet.take_letter(session_id))
        assert quiet.story(session_id, "terminated")
        assert quiet.letters_about(session_id) == []


def test_ids_that_cannot_be_sent_back_are_kept_with_their_whole_message(quiet: World, aws: FaultyAws) -> None:
    work, _ = names(quiet)
    pairs = {said: (quiet.session("whole-good"), quiet.session("whole-failing", html_error())) for said in SQS_FAULTS}
    messages = {}
    with ExitStack() as spoilt:
        for said, (_, failing) in pairs.items():
            spoilt.enter_context(aws.meeting(SQS_FAULTS[said], SEND, work, failing, times=TRIES))
            messages[said] = quiet.send(json.dumps({"session_ids": pairs[said]}))
        for said, (good, failing) in pairs.items():
            assert quiet.wait_for_attempt(failing)[0] == "retry"
            assert quiet.wait_for_attempt(good)[0] == "terminated"
            assert f"sending to the work queue: {said}" in warnings(quiet, messages[said])
    for good, failing in pairs.values():
        assert quiet.story(failing, "terminated")[-1] == "terminated"
        # Called again for its neighbour's sake; the API's rejection is found out to be harmless.
        assert quiet.story(good, "already_exited")[:1] == ["terminated"]
        assert [len([call for call in quiet.calls(one) if call.ended]) for one in (good, failing)] == [1, 1]
        assert quiet.letters_about(good) == quiet.letters_about(failing) == []


def test_a_lost_answer_of_sqs_costs_repeats_and_no_session(quiet: World, aws: FaultyAws) -> None:
    """The SDK sends again what may have arrived, three times in all. So the same id may wait in several messages, and
    a dead letter may be there several times."""
    work, dead = names(quiet)
    good, failing = quiet.session("lost-good"), quiet.session("lost-failing", html_error())
    rejected = quiet.session("lost-rejected", NO)
    with aws.meeting(LOST, SEND, work, failing, times=TRIES), aws.meeting(LOST, SEND, dead, rejected, times=1):
        message_id = quiet.send(json.dumps({"session_ids": [good, failing]}))
        quiet.send(rejected)
        assert "sending to the work queue: ConnectionClosedError" in warnings(quiet, message_id)
    assert quiet.story(rejected, "rejected") == ["rejected"]
    quiet.wait_until_drained()
    for session_id in (good, failing):
        assert len([call for call in quiet.calls(session_id) if call.ended]) == 1
        assert quiet.letters_about(session_id) == []
    assert len(aws.requests(SEND, work, failing)) >= TRIES

    first, second = quiet.take_letters(rejected, 2)
    assert first == second
    quiet.redrive(first)
    quiet.redrive(second)
    wait_for(lambda: quiet.exited(rejected), "the end of what was dead")
    quiet.wait_until_drained()
    assert len([call for call in quiet.calls(rejected) if call.ended]) == 1
    assert quiet.letters_about(rejected) == []


def test_an_event_of_the_bus_that_cannot_be_kept_ends_in_the_failure_destination(quiet: World, aws: FaultyAws) -> None:
    """The emulator leaves it at that when a bus's invocation fails. So the function is invoked with what the bus
    delivers, and asynchronously, as the bus does."""
    work, _ = names(quiet)
    quiet.put_event({"session_id": (seen := quiet.session("bus-seen", NO))})
    delivered = json.loads(quiet.take_letter(seen).body)
    failing = quiet.session("bus-kept", *[html_error()] * 3)
    event = {**delivered, "detail": {"session_id": failing}}
    with aws.meeting(THROTTLED, SEND, work):
        quiet.invoke_later(event)
        letter = quiet.take_letter(failing)
    assert json.loads(letter.body)["requestPayload"] == event
    assert quiet.methods(failing) == ["DELETE"] * 3
    assert not quiet.exited(failing)

    quiet.redrive(letter)

    assert quiet.story(failing, "terminated")[-1] == "terminated"
    assert quiet.lines(failing)[-1]["attempts"] == 4
    assert quiet.letters_about(failing) == []


@pytest.mark.fault(13)
def test_a_visibility_timeout_whose_change_is_not_answered_is_changed_all_the_same(
    quiet: World, aws: FaultyAws
) -> None:
    session_id = quiet.session("hidden", html_error())
    with aws.meeting(LOST, HIDE):
        message_id = quiet.send(session_id)
        # Back within seconds, though the queue's own timeout is minutes.
        assert quiet.story(session_id, "terminated") == ["retry", "terminated"]
    assert "changing the visibility timeout: ConnectionClosedError" in warnings(quiet, message_id)
    assert len(aws.requests(HIDE)) >= TRIES
    assert quiet.methods(session_id) == ["DELETE"] * 2
    assert quiet.letters_about(session_id) == []


@pytest.mark.fault(11)
def test_a_secret_that_cannot_be_read_keeps_everything_until_it_can(quiet: World, aws: FaultyAws) -> None:
    ids = [quiet.session("unread") for _ in range(3)]
    faults = {"ThrottlingException": THROTTLED, "InternalFailure": FAILED, "Connection was closed": RESET}
    quiet.kill_workers()  # what starts anew has no key in its cache, and reads it before its first invocation
    with ExitStack() as spoilt:
        for fault in faults.values():
            spoilt.enter_context(aws.meeting(fault, READ_SECRET, times=TRIES))
        quiet.send(json.dumps({"session_ids": ids}))
        for session_id in ids:
            assert set(quiet.story(session_id, "terminated")) == {"retry", "terminated"}
            for line in quiet.lines(session_id)[:-1]:
                assert any(said in line["detail"] for said in faults)
                assert "secretsmanager:GetSecretValue" in line["detail"]
    for session_id in ids:
        assert quiet.methods(session_id) == ["DELETE"]
        assert quiet.letters_about(session_id) == []


def test_a_switch_that_cannot_be_read_stops_everything(quiet: World, aws: FaultyAws) -> None:
    """The test delivers the message, because what is stopped is delivered again in a quarter of an hour."""
    session_id = quiet.session("unswitched")
    with quiet.stack.work_queue_held():
        record = quiet.received(session_id)
        quiet.kill_workers()
        for fault in (THROTTLED, FAILED, RESET):
            with aws.meeting(fault, READ_SWITCH):
                failed = quiet.invoke({"Records": [record]})["batchItemFailures"]
            assert failed == [{"itemIdentifier": record["messageId"]}]
        assert quiet.outcomes(session_id) == ["retry"] * 3
        assert quiet.calls(session_id) == []
        quiet.make_visible(record)
    assert quiet.story(session_id, "terminated")[-1] == "terminated"
