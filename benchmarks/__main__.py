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

import nats_proto
from nats_sync.testing import LocalServer
from tests.twins import TWINS

from . import clients, encode_rate, parse_rate, parser_linear, pool_rotation, transports

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
    print(f"  {name:<54}{middle:>9.2f} {unit:<6} ({low:.2f} … {high:.2f}) {note}", flush=True)


def both_rows(name: str, twins: Sequence[str], figures: Sequence[Sequence[float]]) -> None:
    """The pure and the compiled twin below each other, and how they compare."""
    for twin, kept in zip(twins, figures, strict=True):
        ratio = statistics.median(kept) / statistics.median(figures[0])
        row(f"{name}: {twin}", kept, 1e-6, "M/s", "" if kept is figures[0] else f"{ratio:.1f} x")


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
    mode = "with the compiled module" if nats_proto.accelerated else "in Python alone"
    print(f"\nAgainst a nats-server on loopback, every message counted, {mode}")
    with LocalServer() as server:
        bench_clients(server, repetitions, scale)
    print("\nTLS and WebSocket, beside TCP and a bare MemoryBIO loop")
    transports.table(min(repetitions, 3), scale, row)


def bench_core(repetitions: int) -> None:
    """Parser, encoder and pool."""
    twins = [twin for twin in TWINS.values() if twin is not None]
    for name, make in parse_rate.STREAMS.items():
        chunks, count = parse_rate.chunks_of(make)
        functions = [lambda t=t, c=chunks, n=count: parse_rate.rate(t, c, n, 100_000) for t in twins]
        both_rows(f"parse: {name}", [twin.name for twin in twins], in_turn(functions, repetitions))
    for name, calls in encode_rate.CALLS.items():
        functions = [lambda t=t, c=calls: encode_rate.rate(t, c, 100_000) for t in twins]
        both_rows(f"publish: {name}", [twin.name for twin in twins], in_turn(functions, repetitions))
    for size in (2**20, 10 * 2**20):
        nanoseconds = parser_linear.time_per_byte(b"MSG a 1 %d\r\n" % size, size, b"\r\n")
        print(f"  {f'payload of {size:,} B, byte by byte':<54}{nanoseconds:>9.2f} ns per byte", flush=True)
    for servers, seconds in pool_rotation.measure():
        print(f"  {f'next of {servers:,} servers':<54}{seconds * 1e6:>9.2f} us per step", flush=True)


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
