"""The Devin API as one invocation calls it: with a good key, within its time, and no further once it has to stop."""

import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from threading import Lock
from typing import Any

from devin.api_key import ApiKeyError, ApiKeys
from devin.http import Transport, TransportError
from devin.session import PAGE_BYTES, SESSION_BYTES, Page, Session, parse_page_body, parse_session, parse_session_body
from devin.version import V3, Version, version_of
from redaction import Redactor, one_line
from retry import parse_retry_after

# Enough for any explanation of a refusal.
_DETAIL_BYTES = 64 * 1024
_DETAIL_CHARACTERS = 1000
# Ten times what a call takes on a bad day; a longer one is given up and tried again later.
CALL_SECONDS = 10.0
# A call that would get less than this is not started: it would be cut off before an answer can be expected.
_MIN_CALL_SECONDS = 1.0
# Answers that do not show that the API accepted the key.
_NO_VERDICT = frozenset({401, 403, 408, 425, 429})
# A longer pause after a 429 is not waited for.
_MAX_PAUSE_SECONDS = 5.0
# What version 1 says, and the like. A text that only holds the word may say that it failed.
_DONE = re.compile(
    r"(?:the )?session (?:was |has been |is )?(?:successfully )?(?P<done>terminated|archived)(?: successfully)?[.!]?",
    re.IGNORECASE,
)
# Without Retry-After. The queue's backoff does the rest: messages come back over minutes, with full jitter.
_PAUSE_SECONDS = 1.0
# Environments that were given the same Retry-After do not all come back at once.
_MAX_STRETCH = 1.25


class Throttle:
    """Remembers the end of the pause that a 429 asked for. Safe to share between threads."""

    _ends = 0.0

    def pause(self, retry_after: float | None) -> None:
        """A call was answered by a 429 with this Retry-After, in seconds."""
        seconds = (_PAUSE_SECONDS if retry_after is None else retry_after) * random.uniform(1.0, _MAX_STRETCH)  # noqa: S311
        self._ends = max(self._ends, time.monotonic() + seconds)

    def retry_in(self) -> float:
        """Seconds until a call may begin."""
        return max(self._ends - time.monotonic(), 0.0)


class NotCalled(StrEnum):
    """Why no call was made. The value is the start of the detail."""

    STOPPED = "stopped"
    NO_KEY = "no API key"
    KEY_REFUSED = "the API refuses the key"
    THROTTLED = "not called: the API asked other calls to slow down"
    NO_TIME = "not enough time left in this invocation"
    UNSUPPORTED = "archiving needs a service user's key (cog_), of version 3"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call led to. Failures are values.

    `status` is None if no call was made (`not_called` says why) or no whole response arrived; `detail` holds what the
    API or we say of it, without secrets. `retry_after` is in seconds. `session` and `page` are what a 2xx held, if it
    could be read. `confirmed`: a 2xx to a terminate or archive call said that it was done. `replayed`: the request was
    sent twice, and may have been carried out the first time. `key_refused`: this answer is about the key, not the
    session. `other_session`: a 2xx to a read held another session. `date` is the header.
    """

    status: int | None = None
    detail: str | None = None
    retry_after: float | None = None
    session: Session | None = None
    page: Page | None = None
    confirmed: bool = False
    replayed: bool = False
    not_called: NotCalled | None = None
    key_refused: bool = False
    other_session: bool = False
    date: str | None = None

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class _Call:
    """A request below the version's path of sessions, and how to read a 2xx."""

    method: str
    path: str
    keep_bytes: int
    read: Callable[[bytes, Version], Answer]
    query: Callable[[Version], dict[str, str]] = lambda _: {}
    at_once: bool = False


_PROBE = _Call("GET", "", PAGE_BYTES, lambda *_: Answer(), lambda _: {"first": "1"}, at_once=True)


