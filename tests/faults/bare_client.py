"""A client that is nothing but a socket, so that a key or a JWT is tried against a real server and nothing else."""

from __future__ import annotations

import json
import socket
from typing import Self

from nats_proto.nkeys import KeyPair
from nats_sync.testing import LocalServer
from tests.operator_mode import sign_nonce

__all__ = ["PATIENCE", "BareClient"]

PATIENCE = 30.0  # seconds: only a failure takes so long


class BareClient:
    """One connection, as a context manager. INFO is read at once."""

    def __init__(self, server: LocalServer) -> None:
        self._sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        self._stream = self._sock.makefile("rb")
        self.info: dict[str, object] = json.loads(self.line().removeprefix("INFO "))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()
        self._sock.close()

    def connect(self, *, signer: KeyPair | None = None, **options: object) -> str:
        """Send CONNECT and PING; the answer, which is ``PONG`` or an error. ``signer`` signs the nonce."""
        if signer is not None:
            options["sig"] = sign_nonce(signer, str(self.info["nonce"]))
        plain = {"verbose": False, "pedantic": False, "lang": "python", "version": "0", "protocol": 1}
        self.send(f"CONNECT {json.dumps({**plain, **options})}\r\nPING")  # at once: the server may close behind CONNECT
        return self.answer()

    def ping(self) -> str:
        """Send PING; the next line that is no INFO."""
        self.send("PING")
        return self.answer()

    def send(self, line: str) -> None:
        self._sock.sendall(f"{line}\r\n".encode())

    def answer(self) -> str:
        """The next line that is no INFO; empty at the end of the stream."""
        while (line := self.line()).startswith("INFO "):
            pass
        return line

    def line(self) -> str:
        try:
            return self._stream.readline().decode().strip()
        except ConnectionResetError:  # it closed before it had read all we sent
            return ""
