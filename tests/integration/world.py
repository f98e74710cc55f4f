"""The deployed stack as a test sees it: what goes in, which calls it leads to, and where it ends."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from infra.local.stack import Stack
from infra.local.standin import Call, Fault
from infra.local.standin.sessions import Fields
from infra.local.standin_process import API_KEY

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef, MessageTypeDef

DETAIL_TYPE = "Devin Session Termination Requested"
# Ends a test that has failed; one that holds waits for what it waits for and no longer.
PATIENCE_SECONDS = 100.0


def wait_for[T](probe: Callable[[], T], what: str, *, told: Callable[[], object] | None = None) -> T:
    """The first truthy thing that `probe` returns; `told` adds to the message if there is none."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain: {what}" + (f"; instead: {told()}" if told else ""))
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Letter:
    """A message of the dead-letter queue: its body, and its attributes as texts and as SQS gave them."""

    body: str
    attributes: Mapping[str, str]
    raw: Mapping[str, MessageAttributeValueTypeDef]

    @classmethod
    def of(cls, message: MessageTypeDef) -> Letter:
        raw: dict[str, MessageAttributeValueTypeDef] = {
            name: {"DataType": value["DataType"], "StringValue": value["StringValue"]}
            for name, value in message.get("MessageAttributes", {}).items()
        }
        return cls(message["Body"], {name: value["StringValue"] for name, value in raw.items()}, raw)


