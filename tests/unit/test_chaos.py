"""The chaos run's own parts: a plan follows from its seed, and the reconciler finds what is wrong and nothing else."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from infra.local.fake_devin import Call
from tests.chaos.plan import KINDS, Kind, make_plan
from tests.chaos.reconciler import DEAD, ENDED, EXITED, REDELIVERED, REPEATED, SPARED, Books, audit
from tests.integration.world import Letter

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OTHERS = 40  # ids that end as usual, so that one that is delivered again is an exception


def test_a_plan_follows_from_its_seed() -> None:
    first, same, other = (make_plan(seed, ids=4500, seconds=150, kill_every=6) for seed in (1, 1, 2))
    assert first == same != other
    assert len(first.messages) > 1000
    assert set(first.subjects.values()) == set(KINDS)
    named = {one for message in first.messages for one in message.ids}
    assert named == {one for one, kind in first.subjects.items() if kind != "swept"}
    assert "SEED=1 IDS=4500" in first.replay


def name(kind: Kind, number: int = 1) -> str:
    return f"devin-chaos-1-{kind}-{number:05}"


_numbers = count(1)


def call(session_id: str, method: str = "DELETE", status: int | None = 200, at: int = 0, **facts: Any) -> Call:
    facts.setdefault("ended", method == "DELETE" and status == 200)
    return Call(
        at=NOON + timedelta(seconds=at),
        method=method,
        path=f"/v1/sessions/{session_id}",
        operation="terminate" if method == "DELETE" else "get",
        session_id=session_id,
        authorised=True,
        status=status,
        **facts,
    )


def letter(session_id: str, reason: str | None = None, attempts: int = 1, source: str = "sqs", **told: str) -> Letter:
    """A dead letter of an invocation of its own; without a reason, one that SQS moved."""
    written = {
        "reason": reason or "",
        "failed_at": NOON.isoformat(),
        "attempts": str(attempts),
        "request_id": f"request-{next(_numbers)}",
        "source": source,
    } | told
    return Letter(f'{{"session_ids":["{session_id}"]}}', written if reason else {}, raw={})


def books(kind: Kind, *record: Call | Letter, **changes: Any) -> Books:
    """One id with this record, and others that have ended."""
    others = [name("runs", number) for number in range(100, 100 + OTHERS)]
    calls = [*map(call, others), *(one for one in record if isinstance(one, Call))]
    kinds: dict[str, Kind] = {**dict.fromkeys(others, "runs"), name(kind): kind}
    found = Books(
        kinds=kinds,
        asks=dict.fromkeys(kinds, 1),
        decoys={name("swept", 99999)},
        calls=calls,
        exited={one.session_id for one in calls if one.ended and one.session_id}
        | ({name(kind)} if kind == "exited" else set()),
        letters=[one for one in record if isinstance(one, Letter)],
        again=dict.fromkeys(kinds, NOON + timedelta(seconds=25)),
    )
    return replace(found, **changes)


RUNS, EXITED_ONE, AWAKE, UNKNOWN = name("runs"), name("exited"), name("awake"), name("unknown")
TWICE = {"asks": Counter({name(kind): 2 for kind in KINDS} | {name("runs", n): 1 for n in range(100, 100 + OTHERS)})}


@pytest.mark.parametrize(
    ("found", "place"),
    [
        (books("runs", call(RUNS, status=500), call(RUNS)), ENDED),
        (books("awake", call(AWAKE, "GET")), SPARED),
        (books("exited", call(EXITED_ONE, status=422), call(EXITED_ONE, "GET")), EXITED),
        (books("exited", call(EXITED_ONE, status=422), letter(EXITED_ONE, "rejected_422")), DEAD),
        (books("unknown", call(UNKNOWN, status=404), letter(UNKNOWN, "rejected_404")), DEAD),
        (books("fails", *[call(name("fails"), status=500)] * 5, letter(name("fails"))), DEAD),
        (books("unusable", letter(name("unusable"), "invalid_message")), DEAD),
        (books("runs", call(RUNS), call(RUNS, status=422), letter(RUNS, "rejected_422"), **TWICE), REPEATED),
        # The first delivery was cut off after it had written.
        (books("unknown", letter(UNKNOWN, "rejected_404"), letter(UNKNOWN, "rejected_404", 2)), REDELIVERED),
        (books("unknown", *(letter(UNKNOWN, "rejected_404", source="direct") for _ in range(2))), REDELIVERED),
        # Its answer was lost at the last receive.
        (books("runs", call(RUNS, fault="reset"), letter(RUNS)), REDELIVERED),
        # The first delivery was slower than the visibility timeout.
        (books("runs", call(RUNS, at=26), call(RUNS, status=422, at=27), letter(RUNS, "rejected_422")), REDELIVERED),
    ],
)
def test_an_id_is_found_in_its_place(found: Books, place: str) -> None:
    report = audit(found)
    assert report.problems == []
    assert report.places[[*found.kinds][-1]] == place


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    ("found", "says"),
    [
        (books("runs"), "lost"),
        (books("runs", call(RUNS, status=500)), "lost"),
        (books("awake", call(AWAKE, status=500), call(AWAKE, "GET")), "to be spared"),
        (books("runs", call(RUNS), call(RUNS)), "ended 2 times"),
        (books("unknown", call(UNKNOWN)), "made as unknown"),
        (books("runs", call(RUNS), exited=set()), "differ"),
        (books("unknown", letter(UNKNOWN, "rejected_500")), "with the reason rejected_500"),
        (books("runs", letter(RUNS, "rejected_422")), "with the reason rejected_422"),
        (books("runs", call(RUNS), letter(RUNS, "rejected_422", 2)), "with the reason rejected_422, of delivery 2"),
        (books("exited", call(EXITED_ONE, status=422), letter(EXITED_ONE, "rejected_422", 2)), "seen to have exited"),
        (books("runs", call(RUNS, at=1), letter(RUNS, "rejected_422")), "misplaced"),
        (books("runs", call(RUNS), queued=1), "in the work queue"),
        (books("unknown", letter(UNKNOWN, "rejected_404"), letter(UNKNOWN, "rejected_404")), "misplaced"),
        (
            books("unknown", *(letter(UNKNOWN, "rejected_404", n, request_id="one") for n in (1, 2))),
            "of the same invocation",
        ),
        (books("unknown", letter(UNKNOWN, "rejected_404", failed_at="?")), "lacks an attribute"),
        (books("unusable", call(name("unusable"), status=404)), "without a usable request"),
        (books("runs", call(RUNS), call(name("swept", 99999))), "without a usable request"),
        (books("runs", call(RUNS), letter(name("swept", 99999), "rejected_422")), "a decoy"),
    ],
)
def test_what_is_wrong_is_found(found: Books, says: str) -> None:
    assert [problem for problem in audit(found).problems if says in problem.what]


def test_few_ids_may_be_delivered_again() -> None:
    """A function that acknowledges nothing after a dead letter would need it for every rejection."""
    names = [name("unknown", number) for number in range(20)]
    found = books("runs", call(RUNS))
    found = replace(
        found,
        kinds={**found.kinds, **dict.fromkeys(names, "unknown")},
        asks={**found.asks, **dict.fromkeys(names, 1)},
        letters=[letter(one, "rejected_404", attempts) for one in names for attempts in (1, 2)],
    )
    assert [problem.what for problem in audit(found).problems] == ["20 of 61 ids were delivered again after their end"]
