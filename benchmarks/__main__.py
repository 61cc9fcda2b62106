"""`make bench`: every figure measured here and now, medians over repetitions taken in turn.

    python -m benchmarks [--repetitions 5] [--scale 1.0]

``--scale`` multiplies the number of messages.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
from collections.abc import Callable, Sequence

from nats_sync.testing import LocalServer

from . import clients, parse_rate, parser_linear, pool_rotation, transports

Repetition = Callable[[], float]


def in_turn(functions: Sequence[Repetition], repetitions: int) -> list[list[float]]:
    """A B C A B C …: the figures of each."""
    figures: list[list[float]] = [[] for _ in functions]
    for _ in range(repetitions):
        for function, kept in zip(functions, figures, strict=True):
            kept.append(function())
    return figures


def row(name: str, figures: Sequence[float], scale: float, unit: str, note: str = "") -> None:
    """Median, least and most."""
    low, middle, high = min(figures) * scale, statistics.median(figures) * scale, max(figures) * scale
    print(f"  {name:<44}{middle:>9.2f} {unit:<6} ({low:.2f} … {high:.2f}) {note}", flush=True)


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repetitions", type=int, default=5)
    arguments.add_argument("--scale", type=float, default=1.0)
    chosen = arguments.parse_args()
    repetitions, scale = int(chosen.repetitions), float(chosen.scale)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"{python}, {os.cpu_count()} cores, {repetitions} repetitions: median (least … most)")
    print("\nIn memory, the core alone")
    bench_core(repetitions)
    print("\nAgainst a nats-server on loopback, every message counted")
    with LocalServer() as server:
        bench_clients(server, repetitions, scale)
    print("\nTLS and WebSocket, beside TCP and a bare MemoryBIO loop")
    transports.table(min(repetitions, 3), scale, row)


def bench_core(repetitions: int) -> None:
    """Parser and pool."""
    count = 100_000
    for name, make in parse_rate.STREAMS.items():
        stream = b"".join(make(number) for number in range(count))
        figures = in_turn([lambda stream=stream: parse_rate.rate(stream, count)], repetitions)[0]
        row(f"parse in 64 KiB chunks: {name}", figures, 1e-6, "M/s")
    for size in (2**20, 10 * 2**20):
        nanoseconds = parser_linear.time_per_byte(b"MSG a 1 %d\r\n" % size, size, b"\r\n")
        print(f"  {f'payload of {size:,} B, byte by byte':<44}{nanoseconds:>9.2f} ns per byte", flush=True)
    for servers, seconds in pool_rotation.measure():
        print(f"  {f'next of {servers:,} servers':<44}{seconds * 1e6:>9.2f} us per step", flush=True)


def bench_clients(server: LocalServer, repetitions: int, scale: float) -> None:
    """Both clients, and the raw socket as the limit of a request."""
    url, port = server.url, server.port
    count = int(400_000 * scale)
    for what, functions in (
        ("subscribe by iterator, 16 B", (clients.subscribe_sync, clients.subscribe_anyio)),
        ("publish, 16 B", (clients.publish_sync, clients.publish_anyio)),
    ):
        figures = in_turn([lambda f=f: f(url, port, count, 16) for f in functions], repetitions)
        for leg, kept in zip(("threads", "asyncio"), figures, strict=True):
            row(f"{what}: {leg}", kept, 1e-6, "M/s")
    requests = {"raw socket": clients.request_raw, "threads": clients.request_sync, "asyncio": clients.request_asyncio}
    if importlib.util.find_spec("uvloop") is not None:
        requests["uvloop"] = clients.request_uvloop
    requests["trio"] = clients.request_trio
    busy = {"threads": clients.request_busy_sync, "asyncio": clients.request_busy_asyncio}
    count = int(3000 * scale)
    with clients.echo_peer(port):
        figures = in_turn(
            [lambda f=f: f(url, port, count, 16) for f in (*requests.values(), *busy.values())], repetitions
        )
    raw = statistics.median(figures[0])
    busy_name = f"request, 16 B, p50, beside {clients.STREAM_MSGS / 10:.0f} k msgs/s"
    names = [f"request, 16 B, p50: {leg}" for leg in requests] + [f"{busy_name}: {leg}" for leg in busy]
    for name, kept in zip(names, figures, strict=True):
        row(name, kept, 1e6, "us", f"{statistics.median(kept) / raw:.2f} x raw")


if __name__ == "__main__":
    main()
