"""Row 68, and whoever waits for JetStream and is stopped: nothing is lost, nothing is left behind, nobody waits on."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import nats_sync
from nats_proto.errors import ConnectionClosedError, NATSError
from tests.adapters.legs import PATIENCE, Leg, eventually, hub_of
from tests.jetstream.cluster import PATIENT, api
from tests.jetstream.legs import TIMEOUT, jetstream
from tests.jetstream.seen import idle, settled
from tests.server_version import needs_server
from tests.transports import Transport

CALLS = 60


async def _filled(client: Any, count: int, **fields: Any) -> Any:
    stream = await jetstream(client).create_stream("S", subjects=["s"], storage="memory")
    consumer = await stream.create_consumer("c", **fields)
    for number in range(count):
        await client.publish("s", b"%d" % number)
    await client.flush()
    return consumer


@pytest.mark.anyio
async def test_row_68_nothing_grows_with_the_number_of_calls(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        consumer = await _filled(client, 3 * CALLS)
        js = jetstream(client)

        async def once() -> None:
            await js.publish("s")
            async with js.publisher() as publisher:
                await publisher.publish("s")
            async with consumer.fetch(2, timeout=PATIENCE) as batch:
                async for message in batch:
                    await message.ack()
            async with consumer.fetch(5, timeout=PATIENCE) as batch:
                async for message in batch:
                    await message.ack()
                    break
            async with consumer.messages() as messages:
                await (await anext(messages)).ack_sync(PATIENCE)

        def held() -> tuple[list[str], int]:
            return sorted(leg.running()), len(list(hub_of(client).session._traffic.subs))

        await once()
        await client.flush()
        before = held()
        for _ in range(CALLS):
            await once()
        await client.flush()
        # What was about to end when it was first looked at may be gone by now.
        await eventually(lambda: len(held()[0]) <= len(before[0]) and held()[1] <= before[1])
        # What was handed back counts as unacknowledged until somebody takes it.
        assert (await idle(consumer)).num_waiting == 0
        assert len([name async for name in js.stream("S").consumer_names()]) == 1


@pytest.mark.anyio
async def test_a_reader_that_nobody_holds_ends_without_the_collector_of_garbage(leg: Leg, url: str) -> None:
    """Else the server would have to send, and the client to keep, what nobody can read any more."""
    async with leg.connect(url) as client:
        consumer = await _filled(client, 20)
        js = jetstream(client)
        stream = js.stream("S")
        kv = await js.create_key_value("B", storage="memory")
        store = await js.create_object_store("O", storage="memory")
        for name in ("a", "b"):
            await kv.put(name, b"1")
            await store.put(name, b"x" * 300_000)

        async def read_some_of_an_object() -> None:
            reader = await store.get("a")
            assert await reader.read(10)

        async def first_of(reader: Any) -> None:
            async for _ in reader:
                break

        left_early: dict[str, Callable[[], Any]] = {
            "fetch": lambda: first_of(consumer.fetch(3, timeout=PATIENCE)),
            "messages": lambda: first_of(consumer.messages()),
            "ordered": lambda: first_of(stream.ordered_consumer().messages()),
            "watch": lambda: first_of(kv.watch()),
            "keys": lambda: first_of(kv.keys()),
            "objects": lambda: first_of(store.list()),
            "watch of objects": lambda: first_of(store.watch()),
            "object": read_some_of_an_object,
        }
        subs = hub_of(client).session._traffic.subs
        await client.flush()
        gc.collect()
        await client.flush()
        before = len(list(subs))
        gc.disable()
        try:
            for name, leave in left_early.items():
                await leave()
                await client.flush()
                await eventually(lambda: len(list(subs)) == before, f"{name} has ended")
        finally:
            gc.enable()


@needs_server(2, 14, has="fast ingest")
@pytest.mark.parametrize("what", ["publisher", "fast_ingest"])
def test_an_interrupt_at_the_end_of_a_block_is_one_in_it(
    url: str, transport: Transport, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left subscribed, and whoever holds a publish that was not acknowledged is told so."""
    with nats_sync.connect(url, **transport.options) as client:
        js = client.jetstream()
        js.create_stream("S", subjects=["s"], storage="memory", allow_batched=True)
        before = len(list(client._hub.session._traffic.subs))

        def interrupted() -> None:
            raise KeyboardInterrupt

        block: Any = js.publisher() if what == "publisher" else js.fast_ingest()
        with pytest.raises(KeyboardInterrupt), block:  # noqa: PT012
            pending = block.publish("s")
            monkeypatch.setattr(block, "close", interrupted)
        assert len(list(client._hub.session._traffic.subs)) == before
        if what == "publisher":
            with pytest.raises(ConnectionClosedError, match="left by KeyboardInterrupt"):
                pending.ack(PATIENCE)


