"""The operator's command as its user runs it, against the deployed stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.local.emulator import CREDENTIALS, REGION
from infra.local.stack import Stack
from infra.ops.depth import depth_of
from tests.integration.world import World, wait_for

COMMAND = Path(sys.prefix) / "bin" / "devin-ops"


class Operator:
    """Somebody with a shell that points at the stack, as `make up` tells."""

    def __init__(self, world: World) -> None:
        self._world = world
        aws = world.stack.aws
        variables = {"AWS_ENDPOINT_URL": aws.endpoint_url, "AWS_CA_BUNDLE": str(aws.ca_bundle)}
        # Nothing of the AWS configuration of whoever runs the tests.
        nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        self._environment = {"PATH": os.environ["PATH"], "AWS_REGION": REGION, **CREDENTIALS, **variables, **nowhere}

    def run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(  # noqa: S603 - our own command
            [COMMAND, *arguments],
            cwd=tempfile.gettempdir(),  # any directory will do
            env=self._environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        said = ran.stdout + ran.stderr
        assert "Traceback" not in said, said
        assert not any(key in said for key in self._world.keys), "a key was printed"
        return ran

    def json(self, *arguments: str, status: int = 0, given: str = "") -> Any:
        """What it prints with --json, when it ends with this status."""
        ran = self.run(*arguments, "--json", given=given)
        assert ran.returncode == status, ran.stderr
        return json.loads(ran.stdout)


@pytest.fixture
def operator(quiet: World) -> Operator:
    return Operator(quiet)


@pytest.fixture
def letters(quiet: World) -> Iterator[Stack]:
    """A dead-letter queue with nothing of other tests in it, neither before nor after."""
    quiet.letters()
    yield quiet.stack
    quiet.letters()


@pytest.mark.usefixtures("letters")
def test_what_is_enqueued_ends_and_what_cannot_end_is_found_redriven_and_discarded(
    quiet: World, operator: Operator, tmp_path: Path
) -> None:
    ending, unknown, other = quiet.session("ops"), quiet.name("ops"), quiet.name("ops")
    ids = tmp_path / "ids.csv"
    ids.write_text(
        f"who,session\nAnn,{ending}\nAnn,https://app.devin.ai/sessions/{ending}\nBob,{unknown}\nBob,{other}\n"
    )
    sent = operator.json("enqueue", "--file", str(ids), "--csv-column", "session")
    assert (sent["sent"], sent["repeats"]) == (3, 1)
    stack = quiet.stack
    wait_for(lambda: depth_of(stack.aws.sqs, stack.dead_letter_queue_url).waiting == 2, "dead letters")
    quiet.wait_until_drained()
    # What came before it began to watch is nothing new.
    assert operator.json("watch", "--every", "0.2")["drained"]
    assert quiet.exited(ending)

    assert operator.json("explain", ending)["state"] == "done"
    assert operator.json("explain", unknown)["state"] == "dead letter"

    found = operator.json("dead-letters", "list", "--reason", "rejected_404")
    assert sorted(one["session_ids"][0] for one in found) == sorted([unknown, other])
    quiet.stack.api.add_sessions(unknown)
    assert operator.json("dead-letters", "redrive", "--session", unknown, "--yes")["sent_back"] == 1
    wait_for(lambda: quiet.exited(unknown), "the end of what was redriven")
    status = operator.json("status", status=1)
    assert status["dead_letters"] == {"number": 1, "reasons": {"rejected_404": 1}, "sample": 1}
    copy = tmp_path / "copy"
    operator.json("dead-letters", "discard", "--session", other, "--to", str(copy), "--yes")
    assert json.loads(copy.read_text())["session_ids"] == [other]
    assert operator.json("dead-letters", "list") == []


@pytest.mark.usefixtures("letters")
def test_all_dead_letters_go_back_where_there_is_no_move_task(quiet: World, operator: Operator) -> None:
    unknown = [quiet.name("ops-all") for _ in range(3)]
    operator.json("enqueue", given="\n".join(unknown))
    stack = quiet.stack
    wait_for(lambda: depth_of(stack.aws.sqs, stack.dead_letter_queue_url).waiting == len(unknown), "dead letters")
    quiet.stack.api.add_sessions(*unknown)
    assert operator.json("dead-letters", "redrive", "--yes")["sent_back"] == len(unknown)
    wait_for(lambda: all(map(quiet.exited, unknown)), "the end of what was redriven")


def test_a_schedule_is_made_listed_and_called_off(quiet: World, operator: Operator) -> None:
    session_id = quiet.session("ops-later")
    (made,) = operator.json("schedule", "at", "+2h", session_id, "--yes")
    assert operator.json("schedule", "at", made["when"], session_id, "--yes") == [made], "asked for again"
    assert made in operator.json("schedule", "list")
    operator.json("schedule", "cancel", made["name"])
    assert made not in operator.json("schedule", "list")
    assert quiet.calls(session_id) == []


def test_a_sweep_is_dry_until_it_is_enforced(quiet: World, operator: Operator) -> None:
    ago = datetime.now(UTC) - timedelta(days=2)
    session_id = quiet.session("ops-stale", tags=("ops-stale",), created_at=ago, updated_at=ago)
    policy = '{"idle_for": "PT6H", "tags": ["ops-stale"], "dry_run": false}'
    dry = operator.json("sweep", policy)
    assert (dry["mode"], dry["due"][0]["session_id"], dry["enqueued"]) == ("dry_run", session_id, 0)
    difference = operator.json("sweep", policy, "--diff", '{"tags": ["nobody has this"]}')
    assert (list(difference["first_only"]), difference["second_only"]) == ([session_id], {})
    assert not quiet.exited(session_id)
    assert operator.json("sweep", policy, "--enforce", "--yes")["enqueued"] == 1
    wait_for(lambda: quiet.exited(session_id), "the end of what was swept")


def test_the_switch_is_thrown_and_released(quiet: World, operator: Operator) -> None:
    # Whoever is invoked while it is on remembers it for longer than this test lasts.
    with quiet.stack.work_queue_held():
        try:
            assert operator.json("stop", "--reason", "a test")["now"] == "stop: a test"
            assert operator.json("status", status=1)["stop_switch"]["reason"] == "a test"
            assert operator.json("go", "--yes")["now"] == "go"
            assert operator.json("doctor", "--no-api", status=1)["status"] == "failed", "the mapping is off"
        finally:
            quiet.stack.set_stop_switch("go")


@pytest.mark.usefixtures("letters")
def test_doctor_finds_the_deployed_stack_healthy_until_something_is_broken(quiet: World, operator: Operator) -> None:
    healthy = operator.json("doctor")
    # Version 1 is legacy.
    assert {one["check"] for one in healthy["findings"] if one["status"] != "ok"} == {"secret"}
    with quiet.without("DeadLetters", "sqs:SendMessage"), quiet.visibility_timeout(30):
        broken = operator.json("doctor", status=1)
    failed = {one["check"] for one in broken["findings"] if one["status"] == "failed"}
    assert failed == {"permissions of terminate", "visibility timeout"}


def test_another_stacks_name_is_told_in_a_sentence(operator: Operator) -> None:
    ran = operator.run("status", "--stack-name", "nobodys")
    assert (ran.returncode, ran.stdout) == (3, "")
    assert "there is no stack nobodys" in ran.stderr
