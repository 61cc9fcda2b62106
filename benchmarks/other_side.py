"""The other side of a measurement, in a process of its own and on a bare socket: it costs the measured one nothing.

    python -m benchmarks.other_side feed PORT COUNT SIZE [FAULT]
    python -m benchmarks.other_side sink PORT COUNT SIZE RING
    python -m benchmarks.other_side echo PORT

``feed`` publishes COUNT numbered messages at full speed, made beforehand, once somebody publishes to `GO`. ``sink``
subscribes, and says what became of COUNT numbered messages when its standard input ends. ``echo`` answers every request
with its own payload. Each says ``ready`` first. FAULT (``lose``, ``double``, ``swap``) makes a lying peer of ``feed``,
for the tests of the counting.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from typing import Final

from .order import SUBJECT, Stripes, stream

CONNECT: Final = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\nPING\r\n'
GO: Final = "bench.go"
CHUNK: Final = 65536
PREPARED: Final = 512 * 1024 * 1024
"""Bytes a feeder makes beforehand at most; past that it makes each chunk when it sends it."""


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


def feed(port: int, count: int, size: int, fault: str = "") -> None:
    """Publish without looking back; the server's PONG says that it has taken all of it."""
    line = b"PUB %b %d\r\n" % (SUBJECT.encode(), size)
    length = len(line) + size + 2
    batch = max(1, CHUNK // length)
    with dial(port) as sock:
        sock.sendall(b"SUB %b 1\r\nPING\r\n" % GO.encode())
        wait_for(sock, b"PONG\r\n")
        say(ready=True)
        sent = count
        prepared: bytearray | None = None
        if fault:
            prepared, sent = lie(stream(0, count + 1, size, line), length, count, fault)
        elif count * length <= PREPARED:
            prepared = stream(0, count, size, line)
        wait_for(sock, b"MSG " + GO.encode())
        if prepared is not None:
            view = memoryview(prepared)
            for begin in range(0, len(view), batch * length):
                sock.sendall(view[begin : begin + batch * length])
        else:
            for first in range(0, count, batch):
                sock.sendall(stream(first, min(batch, count - first), size, line))
        sock.sendall(b"PING\r\n")
        wait_for(sock, b"PONG\r\n")
    say(sent=sent)


def lie(data: bytearray, length: int, count: int, fault: str) -> tuple[bytearray, int]:
    """Tell of ``count`` messages and send something else, of the same number."""
    at = count // 2 * length
    one, two = data[at : at + length], data[at + length : at + 2 * length]
    if fault == "lose":  # the one behind the last stands in for it
        return data[:at] + data[at + length :], count
    if fault == "double":
        return data[:at] + one + one + data[at + length : -2 * length], count
    if fault == "swap":
        return data[:at] + two + one + data[at + 2 * length : -length], count
    raise SystemExit(f"no such fault: {fault}")


def sink(port: int, count: int, size: int, modulus: int) -> None:
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
    say(**stripes.findings(count, modulus))


def echo(port: int) -> None:
    """Serve until the connection or the parent goes away."""
    with dial(port) as sock:
        sock.sendall(b"SUB %b 1\r\nPING\r\n" % SUBJECT.encode())
        buffer = b""
        while data := sock.recv(CHUNK):
            buffer += data
            answers: list[bytes] = []
            while (eol := buffer.find(b"\r\n")) >= 0:
                words = buffer[:eol].split()
                if words[0] == b"MSG":
                    size = int(words[-1])
                    if len(buffer) < eol + size + 4:
                        break
                    answers.append(b"PUB %b %d\r\n%b\r\n" % (words[3], size, buffer[eol + 2 : eol + 2 + size]))
                    buffer = buffer[eol + size + 4 :]
                else:
                    if words[0] == b"PONG":
                        say(ready=True)
                    elif words[0] == b"PING":
                        answers.append(b"PONG\r\n")
                    buffer = buffer[eol + 2 :]
            if answers:
                sock.sendall(b"".join(answers))


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "feed":
        feed(*map(int, arguments[:3]), *arguments[3:])  # type: ignore[arg-type]
    elif role == "sink":
        sink(*map(int, arguments))
    else:
        echo(*map(int, arguments))