@pytest.mark.parametrize("size", [300_000, -1])
def test_an_interrupted_read_of_an_object_begins_again(
    url: str, transport: Transport, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 1600
    with nats_sync.connect(url, **transport.options) as client:
        store = client.jetstream().create_object_store("O", storage="memory")
        store.put("old", data)
        for chunks in range(4):
            with store.get("old") as reader, monkeypatch.context() as patched:
                fill = reader._fill
                left = iter([True] * chunks)

                def interrupted(fill: Callable[[], bool] = fill, left: Any = left) -> bool:
                    if not next(left, False):
                        raise KeyboardInterrupt
                    return fill()

                patched.setattr(reader, "_fill", interrupted)
                if chunks < 3 or size < 0:
                    with pytest.raises(KeyboardInterrupt):
                        reader.read(size)
                    assert reader.tell() == 0
                patched.undo()
                assert reader.read() == data


@pytest.mark.anyio
async def test_cancelled_at_random_points_no_message_is_lost(leg: Leg, url: str) -> None:
    """Whoever waits is cancelled over and over, in `next`, `messages` and `ack_sync`: each message still comes."""
    if leg.name == "threads":
        pytest.skip("threads cannot be cancelled")
    moments = random.Random(68)
    total = 60
    async with leg.connect(url) as client:
        consumer = await _filled(client, total, ack_wait=60)
        got: list[int] = []

        async def settle(message: Any) -> None:
            with anyio.CancelScope(shield=True):
                await message.ack()
            got.append(int(message.data))

        messages = consumer.messages(max_messages=20)
        while len(got) < total // 2:
            with anyio.move_on_after(moments.random() * 0.003):
                while len(got) < total // 2:
                    message = await anext(messages)
                    # Only this is cancelled: who loses a message between two waits has lost it himself.
                    with anyio.CancelScope(deadline=anyio.current_time() + moments.random() * 0.001, shield=True):
                        await message.ack_sync(PATIENCE)
                    if not message.settled:
                        await settle(message)
                    else:
                        got.append(int(message.data))
        messages.stop()
        while len(got) < total:
            with anyio.move_on_after(moments.random() * 0.02):
                while len(got) < total:
                    if moments.random() < 0.5:
                        message = await consumer.next(PATIENCE)
                    else:
                        async with consumer.fetch(5, timeout=PATIENCE) as batch:
                            message = await anext(batch, None)
                    if message is not None:
                        await settle(message)
        assert sorted(got) == list(range(total))
        info = await settled(consumer)
        assert (info.num_waiting, info.num_ack_pending, info.num_pending) == (0, 0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["messages", "messages.next", "fetch", "next", "ack_sync", "publisher"])
@pytest.mark.parametrize("how", ["close", "drain"])
async def test_a_client_that_is_closed_lets_nobody_wait(leg: Leg, url: str, what: str, how: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as other:
        consumer = await _filled(client, 0)
        js = jetstream(client)
        waits = anyio.Event()
        sent: list[Any] = []
        ended: list[Any] = []

        async def wait() -> Any:
            match what:
                case "messages":
                    waits.set()
                    return await anext(consumer.messages(), None)
                case "messages.next":
                    waits.set()
                    return await consumer.messages().next(timeout=60)
                case "fetch":
                    waits.set()
                    return [message async for message in consumer.fetch(5, timeout=60)]
                case "next":
                    waits.set()
                    return await consumer.next(timeout=60)
                case "ack_sync":
                    await js.publish("s")
                    message = await consumer.next(PATIENCE)
                    await js.stream("S").delete_consumer("c")  # so nobody will confirm it
                    async with other.subscribe(message.reply) as heard:
                        await other.flush()
                        sent.append(heard)
                        waits.set()
                        return await message.ack_sync(timeout=60)
                case _:
                    async with other.subscribe("nowhere") as heard:
                        await other.flush()
                        sent.append(heard)
                        async with js.publisher(timeout=60) as publisher:
                            pending = await publisher.publish("nowhere")
                            waits.set()
                            return await pending.ack()

        async def run() -> None:
            try:
                ended.append(await wait())
            except NATSError as error:
                ended.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await waits.wait()
            await anyio.sleep(0.02)  # so that it waits; if it does not yet, it is refused, which is the same here
            for heard in sent:
                await heard.next(PATIENCE)  # what was not sent has failed for certain
            await getattr(client, how)()
        (end,) = ended
        if what in ("messages", "messages.next", "next", "fetch"):
            assert end in (None, []) or isinstance(end, ConnectionClosedError)
        else:
            assert isinstance(end, ConnectionClosedError)
            assert end.outcome == "unknown"


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["fetch", "messages"])
async def test_readers_that_share_an_iterator_share_its_messages(leg: Leg, url: str, what: str) -> None:
    """Each message goes to one of them, and whoever waits is told of the end."""
    async with leg.connect(url) as client:
        consumer = await _filled(client, 40, ack_wait=60)
        got: list[int] = []

        async def read(batch: Any) -> None:
            async for message in batch:
                await message.ack()
                got.append(int(message.data))
                if len(got) == 40:
                    batch.stop()

        many = consumer.fetch(40, timeout=60) if what == "fetch" else consumer.messages(max_messages=3)
        async with many, anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(read, many if what == "messages" else _Batch(many))
        assert sorted(got) == list(range(40))
        assert (await settled(consumer)).num_ack_pending == 0


class _Batch:
    """A batch that is stopped by its own end."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._batch)

    def stop(self) -> None:
        pass


@pytest.mark.anyio
async def test_a_batch_that_is_closed_lets_none_of_its_readers_wait(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        consumer = await _filled(client, 0)
        batch = consumer.fetch(40, timeout=60)
        ended: list[Any] = []

        async def read() -> None:
            ended.append([message async for message in batch])

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(read)
            await eventually_waiting(consumer)
            await batch.__aexit__(None, None, None)
        assert ended == [[], [], []]
        await eventually_waiting(consumer, 0)


@pytest.mark.anyio
async def test_row_22_what_was_on_its_way_is_handed_back_by_the_end_of_the_block(leg: Leg, url: str) -> None:
    """The client is closed at once: nobody is there any more who could."""
    count = 400
    async with leg.connect(url) as other:
        stream = await jetstream(other).create_stream("S", subjects=["s"], storage="memory")
        consumer = await stream.create_consumer("c", ack_wait=60)
        for _ in range(count):
            await other.publish("s", b"x" * 2000)
        await other.flush()
        async with leg.connect(url) as client:
            async with jetstream(client).stream("S").consumer("c").messages(max_messages=count) as messages:
                await (await anext(messages)).ack()
            await client.close()
        batch = consumer.fetch(count - 1, timeout=PATIENCE)
        assert len([message async for message in batch]) == count - 1
        assert batch.reason == "limit"


async def eventually_waiting(consumer: Any, count: int = 1) -> None:
    with anyio.fail_after(PATIENCE):
        while (await consumer.refresh()).num_waiting != count:
            await anyio.sleep(0.01)


# --- threads alone ---------------------------------------------------------------------------------------------------


def test_an_interrupted_wait_loses_nothing(url: str) -> None:
    """`KeyboardInterrupt` in a wait: the same reader goes on with the next message."""
    with nats_sync.connect(url, **PATIENT) as nc:
        js = nc.jetstream(timeout=TIMEOUT)
        consumer = js.create_stream("S", subjects=["s"], storage="memory").create_consumer("c", ack_wait=60)
        batch = consumer.fetch(3, timeout=60)
        with consumer.messages() as messages:
            for number, read in enumerate((lambda: next(messages), lambda: messages.next(60), lambda: next(batch))):
                if number == 2:
                    messages.stop()
                helper = threading.Thread(target=_interrupt_when_waiting, args=(url, 1))
                with pytest.raises(KeyboardInterrupt):
                    _read_beside(helper, read)
                helper.join()
                js.publish("s", b"%d" % number)
                message = read()
                assert message is not None
                assert message.data == b"%d" % number
                message.ack_sync(PATIENCE)
        batch.close()
        assert consumer.refresh().num_ack_pending == 0


def _read_beside(helper: threading.Thread, read: Callable[[], object]) -> None:
    """The interrupt of the helper may come before it is read, and later not at all."""
    helper.start()
    read()


def _interrupt_when_waiting(url: str, count: int) -> None:
    deadline = time.monotonic() + 15
    while api(url, "CONSUMER.INFO.S.c")["num_waiting"] != count and time.monotonic() < deadline:
        pass
    time.sleep(0.02)  # the server has the request before the reader waits; an interrupt in between is as good
    os.kill(os.getpid(), signal.SIGINT)
