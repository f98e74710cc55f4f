"""The client asks for nothing that the contract file does not list, and understands all the answers that it lists."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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

from devin.api_key import ApiKeyError
from devin.client import DevinClient
from devin.error_detail import error_detail
from devin.http import Reply, Transport
from devin.session import Page, Session
from infra.local.fake_devin import FakeDevin, Fault
from infra.local.fake_devin.sessions import ORG_ID
from tests.contract.caller import V1_KEY, V3_KEY
from tests.in_memory import Function, batch

CONTRACT: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "devin-api.yaml").read_text())
KEYS = {"v1": V1_KEY, "v3": V3_KEY}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The client's operations: what the contract calls them, method and path included.
EVERY_OPERATION: dict[str, tuple[str, str, dict[str, Any]]] = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, item in CONTRACT["paths"].items()
    for method, operation in item.items()
}
# Those on one session, and those that list them.
OPERATIONS = {name: one for name, one in EVERY_OPERATION.items() if name.startswith(("terminate_", "get_session_"))}
LISTS = {name: one for name, one in EVERY_OPERATION.items() if name.startswith("list_")}
session_ids = st.from_regex(r"devin-[A-Za-z0-9_-]{1,122}", fullmatch=True)
few_examples = settings(
    max_examples=30, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def client(url: str, *, org_id: str | None = ORG_ID, archive: bool = False) -> DevinClient:
    return DevinClient(Transport(url), org_id=org_id, archive=archive)


def perform(caller: DevinClient, operation: str, session_id: str = "devin-a") -> tuple[Reply, Session | None]:
    """One of OPERATIONS, as the client makes it; a terminate has no session."""
    name, _, version = operation.split("_")
    if name == "get":
        return caller.get(session_id, key=KEYS[version], seconds=5)
    return caller.terminate(session_id, key=KEYS[version], seconds=5), None


@dataclass
class Recorder:
    """A server that answers every request with an empty 200: what came over the wire, and where to send it."""

    url: str
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            # Twice the same header would be lost in a dictionary.
            assert len(set(self.headers.keys())) == len(self.headers)
            recorded.requests.append((self.command, self.path, dict(self.headers)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_DELETE = handle_any  # noqa: N815 - the base class calls them so

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        # Its threads end with the client's connections, which the client closes only when it is collected.
        server.block_on_close = False
        recorded = Recorder(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield recorded
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def contract(recorder: Recorder) -> OpenAPI:
    return OpenAPI.from_dict({**CONTRACT, "servers": [{"url": recorder.url}]})


def assert_in_the_contract(
    contract: OpenAPI, recorder: Recorder, operation: str, path: str, expected: dict[str, str]
) -> None:
    """The last request is this operation, on this path, with this query, and with the headers that all of them have."""
    method, _, description = EVERY_OPERATION[operation]
    sent_method, target, headers = recorder.requests[-1]
    sent = urlsplit(target)

    assert (sent_method, sent.path) == (method, path)
    query = parse_qs(sent.query, keep_blank_values=True, strict_parsing=bool(sent.query))
    # openapi-core does not look at parameters that the contract does not know.
    assert query.keys() <= {known["name"] for known in description["parameters"] if known["in"] == "query"}
    assert query == {name: [value] for name, value in expected.items()}
    contract.validate_request(MockRequest(recorder.url, method, sent.path, args=expected, headers=headers))
    assert headers == {
        "Host": urlsplit(recorder.url).netloc,
        "Authorization": f"Bearer {KEYS[operation[-2:]]}",
        "User-Agent": "devin-session-cleanup",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "keep-alive",
    } | ({"Content-Length": "0"} if method == "DELETE" else {})


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_request_is_one_of_the_contract(
    contract: OpenAPI, recorder: Recorder, operation: str, archive: bool
) -> None:
    _, path, _ = OPERATIONS[operation]
    caller = client(recorder.url, archive=archive)
    query = {"archive": "true"} if archive and operation == "terminate_session_v3" else {}

    @few_examples
    @given(session_id=session_ids)
    def send(session_id: str) -> None:
        perform(caller, operation, session_id)
        whole = path.format(org_id=ORG_ID, session_id=session_id, devin_id=session_id)
        assert_in_the_contract(contract, recorder, operation, whole, query)

    send()


# What the client gives back for the next page: an offset that it has counted, a cursor that the API has given.
FOLLOWING: dict[str, st.SearchStrategy[str]] = {
    "list_sessions_v1": st.integers(1, 200_000).map(str),
    "list_sessions_v3": st.text(min_size=1) | st.just("&first=1#/../?after=%00\r\nX: y"),
}


@pytest.mark.parametrize("operation", LISTS)
def test_every_page_is_asked_for_as_the_contract_has_it(contract: OpenAPI, recorder: Recorder, operation: str) -> None:
    _, path, _ = LISTS[operation]
    caller, version = client(recorder.url), operation[-2:]

    @few_examples
    @given(following=st.none() | FOLLOWING[operation])
    def send(following: str | None) -> None:
        caller.page(following, key=KEYS[version], seconds=5)
        if version == "v1":
            query = {"limit": "100", "offset": following or "0"}
        else:
            query = {"first": "200"} | ({} if following is None else {"after": following})
        assert_in_the_contract(contract, recorder, operation, path.format(org_id=ORG_ID), query)

    send()


instants = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - the zone is the next argument's
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


def anything() -> st.SearchStrategy[Any]:
    return st.none() | st.text() | st.dictionaries(st.text(), st.integers(), max_size=2)


def objects(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    fields = {name: values(one) for name, one in schema.get("properties", {}).items()}
    required = {name: fields.pop(name) for name in schema.get("required", [])}
    # An API grows fields without notice.
    return st.fixed_dictionaries(required, optional={**fields, "unheard_of": anything()})


KINDS: dict[str, Callable[[dict[str, Any]], st.SearchStrategy[Any]]] = {
    "object": objects,
    "array": lambda schema: st.lists(values(schema["items"]), max_size=3),
    "string": lambda schema: instants.map(datetime.isoformat) if schema.get("format") == "date-time" else st.text(),
    "integer": lambda _: st.integers() | st.integers(0, 2**31),
    "number": lambda _: st.floats(allow_nan=False, allow_infinity=False),
    "boolean": lambda _: st.booleans(),
    "null": lambda _: st.none(),
}


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a schema of the contract admits, in the JSON Schema words that the contract uses."""
    if "$ref" in schema:
        return values(CONTRACT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]])
    if "anyOf" in schema:
        return st.one_of([values(one) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if not schema:
        return anything()
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return st.one_of([KINDS[kind](schema) for kind in kinds])


ANSWERS = [
    pytest.param(operation, int(status), content_type, media.get("schema"), id=f"{operation}-{status}-{content_type}")
    for operation, (_, _, description) in OPERATIONS.items()
    for status, answer in description["responses"].items()
    for content_type, media in answer.get("content", {"text/plain": {}}).items()
]


@pytest.fixture(scope="module")
def puppet() -> Iterator[FakeDevin]:
    """One stand-in for all scripted answers."""
    with FakeDevin() as fake:
        yield fake


@pytest.mark.parametrize(("operation", "status", "content_type", "schema"), ANSWERS)
def test_every_answer_of_the_contract_is_understood(
    puppet: FakeDevin, operation: str, status: int, content_type: str, schema: dict[str, Any] | None
) -> None:
    caller = client(puppet.url)
    bodies = st.text() if schema is None else values(schema).map(json.dumps)

    @few_examples
    @given(body=bodies)
    def read(body: str) -> None:
        puppet.clear_faults()
        puppet.script(Fault(status=status, headers={"Content-Type": content_type}, body=body))

        reply, session = perform(caller, operation)

        assert (reply.status, reply.body.decode()) == (status, body)
        assert reply.headers["content-type"] == content_type
        if status == 200:
            fields = json.loads(body)
            assert essence(session) == (meaning(fields) if operation.startswith("get_") else None)
        else:
            assert session is None
            said = error_detail(reply.body) or ""
            assert all(text in said for text in told(body))

    read()


# Before this there were no sessions, and a date stands for none.
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
type Essence = tuple[str | None, bool, datetime | None]


def essence(session: Session | None) -> Essence | None:
    """What terminate looks at: status, whether it has exited, and when it was updated."""
    return None if session is None else (session.status, session.exited, session.updated_at)


def meaning(fields: dict[str, Any]) -> Essence:
    """A SessionV1 or SessionV3, read by the contract's words alone."""
    if "org_id" in fields:
        try:
            updated_at = EPOCH + timedelta(seconds=fields["updated_at"])
        except OverflowError:
            return fields["status"], fields["status"] == "exit", None
        return fields["status"], fields["status"] == "exit", updated_at if updated_at >= FIRST else None
    status = fields.get("status_enum") or fields["status"] or None
    updated_at = datetime.fromisoformat(fields["updated_at"])
    return status, status in {"finished", "expired"}, updated_at if updated_at >= FIRST else None


def told(body: str) -> list[str]:
    """What an error has to say for itself, in each of the contract's shapes."""
    try:
        fields = json.loads(body)
    except ValueError:
        return [body.strip()]
    if not isinstance(fields, dict):
        return []
    detail = fields.get("detail", "")
    if isinstance(detail, list):
        return [str(text) for item in detail for text in (*item["loc"], item["msg"])]
    return [detail, fields.get("title", "")]


@pytest.mark.parametrize(
    ("status", "exited"),
    [
        ("finished", True),
        ("expired", True),
        ("stopped", True),
        ("Terminated", True),
        ("running", False),
        ("RUNNING finished", False),
        ("", False),
    ],
)
def test_without_a_status_enum_the_free_text_tells_whether_a_v1_session_has_exited(
    puppet: FakeDevin, status: str, exited: bool
) -> None:
    fields = {"session_id": "devin-a", "status": status, "status_enum": None, "created_at": "", "updated_at": "soon"}
    puppet.clear_faults()
    puppet.script(Fault(status=200, body=json.dumps(fields)))

    _, session = perform(client(puppet.url), "get_session_v1")

    assert essence(session) == (status or None, exited, None)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"text"', b"<html>", b"\xff\xfe{", b'{"status":', b"[" * 100_000, b"9" * 10_000]
)
def test_a_200_that_holds_no_session_is_none(puppet: FakeDevin, body: bytes) -> None:
    puppet.clear_faults()
    puppet.script(Fault(status=200, body=body))

    reply, session = perform(client(puppet.url), "get_session_v3")

    assert (reply.status, reply.body, session) == (200, body, None)


@pytest.mark.parametrize(
    "updated_at", ["1e400", "NaN", "-Infinity", "1e300", "9" * 5000, '"9999-12-31T23:59:59-01:00"']
)
def test_a_moment_that_cannot_be_told_is_unknown(puppet: FakeDevin, updated_at: str) -> None:
    puppet.clear_faults()
    puppet.script(Fault(status=200, body=f'{{"status": "running", "updated_at": {updated_at}}}'))

    _, session = perform(client(puppet.url), "get_session_v3")

    # Python reads no number of so many digits: then the whole body is unreadable.
    assert essence(session) == (None if updated_at == "9" * 5000 else ("running", False, None))


@pytest.mark.parametrize("version", KEYS)
def test_a_terminated_session_is_over(api: FakeDevin, version: str) -> None:
    api.add_sessions("devin-a", "devin-b")

    reply, _ = perform(client(api.url), f"terminate_session_{version}")
    _, ended = perform(client(api.url), f"get_session_{version}")
    _, other = perform(client(api.url), f"get_session_{version}", "devin-b")

    assert reply.status == 200
    assert api.session("devin-a").exited
    assert not api.session("devin-b").exited
    assert ended is not None
    assert other is not None
    assert (ended.exited, other.exited) == (True, False)


@pytest.mark.parametrize("version", KEYS)
def test_a_session_is_read_with_its_moment_in_utc(api: FakeDevin, version: str) -> None:
    moment = datetime(2026, 11, 2, 12, tzinfo=timezone(timedelta(hours=2)))
    api.add_sessions("devin-a", created_at=moment, updated_at=moment, bare_id=True)

    _, session = perform(client(api.url), f"get_session_{version}")

    assert session is not None
    assert session.updated_at == moment
    assert session.updated_at.tzinfo is UTC


@pytest.mark.parametrize(("version", "archived"), [("v1", False), ("v3", True)])
def test_only_v3_archives(api: FakeDevin, version: str, archived: bool) -> None:
    api.add_sessions("devin-a")

    perform(client(api.url, archive=True), f"terminate_session_{version}")

    assert api.session("devin-a").exited
    assert api.session("devin-a").is_archived == archived


@pytest.mark.parametrize(
    ("version", "session_id", "status", "detail"),
    [
        ("v1", "devin-over", 422, "path.session_id: The session has exited already"),
        ("v1", "devin-unknown", 404, "Session not found"),
        ("v3", "devin-over", 400, "Bad Request: Devin session already exited"),
        ("v3", "devin-unknown", 404, "Not Found: There is no such session."),
        ("v3", "devin-foreign", 403, "Forbidden: The session does not belong to this organization."),
    ],
)
def test_a_refusal_says_why(api: FakeDevin, version: str, session_id: str, status: int, detail: str) -> None:
    api.add_sessions("devin-over", status="exit")
    api.add_sessions("devin-foreign", org_id="org-other")

    reply, _ = perform(client(api.url), f"terminate_session_{version}", session_id)

    assert (reply.status, error_detail(reply.body)) == (status, detail)


def test_a_v3_key_without_an_organisation_calls_nothing(api: FakeDevin) -> None:
    caller = client(api.url, org_id=None)

    for operation in ("terminate_session_v3", "get_session_v3"):
        with pytest.raises(ApiKeyError, match="DEVIN_ORG_ID"):
            perform(caller, operation)

    assert api.calls() == []


def judged(url: str, version: str, body: str = "devin-a") -> tuple[Function, list[str], str]:
    """The whole handler, asked to end one session by a queue message: what it did, what it keeps, and the outcome."""
    function = Function(Transport(url), KEYS[version])
    answer = function.invoke(batch({"body": body}))
    (line,) = function.lines()
    return function, [entry["itemIdentifier"] for entry in answer["batchItemFailures"]], line["outcome"]


def outcome_in_the_table(status: int, version: str) -> tuple[str, str | None]:
    """The outcome of a lone DELETE that is answered so, and the reason of its dead letter; None: it is kept or done."""
    if 200 <= status <= 299:
        return "terminated", None
    if status == 401 or (status == 403 and version == "v3"):
        return "unauthorized", None
    if status == 403:
        return "forbidden", None
    if status in {408, 425, 429} or status >= 500:
        return "retry", None
    return "rejected", f"rejected_{status}"


def assert_judged_by_the_table(puppet: FakeDevin, version: str, fault: Fault) -> None:
    puppet.clear_faults()
    puppet.clear_calls()
    puppet.script(fault)

    world, kept, outcome = judged(puppet.url, version)

    assert fault.status is not None
    expected, reason = outcome_in_the_table(fault.status, version)
    assert outcome == expected
    assert kept == ([] if expected in {"terminated", "rejected"} else ["m-0"])
    assert [(write.body, write.attributes["reason"]) for write in world.sqs.writes] == (
        [] if reason is None else [("devin-a", reason)]
    )
    assert [call.method for call in puppet.calls()] == (["DELETE", "GET"] if fault.status == 409 else ["DELETE"])
    assert KEYS[version] not in world.log.getvalue()


@pytest.mark.parametrize(
    ("operation", "status", "content_type", "schema"),
    [answer for answer in ANSWERS if str(answer.values[0]).startswith("terminate_")],
)
def test_every_answer_of_the_contract_leads_to_the_outcome_of_the_table(
    puppet: FakeDevin, operation: str, status: int, content_type: str, schema: dict[str, Any] | None
) -> None:
    bodies = st.text() if schema is None else values(schema).map(json.dumps)

    @few_examples
    @given(body=bodies)
    def judge(body: str) -> None:
        fault = Fault(status=status, headers={"Content-Type": content_type}, body=body)
        assert_judged_by_the_table(puppet, operation[-2:], fault)

    judge()


@pytest.mark.parametrize("version", KEYS)
def test_answers_outside_of_the_contract_lead_to_the_outcome_of_the_table_too(puppet: FakeDevin, version: str) -> None:
    # 204 and 304 have no body.
    statuses = st.sampled_from([status for status in range(200, 600) if status not in {204, 304}])

    @settings(few_examples, max_examples=200)
    @given(status=statuses, body=st.binary(max_size=50) | st.just(b'{"detail":') | st.just(b"[" * 3000))
    def judge(status: int, body: bytes) -> None:
        assert_judged_by_the_table(puppet, version, Fault(status=status, body=body))

    judge()


# Schemathesis takes its time over each.
fewer_examples = settings(few_examples, max_examples=12)


def as_schemathesis_makes_it(schema: dict[str, Any], mode: GenerationMode) -> st.SearchStrategy[bytes]:
    """Bodies of answers from their schema, right or wrong ones, by another reading of the contract than `values` is.

    Schemathesis makes requests alone: so it is told of an API that asks for what this one answers.
    """
    turned = {
        "openapi": CONTRACT["openapi"],
        "info": CONTRACT["info"],
        "components": CONTRACT["components"],
        "paths": {
            "/": {
                "post": {
                    "operationId": "answer",
                    "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
                    "responses": {"200": {"description": "OK"}},
                }
            }
        },
    }
    operation = schemathesis.openapi.from_dict(turned).find_operation_by_id("answer")
    return operation.as_strategy(generation_mode=mode).map(
        lambda case: case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    )


@dataclass(frozen=True)
class Documented:
    """An answer that the contract lists, with bodies that keep to its schema, or that do not."""

    operation: str
    status: int
    content_type: str
    schema: dict[str, Any]
    mode: GenerationMode

    @property
    def version(self) -> str:
        return self.operation[-2:]

    @property
    def bodies(self) -> st.SearchStrategy[bytes]:
        return as_schemathesis_makes_it(self.schema, self.mode)

    def with_body(self, body: bytes) -> Fault:
        return Fault(status=self.status, headers={"Content-Type": self.content_type}, body=body)


def documented(kind: str) -> list[Any]:
    """Every answer that has a schema, of one kind of operation in both versions."""
    return [
        pytest.param(
            Documented(name, int(status), content_type, media["schema"], mode),
            id=f"{name}-{status}-{content_type}-{mode.value}",
        )
        for name, (_, _, operation) in EVERY_OPERATION.items()
        for status, answer in operation["responses"].items()
        for content_type, media in answer.get("content", {}).items()
        for mode in GenerationMode
        if name.startswith(kind)
    ]


@pytest.mark.parametrize("answer", documented("terminate_"))
def test_whatever_schemathesis_answers_leads_to_the_outcome_of_the_table(puppet: FakeDevin, answer: Documented) -> None:
    @fewer_examples
    @given(body=answer.bodies)
    def judge(body: bytes) -> None:
        assert_judged_by_the_table(puppet, answer.version, answer.with_body(body))

    judge()


# Among the dates that schemathesis likes to choose.
SINCE = datetime(2500, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("answer", documented("get_"))
def test_whatever_schemathesis_tells_of_a_session_it_lives_if_it_was_updated_since(
    puppet: FakeDevin, answer: Documented
) -> None:
    order = json.dumps({"session_id": "devin-a", "unless_updated_since": SINCE.isoformat()})

    @fewer_examples
    @given(body=answer.bodies)
    def judge(body: bytes) -> None:
        puppet.clear_faults()
        puppet.script(answer.with_body(body), operation="get")
        puppet.script(Fault(status=200, body="{}"), operation="terminate")
        _, session = perform(client(puppet.url), answer.operation)
        puppet.clear_calls()

        world, kept, outcome = judged(puppet.url, answer.version, order)

        if answer.status == 200 and answer.mode is GenerationMode.POSITIVE:
            assert essence(session) == meaning(json.loads(body))
        if answer.status != 200:
            assert (outcome, session) == ("rejected", None)
        elif session is None or session.updated_at is None:
            assert outcome == "retry"
        elif session.updated_at <= SINCE:
            assert outcome == "terminated"
        else:
            # Its end is an update, too.
            assert outcome == ("already_exited" if session.exited else "spared")
        assert [call.method for call in puppet.calls()] == ["GET", *["DELETE"] * (outcome == "terminated")]
        assert kept == ["m-0"] * (outcome == "retry")
        assert len(world.sqs.writes) == (outcome == "rejected")

    judge()


@pytest.mark.parametrize("answer", documented("list_"))
def test_whatever_schemathesis_lists_is_a_page_or_none(puppet: FakeDevin, answer: Documented) -> None:
    @fewer_examples
    @given(body=answer.bodies)
    def read(body: bytes) -> None:
        puppet.clear_faults()
        puppet.script(answer.with_body(body))

        reply, page = client(puppet.url).page(None, key=KEYS[answer.version], seconds=5)

        assert reply.status == answer.status
        if answer.status != 200:
            assert page is None
        elif answer.mode is GenerationMode.POSITIVE:
            assert_page(page, json.loads(body), answer.version)
        elif page is not None:
            assert len(page.sessions) == len(json.loads(body)["sessions" if answer.version == "v1" else "items"])

    read()


PAGES = {
    operation["operationId"]: operation["responses"]["200"]["content"]["application/json"]["schema"]
    for path in CONTRACT["paths"].values()
    for operation in path.values()
    if operation["operationId"].startswith("list_")
}


@pytest.mark.parametrize("operation", PAGES)
def test_every_page_of_the_contract_is_understood(puppet: FakeDevin, operation: str) -> None:
    version = operation[-2:]

    @few_examples
    @given(fields=values(PAGES[operation]))
    def read(fields: dict[str, Any]) -> None:
        puppet.clear_faults()
        puppet.script(Fault(status=200, body=json.dumps(fields)))

        reply, page = client(puppet.url).page(None, key=KEYS[version], seconds=5)

        assert reply.status == 200
        assert_page(page, fields, version)

    read()


def assert_page(page: Page | None, fields: dict[str, Any], version: str) -> None:
    """The page says what the answer does, read by the contract's words."""
    listed = fields["sessions" if version == "v1" else "items"]
    if version == "v3" and fields.get("has_next_page") and not fields.get("end_cursor"):
        # More to come and no way to it: no page, rather than a listing that ends too soon.
        assert page is None
        return
    assert page is not None
    assert [essence(one) for one in page.sessions] == [meaning(one) for one in listed]
    following = str(len(listed)) if version == "v1" and listed else None
    more = version == "v3" and fields.get("has_next_page")
    assert page.following == (fields["end_cursor"] if more else following)
