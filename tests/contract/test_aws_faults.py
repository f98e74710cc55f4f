"""Secrets Manager and SQS that throttle, fail, hang or hang up: the functions' real clients, over sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from infra.local.fake_devin import FakeDevin, Fault
from terminate.apply import RedeliveryError
from tests.contract.aws import CLOSE, HANG, MESSAGE_BYTES, NO_SUCH_QUEUE, RESET, Failure, Trouble, size
from tests.contract.caller import V1_KEY
from tests.contract.functions import Functions, functions

# How often the functions' clients try.
ATTEMPTS = 3

# What a client tries again: throttling by whatever name, failures of the service, and no answer at all.
PASSING: dict[str, Trouble] = {
    "throttling": Failure(400, "ThrottlingException"),
    "too many requests": Failure(429, "TooManyRequestsException"),
    "500": Failure(500, "InternalServiceError"),
    "503": Failure(503, "ServiceUnavailable"),
    "reset": RESET,
    "closed": CLOSE,
    "hanging": HANG,
}
SQS_PASSING: dict[str, Trouble] = PASSING | {
    "request throttled": Failure(400, "RequestThrottled", "RequestThrottled"),
}
# What it does not.
LASTING: dict[str, Trouble] = {
    "denied": Failure(403, "AccessDeniedException"),
    "gone": NO_SUCH_QUEUE,
    "key throttled": Failure(400, "KmsThrottled", "KMS.ThrottlingException"),
}

REJECTED = Fault(status=422, body='{"detail": "no such session"}')
passing = pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
sqs_passing = pytest.mark.parametrize("trouble", SQS_PASSING.values(), ids=SQS_PASSING)
sqs_trouble = pytest.mark.parametrize("trouble", (SQS_PASSING | LASTING).values(), ids=SQS_PASSING | LASTING)


@pytest.fixture
def world(api: FakeDevin, monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    api.add_sessions("devin-a", "devin-b", "devin-c")
    with functions(api, monkeypatch) as made:
        yield made


def ended(world: Functions) -> list[str]:
    return sorted(call.session_id or "" for call in world.api.calls() if call.ended)


def test_the_clients_of_these_tests_wait_less_and_are_the_functions_in_all_else(world: Functions) -> None:
    assert world.deliver("devin-a") == []
    asked = (world.config.connect_timeout, world.config.read_timeout, world.config.retries)
    assert asked == (2, 5, {"mode": "standard", "total_max_attempts": ATTEMPTS})


# Secrets Manager


@pytest.mark.fault(11)
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
def test_a_secret_that_can_be_read_at_the_last_attempt_is_read(world: Functions, trouble: Trouble) -> None:
    world.fails("GetSecretValue", *[trouble] * (ATTEMPTS - 1), None)
    assert world.deliver("devin-a") == []
    assert ended(world) == ["devin-a"]
    assert len(world.slept) == ATTEMPTS - 1


@passing
def test_after_an_outage_of_the_secret_the_next_invocation_works(world: Functions, trouble: Trouble) -> None:
    world.fails("GetSecretValue", *[trouble] * ATTEMPTS, None)
    assert world.deliver("devin-a") == ["0"]
    assert world.deliver("devin-a", receive_count=2) == []
    assert ended(world) == ["devin-a"]


@passing
def test_an_event_waits_in_the_work_queue_for_a_secret(world: Functions, trouble: Trouble) -> None:
    world.fails("GetSecretValue", trouble)
    assert world.invoke({"session_ids": ["devin-a", "devin-b"]}) == {"retry": ["devin-a", "devin-b"]}
    assert [json.loads(message.body) for message in world.aws.sent_to("work")] == [
        {"session_ids": ["devin-a"]},
        {"session_ids": ["devin-b"]},
    ]


def test_a_key_that_is_refused_while_the_secret_throttles_is_told_with_both_reasons(world: Functions) -> None:
    assert world.deliver("devin-a") == []
    world.api.set_keys(["apk_new"])
    world.fails("GetSecretValue", PASSING["throttling"])
    world.aws.requests.clear()

    assert world.deliver("devin-b", "devin-c") == ["0", "1"]

    assert world.aws.requests.count("GetSecretValue") == ATTEMPTS
    details = [line["detail"] for line in world.log() if line["outcome"] == "unauthorized"]
    assert len(details) == 2
    assert all("the API refuses the key" in detail and "ThrottlingException" in detail for detail in details)
    assert V1_KEY not in world.printed.getvalue()


# Dead letters


@pytest.mark.fault(12)
@sqs_trouble
def test_a_dead_letter_that_is_not_taken_keeps_the_message(world: Functions, trouble: Trouble) -> None:
    world.api.script(REJECTED, session_id="devin-a")
    world.fails("SendMessageBatch", trouble)

    assert world.deliver("devin-a", "nonsense", "devin-b") == ["0", "1"]

    # What botocore does not repeat after a throttling of KMS, the function repeats.
    tries = 1 if trouble in (LASTING["denied"], LASTING["gone"]) else ATTEMPTS
    assert world.aws.requests.count("SendMessageBatch") == tries
    assert len(world.aws.hidden) == 2
    assert ended(world) == ["devin-b"]
    kept = [line for line in world.log() if line["outcome"] == "retry"]
    assert len(kept) == 2
    assert all(line["detail"].startswith("sending to the dead-letter queue: ") for line in kept)


@sqs_passing
def test_a_dead_letter_that_is_taken_at_the_last_attempt_is_written_once(world: Functions, trouble: Trouble) -> None:
    world.api.script(REJECTED, session_id="devin-a")
    world.fails("SendMessageBatch", *[trouble] * (ATTEMPTS - 1), None)
    assert world.deliver("devin-a") == []
    assert [message.body for message in world.aws.messages] == ["devin-a"]


@pytest.mark.fault(12)
@pytest.mark.parametrize("room", [0, 30, 100, 400, 5000])
@pytest.mark.parametrize("limit", [256 * 1024, MESSAGE_BYTES])
def test_a_body_of_the_greatest_size_is_a_dead_letter_with_what_fits_beside_it(
    world: Functions, limit: int, room: int
) -> None:
    world.aws.message_bytes = limit
    body = "é" * ((limit - room) // 2)

    assert world.deliver(body) == []

    (letter,) = world.aws.sent_to("dead-letters")
    assert letter.body == body
    assert set(letter.attributes) <= {"reason", "source", "failed_at", "request_id", "attempts", "detail"}
    assert letter.attributes.get("reason") == ("invalid_message" if room >= 30 else None)
    assert ("detail" in letter.attributes) == (room >= 400)


def test_the_endpoint_of_these_tests_counts_as_sqs_does() -> None:
    # Name, type and value count: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/
    # sqs-message-metadata.html
    assert size("é", {"ab": {"DataType": "String", "StringValue": "é€"}}) == 2 + 2 + 6 + 5


@pytest.mark.parametrize("bytes_", [256 * 1024 + 1, MESSAGE_BYTES])
def test_a_large_dead_letter_that_is_throttled_keeps_its_attributes(world: Functions, bytes_: int) -> None:
    world.fails("SendMessageBatch", *[SQS_PASSING["request throttled"]] * ATTEMPTS, None)
    body = "x" * (bytes_ - 2000)
    assert world.deliver(body) == ["0"]
    assert world.aws.messages == [], "one without its reason is worse than one that is late"
    assert world.deliver(body, receive_count=2) == []
    assert world.aws.messages[0].attributes["reason"] == "invalid_message"


@pytest.mark.fault(18)
@pytest.mark.parametrize("odd", ["\x00", "\x0b", "\x1f", "\ufffe", "\uffff", "\ud800", "devin-1\x00"])
def test_a_body_that_sqs_would_not_take_back_is_kept(world: Functions, odd: str) -> None:
    assert world.deliver(odd, "devin-a") == ["0"]
    assert world.aws.messages == []
    assert ended(world) == ["devin-a"]
    (line,) = [line for line in world.log() if line["outcome"] == "retry"]
    assert line["detail"] == "sending to the dead-letter queue: InvalidMessageContents"


@pytest.mark.parametrize(
    "fine", ["\t", "\n", "\r", "\x7f", "\x85", "\ud7ff", "\ue000", "\ufeff", "\ufffd", "\U0010ffff"]
)
def test_a_body_that_sqs_takes_is_a_dead_letter_as_it_came(world: Functions, fine: str) -> None:
    assert world.deliver(fine) == []
    assert [message.body for message in world.aws.sent_to("dead-letters")] == [fine]


# The work queue


@pytest.mark.fault(21)
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
def test_a_message_whose_rest_cannot_be_sent_back_is_kept_whole(world: Functions, trouble: Trouble) -> None:
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


@pytest.mark.fault(13)
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


def test_nothing_but_the_network_is_left_and_still_everything_is_kept(world: Functions) -> None:
    for operation in ("GetSecretValue", "SendMessageBatch", "ChangeMessageVisibilityBatch"):
        world.fails(operation, HANG)
    assert world.deliver("devin-a", "devin-b", "devin-c") == ["0", "1", "2"]
    assert len(world.aws.requests) == ATTEMPTS * 2
    with pytest.raises(RedeliveryError):
        world.invoke({"session_id": "devin-a"})
