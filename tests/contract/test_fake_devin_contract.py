"""The stand-in answers nothing that the contract file does not list.

The file documents few failures of reading: of v1's GETs only 422, of v3's none. A server whose routing and key check
serve all operations cannot answer a wrong key or an unknown session otherwise there than on the DELETE beside it, so
the stand-in answers both as the evidence for that DELETE has it: 401 and 404 in v1; 403, 404 and 422 as RFC 9457
problems in v3. UNDOCUMENTED lists these, and nothing else is added to the file.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_core import Config, OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from infra.local.fake_devin import FakeDevin, Fault
from infra.local.fake_devin.faults import too_many_requests
from infra.local.fake_devin.sessions import ORG_ID
from tests.contract.caller import V1_KEY, V3_KEY, Caller

CONTRACT: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "devin-api.yaml").read_text())

_DETAIL = {"application/json": {"schema": {"$ref": "#/components/schemas/Detail"}}}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
UNDOCUMENTED: dict[str, dict[int, dict[str, Any]]] = {
    "get_session_v1": {401: _DETAIL, 404: _DETAIL},
    "list_sessions_v1": {401: _DETAIL},
    "get_session_v3": {403: _PROBLEM, 404: _PROBLEM, 422: _PROBLEM},
    "list_sessions_v3": {403: _PROBLEM, 422: _PROBLEM},
}

OPERATIONS: dict[str, tuple[str, str]] = {
    operation["operationId"]: (method.upper(), path)
    for path, item in CONTRACT["paths"].items()
    for method, operation in item.items()
}

RUNNING, EXITED, FOREIGN, UNKNOWN = "devin-running", "devin-exited", "devin-foreign", "devin-unknown"
MALFORMED = "devin-a%2F..%2Fb"
WRONG_V1_KEY, WRONG_V3_KEY = "apk_user_wrong", "cog_wrong"

# operation, status, session id, key, query
SITUATIONS: list[tuple[str, int, str, str | None, str]] = [
    ("terminate_session_v1", 200, RUNNING, V1_KEY, ""),
    ("terminate_session_v1", 401, RUNNING, WRONG_V1_KEY, ""),
    ("terminate_session_v1", 401, RUNNING, V3_KEY, ""),
    ("terminate_session_v1", 401, RUNNING, None, ""),
    ("terminate_session_v1", 404, UNKNOWN, V1_KEY, ""),
    ("terminate_session_v1", 422, EXITED, V1_KEY, ""),
    ("terminate_session_v1", 422, MALFORMED, V1_KEY, ""),
    ("get_session_v1", 200, RUNNING, V1_KEY, ""),
    ("get_session_v1", 200, EXITED, V1_KEY, ""),
    ("get_session_v1", 401, RUNNING, WRONG_V1_KEY, ""),
    ("get_session_v1", 404, UNKNOWN, V1_KEY, ""),
    ("get_session_v1", 422, MALFORMED, V1_KEY, ""),
    ("list_sessions_v1", 200, "", V1_KEY, ""),
    ("list_sessions_v1", 200, "", V1_KEY, "?limit=1&offset=1&tags=a&tags=b&user_email=someone@example.com"),
    ("list_sessions_v1", 401, "", WRONG_V1_KEY, ""),
    ("list_sessions_v1", 422, "", V1_KEY, "?limit=many"),
    ("terminate_session_v3", 200, RUNNING, V3_KEY, ""),
    ("terminate_session_v3", 200, RUNNING, V3_KEY, "?archive=true"),
    ("terminate_session_v3", 403, RUNNING, WRONG_V3_KEY, ""),
    ("terminate_session_v3", 403, RUNNING, V1_KEY, ""),
    ("terminate_session_v3", 403, RUNNING, None, ""),
    ("terminate_session_v3", 403, FOREIGN, V3_KEY, ""),
    ("terminate_session_v3", 404, UNKNOWN, V3_KEY, ""),
    ("terminate_session_v3", 409, EXITED, V3_KEY, ""),
    ("terminate_session_v3", 422, MALFORMED, V3_KEY, ""),
    ("terminate_session_v3", 422, RUNNING, V3_KEY, "?archive=perhaps"),
    ("get_session_v3", 200, RUNNING, V3_KEY, ""),
    ("get_session_v3", 200, EXITED, V3_KEY, ""),
    ("get_session_v3", 403, RUNNING, WRONG_V3_KEY, ""),
    ("get_session_v3", 403, FOREIGN, V3_KEY, ""),
    ("get_session_v3", 404, UNKNOWN, V3_KEY, ""),
    ("get_session_v3", 422, MALFORMED, V3_KEY, ""),
    ("list_sessions_v3", 200, "", V3_KEY, ""),
    ("list_sessions_v3", 200, "", V3_KEY, "?first=1&tags=a&updated_before=4000000000"),
    ("list_sessions_v3", 403, "", WRONG_V3_KEY, ""),
    ("list_sessions_v3", 422, "", V3_KEY, "?first=201"),
]
# Documented, and never the stand-in's own idea: it knows no key with fewer rights and no limit of calls.
SCRIPTED: list[tuple[str, int, Fault]] = [
    (
        "terminate_session_v1",
        403,
        Fault(status=403, headers={"Content-Type": "application/json"}, body='{"detail":"no"}'),
    ),
    ("terminate_session_v1", 429, too_many_requests("3")),
]


def documented(operation: str, status: int) -> bool:
    method, path = OPERATIONS[operation]
    return str(status) in CONTRACT["paths"][path][method.lower()]["responses"]


def contract_at(url: str, *, with_undocumented: bool) -> dict[str, Any]:
    """The contract of a server at this address, with or without what UNDOCUMENTED adds."""
    contract = copy.deepcopy(CONTRACT)
    contract["servers"] = [{"url": url}]
    for operation, responses in UNDOCUMENTED.items() if with_undocumented else ():
        method, path = OPERATIONS[operation]
        for status, content in responses.items():
            answer = {"description": "Undocumented", "content": content}
            contract["paths"][path][method.lower()]["responses"][str(status)] = answer
    return contract


def assert_conforms(response: requests.Response, contract: dict[str, Any]) -> None:
    # openapi-core reads a problem as bytes unless told that it is JSON.
    config = Config(extra_media_type_deserializers={"application/problem+json": json.loads})
    OpenAPI.from_dict(contract, config=config).validate_response(
        RequestsOpenAPIRequest(response.request), RequestsOpenAPIResponse(response)
    )


def call(api: FakeDevin, operation: str, session_id: str, key: str | None, query: str) -> requests.Response:
    method, path = OPERATIONS[operation]
    path = path.format(org_id=ORG_ID, session_id=session_id, devin_id=session_id)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return requests.request(method, api.url + path + query, headers=headers, timeout=5)


def fill(api: FakeDevin) -> None:
    api.add_sessions(RUNNING, title="Running", tags=("a",), user_email="someone@example.com", user_id="user-1")
    api.add_sessions(EXITED, status="exit", tags=None)
    api.add_sessions(FOREIGN, org_id="org-other", bare_id=True, status_detail="waiting_for_user")


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: "-".join(map(str, situation)))
def test_every_situation_is_answered_as_the_contract_says(
    api: FakeDevin, situation: tuple[str, int, str, str | None, str]
) -> None:
    operation, status, session_id, key, query = situation
    fill(api)

    response = call(api, operation, session_id, key, query)

    assert response.status_code == status
    known = documented(operation, status)
    assert known != (status in UNDOCUMENTED.get(operation, {}))
    assert_conforms(response, contract_at(api.url, with_undocumented=not known))


@pytest.mark.parametrize(("operation", "status", "fault"), SCRIPTED)
def test_what_is_only_scripted_can_be_in_the_words_of_the_contract(
    api: FakeDevin, operation: str, status: int, fault: Fault
) -> None:
    fill(api)
    api.script(fault)

    response = call(api, operation, RUNNING, V1_KEY, "")

    assert response.status_code == status
    assert_conforms(response, contract_at(api.url, with_undocumented=False))


def test_no_documented_answer_is_left_out() -> None:
    shown = {(operation, status) for operation, status, *_ in itertools.chain(SITUATIONS, SCRIPTED)}
    listed = {
        (operation, int(status))
        for operation, (method, path) in OPERATIONS.items()
        for status in CONTRACT["paths"][path][method.lower()]["responses"]
    }
    added = {(operation, status) for operation, responses in UNDOCUMENTED.items() for status in responses}
    assert shown == listed | added


@pytest.fixture(scope="module")
def used_api() -> Iterator[FakeDevin]:
    """One stand-in for all generated requests: it grows used, as the API does."""
    with FakeDevin(keys=[V1_KEY, V3_KEY]) as fake:
        fill(fake)
        yield fake


_numbers = itertools.count()


# Of a path parameter that may be any text nothing is invalid, so only operations with a query can be sent what is.
_GENERATED = [
    (operation, mode)
    for operation, (method, path) in OPERATIONS.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE
    or any(parameter["in"] == "query" for parameter in CONTRACT["paths"][path][method.lower()]["parameters"])
]


@pytest.mark.parametrize(("operation", "mode"), _GENERATED)
def test_whatever_is_sent_the_answer_is_in_the_contract(
    used_api: FakeDevin, operation: str, mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_dict(contract_at(used_api.url, with_undocumented=True))
    requests_to_operation = schema.find_operation_by_id(operation).as_strategy(generation_mode=mode)

    @settings(
        max_examples=100,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(
        case=requests_to_operation,
        session_id=st.sampled_from([None, "new", RUNNING, EXITED, FOREIGN, UNKNOWN]),
        key=st.sampled_from([V1_KEY, V3_KEY, WRONG_V1_KEY, WRONG_V3_KEY, None]),
    )
    def send(case: schemathesis.Case[Any], session_id: str | None, key: str | None) -> None:
        # An id that is generated (None here) is never one of a session, and most keys are wrong.
        if session_id == "new":
            (session,) = used_api.add_sessions(f"devin-new-{operation}-{mode.value}-{next(_numbers)}")
            session_id = session.session_id
        if session_id is not None:
            for name in case.path_parameters:
                case.path_parameters[name] = ORG_ID if name == "org_id" else session_id
        case.call_and_validate(
            base_url=used_api.url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_headers_conformance,
                response_schema_conformance,
            ],
        )

    send()


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("POST", f"/v1/sessions/{RUNNING}", 405, "DELETE, GET"),
        ("DELETE", "/v1/sessions", 405, "GET"),
        ("PATCH", f"/v3/organizations/{ORG_ID}/sessions/{RUNNING}", 405, "DELETE, GET"),
        ("GET", "/v2/sessions", 404, None),
        ("GET", "/", 404, None),
    ],
)
def test_other_paths_and_methods_are_none_of_the_contracts(
    api: FakeDevin, method: str, path: str, status: int, allow: str | None
) -> None:
    response = requests.request(method, api.url + path, headers={"Authorization": f"Bearer {V1_KEY}"}, timeout=5)

    assert (response.status_code, response.headers.get("Allow")) == (status, allow)
    assert isinstance(response.json()["detail"], str)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["terminate_session_v1", "terminate_session_v3", "get_session_v1", "get_session_v3"]),
        st.sampled_from(["devin-0", "devin-1", "devin-2", UNKNOWN]),
    ),
    max_size=12,
)


@settings(max_examples=15, derandomize=True, deadline=None, database=None)
@given(steps=STEPS)
def test_whatever_came_before_an_end_is_final_and_both_versions_tell_the_same(
    used_api: FakeDevin, steps: list[tuple[str, str]]
) -> None:
    run = next(_numbers)
    names = {f"devin-{number}": f"devin-steps-{run}-{number}" for number in range(3)}
    used_api.add_sessions(*names.values())
    contract = contract_at(used_api.url, with_undocumented=True)
    alive = set(names)

    for operation, name in steps:
        key = V1_KEY if operation.endswith("v1") else V3_KEY
        response = call(used_api, operation, names.get(name, name), key, "")

        assert_conforms(response, contract)
        if name == UNKNOWN:
            assert response.status_code == 404
        elif operation.startswith("get_"):
            told = response.json()
            status = told["status_enum"] if operation.endswith("v1") else told["status"]
            assert (status in {"finished", "exit"}) == (name not in alive)
        else:
            over = 422 if operation.endswith("v1") else 409
            assert response.status_code == (200 if name in alive else over)
            alive.discard(name)

    assert {name for name, session_id in names.items() if not used_api.session(session_id).exited} == alive


@pytest.mark.parametrize("path", [f"/v1/sessions/{RUNNING}", f"/v3/organizations/{ORG_ID}/sessions/{RUNNING}"])
@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b"HTTP/1.1", b"HTTP/9"),
        (b" HTTP/1.1", b" a b"),
        (b"\r\n\r\n", b"\r\nContent-Length: many\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (b"Bearer ", b"Basic "),
        (b"/sessions", b"//sessions"),
        (b"/sessions", b"/\xff"),
    ],
)
def test_a_malformed_request_is_refused_and_ends_nothing(api: FakeDevin, path: str, good: bytes, bad: bytes) -> None:
    fill(api)
    key = V1_KEY if path.startswith("/v1") else V3_KEY
    whole = f"DELETE {path} HTTP/1.1\r\nHost: api.devin.ai\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    with Caller(api.url) as caller:
        caller.socket.sendall(whole.replace(good, bad))
        answer = caller.socket.recv(65536)

    # A request line of an unheard-of kind gets the error page alone, as of old.
    status = re.search(rb"HTTP/1\.[01] (\d{3})|Error code: (\d{3})", answer)
    assert status is not None
    assert (status[1] or status[2])[:1] in {b"4", b"5"}
    assert not api.session(RUNNING).exited
    assert call(api, "get_session_v1", RUNNING, V1_KEY, "").status_code == 200
