"""The other side of a measurement, in a process of its own and on a bare socket: it costs the measured one nothing.

    python -m benchmarks.other_side feed PORT COUNT SIZE SUBJECTS [FAULT]
    python -m benchmarks.other_side sink PORT COUNT SIZE RING WORKERS
    python -m benchmarks.other_side echo PORT

``feed`` publishes COUNT numbered messages at full speed, made beforehand, once somebody publishes to `GO`: to so many
subjects in turn (0: to the one that every client has). ``sink`` subscribes, and says what became of COUNT numbered
messages of so many workers when its standard input ends. ``echo`` answers every request with its own payload. Each says
``ready`` first. FAULT (``lose``, ``double``, ``swap``) makes a lying peer of ``feed``,
for the tests of the counting.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
from typing import Final

from .order import HEAD, SPREAD, SUBJECT, Stripes, stream

CONNECT: Final = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\nPING\r\n'
GO: Final = "bench.go"
CHUNK: Final = 65536
PREPARED: Final = 512 * 1024 * 1024
"""Bytes a feeder makes beforehand at most; past that it makes each chunk when it sends it."""
HUGE: Final = 1024 * 1024
"""Bytes of a payload from which on a feeder has one message, and changes its number."""


def dial(port: int) -> socket.socket:
    """A connected socket, handshake done."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(CONNECT)
    wait_for(sock, b"PONG\r\n")
    return sock


def wait_for(sock: socket.socket, text: bytes) -> None:
    """Read and forget everything up to ``text``."""
    received = b""
    while text not in received:
        data = sock.recv(CHUNK)
        if not data:
            raise SystemExit("the server closed the connection")
        received = received[-len(text) :] + data


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def feed(port: int, count: int, size: int, subjects: int = 0, fault: str = "") -> None:
    """Publish without looking back; the server's PONG says that it has taken all of it."""
    names = [SPREAD % number for number in range(subjects)] or [SUBJECT]
    lines = [b"PUB %b %d\r\n" % (name.encode(), size) for name in names]
    length = len(lines[0]) + size + 2
    batch = max(1, CHUNK // length)
    with dial(port) as sock:
        sock.sendall(b"SUB %b 1\r\nPING\r\n" % GO.encode())
        wait_for(sock, b"PONG\r\n")
        say(ready=True)
        sent = count
        prepared: bytearray | None = None
        if fault:
            prepared, sent = lie(stream(0, count + 1, size, *lines), length, count, fault, len(lines))
        elif count * length <= PREPARED and size < HUGE:
            prepared = stream(0, count, size, *lines)
        wait_for(sock, b"MSG " + GO.encode())
        if prepared is not None:
            view = memoryview(prepared)
            for begin in range(0, len(view), batch * length):
                sock.sendall(view[begin : begin + batch * length])
        elif size >= HUGE:
            # A message of its own each time would take longer to make than to send.
            data, at = stream(0, 1, size, *lines), len(lines[0])
            for number in range(count):
                data[at : at + HEAD] = number.to_bytes(HEAD, "big")
                sock.sendall(data)
        else:
            for first in range(0, count, batch):
                sock.sendall(stream(first, min(batch, count - first), size, *lines))
        sock.sendall(b"PING\r\n")
        wait_for(sock, b"PONG\r\n")
    say(sent=sent)


def lie(data: bytearray, length: int, count: int, fault: str, subjects: int = 1) -> tuple[bytearray, int]:
    """Tell of ``count`` messages and send something else, of the same number."""
    at = count // 2 * length
    next_at = at + subjects * length  # the next one of the same subject
    one, two = data[at : at + length], data[next_at : next_at + length]
    if fault == "lose":  # the one behind the last stands in for it
        return data[:at] + data[at + length :], count
    if fault == "double":
        return data[:at] + one + one + data[at + length : -2 * length], count
    if fault == "swap":
        data[at : at + length], data[next_at : next_at + length] = two, one
        return data[:-length], count
    raise SystemExit(f"no such fault: {fault}")


def sink(port: int, count: int, size: int, modulus: int, workers: int = 1) -> None:
    """Take everything published to the subject, however much it is."""
    stripes = Stripes(b"MSG %b 1 %d\r\n" % (SUBJECT.encode(), size), size)
    with dial(port) as sock:
        sock.sendall(b"SUB %b 1\r\nPING\r\n" % SUBJECT.encode())
        wait_for(sock, b"PONG\r\n")
        say(ready=True)
        asked = b""
        end = b""
        while not end.endswith(b"PONG\r\n"):
            readable, _, _ = select.select([sock] if asked else [sock, sys.stdin], [], [])
            if sys.stdin in readable:
                asked = b"PING\r\n"
                sock.sendall(asked)
            if sock in readable:
                data = sock.recv(CHUNK)
                if not data:
                    break
                if data == b"PING\r\n":
                    sock.sendall(b"PONG\r\n")
                    continue
                end = (end + data)[-6:]
                stripes.feed(data)
    say(**stripes.findings(count, modulus, workers))


def echo(port: int) -> None:
    """Serve until the connection or the parent goes away.

    A request becomes its reply by another beginning: ``MSG bench.subject 1 REPLY 16`` is answered by ``PUB REPLY 16``,
    whatever follows. So a chunk is answered at once, however many requests are in it.
    """
    with dial(port) as sock:
        sock.sendall(b"SUB %b 1\r\nPING\r\n" % SUBJECT.encode())
        wait_for(sock, b"PONG\r\n")
        say(ready=True)
        begin = b"MSG %b 1 " % SUBJECT.encode()
        held = b""
        while data := sock.recv(CHUNK):
            data = held + data
            whole = complete(data)
            data, held = data[:whole], data[whole:]
            if b"INFO {" in data:
                data = re.sub(rb"INFO \{.*\r\n", b"", data)
            # Neither a number of eight bytes nor its filling can look like one of these.
            pings = data.count(b"PING\r\n")
            if pings:
                data = data.replace(b"PING\r\n", b"")
            answer = data.replace(begin, b"PUB ") + b"PONG\r\n" * pings
            if answer:
                sock.sendall(answer)


def complete(data: bytes) -> int:
    """Bytes of ``data`` up to the end of its last whole operation."""
    last = data.rfind(b"MSG ")
    if last < 0:
        return data.rfind(b"\r\n") + 2 if b"\r\n" in data else 0
    eol = data.find(b"\r\n", last)
    if eol < 0:
        return last
    end = eol + 2 + int(data[data.rfind(b" ", last, eol) : eol]) + 2
    if end > len(data):
        return last
    behind = data.rfind(b"\r\n", end)
    return end if behind < 0 else behind + 2


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "feed":
        feed(*map(int, arguments[:4]), *arguments[4:])  # type: ignore[arg-type]
    elif role == "sink":
        sink(*map(int, arguments))
    else:
        echo(*map(int, arguments))
