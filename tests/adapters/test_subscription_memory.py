"""What ten thousand subscriptions take that wait for their first message: sizes as the allocator counts them."""

from __future__ import annotations

import gc
import tracemalloc

import anyio
import pytest

import nats_anyio
import nats_sync
from nats_sync.testing import LocalServer

COUNT = 10_000
MOST = 1000
"""Bytes for each: its subject, both halves of it, and its places in the tables. 664 and 571 on Python 3.11."""


def taken() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def in_threads(url: str) -> int:
    with nats_sync.connect(url) as client:
        subs = [client.subscribe("first")]
        client.flush(timeout=30)
        before = taken()
        subs += [client.subscribe(f"orders.{number}") for number in range(COUNT)]
        client.flush(timeout=30)
        return taken() - before


async def in_tasks(url: str) -> int:
    async with nats_anyio.connect(url) as client:
        subs = [await client.subscribe("first")]
        await client.flush(timeout=30)
        before = taken()
        subs += [await client.subscribe(f"orders.{number}") for number in range(COUNT)]
        await client.flush(timeout=30)
        return taken() - before


@pytest.mark.parametrize("leg", ["threads", "asyncio", "trio"])
def test_a_subscription_is_small(leg: str) -> None:
    with LocalServer() as server:
        tracemalloc.start()
        try:
            size = in_threads(server.url) if leg == "threads" else anyio.run(in_tasks, server.url, backend=leg)
        finally:
            tracemalloc.stop()
    assert size / COUNT <= MOST
