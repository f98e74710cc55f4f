"""The version, in one word everywhere, and what the Serverless Application Repository wants to know."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest

from tests.template.rendered import ROOT, source

# https://docs.aws.amazon.com/serverlessrepo/latest/devguide/applications.html
BOUNDS = {
    "Name": r"[a-zA-Z0-9-]{1,140}",
    "Description": r"(?s).{1,256}",
    "Author": r"(?=.{1,127}$)[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?",
    "SpdxLicenseId": r"MIT",
    "SemanticVersion": r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?",  # https://semver.org
}
MOST_BYTES = 5 * 1024 * 1024


def metadata() -> dict[str, Any]:
    found: dict[str, Any] = source()["Metadata"]["AWS::ServerlessRepo::Application"]
    return found


@pytest.mark.parametrize("name", BOUNDS)
def test_what_is_said_of_the_application_is_within_bounds(name: str) -> None:
    assert re.fullmatch(BOUNDS[name], metadata()[name]), metadata()[name]


def test_labels_are_few_and_plain() -> None:
    labels = metadata()["Labels"]
    assert 1 <= len(labels) <= 10
    assert not [label for label in labels if not re.fullmatch(r"[a-zA-Z0-9+\-_:/@]{1,127}", label)]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("name", ["LicenseUrl", "ReadmeUrl"])
def test_licence_and_readme_are_there_and_small_enough(name: str) -> None:
    text = (ROOT / metadata()[name]).read_text(encoding="utf-8")
    assert 0 < len(text.encode()) < MOST_BYTES


def test_the_licence_is_the_one_that_is_named() -> None:
    assert (ROOT / metadata()["LicenseUrl"]).read_text(encoding="utf-8").startswith("MIT License")


def test_nothing_is_said_that_has_to_be_worked_out_or_is_not_known() -> None:
    """Functions of CloudFormation are not evaluated there, and no address of this project is known."""
    said = json.dumps(metadata())
    assert "Fn::" not in said
    assert '"Ref"' not in said
    assert not {"HomePageUrl", "SourceCodeUrl"} & metadata().keys()


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert metadata()["SemanticVersion"] == project["version"]
    assert released[0] == project["version"]
    assert headings.index(released[0]) <= 1, "what is not released yet comes first"
    assert metadata()["Name"] == project["name"]
