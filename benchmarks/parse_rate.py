"""Messages per second of the client's parser, pure and compiled, in 64 KiB chunks: ``python -m benchmarks.parse_rate``.

The chunks are a few MiB, read again and again: what comes from a socket is in the processor's cache as well.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.twins import Twin

CHUNK = 64 * 1024
ROUNDS = 5
STREAM = 2 * 2**20
BLOCK = b"NATS/1.0\r\nA: 1\r\n\r\n"
DATA = b"x" * 16

STREAMS: dict[str, Callable[[int], bytes]] = {
    "16 B, one subject": lambda n: b"MSG bench.subject 1 16\r\n%b\r\n" % DATA,
    "16 B, every subject another": lambda n: b"MSG bench.subject.%d %d 16\r\n%b\r\n" % (n, n % 5000, DATA),
    "16 B, every reply another": lambda n: b"MSG bench.subject 1 _INBOX.x0f9a8b7c.%d 16\r\n%b\r\n" % (n, DATA),
    "16 B, every subject and reply another": lambda n: (
        b"MSG bench.subject.%d %d _INBOX.x0f9a8b7c.%d 16\r\n%b\r\n" % (n, n % 5000, n, DATA)
    ),
    "16 B and headers": lambda n: b"HMSG bench.subject 1 18 34\r\n%b%b\r\n" % (BLOCK, DATA),
    "1 KiB, one subject": lambda n: b"MSG bench.subject 1 1024\r\n%b\r\n" % (b"x" * 1024),
    "PING": lambda n: b"PING\r\n",
}


def chunks_of(make: Callable[[int], bytes]) -> tuple[list[bytes], int]:
    """A stream in chunks, and how many operations are in it."""
    count = STREAM // len(make(0))
    stream = b"".join(make(number) for number in range(count))
    return [stream[at : at + CHUNK] for at in range(0, len(stream), CHUNK)], count


def rate(twin: Twin, chunks: list[bytes], count: int, least: int) -> float:
    """Operations per second, over ``least`` of them or a few more."""
    parser = twin.parser()
    rounds = -(-least // count)
    seen = 0
    begin = time.process_time()
    for _ in range(rounds):
        for chunk in chunks:
            seen += len(parser.receive_data(chunk))
    taken = time.process_time() - begin
    if seen != rounds * count or parser.error is not None:
        raise SystemExit(f"parsed {seen} of {rounds * count}: {parser.error}")
    return seen / taken


def main() -> None:
    from tests.twins import TWINS  # what it needs is there for the tests, not for other benchmarks

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=int, default=100_000)
    least = options.parse_args().messages
    twins = [twin for twin in TWINS.values() if twin is not None]
    print(f"Parser, client's role, {CHUNK // 1024} KiB chunks, {least} or more, best of {ROUNDS}, M/s of CPU time")
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    for name, make in STREAMS.items():
        chunks, count = chunks_of(make)
        best = dict.fromkeys(twins, 0.0)
        for _ in range(ROUNDS):  # in turn: what slows the machine down slows both
            for twin in twins:
                best[twin] = max(best[twin], rate(twin, chunks, count, least))
        figures = "".join(f"{twin.name} {speed / 1e6:7.2f}   " for twin, speed in best.items())
        print(f"  {name:<38} {figures}{max(best.values()) / best[twins[0]]:6.1f} x")


if __name__ == "__main__":
    main()
