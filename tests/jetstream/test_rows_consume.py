"""Rows 15 to 17 and 19 to 22, 24, 40 and F45: a reader survives what passes by itself, and ends when it is to end."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from nats_proto import Disconnected, Reconnected
from nats_proto.jetstream import ConsumerDeletedError, PullLimitError
from tests.adapters.legs import QUICK, EventLog, Leg, eventually, hub_of, in_thread
from tests.faults.proxy import Proxy
from tests.faults.record import TRACED
from tests.jetstream.cluster import STRICT, Replicas, api
from tests.jetstream.legs import jetstream
from tests.jetstream.seen import idle, listening, settled
from tests.transports import Transport

pytestmark = pytest.mark.anyio

BEAT = 0.5
"""Seconds between two signs of life; the least that is allowed."""


async def _consumer(client: Any, **fields: Any) -> tuple[Any, Any]:
    js = jetstream(client)
    stream = await js.create_stream("S", subjects=["s"], storage="memory")
    return js, await stream.create_consumer("c", **fields)


async def _filled(client: Any, count: int, **fields: Any) -> tuple[Any, Any]:
    js, consumer = await _consumer(client, **fields)
    await client.publish_many("s", [b"%d" % number for number in range(count)])
    await client.flush()
    return js, consumer


def kinds(messages: Any) -> list[str]:
    return [warning.kind for warning in messages.warnings]


async def test_row_15_nothing_is_missed_while_leaders_step_down(leg: Leg, calm_replicas: Replicas) -> None:
    calm_replicas.create_stream("S", "s")
    total = 600
    async with leg.connect(calm_replicas.urls) as publishing, leg.connect(calm_replicas.urls) as client:
        js = jetstream(client)
        consumer = await js.stream("S").create_consumer("c", durable_name="c", ack_wait=30)
        seen: set[bytes] = set()

        async def publish() -> None:
            async with jetstream(publishing).publisher(max_pending=20) as publisher:
                for number in range(total):
                    await publisher.publish("s", b"%d" % number, msg_id=str(number))
                    await anyio.sleep(0.003)

        with calm_replicas.stepping_down("S", "c", every=0.4) as downs:
            async with anyio.create_task_group() as group:
                group.start_soon(publish)
                async with consumer.messages(heartbeat=BEAT) as messages:
                    async for message in messages:
                        await message.ack()
                        seen.add(message.data)
                        if len(seen) == total:
                            break
        assert len(downs) >= 2
        assert set(kinds(messages)) <= {"leadership_change", "no_responders", "no_heartbeat"}


async def test_row_16_no_responders_end_nothing(leg: Leg, url: str, transport: Transport) -> None:
    """A consumer that is not there yet: with ``wait`` it is waited for."""
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["s"], storage="memory")
        await js.publish("s", b"1")
        async with js.consumer("S", "c").messages(on_missing="wait") as messages:
            assert await messages.next(timeout=0.6) is None
            await stream.create_consumer("c")
            message = await messages.next(timeout=10)
            assert message.data == b"1"
            assert kinds(messages) == ["no_responders", "consumer_missing"]


async def test_row_17_a_consumer_that_is_deleted_ends_its_reader(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js, consumer = await _filled(client, 1)
        async with consumer.messages() as messages:
            await (await anext(messages)).ack()
            async with anyio.create_task_group() as group:
                group.start_soon(js.stream("S").delete_consumer, "c")
                with pytest.raises(ConsumerDeletedError, match="messages of consumer 'c' of stream 'S'"):
                    await anext(messages)
            with pytest.raises(StopAsyncIteration):
                await anext(messages)


async def test_row_17_deleted_while_nobody_was_connected(leg: Leg, transport: Transport) -> None:
    with transport.server(TRACED, jetstream=STRICT) as server, Proxy(server.url) as proxy:
        events = EventLog()
        async with leg.connect(proxy.url, on_event=events, **QUICK) as client:
            _, consumer = await _filled(client, 1)
            async with consumer.messages(heartbeat=BEAT) as messages:
                await (await anext(messages)).ack_sync()
                proxy.refuse = True
                proxy.cut()
                await events.wait(Disconnected)
                await in_thread(lambda: api(server.url, "CONSUMER.DELETE.S.c", **transport.options))
                before = len(server.log())
                proxy.refuse = False
                with pytest.raises(ConsumerDeletedError):
                    await anext(messages)
            await client.flush()
        pulls = server.log()[before:].count("<<- [PUB $JS.API.CONSUMER.MSG.NEXT.S.c")
        assert 1 <= pulls <= 3


async def test_row_17_one_of_the_same_name_is_waited_for(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js, consumer = await _filled(client, 1)
        async with consumer.messages(on_missing="wait") as messages:
            await (await anext(messages)).ack()
            stream = js.stream("S")
            await stream.delete_consumer("c")
            assert await messages.next(timeout=0.1) is None
            await stream.create_consumer("c", deliver_policy="new")
            async with anyio.create_task_group() as group:

                async def publish() -> None:
                    await js.publish("s", b"later")

                group.start_soon(publish)
                message = await messages.next(timeout=10)
            assert message.data == b"later"
            assert "consumer_missing" in kinds(messages)


@pytest.mark.parametrize("blocks", [False, True], ids=["waits", "blocks"])
async def test_row_19_a_slow_reader_is_no_silence(leg: Leg, url: str, transport: Transport, blocks: bool) -> None:
    async with leg.connect(url) as client:
        js, consumer = await _filled(client, 1)
        with listening(url, **transport.options) as seen:
            async with consumer.messages(heartbeat=BEAT) as messages:
                await (await anext(messages)).ack()
                if blocks:
                    time.sleep(3 * BEAT)  # the handler is slow, and on tasks nothing else runs meanwhile
                else:
                    await anyio.sleep(3 * BEAT)
                await js.publish("s", b"next")
                assert (await anext(messages)).data == b"next"
                assert kinds(messages) == []
            assert len(await seen.pulls(client)) <= 2


async def test_row_20_never_more_is_asked_for_than_may_be_outstanding(leg: Leg, url: str, transport: Transport) -> None:
    """Two readers of one consumer, one of which comes and goes: what all its requests ask for is what it has got, and
    no more than may be outstanding."""
    async with leg.connect(url) as client, leg.connect(url) as other:
        _, consumer = await _consumer(client)
        with listening(url, **transport.options) as seen:
            taken = asked = 0
            async with consumer.messages(max_messages=20) as messages:
                for begin in range(0, 200, 50):
                    await other.publish_many("s", [b"%d" % number for number in range(begin, begin + 50)])
                    async with jetstream(other).consumer("S", "c").fetch(7, timeout=5) as batch:
                        async for message in batch:
                            await message.ack()
                    while (message := await messages.next(timeout=0.1)) is not None:
                        await message.ack()
                        taken += 1
                        mine = [pull for pull in await seen.pulls(client) if pull["expires"] == 30 * 10**9]
                        asked += sum(pull["batch"] for pull in mine)
                        assert asked <= taken + 20
            assert taken == 200 - 4 * 7


async def test_row_21_stop_from_anywhere_ends_the_iteration(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        _, consumer = await _filled(client, 100)
        before = sorted(leg.running())

        messages = consumer.messages(max_messages=50)  # by its own handler, with a full buffer
        got = []
        async for message in messages:
            got.append(message.data)
            await message.ack()
            await client.flush()
            messages.stop()
            messages.stop()
        assert got == [b"0"]
        assert await messages.next(timeout=5) is None

        other = await jetstream(client).stream("S").create_consumer("other", deliver_policy="new")
        for wait in (lambda one: one.next(), lambda one: anext(one, None)):  # by another task, or thread
            messages = other.messages()
            async with anyio.create_task_group() as group:
                ended = []

                async def read(messages: Any = messages, wait: Any = wait, ended: list[Any] = ended) -> None:
                    ended.append(await wait(messages))

                group.start_soon(read)
                await _waiting(other, 1)
                messages.stop()
            assert ended == [None]

        told = []  # by the hook for warnings

        def stop(warning: Any) -> None:
            told.append(warning.kind)
            messages.stop()

        messages = jetstream(client).consumer("S", "unknown").messages(on_missing="wait", on_warning=stop)
        assert [message async for message in messages] == []
        assert told[0] == "no_responders"

        assert (await idle(consumer)).num_waiting == (await idle(other)).num_waiting == 0
        await eventually(lambda: sorted(leg.running()) == before)
        assert len(list(hub_of(client).session._traffic.subs)) <= 1


async def _waiting(consumer: Any, count: int) -> None:
    while (await consumer.refresh()).num_waiting != count:
        pass


async def _delivered(consumer: Any, unacknowledged: int) -> None:
    info = await consumer.refresh()
    while (info.num_pending, info.num_ack_pending) != (0, unacknowledged):
        info = await consumer.refresh()


@pytest.mark.parametrize("how", ["stop", "drain", "close", "leave"])
async def test_row_22_what_was_not_read_goes_to_others_at_once(leg: Leg, url: str, how: str) -> None:
    async with leg.connect(url) as other, leg.connect(url) as client:
        _, mine = await _filled(client, 200, ack_wait=60)
        consumer = jetstream(other).consumer("S", "c")
        messages = mine.messages(max_messages=200)
        done = await anext(messages)
        await done.ack()
        await _delivered(consumer, 199)
        await client.flush()  # so all of them are here
        if how == "stop":
            messages.stop()
        elif how == "leave":
            async with messages:
                pass
        else:
            await getattr(client, how)()
        got = [done.data]
        async with consumer.fetch(199, timeout=10) as batch:
            async for message in batch:
                await message.ack()
                got.append(message.data)
        assert batch.reason == "limit"
        assert sorted(got, key=int) == [b"%d" % number for number in range(200)]
        info = await settled(consumer)
        assert (info.num_waiting, info.num_ack_pending, info.num_pending) == (0, 0, 0)


async def test_row_24_a_reader_that_gets_no_turn_says_why(leg: Leg, url: str, transport: Transport) -> None:
    async with leg.connect(url) as client, leg.connect(url) as other:
        js, consumer = await _consumer(client, max_waiting=1)
        with listening(url, **transport.options) as seen:
            async with jetstream(other).consumer("S", "c").messages() as first:
                assert await first.next(timeout=0.1) is None
                with pytest.raises(PullLimitError, match="max_waiting"):  # without heart-beats the server says it
                    await consumer.next(timeout=0.5)
                await seen.pulls(client)
                async with consumer.messages(heartbeat=BEAT) as messages:
                    assert await messages.next(timeout=2.5 * BEAT) is None
                    assert kinds(messages) == ["no_heartbeat", "max_waiting"]
                    assert "1 of 1 requests wait" in messages.warnings[-1].text
                    assert len(await seen.pulls(client)) <= 2
            await js.publish("s", b"1")
            assert (await consumer.next(timeout=5)).data == b"1"


async def test_row_40_delayed_messages_that_stop_a_consumer_are_told(leg: Leg, url: str, transport: Transport) -> None:
    async with leg.connect(url) as client:
        _, consumer = await _filled(client, 6, max_ack_pending=5)
        with listening(url, **transport.options) as seen:
            async with consumer.messages(heartbeat=BEAT) as messages:
                for _ in range(5):
                    await (await anext(messages)).nak(delay=2.0)
                got = [(await anext(messages)) for _ in range(1)]
                for message in got:
                    await message.ack()
                left = {b"%d" % number for number in range(6)} - {got[0].data}
                while left:
                    message = await messages.next(timeout=10)
                    await message.ack()
                    left.discard(message.data)
                assert set(kinds(messages)) <= {"ack_limit"}
            assert len(await seen.pulls(client)) <= 6


async def test_f45_a_request_that_was_lost_is_made_again(leg: Leg, url: str) -> None:
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url, ping_interval=60) as client, leg.connect(url) as other:
            await _filled(other, 1)
            async with jetstream(client).consumer("S", "c").messages(heartbeat=BEAT) as messages:
                if leg.name and proxy.url.startswith("tls"):
                    pytest.skip("a stream that misses bytes is none for TLS")
                proxy.up.black_hole = True
                assert await messages.next(timeout=0.1) is None
                proxy.up.black_hole = False
                message = await messages.next(timeout=10)
                assert message.data == b"0"
                await message.ack()
                assert kinds(messages) == ["no_heartbeat"]


async def test_f45_a_restart_that_forgets_all_requests(leg: Leg, transport: Transport) -> None:
    with transport.server(jetstream=STRICT) as server:
        events = EventLog()
        async with leg.connect(server.url, on_event=events, **QUICK) as client:
            js = jetstream(client)
            stream = await js.create_stream("S", subjects=["s"])
            consumer = await stream.create_consumer("c", durable_name="c")
            async with consumer.messages() as messages:
                for number in range(3):
                    await js.publish("s", b"%d" % number)
                    message = await anext(messages)
                    assert message.data == b"%d" % number
                    await message.ack_sync()
                    if number < 2:
                        await in_thread(server.kill if number else server.stop)
                        await in_thread(server.start)
                        await events.wait(Reconnected, count=number + 1)
