"""Writing to SQS in batches: what is tried again, what is not, and how long the clients wait."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

import runtime
from queues import Outgoing, Queues
from settings import Settings


class ScriptedSqs:
    """Gives these answers to requests: an error code of the request, or the failed entries (code, sender's fault)."""

    def __init__(self, *answers: str | dict[str, tuple[str, bool]]) -> None:
        self.answers = list(answers)
        self.requests: list[list[str]] = []

    def send_message_batch(self, *, Entries: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
        self.requests.append([entry["MessageBody"] for entry in Entries])
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, str):
            raise ClientError({"Error": {"Code": answer}}, "SendMessageBatch")
        failed = {entry["Id"]: answer[entry["MessageBody"]] for entry in Entries if entry["MessageBody"] in answer}
        return {
            "Successful": [{"Id": entry["Id"]} for entry in Entries if entry["Id"] not in failed],
            "Failed": [{"Id": one, "Code": code, "SenderFault": fault} for one, (code, fault) in failed.items()],
        }


@pytest.mark.parametrize(
    ("answers", "requests", "failed"),
    [
        ([{"b": ("InternalError", False)}], [["a", "b"], ["b"]], None),
        ([{"b": ("InternalError", False)}] * 3, [["a", "b"], ["b"], ["b"]], "b"),
        ([{"b": ("InvalidMessageContents", True)}], [["a", "b"]], "b"),
        # botocore does not try this one again.
        (["KMS.ThrottlingException"], [["a", "b"], ["a", "b"]], None),
        # A request that is refused because of an entry says nothing about the others.
        (["InvalidMessageContents", {}, "InvalidMessageContents"], [["a", "b"], ["a"], ["b"]], "b"),
        # What botocore tried again, or never does.
        (["RequestThrottled"], [["a", "b"]], "ab"),
        (["AccessDenied"], [["a", "b"]], "ab"),
    ],
)
def test_what_sqs_does_not_take(
    monkeypatch: pytest.MonkeyPatch, answers: list[Any], requests: list[list[str]], failed: str | None
) -> None:
    monkeypatch.setattr("queues.time.sleep", lambda _: None)
    sqs: Any = ScriptedSqs(*answers)
    errors = Queues(sqs, work_queue_url="work", dead_letter_queue_url="dead").dead_letter(
        [Outgoing("a"), Outgoing("b")]
    )
    assert sqs.requests == requests
    assert [error is not None for error in errors] == [one in (failed or "") for one in "ab"]


def test_clients_of_aws_wait_seconds_and_try_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    environment = dict.fromkeys(("API_KEY_SECRET_ARN", "WORK_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"), "x")
    config: Any = runtime.runtime_for(Settings.from_environment(environment)).queues.sqs.meta.config
    assert (config.connect_timeout, config.read_timeout) == (2, 5)
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}
