"""A stand-in in another process, steered as if it were in this one."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import urlsplit

from infra.local.fake_devin.admin import PREFIX
from infra.local.fake_devin.calls import Call
from infra.local.fake_devin.faults import Conditions, Fault, Rule
from infra.local.fake_devin.sessions import Fields, Session


class FakeDevinAdmin:
    """The methods of FakeDevin, with the same arguments, results and errors, over HTTP.

    ca_bundle: a PEM file, for a stand-in that speaks TLS. Raises OSError if there is none at that address, or it
    does not answer within 10 seconds.
    """

    def __init__(self, url: str, *, ca_bundle: Path | None = None) -> None:
        self.url = url
        self._tls = None if ca_bundle is None else ssl.create_default_context(cafile=ca_bundle)

    def add_sessions(self, *session_ids: str, **fields: Unpack[Fields]) -> list[Session]:
        data = self._call("POST", "sessions", {"session_ids": session_ids, **_json_fields(fields)})
        return [Session.from_json(session) for session in data]

    def update_session(self, session_id: str, **fields: Unpack[Fields]) -> Session:
        return Session.from_json(self._call("PATCH", f"sessions/{session_id}", _json_fields(fields)))

    def wake(self, session_id: str) -> Session:
        return Session.from_json(self._call("POST", f"sessions/{session_id}/wake"))

    def session(self, session_id: str) -> Session:
        return Session.from_json(self._call("GET", f"sessions/{session_id}"))

    def sessions(self) -> list[Session]:
        return [Session.from_json(session) for session in self._call("GET", "sessions")]

    def script(self, fault: Fault, **when: Unpack[Conditions]) -> None:
        self._call("POST", "faults", Rule(fault=fault, **when).to_json())

    def rules(self) -> list[Rule]:
        return [Rule.from_json(rule) for rule in self._call("GET", "faults")]

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def set_keys(self, keys: Collection[str] | None) -> None:
        self._call("PUT", "keys", None if keys is None else list(keys))

    def set_latency(self, low: float, high: float | None = None) -> None:
        self._call("PUT", "latency", {"low": low, "high": high})

    def set_keep_alive(self, responses: int | None = None, idle_seconds: float | None = None) -> None:
        self._call("PUT", "keep-alive", {"responses": responses, "idle_seconds": idle_seconds})

    def calls(self) -> list[Call]:
        return [Call.from_json(call) for call in self._call("GET", "calls")]

    def clear_calls(self) -> None:
        self._call("DELETE", "calls")

    def _call(self, method: str, path: str, data: Any = None) -> Any:
        address = urlsplit(self.url).netloc
        # Not urllib: it would take a proxy from the environment.
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(address, timeout=10)
        else:
            connection = http.client.HTTPSConnection(address, timeout=10, context=self._tls)
        try:
            connection.request(method, PREFIX + path, json.dumps(data))
            response = connection.getresponse()
            answered = json.loads(response.read())
        finally:
            connection.close()
        if response.status == http.HTTPStatus.NOT_FOUND:
            raise KeyError(answered["detail"])
        if response.status != http.HTTPStatus.OK:
            raise ValueError(answered["detail"])
        return answered


def _json_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}
