"""A small chaos run: sent = ended + spared + exited already + dead-lettered, seen from outside alone.

`make chaos` does the same with thousands of ids.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.plan import KINDS, make_plan
from tests.chaos.reconciler import ENDED
from tests.chaos.run import ChaosRun
from tests.integration.world import World

IDS = 250
SEED = 20261102


@pytest.mark.fault(17, 32)
def test_every_id_ends_in_one_place(quiet: World) -> None:
    plan = make_plan(SEED, ids=IDS, seconds=10, kill_every=2)
    assert set(plan.subjects.values()) == set(KINDS), "the seed makes no session of some kind"

    result = ChaosRun(quiet, plan).run()

    for audit in (result.first, result.redriven):
        stories = [(problem, problem.name and result.story(problem.name)) for problem in audit.problems]
        assert not stories, Counter(audit.places.values())
    # All that was to go wrong did, and all the same most sessions have ended.
    assert result.disturbances.keys() >= {
        "processes killed", "old key refused", "new key stored", "dead letters unavailable", "secret unavailable",
    }  # fmt: skip
    assert Counter(result.first.places.values())[ENDED] > IDS / 2
    assert result.letters_redriven > 0
