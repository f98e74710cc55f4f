"""The fake API answers nothing that the contract file does not list.

The file documents few failures of reading. A server whose routing and key check serve all operations answers a wrong
key or an unknown session there as on the DELETE beside it: UNDOCUMENTED lists these; the file gets nothing else.
"""

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from infra.local.fake_devin import FakeDevin
from infra.local.fake_devin.sessions import ORG_ID
from tests.contract.keys import V1_KEY, V3_KEY

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
WRONG_V1_KEY, WRONG_V3_KEY = "apk_user_wrong", "cog_wrong"


def contract_at(url: str) -> dict[str, Any]:
    """The contract of a server at this address, with what UNDOCUMENTED adds."""
    contract = copy.deepcopy(CONTRACT)
    contract["servers"] = [{"url": url}]
    for operation, responses in UNDOCUMENTED.items():
        method, path = OPERATIONS[operation]
        for status, content in responses.items():
            answer = {"description": "Undocumented", "content": content}
            contract["paths"][path][method.lower()]["responses"][str(status)] = answer
    return contract


def fill(api: FakeDevin) -> None:
    api.add_sessions(RUNNING, title="Running", tags=("a",), user_email="someone@example.com", user_id="user-1")
    api.add_sessions(
        EXITED, status="exit", tags=None, service_user_id="service-user-1", pull_request_states=("merged",)
    )
    api.add_sessions(FOREIGN, org_id="org-other", status_detail="waiting_for_user")
    api.add_sessions("devin-child", parent_session_id=RUNNING, origin="api", category="bug", playbook_id="playbook-1")


@pytest.fixture(scope="module")
def used_api() -> Iterator[FakeDevin]:
    """One fake for all generated requests: it fills up, as the API does."""
    with FakeDevin(keys=[V1_KEY, V3_KEY]) as fake:
        fill(fake)
        yield fake


_numbers = itertools.count()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_generated_request_is_answered_within_the_contract(used_api: FakeDevin, operation: str) -> None:
    schema = schemathesis.openapi.from_dict(contract_at(used_api.url))
    described = schema.find_operation_by_id(operation)
    # Of a path parameter that may be any text nothing is invalid, so only operations with a query can be sent what is.
    modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if operation.startswith("list") else [])]

    @settings(
        max_examples=20,
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
