"""Rows 9 to 14: one batch, what it costs, why it ends, and that nothing of it is left behind."""

from __future__ import annotations

import random
import time
from typing import Any

import anyio
import pytest

from nats_proto import Reconnected
from nats_proto.jetstream import PullLimitError
from tests.adapters.legs import PATIENCE, QUICK, EventLog, Leg, in_thread
from tests.jetstream.cluster import STRICT
from tests.jetstream.legs import jetstream
from tests.jetstream.seen import listening, settled
from tests.jetstream.steady import steadily
from tests.transports import Transport

pytestmark = pytest.mark.anyio


async def _consumer(client: Any, **fields: Any) -> tuple[Any, Any]:
    js = jetstream(client)
    stream = await js.create_stream("S", subjects=["s"], storage="memory")
    return js, await stream.create_consumer("c", **fields)


async def test_row_9_nothing_is_an_empty_batch_every_time(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js, consumer = await _consumer(client)

        async def nothing() -> None:
            for no_wait, reason in ((False, "expired"), (True, "no_messages")):
                while True:
                    began = time.monotonic()
                    batch = consumer.fetch(10, timeout=0.15, no_wait=no_wait)
                    assert [message async for message in batch] == []
                    # The server ends it a moment before the caller would.
                    assert no_wait or time.monotonic() - began > 0.07
                    if batch.reason == reason:
                        break
                    assert batch.reason == "no_answer"  # for a machine that stands still a moment is long
            assert await consumer.next(timeout=0.1) is None

        with anyio.fail_after(PATIENCE):
            await nothing()
            await nothing()
        await js.publish("s", b"1")
        batch = consumer.fetch(1, timeout=PATIENCE)
        assert [message.data async for message in batch] == [b"1"]
        assert batch.reason == "limit"
        with anyio.fail_after(PATIENCE):
            await nothing()


async def test_row_10_a_fetch_that_is_left_takes_nothing_with_it(leg: Leg, url: str) -> None:
    """Left at random points, and a message that is on its way then comes to the next reader at once."""
    moments = random.Random(10)
    async with leg.connect(url) as publishing, leg.connect(url) as client:
        _, consumer = await _consumer(client, ack_wait=60)
        got: set[bytes] = set()

        async def publish() -> None:
            for number in range(60):
                await publishing.publish("s", b"%d" % number)
                await anyio.sleep(0.002)

        async def take(most: int) -> None:
            async with consumer.fetch(10, timeout=PATIENCE) as batch:
                for _ in range(most):
                    message = await anext(batch, None)
                    if message is None:
                        return
                    with anyio.CancelScope(shield=True):
                        await message.ack()
                    got.add(message.data)

        async with anyio.create_task_group() as group:
            group.start_soon(publish)
            for _ in range(60):
                if leg.name == "threads":
                    await take(moments.randrange(1, 4))
                    if len(got) == 60:
                        break
                else:
                    with anyio.move_on_after(moments.random() * 0.01):
                        await take(100)
        while len(got) < 60:  # what was handed back comes at once, though ``ack_wait`` is a minute
            message = await consumer.next(PATIENCE)
            assert message is not None
            await message.ack()
            got.add(message.data)
        info = await settled(consumer)
        assert (info.num_waiting, info.num_ack_pending, info.num_pending, info.num_redelivered) == (0, 0, 0, 0)
        async with anyio.create_task_group() as group:
            group.start_soon(publishing.publish, "s", b"last")
            message = await consumer.next(PATIENCE)
        assert message is not None
        assert message.data == b"last"
        assert message.metadata.num_delivered == 1


async def test_row_11_what_is_there_comes_at_once_and_a_moment_later_it_is_over(
    leg: Leg, url: str, transport: Transport
) -> None:
    async with leg.connect(url) as client:
        js, consumer = await _consumer(client)
        with listening(url, **transport.options) as seen, steadily(url, **transport.options) as steady:
            for number in range(3):
                await js.publish("s", b"%d" % number)
            batch = consumer.fetch(100, timeout=60, linger=0.1)
            came = [message.data async for message in batch]
            assert came == [b"0", b"1", b"2"] or (steady.stood_still > 0.04 and came == [b"0", b"1", b"2"][: len(came)])
            assert batch.reason == "linger"
            (pull,) = await seen.pulls(client)
            assert pull["batch"] == 100


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_row_12_the_limit_of_acknowledgements_is_named(leg: Leg, url: str, known: bool) -> None:
    """A server leaves such a request without an answer."""
    async with leg.connect(url) as client:
        js, consumer = await _consumer(client, max_ack_pending=1)
        if not known:
            consumer = js.consumer("S", "c")
        for _ in range(2):
            await js.publish("s")
        held = await consumer.next(PATIENCE)
        with anyio.fail_after(2 * PATIENCE):
            while True:
                batch = consumer.fetch(10, timeout=5, no_wait=True)
                assert [message async for message in batch] == []
                if batch.reason == "ack_limit":
                    break
                assert batch.reason == "no_answer"  # where the machine stands still, nobody says why in time
        assert (await settled(consumer, unacknowledged=1)).num_waiting == 0
        await held.ack_sync(PATIENCE)
        batch = consumer.fetch(1, timeout=PATIENCE)
        assert len([message async for message in batch]) == 1


async def test_row_13_a_limit_of_the_consumer_is_an_error_that_names_it(
    leg: Leg, url: str, transport: Transport
) -> None:
    async with leg.connect(url) as client:
        _, consumer = await _consumer(client, max_batch=10)
        for number in range(50):
            await client.publish("s", b"%d" % number)
        with pytest.raises(PullLimitError, match=r"asked for 50 messages at once, the consumer allows 10 \(") as error:
            [message async for message in consumer.fetch(50, timeout=PATIENCE)]
        assert error.value.limit == 10
        with listening(url, **transport.options) as seen:
            async with consumer.messages(max_messages=500, limit=50) as messages:
                assert [message.data async for message in messages] == [b"%d" % number for number in range(50)]
            first, *rest = [pull["batch"] for pull in await seen.pulls(client)]
            assert first == 50  # of no more than that its reader wants
            assert rest
            assert max(rest) <= 10
        assert [warning.kind for warning in messages.warnings] == ["limit_lowered"]


async def test_row_14_a_fetch_goes_on_behind_a_restart(leg: Leg, transport: Transport) -> None:
    with transport.server(jetstream=STRICT) as server:
        events = EventLog()
        async with leg.connect(server.url, on_event=events, **QUICK) as client:
            js = jetstream(client)
            stream = await js.create_stream("S", subjects=["s"])
            consumer = await stream.create_consumer("c", durable_name="c")
            for number in range(3):
                await js.publish("s", b"%d" % number)
            got, repeated = [], 0
            async with consumer.fetch(10, timeout=60) as batch:
                async for message in batch:
                    await message.ack_sync(PATIENCE)
                    # A server that is killed may have forgotten acknowledgements that it has confirmed.
                    if message.data in got:
                        repeated += 1
                        continue
                    got.append(message.data)
                    if len(got) == 3:
                        await in_thread(server.restart)
                        await events.wait(Reconnected)
                        for number in range(3, 10):
                            await js.publish("s", b"%d" % number)
            assert batch.reason == "limit"
            assert repeated <= 3
            assert got == [b"%d" % number for number in range(10 - repeated)]
