"""The tunnel of an HTTP proxy as a byte layer: CONNECT (RFC 9110, 9.3.6), and then bytes as they are.

Theory of operation
-------------------
    NEW ──start──▶ ASKED ──2xx──▶ OPEN
                     └── any other status, no HTTP, EOF ──▶ error

All that is said to the server, TLS and WebSocket included, goes through the tunnel, so this layer is the lowest. The
proxy itself is spoken to in clear. It is told the server's host and port, and the credentials that were given for the
proxy, and nothing else.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import ClassVar, Final

from .._secret import Secret
from .._servers.proxy import Proxy, authority
from ..errors import ConfigurationError, LocalProtocolError, NATSError, ProxyError
from .http import HeadReader
from .layers import Ledger

__all__ = ["ProxyLayer"]


class _State(Enum):
    NEW = auto()
    ASKED = auto()
    OPEN = auto()


class ProxyLayer:
    """A tunnel through ``proxy`` to ``target``, the server's host and port; a `Layer`.

    Raises `ConfigurationError` for a target that no request can name.
    """

    name: ClassVar[str] = "the HTTP proxy"

    __slots__ = ("_head", "_ledger", "_own", "_proxy", "_state", "_target", "ended", "error")

    def __init__(self, proxy: Proxy, target: tuple[str, int]) -> None:
        host, port = target
        if not (_HOST.fullmatch(host) and 0 < port < 65536):
            raise ConfigurationError("a proxy's tunnel leads to a host name or IP address, and a port from 1 to 65535")
        self._proxy = proxy
        self._target = authority(host, port)
        self._state = _State.NEW
        self._head = HeadReader()
        self._own: list[bytes] = []
        self._ledger = Ledger()
        self.error: NATSError | None = None
        """`ProxyError`: there is no tunnel."""
        self.ended: Final = False
        """Always False: HTTP has no message for the end of a tunnel."""

    @property
    def ready(self) -> bool:
        """The tunnel is open."""
        return self._state is _State.OPEN

    def start(self) -> None:
        """Ask for the tunnel. Once."""
        if self._state is not _State.NEW:
            raise LocalProtocolError("a proxy's layer is started once")
        self._own.append(_request(self._target, self._proxy.authorization))
        self._state = _State.ASKED

    def receive_data(self, data: bytes) -> bytes:
        """Before the tunnel is open, the proxy's answer; then bytes as they are."""
        if self._state is _State.OPEN:
            return data
        if self.error is not None:
            return b""
        rest = self._head.receive(data)
        if self._head.fault is not None:
            self._fail(f"its answer {self._head.fault}; is this the address of an HTTP proxy?")
        # Any 2xx opens the tunnel, and a Content-Length in it means nothing (RFC 9110, 9.3.6): what follows the head
        # comes from the server.
        elif rest is not None and 200 <= self._head.status < 300:
            self._state = _State.OPEN
            return rest
        elif rest is not None:
            status, reason = self._head.status, self._head.reason
            self._fail(f"{status} {reason}".rstrip() + self._advice(status), status)
        return b""

    def receive_eof(self) -> None:
        """The transport has ended: an ``error`` while there is no tunnel."""
        if self._state is not _State.OPEN and self.error is None:
            self._fail("it closed the connection")

    def wrap(self, pieces: list[bytes]) -> list[bytes]:
        """The request, later on the bytes as they are. `LocalProtocolError` for bytes before the tunnel is open."""
        if self.error is not None:
            return []
        if self._state is _State.OPEN:
            self._ledger.plain(sum(map(len, pieces)))
            return pieces
        if pieces:
            raise LocalProtocolError("bytes for a proxy's tunnel that is not open")
        own, self._own = self._own, []
        self._ledger.own(sum(map(len, own)))
        return own

    def sent(self, nbytes: int) -> int:
        """The transport accepted the next ``nbytes``: those behind the request."""
        return self._ledger.sent(nbytes)

    def close(self) -> None:
        """Does nothing: a tunnel ends with its connection."""

    def _fail(self, why: str, status: int | None = None) -> None:
        self.error = ProxyError(f"proxy {self._proxy} did not open a tunnel to {self._target}: {why}", status=status)

    def _advice(self, status: int) -> str:
        if status != 407:
            return _ADVICE.get(status, "")
        if self._proxy.credentials is None:
            return "; it wants credentials: http://user:password@host:port"
        return "; it does not accept the user and password of the proxy's URL"


_ADVICE: Final = {
    403: "; its rules do not allow this server or port",
    405: "; it does not open tunnels",
    502: "; it could not reach the server",
    503: "; it could not reach the server",
    504: "; it could not reach the server",
}

# Blanks and line ends are kept out, since with them a host name could add a header to the request.
_HOST: Final = re.compile("[0-9A-Za-z._:-]+")


def _request(target: str, authorization: Secret | None) -> bytes:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if authorization is not None:
        lines.append(f"Proxy-Authorization: Basic {authorization.reveal()}")
    return "\r\n".join([*lines, "", ""]).encode()
