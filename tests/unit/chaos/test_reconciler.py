"""The accountant of the chaos run finds every way in which books can be cooked, and nothing wrong with honest ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.fake_devin import Call
from tests.chaos.plan import KINDS, Kind
from tests.chaos.reconciler import (
    DEAD,
    ENDED,
    EXITED,
    KILLED,
    OVERTAKEN,
    QUEUED,
    REPEATED,
    SPARED,
    UNANSWERED,
    Audit,
    Books,
    audit,
)

pytestmark = pytest.mark.thorough

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DECOY = "devin-chaos-1-decoy-99999"
Cook = Callable[[Books], Books]


@dataclass(frozen=True)
class Letter:
    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)


def name(kind: Kind, number: int = 1) -> str:
    return f"devin-chaos-1-{kind}-{number:05}"


def call(session_id: str, method: str = "DELETE", status: int | None = 200, number: int = 0, **facts: Any) -> Call:
    facts.setdefault("ended", method == "DELETE" and status == 200)
    return Call(
        number=number,
        at=NOON + timedelta(seconds=number),
        method=method,
        path=f"/v1/sessions/{session_id}",
        operation="terminate" if method == "DELETE" else "get",
        session_id=session_id,
        authorised=True,
        status=status,
        **facts,
    )


_invocations = count(1)


def letter(
    session_id: str,
    reason: str | None = None,
    at: datetime = NOON,
    attempts: int = 1,
    *,
    invocation: str | None = None,
    source: str = "sqs",
) -> Letter:
    """A dead letter of this invocation, of one of its own if none is given; without a reason, one that SQS moved."""
    written = {
        "reason": reason or "",
        "failed_at": at.isoformat(timespec="seconds"),
        "attempts": str(attempts),
        "request_id": invocation or f"request-{next(_invocations)}",
        "source": source,
    }
    attributes = {} if reason is None else written
    return Letter(f'{{"session_ids":["{session_id}"]}}', attributes)


# How an id of each kind ends, as a rule: the calls, and the dead letters.
HONEST: dict[Kind, tuple[list[Call], list[Letter]]] = {
    "runs": ([call(name("runs"), status=500), call(name("runs"))], []),
    "swept": ([call(name("swept"), "GET"), call(name("swept"))], []),
    "exited": ([call(name("exited"), status=422), call(name("exited"), "GET")], []),
    "awake": ([call(name("awake"), "GET")], []),
    "unknown": ([call(name("unknown"), status=404)], [letter(name("unknown"), "rejected_404")]),
    "refused": ([call(name("refused"), status=422)], [letter(name("refused"), "rejected_422")]),
    "fails": ([call(name("fails"), status=500)] * 5, [letter(name("fails"))]),
    "unusable": ([], [letter(name("unusable"), "invalid_message")]),
}
PLACES: dict[Kind, str] = {
    "runs": ENDED, "swept": ENDED, "exited": EXITED, "awake": SPARED,
    "unknown": DEAD, "refused": DEAD, "fails": DEAD, "unusable": DEAD,
}  # fmt: skip


def books(**changes: Any) -> Books:
    """Honest ones, with an id of each kind."""
    names = {name(kind): kind for kind in KINDS}
    honest = Books(
        kinds=names,
        asks=dict.fromkeys(names, 1),
        decoys={DECOY},
        calls=[one for calls, _ in HONEST.values() for one in calls],
        exited={name("runs"), name("swept"), name("exited")},
        letters=[one for _, letters in HONEST.values() for one in letters],
    )
    return replace(honest, **changes)


def with_calls(*calls: Call) -> Cook:
    return lambda honest: replace(honest, calls=[*honest.calls, *calls])


def with_letters(*letters: Letter) -> Cook:
    return lambda honest: replace(honest, letters=[*honest.letters, *letters])


def without(session_id: str) -> Cook:
    return lambda honest: replace(
        honest,
        calls=[one for one in honest.calls if one.session_id != session_id],
        letters=[one for one in honest.letters if session_id not in one.body],
        exited=set(honest.exited) - {session_id},
    )


def cooked(*cooks: Cook) -> Books:
    found = books()
    for cook in cooks:
        found = cook(found)
    return found


def problems(found: Books) -> list[tuple[str | None, str]]:
    return [(problem.name, problem.what) for problem in audit(found).problems]


def test_honest_books_balance_and_say_where_each_id_is() -> None:
    found = audit(books())
    assert found.balanced
    assert found.places == {name(kind): place for kind, place in PLACES.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_without_a_trace_is_lost_until_it_turns_up(kind: Kind) -> None:
    found = audit(cooked(without(name(kind))))
    assert [problem.name for problem in found.problems] == [name(kind)]
    assert "lost" in found.problems[0].what
    assert not found.settled, "it may be on its way"


@pytest.mark.parametrize("kind", KINDS)
def test_a_queued_id_is_not_lost(kind: Kind) -> None:
    found = audit(replace(cooked(without(name(kind))), queued=[f'{{"session_id": "{name(kind)}"}}']))
    assert found.balanced
    assert found.places[name(kind)] == QUEUED


@pytest.mark.parametrize(
    ("cook", "about", "what"),
    [
        pytest.param(with_calls(call(name("runs"), number=7)), name("runs"), "ended 2 times", id="ended twice"),
        pytest.param(with_letters(letter(name("runs"))), name("runs"), "misplaced", id="ended and moved by SQS"),
        pytest.param(
            with_letters(letter(name("runs"), "rejected_422")), name("runs"), "misplaced", id="ended and rejected"
        ),
        pytest.param(
            with_letters(letter(name("runs"), "rejected_422")),
            name("runs"),
            "reason rejected_422",
            id="a rejection that the API never spoke",
        ),
        pytest.param(
            lambda honest: replace(honest, queued=[name("runs")]), name("runs"), "misplaced", id="ended and queued"
        ),
        pytest.param(
            lambda honest: replace(honest, queued=[name("refused")]), name("refused"), "misplaced", id="dead and queued"
        ),
        pytest.param(
            lambda honest: replace(honest, queued=[name("awake")]), name("awake"), "misplaced", id="spared and queued"
        ),
        pytest.param(
            with_letters(letter(name("refused"), "rejected_422")), name("refused"), "misplaced", id="dead twice"
        ),
        pytest.param(
            with_letters(letter(name("fails")), letter(name("fails"))), name("fails"), "3 dead", id="dead three times"
        ),
        pytest.param(with_letters(letter(name("awake"))), name("awake"), "misplaced", id="spared and dead"),
        pytest.param(with_letters(letter(name("exited"))), name("exited"), "misplaced", id="exited and dead"),
        pytest.param(
            with_letters(letter(name("unusable"), "rejected_404")), name("unusable"), "reason", id="a wrong reason"
        ),
        pytest.param(
            with_calls(call(name("awake"), status=500)), name("awake"), "a DELETE was sent", id="awake and called"
        ),
        pytest.param(
            with_calls(call(name("refused"), number=7)), name("refused"), "made as refused", id="refused and ended"
        ),
        pytest.param(
            lambda honest: replace(honest, exited={*honest.exited, name("fails")}),
            name("fails"),
            "differ",
            id="exited, and nobody called",
        ),
        pytest.param(
            lambda honest: replace(honest, exited=set(honest.exited) - {name("runs")}),
            name("runs"),
            "differ",
            id="called an end that is none",
        ),
        pytest.param(with_calls(call(DECOY, "GET")), DECOY, "nobody named it", id="decoy read"),
        pytest.param(with_calls(call(DECOY, number=7)), DECOY, "nobody named it", id="decoy ended"),
        pytest.param(
            lambda honest: replace(honest, exited={*honest.exited, DECOY}), DECOY, "has exited", id="decoy gone"
        ),
        pytest.param(with_letters(letter(DECOY, "rejected_404")), DECOY, "a decoy", id="decoy dead"),
        pytest.param(lambda honest: replace(honest, queued=[DECOY]), DECOY, "a decoy", id="decoy queued"),
        pytest.param(with_calls(call("devin-stranger")), "devin-stranger", "nobody named it", id="stranger called"),
        pytest.param(
            with_letters(letter("devin-chaos-1-runs-77777")), "devin-chaos-1-runs-77777", "unknown", id="unknown letter"
        ),
        pytest.param(with_letters(Letter("{}", {})), None, "names nobody", id="nameless letter"),
        pytest.param(lambda honest: replace(honest, queued=["{}"]), None, "names nobody", id="nameless message"),
        pytest.param(lambda honest: replace(honest, hidden=2), None, "could not be read", id="hidden messages"),
        pytest.param(
            with_calls(call(name("unusable"), "GET", 404)), name("unusable"), "is no id", id="hostile id on the wire"
        ),
        pytest.param(
            with_calls(replace(call(name("runs"), "GET", 404), session_id=None, operation=None, path="/v1/../admin")),
            None,
            "/v1/../admin",
            id="hostile path on the wire",
        ),
    ],
)
def test_cooked_books_are_found_out(cook: Cook, about: str | None, what: str) -> None:
    assert [problem for problem in problems(cooked(cook)) if problem[0] == about and what in problem[1]]


def test_listing_sessions_names_nobody() -> None:
    listing = replace(call("", "GET"), session_id=None, operation="list", path="/v1/sessions?limit=100")
    assert audit(cooked(with_calls(listing))).balanced


def test_awake_without_an_answer_is_not_spared() -> None:
    cut = call(name("awake"), "GET", fault="close")
    assert "lost" in problems(cooked(without(name("awake")), with_calls(cut)))[0][1]


def test_an_id_that_was_asked_for_twice_may_be_in_two_places_but_not_in_three() -> None:
    again = (with_calls(call(name("runs"), status=422, number=7)), with_letters(letter(name("runs"), "rejected_422")))
    twice = replace(cooked(*again), asks={**books().asks, name("runs"): 2})
    assert audit(twice).balanced
    assert audit(twice).places[name("runs")] == REPEATED
    assert not audit(replace(twice, queued=[name("runs")])).balanced


def test_an_id_that_was_asked_for_twice_is_ended_once_all_the_same() -> None:
    found = cooked(with_calls(call(name("runs"), number=7)))
    assert problems(replace(found, asks={**found.asks, name("runs"): 2})) == [(name("runs"), "ended 2 times")]


def many(found: Books) -> Books:
    """Among so many others that one excuse is an exception."""
    others = [name("runs", number) for number in range(100, 150)]
    return replace(
        found,
        kinds={**found.kinds, **dict.fromkeys(others, "runs")},
        asks={**found.asks, **dict.fromkeys(others, 1)},
        calls=[*found.calls, *map(call, others)],
        exited={*found.exited, *others},
    )


@pytest.mark.parametrize(
    "lost", [{"status": None, "fault": "reset"}, {"status": 200, "fault": "close"}, {"status": None, "fault": "hang"}]
)
def test_an_end_whose_answer_was_lost_may_be_moved_by_sqs(lost: dict[str, Any]) -> None:
    unanswered = call(name("runs"), **lost, ended=True)
    found = many(cooked(without(name("runs")), with_calls(unanswered), with_letters(letter(name("runs")))))
    found = replace(found, exited={*found.exited, name("runs")})
    assert audit(found).balanced
    assert audit(found).places[name("runs")] == UNANSWERED
    assert audit(found).excused == 1
    # But not written by the function, and not moved twice.
    assert not audit(replace(found, letters=[*found.letters, letter(name("runs"))])).balanced
    by_function = [one for one in found.letters if name("runs") not in one.body] + [
        letter(name("runs"), "rejected_422")
    ]
    assert not audit(replace(found, letters=by_function)).balanced


# A message comes back half a minute after it was received; an invocation lasts for ten seconds at most.
HIDDEN, LIMIT = timedelta(seconds=30), timedelta(seconds=10)
AWAY = HIDDEN - LIMIT


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def killed(found: Books, *after: float, event: bool = False) -> Books:
    """With kills so many seconds after noon."""
    kills = [NOON + seconds(number) for number in after]
    events = found.kinds.keys() if event else ()
    return many(replace(found, kills=kills, visibility=HIDDEN, limit=LIMIT, events=events))


def refused_twice(
    again: float, attempts: tuple[int, int] = (1, 2), invocations: tuple[str, str] = ("a", "b"), first: float = 0
) -> Books:
    """A rejection that is two dead letters, so many seconds after noon."""
    moments, who = (first, again), name("refused")
    return cooked(
        without(who),
        with_calls(*(replace(call(who, status=422, number=7), at=NOON + seconds(one)) for one in moments)),
        with_letters(
            *(
                letter(who, "rejected_422", NOON + seconds(moment), number, invocation=invocation)
                for moment, number, invocation in zip(moments, attempts, invocations, strict=True)
            )
        ),
    )


@pytest.mark.parametrize(
    ("kill", "again", "excused"),
    [
        pytest.param(1, 1 + AWAY.seconds, True, id="killed, and back when it can be"),
        pytest.param(LIMIT.seconds, 60, True, id="killed at the last moment, and back later"),
        pytest.param(LIMIT.seconds + 0.5, 60, False, id="killed when the invocation was over"),
        pytest.param(-1, 60, False, id="killed before"),
        pytest.param(1, AWAY.seconds - 1, False, id="back while it was hidden"),
        pytest.param(1, 0, False, id="written twice at once"),
        pytest.param(1, 1, False, id="written again a second later"),
    ],
)
def test_a_kill_excuses_what_came_back_after_it_and_nothing_else(kill: float, again: float, excused: bool) -> None:
    found = audit(killed(refused_twice(again), kill))
    assert found.balanced is excused
    assert found.places.get(name("refused")) == (KILLED if excused else None)


def test_the_dead_letters_of_one_invocation_are_never_excused() -> None:
    found = killed(refused_twice(60, invocations=("a", "a")), 1)
    assert problems(found) == [(name("refused"), "more than one dead letter of the same invocation: a")]


@pytest.mark.parametrize(
    ("attempts", "kill", "excused"),
    [
        pytest.param((1, 2), 1, True, id="redelivered"),
        pytest.param((2, 5), 1, True, id="redelivered, and tried in vain meanwhile"),
        pytest.param((1, 1), 1, False, id="the same delivery twice"),
        pytest.param((2, 1), 1, False, id="an earlier delivery later"),
        # What was sent back, and the message that it was sent back from, are of the same number, or of any.
        pytest.param((2, 2), -1, True, id="two halves after a kill"),
        pytest.param((3, 2), -1, True, id="two halves after a kill, one of them tried more often"),
    ],
)
def test_dead_letters_are_numbered_like_deliveries(attempts: tuple[int, int], kill: float, excused: bool) -> None:
    found = refused_twice(60, attempts=attempts)
    tried_before = replace(call(name("refused"), status=500), at=NOON - seconds(2))
    found = killed(replace(found, calls=[*found.calls, tried_before]), kill)
    assert audit(found).balanced is excused


def test_an_event_that_is_tried_again_is_numbered_anew_and_comes_sooner() -> None:
    found = refused_twice(3, attempts=(1, 1))
    assert audit(killed(found, 1, event=True)).places[name("refused")] == KILLED
    assert not audit(killed(found, 1)).balanced
    assert not audit(killed(refused_twice(1, attempts=(1, 1)), 1.5, event=True)).balanced


def test_each_kill_doubles_an_id_once() -> None:
    """Four of one by two kills, five by three."""
    who = name("refused")
    times = [0, 30, 60, 90, 120]
    letters = [letter(who, "rejected_422", NOON + seconds(at), number) for number, at in enumerate(times, 1)]
    calls = [replace(call(who, status=422), at=NOON + seconds(at)) for at in times]
    found = cooked(without(who), with_calls(*calls), with_letters(*letters))
    assert not audit(killed(found, 1, 31)).balanced
    assert audit(killed(found, 1, 31, 61)).balanced


def test_what_sqs_moved_has_no_date_but_needs_a_kill_while_it_was_worked_on() -> None:
    found = cooked(with_letters(letter(name("runs"))))
    assert audit(killed(found, 1)).places[name("runs")] == KILLED
    assert not audit(killed(found, -1)).balanced
    assert not audit(killed(found, LIMIT.seconds + 1)).balanced


def test_what_was_spared_and_moved_by_sqs_needs_a_kill_too() -> None:
    found = cooked(with_letters(letter(name("awake"))))
    assert audit(killed(found, 1)).places[name("awake")] == KILLED
    assert not audit(killed(found)).balanced


def exited_and_dead(attempts: int, looked_after: float, source: str = "sqs") -> Books:
    """A session that had exited: a dead letter of the first delivery, and seen to have exited so much later."""
    who = name("exited")
    rejected = [replace(call(who, status=422), at=NOON + seconds(at)) for at in (0, looked_after)]
    seen = replace(call(who, "GET"), at=NOON + seconds(looked_after))
    found = cooked(
        without(who),
        with_calls(*rejected, seen),
        with_letters(letter(who, "rejected_422", attempts=attempts, source=source)),
    )
    return replace(found, exited={*found.exited, who})


def test_a_session_that_had_exited_is_a_dead_letter_of_the_first_delivery_alone() -> None:
    assert audit(killed(exited_and_dead(1, 40), 1)).places[name("exited")] == KILLED
    assert not audit(killed(exited_and_dead(1, 5), 1)).balanced, "looked at before it could come back"
    for attempts, source in ((2, "sqs"), (1, "eventbridge"), (1, "direct")):
        said = problems(killed(exited_and_dead(attempts, 40, source), 1))
        what = f"a dead letter, of delivery {attempts}, of a session that was seen to have exited"
        assert said == [(name("exited"), what)]


def ended_and_rejected(attempts: int, source: str = "sqs", again: float = 40) -> Books:
    """Ended at noon, and a dead letter of a rejection so much later."""
    who = name("runs")
    rejected = replace(call(who, status=422, number=7), at=NOON + seconds(again))
    dead = letter(who, "rejected_422", NOON + seconds(again), attempts, source=source)
    return cooked(with_calls(rejected), with_letters(dead))


@pytest.mark.parametrize("source", ["sqs", "eventbridge", "direct"])
@pytest.mark.parametrize("attempts", [1, 2, 5])
@pytest.mark.parametrize("again", [3, 40])
def test_no_kill_excuses_a_dead_letter_of_what_an_earlier_delivery_ended(
    attempts: int, source: str, again: float
) -> None:
    """It is looked at when it is redelivered, and an event always."""
    said = problems(killed(ended_and_rejected(attempts, source, again), 1, event=source != "sqs"))
    assert (name("runs"), f"a dead letter with the reason rejected_422, of delivery {attempts}") in said


@pytest.mark.parametrize(
    ("attempts", "source", "may_be"),
    [(1, "sqs", True), (2, "sqs", False), (1, "direct", False), (1, "eventbridge", False)],
)
def test_another_message_may_be_rejected_if_it_was_never_redelivered_and_is_no_event(
    attempts: int, source: str, may_be: bool
) -> None:
    found = ended_and_rejected(attempts, source)
    found = replace(found, asks={**found.asks, name("runs"): 2})
    assert audit(found).balanced is may_be


@pytest.mark.parametrize("lost", ["failed_at", "attempts", "request_id", "source"])
def test_a_dead_letter_says_who_wrote_it_when_and_at_which_delivery(lost: str) -> None:
    honest = letter(name("refused"), "rejected_422")
    cut = Letter(honest.body, {name: value for name, value in honest.attributes.items() if name != lost})
    found = cooked(without(name("refused")), with_calls(call(name("refused"), status=422)), with_letters(cut))
    ((about, what),) = problems(found)
    assert about == name("refused")
    assert lost in what


def test_a_lost_answer_excuses_nothing_that_the_function_wrote() -> None:
    lost, rejected = (
        call(name("runs"), status=None, fault="reset", ended=True),
        call(name("runs"), status=422, number=7),
    )
    found = cooked(
        without(name("runs")), with_calls(lost, rejected), with_letters(letter(name("runs"), "rejected_422"))
    )
    found = many(replace(found, exited={*found.exited, name("runs")}))
    assert {about for about, _ in problems(found)} == {name("runs")}


# Sent a minute before noon, and hidden for half a minute at each delivery.
SENT = {name("refused"): NOON - timedelta(minutes=1), name("runs"): NOON - timedelta(minutes=1)}


@pytest.mark.parametrize(
    ("visibility", "seconds", "attempts", "excused"),
    [
        (HIDDEN, 0, (2, 1), True),
        (HIDDEN, 9, (3, 2), True),
        (HIDDEN, 9, (2, 3), False),
        (HIDDEN, 9, (1, 1), False),
        (HIDDEN * 4, 9, (2, 1), False),
    ],
)
def test_a_dead_letter_of_an_earlier_delivery_after_a_later_one_proves_that_it_was_overtaken(
    visibility: timedelta, seconds: int, attempts: tuple[int, int], excused: bool
) -> None:
    first, second = attempts
    twice = [
        letter(name("refused"), "rejected_422", NOON, first),
        letter(name("refused"), "rejected_422", NOON + timedelta(seconds=seconds), second),
    ]
    found = many(cooked(lambda honest: replace(honest, letters=[*honest.letters[:1], *honest.letters[2:], *twice])))
    found = replace(found, visibility=visibility, sent=SENT)
    assert audit(found).balanced is excused
    if excused:
        assert audit(found).places[name("refused")] == OVERTAKEN


@pytest.mark.parametrize(
    ("visibility", "seconds", "attempts", "excused"),
    [(HIDDEN, 9, 1, True), (HIDDEN, 9, 2, False), (HIDDEN, -9, 1, False), (HIDDEN * 4, 9, 1, False)],
)
def test_a_first_delivery_that_is_rejected_after_the_end_was_overtaken(
    visibility: timedelta, seconds: int, attempts: int, excused: bool
) -> None:
    dead = letter(name("runs"), "rejected_422", NOON + timedelta(seconds=seconds), attempts)
    found = many(cooked(with_calls(call(name("runs"), status=422, number=9)), with_letters(dead)))
    assert audit(replace(found, visibility=visibility, sent=SENT)).balanced is excused


def test_a_kill_does_not_excuse_an_id_that_is_lost() -> None:
    found = cooked(without(name("unknown")), with_calls(call(name("unknown"), status=404)))
    assert not audit(killed(found, 1)).balanced


def test_excuses_that_are_no_exception_are_none() -> None:
    found = replace(refused_twice(60), kills=[NOON + seconds(1)], visibility=HIDDEN, limit=LIMIT)
    assert audit(found).places[name("refused")] == KILLED
    assert "no exception any more" in problems(found)[0][1]


@pytest.mark.parametrize(
    ("place", "most", "first", "second"),
    [(KILLED, 2, (0, 1), (60, 2)), (OVERTAKEN, 5, (0, 2), (9, 1))],
    ids=[KILLED, OVERTAKEN],
)
def test_few_may_be_excused_and_fewer_by_a_kill(
    place: str, most: int, first: tuple[float, int], second: tuple[float, int]
) -> None:
    ids = [name("refused", number) for number in range(1, 101)]

    def excused(number: int) -> Audit:
        letters = [
            letter(one, "rejected_422", NOON + seconds(moment), attempts)
            for index, one in enumerate(ids)
            for moment, attempts in ((first, second) if index < number else (first,))
        ]
        calls = [replace(call(one, status=422), at=NOON + seconds(moment)) for one in ids for moment in (0, second[0])]
        return audit(
            Books(
                kinds=dict.fromkeys(ids, "refused"),
                asks=dict.fromkeys(ids, 1),
                decoys=(),
                calls=calls,
                exited=(),
                letters=letters,
                kills=[NOON + seconds(1)],
                sent=dict.fromkeys(ids, NOON - HIDDEN),
                visibility=HIDDEN,
                limit=LIMIT,
            )
        )

    assert excused(most).balanced
    assert [*excused(most).places.values()].count(place) == most
    assert not excused(most + 1).balanced


@given(st.lists(st.sampled_from([*KINDS]), min_size=1, max_size=40), st.data())
def test_books_of_any_size_balance_until_one_entry_is_struck_out_or_doubled(
    kinds: list[Kind], data: st.DataObject
) -> None:
    names = {name(kind, number): kind for number, kind in enumerate(kinds)}
    calls = [replace(one, session_id=each) for each, kind in names.items() for one in HONEST[kind][0]]
    letters = [
        replace(one, body=one.body.replace(name(kind), each)) for each, kind in names.items() for one in HONEST[kind][1]
    ]
    found = Books(
        kinds=names,
        asks=dict.fromkeys(names, 1),
        decoys={DECOY},
        calls=calls,
        exited={one for one, kind in names.items() if PLACES[kind] in {ENDED, EXITED}},
        letters=letters,
    )
    assert audit(found).balanced
    # The entries by which ids are where they are: the end, or the dead letter.
    ends = [index for index, one in enumerate(calls) if one.ended]
    if data.draw(st.booleans()) and ends:
        index = data.draw(st.sampled_from(ends))
        cooked_calls = [calls[:index] + calls[index + 1 :], [*calls, calls[index]]]
        assert not any(audit(replace(found, calls=other)).balanced for other in cooked_calls)
    elif letters:
        index = data.draw(st.integers(0, len(letters) - 1))
        cooked_letters = [letters[:index] + letters[index + 1 :], [*letters, letters[index]]]
        assert not any(audit(replace(found, letters=other)).balanced for other in cooked_letters)
