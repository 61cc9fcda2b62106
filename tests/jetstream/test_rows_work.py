"""Rows 18, 19 and 40 for readers that run beside the program, and for `messages`."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from nats_proto.jetstream import Retry
from tests.adapters.legs import PATIENCE, Collected, Leg, eventually
from tests.jetstream.legs import jetstream
from tests.jetstream.seen import listening
from tests.jetstream.steady import steadily
from tests.transports import Transport

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]

BEAT = 0.5
"""Seconds between two signs of life; the least that is allowed."""


async def _filled(client: Any, count: int, **fields: Any) -> tuple[Any, Any]:
    stream = await jetstream(client).create_stream("S", subjects=["s"], storage="memory")
    consumer = await stream.create_consumer("c", **fields)
    await client.publish_many("s", [b"%d" % number for number in range(count)])
    await client.flush()
    return stream, consumer


async def _settled(consumer: Any) -> Any:
    with anyio.fail_after(PATIENCE):
        while (info := await consumer.refresh()).num_ack_pending or info.num_pending:
            await anyio.sleep(0.01)
    return info


@pytest.mark.parametrize("blocks", [False, True], ids=["waits", "blocks"])
@pytest.mark.parametrize("way", ["consume", "work"])
async def test_row_19_a_slow_handler_is_no_silence(
    leg: Leg, url: str, way: str, blocks: bool, transport: Transport
) -> None:
    async with leg.connect(url) as client:
        _, consumer = await _filled(client, 3)
        done: Collected[int] = Collected()

        async def handle(message: Any) -> None:
            if message.data == b"0":
                if blocks or leg.name == "threads":
                    time.sleep(3 * BEAT)  # on tasks nothing else runs meanwhile
                else:
                    await anyio.sleep(3 * BEAT)
            if way == "consume":
                await message.ack()
            done.add(int(message.data))

        with listening(url, **transport.options) as seen, steadily(url, **transport.options) as steady:
            async with getattr(consumer, way)(handle, heartbeat=BEAT) as reader:
                await done.wait_len(3)
                assert reader.warnings == [] or steady.stood_still > BEAT / 2
            assert len(await seen.pulls(client)) <= 3 or steady.stood_still > BEAT / 2
        assert list(done) == [0, 1, 2]
        assert (await _settled(consumer)).num_redelivered == 0


@pytest.mark.parametrize("way", ["consume", "work", "messages"])
async def test_row_40_delayed_messages_that_stop_a_consumer_are_told(
    leg: Leg, url: str, way: str, transport: Transport
) -> None:
    """As many messages as the consumer allows are to come again later: nothing else comes meanwhile. The reader says
    so, does not ask more often for it, and goes on by itself."""
    async with leg.connect(url) as client:
        _, consumer = await _filled(client, 4, max_ack_pending=3)
        done: Collected[int] = Collected()
        told: Collected[str] = Collected()

        async def handle(message: Any) -> None:
            if message.metadata.num_delivered == 1 and message.data != b"3":
                if way == "work":
                    raise Retry(2.5)
                await message.nak(delay=2.5)
                return
            if way != "work":
                await message.ack()
            done.add(int(message.data))

        def warned(warning: Any) -> None:
            told.add(f"{warning.kind}: {warning.text}")

        with listening(url, **transport.options) as seen, steadily(url, **transport.options) as steady:
            options = {"heartbeat": BEAT, "on_warning": warned}
            if way == "messages":
                async with consumer.messages(**options) as messages:
                    while len(done) < 4:
                        await handle(await anext(messages))
            else:
                async with getattr(consumer, way)(handle, **options):
                    await done.wait_len(4)
            pulls = len(await seen.pulls(client))
        assert sorted(done) == [0, 1, 2, 3]
        await _settled(consumer)
        if steady.stood_still > BEAT / 2:
            return  # other things may have been told, or all messages have come again before anything was
        assert pulls <= 10
        assert len(told) == 1
        assert told[0].startswith("ack_limit: ")
        assert "3 of 3 messages wait for their acknowledgement" in told[0]


async def test_row_18_what_was_delivered_again_to_its_reader_is_given_once(
    leg: Leg, url: str, transport: Transport
) -> None:
    """Nobody has looked for longer than ``ack_wait``, and the reader has asked for more than there was."""
    async with leg.connect(url) as client, leg.connect(url) as other:
        _, consumer = await _filled(client, 1, ack_wait=1)
        given: list[bytes] = []

        async def read(messages: Any) -> bool:
            message = await messages.next(timeout=0.2)
            if message is None:
                return False
            given.append(message.data)
            await message.ack()
            return True

        with steadily(url, **transport.options) as steady:
            async with consumer.messages() as messages:
                with anyio.fail_after(PATIENCE):
                    while not await read(messages):
                        pass
                    await jetstream(other).publish("s", b"1")
                    await jetstream(other).publish("s", b"2")
                    while (await consumer.refresh()).num_redelivered < 2:
                        await anyio.sleep(0.01)
                    while await read(messages) or len(given) < 3:
                        pass
                assert messages.outlived >= 2 or steady.stood_still > 0.2
        assert given == [b"0", b"1", b"2"] or steady.stood_still > 0.2


@pytest.mark.parametrize("way", ["consume", "messages"])
async def test_row_18_no_message_is_handled_twice_since_it_lay_unread(
    leg: Leg, url: str, way: str, transport: Transport
) -> None:
    """All that was asked for ahead is older than ``ack_wait`` before its turn comes, with the options that nobody has
    thought about."""
    async with leg.connect(url) as client, leg.connect(url) as other:
        _, consumer = await _filled(client, 8, ack_wait=1)
        handled: Collected[int] = Collected()

        async def handle(message: Any) -> None:
            handled.add(int(message.data))
            if leg.name == "threads":
                time.sleep(0.25)
            else:
                await anyio.sleep(0.25)
            await message.ack()

        async def publish_the_last() -> None:
            await eventually(lambda: len(set(handled)) == 8)
            await jetstream(other).publish("s", b"8")

        with steadily(url, **transport.options) as steady:
            async with anyio.create_task_group() as group:
                group.start_soon(publish_the_last)
                if way == "messages":
                    async with consumer.messages() as messages:
                        while 8 not in handled:
                            await handle(await anext(messages))
                else:
                    async with consumer.consume(handle):
                        await handled.wait_for(lambda number: number == 8)
        assert set(handled) == set(range(9))
        assert len(handled) == 9 or steady.stood_still > 0.3
