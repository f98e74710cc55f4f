"""What the build leaves out of the artefact, and what it must not leave out."""

import shutil
from pathlib import Path
from typing import Any

import botocore
import botocore.session
import certifi
import pytest
from botocore.utils import ArgumentGenerator

from infra.artefact import FUNCTIONS, ArtefactError, calls, hash_authorities, method_of, prune_botocore, requirements
from infra.environments import ROOT

DATA = Path(botocore.__file__).parent / "data"


def copied(data: Path, *services: str) -> Path:
    """botocore's data, of these services alone."""
    for service in services:
        shutil.copytree(DATA / service, data / service)
    for path in DATA.glob("*.json"):
        shutil.copy(path, data)
    return data


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """botocore's data as it ships."""
    services = calls(FUNCTIONS)
    data = copied(tmp_path_factory.mktemp("botocore"), *services)
    prune_botocore(data, services)
    return data


def client(service: str, data: Path) -> Any:
    session = botocore.session.Session()
    session.get_component("data_loader")._search_paths = [str(data)]
    return session.create_client(service, "eu-west-1", aws_access_key_id="testing", aws_secret_access_key="testing")


@pytest.mark.parametrize("service", ["sqs", "ssm", "secretsmanager", "events", "dynamodb"])
def test_every_operation_that_is_called_is_there_as_it_was(pruned: Path, service: str) -> None:
    whole, ours = client(service, DATA), client(service, pruned)
    called = {method_of(name) for name in whole.meta.service_model.operation_names} & calls(FUNCTIONS)[service]
    assert called
    for method in called:
        assert _skeletons(ours, method) == _skeletons(whole, method)
    assert ours.meta.endpoint_url == whole.meta.endpoint_url


def _skeletons(client: Any, method: str) -> list[Any]:
    """An example of what the operation takes, and of what it returns, with every member."""
    operation = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    generate = ArgumentGenerator(use_member_names=True).generate_skeleton
    return [operation.http, *(generate(shape) for shape in (operation.input_shape, operation.output_shape) if shape)]


def test_a_service_without_a_known_call_fails_the_build(tmp_path: Path) -> None:
    copied(tmp_path, "sqs")
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
