"""Sessions and pages as the API shows them: what is read of them, and in how much memory."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import devin
from devin.session import PAGE_BYTES, SESSION_BYTES, Session, parse_page_body, parse_session_body
from devin.version import V1, V3, Version


def read(version: Version = V3, **fields: Any) -> Session:
    session = parse_session_body(json.dumps({"session_id": "devin-1", **fields}).encode(), version)
    assert session is not None
    return session


@pytest.mark.fault(50)
@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        ({"session_id": "abc"}, "session_id", "devin-abc"),
        *(({"session_id": one}, "session_id", None) for one in ("../x", "a b", "", "a" * 123, None, 7, ["a"])),
        ({}, "users", ()),
        ({"user_id": "u"}, "users", ("u",)),
        ({"user_id": None, "service_user_id": "s"}, "users", ("s",)),
        ({"user_id": "u", "service_user_id": "s"}, "users", ("u", "s")),
        ({"user_id": 5, "service_user_id": "s"}, "users", ()),
        ({"user_id": "u" * 1001, "service_user_id": "s"}, "users", ()),
        ({}, "is_archived", None),
        ({"is_archived": False}, "is_archived", False),
        ({"is_archived": True}, "is_archived", True),
        ({"is_archived": "false"}, "is_archived", True),
        ({"parent_session_id": "2"}, "parent_session_id", "devin-2"),
        ({"parent_session_id": None}, "child_session_ids", ()),
        ({"parent_session_id": 2}, "is_family_unknown", True),
        ({"parent_session_id": ""}, "is_family_unknown", True),
        ({"child_session_ids": None}, "child_session_ids", ()),
        ({"child_session_ids": ["2", "devin-3"]}, "child_session_ids", ("devin-2", "devin-3")),
        ({"child_session_ids": ["2", None]}, "is_family_unknown", True),
        ({"child_session_ids": ["2", None]}, "child_session_ids", ("devin-2",)),
        ({"child_session_ids": "2"}, "is_family_unknown", True),
        ({}, "pull_request_states", None),
        ({}, "has_pull_request", None),
        ({"pull_requests": []}, "pull_request_states", ()),
        ({"pull_requests": []}, "has_pull_request", False),
        ({"pull_requests": [{"pr_url": "x"}]}, "has_pull_request", True),
        ({"pull_requests": [{"pr_state": "open"}, {"pr_state": "merged"}]}, "pull_request_states", ("open", "merged")),
        ({"pull_requests": [{"pr_state": "merged"}, {"pr_state": None}]}, "pull_request_states", None),
        ({"pull_requests": ["merged"]}, "pull_request_states", None),
        ({"pull_requests": {"pr_state": "merged"}}, "pull_request_states", None),
        ({"status": "exit"}, "exited", True),
        ({"status": "running", "status_detail": "finished"}, "exited", False),
        ({"status": "x" * 1001}, "status", None),
        ({"origin": "slack"}, "origin", "slack"),
        ({"playbook_id": ["p"]}, "playbook_id", None),
    ],
)
def test_a_session_of_v3_is_read(fields: dict[str, Any], name: str, expected: object) -> None:
    assert getattr(read(**fields), name) == expected


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        # The task is complete; the session is not.
        ({"status_enum": "finished"}, "exited", False),
        ({"status_enum": "expired"}, "exited", True),
        ({"status_enum": None, "status": "Exited"}, "exited", True),
        ({"requesting_user_email": "a@b.c", "user_id": "u"}, "users", ("a@b.c",)),
        ({"pull_request": None}, "has_pull_request", False),
        ({"pull_request": {}}, "has_pull_request", False),
        ({"pull_request": {"url": "x"}}, "has_pull_request", True),
        ({"pull_request": {"url": "x"}}, "pull_request_states", None),
        ({"pull_request": None}, "pull_request_states", ()),
    ],
)
def test_a_session_of_v1_is_read(fields: dict[str, Any], name: str, expected: object) -> None:
    assert getattr(read(V1, **fields), name) == expected


def test_messages_and_outputs_are_skipped() -> None:
    noise: dict[str, Any] = {"messages": [{"status": "exit", "tags": ["keep"]}], "structured_output": {"a": [{}]}}
    assert read(**noise, status="running") == read(status="running")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"[]" * 10**6])
def test_a_body_that_is_no_session_and_no_page_cannot_be_read(body: bytes) -> None:
    assert parse_session_body(body, V1) is None
    assert parse_page_body(body, V1, None) is None


def test_a_page_of_more_sessions_than_any_version_gives_cannot_be_read() -> None:
    whole, more = (json.dumps({"items": [None] * number}).encode() for number in (1000, 1001))
    page = parse_page_body(whole, V3, None)
    assert page is not None
    assert (len(page.sessions), page.following, page.can_archive) == (1000, None, True)
    assert parse_page_body(more, V3, None) is None


# Memory ------------------------------------------------------------------------------------------------------------


def repeated(unit: str) -> Callable[[int], bytes]:
    """A session and a page of nothing but this. The emoji makes four bytes of each character in memory."""
    head, tail = '{"\U0001f600":0,"sessions":[', "0]}"
    return lambda size: (head + unit * ((size - 40) // len(unit)) + tail).encode()


HOSTILE = [
    repeated("[" * 50 + "]" * 50 + ","),
    repeated("[[]],"),
    repeated('{"tags":0},'),
    repeated('"ab",'),
]


def main(kind: str) -> None:
    """In a process of its own: print how much memory it takes to parse what is the worst, in MB."""
    before = _peak()
    for make in HOSTILE if kind == "page" else HOSTILE[3:]:
        if kind == "page":
            parse_page_body(make(PAGE_BYTES), V1, None)
        else:
            bodies = [bytes(bytearray(make(SESSION_BYTES))) for _ in range(10)]
            with ThreadPoolExecutor(10) as threads:
                list(threads.map(lambda body: parse_session_body(body, V1), bodies))
    sys.stdout.write(str(_peak() - before))


def _peak() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


@pytest.mark.fault(47)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("kind", "most"), [("page", 250), ("ten sessions", 180)])
def test_memory_is_bounded_whatever_the_api_sends(kind: str, most: int) -> None:
    """The function has 512 MB, of which 70 to 130 are in use before."""
    path = [str(Path(devin.__path__[0]).parent), str(Path(__file__).parents[3])]
    code = f"import sys; sys.path[:0] = {path}; from tests.unit.devin.test_session import main; main({kind!r})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    assert 30 < int(ran.stdout) < most
