"""Messages per second of the client's parser, fed 64 KiB chunks: ``python benchmarks/parse_rate.py``."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

from nats_proto import Parser, Role

CHUNK = 64 * 1024
ROUNDS = 5
BLOCK = b"NATS/1.0\r\nA: 1\r\n\r\n"
DATA = b"x" * 16

STREAMS: dict[str, Callable[[int], bytes]] = {
    "16 B, one subject": lambda n: b"MSG bench.subject 1 16\r\n%b\r\n" % DATA,
    "16 B, every subject another": lambda n: b"MSG bench.subject.%d %d 16\r\n%b\r\n" % (n, n % 5000, DATA),
    "16 B, every reply another": lambda n: b"MSG bench.subject 1 _INBOX.x0f9a8b7c.%d 16\r\n%b\r\n" % (n, DATA),
    "16 B and headers": lambda n: b"HMSG bench.subject 1 18 34\r\n%b%b\r\n" % (BLOCK, DATA),
    "1 KiB, one subject": lambda n: b"MSG bench.subject 1 1024\r\n%b\r\n" % (b"x" * 1024),
    "PING": lambda n: b"PING\r\n",
}


def rate(stream: bytes, count: int) -> float:
    """The best of several rounds, in messages per second."""
    chunks = [stream[at : at + CHUNK] for at in range(0, len(stream), CHUNK)]
    best = float("inf")
    for _ in range(ROUNDS):
        parser = Parser(Role.CLIENT)
        seen = 0
        begin = time.perf_counter()
        for chunk in chunks:
            seen += len(parser.receive_data(chunk))
        best = min(best, time.perf_counter() - begin)
        if seen != count or parser.error is not None:
            raise SystemExit(f"parsed {seen} of {count}: {parser.error}")
    return count / best


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=int, default=200_000)
    count = options.parse_args().messages
    print(f"Parser, client's role, {CHUNK // 1024} KiB chunks, {count} messages, best of {ROUNDS}")
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    for name, make in STREAMS.items():
        stream = b"".join(make(number) for number in range(count))
        speed = rate(stream, count)
        print(f"  {name:<28} {speed / 1e6:6.2f} M/s {len(stream) / count * speed / 2**20:8.0f} MiB/s")


if __name__ == "__main__":
    main()
