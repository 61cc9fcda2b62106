"""A leader election: of several programs one leads, and another takes over when it steps down or dies.

    python examples/jetstream/leader_election.py nats://127.0.0.1:4222

Who has the lock leads. The lock is kept alive while its holder lives, so a leader that dies is followed after ``TTL``
seconds, and one that steps down at once. What the leaders write is guarded by the fencing token of their lock: each
leader has a greater one than those before it, so a leader that does not know yet that it was followed is refused.
"""

from __future__ import annotations

import sys

import anyio

import nats_anyio
from nats_anyio.jetstream import KeyValue

TTL = 2.0
TERMS = 2


class FencedStore:
    """What the lock protects. It refuses a token that is less than one that it has seen."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._token = 0

    def append(self, line: str, token: int) -> None:
        if token < self._token:
            raise ValueError(f"token {token} is out of date: {self._token} was seen")
        self._token = token
        self.lines.append(line)


async def candidate(name: str, locks: KeyValue[bytes], store: FencedStore) -> None:
    """Stand for election; lead for a moment, each time, and step down."""
    for _ in range(TERMS):
        async with locks.lock("leader", ttl=TTL, holder=name) as lock:
            # The block is cancelled, and raises `LockLostError`, if the lock is lost: then somebody else may lead.
            store.append(f"{name} leads", lock.token)
            await anyio.sleep(0.01)
            store.append(f"{name} steps down", lock.token)


async def crash(url: str, store: FencedStore) -> None:
    """Lead, and die without a word."""
    async with nats_anyio.connect(url, name="dies") as nc:
        locks = await nc.jetstream().key_value("locks")
        lock = locks.lock("leader", ttl=TTL, holder="dies")
        await lock.acquire()
        store.append("dies leads", lock.token)


async def main(url: str) -> list[str]:
    """Three candidates, the first of which dies while it leads; what their store has."""
    store = FencedStore()
    async with nats_anyio.connect(url, name="election") as nc:
        locks = await nc.jetstream().create_key_value("locks", limit_marker_ttl=60)
        await crash(url, store)
        async with anyio.create_task_group() as group:
            for name in ("one", "two"):
                group.start_soon(candidate, name, locks, store)
    return store.lines


if __name__ == "__main__":
    for text in anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"):
        print(text)
