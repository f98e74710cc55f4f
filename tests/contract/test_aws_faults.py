"""Secrets Manager and SQS that throttle, fail, hang or hang up: the functions' real clients, over sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.local.fake_devin import FakeDevin, Fault
from terminate.apply import RedeliveryError
from tests.contract.aws import CLOSE, HANG, MESSAGE_BYTES, NO_SUCH_QUEUE, RESET, Failure, Trouble
from tests.contract.caller import V1_KEY
from tests.contract.functions import Functions, functions

# How often the functions' clients try.
ATTEMPTS = 3

# What a client tries again: throttling by whatever name, failures of the service, and no answer at all.
PASSING: dict[str, Trouble] = {
    "throttling": Failure(400, "ThrottlingException"),
    "500": Failure(500, "InternalServiceError"),
    "reset": RESET,
    "closed": CLOSE,
    "hanging": HANG,
}
SQS_PASSING: dict[str, Trouble] = PASSING | {
    "request throttled": Failure(400, "RequestThrottled", "RequestThrottled"),
    # botocore does not try this one again; the function does.
    "KMS throttled": Failure(400, "KmsThrottled", "KMS.ThrottlingException"),
}
# What is not tried again.
LASTING: dict[str, Trouble] = {"denied": Failure(403, "AccessDeniedException"), "gone": NO_SUCH_QUEUE}

REJECTED = Fault(status=422, body='{"detail": "no such session"}')
passing = pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
sqs_trouble = pytest.mark.parametrize("trouble", (SQS_PASSING | LASTING).values(), ids=SQS_PASSING | LASTING)


@pytest.fixture
def world(api: FakeDevin, monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    api.add_sessions("devin-a", "devin-b", "devin-c")
    with functions(api, monkeypatch) as made:
        yield made


def ended(world: Functions) -> list[str]:
    return sorted(call.session_id or "" for call in world.api.calls() if call.ended)


def test_the_clients_have_the_functions_configuration(world: Functions) -> None:
    assert world.deliver("devin-a") == []
    asked = (world.config.connect_timeout, world.config.read_timeout, world.config.retries)
    assert asked == (2, 5, {"mode": "standard", "total_max_attempts": ATTEMPTS})


# Secrets Manager


@passing
def test_a_secret_that_cannot_be_read_for_now_keeps_everything(world: Functions, trouble: Trouble) -> None:
    world.fails("GetSecretValue", trouble)

    assert world.deliver("devin-a", "devin-b", '{"session_ids": ["devin-c", "devin-d"]}') == ["0", "1", "2"]

    # However many ids ask for the key: as many attempts as one reading has, and no second reading.
    assert world.aws.requests.count("GetSecretValue") == ATTEMPTS
    assert len(world.aws.hidden) == 3
    assert world.aws.messages == []
    assert world.api.calls() == []
    lines = world.log()
    assert [line["outcome"] for line in lines] == ["retry"] * 4
    assert all("the secret cannot be read" in line["detail"] for line in lines)
    assert all("secretsmanager:GetSecretValue" in line["detail"] for line in lines)
    assert V1_KEY not in world.printed.getvalue()


@pytest.mark.parametrize(
    "failure",
    [
        Failure(400, "AccessDeniedException"),
        Failure(400, "ResourceNotFoundException"),
        Failure(400, "DecryptionFailure"),
        Failure(400, "InvalidRequestException"),
    ],
)
def test_a_secret_that_cannot_be_read_at_all_is_asked_for_once(world: Functions, failure: Failure) -> None:
    world.fails("GetSecretValue", failure)
    assert world.deliver("devin-a", "devin-b") == ["0", "1"]
    assert world.aws.requests.count("GetSecretValue") == 1
    assert all(failure.code in line["detail"] for line in world.log())


@passing
def test_a_secret_is_read_at_the_third_attempt_or_by_the_next_invocation(world: Functions, trouble: Trouble) -> None:
    world.fails("GetSecretValue", *[trouble] * ATTEMPTS, *[trouble] * (ATTEMPTS - 1), None)
    assert world.deliver("devin-a") == ["0"]
    assert world.deliver("devin-a", receive_count=2) == []
    assert ended(world) == ["devin-a"]
    assert len(world.slept) == 2 * (ATTEMPTS - 1)


# Dead letters


@sqs_trouble
def test_a_dead_letter_that_is_not_taken_is_written_later(world: Functions, trouble: Trouble) -> None:
    world.api.script(REJECTED, session_id="devin-a")
    world.fails("SendMessageBatch", trouble)

    assert world.deliver("devin-a", "nonsense", "devin-b") == ["0", "1"]

    # A request that fails as a whole is not repeated beyond botocore's attempts.
    tries = 1 if trouble in LASTING.values() else ATTEMPTS
    assert world.aws.requests.count("SendMessageBatch") == tries
    assert len(world.aws.hidden) == 2
    assert ended(world) == ["devin-b"]
    kept = [line for line in world.log() if line["outcome"] == "retry"]
    assert len(kept) == 2
    assert all(line["detail"].startswith("sending to the dead-letter queue: ") for line in kept)

    world.fails("SendMessageBatch", *([trouble] * (ATTEMPTS - 1) if tries > 1 else []), None)
    assert world.deliver("devin-a", receive_count=2) == []
    assert [message.body for message in world.aws.messages] == ["devin-a"]


def test_entries_that_sqs_does_not_take_are_sent_again_and_the_others_are_not(world: Functions) -> None:
    world.aws.fails("Entry", None, Failure(500, "InternalError"), None, None)
    bodies = ("nonsense 1", "nonsense 2", "nonsense 3")
    assert world.deliver(*bodies) == []
    assert sorted(message.body for message in world.aws.sent_to("dead-letters")) == sorted(bodies)
    assert world.aws.requests.count("SendMessageBatch") == 2


def test_a_large_dead_letter_that_is_throttled_keeps_its_attributes(world: Functions) -> None:
    world.fails("SendMessageBatch", *[SQS_PASSING["request throttled"]] * ATTEMPTS, None)
    body = "x" * (MESSAGE_BYTES - 2000)
    assert world.deliver(body) == ["0"]
    assert world.aws.messages == [], "one without its reason is worse than one that is late"
    assert world.deliver(body, receive_count=2) == []
    assert world.aws.messages[0].attributes["reason"] == "invalid_message"


@pytest.mark.parametrize("odd", ["\x00", "\x1f", "\uffff", "\ud800", "devin-1\x00"])
def test_a_body_that_sqs_would_not_take_back_is_kept(world: Functions, odd: str) -> None:
    assert world.deliver(odd, "devin-a") == ["0"]
    assert world.aws.messages == []
    assert ended(world) == ["devin-a"]
    (line,) = [line for line in world.log() if line["outcome"] == "retry"]
    assert line["detail"] == "sending to the dead-letter queue: InvalidMessageContents"


def test_a_body_that_sqs_takes_is_a_dead_letter_as_it_came(world: Functions) -> None:
    bodies = ["\t", "\r", "\x7f", "\x85", "\ud7ff", "\ue000", "\ufeff", "\ufffd", "\U0010ffff"]
    assert world.deliver(*bodies) == []
    assert sorted(message.body for message in world.aws.sent_to("dead-letters")) == sorted(bodies)


# The work queue


@sqs_trouble
def test_an_event_that_cannot_be_kept_in_the_work_queue_fails(world: Functions, trouble: Trouble) -> None:
    world.api.script(Fault(status=503), session_id="devin-a")
    world.fails("SendMessageBatch", trouble)
    with pytest.raises(RedeliveryError):
        world.invoke({"session_ids": ["devin-a", "devin-b"]})
    assert ended(world) == ["devin-b"]
    assert world.aws.messages == []

    world.fails("SendMessageBatch", None)
    assert world.invoke({"session_ids": ["devin-a", "devin-b"]}) == {
        "retry": ["devin-a"],
        "already_exited": ["devin-b"],
    }
    assert [message.queue for message in world.aws.messages] == ["work"]


@sqs_trouble
def test_a_message_whose_rest_cannot_be_requeued_is_kept_whole(world: Functions, trouble: Trouble) -> None:
    world.api.script(Fault(status=503), session_id="devin-a")
    world.api.script(REJECTED, session_id="devin-c")
    world.fails("SendMessageBatch", trouble)
    assert world.deliver('{"session_ids": ["devin-a", "devin-b", "devin-c"]}') == ["0"]
    assert world.aws.messages == []
    assert len(world.aws.hidden) == 1
    said = [line["message"] for line in world.log() if "outcome" not in line]
    assert len(said) == 1
    assert said[0].startswith("sending to the work queue: ")


# Visibility


@pytest.mark.parametrize(
    "trouble",
    [
        *SQS_PASSING.values(),
        *LASTING.values(),
        Failure(400, "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"),
        # What is said of a receipt handle that has expired.
        Failure(400, "InvalidParameterValue", "InvalidParameterValue"),
        Failure(400, "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n???",
    ],
    ids=str,
)
def test_a_visibility_timeout_that_cannot_be_changed_changes_nothing_else(world: Functions, trouble: Trouble) -> None:
    world.api.script(Fault(status=503), session_id="devin-a")
    world.fails("ChangeMessageVisibilityBatch", trouble)
    assert world.deliver("devin-a", "devin-b") == ["0"]
    assert ended(world) == ["devin-b"]
    lines = world.log()
    assert [line["outcome"] for line in lines if "outcome" in line] == ["retry", "terminated"]
    if not isinstance(trouble, bytes):
        assert lines[0]["message"].startswith("changing the visibility timeout: ")
    assert not any("exception" in line for line in lines)


def test_if_aws_does_not_answer_at_all_everything_is_kept(world: Functions) -> None:
    for operation in ("GetSecretValue", "SendMessageBatch", "ChangeMessageVisibilityBatch"):
        world.fails(operation, HANG)
    assert world.deliver("devin-a", "devin-b", "devin-c") == ["0", "1", "2"]
    assert len(world.aws.requests) == ATTEMPTS * 2
    with pytest.raises(RedeliveryError):
        world.invoke({"session_id": "devin-a"})
