"""Every awaiting method of JetStream, buckets and services of tasks, cancelled at each of its suspensions.

Nothing may be lost by it, no message of a consumer, no byte of an object; nothing may be left behind: no task, no
subscription, no request that waits.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import nats_anyio
from nats_anyio.jetstream import (
    KeyExistsError,
    KeyNotFoundError,
    KeyValueEntry,
    ObjectNotFoundError,
    RevisionMismatchError,
    StreamConfig,
)
from nats_proto.errors import NATSError
from tests.adapters.cancelling import at_suspension, tasks
from tests.adapters.legs import PATIENCE, QUICK, Flag, eventually
from tests.jetstream.legs import jetstream
from tests.server_version import needs_server
from tests.transports import Transport

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp"), needs_server(2, 14, has="fast ingest")]

MOST = 200  # suspensions no operation here comes near to
ACK_WAIT = 60.0
OBJECT = bytes(range(256)) * 1600  # four chunks


@pytest.fixture(params=["asyncio-scope", "asyncio-task", "trio-scope"])
def manner(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def how(manner: str) -> str:
    return manner.partition("-")[2]


@pytest.fixture
def anyio_backend(manner: str) -> str:
    return manner.partition("-")[0]


Operation = Callable[["Rig"], Awaitable[None]]


@dataclass
class Rig:
    """A client whose operations are cancelled, and another one that looks after it."""

    nc: nats_anyio.Client
    other: nats_anyio.Client
    js: Any
    kv: Any
    store: Any
    fed: int = 0
    """How many numbers were published to the stream."""
    got: list[int] = field(default_factory=list[int])
    """Those that were handed out."""
    reader: Any = None
    """One that lives longer than one call."""
    seen: int = 0
    """How many it has given, where each reader has all."""
    written: int = 0
    """How often a key was written."""
    kept: list[Any] = field(default_factory=list[Any])
    """What a program may hold longer than its block."""
    tasks: list[str] = field(default_factory=list[str])
    subscriptions: int = 0

    @property
    def stream(self) -> Any:
        return self.js.stream("S")

    @property
    def consumer(self) -> Any:
        return self.js.consumer("S", "c")

    async def feed(self, count: int) -> None:
        """Numbers on their way to the stream; never suspends."""
        for _ in range(count):
            await self.other.publish("numbers", b"%d" % self.fed)
            self.fed += 1

    def read_by(self, make: Callable[[], Any]) -> Any:
        """The reader, made by the first call."""
        if self.reader is None:
            self.reader = make()
            self.subscriptions += 1
        return self.reader

    def took(self, message: Any) -> None:
        """It was handed out, and is acknowledged without a suspension."""
        assert message is not None
        self.got.append(int(message.data))
        self.settle(message)

    def settle(self, message: Any) -> None:
        message.settled = True
        self.tell(message, b"+ACK")

    def tell(self, message: Any, what: bytes) -> None:
        self.other._hub.session.publish(message.reply, what)
        self.other._hub.settle()

    async def check(self) -> None:
        """The client is as good as new."""
        hub = self.nc._hub
        with anyio.fail_after(PATIENCE):
            assert (await self.nc.request("echo", b"?", timeout=PATIENCE)).data == b"?"
        # One that was left while it asked for its consumer has still an answer to get.
        await eventually(lambda: not hub.session.pending_requests, "no request waits")
        assert not hub.requests
        assert not hub.flushes
        assert not hub.publishers.waiting
        await eventually(lambda: self.busy() == self.tasks, f"the tasks are {self.tasks} again")
        await eventually(lambda: self.known() <= self.subscriptions, f"there are {self.subscriptions} subscriptions")

    def known(self) -> int:
        """Subscriptions that have not ended."""
        return len(self.nc._hub.subscriptions) + len(self.nc._hub.workers.served())

    def busy(self) -> list[str]:
        """The tasks that run, without those that wait until there is something for a callback."""
        names = tasks()
        for client in (self.nc, self.other):
            for _ in client._hub.workers._idle:
                names.remove("nats callbacks")
        return names

    async def nothing_is_lost(self) -> None:
        """Each number was handed out once, or is handed out now; and no request for messages is left at the server."""
        if self.reader is not None:
            self.reader.stop()
        self.kept.clear()
        js = jetstream(self.other)
        consumer = js.consumer("S", "c")
        # Not as long as `ACK_WAIT`: whoever has lost a message gets it then.
        with anyio.move_on_after(ACK_WAIT / 2):
            while len(self.got) < self.fed:
                async for message in consumer.fetch(100, timeout=0.2):
                    self.took(message)
        assert sorted(self.got) == list(range(self.fed))
        with anyio.fail_after(PATIENCE):
            while (info := await consumer.refresh()).num_waiting or info.num_ack_pending or info.num_pending:
                await anyio.sleep(0.01)


@contextlib.asynccontextmanager
async def rig_on(url: str, transport: Transport, *, storage: str = "memory", **options: Any) -> AsyncIterator[Rig]:
    async def respond(message: nats_anyio.Message) -> None:
        await message.respond(message.data)

    options = {**QUICK, **transport.options, **options}
    async with (
        nats_anyio.connect(url, **transport.options) as other,
        nats_anyio.connect(url, **options) as nc,
    ):
        _echo = await other.subscribe("echo", callback=respond)
        made = jetstream(other)
        stream = await made.create_stream(
            "S",
            subjects=["numbers", "s.>"],
            storage=storage,
            allow_direct=True,
            allow_atomic=True,
            allow_batched=True,
        )
        await stream.create_consumer("c", filter_subjects=["numbers"], ack_wait=ACK_WAIT)
        await stream.create_consumer(
            "pushed", filter_subjects=["numbers"], deliver_subject="to.me", ack_policy="none", idle_heartbeat=5.0
        )
        kv = await made.create_key_value("B", storage=storage, limit_marker_ttl=1)
        await kv.put("old", b"old")
        store = await made.create_object_store("O", storage=storage)
        await store.put("old", OBJECT)
        js = jetstream(nc)
        rig = Rig(nc, other, js, await js.key_value("B"), await js.object_store("O"))
        await nc.request("echo", b"the inbox is there")
        rig.tasks = rig.busy()
        rig.subscriptions = rig.known()
        yield rig


# --- publishing


async def publish(rig: Rig) -> None:
    await rig.js.publish("s.a", b"1")


async def publish_id(rig: Rig) -> None:
    await rig.js.publish("s.a", b"1", msg_id="one")


async def publish_to_nobody(rig: Rig) -> None:
    with pytest.raises(NATSError):
        await rig.js.publish("nobody", b"1", retry_for=0.01)


async def publisher(rig: Rig) -> None:
    async with rig.js.publisher(max_pending=2) as window:
        for _ in range(5):
            await window.publish("s.a", b"1")


async def publisher_ack(rig: Rig) -> None:
    async with rig.js.publisher() as window:
        pending = await window.publish("s.a", b"1")
        assert (await pending.ack()).stream == "S"


async def publisher_several(rig: Rig) -> None:
    async with rig.js.publisher(max_pending=2) as window:

        async def some() -> None:
            for _ in range(3):
                await (await window.publish("s.a", b"1")).ack()

        async with anyio.create_task_group() as group:
            group.start_soon(some)
            group.start_soon(some)
            await some()


async def publisher_raises(rig: Rig) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with rig.js.publisher() as window:
            await window.publish("s.a", b"1")
            raise ZeroDivisionError


async def publisher_held(rig: Rig) -> None:
    """Its user holds the publisher longer than its block."""
    window = rig.js.publisher(max_pending=2)
    rig.kept.append(window)
    async with window:
        for _ in range(3):
            await window.publish("s.a", b"1")


async def publisher_held_raises(rig: Rig) -> None:
    window = rig.js.publisher(max_pending=2)
    rig.kept.append(window)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with window:
            for _ in range(3):
                await window.publish("s.a", b"1")
            raise ZeroDivisionError


async def atomic_batch(rig: Rig) -> None:
    async with rig.js.atomic_batch() as batch:
        for _ in range(3):
            await batch.publish("s.b", b"1")


async def fast_ingest(rig: Rig) -> None:
    async with rig.js.fast_ingest(flow=2, max_outstanding=1) as ingest:
        for _ in range(6):
            await ingest.publish("s.b", b"1")


async def fast_ingest_held(rig: Rig) -> None:
    ingest = rig.js.fast_ingest(flow=2, max_outstanding=1)
    rig.kept.append(ingest)
    async with ingest:
        for _ in range(6):
            await ingest.publish("s.b", b"1")


async def fast_ingest_held_raises(rig: Rig) -> None:
    ingest = rig.js.fast_ingest(flow=2, max_outstanding=1)
    rig.kept.append(ingest)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with ingest:
            for _ in range(6):
                await ingest.publish("s.b", b"1")
            raise ZeroDivisionError


# --- consuming


async def fetch(rig: Rig) -> None:
    await rig.feed(3)
    async for message in rig.consumer.fetch(3, timeout=PATIENCE):
        rig.took(message)


async def fetch_more_than_there_is(rig: Rig) -> None:
    await rig.feed(2)
    async for message in rig.consumer.fetch(5, timeout=0.05):
        rig.took(message)


async def fetch_no_wait(rig: Rig) -> None:
    await rig.feed(2)
    async for message in rig.consumer.fetch(5, no_wait=True, timeout=PATIENCE):
        rig.took(message)


async def fetch_block(rig: Rig) -> None:
    await rig.feed(3)
    async with rig.consumer.fetch(5, timeout=PATIENCE) as batch:
        async for message in batch:
            rig.took(message)
            break


async def fetch_several(rig: Rig) -> None:
    await rig.feed(4)
    async with rig.consumer.fetch(4, timeout=PATIENCE) as batch:

        async def some() -> None:
            async for message in batch:
                rig.took(message)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(some)
            await some()


async def fetch_held(rig: Rig) -> None:
    await rig.feed(3)
    batch = rig.consumer.fetch(3, timeout=PATIENCE)
    rig.kept.append(batch)
    async for message in batch:
        rig.took(message)


async def next_message(rig: Rig) -> None:
    await rig.feed(1)
    rig.took(await rig.consumer.next(PATIENCE))


async def next_none(rig: Rig) -> None:
    message = await rig.consumer.next(0.01)
    if message is not None:
        rig.took(message)


async def messages(rig: Rig) -> None:
    reader = rig.read_by(lambda: rig.consumer.messages(max_messages=4))
    await rig.feed(3)
    taken = 0
    async for message in reader:
        rig.took(message)
        taken += 1
        if taken == 3:
            break


async def messages_next(rig: Rig) -> None:
    reader = rig.read_by(lambda: rig.consumer.messages(max_messages=4))
    await rig.feed(2)
    for _ in range(2):
        message = await reader.next(PATIENCE)
        rig.took(message)


async def messages_several(rig: Rig) -> None:
    reader = rig.read_by(lambda: rig.consumer.messages(max_messages=4))
    await rig.feed(4)

    async def some() -> None:
        for _ in range(2):
            rig.took(await reader.next(PATIENCE))

    async with anyio.create_task_group() as group:
        group.start_soon(some)
        await some()


async def messages_block(rig: Rig) -> None:
    await rig.feed(3)
    async with rig.consumer.messages(max_messages=4) as reader:
        async for message in reader:
            rig.took(message)
            break


async def messages_limit(rig: Rig) -> None:
    await rig.feed(2)
    async with rig.consumer.messages(max_messages=4, limit=2) as reader:
        async for message in reader:
            rig.took(message)


async def messages_raises(rig: Rig) -> None:
    await rig.feed(3)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with rig.consumer.messages(max_messages=4) as reader:
            async for message in reader:
                rig.took(message)
                raise ZeroDivisionError


async def ack(rig: Rig) -> None:
    await rig.feed(1)
    message = await rig.consumer.next(PATIENCE)
    rig.got.append(int(message.data))
    try:
        await message.ack()
    finally:
        if not message.settled:
            rig.settle(message)


async def ack_sync(rig: Rig) -> None:
    await rig.feed(1)
    message = await rig.consumer.next(PATIENCE)
    rig.got.append(int(message.data))
    try:
        await message.ack_sync(PATIENCE)
    finally:
        if not message.settled:
            rig.settle(message)


async def nak(rig: Rig) -> None:
    await rig.feed(1)
    message = await rig.consumer.next(PATIENCE)
    try:
        await message.nak()
    except BaseException:
        rig.tell(message, b"-NAK")
        raise


async def consume(rig: Rig) -> None:
    await rig.feed(2)
    done = Flag()

    async def handle(message: Any) -> None:
        rig.took(message)
        await anyio.lowlevel.checkpoint()
        done.set()

    async with rig.consumer.consume(handle, max_messages=4):
        await done.wait()


async def consume_raises(rig: Rig) -> None:
    await rig.feed(2)
    done = Flag()

    async def handle(message: Any) -> None:
        rig.took(message)
        await anyio.lowlevel.checkpoint()
        done.set()

    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with rig.consumer.consume(handle, max_messages=4):
            await done.wait()
            raise ZeroDivisionError


async def work(rig: Rig) -> None:
    await rig.feed(3)
    done = Flag()

    async def handle(message: Any) -> None:
        rig.took(message)
        await anyio.lowlevel.checkpoint()
        done.set()

    async with rig.consumer.work(handle, concurrency=2):
        await done.wait()


async def work_raises(rig: Rig) -> None:
    await rig.feed(3)
    done = Flag()

    async def handle(message: Any) -> None:
        rig.took(message)
        await anyio.lowlevel.checkpoint()
        done.set()

    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with rig.consumer.work(handle, concurrency=2):
            await done.wait()
            raise ZeroDivisionError


async def work_drain(rig: Rig) -> None:
    await rig.feed(3)

    async def handle(message: Any) -> None:
        rig.took(message)
        await anyio.lowlevel.checkpoint()

    worker = rig.consumer.work(handle, concurrency=2)
    try:
        with contextlib.suppress(TimeoutError):
            await worker.wait(0.01)
        await worker.drain(PATIENCE)
    finally:
        worker.stop()


async def ordered_messages(rig: Rig) -> None:
    await rig.feed(1)
    async with rig.stream.ordered_consumer(filter_subjects="numbers") as ordered:
        async for message in ordered.messages():
            assert int(message.data) == 0
            break


async def ordered_next(rig: Rig) -> None:
    await rig.feed(1)
    reader = rig.read_by(lambda: rig.stream.ordered_consumer(filter_subjects="numbers"))
    message = await reader.next(PATIENCE)
    assert int(message.data) == rig.seen
    rig.seen += 1


async def ordered_fetch(rig: Rig) -> None:
    await rig.feed(2)
    reader = rig.read_by(lambda: rig.stream.ordered_consumer(filter_subjects="numbers"))
    async for message in reader.fetch(2, timeout=PATIENCE):
        assert int(message.data) == rig.seen
        rig.seen += 1


async def push_messages(rig: Rig) -> None:
    reader = rig.read_by(lambda: rig.stream.push_consumer("pushed").messages())
    await rig.feed(1)
    message = await reader.next(PATIENCE)
    assert int(message.data) == rig.seen
    rig.seen += 1


async def refresh(rig: Rig) -> None:
    await rig.consumer.refresh()
    await rig.consumer.stats()
    await rig.consumer.diagnose()


async def names(rig: Rig) -> None:
    assert [name async for name in rig.js.stream_names()]
    assert [info async for info in rig.stream.consumers()]


async def stored(rig: Rig) -> None:
    await rig.feed(1)
    await rig.other.flush()
    await rig.stream.get_last_msg("numbers")
    async for _ in rig.stream.get_msgs(sequence=1, subject="numbers"):
        pass


async def ensure(rig: Rig) -> None:
    await rig.js.ensure(streams=[StreamConfig(name="S", subjects=["numbers", "s.>"])])


# --- buckets


async def kv_calls(rig: Rig) -> None:
    kv = rig.kv
    with contextlib.suppress(KeyExistsError):
        await kv.create("k", b"1")
    entry = await kv.get("k")
    with contextlib.suppress(RevisionMismatchError):
        await kv.update("k", b"2", entry.revision)
    await kv.put("k", b"3")
    await kv.delete("k")
    with pytest.raises(KeyNotFoundError):
        await kv.get("k")
    await kv.purge("k")


async def kv_lists(rig: Rig) -> None:
    keys = rig.kv.keys()
    rig.kept.append(keys)
    assert "old" in [key async for key in keys]
    assert await rig.kv.history("old")
    assert await rig.kv.get_many(["old"])
    await rig.kv.modify("n", lambda value: b"1")


async def kv_keys_block(rig: Rig) -> None:
    async with rig.kv.keys() as keys:
        async for _ in keys:
            break


async def kv_watch(rig: Rig) -> None:
    async with rig.kv.watch("old") as watch:
        async for _ in watch:
            break


async def kv_watch_updates(rig: Rig) -> None:
    async with rig.kv.watch("new", updates_only=True) as watch:
        await rig.kv.put("new", b"1")
        await anext(watch)


async def kv_watch_held(rig: Rig) -> None:
    reader = rig.read_by(lambda: rig.kv.watch("w", include_history=True))
    await rig.other.publish("$KV.B.w", b"%d" % rig.written)
    rig.written += 1
    while True:
        entry = await anext(reader)
        if isinstance(entry, KeyValueEntry):
            assert int(entry.value) >= rig.seen
            rig.seen = int(entry.value)
            return


async def kv_on_change(rig: Rig) -> None:
    done = Flag()

    async def handle(entry: Any) -> None:
        await anyio.lowlevel.checkpoint()
        done.set()

    async with rig.kv.on_change(handle):
        await done.wait()


async def kv_mapping(rig: Rig) -> None:
    async with rig.kv.mapping() as mapping:
        assert mapping["old"] == b"old"


async def kv_lock(rig: Rig) -> None:
    async with rig.kv.lock("lock", ttl=1, timeout=PATIENCE) as lock:
        assert lock.held


async def object_put(rig: Rig) -> None:
    await rig.store.put("new", OBJECT[:300_000])


async def object_calls(rig: Rig) -> None:
    await rig.store.put("short", b"y")
    await rig.store.info("short")
    await rig.store.update_info("short", description="short")
    await rig.store.delete("short")
    with pytest.raises(ObjectNotFoundError):
        await rig.store.info("short")


async def object_get(rig: Rig) -> None:
    assert len(await rig.store.get_bytes("old")) == len(OBJECT)


async def object_read(rig: Rig) -> None:
    async with await rig.store.get("old") as reader:
        assert len(await reader.read(300_000)) == 300_000
        reader.seek(0)
        assert len(await reader.read(10)) == 10


async def object_list(rig: Rig) -> None:
    infos = rig.store.list()
    rig.kept.append(infos)
    assert "old" in [info.name async for info in infos]


async def object_watch(rig: Rig) -> None:
    async with rig.store.watch() as watch:
        async for _ in watch:
            break


# --- services


async def service(rig: Rig) -> None:
    async def answer(request: Any) -> None:
        await request.respond(request.data)

    async with rig.nc.add_service("cancelled", "1.0.0") as made:
        made.endpoint("e", answer)
        assert await rig.nc.request_service("e", b"1", timeout=PATIENCE) == b"1"


async def service_raises(rig: Rig) -> None:
    async def answer(request: Any) -> None:
        await request.respond(request.data)

    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with rig.nc.add_service("cancelled", "1.0.0") as made:
            made.endpoint("e", answer)
            assert await rig.nc.request_service("e", b"1", timeout=PATIENCE) == b"1"
            raise ZeroDivisionError


async def service_endpoint_stop(rig: Rig) -> None:
    async with rig.nc.add_service("cancelled", "1.0.0") as made:
        endpoint = made.endpoint("e", lambda request: request.respond(b"1"))
        assert await rig.nc.request_service("e", b"1", timeout=PATIENCE) == b"1"
        await endpoint.stop()


async def service_wait(rig: Rig) -> None:
    async with rig.nc.add_service("cancelled", "1.0.0") as made:
        assert not await made.wait(0.005)


async def service_ping(rig: Rig) -> None:
    async with rig.nc.services(timeout=0.02).ping() as found:
        async for _ in found:
            pass


OPERATIONS: list[Operation] = [
    publish,
    publish_id,
    publish_to_nobody,
    publisher,
    publisher_ack,
    publisher_several,
    publisher_raises,
    publisher_held,
    publisher_held_raises,
    atomic_batch,
    fast_ingest,
    fast_ingest_held,
    fast_ingest_held_raises,
    fetch,
    fetch_more_than_there_is,
    fetch_no_wait,
    fetch_block,
    fetch_several,
    fetch_held,
    next_message,
    next_none,
    messages,
    messages_next,
    messages_several,
    messages_block,
    messages_limit,
    messages_raises,
    ack,
    ack_sync,
    nak,
    consume,
    consume_raises,
    work,
    work_raises,
    work_drain,
    ordered_messages,
    ordered_next,
    ordered_fetch,
    push_messages,
    refresh,
    names,
    stored,
    ensure,
    kv_calls,
    kv_lists,
    kv_keys_block,
    kv_watch,
    kv_watch_updates,
    kv_watch_held,
    kv_on_change,
    kv_mapping,
    kv_lock,
    object_put,
    object_calls,
    object_get,
    object_read,
    object_list,
    object_watch,
    service,
    service_raises,
    service_endpoint_stop,
    service_wait,
    service_ping,
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
async def test_cancelled_at_each_suspension(url: str, transport: Transport, how: str, operation: Operation) -> None:
    async with rig_on(url, transport) as rig:
        for point in range(1, MOST):
            with anyio.fail_after(PATIENCE):
                reached = await at_suspension(partial(operation, rig), point, how=how, strict=True)
            await rig.check()
            if not reached:
                break
        else:
            pytest.fail("it never ended")
        await rig.nothing_is_lost()


@pytest.mark.parametrize("size", [300_000, -1])
async def test_a_cancelled_read_of_an_object_begins_again(url: str, transport: Transport, how: str, size: int) -> None:
    async with rig_on(url, transport) as rig:
        for point in range(1, MOST):
            async with await rig.store.get("old") as reader:
                parts: list[bytes] = []

                async def read(reader: Any = reader, parts: list[bytes] = parts) -> None:
                    parts.append(await reader.read(size))

                reached = await at_suspension(read, point, how=how, strict=True)
                assert reader.tell() == sum(map(len, parts))
                assert b"".join([*parts, await reader.read()]) == OBJECT
            if not reached:
                return
        pytest.fail("it never ended")