@dataclass(slots=True)
class DevinClient:
    """Calls the API on behalf of one invocation; shared by its threads. Session ids must come from `parse_session_id`.

    `throttle` outlives the invocation, so that the next one keeps to the pause too. `seconds_left` says how long a call
    may take. What is terminated stays viewable if `keep_viewable`, in version 3. `stop` is a reason to make no call at
    all; a 429 or a refused key is one for every call that has not begun. `latencies` are in milliseconds.
    """

    transport: Transport
    keys: ApiKeys
    throttle: Throttle
    redact: Redactor
    org_id: str | None
    keep_viewable: bool
    seconds_left: Callable[[], float]
    stop: Answer | None = None
    latencies: list[float] = field(default_factory=list)
    _probe: Lock = field(default_factory=Lock)
    _key_works: bool | None = None

    def terminate(self, session_id: str, *, at_once: bool = False) -> Answer:
        """DELETE the session: it ends, and cannot be resumed. `at_once`: without waiting for the end of a pause,
        because what was read of the session would grow stale."""

        def query(version: Version) -> dict[str, str]:
            return {"archive": "true"} if self.keep_viewable and version is V3 else {}

        read = partial(_confirmation, session_id, "terminated")
        return self._call(_Call("DELETE", f"/{session_id}", _DETAIL_BYTES, read, query, at_once))

    def archive(self, session_id: str, *, at_once: bool = False) -> Answer:
        """POST …/archive: the session sleeps and leaves the lists, and can be brought back. Version 3 only."""
        read = partial(_confirmation, session_id, "archived")
        return self._call(_Call("POST", f"/{session_id}/archive", _DETAIL_BYTES, read, at_once=at_once))

    def get(self, session_id: str) -> Answer:
        def read(body: bytes, version: Version) -> Answer:
            session = parse_session_body(body, version)
            if session is None or session.session_id is None:
                return Answer(detail="the answer is no session")
            if session.session_id != session_id:
                # A cache or a proxy that answers for another one.
                return Answer(detail="the API showed another session", other_session=True)
            return Answer(session=replace(session, status=session.status and self.redact(session.status)))

        return self._call(_Call("GET", f"/{session_id}", SESSION_BYTES, read))

    def list_page(self, cursor: str | None) -> Answer:
        """GET a page of the organisation's sessions, the first one for None."""

        def read(body: bytes, version: Version) -> Answer:
            return Answer(page=parse_page_body(body, version, cursor))

        return self._call(_Call("GET", "", PAGE_BYTES, read, lambda version: version.page_query(cursor)))

    def _call(self, call: _Call) -> Answer:
        """With the key, and once more if the API refuses it and the secret holds another by now."""
        if self.stop is not None:
            return self.stop
        try:
            key = self.keys.current()
            answer = self._send(call, key)
            if answer.status in {401, 403} and (other := self.keys.after_refusal(key)):
                key = other
                answer = self._send(call, key)
        except ApiKeyError as error:
            return Answer(detail=self.redact(f"{NotCalled.NO_KEY}: {error}"), not_called=NotCalled.NO_KEY)
        if answer.status == 429:
            self.stop = replace(answer, status=None, detail=NotCalled.THROTTLED, not_called=NotCalled.THROTTLED)
        elif answer.status == 401 or (answer.status == 403 and self._is_refused(key)):
            answer = replace(answer, detail=self._refusal(key, answer), key_refused=True)
            self.stop = replace(answer, status=None, not_called=NotCalled.KEY_REFUSED)
        elif _is_about_the_session(answer):
            self._key_works = True
        return answer

    def _send(self, call: _Call, key: str) -> Answer:
        version = version_of(key)
        if version is V3 and self.org_id is None:
            raise ApiKeyError("a key that starts with cog_ needs the organisation's id; set DEVIN_ORG_ID")
        if version is not V3 and call.method == "POST":
            return Answer(detail=NotCalled.UNSUPPORTED, not_called=NotCalled.UNSUPPORTED)
        if not call.at_once and (not_called := self._wait()) is not None:
            return not_called
        seconds = min(self.seconds_left(), CALL_SECONDS)
        if seconds < _MIN_CALL_SECONDS:
            return Answer(detail=NotCalled.NO_TIME, not_called=NotCalled.NO_TIME)
        started = time.monotonic()
        try:
            reply = self.transport.request(
                call.method,
                version.sessions_path.format(org_id=self.org_id) + call.path,
                key=key,
                params=call.query(version) or None,
                seconds=seconds,
                keep_bytes=call.keep_bytes,
            )
        except TransportError as error:
            return Answer(detail=str(error))
        self.latencies.append((time.monotonic() - started) * 1000)
        retry_after = parse_retry_after(reply.headers.get("Retry-After"), datetime.now(UTC))
        if reply.status == 429:
            self.throttle.pause(retry_after)
        if not 200 <= reply.status < 300:
            detail = error_detail(reply.body[:_DETAIL_BYTES])
            answer = Answer(detail=detail and one_line(self.redact(detail), _DETAIL_CHARACTERS))
        elif reply.too_large:
            answer = Answer(detail="the answer is too large")
        else:
            answer = call.read(reply.body, version)
        date = reply.headers.get("Date")
        return replace(answer, status=reply.status, retry_after=retry_after, replayed=reply.repeated, date=date)

    def _wait(self) -> Answer | None:
        """Wait until a pause is over that an earlier 429 asked for; why no call may begin, if it is too long. To fail
        at once would use up a receive of the message."""
        if pause := self.throttle.retry_in():
            if pause > min(_MAX_PAUSE_SECONDS, self.seconds_left() - _MIN_CALL_SECONDS):
                return Answer(detail=NotCalled.THROTTLED, retry_after=pause, not_called=NotCalled.THROTTLED)
            time.sleep(pause)
        return self.stop

    def _is_refused(self, key: str) -> bool:
        """Whether a 403 is about the key: version 3 has no 401 for a wrong key, and answers 403 for a session of
        another organisation too. One harmless list call tells them apart, once in an invocation."""
        if version_of(key) is not V3:
            return False
        with self._probe:
            if self._key_works is None and self.stop is None:
                answer = self._send(_PROBE, key)
                if answer.status in {401, 403} or _is_about_the_session(answer):
                    self._key_works = answer.status not in {401, 403}
            return self._key_works is False

    def _refusal(self, key: str, answer: Answer) -> str:
        said = f"{NotCalled.KEY_REFUSED} ({answer.detail or answer.status})"
        if self.keys.unreadable is not None:
            return f"{said}, and whether there is a new one is not known: {self.keys.unreadable}"
        advice = ""
        if version_of(key) is V3 and answer.status == 401:
            advice = ", or put this address on the enterprise's IP access list"
        elif version_of(key) is V3:
            advice = ", of a service user with the permissions ViewOrgSessions and ManageOrgSessions"
        return f"{said}; store a valid one in the secret{advice}"


