"""What runs is what `sam build` made of functions/ and requirements.txt, and it borrows nothing."""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path
from typing import Any

import pytest

from infra.artefact import LEFT_OUT
from infra.environments import ROOT
from infra.local.stack import Stack
from tests.integration.world import World

# Says where modules come from when the handler has been imported as the deployed function imports it.
PROBE = """
import os
import sys
from terminate.handler import lambda_handler

def probe(event, context):
    root = os.environ["LAMBDA_TASK_ROOT"]
    files = {name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())}
    return {
        "shipped": {name: os.path.relpath(file, root) for name, file in files.items() if file.startswith(root)},
        "borrowed": {name: file for name, file in files.items() if file and not file.startswith(root)},
        "standard": sorted(sys.stdlib_module_names),
    }
"""


@pytest.fixture(scope="module")
def deployed(world: World) -> bytes:
    """The archive that the function runs from."""
    return world.artefact


@pytest.fixture(scope="module")
def modules(stack: Stack, deployed: bytes) -> Iterator[dict[str, Any]]:
    """What is imported in an execution environment of the same archive, with the probe beside it."""
    functions = stack.aws.lambda_
    configuration = functions.get_function_configuration(FunctionName=stack.terminate_function_name)
    content = io.BytesIO(deployed)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("probe.py", PROBE)
    stack.aws.s3.put_object(Bucket="artefacts", Key="probe", Body=content.getvalue())
    functions.create_function(
        FunctionName="probe",
        Runtime=configuration["Runtime"],
        Handler="probe.probe",
        Role=configuration["Role"],
        Timeout=60,
        Environment={"Variables": configuration["Environment"]["Variables"]},
        Code={"S3Bucket": "artefacts", "S3Key": "probe"},
    )
    try:
        answer = functions.invoke(FunctionName="probe", Payload=b"{}")
        found = json.loads(answer["Payload"].read())
        assert not answer.get("FunctionError"), found
        yield found
    finally:
        functions.delete_function(FunctionName="probe")


@pytest.mark.parametrize(
    "name", ["boto3", "botocore", "requests", "urllib3", "certifi", "aws_lambda_powertools", "devin.client", "settings"]
)
def test_a_module_comes_from_the_archive(modules: dict[str, Any], name: str) -> None:
    assert modules["shipped"][name].startswith(name.split(".", maxsplit=1)[0])


def test_nothing_but_the_standard_library_comes_from_elsewhere(modules: dict[str, Any]) -> None:
    borrowed = {name.partition(".")[0] for name in modules["borrowed"]} - {"__main__", "__mp_main__"}
    assert borrowed - set(modules["standard"]) == set()
    assert "awslambdaric" not in {*modules["shipped"], *borrowed}


def test_the_archive_holds_the_pins_and_the_code_and_no_more(deployed: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(deployed)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        sources = {name: archive.read(name) for name in names if (ROOT / "functions" / name).is_file()}
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    packages = {name.split(".dist-info", maxsplit=1)[0] for name in names if ".dist-info/" in name}
    shipped = {name.replace("_", "-").lower(): version for name, version in (item.rsplit("-", 1) for item in packages)}
    assert shipped == {name: version for name, version in pins.items() if name not in LEFT_OUT}
    mine = {str(path.relative_to(ROOT / "functions")) for path in (ROOT / "functions").rglob("*.py")}
    assert sources.keys() >= mine
    for name in mine:
        assert sources[name] == (ROOT / "functions" / name).read_bytes()
    assert not [name for name in names if Path(name).parts[0] in {"tests", "infra", "awslambdaric", "pytest"}]


def test_every_module_has_bytecode_of_its_source(deployed: bytes) -> None:
    """By a hash that nobody looks at: a zip file keeps no usable times, and hashing sources takes time."""
    with zipfile.ZipFile(io.BytesIO(deployed)) as archive:
        names = set(archive.namelist())
        sources = [Path(name) for name in names if name.endswith(".py")]
        compiled = {
            source: archive.read(str(source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"))
            for source in sources
        }
        assert len(compiled) > 400
        for source, bytecode in compiled.items():
            assert bytecode[:4] == MAGIC_NUMBER
            # https://peps.python.org/pep-0552/#specification
            assert int.from_bytes(bytecode[4:8], "little") == 0b01
            assert bytecode[8:16] == source_hash(archive.read(str(source)))
    (mine,) = (bytecode for source, bytecode in compiled.items() if source == Path("terminate/handler.py"))
    assert b"/var/task/terminate/handler.py" in mine
    assert str(ROOT).encode() not in mine


def test_the_archive_is_small(deployed: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(deployed)) as archive:
        # The local stack stores files as they are, SAM CLI compresses them.
        assert sum(len(zlib.compress(archive.read(name))) for name in archive.namelist()) < 7_000_000
