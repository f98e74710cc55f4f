"""The certificate that the emulator on this machine shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """PEM files: the authority that clients trust, and the chain and key that a server on loopback shows."""

    authority: Path
    chain: Path
    key: Path

    @classmethod
    def kept_in(cls, directory: Path) -> Certificate:
        return cls(directory / "ca.pem", directory / "server.pem", directory / "server.key")


def issue(directory: Path) -> Certificate:
    """Write a certificate for loopback from an authority of its own, whose key is thrown away."""
    # A stack that is left running outlives a day, none should outlive this.
    expiry = datetime.now(UTC) + timedelta(days=30)
    authority = trustme.CA(organization_name="devin-session-cleanup local stack")
    leaf = authority.issue_cert("localhost", "127.0.0.1", not_after=expiry)
    certificate = Certificate.kept_in(directory)
    authority.cert_pem.write_to_path(str(certificate.authority))
    certificate.chain.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    certificate.key.touch(mode=0o600)
    leaf.private_key_pem.write_to_path(str(certificate.key))
    return certificate
