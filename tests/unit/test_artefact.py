"""What the build leaves out of the artefact, and what it must not leave out."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import boto3
import botocore
import botocore.session
import certifi
import pytest

from infra.artefact import (
    FUNCTIONS,
    ArtefactError,
    calls,
    hash_authorities,
    method_of,
    prune_botocore,
    requirements,
)
from infra.environments import ROOT

DATA = Path(botocore.__file__).parent / "data"


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """botocore's data as it ships."""
    data = tmp_path_factory.mktemp("botocore") / "data"
    services = calls(FUNCTIONS)
    shutil.copytree(DATA, data, ignore=lambda place, names: [] if place != str(DATA) else _others(names, services))
    prune_botocore(data, services)
    return data


def _others(names: list[str], services: dict[str, set[str]]) -> list[str]:
    return [name for name in names if not name.endswith(".json") and name not in services]


def client(service: str, data: Path) -> object:
    session = botocore.session.Session()
    session.get_component("data_loader")._search_paths = [str(data)]
    return boto3.Session(botocore_session=session, region_name="eu-west-1").client(
        service,  # type: ignore[call-overload]
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


def test_the_services_are_those_that_the_functions_make_clients_of() -> None:
    assert calls(FUNCTIONS).keys() == {"sqs", "ssm", "secretsmanager", "events", "dynamodb"}


@pytest.mark.parametrize("service", ["sqs", "ssm", "secretsmanager", "events", "dynamodb"])
def test_every_operation_that_is_called_is_there_as_it_was(pruned: Path, service: str) -> None:
    whole, ours = client(service, DATA), client(service, pruned)
    called = {method_of(name) for name in whole.meta.service_model.operation_names} & calls(FUNCTIONS)[service]  # type: ignore[attr-defined]
    assert called
    for method in called:
        operation = {
            one.meta.service_model.operation_model(one.meta.method_to_api_mapping[method])  # type: ignore[attr-defined]
            for one in (whole, ours)
        }
        shapes = [(_members(one.input_shape), _members(one.output_shape), one.http) for one in operation]
        assert shapes[0] == shapes[1]
        assert inspect.ismethod(getattr(ours, method))
    assert ours.meta.endpoint_url == whole.meta.endpoint_url  # type: ignore[attr-defined]


def _members(shape: object, depth: int = 6) -> object:
    """A shape, told by names and types of its members, as deep as any message goes."""
    if shape is None or not depth:
        return None
    members = getattr(shape, "members", {})
    inner = [getattr(shape, name) for name in ("member", "key", "value") if name in getattr(shape, "__dict__", {})]
    return (
        shape.type_name,  # type: ignore[attr-defined]
        {name: _members(one, depth - 1) for name, one in members.items()},
        [_members(one, depth - 1) for one in inner],
    )


def test_a_service_without_a_known_call_fails_the_build(tmp_path: Path) -> None:
    shutil.copytree(DATA / "sqs", tmp_path / "sqs")
    for name in ("_retry.json", "partitions.json", "sdk-default-configuration.json", "endpoints.json"):
        shutil.copyfile(DATA / name, tmp_path / name)
    with pytest.raises(ArtefactError, match="no call of SQS"):
        prune_botocore(tmp_path, {"sqs": {"fly"}})
    with pytest.raises(ArtefactError, match="no model of s4"):
        prune_botocore(tmp_path, {"s4": {"fly"}})


def test_a_paginator_would_fail_the_build(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text("client.get_paginator('scan')")
    with pytest.raises(ArtefactError, match="get_paginator"):
        calls(tmp_path)


def test_requirements_lose_the_package_that_is_left_out_and_nothing_else() -> None:
    lock = (ROOT / "requirements.txt").read_text()
    kept = requirements(lock)
    assert "charset-normalizer" not in kept
    assert kept.count("==") == lock.count("==") - 1
    assert kept.count("--hash") > 10
    with pytest.raises(ArtefactError, match="charset-normalizer"):
        requirements(kept)


def test_authorities_are_named_as_openssl_names_them(tmp_path: Path) -> None:
    """Every one of the bundle; some names are those of Debian's /etc/ssl/certs."""
    bundle = Path(certifi.where()).read_text()
    hash_authorities(bundle, tmp_path / "authorities")
    files = {path.name: path.read_text().strip() for path in (tmp_path / "authorities").iterdir()}
    assert len(files) == bundle.count("BEGIN CERTIFICATE")
    assert all(text in bundle for text in files.values())
    # Amazon Root CA 1, ISRG Root X1, GTS Root R1, DigiCert Global Root G2, Starfield Services Root G2.
    assert {"ce5e74ef.0", "4042bcee.0", "1001acf7.0", "607986c7.0", "09789157.0"} <= files.keys()
    with pytest.raises(ArtefactError, match="certifi"):
        hash_authorities("", tmp_path / "none")
