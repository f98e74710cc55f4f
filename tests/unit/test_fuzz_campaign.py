"""How a campaign of `make fuzz` divides its inputs."""

from __future__ import annotations

from tests.fuzz.campaign import divided
from tests.fuzz.targets import TARGETS


def test_the_parsers_of_what_anybody_may_send_get_all_the_inputs_each_and_the_others_share_as_many() -> None:
    shares = divided(TARGETS, 1_000_000)
    assert shares.keys() == TARGETS.keys()
    assert {name for name, number in shares.items() if number == 1_000_000} == {"body", "event"}
    others = sum(number for name, number in shares.items() if name not in {"body", "event"})
    assert 1_000_000 - len(TARGETS) < others <= 1_000_000


def test_one_target_alone_gets_all() -> None:
    for name in ("body", "batch"):
        assert divided([name], 1000) == {name: 1000}


def test_no_target_goes_without() -> None:
    assert min(divided(TARGETS, 3).values()) == 1
