"""`make bench`: every figure measured here and now, medians over repetitions taken in turn.

    python -m benchmarks [--repetitions 5] [--scale 1.0]

``--scale`` multiplies the number of messages.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Sequence

from nats_proto import Parser, Role
from nats_sync.testing import LocalServer, find_server

from . import clients, parse_rate, parser_linear, pool_rotation

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
    print(f"\nAgainst {find_server().name} on loopback, every message counted")
    with LocalServer() as server:
        bench_clients(server, repetitions, scale)


def bench_core(repetitions: int) -> None:
    """Parser and pool."""
    assert not Parser(Role.CLIENT).receive_data(b"")
    row("parse MSG of 16 B in 64 KiB chunks", in_turn([parse_rate.measure], repetitions)[0], 1e-6, "M/s")
    for name, seconds in parser_linear.measure():
        print(f"  {name:<44}{seconds * 1e9:>9.2f} ns per byte")
    for servers, seconds in pool_rotation.measure():
        print(f"  {f'next of {servers:,} servers':<44}{seconds * 1e6:>9.2f} us per step")


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
    requests = int(3000 * scale)
    with clients.echo_peer(port):
        functions = (clients.request_raw, clients.request_sync, clients.request_anyio)
        figures = in_turn([lambda f=f: f(url, port, requests, 16) for f in functions], repetitions)
    raw = statistics.median(figures[0])
    for leg, kept in zip(("raw socket", "threads", "asyncio"), figures, strict=True):
        ratio = statistics.median(kept) / raw
        row(f"request, 16 B, p50: {leg}", kept, 1e6, "us", f"{ratio:.2f} x raw")


if __name__ == "__main__":
    main()
