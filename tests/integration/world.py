"""The deployed stack as a test sees it: what goes in, which calls it leads to, and where it ends."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from infra.local.fake_devin import Call, Fault
from infra.local.stack import API_KEY, Stack

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef, MessageTypeDef

DETAIL_TYPE = "Devin Session Termination Requested"
# Ends a test that has failed, however busy the machine is; one that holds waits for what it waits for and no longer.
PATIENCE_SECONDS = 300.0


def wait_for[T](probe: Callable[[], T], what: str, *, told: Callable[[], object] | None = None) -> T:
    """The first truthy thing that `probe` returns; `told` adds to the message if there is none."""
    end, pause = time.monotonic() + PATIENCE_SECONDS, 0.05
    while not (found := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain: {what}" + (f"; instead: {told()}" if told else ""))
        time.sleep(pause)
        # Each question costs the emulator time that its functions need.
        pause = min(pause * 1.3, 0.5)
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

    def session(self, label: str, *faults: Fault, **fields: Any) -> str:
        """The id of a new session; its first terminate calls meet these faults, one each."""
        session_id = self.name(label)
        self.stack.api.add_sessions(session_id, **fields)
        for fault in faults:
            self.stack.api.script(fault, session_id=session_id, operation="terminate", times=1)
        return session_id

    def stale(self, tag: str, **fields: Any) -> str:
        """The id of a new session with this tag that nobody has used for two days."""
        ago = datetime.now(UTC) - timedelta(days=2)
        made: dict[str, Any] = {"tags": (tag,), "created_at": ago, "updated_at": ago}
        made.update(fields)
        return self.session(tag, **made)

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

    def invoke(self, payload: object, function_name: str = "") -> Any:
        """Invoke a function, `terminate` unless said, and return its answer."""
        answer = self.stack.aws.lambda_.invoke(
            FunctionName=function_name or self.stack.terminate_function_name, Payload=json.dumps(payload)
        )
        said = json.loads(answer["Payload"].read())
        assert not answer.get("FunctionError"), said
        return said

    def invoke_regardless(self, payload: object) -> None:
        """Invoke the function, whatever becomes of the invocation."""
        self.stack.aws.lambda_.invoke(FunctionName=self.stack.terminate_function_name, Payload=json.dumps(payload))

    def received(self, body: str) -> dict[str, Any]:
        """The record of a new message, received by the test from a queue that is empty and held."""
        sent = self.send(body)
        (message,) = self.stack.aws.sqs.receive_message(
            QueueUrl=self.stack.work_queue_url,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
            VisibilityTimeout=900,
        )["Messages"]
        assert message["MessageId"] == sent
        return {
            "eventSource": "aws:sqs",
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {},
        }

    def make_visible(self, record: Mapping[str, Any]) -> None:
        """End the visibility timeout of a message that the test has received."""
        self.stack.aws.sqs.change_message_visibility(
            QueueUrl=self.stack.work_queue_url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=0
        )

    def sweep(self, policy: object) -> Any:
        """Invoke the sweep and return its report, or Lambda's error."""
        answer = self.stack.aws.lambda_.invoke(
            FunctionName=self.stack.sweep_function_name, Payload=json.dumps(policy).encode()
        )
        return json.loads(answer["Payload"].read())

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
        wait_for(lambda: bool(self.outcomes(session_id)), f"an attempt at {session_id}")
        return self.outcomes(session_id)

    def story(self, session_id: str, end: str) -> list[str]:
        """All outcomes of an id up to its last, once that is `end`."""
        found: list[str] = []

        def ended() -> bool:
            found[:] = self.outcomes(session_id)
            return found[-1:] == [end]

        wait_for(ended, f"{session_id} {end}", told=lambda: self.lines(session_id))
        return found

    def wait_for_lines(self, name: str, value: str) -> list[dict[str, Any]]:
        """The log lines with this value in this field, once there is one."""
        wait_for(lambda: bool(self._lines(name, value)), f"a line with {name} {value}")
        return self._lines(name, value)

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
        (letter,) = self.take_letters(text, 1)
        return letter

    def take_letters(self, text: str, number: int) -> list[Letter]:
        """The dead letters with this in their body, once they are so many, likewise."""
        wait_for(lambda: len(self.letters_about(text)) >= number, f"dead letters about {text}", told=self.letters)
        found = self.letters_about(text)
        assert len(found) == number, found
        self._letters = [letter for letter in self._letters if letter not in found]
        self.taken += found
        return found

    def redrive(self, letter: Letter) -> None:
        """Send a dead letter back to the work queue as it is."""
        self.send(letter.body, letter.raw)

    def queued(self) -> int:
        """Messages in the work queue, in whatever state."""
        return self.stack.count(self.stack.work_queue_url)

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
    def environment(self, function_name: str = "", /, **variables: str) -> Iterator[None]:
        """A function, `terminate` unless said, with these variables; the emulator replaces its workers, as Lambda does.

        What they are doing is cut off, so nothing should be under way when the block begins or ends.
        """
        name = function_name or self.stack.terminate_function_name
        before = self.stack.aws.lambda_.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        with self._configured(name, Environment={"Variables": {**before, **variables}}):
            yield

    @contextmanager
    def time_limit(self, seconds: int) -> Iterator[None]:
        """The function with another Timeout; its workers are replaced too."""
        with self._configured(self.stack.terminate_function_name, Timeout=seconds):
            yield

    @contextmanager
    def _configured(self, name: str, **changes: Any) -> Iterator[None]:
        functions = self.stack.aws.lambda_
        configuration: Mapping[str, Any] = functions.get_function_configuration(FunctionName=name)
        before = {key: configuration[key] for key in changes}
        functions.update_function_configuration(FunctionName=name, **changes)
        try:
            yield
        finally:
            functions.update_function_configuration(FunctionName=name, **before)

    @contextmanager
    def second_function(
        self, name: str, *, handler: str = "", layers: Sequence[str] = (), **variables: str
    ) -> Iterator[str]:
        """The same artefact deployed once more, with other variables, and a handler and layers of its own if given.

        No queue feeds it: it is invoked by its name, which this yields. It logs to the same group, and sends what needs
        another try to the same work queue, where the first function finds it.
        """
        functions = self.stack.aws.lambda_
        first = functions.get_function_configuration(FunctionName=self.stack.terminate_function_name)
        functions.create_function(
            FunctionName=name,
            Runtime=first["Runtime"],
            Handler=handler or first["Handler"],
            Role=first["Role"],
            Timeout=first["Timeout"],
            MemorySize=first["MemorySize"],
            Environment={"Variables": {**first["Environment"]["Variables"], **variables}},
            LoggingConfig=first["LoggingConfig"],
            Layers=layers,
            Code={"ZipFile": self.artefact},
        )
        try:
            yield name
        finally:
            functions.delete_function(FunctionName=name)

    @cached_property
    def artefact(self) -> bytes:
        """The archive that the function runs from."""
        found = self.stack.aws.lambda_.get_function(FunctionName=self.stack.terminate_function_name)
        location = urlsplit(found["Code"]["Location"])
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.stack.aws.ca_bundle))),
        )
        # The emulator names plain http, though it speaks TLS alone.
        with opener.open(f"{self.stack.aws.endpoint_url}{location.path}?{location.query}", timeout=30) as answer:
            archive: bytes = answer.read()
        return archive

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

    def role_name(self, holder: str = "TerminateRole") -> str:
        """The name of a role by its name in the template."""
        functions = {"TerminateRole": self.stack.terminate_function_name, "SweepRole": self.stack.sweep_function_name}
        if holder in functions:
            role = self.stack.aws.lambda_.get_function_configuration(FunctionName=functions[holder])["Role"]
        else:
            role = self.stack.outputs[f"{holder}Arn"]
        return role.rpartition("/")[2]

    @contextmanager
    def without(self, sid: str, action: str, holder: str = "TerminateRole") -> Iterator[None]:
        """The role without an action of one statement."""

        def change(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
            (statement,) = (one for one in statements if one["Sid"] == sid)
            granted = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
            assert action in granted, f"{sid} does not grant {action}"
            left = [one for one in granted if one != action]
            others = [one for one in statements if one is not statement]
            return [*others, {**statement, "Action": left}] if left else others

        with self.statements(holder, change):
            yield

    @contextmanager
    def statements(self, holder: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Iterator[None]:
        """The role with what `change` makes of its policy's statements."""
        iam, role = self.stack.aws.iam, self.role_name(holder)
        (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
        document: Any = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        if changed := change(document["Statement"]):
            now = json.dumps({**document, "Statement": changed})
            iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=now)
        else:
            iam.delete_role_policy(RoleName=role, PolicyName=policy)
        try:
            yield
        finally:
            iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))

    def kill_workers(self, function_name: str = "") -> int:
        """End a function's execution environments, whatever they are doing; returns how many there were.

        When it returns they are dead, and the other ends of their connections know.
        """
        workers = self._workers(function_name)
        with ExitStack() as open_ones:
            # Not by the state in /proc: the first thread is a zombie while others still hold the pipes, and the parent
            # is told only when they are gone as well. That is when the descriptor becomes readable.
            descriptors = [os.pidfd_open(worker) for worker in workers]
            for descriptor in descriptors:
                open_ones.callback(os.close, descriptor)
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            for descriptor in descriptors:
                assert select.select([descriptor], [], [], PATIENCE_SECONDS)[0], "a worker does not die"
        return len(workers)

    def peak_memory(self) -> int:
        """The most bytes of memory that one of the function's execution environments has had at a time."""
        peaks = []
        for worker in self._workers():
            status = Path(f"/proc/{worker}/status").read_text()
            peaks += [int(kilobytes) * 1024 for kilobytes in re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)]
        return max(peaks)

    def _workers(self, function_name: str = "") -> list[int]:
        """Process ids of a function's execution environments."""
        name = function_name or self.stack.terminate_function_name
        place = f"{self.stack.directory}/scratch/ministack-lambda-{name}-"
        found = []
        for process in Path("/proc").iterdir():
            try:
                arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # no process, or one that has just ended
            if any(argument.startswith(place) for argument in arguments):
                found.append(int(process.name))
        return found
