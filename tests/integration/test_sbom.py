"""The list of what ships names what was built, and nothing else."""

from __future__ import annotations

import json
from importlib.metadata import distributions

import pytest

from infra.audit.sbom import SBOM
from infra.local import sam


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("function", ["TerminateFunction", "SweepFunction"])
def test_the_list_of_what_ships_is_what_was_built(function: str) -> None:
    listed = {(one["name"], one["version"]) for one in json.loads(SBOM.read_text())["components"]}
    # By their metadata directories, as pip left them there.
    built = [
        (one.name.replace("_", "-").lower(), one.version) for one in distributions(path=[str(sam.BUILD / function)])
    ]
    assert sorted(built) == sorted(listed)
