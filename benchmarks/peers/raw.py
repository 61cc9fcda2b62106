"""A bare blocking socket, for the limit: it writes operations made beforehand, and cuts numbers out of what it reads.

Over TLS it is the same around one `ssl.SSLObject` and two BIOs.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks import order
from benchmarks.other_side import CONNECT

from .child import GO, SPREAD, SUBJECT, Clock, Job, Result, Times, main

CHUNK = 256 * 1024
FIRST_ID = 10_000


class Link:
    """One connection, its handshake done."""

    def __init__(self, job: Job) -> None:
        self.sock = socket.create_connection(("127.0.0.1", job.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send: Callable[[bytes | memoryview], object] = self.sock.sendall
        self.receive: Callable[[], bytes] = self._receive
        if job.ca:
            self._secure(job.ca)
        self.send(CONNECT)
        self.wait_for(b"PONG\r\n")

    def _receive(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise SystemExit("the server closed the connection")
        return data

    def _secure(self, ca: str) -> None:
        line = b""
        while not line.endswith(b"\r\n"):
            line += self.sock.recv(1)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=ca)
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(outgoing.read())
                incoming.write(self._receive())

        def send(data: bytes | memoryview) -> None:
            tls.write(data)
            self.sock.sendall(outgoing.read())

        def receive() -> bytes:
            incoming.write(self._receive())
            plain: list[bytes] = []
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    plain.append(tls.read(65536))
            return b"".join(plain)

        self.send, self.receive = send, receive

    def wait_for(self, end: bytes) -> None:
        received = b""
        while end not in received:
            received = received[-16:] + self.receive()


def publish(job: Job) -> None:
    link = Link(job)
    line = b"PUB %b %d\r\n" % (SUBJECT.encode(), job.size)
    length = len(line) + job.size + 2
    turn = order.ring_size(job.size)
    data = memoryview(order.stream(0, turn, job.size, line) * max(1, -(-CHUNK // (turn * length))))
    total, at = job.count * length, 0
    clock = Clock()
    while at < total:
        begin = at % len(data)
        piece = data[begin : min(begin + CHUNK, begin + total - at)]
        link.send(piece)
        at += len(piece)
    link.send(b"PING\r\n")
    link.wait_for(b"PONG\r\n")
    job.report(**clock.stop(job.count))


def subscribe(job: Job) -> None:
    listen(job, [SUBJECT])


def spread(job: Job) -> None:
    listen(job, [SPREAD % number for number in range(job.subs)])


def listen(job: Job, subjects: Sequence[str]) -> None:
    """To subjects of one length, by subscription ids of one length, so that all messages are equally long."""
    link = Link(job)
    names = [(subject.encode(), FIRST_ID + number) for number, subject in enumerate(subjects)]
    link.send(b"".join(b"SUB %b %d\r\n" % name for name in names) + b"PING\r\n")
    link.wait_for(b"PONG\r\n")
    link.send(b"PUB %b 0\r\n\r\n" % GO.encode())
    stripes = order.Stripes(b"MSG %b %d %d\r\n" % (*names[0], job.size), job.size)
    stripes.feed(link.receive())
    untimed = stripes.nbytes // stripes.length
    total = job.count * stripes.length
    clock = Clock()
    while stripes.nbytes < total:
        stripes.feed(link.receive())
    timed = clock.stop(job.count - untimed)
    job.report(**timed, **stripes.findings(job.count))


def request(job: Job) -> None:
    link = Link(job)
    link.send(b"SUB bench.inbox.* 1\r\nPING\r\n")
    link.wait_for(b"PONG\r\n")
    times = Times()
    head = b"PUB %b bench.inbox.1 %d\r\n" % (SUBJECT.encode(), job.size)
    now = time.perf_counter
    clock = Clock()
    for payload in job.payloads():
        end = payload + b"\r\n"
        start = now()
        link.send(b"%b%b" % (head, end))
        received = b""
        while not received.endswith(end):
            received += link.receive()
            if received.startswith(b"PING\r\n"):
                received = received[6:]
        times.seconds.append(now() - start)
    job.report(**clock.stop(job.count), **times.result())


def connecting(job: Job) -> None:
    times = Times()
    clock = Clock()
    for _ in range(job.count):
        start = time.perf_counter()
        link = Link(job)
        times.seconds.append(time.perf_counter() - start)
        link.sock.close()
    job.report(**clock.stop(job.count), **times.result())


def about() -> Result:
    return {"version": f"Python {sys.version.split()[0]}"}


WORKS = {
    "publish": publish,
    "subscribe_iterator": subscribe,
    "spread": spread,
    "request": request,
    "connect": connecting,
}

if __name__ == "__main__":
    main(WORKS, about)
