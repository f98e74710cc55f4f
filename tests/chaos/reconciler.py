"""Where every id of a chaos run is, from the API's record, the queues and the dead letters alone.

Each message asks for an id once, and that ends in one place: the session ended, it was spared or had exited, a dead
letter, or the work queue. So an id is in at least one place, and in no more places than messages asked for it. SQS and
Lambda deliver at least once: what is delivered again may end in a second place if the first delivery was cut off after
its write. Then the record has to show another delivery, and few ids may need that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from infra.local.fake_devin import Call
from tests.chaos.plan import NAME, Kind

ENDED = "ended"
SPARED = "spared"
EXITED = "exited already"
DEAD = "dead letter"
QUEUED = "in the work queue"
REPEATED = "asked for repeatedly"
REDELIVERED = "delivered again"
PLACES = (ENDED, SPARED, EXITED, DEAD, QUEUED, REPEATED, REDELIVERED)
# A defect that acknowledges nothing after a dead letter would exceed this: a tenth of the ids has dead letters.
MOST_REDELIVERED = 0.05

# The reasons that the function may give for a dead letter. SQS gives none.
_REASONS: Mapping[Kind, frozenset[str]] = {
    "runs": frozenset(),
    "swept": frozenset(),
    "awake": frozenset(),
    "fails": frozenset(),
    "exited": frozenset({"rejected_422"}),
    "refused": frozenset({"rejected_422"}),
    "unknown": frozenset({"rejected_404"}),
    "unusable": frozenset({"invalid_message"}),
}
_CUT = frozenset({"reset", "close", "hang"})


class Letter(Protocol):
    """A dead letter."""

    @property
    def body(self) -> str: ...
    @property
    def attributes(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the reconciler sees.

    kinds, asks: what each id was made for, and how often it was asked for. exited: sessions that have exited, as the
    API says. queued: bodies in the work queue; hidden: how many more it has. sent: when each id was sent first.
    visibility: the queue's visibility timeout.
    """

    kinds: Mapping[str, Kind]
    asks: Mapping[str, int]
    decoys: Collection[str]
    calls: Sequence[Call]
    exited: Collection[str]
    letters: Sequence[Letter]
    queued: Sequence[str] = ()
    hidden: int = 0
    sent: Mapping[str, datetime] = field(default_factory=dict)
    visibility: timedelta = timedelta.max


@dataclass(frozen=True, slots=True)
class Problem:
    """What must not be. `name`: the id that it is about; `may_pass`: waiting may resolve it."""

    name: str | None
    what: str
    may_pass: bool = False


@dataclass(frozen=True, slots=True)
class Audit:
    """Where each id is, and what is wrong."""

    places: Mapping[str, str]
    problems: Sequence[Problem]

    @property
    def balanced(self) -> bool:
        return not self.problems

    @property
    def settled(self) -> bool:
        """Whether waiting would change nothing."""
        return not any(problem.may_pass for problem in self.problems)


def audit(books: Books) -> Audit:
    """Find the place of each id, and everything that is wrong."""
    calls: dict[str, list[Call]] = {name: [] for name in books.kinds}
    letters: dict[str, list[Letter]] = {name: [] for name in books.kinds}
    for call in books.calls:
        if call.session_id in calls:
            calls[call.session_id].append(call)
    for letter in books.letters:
        for name in named(letter.body):
            letters.setdefault(name, []).append(letter)
    queued = Counter(name for body in books.queued for name in named(body))
    places: dict[str, str] = {}
    problems = list(_intrusions(books, letters.keys() | queued.keys()))
    for name, kind in books.kinds.items():
        case = _Case(
            kind=kind,
            asks=books.asks[name],
            calls=calls[name],
            letters=letters[name],
            queued=queued[name],
            exited=name in books.exited,
            second_delivery=books.sent[name] + books.visibility if name in books.sent else None,
        )
        problems += [Problem(name, what) for what in case.faults()]
        place = case.place()
        if place is None:
            problems.append(Problem(name, case.misplaced(), may_pass=not case.places()))
        else:
            places[name] = place
    redelivered, ids = sum(place == REDELIVERED for place in places.values()), len(books.kinds)
    if redelivered > MOST_REDELIVERED * ids:
        problems.append(Problem(None, f"{redelivered} of {ids} ids were delivered again after their end"))
    return Audit(places, problems)


def named(text: str) -> set[str]:
    """The ids in a text, whatever is around them."""
    return set(NAME.findall(text))


