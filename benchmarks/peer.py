"""The other side of a measurement, in a process of its own and on a bare socket: it costs the measured one nothing.

python -m benchmarks.peer feed PORT SUBJECT COUNT SIZE     publish COUNT messages of SIZE bytes at full speed
python -m benchmarks.peer stream PORT SUBJECT COUNT SIZE   publish COUNT messages of SIZE bytes every 10 ms, for ever
python -m benchmarks.peer echo PORT SUBJECT                answer every request with its own payload
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Final

CONNECT: Final = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\nPING\r\n'


def dial(port: int) -> socket.socket:
    """A connected socket, handshake done."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(CONNECT)
    received = b""
    while b"PONG\r\n" not in received:
        received += sock.recv(65536)
    return sock


def feed(port: int, subject: str, count: int, size: int) -> None:
    """Publish without looking back; the server's PONG says that it has taken all of it."""
    with dial(port) as sock:
        operation = b"PUB %b %d\r\n%b\r\n" % (subject.encode(), size, b"x" * size)
        batch = max(1, 65536 // len(operation))
        for begin in range(0, count, batch):
            sock.sendall(operation * min(batch, count - begin))
        sock.sendall(b"PING\r\n")
        received = b""
        while b"PONG\r\n" not in received:
            received = received[-8:] + sock.recv(65536)


def stream(port: int, subject: str, count: int, size: int) -> None:
    """Publish at a steady pace until the parent goes away."""
    with dial(port) as sock:
        operations = (b"PUB %b %d\r\n%b\r\n" % (subject.encode(), size, b"x" * size)) * count
        when = time.monotonic()
        while True:
            sock.sendall(operations)
            when += 0.01
            time.sleep(max(0.0, when - time.monotonic()))


def echo(port: int, subject: str) -> None:
    """Serve until the connection or the parent goes away."""
    with dial(port) as sock:
        sock.sendall(b"SUB %b 1\r\nPING\r\n" % subject.encode())
        buffer = b""
        while data := sock.recv(65536):
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
                        print("ready", flush=True)
                    elif words[0] == b"PING":
                        answers.append(b"PONG\r\n")
                    buffer = buffer[eol + 2 :]
            if answers:
                sock.sendall(b"".join(answers))


if __name__ == "__main__":
    if sys.argv[1] in ("feed", "stream"):
        run = feed if sys.argv[1] == "feed" else stream
        run(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        echo(int(sys.argv[2]), sys.argv[3])
