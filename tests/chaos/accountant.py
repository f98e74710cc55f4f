"""The books of a chaos run: where every id is, from the API's record, the queues and the dead letters alone.

Every message asks for an id once, and each asking has one place to end in: the session ended, it was spared or had
exited already, a dead letter, or the work queue. So an id is in as many places as it was asked for at most, and in one
at least. What is delivered twice can end in two places, and only three things may deliver twice here: a process that
was killed while it worked on the id, an answer that never arrived, and a delivery so slow, on a machine with too much
to do, that the queue's visibility timeout ran out under it. Each has to be in the record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from infra.local.standin import Call
from tests.chaos.plan import NAME, Kind

ENDED = "ended"
SPARED = "spared"
EXITED = "exited already"
DEAD = "dead letter"
QUEUED = "in the work queue"
REPEATED = "asked for repeatedly: more than one place"
UNANSWERED = "answer lost at the last receive: ended, and moved by SQS"
KILLED = "killed while worked on: delivered again, more than one place"
OVERTAKEN = "overtaken by its next delivery: more than one place"
EXCUSED = frozenset({UNANSWERED, KILLED, OVERTAKEN})
# Excuses are for a few. Where they become the rule, the record proves nothing any more.
MOST_EXCUSED = 0.05

# How long an invocation of the run may last; what it called for so long before a kill may have been in its hands.
IN_FLIGHT = timedelta(seconds=15)
# The reasons that the function may give for a dead letter; None is one that it did not write.
_REASONS: Mapping[Kind, frozenset[str | None]] = {
    "runs": frozenset({None}),
    "swept": frozenset({None}),
    "awake": frozenset({None}),
    "fails": frozenset({None}),
    "exited": frozenset({None, "rejected_422"}),
    "refused": frozenset({None, "rejected_422"}),
    "unknown": frozenset({None, "rejected_404"}),
    "unusable": frozenset({None, "invalid_message"}),
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
    """All that the accountant sees.

    kinds, asks: what each id was made for, and how often it was asked for. exited: sessions that have exited, as the
    API says. queued: bodies in the work queue; hidden: how many more it has that could not be read. kills: when
    processes were killed. sent: when each id was sent first. visibility: after how long a message comes back.
    """

    kinds: Mapping[str, Kind]
    asks: Mapping[str, int]
    decoys: Collection[str]
    calls: Sequence[Call]
    exited: Collection[str]
    letters: Sequence[Letter]
    queued: Sequence[str] = ()
    hidden: int = 0
    kills: Sequence[datetime] = ()
    sent: Mapping[str, datetime] = field(default_factory=dict)
    visibility: timedelta = timedelta.max


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that must not be; `name` is the id that it is about, if there is one."""

    name: str | None
    what: str
    # Of what is nowhere yet, time may take care.
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

    @property
    def excused(self) -> int:
        """How many ids are in two places with proof of why."""
        return sum(place in EXCUSED for place in self.places.values())


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
            kills=books.kills,
            sent=books.sent.get(name),
            visibility=books.visibility,
        )
        problems += [Problem(name, what) for what in case.faults()]
        place = case.place()
        if place is None:
            problems.append(Problem(name, case.misplaced(), may_pass=not case.places()))
        else:
            places[name] = place
    found = Audit(places, problems)
    if found.excused > MOST_EXCUSED * len(books.kinds):
        problems.append(Problem(None, f"{found.excused} ids need an excuse; that is no exception any more"))
    return found


def named(text: str) -> set[str]:
    """The ids in a text, whatever is around them."""
    return set(NAME.findall(text))


