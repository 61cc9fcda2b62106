"""The core in a plain ``selectors`` loop: one thread, a non-blocking socket, reconnecting.

    python examples/embedding/selectors_loop.py nats://127.0.0.1:4222

`Loop.run_until` is all there is to it: run what the session commands, move bytes, tell it the time.
"""

from __future__ import annotations

import os
import random
import selectors
import socket
import sys
import time
from collections.abc import Callable

from nats_proto import ConnectOptions, OpenTransport, Session, SessionEvent


class Loop:
    """One session and its socket."""

    def __init__(self, url: str, options: ConnectOptions | None = None) -> None:
        self.session = Session(options or ConnectOptions(), url, rng=random.SystemRandom())
        self.events: list[SessionEvent] = []
        self._selector = selectors.DefaultSelector()
        self._socket: socket.socket | None = None
        self._dialling = False
        self._dial: OpenTransport | None = None
        self._unsent = b""

    def connect(self) -> None:
        self.session.connect(now=time.monotonic())

    def run_until(self, done: Callable[[], bool], timeout: float) -> bool:
        """Turn the loop until ``done()`` or for ``timeout`` seconds; whether it was done."""
        end = time.monotonic() + timeout
        self._drain()
        while not done():
            now = time.monotonic()
            if now >= end:
                return False
            dial_at = self._dial.at if self._dial is not None else end
            deadline = self.session.next_timeout()
            self._wait(max(0.0, min(end, dial_at, end if deadline is None else deadline) - now))
            now = time.monotonic()
            self.session.handle_timeout(now=now)
            if self._dial is not None and now >= self._dial.at:
                self._start_dial(self._dial)
            self._drain()
        return True

    def close(self) -> None:
        self.session.close(now=time.monotonic())
        self.run_until(lambda: self._socket is None, 2.0)
        self._selector.close()

    def _wait(self, seconds: float) -> None:
        if self._socket is None:
            time.sleep(seconds)  # nothing can arrive: what is waited for is the time of the next dial
            return
        for _key, mask in self._selector.select(seconds):
            if self._dialling:
                self._finish_dial(self._socket)
            elif mask & selectors.EVENT_READ:
                self._read(self._socket)

    def _drain(self) -> None:
        """After every turn: data, commands, events."""
        if self._socket is not None and not self._dialling:
            self._write(self._socket)
        for command in self.session.commands_to_run():
            self._drop_socket()
            self._dial = command if isinstance(command, OpenTransport) else None
        self.events.extend(self.session.events_received())

    def _start_dial(self, command: OpenTransport) -> None:
        self._dial = None
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(*command.address, type=socket.SOCK_STREAM)[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setblocking(False)
            self._selector.register(self._socket, selectors.EVENT_WRITE)
            self._dialling = True
            self._socket.connect_ex(address)  # how it ended is asked when the socket is writable
        except OSError as error:
            self._drop_socket()
            self.session.transport_failed(error, now=time.monotonic())

    def _finish_dial(self, sock: socket.socket) -> None:
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._drop_socket()
            self.session.transport_failed(OSError(error, os.strerror(error)), now=time.monotonic())
        else:
            self._dialling = False
            self.session.transport_connected(now=time.monotonic())

    def _read(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(self.session.receive_size)
        except OSError as error:
            self.session.transport_lost(error, now=time.monotonic())
            return
        if data:
            self.session.receive_data(data, now=time.monotonic())
        else:
            self.session.receive_eof(now=time.monotonic())

    def _write(self, sock: socket.socket) -> None:
        """Write what the kernel takes and report exactly that: so the session knows what was handed over."""
        wanted = selectors.EVENT_READ
        try:
            while data := self._unsent or b"".join(self.session.data_to_send()):
                self._unsent = data
                sent = sock.send(data)
                self._unsent = data[sent:]
                self.session.data_sent(sent)
        except BlockingIOError:
            wanted |= selectors.EVENT_WRITE
        except OSError as error:
            self.session.transport_lost(error, now=time.monotonic())
        self._selector.modify(sock, wanted)

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
        self._socket, self._dialling, self._unsent = None, False, b""


def main(url: str) -> None:
    """Publish one message to ourselves."""
    loop = Loop(url)
    loop.connect()
    sub = loop.session.subscribe("greetings")
    loop.session.publish("greetings", b"hello from a selectors loop")
    loop.run_until(lambda: sub.pending_msgs > 0, timeout=5.0)
    print(sub.pop())
    loop.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222")
