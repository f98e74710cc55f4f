"""The calls that one invocation makes: with a good key, in the time that is left, and no further once told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event

from devin.api_key import ApiKeyError, ApiKeys
from devin.client import DevinClient, bad_key_is_403
from devin.error_detail import error_detail
from devin.http import Reply, TransportError
from devin.session import Session
from redaction import Redactor, one_line
from retry import parse_retry_after
from terminate.outcomes import Outcome, Then, Verdict, outcome_of, then
from terminate.pace import Pace

# Ten times what a call takes on a bad day; a longer one is given up and tried again later.
CALL_SECONDS = 10.0
# A call that would get less than this is not started: it would be cut off before an answer can be hoped for.
_SHORTEST_CALL_SECONDS = 1.0
_DETAIL_CHARACTERS = 1000
_SLOWED_DOWN = "not called: the API asked other calls to slow down"


class UnsettledError(Exception):
    """A call did not lead to an answer that settles the id; `verdict` says what it led to."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.outcome)
        self.verdict = verdict


class Calls:
    """Terminates and reads sessions on behalf of one invocation; shared by its threads.

    `seconds_left` tells how long a call may take at most. A 429 or a refused key stops every call that has not
    begun: what the API asks of one it asks of all. `halt` stops them all from the start, with that verdict. `pace` is
    the one of this execution environment, so that a later invocation does not start where this one was slowed down.
    `latencies` collects milliseconds, one for each answered call.
    """

    def __init__(
        self,
        client: DevinClient,
        keys: ApiKeys,
        redact: Redactor,
        *,
        seconds_left: Callable[[], float],
        pace: Pace,
        halt: Verdict | None = None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._redact = redact
        self._seconds_left = seconds_left
        self._pace = pace
        self._halt = halt
        self._halted = Event()
        self._statuses: list[int] = []
        self._bad_key_is_403 = False
        self.latencies: list[float] = []

    def terminate(self, session_id: str, *, at_once: bool = False) -> Reply:
        """An answer of the API that is a 2xx, a 3xx or a plain rejection; raises UnsettledError otherwise.

        `at_once`: without waiting for a turn. What was read of the session would be the older, and it may wake up.
        """
        return self._authorised(
            lambda key, seconds: self._client.terminate(session_id, key=key, seconds=seconds), at_once=at_once
        )

    def session(self, session_id: str) -> tuple[Reply, Session | None]:
        """The session, or None and an answer that says why not; raises UnsettledError as `terminate` does."""
        found: list[Session | None] = []

        def get(key: str, seconds: float) -> Reply:
            reply, session = self._client.get(session_id, key=key, seconds=seconds)
            found.append(session)
            return reply

        reply, session = self._authorised(get), found[-1]
        if session is not None and session.status is not None:
            # It is told in logs, events and dead letters, like every word of the API.
            session = replace(session, status=self._redact(session.status))
        return reply, session

    def verdict(self, reply: Reply) -> Verdict:
        """What an answer says, with the API's own words made fit to be logged."""
        outcome = outcome_of(reply.status)
        detail = None if outcome is Outcome.TERMINATED else error_detail(reply.body)
        return Verdict(
            outcome,
            http_status=reply.status,
            detail=detail and one_line(self._redact(detail), _DETAIL_CHARACTERS),
            retry_after=parse_retry_after(reply.headers.get("Retry-After"), datetime.now(UTC)),
        )

    def ensure_going(self) -> None:
        """Raises UnsettledError if no further call may begin."""
        if self._halt is not None:
            raise UnsettledError(self._halt)

    def reconsidered(self, verdict: Verdict) -> Verdict:
        """The verdict in the light of all calls: if each was answered 403 by a version of the API that has no 401,
        it is not the session that is forbidden, it is the key that is bad."""
        if verdict.outcome is not Outcome.FORBIDDEN or set(self._statuses) != {403} or not self._bad_key_is_403:
            return verdict
        return replace(verdict, outcome=Outcome.UNAUTHORIZED, detail=self._bad_key())

    def _bad_key(self) -> str:
        if self._keys.unreadable is not None:
            return f"the API refuses the key, and whether there is a new one is not known: {self._keys.unreadable}"
        return "the API refuses the key; store a valid one in the secret"

    def _authorised(self, send: Callable[[str, float], Reply], *, at_once: bool = False) -> Reply:
        self.ensure_going()
        try:
            reply = self._keys.call(lambda key: self._send(send, key, at_once=at_once))
        except ApiKeyError as error:
            detail = self._redact(f"no API key: {error}")
            raise UnsettledError(Verdict(Outcome.RETRY, detail=detail, uncalled=True)) from None
        verdict = self.verdict(reply)
        match verdict.outcome:
            case Outcome.UNAUTHORIZED:
                # Also of the one that was called: it is the key that was refused, whatever the session.
                verdict = replace(verdict, detail=self._bad_key(), uncalled=True)
                self._stop(replace(verdict, http_status=None))
            case Outcome.RETRY if reply.status == 429:
                self._stop(replace(verdict, http_status=None, detail=_SLOWED_DOWN, uncalled=True))
        if then(verdict.outcome) is Then.TRY_AGAIN:
            raise UnsettledError(verdict)
        return reply

    def _stop(self, verdict: Verdict) -> None:
        self._halt = verdict
        self._halted.set()

    def _send(self, send: Callable[[str, float], Reply], key: str, *, at_once: bool) -> Reply:
        self.ensure_going()
        begun = self._pace.follow() if at_once else self._await_turn()
        seconds = min(self._seconds_left(), CALL_SECONDS)
        if seconds < _SHORTEST_CALL_SECONDS:
            raise UnsettledError(
                Verdict(Outcome.RETRY, detail="not enough time left in this invocation", uncalled=True)
            )
        started = time.monotonic()
        try:
            reply = send(key, seconds)
        except TransportError as error:
            raise UnsettledError(Verdict(Outcome.RETRY, detail=str(error))) from None
        self.latencies.append((time.monotonic() - started) * 1000)
        if reply.status == 429:
            self._pace.slow_down(begun, parse_retry_after(reply.headers.get("Retry-After"), datetime.now(UTC)))
        else:
            self._pace.went_well(begun)
        self._statuses.append(reply.status)
        self._bad_key_is_403 = bad_key_is_403(key)
        return reply

    def _await_turn(self) -> float:
        """Wait until a call may begin, and tell when that was; raises UnsettledError if that is too late.

        Waiting costs a little compute, and holds back what is in the queue: the event source mapping delivers no more
        than these invocations take. Failing instead would use up a receive of every message.
        """
        turn = self._pace.turn(max(self._seconds_left() - _SHORTEST_CALL_SECONDS, 0.0))
        if turn is None:
            rest = self._pace.rest()
            raise UnsettledError(Verdict(Outcome.RETRY, detail=_SLOWED_DOWN, retry_after=rest, uncalled=True))
        begins, seconds = turn
        if seconds > 0:
            self._halted.wait(seconds)
            self.ensure_going()
        return begins
