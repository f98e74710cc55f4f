"""One TLS context for all connections: making one parses a bundle of some 140 certificates, half of a cold start's CPU
if each client does it for itself. https://github.com/boto/botocore/issues/3171"""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

import botocore.args
import certifi
from botocore.endpoint import Endpoint, EndpointCreator
from botocore.httpsession import URLLib3Session, get_cert_path


@cache
def context(bundle: str) -> ssl.SSLContext:
    """Verifies certificates and host names against a bundle of authorities; the same one for the same bundle."""
    return ssl.create_default_context(cafile=bundle)


def devin_context() -> ssl.SSLContext:
    """For the Devin API: certifi's bundle, whatever the environment says about AWS."""
    return context(certifi.where())


class _Session(URLLib3Session):
    """botocore's HTTP, which else parses the bundle again for every new connection."""

    def _get_ssl_context(self) -> ssl.SSLContext:
        return context(get_cert_path(self._verify))

    def _setup_ssl_cert(self, conn: Any, url: str, verify: bool | str) -> None:
        super()._setup_ssl_cert(conn, url, verify)
        conn.ca_certs = None


class _EndpointCreator(EndpointCreator):
    def create_endpoint(self, *args: Any, **kwargs: Any) -> Endpoint:
        return super().create_endpoint(*args, **kwargs, http_session_cls=_Session)


def share_with_botocore() -> None:
    """Have clients that are made from now on use it too. botocore has no option for it; a test holds it to this."""
    botocore.args.EndpointCreator = _EndpointCreator  # type: ignore[misc]
