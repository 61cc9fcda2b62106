"""Publishes per second that become bytes, pure and compiled: ``python -m benchmarks.encode_rate``."""

from __future__ import annotations

import argparse
import platform
import time
from typing import Any

from nats_proto import Encoder
from tests.twins import TWINS, Twin

ROUNDS = 5
DATA = b"x" * 16
REPLIES = [f"_INBOX.x0f9a8b7c.{number}" for number in range(2000)]

CALLS: dict[str, list[tuple[Any, ...]]] = {
    "16 B, one subject": [("bench.subject", DATA)] * 2000,
    "16 B, every subject another": [(f"bench.subject.{number}", DATA) for number in range(2000)],
    "16 B, every reply another": [("bench.subject", DATA, reply) for reply in REPLIES],
    "16 B and headers": [("bench.subject", DATA, None, {"A": "1"})] * 2000,
    "1 KiB, one subject": [("bench.subject", b"x" * 1024)] * 2000,
}


def rate(twin: Twin, calls: list[tuple[Any, ...]], least: int) -> float:
    """Publishes per second, over ``least`` of them or a few more."""
    encoder = Encoder()
    encoder.server_allows(max_payload=2**20, headers=True)
    tail = twin.tail(encoder.heads)
    tail.restrict(*encoder.certain)
    tail.limit = 2**28  # more than one round makes
    quickly, strictly = tail.publish, encoder.publish
    rounds = -(-least // len(calls))
    begin = time.process_time()
    for _ in range(rounds):
        for call in calls:
            if not quickly(*call):
                strictly(*call)
        tail.take()
    return rounds * len(calls) / (time.process_time() - begin)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=int, default=100_000)
    least = options.parse_args().messages
    twins = [twin for twin in TWINS.values() if twin is not None]
    print(f"Tail.publish, else Encoder.publish, {least} calls or more, best of {ROUNDS}, M/s of CPU time")
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    for name, calls in CALLS.items():
        best = dict.fromkeys(twins, 0.0)
        for _ in range(ROUNDS):  # in turn: what slows the machine down slows both
            for twin in twins:
                best[twin] = max(best[twin], rate(twin, calls, least))
        figures = "".join(f"{twin.name} {speed / 1e6:7.2f}   " for twin, speed in best.items())
        print(f"  {name:<38} {figures}{max(best.values()) / best[twins[0]]:6.1f} x")


if __name__ == "__main__":
    main()
