"""sent = terminated + already exited + spared + dead-lettered, seen from outside alone: API, queues, dead letters."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from datetime import UTC, datetime

from infra.local.standin import Call, Fault
from infra.local.standin.faults import html_error, too_many_requests
from tests.integration.world import Letter, World, wait_for

IDS = 150
SEED = 20261102
EARLY, MIDDLE, LATE = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3))
FAULTS = [
    (html_error(500), 0.06),
    (Fault(status=503, headers={"Retry-After": "1"}), 0.03),
    # Rare, because each brakes a whole invocation.
    (too_many_requests(), 0.01),
    (Fault(kind="reset"), 0.03),
    (Fault(kind="reset", effect=True), 0.04),
    (Fault(kind="close", part="body"), 0.03),
    (Fault(status=403), 0.03),
]


def populate(world: World, draw: random.Random) -> dict[str, str]:
    """Ids by what there is to know of them."""
    kinds = {}
    for kind in draw.choices(["runs", "exited", "awake", "unknown", "refused", "fails"], [76, 8, 8, 3, 3, 2], k=IDS):
        session_id = world.name(f"account-{kind}")
        kinds[session_id] = kind
        if kind != "unknown":
            status = "exit" if kind == "exited" else "running"
            updated = LATE if kind == "awake" else EARLY
            world.stack.api.add_sessions(session_id, status=status, created_at=EARLY, updated_at=updated)
        if kind in {"refused", "fails"}:
            always = Fault(status=422 if kind == "refused" else 500)
            world.stack.api.script(always, session_id=session_id, operation="terminate")
    return kinds


def send(world: World, ids: list[str], draw: random.Random) -> None:
    """Every id once: alone or in company, to the queue or to the bus."""
    left = ids.copy()
    while left:
        company = [left.pop() for _ in range(min(draw.choice([1, 1, 1, 2, 5, 12]), len(left)))]
        payload = {"session_ids": company, "unless_updated_since": MIDDLE.isoformat()}
        # Few and large events: for each, the emulator starts an execution environment if all others are in use.
        if len(company) > 2 and draw.random() < 0.5:
            world.put_event(payload)
        else:
            world.send(json.dumps(payload))


def test_every_id_ends_in_one_place(quiet: World) -> None:
    draw = random.Random(SEED)  # noqa: S311 - not a secret
    api = quiet.stack.api
    first_call = len(api.calls())

    def calls() -> list[Call]:
        return api.calls()[first_call:]

    def called() -> set[str | None]:
        return {call.session_id for call in calls()}

    def letters() -> list[tuple[str, Letter]]:
        return [(one, letter) for letter in quiet.letters() for one in re.findall(r"devin-account-[\w-]+", letter.body)]

    kinds = populate(quiet, draw)
    for number, (fault, probability) in enumerate(FAULTS):
        api.script(fault, operation="terminate", probability=probability, seed=SEED + number)
    # Two receives instead of five: what always fails gets there in seconds, and others that are unlucky do too.
    with quiet.most_receives(2):
        try:
            send(quiet, list(kinds), draw)
            # Events on the bus are in no queue until the function has seen them.
            wait_for(lambda: called() | {one for one, _ in letters()} >= kinds.keys(), "an attempt at every id")
            quiet.wait_until_drained()
        finally:
            api.clear_faults()

    assert called() <= kinds.keys(), "a session was called that nobody named"
    dead = Counter(session_id for session_id, _ in letters())
    # SQS may give a message up right after a session was ended and the answer lost: then nobody knows that it was.
    given_up = {session_id for session_id, letter in letters() if not letter.attributes}
    lost = {call.number for call in calls() if call.status is None and call.session_id in given_up}
    terminated = Counter(call.session_id for call in calls() if call.ended and call.number not in lost)
    deleted = {call.session_id for call in calls() if call.method == "DELETE"}
    spared = kinds.keys() - deleted - dead.keys()
    exited = {one for one, kind in kinds.items() if kind == "exited"} - dead.keys()
    places = terminated + dead + Counter(spared) + Counter(exited)
    misplaced = [one for one in kinds if places[one] != 1]
    assert misplaced == [], [(quiet.calls(one), quiet.lines(one), quiet.letters_about(one)) for one in misplaced]
    places_of_kind: dict[str, set[str | None]] = {
        "runs": {*terminated, *dead},
        "exited": {*exited, *dead},
        "awake": {*spared, *given_up},
        "unknown": {*dead},
        "refused": {*dead},
        "fails": {*dead},
    }
    for kind, expected in places_of_kind.items():
        ids = {one for one, other in kinds.items() if other == kind}
        assert ids, f"the seed makes no session that {kind}"
        assert ids <= expected
    assert len(terminated) > IDS / 2
