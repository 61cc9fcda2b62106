"""Ordered consumers against real servers, on three legs: no hole and no double, whatever becomes of the consumer."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import pytest

from nats_proto._jetstream.errors import ConsumerNotFoundError, StreamNotFoundError
from nats_proto.errors import ConnectionClosedError, PermissionsError
from nats_sync.testing import LocalServer
from tests.adapters.jetstream import fill, jetstream, js_server, restart
from tests.adapters.legs import PATIENCE, QUICK, Collected, Leg, eventually
from tests.faults.proxy import Proxy
from tests.jetstream.cluster import STRICT
from tests.jetstream.legs import Twin
from tests.transports import Transport

__all__ = ["js_server"]

pytestmark = pytest.mark.anyio


async def numbers(messages: Any, count: int) -> list[int]:
    """The sequences of the next messages."""
    found: list[int] = []
    async for message in messages:
        found.append(message.metadata.stream_sequence)
        if len(found) == count:
            break
    return found


async def names(stream: Any) -> list[str]:
    return [name async for name in stream.consumer_names()]


def warned(reader: Any) -> list[str]:
    return [warning.kind for warning in reader.warnings]


async def test_r29_a_thousand_calls_make_one_consumer(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client, leg.connect(js_server.url) as other:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        creations: Collected[Any] = Collected()

        async def count(message: Any) -> None:
            creations.add(message.subject)

        async with other.subscribe("$JS.API.CONSUMER.CREATE.S.>", callback=leg.handler(count)):
            await other.flush()
            await fill(client, 1000)
            async with stream.ordered_consumer() as ordered:
                found = [(await ordered.next(PATIENCE)).metadata.stream_sequence for _ in range(600)]
                batch = ordered.fetch(300, timeout=PATIENCE)
                found += [message.metadata.stream_sequence async for message in batch]
                assert batch.reason == "limit"
                found += await numbers(ordered.messages(), 100)
                assert found == list(range(1, 1001))
                assert ordered.sequence == 1000
                assert ordered.pending == 0
                with anyio.fail_after(PATIENCE):
                    while True:
                        batch = ordered.fetch(1, timeout=0.2)
                        assert [message async for message in batch] == []
                        if batch.reason == "expired":
                            break
                        assert batch.reason == "no_answer"  # where the machine stands still, the time is up before
                assert await ordered.next(0.2) is None
                assert len(await names(stream)) == 1
            await client.flush()
            await eventually_gone(stream)
            await creations.wait_len(1)
            await other.flush()
        assert len(creations) == 1


async def eventually_gone(stream: Any) -> None:
    with anyio.fail_after(PATIENCE):
        while await names(stream):
            await anyio.sleep(0.01)


async def test_r29_closing_the_client_ends_the_waiter(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        messages = stream.ordered_consumer().messages()
        async with anyio.create_task_group() as group:
            ended = anyio.Event()

            async def read() -> None:
                with pytest.raises(ConnectionClosedError):
                    await messages.next()
                ended.set()

            group.start_soon(read)
            await anyio.sleep(0.1)  # it may wait by now, or begin later: it is to end either way
            await client.close()
            with anyio.fail_after(PATIENCE):
                await ended.wait()


@pytest.mark.parametrize("connected", [True, False])
async def test_r25_a_deleted_consumer_is_made_anew(leg: Leg, js_server: LocalServer, connected: bool) -> None:
    async with leg.connect(js_server.url, **QUICK) as client, leg.connect(js_server.url, **QUICK) as other:
        js, admin = jetstream(client), jetstream(other)
        stream = await js.create_stream("S", subjects=["a"])
        await fill(client, 300)
        ordered = stream.ordered_consumer(max_messages=50, heartbeat=0.5)
        async with ordered.messages() as messages:
            found = await numbers(messages, 120)
            if not connected:
                await client.reconnect()
            await deleted(admin.stream("S"))
            await fill(other, 100, start=301)
            found += await numbers(messages, 280)
            assert found == list(range(1, 401))
            assert "consumer_recreated" in warned(ordered)
            with anyio.fail_after(PATIENCE):
                while len(await names(stream)) != 1:
                    await anyio.sleep(0.01)


async def deleted(stream: Any) -> None:
    """Delete the consumer of its only reader, which may make another one while the machine stands still."""
    with anyio.fail_after(PATIENCE):
        while True:
            there = await names(stream)
            with contextlib.suppress(ConsumerNotFoundError):
                if len(there) == 1:
                    await stream.delete_consumer(there[0])
                    return


async def test_r25_a_server_that_restarts(leg: Leg, js_server: LocalServer) -> None:
    """The consumer is in memory: it is gone, the stream is not."""
    async with leg.connect(js_server.url, **QUICK) as client:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        await fill(client, 200)
        async with stream.ordered_consumer(max_messages=20).messages() as messages:
            found = await numbers(messages, 50)
            await restart(js_server, client)
            found += await numbers(messages, 150)
            await fill(client, 10, start=201)
            found += await numbers(messages, 10)
        assert found == list(range(1, 211))


async def test_r25_the_last_messages_are_lost_with_the_connection(leg: Leg, js_server: LocalServer) -> None:
    """No message comes behind them that would be out of order: the consumer lives, and has nothing more to give."""
    with Proxy(js_server.url) as proxy:
        async with leg.connect(proxy.url, **QUICK) as client, leg.connect(js_server.url, **QUICK) as other:
            stream = await jetstream(client).create_stream("S", subjects=["a"])
            await fill(other, 1)
            async with stream.ordered_consumer(heartbeat=0.5).messages() as messages:
                found = await numbers(messages, 1)
                proxy.down.black_hole = True
                await fill(other, 99, start=2)
                await all_delivered(jetstream(other).stream("S"), 100)
                proxy.down.black_hole = False
                proxy.cut()
                with anyio.fail_after(PATIENCE):
                    found += await numbers(messages, 99)
                assert found == list(range(1, 101))


async def all_delivered(stream: Any, count: int) -> None:
    """Until the consumer of the only reader has delivered so many messages."""
    [name] = await names(stream)
    with anyio.fail_after(PATIENCE):
        while (await stream.consumer(name).refresh()).delivered.consumer_seq < count:
            await anyio.sleep(0.01)


async def test_r25_a_deleted_stream_is_raised(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["a"])
        await fill(client, 3)
        messages = stream.ordered_consumer(heartbeat=0.5).messages()
        assert await numbers(messages, 3) == [1, 2, 3]
        await js.delete_stream("S")
        with pytest.raises(StreamNotFoundError), anyio.fail_after(PATIENCE):
            await messages.next()
        with pytest.raises(StreamNotFoundError):
            await js.stream("none").ordered_consumer().next(PATIENCE)


@pytest.mark.parametrize("what", ["ordered", "messages"])
async def test_r25_who_may_not_ask_for_messages_is_told(leg: Leg, transport: Transport, what: str) -> None:
    """The server tells it to the client alone, and to nobody who waits for messages."""
    user = {"user": "a", "password": "a", "permissions": {"publish": {"deny": ["$JS.API.CONSUMER.MSG.NEXT.>"]}}}
    with transport.server({"authorization": {"users": [user], "timeout": PATIENCE}}, jetstream=STRICT) as server:
        async with leg.connect(server.url, user="a", password="a") as client:
            stream = await jetstream(client).create_stream("S", subjects=["a"])
            if what == "ordered":
                messages = stream.ordered_consumer(heartbeat=0.5).messages()
            else:
                messages = (await stream.create_consumer("c")).messages(heartbeat=0.5)
            with pytest.raises(PermissionsError, match=r"MSG\.NEXT"):
                await messages.next(PATIENCE)
            assert warned(messages).count("no_heartbeat") <= 10  # two, if the server says so at once


async def test_r26_disturbances_leave_one_consumer(leg: Leg, js_server: LocalServer) -> None:
    """Readers whose consumers are deleted under them, again and again: never more than two of each, none in the end."""
    readers, rounds = 8, 4
    async with leg.connect(js_server.url) as client, leg.connect(js_server.url) as other:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        admin = jetstream(other).stream("S")
        got: list[list[int]] = [[] for _ in range(readers)]

        async def read(number: int) -> None:
            async with stream.ordered_consumer(max_messages=10, name_prefix=f"r{number}").messages() as messages:
                while len(got[number]) < rounds * 10:
                    message = await messages.next(PATIENCE)
                    assert message is not None
                    got[number].append(message.metadata.stream_sequence)

        async with anyio.create_task_group() as group:
            for number in range(readers):
                group.start_soon(read, number)
            for turn in range(rounds):
                await fill(other, 10, start=turn * 10 + 1)
                await eventually(lambda turn=turn: all(len(one) >= turn * 10 + 10 for one in got), timeout=60.0)
                there = await names(admin)
                assert all(sum(name.startswith(f"r{number}-") for name in there) <= 2 for number in range(readers))
                for name in there:
                    with contextlib.suppress(ConsumerNotFoundError):  # its reader has left it
                        await admin.delete_consumer(name)
        assert all(one == list(range(1, rounds * 10 + 1)) for one in got)
        await eventually_gone(admin)


async def test_r27_a_slow_reader_makes_no_hole(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url, max_pending_msgs=100) as client, leg.connect(js_server.url) as other:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        await fill(other, 3000)
        async with stream.ordered_consumer(max_messages=300).messages() as messages:
            found = []
            for _ in range(30):
                found += await numbers(messages, 100)
                await anyio.sleep(0.01)  # what was asked for piles up
            assert found == list(range(1, 3001))
            assert messages.warnings == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"deliver_policy": "last"}, [10]),
        ({"opt_start_seq": 8}, [8, 9, 10]),
        ({"filter_subjects": ["b.*"]}, [2, 4, 6, 8, 10]),
        ({"filter_subjects": ["b.2", "b.4"]}, [2, 4]),
        ({"deliver_policy": "last_per_subject"}, [9, 10, 2, 4, 6, 8]),
    ],
)
async def test_r28_where_it_begins(
    leg: Leg, js_server: LocalServer, fields: dict[str, Any], expected: list[int]
) -> None:
    async with leg.connect(js_server.url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["a", "b.*"])
        for number in range(1, 11):
            await client.request(f"b.{number}" if number % 2 == 0 else "a", b"%d" % number, timeout=PATIENCE)
        async with stream.ordered_consumer(**fields) as ordered:
            assert sorted(await numbers(ordered.messages(), len(expected))) == sorted(expected)
            assert await ordered.next(0.2) is None


async def test_r68_stopping_deletes_and_reading_goes_on(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        await fill(client, 30)
        ordered = stream.ordered_consumer()
        for turn in range(3):
            async with ordered.messages() as messages:
                assert await numbers(messages, 10) == list(range(turn * 10 + 1, turn * 10 + 11))
            await client.flush()
            await eventually_gone(stream)
            assert await messages.next(PATIENCE) is None


async def test_stopping_from_elsewhere_ends_the_waiter(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        ordered = stream.ordered_consumer()
        messages = ordered.messages()
        async with anyio.create_task_group() as group:
            group.start_soon(_until_stopped, messages)
            await anyio.sleep(0.05)
            stop = ordered.thing.stop if isinstance(ordered, Twin) else ordered.stop
            stop()
        await client.flush()
        await eventually_gone(stream)


async def _until_stopped(messages: Any) -> None:
    with anyio.fail_after(PATIENCE):
        assert [message async for message in messages] == []


async def test_acknowledging_does_nothing(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        await fill(client, 1)
        async with stream.ordered_consumer() as ordered:
            message = await ordered.next(PATIENCE)
            await message.ack()
            await message.ack()
