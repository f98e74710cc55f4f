"""A hostile API, over sockets: only a 2xx that says so is an end, and what the API says is one short line without the
key in logs and dead letters."""

import gzip
import json
import re

import pytest

from devin.http import Transport
from infra.local.fake_devin import FakeDevin, Fault, faults
from tests.contract.keys import V1_KEY
from tests.in_memory import Function, batch

MEGABYTE = 1_000_000
# What a log line and the attributes of a dead letter have at most: the detail, a thousand characters, and the rest.
LINE_CHARACTERS, ATTRIBUTE_BYTES = 16_000, 5_000


@pytest.fixture
def function(api: FakeDevin) -> Function:
    api.add_sessions("devin-a", "devin-b")
    return Function(Transport(api.url), V1_KEY)


def deliver(function: Function) -> list[str]:
    """Invoke it with both ids; the messages that it keeps."""
    answered = function.invoke(batch({"body": "devin-a"}, {"body": "devin-b"}))
    return [item["itemIdentifier"] for item in answered["batchItemFailures"]]


def fine(body: bytes | str, **headers: str) -> Fault:
    """A 200 with this body, and these headers with underscores."""
    return Fault(status=200, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


JSON = {"Content_Type": "application/json"}


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("answer", "confirms"),
    [
        (fine(""), True),
        (fine(json.dumps({"detail": "x", "status_code": 422})), False),
        (fine("<html>done</html>", Content_Type="text/html"), False),
        (fine("{", **JSON), False),
        (fine("[" * 100_000, **JSON), False),
        (fine(b"\xff\xfe\x00\x80", Content_Type="application/json; charset=utf-8"), False),
        (fine(gzip.compress(b"{}")[:-5], Content_Encoding="gzip"), False),
        (faults.gzip_bomb(100 * MEGABYTE), False),
        (Fault(status=200, body="x" * MEGABYTE, framing="chunked"), False),
    ],
)
def test_a_200_ends_a_session_only_if_it_says_so(
    api: FakeDevin, function: Function, answer: Fault, *, confirms: bool
) -> None:
    api.script(answer, session_id="devin-a", operation="terminate")
    assert deliver(function) == ([] if confirms else ["m-0"])
    outcomes = {line["session_id"]: line["outcome"] for line in function.lines()}
    assert outcomes == {"devin-a": "terminated" if confirms else "retry", "devin-b": "terminated"}
    assert function.sqs.writes == []
    looks = [call.session_id for call in api.calls() if call.operation == "get"]
    assert looks == ([] if confirms else ["devin-a"])


DETAILS = {
    "a megabyte": "x" * MEGABYTE,
    "a megabyte of escapes": "\x1b[31m" * (MEGABYTE // 5),
    "a megabyte of keys": f"{V1_KEY} " * (MEGABYTE // 30),
    "a forged line": 'no\r\n{"level":"INFO","message":"terminated","session_id":"devin-z"}\r\n',
    "controls": "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029\u202e\ufeff\ufffe\uffff",
    "a lone surrogate": "\ud83d",
    "a key at the cut": "x" * 990 + V1_KEY,
    "a key in other letters": V1_KEY.upper(),
    "a key in pieces": f"key: {V1_KEY[:12]}\r\n{V1_KEY[12:]}",
    "a key in JSON": json.dumps({"authorization": f"Bearer {V1_KEY}"}),
}


@pytest.mark.fault(31)
@pytest.mark.parametrize(
    ("said", "form"),
    [(name, "detail") for name in DETAILS] + [("a megabyte of keys", form) for form in ("list", "title", "text")],
)
def test_what_the_api_says_is_one_short_line(api: FakeDevin, function: Function, said: str, form: str) -> None:
    said = DETAILS[said]
    body: object = {
        "detail": {"detail": said},
        "list": {"detail": [{"loc": ["path", said[:1000]], "msg": said}] * 3},
        "title": {"title": said, "detail": said},
    }.get(form)
    text = said if body is None else json.dumps(body)
    api.script(Fault(status=422, body=text), session_id="devin-a")
    api.script(Fault(status=500, body=text), session_id="devin-b")

    assert deliver(function) == ["m-1"]

    lines = function.lines()
    assert sorted(line["outcome"] for line in lines) == ["rejected", "retry"]
    printed = function.log.getvalue()
    assert all(len(line) < LINE_CHARACTERS and json.loads(line) for line in printed.splitlines())
    assert V1_KEY.lower() not in printed.lower()
    (letter,) = function.written("dead")
    assert letter.body == "devin-a"
    assert len("".join(letter.attributes.values()).encode()) < ATTRIBUTE_BYTES
    assert letter.attributes["reason"] == "rejected_422"
    for detail in (letter.attributes.get("detail", ""), *(line.get("detail", "") for line in lines)):
        assert len(detail) <= 1000
        assert V1_KEY[:12].lower() not in detail.lower(), "of a key in pieces the piece with its mark is masked"
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202e\ud800-\udfff]", detail)


def test_the_status_of_a_session_is_one_short_line_too(api: FakeDevin, function: Function) -> None:
    for session_id, status in (("devin-a", "working\r\n\x1b[2J" + "x" * 200), ("devin-b", f"of {V1_KEY}")):
        api.script(Fault(status=409, body="{}"), method="DELETE", session_id=session_id)
        shown = json.dumps({"session_id": session_id, "status_enum": status})
        api.script(Fault(status=200, body=shown), method="GET", session_id=session_id)
    assert deliver(function) == []
    long, key = (letter.attributes["session_status"] for letter in function.written("dead"))
    assert len(long) <= 100
    assert "\x1b" not in long
    assert V1_KEY not in key + function.log.getvalue()
