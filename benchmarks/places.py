"""Where the clients connect: fresh servers for each work, with limits that no slow client meets."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nats_sync.testing import LocalServer, ServerTLS

__all__ = ["Place", "Target", "place"]

PATIENT = {"max_pending": 8 * 2**30, "write_deadline": "120s"}
"""A server cuts off who leaves 64 MiB unread, or does not read for 10 seconds. A slow client is to be measured, not
punished."""


@dataclass(frozen=True)
class Target:
    """A listener, and the server behind it: its plain port is open to the other side."""

    url: str
    server: LocalServer
    ca: str = ""


@dataclass
class Place:
    """The listeners there are."""

    targets: dict[str, Target] = field(default_factory=dict)

    def target(self, transport: str) -> Target:
        return self.targets[transport]


@contextlib.contextmanager
def place(transports: Collection[str], largest: int = 0, *, streams: bool = False) -> Iterator[Place]:
    """Servers for these transports, plain TCP always among them. ``largest``: a payload beyond the usual MiB.

    ``streams``: the plain one has JetStream.
    """
    with contextlib.ExitStack() as stack:
        secure = bool({"tls", "wss"} & set(transports))
        patient: dict[str, object] = {**PATIENT, **({"max_payload": largest} if largest > 2**20 else {})}
        if {"ws", "wss"} & set(transports):
            # A server makes one WebSocket message of all that waits for a client; ours take 64 MiB at once.
            del patient["max_pending"]
        plain = stack.enter_context(LocalServer(patient, websocket="ws" in transports, jetstream=streams))
        made = Place({"tcp": Target(plain.url, plain)})
        if "ws" in transports:
            made.targets["ws"] = Target(plain.websocket_url, plain)
        if secure:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            tls = certificates(folder)
            config = {**patient, "allow_non_tls": True}
            server = stack.enter_context(LocalServer(config, tls=tls, websocket="wss" in transports))
            ca = str(folder / "ca.pem")
            made.targets["tls"] = Target(f"tls://127.0.0.1:{server.port}", server, ca)
            if "wss" in transports:
                made.targets["wss"] = Target(server.websocket_url, server, ca)
        yield made


def certificates(folder: Path) -> ServerTLS:
    """A certificate for loopback, and ``ca.pem`` of who signed it."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    leaf.private_key_pem.write_to_path(folder / "server.key")
    (folder / "server.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return ServerTLS(cert=folder / "server.pem", key=folder / "server.key")
