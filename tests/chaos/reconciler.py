"""The books of a chaos run: where every id is, from the API's record, the queues and the dead letters alone.

Every message asks for an id once, and each asking has one place to end in: the session ended, it was spared or had
exited already, a dead letter, or the work queue. So an id is in as many places as it was asked for at most, and in one
at least. What is delivered twice can end in two places, and only three things may deliver twice here: a process that
was killed while it worked on the id, an answer that never arrived, and a delivery so slow, on a machine with too much
to do, that the queue's visibility timeout ran out under it. Each has to be in the record.

That somebody was killed near by is no proof of the first: with a kill every few seconds, somebody always was. The id
must have been worked on again when what the killed process held had come back, and its dead letters must tell of
deliveries: each of another invocation, and numbered as redelivered messages are. One invocation never writes two for an
id, so two that name the same one are wrong whoever was killed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Protocol

from infra.local.fake_devin import Call
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
# Excuses are for a few. Where they become the rule, the record proves nothing any more. A machine with too much to do
# overtakes whole batches, and the numbers of the deliveries prove that; what a kill explains may have another cause.
MOST_EXCUSED = 0.05
MOST_KILLED = 0.02

# Dead letters tell whole seconds.
_A_SECOND = timedelta(seconds=1)
# After which an event whose invocation died is invoked again: the emulator waits so long, Lambda for a minute.
EVENT_RETRY = timedelta(seconds=1)
# The reason that the function may give for a dead letter; what it did not write itself may be of any kind.
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
    """All that the accountant sees.

    kinds, asks: what each id was made for, and how often it was asked for. events: ids that an asynchronous event asks
    for. exited: sessions that have exited, as the API says. queued: bodies in the work queue; hidden: how many more it
    has that could not be read. kills: when processes were killed. sent: when each id was sent first. visibility: after
    how long a message comes back. limit: how long an invocation may last.
    """

    kinds: Mapping[str, Kind]
    asks: Mapping[str, int]
    decoys: Collection[str]
    calls: Sequence[Call]
    exited: Collection[str]
    letters: Sequence[Letter]
    events: Collection[str] = ()
    queued: Sequence[str] = ()
    hidden: int = 0
    kills: Sequence[datetime] = ()
    sent: Mapping[str, datetime] = field(default_factory=dict)
    visibility: timedelta = timedelta.max
    limit: timedelta = timedelta(0)


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
            event=name in books.events,
            kills=books.kills,
            sent=books.sent.get(name),
            visibility=books.visibility,
            limit=books.limit,
        )
        problems += [Problem(name, what) for what in case.faults()]
        place = case.place()
        if place is None:
            problems.append(Problem(name, case.misplaced(), may_pass=not case.places()))
        else:
            places[name] = place
    found = Audit(places, problems)
    killed, ids = sum(place == KILLED for place in places.values()), len(books.kinds)
    if found.excused > MOST_EXCUSED * ids or killed > MOST_KILLED * ids:
        what = f"{found.excused} of {ids} ids need an excuse, {killed} of them a kill; that is no exception any more"
        problems.append(Problem(None, what))
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


@dataclass(frozen=True, slots=True, order=True)
class _Written:
    """What the function says of a dead letter that it wrote: when, to the second, at which delivery, who and why, and
    what asked for it."""

    at: datetime
    attempts: int
    invocation: str
    reason: str
    source: str

    @property
    def looked(self) -> bool:
        """Whether the session was read before this was written. What was delivered before may have been ended then; of
        an event nobody tells how often it was."""
        return self.attempts > 1 or self.source != "sqs"

    @classmethod
    def read(cls, letter: Letter) -> _Written | None:
        """None for one that somebody else wrote. Raises KeyError or ValueError if it does not say all of it."""
        told = letter.attributes
        if "reason" not in told:
            return None
        if not told["request_id"]:
            raise ValueError("no invocation")
        at = datetime.fromisoformat(told["failed_at"])
        return cls(at, int(told["attempts"]), told["request_id"], told["reason"], told["source"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """All that there is about one id."""

    kind: Kind
    asks: int
    calls: Sequence[Call]
    letters: Sequence[Letter]
    queued: int
    exited: bool
    event: bool
    kills: Sequence[datetime]
    sent: datetime | None
    visibility: timedelta
    limit: timedelta

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
        yield from self._untold()
        written = self._written()
        if repeated := [one for one, number in Counter(one.invocation for one in written).items() if number > 1]:
            yield f"more than one dead letter of the same invocation: {', '.join(repeated)}"
        for one in written:
            if one.reason not in _REASONS[self.kind] and not self._repeat_rejected(one):
                yield f"a dead letter with the reason {one.reason}, of delivery {one.attempts}"
            elif self.kind == "exited" and one.looked:
                yield f"a dead letter, of delivery {one.attempts}, of a session that was seen to have exited"

    def _untold(self) -> Iterator[str]:
        for letter in self.letters:
            try:
                _Written.read(letter)
            except (KeyError, ValueError) as error:
                yield f"a dead letter does not tell who wrote it, when and at which delivery: {error!r}"

    def _repeat_rejected(self, letter: _Written) -> bool:
        """Whether the API rejected a call for what an earlier one had ended, in a delivery that did not have to look:
        the first one of another message than the one that ended it, or of the same one, overtaken."""
        if letter.reason != "rejected_422" or letter.looked:
            return False
        rejected = any(call.number > end.number and call.status == 422 for end in self.ends() for call in self.calls)
        return rejected and (self.asks > 1 or self._was_overtaken())

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
        doubling = self._doubling()
        # A kill doubles whatever there was of the id at the time.
        if places <= self.asks * 2 ** len(doubling) and self._tell_of_redeliveries(doubling):
            return KILLED
        if self._was_overtaken():
            return OVERTAKEN
        return None

    def _doubling(self) -> list[datetime]:
        """The kills that may have made two of what was one: the id was being worked on, and was again when it had come
        back. What SQS moved, or still holds, has no date; it came back all the same."""
        begun = [*(call.at for call in self.calls), *(one.at for one in self._written())]
        ended = [*(call.at for call in self.calls), *(one.at + _A_SECOND for one in self._written())]
        undated = self.queued > 0 or len(self._written()) < len(self.letters)
        # An invocation was killed before its limit, so its messages were still hidden for the rest of their time.
        away = EVENT_RETRY if self.event else self.visibility - self.limit
        return [
            kill
            for kill in self.kills
            if any(at <= kill <= at + self.limit for at in begun)
            and (undated or any(at - kill >= away for at in ended))
        ]

    def _tell_of_redeliveries(self, doubling: Sequence[datetime]) -> bool:
        """Whether the dead letters are numbered as those of redelivered messages: one is of a later delivery than the
        one before it. Otherwise both have to be of deliveries after the kill, one of each half; or of an event, of
        which nobody says how often it was tried."""
        return all(
            before.attempts < after.attempts or self.event or any(kill < before.at + _A_SECOND for kill in doubling)
            for before, after in pairwise(self._written())
        )

    def _was_overtaken(self) -> bool:
        """Whether a delivery wrote a dead letter after a later one had done its work: deliveries are numbered.

        The first one can be told from the others by its number alone; whoever called before it was a later one. A
        later one cannot have come before the message had been hidden for its time.
        """
        if self.sent is None:
            return False
        later, letters = self.sent + self.visibility, self._written()
        by_letters = any(
            before.attempts > letter.attempts and later <= before.at <= letter.at
            for letter in letters
            for before in letters
        )
        # To the second, like the dates of the letters.
        by_calls = any(
            letter.attempts == 1 and later <= end.at and end.at.replace(microsecond=0) <= letter.at
            for letter in letters
            for end in self.ends()
        )
        return by_letters or by_calls

    def _written(self) -> list[_Written]:
        """The dead letters that the function wrote, in their order."""
        found = []
        for letter in self.letters:
            with suppress(KeyError, ValueError):
                found.append(_Written.read(letter))
        return sorted(one for one in found if one is not None)


def _whole(call: Call) -> bool:
    """Whether the answer arrived, as far as the API knows."""
    return call.status is not None and call.fault not in _CUT
