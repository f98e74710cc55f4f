"""The key is never shown: every path is taken with a key that can be searched for, and then everything is searched.

Everything is what a function prints, what it sends to AWS (messages, dead letters, events, items), what it answers and
what it raises, which Lambda prints. The body of a dead letter stays as its sender wrote it; if the sender wrote a key
into it, everything else is searched.
"""

import json
import logging
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
import requests
from botocore.exceptions import ClientError

from runtime import runtime_for
from sweep import handler as sweep_handler
from terminate import handler
from terminate.outcomes import Outcome
from tests.unit.world import DAYS, ORG_ID, SWITCH, Answer, World, answer, client, page, page_v3, stale, stale_v3

pytestmark = pytest.mark.thorough

# In every key, and in nothing else.
CANARY = "c4n4ry"
V1, V3, ROTATED = f"apk_user_{CANARY}-0123456789", f"cog_{CANARY}-0123456789", f"cog_{CANARY}-9876543210"
WITHOUT_PREFIX = f"0123-{CANARY}-without-a-prefix"
ESCAPED = f"x{CANARY}/+.~=="
# What the secret holds, and the key in it.
SECRETS = {
    "version 1": (json.dumps({"api_key": V1}), V1),
    "version 3": (V3, V3),
    "without a prefix": (WITHOUT_PREFIX, WITHOUT_PREFIX),
    "with what JSON and addresses escape": (ESCAPED, ESCAPED),
}
POLICY: dict[str, Any] = {"idle_for": "PT6H", "max_share": 1}


@dataclass
class Trace:
    """All that the invocations of a test left."""

    world: World
    capsys: pytest.CaptureFixture[str]
    caplog: pytest.LogCaptureFixture
    key: str
    answers: list[object] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    letters: list[Any] = field(default_factory=list)
    outcomes: set[str] = field(default_factory=set)

    @property
    def echo(self) -> str:
        """What a hostile API says: the key in every form that it has."""
        escaped = json.dumps(self.key)[1:-1]
        return f"Authorization: Bearer {self.key} {self.key.upper()} {escaped} {quote(self.key, safe='')}\r\n{self.key}"

    def said(self, status: int, body: object = None, **headers: str) -> Answer:
        """An answer with the key in its body and in its headers."""
        names = ("X_Echo", "Location", "Set_Cookie", "WWW_Authenticate")
        echoes = {name: self.echo.replace("\r\n", " ") for name in names}
        return answer(status, {"detail": self.echo} if body is None else body, **echoes, **headers)

    def session(self, session_id: str, **fields: Any) -> dict[str, Any]:
        """A stale session of the key's version."""
        made: Callable[..., dict[str, Any]] = stale_v3 if self.key.startswith("cog_") else stale
        return made(session_id, **fields)

    def page(self, *ids: str, **fields: Any) -> Answer:
        paged = page_v3 if self.key.startswith("cog_") else page
        return paged(*(self.session(one, **fields) for one in ids), note=self.echo)

    def store(self, secret: str | bytes) -> None:
        given: Any = {"SecretString": secret} if isinstance(secret, str) else {"SecretBinary": secret}
        self.world.secrets.put_secret_value(SecretId=self.world.secret, **given)

    def queue(self, *bodies: str) -> None:
        self.world.send(*bodies)
        self.world.deliver()

    def invoke(self, event: object) -> Any:
        return self._run(lambda: self.world.invoke(event))

    def sweep(self, **policy: Any) -> Any:
        return self._run(lambda: self.world.sweep(**policy))

    def _run(self, call: Callable[[], object]) -> Any:
        try:
            said = call()
        except Exception as error:  # noqa: BLE001 - as Lambda does
            self.errors.append(error)
            return error
        self.answers.append(said)
        return said

    def collect(self, *, senders_own: bool = False) -> dict[str, str]:
        """Everything by where it was found. `senders_own`: without bodies, because their sender wrote the key."""
        printed = self.capsys.readouterr()
        self.outcomes |= {json.loads(line).get("outcome", "") for line in printed.out.splitlines()}
        letters = self.world.receive(self.world.dead_letter_queue)
        self.letters += letters
        calls = [call for call in self.world.aws.calls if not call[0].startswith("secretsmanager.")]
        if senders_own:
            letters = [letter["MessageAttributes"] for letter in letters]
            calls = [
                (name, {key: value for key, value in given.items() if key not in {"MessageBody", "Entries"}})
                for name, given in calls
            ]
        # Powertools keeps the functions' own lines from the root logger.
        logged = [one for one in self.caplog.records if one.name not in {"terminate", "sweep"}]
        return {
            "printed": printed.out,
            "printed as errors": printed.err,
            "logged by libraries": "\n".join(map(self.caplog.handler.format, logged)),
            "dead letters": json.dumps(letters, default=str),
            "events": json.dumps(self.world.aws.published),
            "items": json.dumps(self.world.remembered(), default=str),
            "calls of AWS": json.dumps(calls, default=str),
            "answers": json.dumps(self.answers),
            "raised": "".join("".join(traceback.format_exception(one)) for one in self.errors),
        }

    def leaks(self, *, senders_own: bool = False) -> dict[str, str]:
        return {
            where: text[max(text.lower().find(CANARY) - 200, 0) :][:400]
            for where, text in self.collect(senders_own=senders_own).items()
            if CANARY in text.lower()
        }


