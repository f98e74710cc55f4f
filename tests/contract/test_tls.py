"""The one TLS context of a function's connections."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import boto3
import botocore.args
import certifi
import pytest

import tls
from devin.http import Transport, TransportError
from infra.artefact import hash_authorities
from infra.local import certificate
from infra.local.fake_devin import FakeDevin


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(botocore.args, "EndpointCreator", botocore.args.EndpointCreator)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    # Without credentials boto3 asks the network for some.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    tls.context.cache_clear()
    yield
    tls.context.cache_clear()


def test_clients_of_aws_and_of_the_api_share_a_context_that_verifies() -> None:
    tls.share_with_botocore()
    transport = Transport("https://api.devin.ai")
    assert transport._tls is not None
    assert (transport._tls.verify_mode, transport._tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    for client in (boto3.client("sqs", region_name="eu-west-1"), boto3.client("ssm", region_name="eu-west-1")):
        session = client._endpoint.http_session  # type: ignore[union-attr]
        pool = session._manager.connection_from_url("https://sqs.eu-west-1.amazonaws.com")
        session._setup_ssl_cert(pool, "https://sqs.eu-west-1.amazonaws.com", session._verify)
        assert pool.conn_kw["ssl_context"] is transport._tls
        # Otherwise urllib3 would load it into the context for each connection.
        assert (pool.ca_certs, pool.cert_reqs) == (None, "CERT_REQUIRED")


def test_a_bundle_for_aws_is_not_trusted_for_the_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = certificate.issue(tmp_path).authority
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    tls.share_with_botocore()
    session = boto3.client("sqs", region_name="eu-west-1")._endpoint.http_session  # type: ignore[attr-defined]
    assert session._get_ssl_context() is tls.context(str(authority))
    assert tls.context(certifi.where()) is not tls.context(str(authority))


def test_authorities_are_found_by_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in the artefact: a known one is trusted, an unknown one is not."""
    issued = certificate.issue(tmp_path)
    hashed = tmp_path / "authorities"
    bundle = Path(certifi.where()).read_text()
    hash_authorities(bundle + issued.authority.read_text(), hashed)
    strangers = tmp_path / "strangers"
    hash_authorities(bundle, strangers)
    chain = tmp_path / "both.pem"
    chain.write_text(issued.key.read_text() + issued.chain.read_text())
    with FakeDevin(certificate=chain) as api:
        monkeypatch.setattr(tls, "_HASHED", hashed)
        assert _status(api.url) == 200
        tls.context.cache_clear()
        monkeypatch.setattr(tls, "_HASHED", strangers)
        with pytest.raises(TransportError, match="TLS failure"):
            _status(api.url)


def _status(url: str) -> int:
    return Transport(url).request("GET", "/v1/sessions", key="apk_test", params=None, seconds=5, keep_bytes=10).status
