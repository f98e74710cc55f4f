"""The fake API answers nothing that the contract file does not list.

The file documents few failures of reading. A server whose routing and key check serve all operations answers a wrong
key or an unknown session there as on the DELETE beside it: UNDOCUMENTED lists these; the file gets nothing else.
"""

from __future__ import annotations

import copy
import itertools
import json
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
from infra.local.fake_devin.faults import json_fault, too_many_requests
from infra.local.fake_devin.sessions import ORG_ID
from tests.contract.caller import V1_KEY, V3_KEY

CONTRACT: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "devin-api.yaml").read_text())

_DETAIL = {"application/json": {"schema": {"$ref": "#/components/schemas/Detail"}}}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_OF_ONE_SESSION = {403: _PROBLEM, 404: _PROBLEM, 422: _PROBLEM}
UNDOCUMENTED: dict[str, dict[int, dict[str, Any]]] = {
    "get_session_v1": {401: _DETAIL, 404: _DETAIL},
    "list_sessions_v1": {401: _DETAIL},
    "get_session_v3": _OF_ONE_SESSION,
    "archive_session_v3": _OF_ONE_SESSION,
    "unarchive_session_v3": _OF_ONE_SESSION,
    "list_sessions_v3": {403: _PROBLEM, 422: _PROBLEM},
    "get_self_v3": {403: _PROBLEM},
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
    ("get_session_v1", 200, EXITED, V1_KEY, ""),
    ("get_session_v1", 401, RUNNING, WRONG_V1_KEY, ""),
    ("get_session_v1", 404, UNKNOWN, V1_KEY, ""),
    ("get_session_v1", 422, MALFORMED, V1_KEY, ""),
    ("list_sessions_v1", 200, "", V1_KEY, "?limit=1000&offset=1&tags=a&tags=b&user_email=someone@example.com"),
    ("list_sessions_v1", 401, "", WRONG_V1_KEY, ""),
    ("list_sessions_v1", 422, "", V1_KEY, "?limit=1001"),
    ("terminate_session_v3", 200, RUNNING, V3_KEY, "?archive=true"),
    ("terminate_session_v3", 400, EXITED, V3_KEY, ""),
    ("terminate_session_v3", 403, RUNNING, WRONG_V3_KEY, ""),
    ("terminate_session_v3", 403, RUNNING, V1_KEY, ""),
    ("terminate_session_v3", 403, RUNNING, None, ""),
    ("terminate_session_v3", 403, FOREIGN, V3_KEY, ""),
    ("terminate_session_v3", 404, UNKNOWN, V3_KEY, ""),
    ("terminate_session_v3", 422, MALFORMED, V3_KEY, ""),
    ("terminate_session_v3", 422, RUNNING, V3_KEY, "?archive=perhaps"),
    *(
        (operation, status, session_id, key, "")
        for operation in ("get_session_v3", "archive_session_v3", "unarchive_session_v3")
        for status, session_id, key in (
            (200, RUNNING, V3_KEY),
            (200, EXITED, V3_KEY),
            (403, RUNNING, WRONG_V3_KEY),
            (403, FOREIGN, V3_KEY),
            (404, UNKNOWN, V3_KEY),
            (422, MALFORMED, V3_KEY),
        )
    ),
    ("list_sessions_v3", 200, "", V3_KEY, "?first=1&tags=a&updated_before=4000000000&is_archived=false"),
    ("list_sessions_v3", 403, "", WRONG_V3_KEY, ""),
    ("list_sessions_v3", 422, "", V3_KEY, "?first=201"),
    ("get_self_v3", 200, "", V3_KEY, ""),
    ("get_self_v3", 403, "", V1_KEY, ""),
]


def _problem(status: int) -> Fault:
    headers = {"Content-Type": "application/problem+json"}
    return Fault(status=status, headers=headers, body=json.dumps({"title": "No", "status": status, "detail": "no"}))


# Documented, and never the fake's own idea: it knows no key with fewer rights, no limit of calls, no cause of a 409.
SCRIPTED: list[tuple[str, int, Fault]] = [
    ("terminate_session_v1", 403, json_fault(403, {"detail": ""})),
    ("terminate_session_v1", 429, too_many_requests("3")),
    ("terminate_session_v3", 401, _problem(401)),
    ("terminate_session_v3", 409, _problem(409)),
    ("terminate_session_v3", 429, _problem(429)),
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
    # openapi-core reads a problem as bytes unless it is registered as JSON.
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
    api.add_sessions(
        EXITED, status="exit", tags=None, service_user_id="service-user-1", pull_request_states=("merged",)
    )
    api.add_sessions(FOREIGN, org_id="org-other", bare_id=True, status_detail="waiting_for_user")
    api.add_sessions("devin-child", parent_session_id=RUNNING, origin="api", category="bug", playbook_id="playbook-1")


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
    """One fake for all generated requests: it fills up, as the API does."""
    with FakeDevin(keys=[V1_KEY, V3_KEY]) as fake:
        fill(fake)
        yield fake


_numbers = itertools.count()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_generated_request_is_answered_within_the_contract(used_api: FakeDevin, operation: str) -> None:
    schema = schemathesis.openapi.from_dict(contract_at(used_api.url, with_undocumented=True))
    described = schema.find_operation_by_id(operation)
    # Of a path parameter that may be any text nothing is invalid, so only operations with a query can be sent what is.
    modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if operation.startswith("list") else [])]

    @settings(
        max_examples=60,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(
        case=st.one_of([described.as_strategy(generation_mode=mode) for mode in modes]),
        session_id=st.sampled_from([None, "new", RUNNING, EXITED, FOREIGN, UNKNOWN]),
        key=st.sampled_from([V1_KEY, V3_KEY, WRONG_V1_KEY, WRONG_V3_KEY, None]),
    )
    def send(case: schemathesis.Case[Any], session_id: str | None, key: str | None) -> None:
        # An id that is generated (None here) is never one of a session, and most keys are wrong.
        if session_id == "new":
            session_id = f"devin-new-{next(_numbers)}"
            used_api.add_sessions(session_id)
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
