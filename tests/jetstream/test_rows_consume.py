"""Rows 15 to 17 and 19 to 22, 24, 40 and F45: a reader survives what passes by itself, and ends when it is to end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from nats_proto import Disconnected, Reconnected, SessionStatus
from nats_proto.errors import OutboundBufferLimitError
from nats_proto.jetstream import ConsumerDeletedError, PullLimitError
from tests.adapters.legs import PATIENCE, QUICK, EventLog, Leg, eventually, hub_of, in_thread, stands_still
from tests.faults.proxy import Proxy
from tests.faults.record import TRACED
from tests.jetstream.cluster import ELECTION, STRICT, Replicas, api, patiently
from tests.jetstream.legs import jetstream
from tests.jetstream.seen import idle, listening, settled, swallowed
from tests.jetstream.steady import steadily
from tests.server_version import server_version
from tests.transports import Transport

pytestmark = pytest.mark.anyio

BEAT = 0.5
"""Seconds between two signs of life; the least that is allowed."""
ACK_WAIT = 60.0
"""Seconds that are longer than anything takes here: what comes sooner was handed back."""


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


@pytest.mark.clusters
async def test_row_15_nothing_is_missed_while_leaders_step_down(leg: Leg, calm_replicas: Replicas) -> None:
    calm_replicas.create_stream("S", "s")
    total = 600
    async with leg.connect(calm_replicas.urls) as publishing, leg.connect(calm_replicas.urls) as client:
        js = jetstream(client)
        consumer = await patiently(js.stream("S").create_consumer, "c", durable_name="c", ack_wait=30)
        seen: set[bytes] = set()

        async def publish(downs: list[float]) -> None:
            async with jetstream(publishing, timeout=5.0).publisher(max_pending=20, retry_for=ELECTION) as publisher:
                for number in range(total):
                    if number == total - 1:
                        await eventually(lambda: len(downs) >= 2, timeout=ELECTION)
                    await publisher.publish("s", b"%d" % number, msg_id=str(number))
                    await anyio.sleep(0.003)

        with calm_replicas.stepping_down("S", "c", every=0.4) as downs:
            async with anyio.create_task_group() as group:
                group.start_soon(publish, downs)
                async with consumer.messages(heartbeat=BEAT) as messages:
                    async for message in messages:
                        await message.ack()
                        seen.add(message.data)
                        if len(seen) == total:
                            break
        assert set(kinds(messages)) <= {"leadership_change", "no_responders", "no_heartbeat"}


async def test_row_16_no_responders_end_nothing(leg: Leg, url: str, transport: Transport) -> None:
    """A consumer that is not there yet: with ``wait`` it is waited for."""
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["s"], storage="memory")
        await js.publish("s", b"1")
        async with js.consumer("S", "c").messages(on_missing="wait") as messages:
            with anyio.fail_after(PATIENCE):
                while "consumer_missing" not in kinds(messages):
                    assert await messages.next(timeout=0.1) is None
            await stream.create_consumer("c")
            message = await messages.next(PATIENCE)
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
                await (await anext(messages)).ack_sync(PATIENCE)
                proxy.refuse = True
                proxy.cut()
                await events.wait(Disconnected)
                await in_thread(lambda: api(server.url, "CONSUMER.DELETE.S.c", **transport.options))
                before = len(server.log())
                with steadily(server.url, **transport.options) as steady:
                    proxy.refuse = False
                    with pytest.raises(ConsumerDeletedError):
                        await anext(messages)
            await client.flush()
        pulls = server.log()[before:].count("<<- [PUB $JS.API.CONSUMER.MSG.NEXT.S.c")
        assert pulls >= 1
        # It asks again until it has heard what the consumer says of itself.
        assert pulls <= 3 or steady.stood_still > 0.1


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
                message = await messages.next(PATIENCE)
            assert message.data == b"later"
            assert "consumer_missing" in kinds(messages)


@pytest.mark.parametrize("blocks", [False, True], ids=["waits", "blocks"])
async def test_row_19_a_slow_reader_is_no_silence(leg: Leg, url: str, transport: Transport, blocks: bool) -> None:
    async with leg.connect(url) as client:
        js, consumer = await _filled(client, 1)
        with listening(url, **transport.options) as seen, steadily(url, **transport.options) as steady:
            async with consumer.messages(heartbeat=BEAT) as messages:
                await (await anext(messages)).ack()
                if blocks:
                    time.sleep(3 * BEAT)  # the handler is slow, and on tasks nothing else runs meanwhile
                else:
                    await anyio.sleep(3 * BEAT)
                await js.publish("s", b"next")
                assert (await anext(messages)).data == b"next"
                assert kinds(messages) == [] or steady.stood_still > BEAT / 2
            assert len(await seen.pulls(client)) <= 2 or steady.stood_still > BEAT / 2


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
                    async with jetstream(other).consumer("S", "c").fetch(7, timeout=PATIENCE) as batch:
                        others = [message async for message in batch]
                    assert len(others) == 7
                    for message in others:
                        await message.ack()
                    while taken < (begin // 50 + 1) * (50 - 7):
                        message = await messages.next(PATIENCE)
                        await message.ack()
                        taken += 1
                        mine = [pull for pull in await seen.pulls(client) if pull["expires"] == 30 * 10**9]
                        asked += sum(pull["batch"] for pull in mine)
                        assert asked <= taken + 20
                assert await messages.next(timeout=0.1) is None
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


async def nothing_from(consumer: Any) -> AsyncIterator[Any]:
    """What comes, if anything does, in calls that wait too short a time for heart-beats."""
    with anyio.move_on_after(PATIENCE):
        while (message := await consumer.next(timeout=0.5)) is None:
            pass
        yield message


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
        _, mine = await _filled(client, 200, ack_wait=ACK_WAIT)
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
        async with consumer.fetch(199, timeout=ACK_WAIT / 2) as batch:
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
                await _waiting(consumer, 1)
                with pytest.raises(PullLimitError, match="max_waiting"):  # without heart-beats the server says it
                    await anext(nothing_from(consumer), None)
                before = len(await seen.pulls(client))
                async with consumer.fetch(1, timeout=1.5) as batch:
                    assert [message async for message in batch] == []
                assert batch.reason == "max_waiting"
                assert len(await seen.pulls(client)) <= before + 4
                began = time.monotonic()
                async with consumer.messages(heartbeat=BEAT) as messages:
                    with anyio.fail_after(PATIENCE):
                        while "max_waiting" not in kinds(messages):
                            assert await messages.next(timeout=BEAT / 2) is None
                    # A server before 2.11 says at once that it has no place for the request.
                    assert kinds(messages)[kinds(messages)[0] == "no_heartbeat" :] == ["max_waiting"]
                    assert "no_heartbeat" in kinds(messages) or server_version() < (2, 11)
                    counted = "1 of 1 requests wait" if "no_heartbeat" in kinds(messages) else "as many requests wait"
                    assert counted in messages.warnings[-1].text
                    pulls = len(await seen.pulls(client))
                    assert pulls <= 1 + (time.monotonic() - began) / (2 * BEAT)
            await idle(consumer)
            await js.publish("s", b"1")
            assert (await consumer.next(PATIENCE)).data == b"1"


async def test_row_40_delayed_messages_that_stop_a_consumer_are_told(leg: Leg, url: str, transport: Transport) -> None:
    async with leg.connect(url) as client:
        _, consumer = await _filled(client, 6, max_ack_pending=5)
        with listening(url, **transport.options) as seen, steadily(url, **transport.options) as steady:
            async with consumer.messages(heartbeat=BEAT) as messages:
                for _ in range(5):
                    await (await anext(messages)).nak(delay=2.0)
                got = [(await anext(messages)) for _ in range(1)]
                for message in got:
                    await message.ack()
                left = {b"%d" % number for number in range(6)} - {got[0].data}
                while left:
                    message = await messages.next(PATIENCE)
                    await message.ack()
                    left.discard(message.data)
                assert set(kinds(messages)) <= {"ack_limit"} or steady.stood_still > BEAT / 2
            assert len(await seen.pulls(client)) <= 6 or steady.stood_still > BEAT / 2


async def test_f45_a_request_that_was_lost_is_made_again(leg: Leg, url: str) -> None:
    if url.startswith("tls"):
        pytest.skip("a stream that misses bytes is none for TLS")
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url, ping_interval=60) as client, leg.connect(url) as other:
            await _filled(other, 1)
            async with jetstream(client).consumer("S", "c").messages(heartbeat=BEAT) as messages:
                proxy.up.black_hole = True
                assert await messages.next(timeout=0.1) is None
                await stands_still(lambda: swallowed(proxy))
                proxy.up.black_hole = False
                message = await messages.next(PATIENCE)
                assert message.data == b"0"
                await message.ack()
                assert set(kinds(messages)) == {"no_heartbeat"}


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
                    while int(message.data) < number:
                        # A server that was killed may have forgotten an acknowledgement, and that it has delivered it.
                        await message.ack_sync(PATIENCE)
                        message = await anext(messages)
                    assert message.data == b"%d" % number
                    await message.ack_sync(PATIENCE)
                    if number < 2:
                        await in_thread(server.kill if number else server.stop)
                        await in_thread(server.start)
                        await events.wait(Reconnected, count=number + 1)


async def test_what_has_come_is_given_while_there_is_no_room_to_ask_for_more(leg: Leg, transport: Transport) -> None:
    """No connection, and an outgoing buffer that is full: the next request has to wait, the messages have not."""
    with transport.server(jetstream=STRICT) as server:
        async with leg.connect(server.url, **QUICK, max_reconnect_attempts=-1, pending_size=10_000) as client:
            _, consumer = await _filled(client, 30)
            before = client.stats.in_msgs  # what was answered until now came as messages, too
            async with consumer.messages(max_messages=10, threshold=9) as messages:
                given = [(await messages.next(timeout=PATIENCE)).data]
                await eventually(lambda: client.stats.in_msgs >= before + 10)
                await in_thread(server.kill)
                await eventually(lambda: client.status is not SessionStatus.CONNECTED)
                with contextlib.suppress(OutboundBufferLimitError):
                    while True:
                        await client.publish("full", bytes(1000))
                while len(given) < 10:
                    message = await messages.next(timeout=PATIENCE)
                    assert message is not None
                    given.append(message.data)
                assert given == [b"%d" % number for number in range(10)]
