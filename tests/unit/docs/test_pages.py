"""The pages: links arrive, and what they name exists."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from infra.environments import ROOT
from sweep.policy import CRITERIA, Policy
from terminate.outcomes import Outcome
from tests.runbook.page import anchors
from tests.template.rendered import source
from tests.unit.docs.commands import assert_ops_has, code, variables

PAGES = sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")))
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
README = TEXTS["README.md"]
TEMPLATE: dict[str, Any] = source()


def links(page: str) -> Iterator[tuple[Path, str]]:
    """The local links of a page: the file, and the anchor or an empty text."""
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if not re.match(r"https?://|mailto:", target):
            path, _, anchor = target.partition("#")
            yield ((ROOT / page).parent / path).resolve() if path else ROOT / page, anchor


@pytest.mark.parametrize("page", PAGES)
def test_every_link_arrives(page: str) -> None:
    for path, anchor in links(page):
        assert path.exists(), path
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{path.name}#{anchor}"


def test_the_index_names_every_page() -> None:
    listed = {path for path, _ in links("docs/README.md")}
    assert {ROOT / page for page in PAGES if page.startswith("docs/")} - {ROOT / "docs" / "README.md"} <= listed


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", code(TEXTS[page]))) <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_devin_ops_exists(page: str) -> None:
    for words in re.findall(r"(?<!/)\bdevin-ops ([a-z-][^\n|]*)", code(TEXTS[page])):
        assert_ops_has(*shlex.split(words, comments=True))


@pytest.mark.parametrize("page", PAGES)
def test_every_parameter_and_variable_exists(page: str) -> None:
    text = code(TEXTS[page])
    overrides = " ".join(re.findall(r"--parameter-overrides (.+)", text)) + " ".join(
        re.findall(r"^ *change (.+)", text)
    )
    assert set(re.findall(r"\b([A-Z]\w+)=", overrides)) <= TEMPLATE["Parameters"].keys()
    set_here = set(re.findall(r"\b([A-Z_]+)=", text)) | set(re.findall(r"\bread -rs (\w+)", text))
    assert set(re.findall(r"\$\{?([A-Z][A-Z_]+)", text)) <= variables() | set_here | {"STACK_NAME"}


# The history names what is gone.
@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_every_path_of_the_project_exists(page: str) -> None:
    for path in re.findall(r"(?<![\w/.-])(?:docs|functions|infra|tests)/[\w./-]*\w", code(TEXTS[page])):
        assert (ROOT / path).exists(), path


def test_the_map_of_the_repository_is_right() -> None:
    """Each row names files below functions/ or from the root, and names that stand in the file before them."""
    text = TEXTS["CONTRIBUTING.md"]
    rows = re.findall(r"^\| .*\? \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) >= 10
    for row in rows:
        file: Path | None = None
        for term in re.findall(r"`([^`]+)`", row):
            if "/" in term or term.endswith((".py", ".yaml")):
                if "<" in term:
                    continue
                places = [ROOT / "functions" / term, ROOT / term]
                if file is not None:
                    places.append(file.parent / term)
                file = next((place for place in places if place.exists()), None)
                assert file is not None, term
            else:
                assert file is not None
                assert re.search(rf"\b{re.escape(term)}\b", file.read_text(encoding="utf-8")), f"{term} in {file}"


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 200


def test_the_picture_shows_the_parts_of_the_template() -> None:
    """Every node in camel case is a resource, all main resources are there, and every arrow is a reference."""
    (picture,) = re.findall(r"```mermaid\nflowchart LR\n(.*?)```", README, re.DOTALL)
    lines = [re.findall(r"\b[A-Z]\w+", line) for line in re.sub(r'"[^"]*"|[\[(]+.*?[\])]+', "", picture).splitlines()]
    resources = dict(TEMPLATE["Resources"])
    # SAM makes the rule out of an event of the function.
    resources["TerminationRequested"] = resources["TerminateFunction"]["Properties"]["Events"]["TerminationRequested"]
    kinds = ("Function", "SQS::Queue", "Secret", "DynamoDB::Table", "SSM::Parameter", "Scheduler::Schedule")
    main = {name for name, one in resources.items() if str(one["Type"]).endswith(kinds)}
    assert main <= {name for line in lines for name in line} <= resources.keys()

    def refers(name: str, other: str) -> bool:
        parts = [resources[name], resources.get(name.removesuffix("Function") + "Role")]
        if name.endswith("Function"):
            parts.append(TEMPLATE["Globals"])
        return re.search(rf"\b{other}\b", str(parts)) is not None or name == "TerminationRequested"

    for name, *others in lines:
        for other in others:
            assert refers(name, other) or refers(other, name), f"{name} and {other}"


def first_column(text: str) -> set[str]:
    """Every name that stands between backticks in the first column of a table."""
    return {name for cell in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)}


def test_every_outcome_is_in_the_table() -> None:
    table = README.partition("## What can happen")[2].partition("\n## ")[0]
    assert {outcome.value for outcome in Outcome} <= set(re.findall(r"`(\w+)`", table))


def test_every_key_of_a_policy_is_in_a_table() -> None:
    criteria, _, limits = TEXTS["docs/sweep.md"].partition("## Criteria")[2].partition("## Limits")
    assert first_column(criteria) == set(CRITERIA)
    assert first_column(limits.partition("\n## ")[0]) == {field.name for field in fields(Policy)} - {"criteria"}


def test_the_sample_policies_are_those_of_the_files() -> None:
    shown = [
        json.loads(text)
        for text in re.findall(r"```json\n(.*?)```", TEXTS["docs/sweep.md"], re.DOTALL)
        if "…" not in text
    ]
    files = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "tests" / "events").glob("sweep-*.json")]
    assert sorted(shown, key=str) == sorted(files, key=str)


def test_every_dependency_has_its_reason() -> None:
    names = {
        name
        for path in (ROOT / "infra" / "requirements").glob("*.in")
        for name in re.findall(r"^[a-z][\w-]*", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {name for name in names if not re.search(rf"\b{name}\b", TEXTS["docs/decisions.md"])} == set()
