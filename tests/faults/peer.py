"""A server that follows a script: one list of steps for each connection, in the order they come in.

    with Peer([handshake(), expect(b"SUB a 1\\r\\n"), reset()], [handshake(), loop(PONGS)]) as peer:
        connect(peer.url)

A connection stays open behind its last step until the client or the end of the block closes it. Everything sent and
received is kept, and printed when the test fails.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self, TypeAlias

from tests import evidence

__all__ = [
    "PONGS",
    "Connection",
    "Peer",
    "close",
    "expect",
    "freeze",
    "handshake",
    "hold",
    "info",
    "loop",
    "reset",
    "send",
    "swallow",
]

PATIENCE = 30.0  # seconds an `expect` waits: only a failure takes so long, and a busy machine is no failure
TICK = 0.01  # seconds between two looks at whether the block has ended
SHOWN = 400  # bytes of one line of the transcript


class _Over(Exception):
    """The script of this connection cannot go on: the client has gone, or the block has ended."""


Step: TypeAlias = "Callable[[Connection], None]"
Script: TypeAlias = "Sequence[Step | Script]"


class Connection:
    """One accepted connection, as the steps see it. A step of one's own is any callable that takes it."""

    def __init__(self, peer: Peer, number: int, sock: socket.socket) -> None:
        self.peer, self.number, self.sock = peer, number, sock
        self.received = bytearray()  # all of it
        self.ended = threading.Event()  # the script was left, by whatever way
        self.finished = False  # every step was done
        self._seen = 0  # how much of `received` earlier expectations have taken

    def send(self, data: bytes) -> None:
        self.peer.note(self.number, ">", data)
        view = memoryview(data)
        while view:
            with contextlib.suppress(TimeoutError):
                view = view[self.sock.send(view) :]
            self.peer.check_over()

    def expect(self, pattern: bytes | re.Pattern[bytes], timeout: float = PATIENCE) -> bytes:
        """Read until ``pattern`` comes; takes all up to its end, and gives what matched."""
        compiled = re.compile(re.escape(pattern)) if isinstance(pattern, bytes) else pattern
        deadline = time.monotonic() + timeout
        while (match := compiled.search(self.received, self._seen)) is None:
            if time.monotonic() > deadline:
                self.peer.note(self.number, "!", b"waited in vain for " + compiled.pattern)
                raise _Over
            self.read()
        self._seen = match.end()
        return match.group()

    def read(self) -> None:
        """Take what there is, for one tick at most."""
        with contextlib.suppress(TimeoutError):
            data = self.sock.recv(65536)
            self.peer.note(self.number, "<", data or b"(end of stream)")
            if not data:
                raise _Over
            self.received += data
        self.peer.check_over()

    def close(self, *, reset: bool) -> None:
        self.peer.note(self.number, ">", b"(RST)" if reset else b"(FIN)")
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def run(self, script: Script) -> None:
        for step in script:
            if callable(step):
                step(self)
            else:
                self.run(step)


