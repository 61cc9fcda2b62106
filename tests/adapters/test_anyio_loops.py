"""A client belongs to one event loop: another one, in another thread or later, is told so, and harms nothing."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import nats_anyio
from nats_proto import SessionStatus, accelerated
from nats_proto.errors import LocalProtocolError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Things:
    """A client and what it has given."""

    def __init__(self, client: nats_anyio.Client) -> None:
        self.client = client
        self.sub = client.subscribe("a")
        self.answers = client.request_many("a")

    async def prepare(self) -> None:
        await self.client.publish("a", reply="b")
        self.message = await self.sub.next(timeout=PATIENCE)
        await self.client.publish("a", b"kept")
        await self.client.flush()


async def iterate(things: Things) -> None:
    async for _ in things.sub:
        pass


async def subscribe(things: Things) -> None:
    things.client.subscribe("b")


async def new_inbox(things: Things) -> None:
    things.client.new_inbox()


async def request_many(things: Things) -> None:
    things.client.request_many("a")


CALLS: dict[str, Callable[[Things], Awaitable[Any]]] = {
    "publish": lambda things: things.client.publish("a", b"x"),
    "publish large": lambda things: things.client.publish("a", b"x" * 500_000),
    "publish_many": lambda things: things.client.publish_many("a", [b"x"] * 1000),
    "request": lambda things: things.client.request("a", timeout=1),
    "request_many": request_many,
    "flush": lambda things: things.client.flush(),
    "rtt": lambda things: things.client.rtt(),
    "subscribe": subscribe,
    "new_inbox": new_inbox,
    "reconnect": lambda things: things.client.reconnect(),
    "drain": lambda things: things.client.drain(),
    "close": lambda things: things.client.close(),
    "next": lambda things: things.sub.next(),
    "next_batch": lambda things: things.sub.next_batch(1),
    "iteration": iterate,
    "unsubscribe": lambda things: things.sub.unsubscribe(),
    "drain of a subscription": lambda things: things.sub.drain(),
    "respond": lambda things: things.message.respond(b"x"),
    "answers": lambda things: anext(things.answers),
}
HARMLESS_AFTER_THE_END = {"close", "unsubscribe"}


async def said_by_each(things: Things, expected: type[Exception]) -> dict[str, str]:
    """What each call raises, "" for nothing."""
    said: dict[str, str] = {}
    for name, call in CALLS.items():
        with anyio.fail_after(PATIENCE):
            try:
                await call(things)
                said[name] = ""
            except expected as error:
                said[name] = str(error)
    return said


async def test_each_call_from_another_threads_loop_is_refused(anyio_backend: str, url: str) -> None:
    async with nats_anyio.connect(url) as nc:
        things = Things(nc)
        await things.prepare()

        def call_all() -> dict[str, str]:
            return anyio.run(said_by_each, things, LocalProtocolError, backend=anyio_backend)

        said = await anyio.to_thread.run_sync(call_all)
        assert not [name for name, text in said.items() if "another event loop" not in text], said
        assert things.sub.pending == (1, len("kept"))
        assert (await things.sub.next(timeout=0)).data == b"kept"
        await nc.flush()
        assert nc.status is SessionStatus.CONNECTED
        assert nc.stats.reconnects == 0
        assert nc.stats.out_msgs == 2


async def test_a_subscription_of_another_loops_client_is_told_without_a_loop(url: str) -> None:
    async with nats_anyio.connect(url) as nc:

        def subscribe() -> None:
            with pytest.raises(LocalProtocolError, match="another event loop"):
                nc.subscribe("a")

        await anyio.to_thread.run_sync(subscribe)


async def test_what_it_is_may_be_read_by_any_thread(url: str) -> None:
    async with nats_anyio.connect(url, name="watched") as nc:

        def read() -> object:
            return nc.status, nc.stats.reconnects, nc.connected_url, repr(nc)

        status, reconnects, connected_url, shown = await anyio.to_thread.run_sync(read)
        assert (status, reconnects, connected_url) == (SessionStatus.CONNECTED, 0, nc.connected_url)
        assert "'watched'" in shown


async def test_publishing_at_full_speed_beside_a_wrong_thread(url: str) -> None:
    """Between two turns of the writer a wrong thread may not be noticed: then its message is sent like any other."""
    async with nats_anyio.connect(url) as nc, nc.subscribe("a", max_pending_msgs=0) as sub:
        await nc.publish("a")
        taken = 1
        over = threading.Event()

        def publish() -> int:
            sent = 0
            while not over.is_set():
                coroutine = nc.publish("a", b"wrong")
                try:
                    coroutine.send(None)
                except StopIteration:
                    sent += 1
                except LocalProtocolError:
                    pass
                finally:
                    coroutine.close()
            return sent

        wrong: list[int] = []

        async def in_thread() -> None:
            wrong.append(await anyio.to_thread.run_sync(publish))

        async with anyio.create_task_group() as group:
            group.start_soon(in_thread)
            for _ in range(100_000):
                await nc.publish("a", b"right")
                taken += 1
            over.set()
        await nc.flush()
        await nc.flush()
        assert len(await sub.next_batch(10_000_000)) == taken + wrong[0]
        assert accelerated or wrong == [0]


async def test_a_message_that_comes_when_the_writer_goes_idle_is_written(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong thread in the one moment in which it is not noticed, and wakes nobody."""
    async with nats_anyio.connect(url) as other, other.subscribe("a") as sub, nats_anyio.connect(url) as nc:
        await other.flush()
        await nc.publish("a", b"first")
        assert (await sub.next(timeout=PATIENCE)).data == b"first"
        real = nc._writer._send
        late = [b"late"]

        def send(sock: socket.socket) -> object:
            state = real(sock)
            if late and nc._writer.idle is None:
                assert nc._writer.publish_quickly("a", late.pop(), None, None)
            return state

        monkeypatch.setattr(nc._writer, "_send", send)
        await nc.publish("a", b"second")
        await eventually(lambda: not late)
        for _ in range(20):  # turns of the loop; some time later anything that arrives would have it written
            await anyio.lowlevel.checkpoint()
        assert nc._hub.session.pending_bytes == 0
        assert (await sub.next(timeout=PATIENCE)).data == b"second"
        assert (await sub.next(timeout=PATIENCE)).data == b"late"