class World:
    """One deployed stack for all tests. They keep out of each other's way by ids that nobody else uses.

    `keys` are all keys that were ever stored or accepted: none of them may turn up anywhere.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.keys = {API_KEY}
        self.taken: list[Letter] = []
        self._letters: list[Letter] = []
        self._numbers = count(1)

    # What goes in.

    def name(self, label: str) -> str:
        """An id that nobody has used; the API does not know it."""
        return f"devin-{label}-{next(self._numbers)}"

    def session(self, label: str, *faults: Fault, **fields: Unpack[Fields]) -> str:
        """The id of a new session; its first terminate calls meet these faults, one each."""
        session_id = self.name(label)
        self.stack.api.add_sessions(session_id, **fields)
        for fault in faults:
            self.stack.api.script(fault, session_id=session_id, operation="terminate", times=1)
        return session_id

    def send(self, body: str, attributes: Mapping[str, MessageAttributeValueTypeDef] | None = None) -> str:
        """Send to the work queue; returns the message's id."""
        return self.stack.aws.sqs.send_message(
            QueueUrl=self.stack.work_queue_url, MessageBody=body, MessageAttributes=attributes or {}
        )["MessageId"]

    def put_event(self, detail: Mapping[str, object], detail_type: str = DETAIL_TYPE) -> None:
        """Put one event on the default bus."""
        answer = self.stack.aws.events.put_events(
            Entries=[{"Source": "tests.integration", "DetailType": detail_type, "Detail": json.dumps(detail)}]
        )
        assert answer["FailedEntryCount"] == 0

    def invoke(self, payload: object) -> Any:
        """Invoke the function and return its answer."""
        answer = self.stack.aws.lambda_.invoke(
            FunctionName=self.stack.terminate_function_name, Payload=json.dumps(payload)
        )
        said = json.loads(answer["Payload"].read())
        assert not answer.get("FunctionError"), said
        return said

    def invoke_later(self, payload: object) -> None:
        """Invoke the function asynchronously."""
        answer = self.stack.aws.lambda_.invoke(
            FunctionName=self.stack.terminate_function_name, InvocationType="Event", Payload=json.dumps(payload)
        )
        assert answer["StatusCode"] == 202

    # Which calls it leads to, and what the function says of them.

    def calls(self, session_id: str) -> list[Call]:
        return [call for call in self.stack.api.calls() if call.session_id == session_id]

    def methods(self, session_id: str) -> list[str]:
        """The calls for a session: DELETE, GET, in the order in which they arrived.

        Without those that had a key of an earlier test, which a function may hold for a call or two.
        """
        return [call.method for call in self.calls(session_id) if call.authorised]

    def exited(self, session_id: str) -> bool:
        return self.stack.api.session(session_id).exited

    def lines(self, session_id: str) -> list[dict[str, Any]]:
        """The log lines about a session, in order."""
        return self._lines("session_id", session_id)

    def _lines(self, name: str, value: str) -> list[dict[str, Any]]:
        # The whole log in every round would keep the emulator busier than its functions do.
        pages = self.stack.aws.logs.get_paginator("filter_log_events").paginate(
            logGroupName=self.stack.outputs["TerminateLogGroupName"], filterPattern=f'"{value}"'
        )
        events = sorted((event for page in pages for event in page["events"]), key=lambda event: event["timestamp"])
        entries = [json.loads(event["message"]) for event in events]
        return [entry for entry in entries if entry.get(name) == value]

    def outcomes(self, session_id: str) -> list[str]:
        return [line["outcome"] for line in self.lines(session_id)]

    def wait_for_attempt(self, session_id: str) -> list[str]:
        """The outcomes of an id, once it has one."""
        self._wait_for_log(lambda: bool(self.outcomes(session_id)), f"an attempt at {session_id}")
        return self.outcomes(session_id)

    def story(self, session_id: str, end: str) -> list[str]:
        """All outcomes of an id up to its last, once that is `end`."""
        found: list[str] = []

        def ended() -> bool:
            found[:] = self.outcomes(session_id)
            return found[-1:] == [end]

        self._wait_for_log(ended, f"{session_id} {end}", told=lambda: self.lines(session_id))
        return found

    def wait_for_lines(self, name: str, value: str) -> list[dict[str, Any]]:
        """The log lines with this value in this field, once there is one."""
        self._wait_for_log(lambda: bool(self._lines(name, value)), f"a line with {name} {value}")
        return self._lines(name, value)

    def _wait_for_log(self, probe: Callable[[], bool], what: str, told: Callable[[], object] | None = None) -> None:
        fetched = time.monotonic()

        def there() -> bool:
            nonlocal fetched
            if probe():
                return True
            if time.monotonic() > fetched + 3:
                self._fetch_late_lines()
                fetched = time.monotonic()
            return False

        wait_for(there, what, told=told)

    def _fetch_late_lines(self) -> None:
        """The emulator takes what is logged within 50 ms of an answer, and later lines with the next invocation."""
        workers = max(len(self._workers()), 1)
        with ThreadPoolExecutor(workers) as executor:
            list(executor.map(self.invoke, [{"Records": []}] * workers))

    # Where it ends.

    def letters(self) -> list[Letter]:
        """All dead letters so far that were not taken; they are read off the queue."""
        sqs, url = self.stack.aws.sqs, self.stack.dead_letter_queue_url
        while messages := sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=0
        ).get("Messages"):
            self._letters += map(Letter.of, messages)
            sqs.delete_message_batch(
                QueueUrl=url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(messages)
                ],
            )
        return list(self._letters)

    def letters_about(self, text: str) -> list[Letter]:
        """Dead letters with this in their body."""
        return [letter for letter in self.letters() if text in letter.body]

    def take_letter(self, text: str) -> Letter:
        """The one dead letter with this in its body, once it is there; it does not count among `letters` any more."""
        (letter,) = wait_for(lambda: self.letters_about(text), f"a dead letter about {text}", told=self.letters)
        self._letters.remove(letter)
        self.taken.append(letter)
        return letter

    def redrive(self, letter: Letter) -> None:
        """Send a dead letter back to the work queue as it is."""
        self.send(letter.body, letter.raw)

    def queued(self) -> int:
        """Messages in the work queue, in whatever state."""
        names = ("Messages", "MessagesNotVisible", "MessagesDelayed")
        attributes: Mapping[str, str] = self.stack.aws.sqs.get_queue_attributes(
            QueueUrl=self.stack.work_queue_url, AttributeNames=["All"]
        )["Attributes"]  # type: ignore[assignment]
        return sum(int(attributes[f"ApproximateNumberOf{name}"]) for name in names)

    def wait_until_drained(self) -> None:
        wait_for(lambda: self.queued() == 0, "an empty work queue", told=self.queued)

    # What can be changed for a while.

    @contextmanager
    def visibility_timeout(self, seconds: int) -> Iterator[None]:
        """What is received meanwhile comes back after so long, unless it is settled before."""
        with self._queue_attribute("VisibilityTimeout", lambda _: str(seconds)):
            yield

    @contextmanager
    def most_receives(self, number: int) -> Iterator[None]:
        """What was received so often goes to the dead letters."""
        with self._queue_attribute(
            "RedrivePolicy", lambda before: json.dumps({**json.loads(before), "maxReceiveCount": number})
        ):
            yield

    @contextmanager
    def _queue_attribute(
        self, name: Literal["VisibilityTimeout", "RedrivePolicy"], change: Callable[[str], str]
    ) -> Iterator[None]:
        sqs, url = self.stack.aws.sqs, self.stack.work_queue_url
        before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name]
        sqs.set_queue_attributes(QueueUrl=url, Attributes={name: change(before)})
        try:
            yield
        finally:
            sqs.set_queue_attributes(QueueUrl=url, Attributes={name: before})

    @contextmanager
    def environment(self, **variables: str) -> Iterator[None]:
        """The function with these variables; the emulator replaces its workers, as Lambda does."""
        name = self.stack.terminate_function_name
        functions = self.stack.aws.lambda_
        before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": {**before, **variables}})
        try:
            yield
        finally:
            functions.update_function_configuration(FunctionName=name, Environment={"Variables": before})

    @contextmanager
    def api_key(self, secret: str, *accepted: str) -> Iterator[None]:
        """Another secret, and an API that accepts these keys alone; afterwards as before."""
        self.keys.update(accepted)
        self.stack.api.set_keys(accepted)
        self.stack.put_api_key(secret)
        try:
            yield
        finally:
            self.stack.api.set_keys([API_KEY])
            self.stack.put_api_key(API_KEY)

    def role_name(self) -> str:
        role = self.stack.aws.lambda_.get_function_configuration(FunctionName=self.stack.terminate_function_name)[
            "Role"
        ]
        return role.rsplit("/", 1)[-1]

    @contextmanager
    def without(self, sid: str, action: str) -> Iterator[None]:
        """The function's role without an action of one statement."""
        iam, role, policy = self.stack.aws.iam, self.role_name(), "terminate"
        document: Any = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        (statement,) = (statement for statement in document["Statement"] if statement.get("Sid") == sid)
        granted = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        left = [one for one in granted if one != action]
        assert len(left) == len(granted) - 1, f"{sid} does not grant {action}"
        others = [one for one in document["Statement"] if one is not statement]
        changed = {**document, "Statement": others + ([{**statement, "Action": left}] if left else [])}
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(changed))
        try:
            yield
        finally:
            iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))

    def kill_workers(self) -> int:
        """End the function's execution environments, whatever they are doing; returns how many there were."""
        workers = self._workers()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        return len(workers)

    def _workers(self) -> list[int]:
        """Process ids of the function's execution environments."""
        place = f"{self.stack.directory}/scratch/ministack-lambda-{self.stack.terminate_function_name}-"
        found = []
        for process in Path("/proc").iterdir():
            try:
                arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # no process, or one that has just ended
            if any(argument.startswith(place) for argument in arguments):
                found.append(int(process.name))
        return found
