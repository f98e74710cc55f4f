"""Where every id of a chaos run is, from the API's record and the dead letters alone, once the work queue is empty.

Each message asks for an id once, and that ends in one place: the session ended, it was spared or had exited, or a dead
letter. So an id is in at least one place, and in no more places than messages asked for it. SQS and Lambda deliver at
least once: what is delivered again may end in a second place if the first delivery was cut off after its write. Then
the record has to show another delivery, and few ids may need that.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Self

from infra.local.fake_devin import Call
from tests.chaos.plan import NAME, Kind
from tests.integration.world import Letter

ENDED = "ended"
SPARED = "spared"
EXITED = "exited already"
DEAD = "dead letter"
REPEATED = "asked for repeatedly"
REDELIVERED = "delivered again"
# A defect that acknowledges nothing after a dead letter would exceed this: a tenth of the ids has dead letters.
MOST_REDELIVERED = 0.05

# The reason that the function may give for a dead letter. SQS gives none.
_REASONS: Mapping[Kind, str] = {
    "exited": "rejected_422",
    "refused": "rejected_422",
    "unknown": "rejected_404",
    "unusable": "invalid_message",
}
_CUT = frozenset({"reset", "close", "hang"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the reconciler sees.

    kinds, asks: what each id was made for, and how often it was asked for. exited: sessions that have exited, as the
    API says. queued: how many messages the work queue holds. again: when SQS may have delivered an id a second time.
    """

    kinds: Mapping[str, Kind]
    asks: Mapping[str, int]
    decoys: Collection[str]
    calls: Sequence[Call]
    exited: Collection[str]
    letters: Sequence[Letter]
    queued: int = 0
    again: Mapping[str, datetime] = field(default_factory=dict)


class Problem(NamedTuple):
    """What must not be. `name`: the id that it is about; `may_pass`: waiting may resolve it."""

    name: str | None
    what: str
    may_pass: bool = False


class Audit(NamedTuple):
    """Where each id is, and what is wrong."""

    places: Mapping[str, str]
    problems: Sequence[Problem]


def audit(books: Books) -> Audit:
    """Find the place of each id, and everything that is wrong."""
    calls: dict[str | None, list[Call]] = defaultdict(list)
    letters: dict[str, list[Letter]] = defaultdict(list)
    for call in books.calls:
        calls[call.session_id].append(call)
    for letter in books.letters:
        for name in named(letter.body):
            letters[name].append(letter)
    places: dict[str, str] = {}
    problems = list(_intrusions(books, letters.keys()))
    for name in books.kinds:
        case = _Case(books, name, calls[name], letters[name])
        problems += [Problem(name, what) for what in case.faults()]
        if place := case.place():
            places[name] = place
        else:
            what = f"ended {len(case.ends)} times, {len(case.letters)} dead letters, asked for {case.asks} times"
            problems.append(Problem(name, f"{'misplaced' if case.places else 'lost'}: {what}", not case.places))
    redelivered, ids = [*places.values()].count(REDELIVERED), len(books.kinds)
    if redelivered > MOST_REDELIVERED * ids:
        problems.append(Problem(None, f"{redelivered} of {ids} ids were delivered again after their end"))
    return Audit(places, problems)


def named(text: str) -> set[str]:
    """The ids in a text, whatever is around them."""
    return set(NAME.findall(text))


def _intrusions(books: Books, written: Collection[str]) -> Iterator[Problem]:
    """What concerns sessions that no message named, and what is still under way."""
    for name in sorted(written - books.kinds.keys()):
        what = "a decoy" if name in books.decoys else "unknown"
        yield Problem(name, f"a dead letter names it, and it is {what}")
    if books.queued:
        yield Problem(None, f"{books.queued} messages are in the work queue", may_pass=True)
    for call in books.calls:
        kind = books.kinds.get(call.session_id or "")
        if call.operation != "list" and kind in {None, "unusable"}:
            yield Problem(call.session_id, f"called without a usable request: {call.method} {call.path}")
    for decoy in sorted(set(books.decoys) & set(books.exited)):
        yield Problem(decoy, "a decoy has exited")


class _Written(NamedTuple):
    """A dead letter that the function wrote: at which delivery, in which invocation, and why.

    looked: whether the session must have been read before, as it is for redelivered messages and for events.
    """

    attempts: int
    invocation: str
    reason: str
    looked: bool

    @classmethod
    def of(cls, told: Mapping[str, str]) -> Self:
        """Raises KeyError or ValueError if it lacks an attribute."""
        datetime.fromisoformat(told["failed_at"])
        attempts = int(told["attempts"])
        return cls(attempts, told["request_id"], told["reason"], told["source"] != "sqs" or attempts > 1)


class _Case:
    """All that there is about one id."""

    def __init__(self, books: Books, name: str, calls: Sequence[Call], letters: Sequence[Letter]) -> None:
        self.kind = books.kinds[name]
        self.asks = books.asks[name]
        self.exited = name in books.exited
        self.again = books.again.get(name)
        self.calls = calls
        self.letters = letters
        self.ends = [call for call in calls if call.ended]
        self.places = len(self.ends) + len(letters)

    def written(self) -> list[_Written]:
        return [_Written.of(letter.attributes) for letter in self.letters if "reason" in letter.attributes]

    def faults(self) -> Iterator[str]:
        """What must not be, wherever the id is."""
        if len(self.ends) > 1:
            yield f"ended {len(self.ends)} times"
        if self.kind == "awake" and any(call.method == "DELETE" for call in self.calls):
            yield "a DELETE was sent, and it was to be spared"
        if self.kind not in {"runs", "swept"} and self.ends:
            yield f"ended, and it was made as {self.kind}"
        if self.kind != "exited" and self.exited != bool(self.ends):
            yield "the API's state and its record of calls differ"
        try:
            written = self.written()
        except (KeyError, ValueError) as error:
            yield f"a dead letter lacks an attribute: {error!r}"
            return
        if len({one.invocation for one in written}) < len(written):
            yield "more than one dead letter of the same invocation"
        for one in written:
            ended_by_another = one.reason == "rejected_422" and not one.looked and bool(self.ends)
            if one.reason != _REASONS.get(self.kind) and not ended_by_another:
                yield f"a dead letter with the reason {one.reason}, of delivery {one.attempts}"
            if self.kind == "exited" and one.looked:
                yield f"a dead letter, of delivery {one.attempts}, of a session that was seen to have exited"

    def place(self) -> str | None:
        """Its place; None if it has none, or too many."""
        if self.places > 1:
            return REPEATED if self.places <= self.asks else REDELIVERED if self._was_delivered_again() else None
        if self.places:
            return ENDED if self.ends else DEAD
        # How it came to its end without a call that ended it, if the API answered accordingly.
        answers = {(call.method, call.status) for call in self.calls if call.fault not in _CUT}
        seen, rejected = ("GET", 200) in answers, ("DELETE", 422) in answers
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
        if self.ends:
            first = any(one.attempts == 1 for one in written)
            return self.again is not None and first and self.ends[0].at >= self.again
        return sum(not one.looked for one in written) <= self.asks