class Peer:
    """Listens on a free loopback port. Connections beyond the last script are reset, or get it again with ``again``.

    ``rcvbuf`` (bytes) makes the receive buffer small, so that a client that writes to a frozen peer soon has to wait.
    """

    def __init__(self, *scripts: Script, again: bool = False, rcvbuf: int | None = None) -> None:
        self._scripts = scripts
        self._again = again
        self._over = threading.Event()
        self._released = threading.Event()
        self._threads: list[threading.Thread] = []
        self._transcript: list[str] = []
        self._began = time.monotonic()
        self._changed = threading.Condition()
        self.connections: list[Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        if rcvbuf is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._acceptor = threading.Thread(target=self._accept, name=f"peer-{self.port}")

    def __enter__(self) -> Self:
        evidence.keep(f"scripted peer {self.port}", self.transcript)
        self._acceptor.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):  # wakes the acceptor
            socket.create_connection(("127.0.0.1", self.port)).close()
        self._acceptor.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def release(self) -> None:
        """Let every `hold` and `freeze` go on, those to come as well."""
        self._released.set()

    def wait_for_connection(self, number: int = 1, timeout: float = PATIENCE) -> Connection:
        """The ``number``-th connection, as soon as it is there."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.connections) >= number, timeout):
                raise AssertionError(f"no connection {number} within {timeout:g} s; so far:\n{self.transcript()}")
            return self.connections[number - 1]

    def wait_until_finished(self, timeout: float = PATIENCE) -> None:
        """Wait until each script was followed to its end; ``AssertionError`` with the transcript when one was not."""
        deadline = time.monotonic() + timeout
        for number in range(1, len(self._scripts) + 1):
            connection = self.wait_for_connection(number, max(0.0, deadline - time.monotonic()))
            connection.ended.wait(max(0.0, deadline - time.monotonic()))
            if not connection.finished:
                raise AssertionError(f"script {number} was not followed to its end:\n{self.transcript()}")

    def transcript(self) -> str:
        """One line for each thing that happened: seconds, connection, direction, bytes."""
        return "\n".join(self._transcript)

    # --- for steps and connections -----------------------------------------------------------------------------------

    @property
    def is_released(self) -> bool:
        return self._released.is_set()

    def check_over(self) -> None:
        if self._over.is_set():
            raise _Over

    def note(self, number: int, direction: str, data: bytes) -> None:
        more = f" … {len(data)} bytes" if len(data) > SHOWN else ""
        self._transcript.append(f"{time.monotonic() - self._began:9.4f} {number} {direction} {data[:SHOWN]!r}{more}")

    # --- threads -----------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._over.is_set():
                sock.close()
                return
            sock.settimeout(TICK)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                connection = Connection(self, len(self.connections) + 1, sock)
                self.connections.append(connection)
                self.note(connection.number, "<", b"(connected)")
                self._changed.notify_all()
            thread = threading.Thread(target=self._serve, args=(connection,), name=f"{self._acceptor.name}-connection")
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        script: Script = [reset()]
        if self._again or connection.number <= len(self._scripts):
            script = self._scripts[min(connection.number, len(self._scripts)) - 1]
        try:
            connection.run(script)
            connection.finished = True
            connection.ended.set()
            while connection.sock.fileno() >= 0:
                connection.read()
        except _Over:
            pass
        except OSError as error:
            self.note(connection.number, "!", repr(error).encode())
        finally:
            connection.sock.close()
            connection.ended.set()


# --- steps ------------------------------------------------------------------------------------------------------------


def send(data: bytes) -> Step:
    """Send exactly this."""
    return lambda connection: connection.send(data)


def expect(pattern: bytes | re.Pattern[bytes], timeout: float = PATIENCE) -> Step:
    """Wait until this comes, whatever comes before it. In vain: the script ends and the connection is closed."""

    def step(connection: Connection) -> None:
        connection.expect(pattern, timeout)

    return step


def close() -> Step:
    """End the connection in good order (FIN)."""
    return lambda connection: connection.close(reset=False)


def reset() -> Step:
    """End the connection with a reset (RST)."""
    return lambda connection: connection.close(reset=True)


def hold() -> Step:
    """Go on reading, say nothing, until `Peer.release`."""

    def step(connection: Connection) -> None:
        while not connection.peer.is_released:
            connection.read()

    return step


def freeze() -> Step:
    """Neither read nor write until `Peer.release`: the client's writes come to a stop."""

    def step(connection: Connection) -> None:
        while not connection.peer._released.wait(TICK):
            connection.peer.check_over()

    return step


def loop(*steps: Step | Script) -> Step:
    """These steps again and again, until the connection ends or an expectation is in vain."""

    def step(connection: Connection) -> None:
        while True:
            connection.run(steps)

    return step


PONGS: Script = [expect(b"PING\r\n"), send(b"PONG\r\n")]
"""To be looped: answers keep-alives and flushes."""


def info(**fields: object) -> bytes:
    """An INFO line as a server without any particulars sends it, with ``fields`` set or replaced."""
    usual = {
        "server_id": "NSCRIPTEDPEER",
        "server_name": "peer",
        "version": "2.15.1",
        "proto": 1,
        "headers": True,
        "max_payload": 1048576,
        "client_id": 1,
    }
    return b"INFO " + json.dumps(usual | fields).encode() + b"\r\n"


def handshake(**fields: object) -> Script:
    """What a server does before a client is connected: INFO with ``fields``, then PONG behind CONNECT and PING."""
    return [send(info(**fields)), expect(b"CONNECT "), expect(b"PING\r\n"), send(b"PONG\r\n")]


def swallow(connection: Connection) -> None:
    """Read whatever comes, and answer a PING that is the last of it: once, so that a client never has a PONG unread."""
    answered = len(connection.received)
    while True:
        connection.read()
        if len(connection.received) > answered and connection.received.endswith(b"PING\r\n"):
            answered = len(connection.received)
            connection.send(b"PONG\r\n")