def _intrusions(books: Books, written: Iterable[str]) -> Iterator[Problem]:
    """What concerns sessions that no message named."""
    for name in sorted(set(written) - books.kinds.keys()):
        what = "a decoy" if name in books.decoys else "unknown"
        yield Problem(name, f"a dead letter or a queued message names it, and it is {what}")
    for body in [*(letter.body for letter in books.letters), *books.queued]:
        if not named(body):
            yield Problem(None, f"a message names no id: {body[:200]!r}")
    if books.hidden:
        yield Problem(None, f"{books.hidden} messages in the work queue could not be read", may_pass=True)
    for call in books.calls:
        kind = books.kinds.get(call.session_id or "")
        if call.operation != "list" and kind in {None, "unusable"}:
            yield Problem(call.session_id, f"called without a usable request: {call.method} {call.path}")
    for decoy in sorted(set(books.decoys) & set(books.exited)):
        yield Problem(decoy, "a decoy has exited")


@dataclass(frozen=True, slots=True)
class _Written:
    """A dead letter that the function wrote: when, at which delivery, in which invocation, why, and for what source."""

    at: datetime
    attempts: int
    invocation: str
    reason: str
    source: str

    @property
    def looked(self) -> bool:
        """Whether the session must have been read before: so it is for redelivered messages and for events."""
        return self.attempts > 1 or self.source != "sqs"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """All that there is about one id."""

    kind: Kind
    asks: int
    calls: Sequence[Call]
    letters: Sequence[Letter]
    queued: int
    exited: bool
    second_delivery: datetime | None

    def ends(self) -> list[Call]:
        return [call for call in self.calls if call.ended]

    def written(self) -> list[_Written]:
        """The dead letters that the function wrote. Raises KeyError or ValueError if one lacks an attribute."""
        told = [letter.attributes for letter in self.letters if "reason" in letter.attributes]
        return [
            _Written(
                datetime.fromisoformat(one["failed_at"]),
                int(one["attempts"]),
                one["request_id"],
                one["reason"],
                one["source"],
            )
            for one in told
        ]

    def faults(self) -> Iterator[str]:
        """What must not be, wherever the id is."""
        ends = self.ends()
        if len(ends) > 1:
            yield f"ended {len(ends)} times"
        if self.kind == "awake" and any(call.method == "DELETE" for call in self.calls):
            yield "a DELETE was sent, and it was to be spared"
        if self.kind not in {"runs", "swept"} and ends:
            yield f"ended, and it was made as {self.kind}"
        if self.kind != "exited" and self.exited != bool(ends):
            yield "the API's state and its record of calls differ"
        try:
            written = self.written()
        except (KeyError, ValueError) as error:
            yield f"a dead letter lacks an attribute: {error!r}"
            return
        if len({one.invocation for one in written}) < len(written):
            yield "more than one dead letter of the same invocation"
        for one in written:
            ended_by_another = one.reason == "rejected_422" and not one.looked and bool(ends)
            if one.reason not in _REASONS[self.kind] and not ended_by_another:
                yield f"a dead letter with the reason {one.reason}, of delivery {one.attempts}"
            if self.kind == "exited" and one.looked:
                yield f"a dead letter, of delivery {one.attempts}, of a session that was seen to have exited"

    def places(self) -> int:
        return len(self.ends()) + len(self.letters) + self.queued

    def place(self) -> str | None:
        """Its place; None if it has none, or too many."""
        places = self.places()
        if places == 0:
            return self._silent()
        if places > 1:
            return REPEATED if places <= self.asks else REDELIVERED if self._was_delivered_again() else None
        return ENDED if self.ends() else DEAD if self.letters else QUEUED

    def misplaced(self) -> str:
        parts = f"ended {len(self.ends())} times, {len(self.letters)} dead letters, {self.queued} times queued"
        return f"{'misplaced' if self.places() else 'lost'}: {parts}; asked for {self.asks} times"

    def _silent(self) -> str | None:
        """How it came to its end without a call that ended it, if the API answered accordingly."""
        seen = any(call.method == "GET" and call.status == 200 and _whole(call) for call in self.calls)
        rejected = any(call.method == "DELETE" and call.status == 422 and _whole(call) for call in self.calls)
        if self.kind == "awake" and seen:
            return SPARED
        return EXITED if self.kind == "exited" and seen and rejected else None

    def _was_delivered_again(self) -> bool:
        """Whether the record shows more deliveries than messages.

        SQS moves only what it has delivered several times. Deliveries are numbered, so at most one dead letter for
        each message is of a first delivery; Lambda numbers no event. A first delivery that was rejected because of an
        earlier end was slower than the visibility timeout.
        """
        written = self.written()
        if len(written) < len(self.letters):
            return True
        if self.ends():
            by = self.second_delivery
            return by is not None and any(one.attempts == 1 for one in written) and self.ends()[0].at >= by
        return sum(not one.looked for one in written) <= self.asks


def _whole(call: Call) -> bool:
    """Whether the answer arrived, as far as the API knows."""
    return call.status is not None and call.fault not in _CUT
