"""Rows 33, 34 and 36, and F46: acknowledgements that are late, lost, confirmed, doubled."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from nats_proto import Disconnected, Reconnected
from nats_proto.errors import NATSTimeoutError
from nats_proto.jetstream import AlreadyAcknowledgedError
from tests.adapters.legs import PATIENCE, QUICK, EventLog, Leg, stands_still
from tests.faults.proxy import Proxy
from tests.jetstream.legs import jetstream
from tests.jetstream.seen import listening, settled, swallowed
from tests.jetstream.steady import steadily
from tests.transports import Transport

pytestmark = pytest.mark.anyio


async def _filled(client: Any, count: int, **fields: Any) -> Any:
    stream = await jetstream(client).create_stream("S", subjects=["s"], storage="memory")
    consumer = await stream.create_consumer("c", **fields)
    for number in range(count):
        await client.publish("s", b"%d" % number)
    await client.flush()
    return consumer


async def test_row_33_a_message_knows_until_when_it_is_its_readers(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        consumer = await _filled(client, 1, ack_wait=0.5)
        began = anyio.current_time() if leg.name == "trio" else time.monotonic()
        first = await consumer.next(PATIENCE)
        assert began + 0.5 <= first.deadline
        assert first.deadline - first.received == 0.5
        second = await consumer.next(PATIENCE)
        assert (second.metadata.num_delivered, second.metadata.stream_sequence) == (2, 1)
        assert second.received > first.deadline - 0.5  # the clock is the same
        await first.ack()  # too late, and no error
        await second.ack()
        assert (await settled(consumer)).ack_floor.stream_seq == 1


async def test_row_34_a_confirmation_that_does_not_come(leg: Leg, url: str) -> None:
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url) as client:
            consumer = await _filled(client, 1, ack_wait=60)
            message = await consumer.next(PATIENCE)
            proxy.down.held = True
            for _ in range(5):
                with pytest.raises(NATSTimeoutError) as unknown:
                    await message.ack_sync(timeout=0.2)
                assert not message.settled
                if unknown.value.outcome != "failed":  # where the machine stands still, it may not have been sent
                    break
            assert unknown.value.outcome == "unknown"
            proxy.down.held = False
            await message.ack_sync(PATIENCE)
            assert message.settled
            assert (await consumer.refresh()).num_ack_pending == 0  # confirmed, so it is so now


async def test_row_36_the_wait_is_that_of_this_attempt(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        consumer = await _filled(client, 1, ack_wait=30, backoff=[0.2, 0.3], max_deliver=5)
        waits = []
        for attempt in (1, 2, 3):
            message = await consumer.next(PATIENCE)
            assert message.metadata.num_delivered == attempt
            waits.append(round(message.deadline - message.received, 9))
        assert waits == [0.2, 0.3, 0.3]
        await message.ack()


async def test_f46_a_second_acknowledgement_is_refused_and_sends_nothing(
    leg: Leg, url: str, transport: Transport
) -> None:
    async with leg.connect(url) as client:
        consumer = await _filled(client, 1)
        with listening(url, **transport.options) as seen:
            message = await consumer.next(PATIENCE)
            await message.in_progress()
            await message.ack()
            for again in (message.ack, message.ack_sync, message.nak, message.term, message.in_progress):
                with pytest.raises(AlreadyAcknowledgedError, match="sequence 1 of stream 'S', by 'c'"):
                    await again()
            assert await seen.acks(client) == [b"+WPI", b"+ACK"]


async def test_f46_a_lost_acknowledgement_costs_one_more_delivery(leg: Leg, url: str, transport: Transport) -> None:
    if url.startswith("tls"):
        pytest.skip("a stream that misses bytes is none for TLS")
    with Proxy(url) as proxy, steadily(url, **transport.options) as steady:
        async with leg.connect(proxy.url, ping_interval=60) as client:
            consumer = await _filled(client, 2, ack_wait=0.5)
            async with consumer.messages() as messages:
                first = await anext(messages)
                await (await anext(messages)).ack_sync(PATIENCE)
                proxy.up.black_hole = True
                await first.ack()
                await stands_still(lambda: swallowed(proxy))  # so the acknowledgement is gone
                proxy.up.black_hole = False
                again = await messages.next(PATIENCE)
                if steady.stood_still > 0.2:
                    return  # who gets no time of the machine gets both too late, and once more
                assert (again.data, again.metadata.num_delivered) == (b"0", 2)
                await again.ack_sync(PATIENCE)
                with anyio.fail_after(PATIENCE):
                    while (await consumer.refresh()).ack_floor.stream_seq != 2:
                        pass
                assert messages.warnings == []


async def test_f46_an_acknowledgement_waits_for_the_connection(leg: Leg, url: str) -> None:
    with Proxy(url) as proxy:
        events = EventLog()
        async with leg.connect(proxy.url, on_event=events, **QUICK) as client:
            consumer = await _filled(client, 1, ack_wait=60)
            message = await consumer.next(PATIENCE)
            proxy.refuse = True
            proxy.cut()
            await events.wait(Disconnected)
            await message.ack()
            assert message.settled
            proxy.refuse = False
            await events.wait(Reconnected)
            info = await settled(consumer)
            assert (info.num_ack_pending, info.num_redelivered, info.ack_floor.stream_seq) == (0, 0, 1)
