"""Context variables in callbacks: each subscription has a context of its own, a copy of the one it was made in."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest

from tests.adapters.legs import Collected, Leg

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


async def test_what_a_callback_sets_is_its_own(leg: Leg, url: str) -> None:
    seen: Collected[tuple[str, str]] = Collected()

    async def setting(message: Any) -> None:
        seen.add(("setting", TENANT.get()))
        TENANT.set(message.data.decode())

    async def looking(message: Any) -> None:
        seen.add(("looking", TENANT.get()))

    async with leg.connect(url) as nc:
        first = await nc.subscribe("context.set", callback=leg.handler(setting))
        second = await nc.subscribe("context.look", callback=leg.handler(looking))
        for number in range(3):
            await nc.publish("context.set", b"%d" % number)
            await seen.wait_len(2 * number + 1)
            await nc.publish("context.look")
            await seen.wait_len(2 * number + 2)
        await first.unsubscribe()
        await second.unsubscribe()
    assert [tenant for who, tenant in seen if who == "looking"] == ["nobody"] * 3
    assert [tenant for who, tenant in seen if who == "setting"] == ["nobody", "0", "1"]


async def test_a_callback_sees_what_held_where_it_was_subscribed(leg: Leg, url: str) -> None:
    seen: Collected[str] = Collected()

    async def looking(message: Any) -> None:
        seen.add(TENANT.get())

    async with leg.connect(url) as nc:
        for tenant in ("one", "two"):
            token = TENANT.set(tenant)
            await nc.subscribe(f"context.{tenant}", callback=leg.handler(looking))
            TENANT.reset(token)
        for number, tenant in enumerate(("two", "one", "two"), 1):
            await nc.publish(f"context.{tenant}")
            await seen.wait_len(number)
    assert list(seen) == ["two", "one", "two"]


async def test_a_turn_is_no_border(leg: Leg, url: str) -> None:
    """More messages than a worker handles at a stretch: what the callback counts in its context goes on."""
    counted: Collected[int] = Collected()
    count: ContextVar[int] = ContextVar("count", default=0)

    async def counting(message: Any) -> None:
        count.set(count.get() + 1)
        counted.add(count.get())

    async with leg.connect(url) as nc:
        await nc.subscribe("context.many", callback=leg.handler(counting))
        await nc.publish_many("context.many", [b""] * 200)
        await counted.wait_len(200)
    assert list(counted) == list(range(1, 201))
    assert count.get() == 0
