"""An API that cannot be reached: no connection, no name, no trust."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from infra.local import certificate
from infra.local.fake_devin import FakeDevin
from tests.integration.faulty_aws import deaf_port
from tests.integration.world import World


@pytest.fixture(scope="module")
def unreached(world: World, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Ids by why the function that was invoked with them did not reach the API, all invoked at once."""
    foreign = certificate.issue(tmp_path_factory.mktemp("foreign"))
    with ExitStack() as stack, ThreadPoolExecutor() as executor:
        impostor = stack.enter_context(FakeDevin(certificate=foreign.chain, private_key=foreign.key))
        addresses = {
            "connection refused": f"https://127.0.0.1:{stack.enter_context(deaf_port())}",
            # Longer than a name may be: the resolver says so without asking anyone, with a network or without.
            "host name not found": f"https://{'a' * 64}.invalid",
            "TLS failure": impostor.url,
        }
        ids = {said: world.session("unreached") for said in addresses}
        names = [
            stack.enter_context(world.second_function(f"unreaching-{number}", DEVIN_API_URL=address))
            for number, address in enumerate(addresses.values())
        ]
        answers = executor.map(world.invoke, [{"session_id": one} for one in ids.values()], names)
        assert list(answers) == [{"retry": [one]} for one in ids.values()]
        assert impostor.calls() == [], "no certificate, no key"
    return ids


@pytest.mark.fault(5)
@pytest.mark.parametrize("said", ["connection refused", "host name not found", "TLS failure"])
def test_what_does_not_reach_the_api_is_kept_and_works_when_it_does(
    world: World, unreached: Mapping[str, str], said: str
) -> None:
    session_id = unreached[said]
    # What was sent to the work queue, the first function finds there, and that one reaches the API.
    assert world.story(session_id, "terminated") == ["retry", "terminated"]
    first, second = world.lines(session_id)
    assert first["detail"] == said
    assert "http_status" not in first
    assert (second["source"], second["attempts"]) == ("direct", 2)
    assert world.methods(session_id) == ["DELETE"]
    assert world.letters_about(session_id) == []
