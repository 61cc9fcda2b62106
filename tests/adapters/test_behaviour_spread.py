"""Traffic that alternates between many subscriptions, as it arrives in one chunk."""

from __future__ import annotations

import anyio
import pytest

from nats_proto import SlowConsumer
from tests.adapters.legs import PATIENCE, Collected, EventLog, Flag, Leg

pytestmark = pytest.mark.anyio

MANY = 120
ROUNDS = 15
DATA = [b"%d" % number for number in range(ROUNDS)]


async def publish_in_turn(client: object, many: int = MANY) -> None:
    """One message for each subject, and that again and again."""
    for data in DATA:
        for number in range(many):
            await client.publish(f"spread.{number}", data)
    await client.flush()


async def test_each_subscription_gets_its_own_in_order(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as publisher:
        called: dict[int, Collected[bytes]] = {}
        iterated = {}
        for number in range(MANY):
            subject = f"spread.{number}"
            if number % 2:
                iterated[number] = await client.subscribe(subject)
                continue
            got = called[number] = Collected()

            async def handle(message: object, got: Collected[bytes] = got) -> None:
                got.add(message.data)

            await client.subscribe(subject, callback=leg.handler(handle))
        await client.flush()
        await publish_in_turn(publisher)
        for got in called.values():
            assert await got.wait_len(ROUNDS) == DATA
        for sub in iterated.values():
            assert [(await sub.next(PATIENCE)).data for _ in DATA] == DATA
            assert (sub.pending, sub.delivered, sub.dropped) == ((0, 0), ROUNDS, 0)
        stats = client.stats
        assert (stats.in_msgs, stats.dropped_msgs, stats.dropped_unknown_sid) == (MANY * ROUNDS, 0, 0)


async def test_a_subscription_at_its_limit_costs_the_others_nothing(leg: Leg, url: str) -> None:
    log = EventLog()
    async with leg.connect(url, on_event=log.add) as client, leg.connect(url) as publisher:
        subs = [
            await client.subscribe(f"spread.{number}", **({"max_pending_msgs": 4} if number == 7 else {}))
            for number in range(20)
        ]
        ending = await client.subscribe("spread.8", max_msgs=3)
        await client.flush()
        await publish_in_turn(publisher, 20)
        await client.flush()
        slow = await log.wait_for(lambda event: isinstance(event, SlowConsumer))
        assert (slow.subject, slow.pending_msgs, slow.dropped) == ("spread.7", 4, 1)
        assert [message.data async for message in ending] == DATA[:3]
        for sub in subs:
            kept = DATA[:4] if sub is subs[7] else DATA
            assert [(await sub.next(PATIENCE)).data for _ in kept] == kept
            assert (sub.pending[0], sub.dropped) == (0, ROUNDS - len(kept))


async def test_a_callback_that_blocks_holds_up_none_of_many(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as publisher:
        release, blocked = Flag(), Flag()
        called: Collected[tuple[int, bytes]] = Collected()

        async def block(message: object) -> None:
            blocked.set()
            await release.wait()
            called.add((0, message.data))

        await client.subscribe("spread.0", callback=leg.handler(block))
        for number in range(1, MANY):

            async def handle(message: object, number: int = number) -> None:
                called.add((number, message.data))

            await client.subscribe(f"spread.{number}", callback=leg.handler(handle))
        await client.flush()
        await publish_in_turn(publisher)
        await blocked.wait()
        others = await called.wait_len((MANY - 1) * ROUNDS)
        for number in range(1, MANY):
            assert [data for of, data in others if of == number] == DATA
        release.set()
        await called.wait_len(MANY * ROUNDS)
        assert [data for of, data in called if of == 0] == DATA


async def test_those_that_were_never_used_are_told_of_the_end(leg: Leg, url: str) -> None:
    """However few tasks or threads serve them: a drain waits for what is queued, and for nothing else."""
    async with leg.connect(url) as client:
        called: Collected[bytes] = Collected()

        async def handle(message: object) -> None:
            called.add(message.data)

        subs = [await client.subscribe(f"spread.{number}", callback=leg.handler(handle)) for number in range(MANY)]
        await publish_in_turn(client, 3)
        with anyio.fail_after(PATIENCE):
            await client.drain()
        assert len(called) == 3 * ROUNDS
        assert [sub.delivered for sub in subs] == [ROUNDS] * 3 + [0] * (MANY - 3)
