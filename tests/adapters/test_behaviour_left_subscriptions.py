"""Subscriptions that nobody can reach any more end; those that somebody can, or that have a callback, go on."""

from __future__ import annotations

import gc
import threading
import weakref

import anyio
import anyio.to_thread
import pytest

import nats_anyio
import nats_sync
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, Collected, EventLog, Leg, eventually, hub_of

pytestmark = pytest.mark.anyio

# What is left in each way is made by a function of its own: else a test's own variables would hold it.


def leave_in_thread(client: nats_sync.Client, way: str) -> None:
    match way:
        case "loop":
            for _message in client.subscribe("left"):
                break
        case "error":
            try:
                for message in client.subscribe("left"):
                    raise LookupError(message)
            except LookupError:
                pass
        case "dropped":
            client.subscribe("left")
        case "next":
            client.subscribe("left").next(timeout=PATIENCE)
        case "unread":
            sub = client.subscribe("left")
            client.flush()
        case "drained":
            sub = client.subscribe("left")
            client.flush()
            with pytest.raises(TimeoutError):
                sub.drain(timeout=0)


async def leave_in_task(client: nats_anyio.Client, way: str) -> None:
    match way:
        case "loop":
            async for _message in client.subscribe("left"):
                break
        case "error":
            try:
                async for message in client.subscribe("left"):
                    raise LookupError(message)
            except LookupError:
                pass
        case "dropped":
            client.subscribe("left")
        case "next":
            await client.subscribe("left").next(timeout=PATIENCE)
        case "unread":
            sub = await client.subscribe("left")
            await client.flush()
        case "drained":
            sub = await client.subscribe("left")
            await client.flush()
            with pytest.raises(TimeoutError):
                await sub.drain(timeout=0)


async def leave(client: object, way: str) -> None:
    if isinstance(client, nats_anyio.Client):
        await leave_in_task(client, way)
    else:
        await anyio.to_thread.run_sync(leave_in_thread, client.client, way)
    gc.collect()  # for interpreters that do not count references


@pytest.mark.parametrize("way", ["loop", "error", "dropped", "next", "unread", "drained"])
async def test_it_is_gone_from_the_client_and_the_server(leg: Leg, way: str, server: LocalServer) -> None:
    log = EventLog()
    async with leg.connect(server.url, on_event=log) as client, leg.connect(server.url) as other:
        stop = anyio.Event()

        async def publish() -> None:
            while not stop.is_set():
                await other.publish("left", b"x")
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as group:
            group.start_soon(publish)
            await leave(client, way)
            await client.flush()
            await eventually(lambda: not hub_of(client).subscriptions)
            stop.set()
        hub = hub_of(client)
        assert not getattr(hub, "agenda", hub).abandoned
        await other.flush()
        await client.flush()
        before = client.stats.in_msgs
        await other.publish("left", b"x")
        await other.flush()
        await client.flush()
        assert client.stats.in_msgs == before
        await client.drain(timeout=PATIENCE)  # it waits for nobody who is gone
    assert log.names[-1] == "Closed"


async def test_what_is_held_goes_on(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        sub = await client.subscribe("held")
        for n in range(3):
            await client.publish("held", b"%d" % n)
        async for message in sub:
            assert message.data == b"0"
            break
        gc.collect()
        await client.flush()
        assert [(await sub.next(timeout=PATIENCE)).data for _ in range(2)] == [b"1", b"2"]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_callback_needs_no_name(leg: Leg, url: str, concurrency: int) -> None:
    got: Collected[bytes] = Collected()

    async def handle(message: object) -> None:
        got.add(message.data)

    async with leg.connect(url) as client:
        await client.subscribe("callback", callback=leg.handler(handle), concurrency=concurrency)
        gc.collect()
        for n in range(3):
            await client.flush()
            await client.publish("callback", b"%d" % n)
            await got.wait_len(n + 1)
        assert list(got) == [b"0", b"1", b"2"]


async def test_a_subscription_is_freed_with_its_last_reference(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        held = [await client.subscribe("freed") for _ in range(3)]
        real = [getattr(sub, "subscription", sub) for sub in held]
        refs = [weakref.ref(sub) for sub in real]
        await real[0].unsubscribe() if leg.name != "threads" else real[0].unsubscribe()
        held.clear()
        real.clear()
        await client.flush()  # the thread that subscribed held its last result
        gc.collect()
        assert [ref() for ref in refs] == [None] * 3
        await client.flush()
        await eventually(lambda: not hub_of(client).subscriptions)


def test_threads_may_drop_subscriptions_while_others_publish_and_subscribe() -> None:
    with LocalServer() as server, nats_sync.connect(server.url) as client:

        def work(number: int) -> None:
            for round_ in range(30):
                for _message in client.subscribe(f"busy.{number}"):
                    break
                if round_ % 10 == 0:
                    gc.collect()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for number in range(4):
                client.publish(f"busy.{number}")
            client.flush()
        for thread in threads:
            thread.join()
        gc.collect()
        while hub_of(client).subscriptions:
            client.flush()
