"""`sweep`: dry unless --enforce is given."""

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError

from infra.ops.account import Account
from tests.unit.ops.world import STACK, Operator, report

POLICY = '{"idle_for": "PT6H", "dry_run": false}'
INVOKE = "lambda.Invoke"


@pytest.mark.parametrize(
    ("arguments", "given", "idle_for"),
    [
        ((), "", "P3D"),
        (("--stack-policy",), "", "P3D"),
        (("--stack-policy", "--enforce", "--yes"), "", "P3D"),
        ((), POLICY, "PT6H"),
        (("--enforce", "--yes"), POLICY, "PT6H"),
        (("-", "--enforce", "--yes"), POLICY, "PT6H"),
        (("{file}",), "", "PT6H"),
        (("@{file}",), "", "PT6H"),
    ],
)
def test_a_policy_comes_from_where_it_is_said_to(
    operator: Operator, tmp_path: Path, arguments: tuple[str, ...], given: str, idle_for: str
) -> None:
    mode = "enforce" if "--enforce" in arguments else "dry_run"
    policies = operator.answer_sweeps(report("devin-1", mode=mode, run="run-7"))
    (tmp_path / "policy.json").write_text(POLICY)
    ran = operator.run("sweep", *(one.format(file=tmp_path / "policy.json") for one in arguments), given=given)
    assert ran.status == 0
    assert policies == [{"idle_for": idle_for, "dry_run": mode == "dry_run"}], "dry whatever it says"
    assert ("devin-ops withdraw --run run-7" in ran.out + ran.err) == (mode == "enforce")


@pytest.mark.parametrize(
    ("arguments", "given", "says"),
    [
        (('{"idel_for": "PT6H"}',), "", "idel_for"),
        (("{}",), "", "the policy"),
        (("{",), "", "not JSON"),
        (("no-such-file.json",), "", "cannot be read"),
        (('{"idle_for": "PT5M"}',), "", "idle_for"),
        (('{"idle_for": "PT6H", "tags": ["a"], "idle_for": "P1D"}',), "", "'idle_for' stands in it twice"),
        (("--enforce", "--yes"), "", "--stack-policy"),
        (("--enforce", "--yes"), "no-such-file.json", "the pipe is not JSON"),
        (("", "--enforce", "--yes"), "", "a variable not set"),
        (("-", "--enforce", "--yes"), "", "- is not JSON"),
        ((POLICY, "--stack-policy"), "", "not both"),
    ],
)
def test_a_policy_that_is_not_certain_is_not_sent(
    operator: Operator, arguments: tuple[str, ...], given: str, says: str
) -> None:
    ran = operator.run("sweep", *arguments, given=given)
    assert ran.status == 2
    assert says in ran.err
    assert INVOKE not in operator.world.aws.names()


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(("says", "status", "runs"), [("y\n", 0, [True, False]), ("n\n", 1, [True])])
def test_enforcing_shows_a_dry_run_and_asks(operator: Operator, says: str, status: int, runs: list[bool]) -> None:
    policies = operator.answer_sweeps(report("devin-1"), report("devin-1", mode="enforce"))
    ran = operator.run("sweep", POLICY, "--enforce", given=says)
    assert ran.status == status
    assert f"account 123456789012, eu-west-1, stack {STACK}: Terminate 1 session?" in ran.err.replace("\n", " ")
    assert [policy["dry_run"] for policy in policies] == runs


def test_nobody_to_ask_ends_nothing(operator: Operator) -> None:
    policies = operator.answer_sweeps(report("devin-1"))
    assert operator.run("sweep", POLICY, "--enforce").status == 2
    assert [policy["dry_run"] for policy in policies] == [True]


def test_nothing_chosen_is_nothing_to_ask_about(operator: Operator) -> None:
    policies = operator.answer_sweeps(report())
    assert operator.run("sweep", POLICY, "--enforce").status == 0
    assert len(policies) == 1


def test_a_stack_that_is_dry_has_not_enforced_anything(operator: Operator) -> None:
    operator.answer_sweeps(report("devin-1", mode="dry_run"))
    ran = operator.run("sweep", POLICY, "--enforce", "--yes")
    assert ran.status == 1
    assert "DryRun" in ran.err


@pytest.mark.usefixtures("operator")
def test_a_sweep_is_waited_for_and_never_begun_twice() -> None:
    assert boto3.DEFAULT_SESSION is not None
    config: Any = Account(boto3.DEFAULT_SESSION).invoker.meta.config
    assert config.retries["total_max_attempts"] == 1
    assert config.read_timeout > 300, "the function's own limit"


@pytest.mark.parametrize(("now", "again"), [("go", True), ("stop", False)])
def test_a_sweep_that_was_stopped_is_no_success_and_has_a_report(operator: Operator, now: str, again: bool) -> None:
    operator.answer_sweeps(stopped := {"mode": "stopped", "why": "stopped by the switch"})
    operator.world.switch(now)
    ran = operator.run("sweep", POLICY, "--json")
    assert (ran.status, ran.data) == (1, stopped)
    assert "the sweep was stopped: stopped by the switch" in ran.err
    assert ("says go by now: try again in 15 s" in ran.err) == again


def test_a_sweep_that_was_refused_is_no_success(operator: Operator) -> None:
    operator.answer_sweeps({"errorMessage": "12 of 20 sessions match, but max_sessions is 10"}, error=True)
    ran = operator.run("sweep", POLICY, "--json")
    assert (ran.status, ran.out) == (1, "")
    assert "max_sessions is 10" in ran.err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ReadTimeoutError(endpoint_url="https://lambda")])
def test_a_sweep_that_nobody_waits_for_goes_on_and_that_is_said(operator: Operator, error: BaseException) -> None:
    def leave(_: dict[str, Any]) -> object:
        raise error

    operator.world.aws.faults[INVOKE] = leave
    ran = operator.run("sweep", POLICY, "--enforce", "--yes")
    assert ran.status == (130 if isinstance(error, KeyboardInterrupt) else 3)
    assert "may go on" in ran.err
