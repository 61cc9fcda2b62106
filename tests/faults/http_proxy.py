"""An HTTP proxy on loopback that opens tunnels (CONNECT), and can want credentials or refuse.

    with HTTPProxy(credentials="user:password") as proxy:
        connect(..., proxy=proxy.url)
        assert proxy.targets == ["127.0.0.1:4222"]
        proxy.refuse = 503  # what comes from now on
        proxy.cut()         # what is there

It is written without anything of the client, and strict where the client could be wrong: a request that is no CONNECT,
or names another host in its header, gets 400.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import threading
from collections.abc import Callable
from typing import Self

from tests import evidence

__all__ = ["HTTPProxy"]

TICK = 0.02  # seconds between two looks at whether the block has ended
PATIENCE = 10.0  # seconds for a request to come and for a target to be reached

_REQUEST = re.compile(rb"CONNECT (\[[0-9a-f:.]+\]|[0-9A-Za-z._-]+):([0-9]+) HTTP/1\.1\r\n((?:[^\r\n]+\r\n)*)\r\n")


class HTTPProxy:
    """A context manager; at its end all tunnels are cut, and its threads and sockets are gone.

    ``credentials`` (``user:password``) are wanted from now on when they are set; ``refuse`` is a status that answers
    every request. ``targets`` has what tunnels were opened to, in order, and ``refused`` the status of all others.
    """

    def __init__(self, *, credentials: str | None = None, refuse: int | None = None) -> None:
        self.credentials = credentials
        self.refuse = refuse
        self.targets: list[str] = []
        self.refused: list[int] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TICK)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """With the credentials, if there are any."""
        user_info = "" if self.credentials is None else f"{self.credentials}@"
        return f"http://{user_info}127.0.0.1:{self.port}"

    @property
    def tunnels(self) -> int:
        """How many were opened so far."""
        return len(self.targets)

    def __enter__(self) -> Self:
        evidence.keep(f"HTTP proxy {self.port}", lambda: f"tunnels to {self.targets}\nrefused with {self.refused}\n")
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self.cut()
        while self._threads:
            self._threads.pop().join()
        self._listener.close()

    def cut(self) -> None:
        """End every connection that there is, on both sides."""
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    # --- threads -----------------------------------------------------------------------------------------------------

    def _start(self, function: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=function, name=f"http-proxy-{self.port}")
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                client = self._keep(self._listener.accept()[0])
                self._start(lambda client=client: self._serve(client))

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head, behind = self._read_head(client)
            status, server = self._answer(head)
            if server is None:
                self.refused.append(status)
                client.sendall(_refusal(status))
            else:
                with server:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n")
                    server.sendall(behind)
                    back = self._start(lambda: _relay(server, client))
                    _relay(client, server)
                    back.join()
                    self._forget(server)
        self._forget(client)

    # --- one request -------------------------------------------------------------------------------------------------

    def _read_head(self, client: socket.socket) -> tuple[bytes, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            more = client.recv(65536)
            if not more:
                raise ConnectionError
            data += more
        end = data.index(b"\r\n\r\n") + 4
        return data[:end], data[end:]

    def _answer(self, head: bytes) -> tuple[int, socket.socket | None]:
        """The status; with 200 the connection to the server."""
        request = _REQUEST.fullmatch(head)
        if request is None:
            return 400, None
        host, port = request[1].decode(), int(request[2])
        headers = request[3].decode().split("\r\n")
        if f"Host: {host}:{port}" not in headers:
            return 400, None
        if self.refuse is not None:
            return self.refuse, None
        if self.credentials is not None:
            basic = base64.b64encode(self.credentials.encode()).decode()
            if f"Proxy-Authorization: Basic {basic}" not in headers:
                return 407, None
        try:
            server = socket.create_connection((host.strip("[]"), port), timeout=PATIENCE)
        except OSError:
            return 502, None
        self.targets.append(f"{host}:{port}")
        return 200, self._keep(server)

    def _keep(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets.add(sock)
        if self._over.is_set():
            self.cut()
        return sock

    def _forget(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(sock)


def _relay(source: socket.socket, sink: socket.socket) -> None:
    """One way, until its end, which is passed on."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _refusal(status: int) -> bytes:
    wants = b'Proxy-Authenticate: Basic realm="test"\r\n' if status == 407 else b""
    reason = {400: b"Bad Request", 403: b"Forbidden", 407: b"Proxy Authentication Required"}.get(status, b"No")
    return b"HTTP/1.1 %d %b\r\n%bContent-Length: 4\r\nConnection: close\r\n\r\nno.\n" % (status, reason, wants)
