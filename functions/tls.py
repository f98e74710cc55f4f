"""One TLS context for all connections."""

import ssl
from functools import cache
from pathlib import Path
from typing import Any

import botocore.args
import certifi
from botocore.endpoint import Endpoint, EndpointCreator
from botocore.httpsession import URLLib3Session, get_cert_path

# botocore parses a bundle of some 120 certificates for each new connection, requests once more: half of a cold start.
# https://github.com/boto/botocore/issues/3171

# certifi's bundle, a file for each authority, which OpenSSL finds by its name and reads when it needs it. The build
# makes it (infra/artefact.py); without a build the bundle is parsed as a whole.
_HASHED = Path(__file__).with_name("authorities")


@cache
def context(bundle: str) -> ssl.SSLContext:
    """Verifies certificates and host names against a bundle of authorities; the same one for the same bundle."""
    hashed = bundle == certifi.where() and _HASHED.is_dir()
    made = ssl.create_default_context(capath=str(_HASHED)) if hashed else ssl.create_default_context(cafile=bundle)
    made.set_alpn_protocols(["http/1.1"])
    return made


class _Session(URLLib3Session):
    _verify: bool

    def _get_ssl_context(self) -> ssl.SSLContext:
        return context(get_cert_path(self._verify))

    def _setup_ssl_cert(self, conn: Any, url: str, verify: bool) -> None:
        super()._setup_ssl_cert(conn, url, verify)  # type: ignore[misc]
        conn.ca_certs = None


class _EndpointCreator(EndpointCreator):
    def create_endpoint(self, *args: Any, **kwargs: Any) -> Endpoint:
        endpoint: Endpoint = super().create_endpoint(*args, **{**kwargs, "http_session_cls": _Session})
        return endpoint


def share_with_botocore() -> None:
    """Have clients that are made from now on use it too. botocore has no option for it; a test holds it to this."""
    botocore.args.EndpointCreator = _EndpointCreator  # type: ignore[misc]
