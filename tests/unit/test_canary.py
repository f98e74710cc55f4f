"""The key turns up nowhere: every path is taken with a key that can be searched for, and then everything is searched.

Everything is what a function prints, what it tells AWS (messages, dead letters, events, items), what it answers, and
what it raises, which Lambda prints. The body of a dead letter, and of what is sent back to the work queue, is its
sender's own and stays as it came; where a sender wrote a key into one, everything else is searched.
"""

from __future__ import annotations

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

from redaction import Redactor
from runtime import runtime_for
from sweep import handler as sweep_handler
from terminate import handler
from terminate.outcomes import Outcome
from tests.unit.world import (
    DAYS,
    NOW,
    ORG_ID,
    SWITCH,
    Answer,
    Context,
    World,
    answer,
    client,
    page,
    page_v3,
    stale,
    stale_v3,
)

pytestmark = pytest.mark.thorough

# In every key, and in nothing else.
CANARY = "c4n4ry"
V1, ROTATED, V3 = f"apk_user_{CANARY}-0123456789", f"apk_user_{CANARY}-9876543210", f"cog_{CANARY}-0123456789"
NAMELESS = f"0123-{CANARY}-without-a-prefix"
# What a secret may hold, and the key in it.
SECRETS = {
    "bare, version 1": (V1, V1),
    "service_key": (json.dumps({"service_key": V3}), V3),
    "without a prefix": (NAMELESS, NAMELESS),
    "with what addresses escape": (f"x/{CANARY}+~=", f"x/{CANARY}+~="),
}


@dataclass
class Trace:
    """All that is left behind by the invocations of a test."""

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
        """An answer that has the key in its body and in its headers."""
        echoes = {
            name: self.echo.replace("\r\n", " ") for name in ("X_Echo", "Location", "Set_Cookie", "WWW_Authenticate")
        }
        return answer(status, {"detail": self.echo} if body is None else body, **echoes, **headers)

    def page(self, *ids: str, **fields: Any) -> Answer:
        """A listing of stale sessions of whichever version the key is."""
        made: Callable[..., dict[str, Any]] = stale_v3 if self.key.startswith("cog_") else stale
        paged = page_v3 if self.key.startswith("cog_") else page
        return paged(*(made(one, **fields) for one in ids), note=self.echo)

    def store(self, secret: str | bytes) -> None:
        given: Any = {"SecretString": secret} if isinstance(secret, str) else {"SecretBinary": secret}
        self.world.secrets.put_secret_value(SecretId=self.world.secret, **given)

    def queue(self, *bodies: str) -> list[str]:
        self.world.send(*bodies)
        return self.world.deliver()

    def invoke(self, event: object) -> Any:
        return self._run(lambda: self.world.invoke(event))

    def sweep(self, **policy: Any) -> Any:
        return self._run(lambda: self.world.sweep(**policy))

    def _run(self, call: Callable[[], object]) -> Any:
        try:
            said = call()
        except Exception as error:  # noqa: BLE001 - as Lambda does with whatever a handler raises
            self.errors.append(error)
            return error
        self.answers.append(said)
        return said

    def collect(self, *, senders_own: bool = False) -> dict[str, str]:
        """Everything by where it was found. `senders_own`: without bodies, because their sender wrote the key."""
        printed = self.capsys.readouterr()
        for line in printed.out.splitlines():
            self.outcomes.add(json.loads(line).get("outcome", ""))
        letters = self.world.receive(self.world.dead_letter_queue)
        self.letters += letters
        told: list[Any] = [call for call in self.world.aws.calls if not call[0].startswith("secretsmanager.")]
        if senders_own:
            letters = [letter["MessageAttributes"] for letter in letters]
            entries = [one for _, given in told for one in given.get("Entries", ())]
            told = [{name: value for name, value in one.items() if name != "MessageBody"} for one in entries]
        return {
            "printed": printed.out,
            "printed as errors": printed.err,
            "logged by libraries": "\n".join(map(self.caplog.handler.format, self._of_libraries())),
            "dead letters": json.dumps(letters, default=str),
            "events": json.dumps(self.world.aws.published),
            "items": json.dumps(self.world.remembered(), default=str),
            "told to AWS": json.dumps(told, default=str),
            "answers": json.dumps(self.answers),
            "raised": "".join("".join(traceback.format_exception(one)) for one in self.errors),
        }

    def _of_libraries(self) -> list[logging.LogRecord]:
        """Without the functions' own lines, which Powertools keeps from the root logger's handler."""
        return [one for one in self.caplog.records if one.name not in {"terminate", "sweep"}]

    def leaks(self, *, senders_own: bool = False) -> dict[str, str]:
        return {
            where: text[max(text.lower().find(CANARY) - 200, 0) :][:400]
            for where, text in self.collect(senders_own=senders_own).items()
            if CANARY in text.lower()
        }


