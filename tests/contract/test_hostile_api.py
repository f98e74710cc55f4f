"""The function against an API that answers with whatever it likes, over sockets: sessions that ended count as ended,
lines stay lines, and neither logs nor dead letters take more of it than they should."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator

import pytest

from infra.local.fake_devin import FakeDevin, Fault, faults
from tests.contract.aws import size
from tests.contract.caller import V1_KEY
from tests.contract.functions import Functions, functions

MEGABYTE = 1_000_000
# What a log line and the attributes of a dead letter have at most: the detail, a thousand characters, and the rest.
LINE_CHARACTERS, ATTRIBUTE_BYTES = 16_000, 5_000


@pytest.fixture
def world(api: FakeDevin, monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    api.add_sessions("devin-a", "devin-b")
    with functions(api, monkeypatch) as made:
        yield made


def fine(body: bytes | str, **headers: str) -> Fault:
    """A 200 with this body, and these headers with underscores."""
    return Fault(status=200, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


JSON = {"Content_Type": "application/json"}


@pytest.mark.parametrize(
    ("answer", "confirms"),
    [
        (fine(""), True),
        (fine(json.dumps({"detail": "x", "status_code": 422})), False),
        (fine("OK"), False),
        (fine("<html>done</html>", Content_Type="text/html"), False),
        (fine("{", **JSON), False),
        (fine("[" * 100_000, **JSON), False),
        (fine(b"\xff\xfe\x00\x80", Content_Type="application/json; charset=utf-8"), False),
        (fine("{}", Content_Type="application/json; charset=no-such-thing"), False),
        (fine("{}", Content_Encoding="gzip"), False),
        (fine("{}", Content_Encoding="br"), False),
        (fine(gzip.compress(b"{}")[:-5], Content_Encoding="gzip"), False),
        (fine(gzip.compress(b"{}")), False),
        (faults.gzip_bomb(100 * MEGABYTE), False),
        (faults.huge(10 * MEGABYTE), False),
        (Fault(kind="endless", framing="length", status=200), False),
        (Fault(status=200, body="x" * MEGABYTE, framing="chunked"), False),
        (Fault(status=200, body="x" * MEGABYTE, framing="close"), False),
    ],
)
def test_a_200_ends_a_session_only_if_it_says_so(world: Functions, answer: Fault, *, confirms: bool) -> None:
    world.api.script(answer, session_id="devin-a", operation="terminate")
    assert world.deliver("devin-a", "devin-b") == ([] if confirms else ["0"])
    outcomes = {line["session_id"]: line["outcome"] for line in world.log() if "outcome" in line}
    assert outcomes == {"devin-a": "terminated" if confirms else "retry", "devin-b": "terminated"}
    assert world.aws.messages == []
    looks = [call.session_id for call in world.api.calls() if call.operation == "get"]
    assert looks == ([] if confirms else ["devin-a"])


SPLIT = f"key: {V1_KEY[:12]}\r\n{V1_KEY[12:]}"
DETAILS = {
    "a megabyte": "x" * MEGABYTE,
    "a megabyte of line breaks": "\r\n" * (MEGABYTE // 2),
    "a megabyte of escapes": "\x1b[31m" * (MEGABYTE // 5),
    "a megabyte of wide letters": "\U0001f4a9" * (MEGABYTE // 4),
    "a megabyte of keys": f"{V1_KEY} " * (MEGABYTE // 30),
    "a forged line": 'no\r\n{"level":"INFO","message":"terminated","session_id":"devin-z"}\r\n',
    "controls": "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029\u202e\ufeff\ufffe\uffff",
    "a lone surrogate": "\ud83d",
    "a key": f"Bearer {V1_KEY}",
    "a key at the cut": "x" * 990 + V1_KEY,
    "a key in other letters": V1_KEY.upper(),
    "a key in pieces": SPLIT,
    "a key in JSON": json.dumps({"authorization": f"Bearer {V1_KEY}"}),
}


@pytest.mark.parametrize("form", ["detail", "list", "title", "text"])
@pytest.mark.parametrize("said", DETAILS.values(), ids=DETAILS)
def test_what_the_api_says_is_one_short_line(world: Functions, said: str, form: str) -> None:
    body: object = {
        "detail": {"detail": said},
        "list": {"detail": [{"loc": ["path", said[:1000]], "msg": said}] * 3},
        "title": {"title": said, "detail": said},
    }.get(form)
    text = said if body is None else json.dumps(body)
    world.api.script(Fault(status=422, body=text), session_id="devin-a")
    world.api.script(Fault(status=500, body=text), session_id="devin-b")

    assert world.deliver("devin-a", "devin-b") == ["1"]

    lines = world.log()
    assert sorted(line["outcome"] for line in lines) == ["rejected", "retry"]
    printed = world.printed.getvalue()
    assert len(printed.splitlines()) == 2, "a line for each id"
    assert all(len(line) < LINE_CHARACTERS for line in printed.splitlines())
    assert V1_KEY.lower() not in printed.lower()
    (letter,) = world.aws.sent_to("dead-letters")
    assert letter.body == "devin-a"
    typed = {name: {"DataType": "String", "StringValue": value} for name, value in letter.attributes.items()}
    assert size("", typed) < ATTRIBUTE_BYTES
    assert letter.attributes["reason"] == "rejected_422"
    for detail in (letter.attributes.get("detail", ""), *(line.get("detail", "") for line in lines)):
        assert len(detail) <= 1000
        assert V1_KEY.lower() not in detail.lower()
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202e\ud800-\udfff]", detail)


def test_of_a_key_in_pieces_the_piece_with_its_mark_is_masked(world: Functions) -> None:
    world.api.script(Fault(status=422, body=json.dumps({"detail": SPLIT})))
    world.deliver("devin-a")
    (letter,) = world.aws.sent_to("dead-letters")
    assert V1_KEY[:12] not in letter.attributes["detail"]


def test_a_status_of_a_session_is_held_to_the_same(world: Functions) -> None:
    world.api.script(Fault(status=409, body="{}"), method="DELETE")
    status = "working\r\n\x1b[2J" + "x" * 200 + V1_KEY
    world.api.script(Fault(status=200, body=json.dumps({"session_id": "devin-a", "status_enum": status})), method="GET")
    assert world.deliver("devin-a") == []
    (letter,) = world.aws.sent_to("dead-letters")
    assert len(letter.attributes["session_status"]) <= 100
    assert "\x1b" not in letter.attributes["session_status"]
    assert all(len(line) < LINE_CHARACTERS for line in world.printed.getvalue().splitlines())


def test_a_key_in_the_status_of_a_session_is_masked(world: Functions) -> None:
    world.api.script(Fault(status=409, body="{}"), method="DELETE")
    world.api.script(
        Fault(status=200, body=json.dumps({"session_id": "devin-a", "status_enum": f"of {V1_KEY}"})), method="GET"
    )
    world.deliver("devin-a")
    (letter,) = world.aws.sent_to("dead-letters")
    assert V1_KEY not in world.printed.getvalue()
    assert V1_KEY not in letter.attributes["session_status"]