def _is_about_the_session(answer: Answer) -> bool:
    """Whether the API accepted the key. A gateway that is down, or redirects, has not looked at it."""
    return answer.ok or (answer.status is not None and 400 <= answer.status < 500 and answer.status not in _NO_VERDICT)


def _confirmation(session_id: str, word: str, body: bytes, version: Version) -> Answer:
    """Whether a 2xx says what the API says when it did what it was asked: nothing at all, that the session was
    terminated or archived, or the session itself."""
    confirmed = not body.strip()
    if isinstance(fields := parse_json(body), dict):
        detail = fields.get("detail")
        said = _DONE.fullmatch(detail.strip()) if isinstance(detail, str) else None
        done = said is not None and said["done"].lower() == word
        confirmed = done or parse_session(fields, version).session_id == session_id
    return Answer(confirmed=confirmed, detail=None if confirmed else "the answer does not say that it was done")


def error_detail(body: bytes) -> str | None:
    """What the API says of an error: FastAPI's `detail` (a text, or a list of complaints), a problem of RFC 9457, or
    else the body; None if empty."""
    fields = parse_json(body)
    if isinstance(fields, dict):
        detail = fields.get("detail")
        if isinstance(detail, list):
            return "; ".join(_complaint(item) for item in detail) or None
        told = [text for text in (fields.get("title"), detail) if isinstance(text, str) and text]
        if told:
            return ": ".join(told)
    return body.decode("utf-8", "replace").strip() or None


def _complaint(item: Any) -> str:
    try:
        return f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
    except (KeyError, TypeError):
        return str(item)


def parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
