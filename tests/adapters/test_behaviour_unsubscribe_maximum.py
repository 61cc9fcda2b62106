"""A maximum set while messages wait, for readers and for callbacks."""

from __future__ import annotations

import anyio
import pytest

from nats_proto.errors import SubscriptionClosedError
from tests.adapters.legs import PATIENCE, Collected, Flag, Leg, eventually

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("read", [0, 1, 2, 3])
async def test_a_reader_gets_no_more_than_the_maximum_in_all(leg: Leg, url: str, read: int) -> None:
    async with leg.connect(url) as client:
        sub = await client.subscribe("limited")
        for n in range(5):
            await client.publish("limited", b"%d" % n)
        await client.flush()
        await eventually(lambda: sub.pending[0] == 5)
        got = [(await sub.next(timeout=PATIENCE)).data for _ in range(read)]
        await sub.unsubscribe(2)
        with anyio.fail_after(PATIENCE):
            got += [message.data async for message in sub]
        assert got == [b"%d" % n for n in range(max(read, 2))]
        assert (sub.delivered, sub.dropped, sub.pending) == (len(got), 5 - len(got), (0, 0))
        with pytest.raises(SubscriptionClosedError):
            await sub.next(timeout=PATIENCE)


async def test_a_callback_gets_no_more_than_the_maximum_in_all(leg: Leg, url: str) -> None:
    got: Collected[bytes] = Collected()
    go_on = Flag()

    async def handle(message: object) -> None:
        got.add(message.data)
        await go_on.wait()

    async with leg.connect(url) as client:
        sub = await client.subscribe("limited.callback", callback=leg.handler(handle))
        for n in range(5):
            await client.publish("limited.callback", b"%d" % n)
        await client.flush()
        await got.wait_len(1)
        await eventually(lambda: sub.pending[0] == 4)
        await sub.unsubscribe(2)
        assert (sub.delivered, sub.dropped, sub.pending[0]) == (1, 3, 1)
        go_on.set()
        await sub.drain(timeout=PATIENCE)  # it has ended: this waits for the callback
        assert list(got) == [b"0", b"1"]
        assert (sub.delivered, sub.dropped, sub.pending) == (2, 3, (0, 0))


async def test_what_is_unread_at_the_end_counts_as_dropped(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        sub = await client.subscribe("left")
        for _ in range(5):
            await client.publish("left")
        await client.flush()
        await eventually(lambda: sub.pending[0] == 5)
        await sub.next(timeout=PATIENCE)
        await sub.unsubscribe()
        assert (sub.delivered, sub.dropped, sub.pending) == (1, 4, (0, 0))
