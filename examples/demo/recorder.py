"""An independent witness: a bare socket on one server that writes down what was published.

It shares nothing with the clients but the parser. There is one for each server, so that what a client publishes is seen
by at least one of them whichever server is being killed.
"""

from __future__ import annotations

import socket
import threading
from collections import defaultdict
from typing import Final

from nats_proto import Message, Parser, PingFrame, Role

_HELLO: Final = b'CONNECT {"verbose":false,"pedantic":false,"name":"recorder"}\r\nSUB demo.numbers.* 1\r\nPING\r\n'


class Recorder:
    """Follows one server through its restarts. ``serials[publisher]``: every serial number in the order it came."""

    def __init__(self, port: int) -> None:
        self.serials: dict[str, list[int]] = defaultdict(list)
        self._port = port
        self._stopping = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name=f"recorder-{port}")
        self.recording = threading.Event()
        """Set while the server has answered our PING, so that it knows the subscription."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=1.0) as sock:
                    sock.settimeout(None)
                    self._socket = sock
                    self._record(sock)
            except OSError:
                pass
            self._socket = None
            self.recording.clear()
            self._stopping.wait(0.05)

    def _record(self, sock: socket.socket) -> None:
        parser = Parser(Role.CLIENT)
        sock.sendall(_HELLO)
        while not self._stopping.is_set() and (data := sock.recv(65536)):
            for frame in parser.receive_data(data):
                if isinstance(frame, Message):
                    self.serials[frame.subject.rpartition(".")[2]].append(int(frame.data))
                elif isinstance(frame, PingFrame):
                    sock.sendall(b"PONG\r\n")
                else:
                    self.recording.set()