@pytest.mark.parametrize("how", ["run", "not cancelled"])
def test_a_second_loop_after_the_end_of_the_first(shared_server: LocalServer, how: str) -> None:
    """The first may have ended with or without cancelling its tasks."""

    async def first() -> Things:
        things = Things(await nats_anyio.open(shared_server.url))
        await things.prepare()
        return things

    if how == "run":
        things = asyncio.run(first())
        assert things.client.status is SessionStatus.CLOSED
        said = asyncio.run(said_by_each(things, LocalProtocolError))
        assert {name for name, text in said.items() if not text} == HARMLESS_AFTER_THE_END
        assert all("That one has ended" in text for text in said.values() if text), said
    else:
        loop = asyncio.new_event_loop()
        things = loop.run_until_complete(first())
        try:
            said = asyncio.run(said_by_each(things, LocalProtocolError))
            assert all("another event loop" in text for text in said.values()), said
        finally:
            loop.run_until_complete(things.client.close())
            loop.close()


async def test_a_loop_of_another_thread_may_ask_this_one(anyio_backend: str, url: str) -> None:
    """What the error says to do instead."""
    if anyio_backend == "trio":
        return  # anyio.from_thread, which the next line is about, is anyio's own there
    async with nats_anyio.connect(url) as nc:
        loop = asyncio.get_running_loop()

        def ask() -> float:
            return asyncio.run_coroutine_threadsafe(nc.rtt(), loop).result(PATIENCE)

        assert await anyio.to_thread.run_sync(ask) > 0
