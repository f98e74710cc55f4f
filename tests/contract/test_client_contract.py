"""The client makes only requests that the contract file lists, and reads all the answers that it lists."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_core import OpenAPI
from openapi_core.testing import MockRequest
from schemathesis.generation import GenerationMode

from devin.api_key import ApiKeys
from devin.client import Answer, DevinClient, Throttle
from devin.http import Transport
from devin.session import Page
from infra.local.fake_devin import FakeDevin, Fault
from infra.local.fake_devin.sessions import ORG_ID
from redaction import Redactor
from tests.contract.keys import V1_KEY, V3_KEY
from tests.contract.raw_server import RawServer

CONTRACT: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "devin-api.yaml").read_text())
KEYS = {"v1": V1_KEY, "v3": V3_KEY}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Before this there were no sessions, and a date stands for none.
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, item in CONTRACT["paths"].items()
    for method, operation in item.items()
}
# The calls of the client, by the contract's names.
CALLS: dict[str, Callable[[DevinClient, str], Answer]] = {
    "terminate": DevinClient.terminate,
    "archive": DevinClient.archive,
    "get": DevinClient.get,
    "list": lambda client, _: client.list_page(None),
}
MADE = [name for name in OPERATIONS if name.split("_")[0] in CALLS and "_session" in name]
few_examples = settings(
    max_examples=5, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def client(url: str, operation: str, *, archive: bool = False) -> DevinClient:
    keys = ApiKeys(lambda _: KEYS[operation[-2:]], lambda _: None)
    return DevinClient(
        Transport(url), keys, Throttle(), Redactor(), org_id=ORG_ID, keep_viewable=archive, seconds_left=lambda: 5
    )


def perform(url: str, operation: str, session_id: str = "devin-a", **options: Any) -> Answer:
    return CALLS[operation.split("_", maxsplit=1)[0]](client(url, operation, **options), session_id)


@pytest.fixture(scope="module")
def recorder() -> Iterator[RawServer]:
    """A server that answers every request with an empty 200, and keeps what came over the wire."""
    with RawServer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", keep_alive=True) as server:
        yield server


@pytest.fixture(scope="module")
def puppet() -> Iterator[FakeDevin]:
    """One fake for all scripted answers."""
    with FakeDevin() as fake:
        yield fake


@cache
def contract_at(url: str) -> OpenAPI:
    return OpenAPI.from_dict({**CONTRACT, "servers": [{"url": url}]})


def assert_in_the_contract(recorder: RawServer, operation: str, path: str, expected: dict[str, str]) -> None:
    """The last request is this operation, on this path, with this query, and with the headers that all of them have."""
    method, _, description = OPERATIONS[operation]
    first, *lines = recorder.heads[-1].removesuffix("\r\n\r\n").split("\r\n")
    sent_method, target, _ = first.split(" ")
    sent, headers = urlsplit(target), dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    assert (sent_method, sent.path) == (method, path)
    query = parse_qs(sent.query, keep_blank_values=True, strict_parsing=bool(sent.query))
    # openapi-core does not look at parameters that the contract does not know.
    assert query.keys() <= {known["name"] for known in description["parameters"] if known["in"] == "query"}
    assert query == {name: [value] for name, value in expected.items()}
    contract_at(recorder.url).validate_request(
        MockRequest(recorder.url, method, sent.path, args=expected, headers=headers)
    )
    headers.pop("Content-Length", None)
    assert headers == {
        "Host": urlsplit(recorder.url).netloc,
        "Authorization": f"Bearer {KEYS[operation[-2:]]}",
        "User-Agent": "devin-session-cleanup",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "keep-alive",
    }


@pytest.mark.parametrize(
    ("operation", "archive"),
    [*((name, False) for name in MADE if not name.startswith("list_")), ("terminate_session_v3", True)],
)
def test_every_request_on_a_session_is_one_of_the_contract(recorder: RawServer, operation: str, archive: bool) -> None:
    query = {"archive": "true"} if archive else {}

    @few_examples
    @given(session_id=st.from_regex(r"devin-[A-Za-z0-9_-]{1,122}", fullmatch=True))
    def send(session_id: str) -> None:
        perform(recorder.url, operation, session_id, archive=archive)
        path = OPERATIONS[operation][1].format(org_id=ORG_ID, session_id=session_id, devin_id=session_id)
        assert_in_the_contract(recorder, operation, path, query)

    send()


# What the client gives back for the next page: an offset that it has counted, a cursor that the API has given.
CURSORS: dict[str, st.SearchStrategy[str]] = {
    "list_sessions_v1": st.integers(1, 200_000).map(str),
    "list_sessions_v3": st.text(min_size=1) | st.just("&first=1#/../?after=%00\r\nX: y"),
}


@pytest.mark.parametrize("operation", CURSORS)
def test_every_request_for_a_page_is_one_of_the_contract(recorder: RawServer, operation: str) -> None:
    caller = client(recorder.url, operation)

    @few_examples
    @given(cursor=st.none() | CURSORS[operation])
    def send(cursor: str | None) -> None:
        caller.list_page(cursor)
        if operation.endswith("v1"):
            query = {"limit": "100", "offset": cursor or "0"}
        else:
            query = {"first": "200"} | ({} if cursor is None else {"after": cursor})
        assert_in_the_contract(recorder, operation, OPERATIONS[operation][1].format(org_id=ORG_ID), query)

    send()


@cache
def bodies(schema: str, mode: GenerationMode) -> st.SearchStrategy[bytes]:
    """Bodies of answers from their schema (as JSON), valid or invalid ones.

    Schemathesis makes requests alone: so it is shown an API that asks for what this one answers.
    """
    content = {"application/json": {"schema": json.loads(schema)}}
    turned = {name: CONTRACT[name] for name in ("openapi", "info", "components")} | {
        "paths": {
            "/": {
                "post": {
                    "operationId": "answer",
                    "requestBody": {"required": True, "content": content},
                    "responses": {"200": {"description": "OK"}},
                }
            }
        }
    }
    operation = schemathesis.openapi.from_dict(turned).find_operation_by_id("answer")
    return operation.as_strategy(generation_mode=mode).map(
        lambda case: case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    )


def documented() -> list[Any]:
    """The answers that the contract lists, with bodies that keep to their schema and bodies that do not."""
    return [
        pytest.param(name, int(status), content_type, json.dumps(media["schema"]), mode)
        for name in MADE
        for status, answer in OPERATIONS[name][2]["responses"].items()
        for content_type, media in answer.get("content", {}).items()
        for mode in GenerationMode
        # What a refusal holds is read in one place, whatever was asked for.
        if status == "200" or name.startswith("terminate_")
    ]


@pytest.mark.parametrize(("operation", "status", "content_type", "schema", "mode"), documented())
def test_every_answer_of_the_contract_is_read(
    puppet: FakeDevin, *, operation: str, status: int, content_type: str, schema: str, mode: GenerationMode
) -> None:
    """What follows from an answer to a terminate call is in tests/unit/terminate/test_outcomes.py."""
    kind = operation.split("_", maxsplit=1)[0]
    is_valid = mode is GenerationMode.POSITIVE

    @few_examples
    @given(body=bodies(schema, mode))
    def read(body: bytes) -> None:
        if kind == "get" and is_valid:
            body = json.dumps(json.loads(body) | {"session_id": "devin-a"}).encode()
        puppet.clear_faults()
        fault = Fault(status=status, headers={"Content-Type": content_type}, body=body)
        puppet.script(fault, operation=kind)
        said = perform(puppet.url, operation)
        assert said.status == status
        assert not said.confirmed or status == 200
        assert KEYS[operation[-2:]] not in (said.detail or "")
        if kind == "get" and is_valid:
            assert said.session is not None
            assert (said.session.exited, said.session.updated_at) == meaning(json.loads(body))
        elif kind == "list" and is_valid:
            assert_whole(said.page, json.loads(body))

    read()


def meaning(fields: dict[str, Any]) -> tuple[bool, datetime | None]:
    """Whether a SessionV1 or SessionV3 has exited, and when it was updated, read by the contract's words alone."""
    try:
        if "org_id" in fields:
            updated_at = EPOCH + timedelta(seconds=fields["updated_at"])
        else:
            updated_at = datetime.fromisoformat(fields["updated_at"]).astimezone(UTC)
    except OverflowError:
        updated_at = EPOCH
    status = fields["status"] if "org_id" in fields else fields.get("status_enum") or fields["status"]
    return status.lower() in {"exit", "expired"}, updated_at if updated_at >= FIRST else None


def assert_whole(page: Page | None, fields: dict[str, Any]) -> None:
    """The page has all sessions of a PageV1 or PageV3, and the way to the next one."""
    listed = fields["sessions" if "sessions" in fields else "items"]
    following = str(len(listed)) if "sessions" in fields and listed else None
    if fields.get("has_next_page"):
        following = fields.get("end_cursor")
        if not following:
            # More to come and no way to it: no page, rather than a listing that ends too soon.
            assert page is None
            return
    assert page is not None
    assert (len(page.sessions), page.following) == (len(listed), following)