def _intrusions(books: Books, written: Iterable[str]) -> Iterator[Problem]:
    """What reached, or wrote of, somebody whom nobody named."""
    for name in sorted(set(written) - books.kinds.keys()):
        what = "a decoy" if name in books.decoys else "unknown"
        yield Problem(name, f"a dead letter or a queued message names it, and it is {what}")
    for letter in books.letters:
        if not named(letter.body):
            yield Problem(None, f"a dead letter names nobody: {letter.body[:200]!r} {dict(letter.attributes)}")
    for body in books.queued:
        if not named(body):
            yield Problem(None, f"a message in the work queue names nobody: {body[:200]!r}")
    if books.hidden:
        yield Problem(None, f"{books.hidden} messages in the work queue could not be read", may_pass=True)
    for call in books.calls:
        kind = books.kinds.get(call.session_id or "")
        if call.operation != "list" and kind in {None, "unusable"}:
            why = "nobody named it" if kind is None else "what was sent is no id"
            yield Problem(call.session_id, f"called, and {why}: {call.method} {call.path}")
    for decoy in sorted(set(books.decoys) & set(books.exited)):
        yield Problem(decoy, "a decoy has exited")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """All that there is about one id."""

    kind: Kind
    asks: int
    calls: Sequence[Call]
    letters: Sequence[Letter]
    queued: int
    exited: bool
    kills: Sequence[datetime]
    sent: datetime | None
    visibility: timedelta

    def ends(self) -> list[Call]:
        return [call for call in self.calls if call.ended]

    def faults(self) -> Iterator[str]:
        """What must not be, wherever the id is."""
        if len(self.ends()) > 1:
            yield f"ended {len(self.ends())} times"
        if self.kind == "awake" and any(call.method == "DELETE" for call in self.calls):
            yield "a DELETE was sent, and it was to be spared"
        if self.kind not in {"runs", "swept"} and self.ends():
            yield f"ended, and it was made as {self.kind}"
        if self.kind != "exited" and self.exited != bool(self.ends()):
            yield "the API's state and its record of calls differ"
        for letter in self.letters:
            reason = letter.attributes.get("reason")
            if reason not in _REASONS[self.kind] and not self._repeat_rejected(letter):
                yield f"a dead letter with the reason {reason}"

    def _repeat_rejected(self, letter: Letter) -> bool:
        """Whether the API rejected a call for what an earlier one had ended: the record has both."""
        return letter.attributes.get("reason") == "rejected_422" and any(
            call.number > end.number and call.status == 422 for end in self.ends() for call in self.calls
        )

    def places(self) -> int:
        return len(self.ends()) + len(self.letters) + self.queued

    def place(self) -> str | None:
        """Its one place, or the excuse for more; None if it has none, or too many."""
        places, silent = self.places(), self._silent()
        if places == 0:
            return silent
        # What was spared or had exited left no trace where it ended; it counts as one more place.
        if places + bool(silent) > 1:
            return self._excuse(places + bool(silent))
        return ENDED if self.ends() else DEAD if self.letters else QUEUED

    def misplaced(self) -> str:
        parts = [f"ended {len(self.ends())} times", f"{len(self.letters)} dead letters", f"{self.queued} times queued"]
        if silent := self._silent():
            parts.append(silent)
        return ("lost: " if not self.places() else "misplaced: ") + f"{', '.join(parts)}; asked for {self.asks} times"

    def _silent(self) -> str | None:
        """How it came to its end without a call that ended it, if the API answered so that it could."""
        seen = any(call.method == "GET" and call.status == 200 and _whole(call) for call in self.calls)
        rejected = any(call.method == "DELETE" and call.status == 422 and _whole(call) for call in self.calls)
        if self.kind == "awake" and seen:
            return SPARED
        if self.kind == "exited" and seen and rejected:
            return EXITED
        return None

    def _excuse(self, places: int) -> str | None:
        if places <= self.asks:
            return REPEATED
        moved = [letter for letter in self.letters if "reason" not in letter.attributes]
        if places == self.asks + 1 and moved and any(not _whole(call) for call in self.ends()):
            return UNANSWERED
        if self._was_in_flight_during_a_kill():
            return KILLED
        if self._was_overtaken():
            return OVERTAKEN
        return None

    def _was_in_flight_during_a_kill(self) -> bool:
        worked_on = [*(call.at for call in self.calls), *(at for at, _ in self._written())]
        return any(at <= kill <= at + IN_FLIGHT for kill in self.kills for at in worked_on)

    def _was_overtaken(self) -> bool:
        """Whether a delivery wrote a dead letter after a later one had done its work: deliveries are numbered.

        The first one can be told from the others by its number alone; whoever called before it was a later one. A
        later one cannot have come before the message had been hidden for its time.
        """
        if self.sent is None:
            return False
        later, letters = self.sent + self.visibility, self._written()
        by_letters = any(
            before > attempts and later <= other <= at for at, attempts in letters for other, before in letters
        )
        # To the second, like the dates of the letters.
        by_calls = any(
            attempts == 1 and later <= end.at and end.at.replace(microsecond=0) <= at
            for at, attempts in letters
            for end in self.ends()
        )
        return by_letters or by_calls

    def _written(self) -> list[tuple[datetime, int]]:
        """When the function wrote the dead letters, to the second, and at which delivery."""
        return [
            (datetime.fromisoformat(letter.attributes["failed_at"]), int(letter.attributes.get("attempts", "1")))
            for letter in self.letters
            if "failed_at" in letter.attributes
        ]


def _whole(call: Call) -> bool:
    """Whether the answer arrived, as far as the API knows."""
    return call.status is not None and call.fault not in _CUT
