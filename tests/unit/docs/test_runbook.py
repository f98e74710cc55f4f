"""The runbook: it leads from every reason and every link to a section, and its commands are such as the tools have."""

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from devin.client import Answer
from infra.environments import ROOT
from infra.ops import dlq
from terminate.outcomes import Disposition, Outcome, Result, classify
from tests.runbook.page import Block, headings, text
from tests.runbook.run import FAILS, FIRST, OTHERS, PLACEHOLDERS, SHOWS
from tests.unit.docs.commands import assert_ops_has, variables

TEXT = text()
# Options of the aws CLI itself, whatever the command, and whether a value follows.
GLOBAL = {"output": True, "query": True, "cli-read-timeout": True}
# The programs that the runbook calls, as functions that write down what they are called with.
# One write for each call: the programs of a pipe run at the same time.
STUBS = """
for program in aws devin-ops jq sleep; do
  eval "$program() { printf '%s\\0' $program \\"\\$@\\" END >> '$CALLS'; echo said; }"
done
"""


def reasons() -> set[str]:
    """Every reason of a dead letter that functions write or the operator's command prints."""
    rejected = [Result(classify(Answer(status))[0], http_status=status) for status in range(100, 600)]
    written = {one.reason for one in rejected if one.disposition is Disposition.DEAD_LETTER}
    printed = {dlq.UNUSABLE, dlq.RECEIVED_TOO_OFTEN, dlq.UNDELIVERED, dlq.INVOCATION_FAILED}
    return written | {Result(Outcome.INVALID).reason} | printed


def test_every_reason_has_a_section() -> None:
    without = reasons() - set(headings(TEXT))
    # One section is for all rejections that are rare.
    assert {reason.partition("_")[0] for reason in without} == {"rejected"}
    assert "rejected_other" in headings(TEXT)
    assert "Whatever else begins with `rejected_`" in TEXT


def test_every_section_about_a_reason_is_about_one_that_exists() -> None:
    listed = headings(TEXT)
    sections = listed[listed.index("Dead letters by reason") + 1 : listed.index("Everyday commands")]
    assert set(sections) - reasons() == {"rejected_other"}


def test_every_saved_query_is_listed() -> None:
    resources = yaml_parse((ROOT / "infra" / "observability.yaml").read_text(encoding="utf-8"))["Resources"].values()
    names = {one["Properties"]["Name"]["Fn::Sub"] for one in resources if one["Type"] == "AWS::Logs::QueryDefinition"}
    table = TEXT.partition("# Saved queries")[2].partition("\n# ")[0]
    listed = set(re.findall(r"^\| ([a-z ]+) \|", table, re.MULTILINE)) - {"query"}
    assert names == {f"${{MonitoredStack}}/{name}" for name in listed}


def outputs(directory: Path) -> None:
    """What stands for infra/outputs: a value for each output, so that a variable of another name is an error."""
    program = directory / "infra" / "outputs"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n" + "".join(f"echo {name}=x\n" for name in variables()))
    program.chmod(0o700)


def calls_of(block: Block, tmp_path: Path) -> list[list[str]]:
    """What a block calls, in order, with the arguments that the shell hands over."""
    calls = tmp_path / "calls"
    calls.touch()
    outputs(tmp_path)
    later = FIRST.text if block is not FIRST else ""
    subprocess.run(  # noqa: S603 - the project's own commands
        ["/bin/bash", "-eu", "-c", f"{STUBS}\n{later}\n: > $CALLS\n{block.text}"],
        env={"CALLS": str(calls), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        input="key\n",
        text=True,
        check=True,
        capture_output=True,
    )
    return [call.split("\0") for call in calls.read_text().split("\0END\0") if call]


@cache
def service(name: str) -> Any:
    return botocore.session.Session().get_service_model(name)


def assert_aws_has(service_name: str, operation: str, *arguments: str) -> None:
    model = service(service_name)
    shape = model.operation_model(
        {xform_name(name, "-"): name for name in model.operation_names}[operation]
    ).input_shape
    takes_value = dict(GLOBAL)
    for name, member in shape.members.items():
        takes_value[xform_name(name, "-")] = member.type_name != "boolean"
        if member.type_name == "boolean":
            takes_value[f"no-{xform_name(name, '-')}"] = False
    words, given = list(arguments), set()
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            # The one positional argument: where the answer of a function goes.
            assert (service_name, operation) == ("lambda", "invoke")
            continue
        option = word.removeprefix("--")
        assert option in takes_value, f"{operation} has no {word}"
        given.add(option)
        if takes_value[option]:
            assert words, f"{word} is without a value"
            words.pop(0)
            while words and not words[0].startswith("--") and operation != "invoke":
                words.pop(0)  # lists take several
    required = {xform_name(name, "-") for name in shape.required_members}
    assert required <= given, f"{operation} lacks {required - given}"


@pytest.mark.parametrize("block", [FIRST, *OTHERS], ids=lambda block: block.name)
def test_block_calls_what_the_tools_have(block: Block, tmp_path: Path) -> None:
    calls = calls_of(block, tmp_path)
    assert calls or block is FIRST
    for program, *arguments in calls:
        if program == "aws" and arguments[1] == "wait":
            continue
        if program == "aws":
            assert_aws_has(*arguments)
        elif program == "devin-ops":
            assert_ops_has(*arguments)


def test_what_is_expected_of_a_block_is_expected_of_one_that_is_there() -> None:
    by_name = {block.name: block.text for block in (FIRST, *OTHERS)}
    assert SHOWS.keys() <= by_name.keys()
    for block, command in FAILS:
        assert command in by_name[block] or command in FIRST.text
    assert all(any(one in text for text in by_name.values()) for one in PLACEHOLDERS)
