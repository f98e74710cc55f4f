"""`withdraw`: the messages that were not meant, and no other, after a copy is kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ops.world import STACK, Operator

BOTH = '{"session_ids": ["devin-1", "devin-2"]}'


@pytest.fixture
def queue(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """Messages of several people and of two sweeps."""
    monkeypatch.chdir(tmp_path)
    operator.queue("devin-1")
    operator.queue(BOTH, attempts="3")
    operator.queue('{"session_id": "devin-3"}', source="sweep", sweep_run="run-1")
    operator.queue('{"session_id": "devin-4"}', source="sweep", sweep_run="run-2")
    operator.queue("nonsense")
    return operator


def left(operator: Operator) -> list[str]:
    return sorted(body.replace(" ", "") for body, _ in operator.work_messages())


ALL = sorted(['{"session_id":"devin-3"}', '{"session_id":"devin-4"}', BOTH.replace(" ", ""), "devin-1", "nonsense"])


def test_it_is_dry_unless_yes_is_given(queue: Operator, tmp_path: Path) -> None:
    ran = queue.run("withdraw", "devin-1", "devin-9", "--json")
    assert (ran.status, ran.data["messages"], ran.data["rewritten"], ran.data["withdrawn"]) == (0, 2, 1, 0)
    assert ran.data["not_found"] == ["devin-9"]
    assert f"account 123456789012, eu-west-1, stack {STACK}" in ran.err
    assert (left(queue), list(tmp_path.iterdir())) == (ALL, [])


@pytest.mark.parametrize("how", [("devin-1",), ("--file", "{}"), ("--csv-column", "id", "--file", "{}")])
def test_a_session_is_withdrawn_and_the_others_of_a_message_stay(
    queue: Operator, tmp_path: Path, how: tuple[str, ...]
) -> None:
    (tmp_path / "ids").write_text("id,who\ndevin-1,me\n" if "--csv-column" in how else "devin-1\n")
    ran = queue.run("withdraw", *(one.format(tmp_path / "ids") for one in how), "--yes", "--json")
    assert (ran.status, ran.data["withdrawn"], ran.data["session_ids"]) == (0, 1, ["devin-1"])
    messages = {body.replace(" ", ""): attributes for body, attributes in queue.work_messages()}
    assert messages.keys() == {*ALL} - {"devin-1", BOTH.replace(" ", "")} | {'{"session_ids":["devin-2"]}'}
    assert messages['{"session_ids":["devin-2"]}'] == {"attempts": "4"}, "what is sent in its place has been tried"
    kept = [json.loads(line) for line in Path(ran.data["file"]).read_text().splitlines()]
    assert {(one["body"], *one["session_ids"]) for one in kept} == {("devin-1", "devin-1"), (BOTH, "devin-1")}


@pytest.mark.parametrize(
    ("run", "withdrawn"),
    [("run-1", ["devin-3"]), ("run-3", [])],
)
def test_a_sweep_is_withdrawn_by_its_run(queue: Operator, run: str, withdrawn: list[str]) -> None:
    ran = queue.run("withdraw", "--run", run, "--yes", "--json")
    assert (ran.status, ran.data["session_ids"]) == (0 if withdrawn else 1, withdrawn)
    assert left(queue) == [one for one in ALL if not any(session in one for session in withdrawn)]


def test_what_could_not_be_looked_at_is_said(queue: Operator) -> None:
    queue.world.sqs.send_message(QueueUrl=queue.world.work_queue, MessageBody="devin-1", DelaySeconds=900)
    ran = queue.run("withdraw", "devin-1", "--yes", "--json")
    assert (ran.status, ran.data["not_seen"]) == (0, 1)
    assert "1 message could not be looked at" in ran.err
    assert "with the event source mapping off" in ran.err
    ran = queue.run("withdraw", "devin-9")
    assert (ran.status, "--yes does it" in ran.out) == (1, False)
    assert "none of the messages that could be seen asks for them" in ran.err


@pytest.mark.parametrize("call", ["sqs.SendMessageBatch", "os.fsync"])
def test_nothing_is_withdrawn_before_the_others_are_safe(
    queue: Operator, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(_: int) -> Any:
        raise OSError(28, "No space left on device")

    if call == "os.fsync":
        monkeypatch.setattr(call, full)
    else:
        queue.world.aws.fail(call)
    assert queue.run("withdraw", "devin-1", "--yes").status in {2, 3}
    queue.world.aws.faults.clear()
    assert left(queue) == ALL


@pytest.mark.parametrize("arguments", [("--run", ""), ("--run", "run-1", "devin-1"), ("nope",), ()])
def test_what_is_not_certain_withdraws_nothing(queue: Operator, arguments: tuple[str, ...]) -> None:
    assert queue.run("withdraw", *arguments, "--yes").status == 2
    assert left(queue) == ALL
