"""A loop that calls again at once, whatever it is told, does not keep the client's own tasks from running."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator

import anyio
import anyio.lowlevel
import pytest

import nats_anyio
from nats_proto import SessionStatus
from nats_proto.errors import NATSError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, eventually

pytestmark = pytest.mark.anyio

Call = Callable[["Things"], Awaitable[object]]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Things:
    """What the calls below are made on."""

    def __init__(self, client: nats_anyio.Client) -> None:
        self.client = client
        self.open = client.subscribe("open")
        self.ended = client.subscribe("ended")
        self.answers = client.request_many("nobody", max_wait=0.001)

    async def prepare(self) -> None:
        await self.ended.unsubscribe()
        await self.client.publish("open", reply="somewhere")
        self.message = await self.open.next(timeout=PATIENCE)


async def all_answers(things: Things) -> None:
    async for _ in things.client.request_many("nobody", b"x" * 100, max_wait=0.001):
        pass


async def subscribe_for_a_moment(things: Things) -> None:
    async with things.client.subscribe("moment"):
        pass


WHILE_AWAY: dict[str, Call] = {
    "publish": lambda things: things.client.publish("a", b"x" * 100),
    "publish with headers": lambda things: things.client.publish("a", b"x" * 100, headers={"A": "1"}),
    "publish what is wrong": lambda things: things.client.publish("not good"),
    "publish_many": lambda things: things.client.publish_many("a", [b"x" * 100] * 10),
    "flush": lambda things: things.client.flush(),
    "rtt": lambda things: things.client.rtt(),
    "request": lambda things: things.client.request("nobody", b"x" * 100, timeout=0),
    "request_many": all_answers,
    "aclose": lambda things: things.answers.aclose(),
    "reconnect": lambda things: things.client.reconnect(),
    "respond": lambda things: things.message.respond(b"x" * 100),
    "next": lambda things: things.open.next(timeout=0),
    "next_batch": lambda things: things.open.next_batch(10, timeout=0),
    "next of one that has ended": lambda things: things.ended.next(),
    "next of one that has ended, with a timeout": lambda things: things.ended.next(timeout=0),
    "next_batch of one that has ended": lambda things: things.ended.next_batch(10),
    "iteration of one that has ended": lambda things: anext(things.ended),
    "unsubscribe": lambda things: things.ended.unsubscribe(),
    "drain of one that has ended": lambda things: things.ended.drain(),
    "a subscription's block": subscribe_for_a_moment,
}


@pytest.mark.parametrize("call", WHILE_AWAY.values(), ids=list(WHILE_AWAY))
async def test_the_connection_is_made_again_beside_a_busy_loop(server: LocalServer, call: Call) -> None:
    async with nats_anyio.connect(server.url, pending_size=1000, **QUICK) as nc:
        things = Things(nc)
        await things.prepare()
        server.kill()
        await eventually(lambda: nc.status is SessionStatus.RECONNECTING)
        server.start()
        start = time.monotonic()
        while not nc.stats.reconnects:
            assert time.monotonic() < start + PATIENCE, "nobody else runs"
            try:
                await call(things)
            except (NATSError, StopAsyncIteration):
                continue


async def test_publishing_into_a_large_buffer_lets_others_run(server: LocalServer) -> None:
    """Nothing is refused here: the buffer takes all of it."""
    async with nats_anyio.connect(server.url, pending_size=1 << 30, **QUICK) as nc:
        server.kill()
        await eventually(lambda: nc.status is SessionStatus.RECONNECTING)
        server.start()
        start = time.monotonic()
        while not nc.stats.reconnects:
            await nc.publish("a", b"x")
            assert time.monotonic() < start + PATIENCE, "nobody else runs"


AT_THE_END: dict[str, Call] = {
    "publish": WHILE_AWAY["publish"],
    "publish_many": WHILE_AWAY["publish_many"],
    "flush": WHILE_AWAY["flush"],
    "request": WHILE_AWAY["request"],
    "next": WHILE_AWAY["next"],
    "iteration": lambda things: anext(things.open),
    "reconnect": WHILE_AWAY["reconnect"],
    "drain": lambda things: things.client.drain(),
}


@pytest.mark.parametrize("call", AT_THE_END.values(), ids=list(AT_THE_END))
async def test_a_busy_loop_over_a_closed_client_lets_others_run(url: str, call: Call) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while turns < 5:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with nats_anyio.connect(url) as nc:
        things = Things(nc)
        await things.prepare()
        await nc.close()
        start = time.monotonic()
        async with anyio.create_task_group() as group:
            group.start_soon(count)
            while turns < 5:
                assert time.monotonic() < start + PATIENCE, "nobody else runs"
                try:
                    await call(things)
                except (NATSError, StopAsyncIteration):
                    continue


@pytest.fixture
def stored() -> Iterator[LocalServer]:
    with LocalServer(jetstream=True) as local:
        yield local


class Turns:
    """How often another task has run."""

    def __init__(self) -> None:
        self.count = 0

    async def go_on(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            self.count += 1


async def test_fetches_that_have_no_time_let_others_run(stored: LocalServer) -> None:
    async with nats_anyio.connect(stored.url) as nc, anyio.create_task_group() as group:
        stream = await nc.jetstream().create_stream("TURNS", subjects=["turns"], storage="memory")
        consumer = await stream.create_consumer("c")
        turns = Turns()
        group.start_soon(turns.go_on)
        start = time.monotonic()
        while turns.count < 5:
            assert time.monotonic() < start + PATIENCE, "nobody else runs"
            assert [message async for message in consumer.fetch(1, timeout=1e-9)] == []
        group.cancel_scope.cancel()


async def test_a_batch_that_has_all_its_messages_ends_at_once(stored: LocalServer) -> None:
    """What it leaves is written with the request of the next one: between them nobody has anything to do."""
    async with nats_anyio.connect(stored.url) as nc, anyio.create_task_group() as group:
        js = nc.jetstream()
        stream = await js.create_stream("ENDS", subjects=["ends"], storage="memory")
        consumer = await stream.create_consumer("c")
        for _ in range(2):
            await js.publish("ends", b"x")
        turns = Turns()
        group.start_soon(turns.go_on)
        batch = consumer.fetch(2, timeout=PATIENCE)
        for _ in range(2):
            await (await anext(batch)).ack()
        before = turns.count
        with pytest.raises(StopAsyncIteration):
            await anext(batch)
        assert (turns.count, batch.reason) == (before, "limit")
        group.cancel_scope.cancel()
