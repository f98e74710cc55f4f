"""The platform's limits: time that runs out, messages as large as they may be."""

from __future__ import annotations

import json

import pytest

from infra.local.fake_devin import Fault
from tests.integration.world import World, wait_for

MEGABYTE = 1024 * 1024


@pytest.mark.fault(15)
def test_before_the_time_limit_everything_is_settled_or_kept(quiet: World) -> None:
    """Six seconds, of which three and a half are set aside, and ten calls at a time: not all of them get their turn."""
    ids = [quiet.session("late", Fault(kind="pass", delay=1.5)) for _ in range(30)]
    # It would outlast the function; the call is given up in time to say so.
    slow = quiet.session("late-slow", Fault(kind="hang"))
    with quiet.time_limit(6):
        quiet.send(json.dumps({"session_ids": [slow, *ids]}))
        quiet.wait_until_drained()
    assert quiet.story(slow, "terminated") == ["retry", "terminated"]
    assert quiet.lines(slow)[0]["detail"] == "no whole response in time"
    # What was done was not repeated, and what was not done was not begun: each has had one call, and its answer.
    calls = [call for call in quiet.stack.api.calls() if call.session_id in ids]
    assert sorted((call.session_id, call.method, call.status) for call in calls) == sorted(
        (session_id, "DELETE", 200) for session_id in ids
    )
    lines = [entry for entry in quiet.stack.log_entries() if entry.get("session_id") in ids]
    first = {line["session_id"]: line for line in reversed(lines)}
    assert {line["outcome"] for line in first.values()} == {"terminated", "retry"}
    waited = [line for line in first.values() if line["outcome"] == "retry"]
    assert {line["detail"] for line in waited} == {"not enough time left in this invocation"}
    assert quiet.letters_about("devin-late-") == []


@pytest.mark.fault(16)
def test_a_megabyte_with_thousands_of_ids_takes_little_memory(quiet: World) -> None:
    # As long as ids may be; blanks fill up what is left.
    ids = [quiet.name("large").ljust(128, "x") for _ in range(2000)]
    quiet.stack.api.add_sessions(*ids)
    body = json.dumps({"session_ids": ids}).ljust(MEGABYTE)
    quiet.kill_workers()
    quiet.send(body)
    running = set(ids)

    def ended() -> bool:
        running.difference_update(session.session_id for session in quiet.stack.api.sessions() if session.exited)
        return not running

    try:
        wait_for(ended, "the end of every session", told=lambda: len(running))
        quiet.wait_until_drained()
        calls = [call.session_id for call in quiet.stack.api.calls() if call.session_id in set(ids)]
    finally:
        # They would slow down whoever looks at calls later.
        quiet.stack.api.clear_calls()
    assert sorted(calls) == sorted(ids)
    assert quiet.letters_about("devin-large-") == []
    # The function has 512 MB, and may be given as little as 256.
    assert quiet.peak_memory() < 100_000_000