@pytest.fixture
def traced(
    switch: World,
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> Trace:
    """A world with everything switched on, and a function that knows no key yet."""
    # As Lambda's handler of the root logger, which prints what libraries log.
    caplog.set_level(logging.INFO)
    secret, key = getattr(request, "param", SECRETS["version 1"])
    for name, value in (("PUBLISH_OUTCOMES", "true"), ("DEVIN_ORG_ID", ORG_ID), ("ARCHIVE", "true")):
        monkeypatch.setenv(name, value)
    for module in (handler, sweep_handler):
        monkeypatch.setattr(module.redact, "_keys", frozenset())
        monkeypatch.setattr(module.redact, "_pattern", None)
    trace = Trace(switch, capsys, caplog, key)
    trace.store(secret)
    switch.aws.forget()
    return trace


every_secret = pytest.mark.parametrize("traced", SECRETS.values(), ids=SECRETS, indirect=True)
KINDS = ("version 3", "with what JSON and addresses escape")
both_kinds = pytest.mark.parametrize("traced", [SECRETS[one] for one in KINDS], ids=KINDS, indirect=True)


def _script(trace: Trace) -> list[str]:
    """Sessions for every outcome; each answer repeats the key wherever it can."""
    answers: dict[str, Answer | Exception] = {
        "devin-ends": trace.said(200, {"detail": "Session terminated successfully", "note": trace.echo}),
        "devin-unclear": trace.said(200, {"detail": f"Session terminated {trace.echo}"}),
        "devin-rejected": trace.said(422),
        "devin-complaints": trace.said(422, {"detail": [{"loc": [trace.key], "msg": trace.echo}]}),
        "devin-problem": trace.said(404, {"title": trace.echo, "detail": trace.echo, "status": 404}),
        "devin-page": trace.said(400, f"<h1>{trace.echo}</h1>"),
        "devin-moved": trace.said(302),
        "devin-alive": trace.said(409),
        "devin-exited": trace.said(409),
        "devin-forbidden": trace.said(403),
        "devin-later": trace.said(503, trace.echo, Retry_After=trace.key),
        "devin-garbled": requests.ConnectionError(trace.echo),
        "devin-header": requests.exceptions.InvalidHeader(f"Header part ({trace.key!r})"),
        "devin-bug": ZeroDivisionError(f"with {trace.key} in it"),
    }
    for session_id, said in answers.items():
        trace.world.api.on("DELETE", session_id, said)
    status = {"status": trace.key, "status_enum": trace.key}
    shown = {
        "devin-alive": trace.session("devin-alive", **status),
        "devin-exited": trace.session("devin-exited", status="exit", status_enum="expired"),
        "devin-used": trace.session("devin-used", idle=0 * DAYS, **status),
        "devin-dateless": {"updated_at": trace.key, "status": trace.key},
    }
    for session_id, fields in shown.items():
        trace.world.api.on("GET", session_id, trace.said(200, fields))
    return list(answers)


@every_secret
def test_batches_and_events_with_every_outcome(traced: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = _script(traced)
    conditional = [
        json.dumps({"session_id": one, "unless_updated_since": "2026-11-02T00:00:00Z"})
        for one in ("devin-used", "devin-dateless", "devin-alive")
    ]
    traced.queue(*ids, json.dumps({"session_ids": ids}), *conditional, "../x", "{", json.dumps({"session": "devin-1"}))
    monkeypatch.setenv("DRY_RUN", "true")
    traced.queue("devin-ends")
    monkeypatch.delenv("DRY_RUN")
    payloads: list[Any] = [{"detail": {"session_ids": ids}}, {"session_ids": [*ids, "../x", 7]}, []]
    for payload in payloads:
        traced.invoke(payload)
    assert not traced.errors
    assert traced.leaks() == {}
    assert traced.outcomes - {""} == set(Outcome) - {Outcome.UNAUTHORIZED, Outcome.ARCHIVED}
    letters = {letter["MessageAttributes"]["reason"]["StringValue"] for letter in traced.letters}
    assert letters == {"invalid_message", *(f"rejected_{status}" for status in (302, 400, 404, 409, 422))}
    assert len(traced.world.aws.published) > 2 * len(ids)


@pytest.mark.fault(8)
@both_kinds
def test_a_key_that_is_refused_and_one_that_was_rotated(traced: Trace) -> None:
    traced.world.api.good_keys = set()
    traced.queue("devin-1", "devin-2")
    traced.invoke({"session_id": "devin-1"})
    traced.world.api.good_keys = {ROTATED}
    traced.store(ROTATED)
    assert traced.invoke({"session_ids": ["devin-3"]}) == {"terminated": ["devin-3"]}
    assert set(traced.world.api.keys) == {traced.key, ROTATED}
    # Both are known now, and the API repeats the older one.
    traced.world.api.on("DELETE", "devin-4", traced.said(422))
    traced.queue("devin-4")
    assert traced.leaks() == {}
    assert Outcome.UNAUTHORIZED in traced.outcomes


@pytest.mark.parametrize(
    "secret", [f"{V1}\u00e9", f'{{"api_key": "{V1}"', json.dumps({"key": V1}), V1.encode(), f"{WITHOUT_PREFIX}\t"]
)
def test_a_secret_without_a_usable_key(traced: Trace, secret: str | bytes) -> None:
    traced.store(secret)
    traced.queue("devin-1")
    traced.invoke({"session_id": "devin-1"})
    assert isinstance(traced.sweep(**POLICY), Exception)
    assert traced.leaks() == {}
    assert traced.world.api.calls == []


@pytest.mark.parametrize("traced", [SECRETS["with what JSON and addresses escape"]], indirect=True)
@pytest.mark.parametrize(
    "operation",
    ["sqs.SendMessage", "sqs.ChangeMessageVisibility", "events.PutEvents", "ssm.GetParameter",
     "secretsmanager.GetSecretValue", "dynamodb.BatchGetItem", "dynamodb.BatchWriteItem"],
)  # fmt: skip
def test_aws_that_fails_with_the_key_in_its_message(traced: Trace, operation: str) -> None:
    ids = _script(traced)
    # Both functions know the key, and cache neither it nor what the switch says.
    traced.queue("devin-ends")
    traced.world.api.on("LIST", "", traced.page("devin-1"), traced.page())
    traced.sweep(**POLICY)
    traced.world.send(*ids, json.dumps({"session_ids": ids}))
    batch = traced.world.batch()
    runtime_for.cache_clear()
    error = ClientError({"Error": {"Code": "Unhappy", "Message": traced.echo}}, operation)
    traced.world.aws.faults[operation] = error
    traced.invoke(batch)
    failed = traced.invoke({"session_ids": ids})
    assert isinstance(failed, Exception) is (operation == "sqs.SendMessage")
    for notify in ({}, {"notify_first": "PT1H"}):
        traced.world.api.on("LIST", "", traced.page("devin-1"), traced.page())
        traced.sweep(**POLICY, **notify, dry_run=False)
    traced.world.aws.faults.clear()
    assert traced.leaks() == {}


@both_kinds
def test_a_sweep_of_sessions_with_the_key_in_every_field(traced: Trace) -> None:
    v3 = traced.key.startswith("cog_")
    hostile = {
        "title": traced.echo,
        "tags": [traced.key, "nightly"],
        "status_detail": traced.echo,
        "requesting_user_email": traced.key,
        "user_id": traced.key,
        "pull_request": {"url": traced.echo},
        "url": traced.echo,
    } | ({} if v3 else {"status_enum": traced.key, "status": traced.key})
    ids = ("devin-1", f"devin-{traced.key}", traced.key, f"devin-x{traced.key}x")
    policy = POLICY | {"tags": [traced.key], "users": [traced.key], **({} if v3 else {"statuses": [traced.key]})}
    notices = policy | {"notify_first": "PT1H", "dry_run": False}
    reports = []
    for given in (policy, notices, notices, notices | {"max_sessions": 1, "max_share": 0.001}):
        traced.world.api.on("LIST", "", traced.page(*ids, **hostile), traced.page())
        reports.append(traced.sweep(**given))
        traced.world.now += timedelta(hours=2)
    assert traced.leaks() == {}
    assert [report["chosen"] for report in reports[:3]] == [1, 1, 1]
    assert reports[0]["kept"]["no session id"] == 3
    assert [reports[1]["announced"], reports[2]["enqueued"]] == [1, 1]
    assert isinstance(reports[3], Exception)


@both_kinds
def test_a_bug_in_the_handler_itself(traced: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(traced.echo)

    traced.queue("devin-1")
    traced.world.api.on("LIST", "", traced.page())
    traced.sweep(**POLICY)
    monkeypatch.setattr(handler, "report", fail)
    monkeypatch.setattr(sweep_handler, "_publish", fail)
    for said in (traced.invoke({"session_id": "devin-1"}), traced.sweep(**POLICY)):
        assert re.match(r"ZeroDivisionError: Authorization: (Bearer )?\[redacted\]", str(said))
    assert traced.leaks() == {}


# Keys that people put in the wrong place, before the function has read the secret.


@pytest.mark.parametrize(
    "payload",
    [
        V1,
        {"session_ids": [V1, "devin-1", V3]},
        {"session_id": f"devin-{V1}"},
        {"session_id": "devin-1", V1: "x", "api_key": f"Bearer {V1}"},
        {"session_id": "devin-1", "unless_updated_since": V3},
        {"Authorization": V3, "detail": {"session_id": "devin-1", "Authorization": V1}},
    ],
)
def test_a_key_in_a_message_or_its_attributes(traced: Trace, payload: Any) -> None:
    names = ("source", "attempts", "reason", "sweep_run")
    attributes: Any = {name: {"DataType": "String", "StringValue": V3} for name in names}
    traced.world.sqs.send_message(QueueUrl=traced.world.work_queue, MessageBody="devin-1", MessageAttributes=attributes)
    traced.world.aws.forget()
    for session_id in ("devin-1", f"devin-{V1}"):
        traced.world.api.on("DELETE", session_id, traced.said(422))
    traced.queue(payload if isinstance(payload, str) else json.dumps(payload))
    traced.invoke(payload)
    traced.invoke({"detail": payload})
    assert traced.leaks(senders_own=True) == {}


def test_a_key_in_a_policy_a_setting_or_the_switch(traced: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    policies: list[dict[str, Any]] = [
        {V1: "x"},
        {"idle_for": V3},
        {"users": [V1, ""]},
        {"title_matches": f"^[{V1}"},
        {"max_sessions": V1, "idle_for": "PT6H"},
    ]
    for policy in policies:
        assert isinstance(traced.sweep(**policy), Exception)
    for variable in ("DEVIN_API_URL", "DEVIN_ORG_ID", "MAX_WORKERS", "DRY_RUN"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, f"{V1} https://{V1}@example.com")
            assert isinstance(traced.invoke({"session_id": "devin-1"}), Exception)
            assert isinstance(traced.sweep(**POLICY), Exception)
    client("ssm").put_parameter(Name=SWITCH, Value=V1, Type="String", Overwrite=True)
    traced.world.aws.forget()
    traced.queue("devin-1")
    assert traced.sweep(**POLICY)["mode"] == "stopped"
    assert traced.leaks() == {}
