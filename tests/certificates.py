"""Certificates for the tests, made when they run: a CA, a server's certificate, a client's one, as PEM files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
import trustme

from nats_sync.testing import ServerTLS

__all__ = ["HOSTS", "Certificates", "certificates"]

HOSTS = ("localhost", "127.0.0.1", "::1")
"""What the server's certificate proves."""

CLIENT = "client@example.com"
"""Whom the client's certificate names."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Of one CA. Those of another one are `made` in another folder."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path

    @classmethod
    def made(cls, directory: Path, hosts: tuple[str, ...] = HOSTS) -> Self:
        """Make them all, below ``directory``; the server's certificate for ``hosts``."""
        names = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")
        paths = cls(*(directory / name for name in names))
        ca = trustme.CA()
        ca.cert_pem.write_to_path(paths.ca)
        for leaf, cert, key in (
            (ca.issue_cert(*hosts), paths.server_cert, paths.server_key),
            (ca.issue_cert(CLIENT), paths.client_cert, paths.client_key),
        ):
            leaf.private_key_pem.write_to_path(key)
            cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        return paths

    def server_tls(self, *, verify: bool = False, handshake_first: bool | str = False) -> ServerTLS:
        """For a `LocalServer`."""
        return ServerTLS(
            cert=self.server_cert, key=self.server_key, ca=self.ca, verify=verify, handshake_first=handshake_first
        )

    def client_context(self, *, certificate: bool = False) -> ssl.SSLContext:
        """Trusts this CA alone; shows the client's certificate when asked to."""
        context = ssl.create_default_context(cafile=self.ca)
        if certificate:
            context.load_cert_chain(self.client_cert, self.client_key)
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One CA for all tests of this process."""
    return Certificates.made(tmp_path_factory.mktemp("certificates"))