@pytest.fixture
def traced(
    switch: World,
    table: World,  # noqa: ARG001
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> Trace:
    """A world with everything switched on that says something, and a function that knows no key yet."""
    # As Lambda's own handler of the root logger, which prints what libraries log.
    caplog.set_level(logging.INFO)
    secret, key = getattr(request, "param", SECRETS["bare, version 1"])
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
KINDS = ("service_key", "without a prefix", "with what addresses escape")
every_kind = pytest.mark.parametrize("traced", [SECRETS[one] for one in KINDS], ids=KINDS, indirect=True)
SINCE = "2026-11-02T00:00:00Z"


def _script(trace: Trace) -> list[str]:
    """Sessions for every outcome; each answer repeats the key wherever it can."""
    api, world = trace.world.api, trace.world
    made: Callable[..., dict[str, Any]] = stale_v3 if trace.key.startswith("cog_") else stale
    api.on("DELETE", "devin-ends", trace.said(200, {"detail": f"Session terminated: {trace.echo}"}))
    api.on("DELETE", "devin-rejected", trace.said(422))
    api.on("DELETE", "devin-complaints", trace.said(422, {"detail": [{"loc": [trace.key], "msg": trace.echo}]}))
    api.on("DELETE", "devin-problem", trace.said(404, {"title": trace.echo, "detail": trace.echo, "status": 404}))
    api.on("DELETE", "devin-page", trace.said(400, f"<h1>{trace.echo}</h1>"))
    api.on("DELETE", "devin-moved", trace.said(302))
    api.on("DELETE", "devin-alive", trace.said(409))
    api.on("GET", "devin-alive", trace.said(200, made("devin-alive", status=trace.key, status_enum=trace.key)))
    api.on("DELETE", "devin-exited", trace.said(409))
    api.on("GET", "devin-exited", trace.said(200, made("devin-exited", status="exit", status_enum="expired")))
    api.on("DELETE", "devin-forbidden", trace.said(403))
    api.on("DELETE", "devin-later", trace.said(503, trace.echo, Retry_After=trace.key))
    api.on("DELETE", "devin-garbled", requests.ConnectionError(trace.echo))
    api.on("DELETE", "devin-header", requests.exceptions.InvalidHeader(f"Header part ({trace.key!r})"))
    api.on("DELETE", "devin-bug", ZeroDivisionError(f"with {trace.key} in it"))
    world.api.before = lambda: None
    return [session_id for method, session_id in api.scripts if method == "DELETE"]


def _conditional(trace: Trace) -> list[str]:
    made: Callable[..., dict[str, Any]] = stale_v3 if trace.key.startswith("cog_") else stale
    api = trace.world.api
    api.on(
        "GET", "devin-used", trace.said(200, made("devin-used", idle=0 * DAYS, status=trace.key, status_enum=trace.key))
    )
    api.on("GET", "devin-dateless", trace.said(200, {"updated_at": trace.key, "status": trace.key}))
    api.on("GET", "devin-unread", trace.said(404))
    return [
        json.dumps({"session_id": one, "unless_updated_since": SINCE})
        for one in ("devin-used", "devin-dateless", "devin-unread")
    ]


@every_secret
def test_a_batch_in_which_everything_happens(traced: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, conditional = _script(traced), _conditional(traced)
    traced.queue(*ids, json.dumps({"session_ids": ids}), *conditional, "../x", "{", json.dumps({"session": "devin-1"}))
    monkeypatch.setenv("DRY_RUN", "true")
    traced.queue("devin-ends")
    assert traced.leaks() == {}
    assert traced.outcomes - {""} == set(Outcome) - {Outcome.UNAUTHORIZED, Outcome.ARCHIVED}
    letters = {letter["MessageAttributes"]["reason"]["StringValue"] for letter in traced.letters}
    assert letters >= {
        "invalid_message",
        "rejected_302",
        "rejected_400",
        "rejected_404",
        "rejected_409",
        "rejected_422",
    }
    assert len(traced.world.aws.published) > 2 * len(ids)


@every_kind
def test_an_event_in_which_everything_happens(traced: Trace) -> None:
    ids = _script(traced)
    detail_type = "Devin Session Termination Requested"
    traced.invoke({"source": "tests", "detail-type": detail_type, "detail": {"session_ids": ids}})
    traced.invoke({"session_ids": [*ids, "../x", 7]})
    payloads: list[Any] = [{"session_ids": []}, [], None, "devin-ends", {"detail": json.dumps({"session_ids": ids})}]
    for payload in payloads:
        traced.invoke(payload)
    assert not traced.errors
    for letter in traced.world.receive(traced.world.dead_letter_queue):
        traced.letters.append(letter)
        traced.queue(letter["Body"])
    assert traced.letters
    assert traced.leaks() == {}


@pytest.mark.fault(8)
@every_kind
def test_a_key_that_is_refused_and_one_that_was_rotated(traced: Trace) -> None:
    traced.world.api.good_keys = set()
    traced.queue("devin-1", "devin-2")
    traced.invoke({"session_id": "devin-1"})
    rotated = V3.replace("0123", "8642") if traced.key.startswith("cog_") else ROTATED
    traced.world.api.good_keys = {rotated}
    traced.store(rotated)
    assert traced.invoke({"session_ids": ["devin-3"]}) == {"terminated": ["devin-3"]}
    assert set(traced.world.api.keys) == {traced.key, rotated}
    # By now both are known, and the API repeats the older one.
    traced.world.api.on("DELETE", "devin-4", traced.said(422))
    traced.queue("devin-4")
    assert traced.leaks() == {}
    assert Outcome.UNAUTHORIZED in traced.outcomes


@pytest.mark.parametrize(
    "secret",
    [
        f"{V1}\n",
        f" {V1}",
        f"{V1}\u00e9",
        f'"{V1}"',
        f"API_KEY={V1}",
        f'{{"api_key": "{V1}"',
        json.dumps({"api_key": [V1]}),
        json.dumps({"key": V1}),
        json.dumps({"api_key": f"{V1} "}),
        V1.encode(),
        f"{V1}\r\nX-Other: 1",
    ],
)
def test_a_secret_that_holds_no_usable_key(traced: Trace, secret: str | bytes) -> None:
    traced.store(secret)
    traced.queue("devin-1")
    traced.invoke({"session_id": "devin-1"})
    assert isinstance(traced.sweep(idle_for="PT6H"), Exception)
    assert traced.leaks() == {}
    assert traced.world.api.calls == []


def _repeating(trace: Trace, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": "Unhappy", "Message": trace.echo}}, operation)


@every_kind
@pytest.mark.parametrize(
    "operation",
    [
        "sqs.SendMessageBatch",
        "sqs.ChangeMessageVisibilityBatch",
        "events.PutEvents",
        "ssm.GetParameter",
        "secretsmanager.GetSecretValue",
    ],
)
def test_aws_that_fails_with_the_key_in_its_words(traced: Trace, operation: str) -> None:
    ids = _script(traced)
    # Both functions know the key, and keep neither it nor the switch's word.
    traced.queue("devin-ends")
    traced.world.api.on("LIST", "", traced.page())
    traced.sweep(idle_for="PT6H")
    traced.world.send(*ids, json.dumps({"session_ids": ids}))
    batch = traced.world.batch()
    runtime_for.cache_clear()
    traced.world.aws.faults[operation] = _repeating(traced, operation)
    traced.invoke(batch)
    # A request of its own, because the function remembers those that it could not keep.
    traced.world.context = Context(request_id=f"canary-{operation}")
    failed = traced.invoke({"session_ids": ids})
    assert isinstance(failed, Exception) is (operation == "sqs.SendMessageBatch")
    traced.sweep(idle_for="PT6H", dry_run=False, max_share=1)
    traced.world.aws.faults.clear()
    assert traced.leaks() == {}


@every_kind
def test_a_sweep_of_sessions_that_have_the_key_in_every_field(traced: Trace) -> None:
    hostile = {
        "title": traced.echo,
        "tags": [traced.key, "nightly"],
        "status_detail": traced.echo,
        "requesting_user_email": traced.key,
        "user_id": traced.key,
        "pull_request": {"url": traced.echo},
        "url": traced.echo,
    }
    if not traced.key.startswith("cog_"):
        hostile |= {"status_enum": traced.key, "status": traced.key}
    traced.world.api.on("LIST", "", traced.page("devin-1", "devin-2", **hostile), traced.page())
    statuses = {} if traced.key.startswith("cog_") else {"statuses": [traced.key]}
    policy = {"idle_for": "PT6H", "tags": [traced.key], "users": [traced.key], **statuses, "max_share": 1}
    assert traced.sweep(**policy)["chosen"] == 2
    traced.world.api.on("LIST", "", traced.page("devin-1", "devin-2", **hostile), traced.page())
    assert traced.sweep(**policy, notify_first="PT1H", dry_run=False)["announced"] == 2
    traced.world.now += timedelta(hours=2)
    traced.world.api.on("LIST", "", traced.page("devin-1", "devin-2", **hostile), traced.page())
    traced.sweep(**policy, notify_first="PT1H", dry_run=False)
    assert traced.leaks() == {}
    assert len(traced.world.remembered()) == 2
    assert traced.world.aws.published


@every_kind
def test_a_listing_that_has_the_key_for_an_id(traced: Trace) -> None:
    names = (f"devin-{traced.key}", traced.key, "devin-1", f"devin-x{traced.key}x")
    traced.world.api.on("LIST", "", traced.page(*names), traced.page())
    report = traced.sweep(idle_for="PT6H", max_share=1, dry_run=False)
    assert traced.leaks() == {}
    assert report["chosen"] == 1
    assert report["kept"]["no session id"] == 3


@every_kind
def test_a_sweep_that_fails(traced: Trace) -> None:
    api = traced.world.api
    for said in (
        traced.said(401),
        traced.said(403),
        traced.said(500, traced.echo),
        traced.said(302),
        traced.said(200, traced.echo),
        traced.said(200, {"sessions": traced.echo, "items": traced.echo}),
        traced.said(200, {"items": [], "has_next_page": traced.key, "end_cursor": 1, "sessions": traced.key}),
        requests.ConnectionError(traced.echo),
        ZeroDivisionError(f"with {traced.key} in it"),
        page(Date="x"),
        answer(200, page()[2], Date=f"{NOW - DAYS:%a, %d %b %Y %H:%M:%S} {traced.key}"),
    ):
        api.on("LIST", "", said)
        traced.sweep(idle_for="PT6H", dry_run=False)
    assert len(traced.errors) >= 9
    assert traced.leaks() == {}


@every_kind
@pytest.mark.parametrize(
    "operation", ["dynamodb.BatchGetItem", "dynamodb.BatchWriteItem", "events.PutEvents", "sqs.SendMessageBatch"]
)
def test_a_sweep_whose_writes_fail_with_the_key_in_their_words(traced: Trace, operation: str) -> None:
    policy: dict[str, Any] = {"idle_for": "PT6H", "max_share": 1, "dry_run": False}
    if operation != "sqs.SendMessageBatch":
        policy["notify_first"] = "PT1H"
    traced.world.api.on("LIST", "", traced.page("devin-1"), traced.page())
    traced.world.aws.faults[operation] = _repeating(traced, operation)
    assert isinstance(traced.sweep(**policy), Exception)
    traced.world.aws.faults.clear()
    assert traced.leaks() == {}


def test_a_sweep_that_is_refused_or_stopped(traced: Trace) -> None:
    ids = [f"devin-{number}" for number in range(20)]
    traced.world.api.on("LIST", "", traced.page(*ids, title=traced.echo), traced.page())
    assert isinstance(traced.sweep(idle_for="PT6H", max_sessions=3, dry_run=False), Exception)
    traced.world.switch("stop")
    assert traced.sweep(idle_for="PT6H", dry_run=False)["mode"] == "stopped"
    traced.queue("devin-1")
    assert traced.leaks() == {}


@every_kind
def test_a_bug_outside_of_everything(traced: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(traced.echo)

    traced.queue("devin-1")
    traced.world.api.on("LIST", "", traced.page())
    traced.sweep(idle_for="PT6H")
    monkeypatch.setattr(handler, "report", fail)
    monkeypatch.setattr(sweep_handler, "_publish", fail)
    for said in (traced.invoke({"session_id": "devin-1"}), traced.sweep(idle_for="PT6H")):
        assert re.match(r"ZeroDivisionError: Authorization: (Bearer )?\[redacted\]", str(said))
    assert traced.leaks() == {}


# What people put where it does not belong. The function has read no key yet: a key that looks like one is masked all
# the same, and one that does not is not repeated.


@pytest.mark.parametrize("key", [V1, V3, f"Bearer {V1}"])
def test_a_key_in_a_message(traced: Trace, key: str) -> None:
    payloads: list[Any] = [
        key,
        {"session_id": key},
        {"session_ids": [key, "devin-1"]},
        {"session_ids": [[key]]},
        {"session_id": f"devin-{key}"},
        {"session_id": "devin-1", key: "x"},
        {"session_id": "devin-1", "unless_updated_since": key},
        {"Authorization": key, "detail": {"session_id": "devin-1"}},
        {"detail": {"session_id": "devin-1", "Authorization": key}},
    ]
    traced.world.api.on("DELETE", f"devin-{key}", traced.said(422))
    for payload in payloads:
        traced.queue(payload if isinstance(payload, str) else json.dumps(payload))
        traced.invoke(payload)
    names = ("source", "attempts", "reason", "detail")
    traced.world.sqs.send_message(
        QueueUrl=traced.world.work_queue,
        MessageBody="devin-1",
        MessageAttributes={name: {"DataType": "String", "StringValue": key} for name in names},
    )
    traced.world.aws.forget()
    traced.world.deliver()
    assert traced.leaks(senders_own=True) == {}
    # As the sender wrote it: there it can be seen, mended and sent again.
    assert any(key in letter["Body"] for letter in traced.letters)


@pytest.mark.parametrize("key", [V1, V3])
def test_a_key_in_a_policy(traced: Trace, key: str) -> None:
    policies: list[dict[str, Any]] = [
        {key: "x"},
        {"idle_for": key},
        {"tags": key},
        {"users": [key, ""]},
        {"title_matches": f"^{key}"},
        {"idle_for": "PT6H", "api_key": key},
        {"max_sessions": key, "idle_for": "PT6H"},
    ]
    assert all(isinstance(traced.sweep(**policy), Exception) for policy in policies)
    assert traced.leaks() == {}


@pytest.mark.parametrize("variable", ["DEVIN_API_URL", "DEVIN_ORG_ID", "MAX_WORKERS", "DRY_RUN"])
def test_a_key_in_a_setting(traced: Trace, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, f"{V1} https://{V1}@example.com")
    assert isinstance(traced.invoke({"session_id": "devin-1"}), Exception)
    assert isinstance(traced.sweep(idle_for="PT6H"), Exception)
    assert traced.leaks() == {}


def test_a_key_in_the_stop_switch(traced: Trace) -> None:
    client("ssm").put_parameter(Name=SWITCH, Value=V1, Type="String", Overwrite=True)
    traced.world.aws.forget()
    traced.queue("devin-1")
    assert traced.sweep(idle_for="PT6H")["mode"] == "stopped"
    assert traced.leaks() == {}


# And the search itself: without the redaction, it finds the key everywhere.


@pytest.mark.parametrize("traced", [SECRETS["without a prefix"]], indirect=True)
def test_the_search_finds_what_is_not_masked(traced: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Redactor, "__call__", lambda _, text: text)
    traced.queue(*_script(traced))
    traced.invoke({"session_id": V1})
    policy = {"idle_for": "PT6H", "tags": [V1], "max_share": 1, "notify_first": "PT1H", "dry_run": False}
    traced.world.api.on("LIST", "", traced.page(f"devin-{traced.key}", tags=[V1]), traced.page())
    traced.sweep(**policy)
    traced.world.api.on("LIST", "", traced.said(500))
    traced.sweep(**policy)
    logging.getLogger("library").info("with %s", V1)
    assert traced.leaks().keys() == traced.collect().keys() - {"printed as errors"}
