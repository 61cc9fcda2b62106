"""A client that stands alone: opened and closed by any task, in any order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from anyio import CancelScope
from anyio.abc import TaskGroup

import nats_anyio
from nats_proto import Closed, SessionStatus
from nats_proto.errors import ConfigurationError, ConnectionClosedError, LocalProtocolError, NoServersError
from nats_sync.testing import LocalServer
from tests.adapters.cancelling import NoTaskLeft
from tests.adapters.legs import PATIENCE, QUICK, EventLog, Flag, eventually
from tests.faults.peer import Peer, hold

pytestmark = pytest.mark.anyio

Opener = Callable[..., Awaitable[nats_anyio.Client]]


@pytest.fixture(params=["asyncio", "asyncio with a group", "trio with a group"])
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def anyio_backend(way: str) -> str:
    return way.partition(" ")[0]


@asynccontextmanager
async def opener(way: str) -> AsyncIterator[Opener]:
    """Opens clients; at the end of the block there is no task of theirs, or it fails."""
    async with NoTaskLeft():
        if way == "asyncio":
            yield nats_anyio.open
            return
        async with anyio.create_task_group() as group:

            async def open_in_group(servers: str, **options: object) -> nats_anyio.Client:
                return await nats_anyio.open(servers, task_group=group, **options)  # type: ignore[arg-type]

            yield open_in_group
            with anyio.fail_after(PATIENCE):  # nobody has to cancel it
                while len(group_tasks(group)) > 0:
                    await anyio.sleep(0.001)


def group_tasks(group: TaskGroup) -> list[object]:
    tasks = getattr(group, "_tasks", None)
    nursery = getattr(group, "_nursery", None)
    return list(tasks if tasks is not None else nursery.child_tasks)  # type: ignore[union-attr]


async def test_work(way: str, url: str) -> None:
    async with opener(way) as open_client:
        nc = await open_client(url, name="alone")
        await nc.subscribe("echo", callback=lambda message: message.respond(message.data))
        assert (await nc.request("echo", b"1")).data == b"1"
        await nc.close()
        assert nc.status is SessionStatus.CLOSED
        await nc.close()  # harmless
        with pytest.raises(ConnectionClosedError):
            await nc.publish("a")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("end", ["close", "drain", "block"])
async def test_two_clients_in_any_order(way: str, url: str, order: tuple[int, int], end: str) -> None:
    async with opener(way) as open_client:
        clients = [await open_client(url), await open_client(url)]
        for index in order:
            nc = clients[index]
            await nc.flush()
            if end == "block":
                async with nc:
                    await nc.flush()
            else:
                await (nc.close() if end == "close" else nc.drain())
            assert nc.status is SessionStatus.CLOSED
        await anyio.lowlevel.checkpoint()


async def test_opened_by_one_task_and_closed_by_another(way: str, url: str) -> None:
    async with opener(way) as open_client:
        kept: list[nats_anyio.Client] = []

        async def start() -> None:
            with anyio.fail_after(PATIENCE), CancelScope():
                kept.append(await open_client(url))

        async def stop() -> None:
            await kept[0].close()

        for step in (start, stop):
            async with anyio.create_task_group() as group:
                group.start_soon(step)
        assert kept[0].status is SessionStatus.CLOSED


@pytest.mark.parametrize("limit", [anyio.move_on_after, anyio.fail_after])
async def test_opening_may_take_too_long(way: str, limit: Callable[[float], CancelScope]) -> None:
    with Peer([hold()]) as peer:
        async with opener(way) as open_client:
            try:
                with limit(0.05):
                    await open_client(peer.url, connect_timeout=60)
                assert limit is anyio.move_on_after
            except TimeoutError:
                assert limit is anyio.fail_after  # which of the two it is
            await anyio.sleep(0.001)  # nothing is cancelled any more


async def test_opening_within_a_limit_that_is_left(way: str, url: str) -> None:
    async with opener(way) as open_client:
        with anyio.fail_after(PATIENCE):
            nc = await open_client(url)
        await nc.flush()
        await nc.close()


async def test_what_connecting_raises_comes_out_as_itself(way: str, free_port: int) -> None:
    async with opener(way) as open_client:
        with pytest.raises(NoServersError, match="refused"):
            await open_client(f"nats://127.0.0.1:{free_port}")
        with pytest.raises(ConfigurationError, match="not both"):
            await open_client("nats://127.0.0.1:1", options=nats_anyio.ConnectOptions(), name="x")


async def test_the_connection_is_made_again(way: str, server: LocalServer) -> None:
    log = EventLog()
    async with opener(way) as open_client:
        nc = await open_client(server.url, on_event=log, **QUICK)
        server.restart()
        await eventually(lambda: nc.stats.reconnects == 1)
        await nc.flush()
        await nc.close()
    assert log.names[-1] == "Closed"


async def test_callbacks_end_with_it(way: str, url: str) -> None:
    async with opener(way) as open_client:
        nc = await open_client(url)
        began, ended = Flag(), Flag()

        async def block(_: nats_anyio.Message) -> None:
            began.set()
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()

        await nc.subscribe("a", callback=block)
        await nc.publish("a")
        await began.wait()
        await nc.close()
        assert ended.is_set


@pytest.mark.parametrize("where", ["callback", "on_event"])
async def test_its_own_tasks_may_close_it(way: str, url: str, where: str) -> None:
    kept: list[nats_anyio.Client] = []
    after = Flag()

    async def close(_: object) -> None:
        if not kept:
            return
        await kept[0].close()
        await anyio.sleep(0.001)  # it is not cancelled by what it has asked for
        after.set()

    async with opener(way) as open_client:
        nc = await open_client(url, on_event=close if where == "on_event" else None, **QUICK)
        kept.append(nc)
        if where == "callback":
            await nc.subscribe("a", callback=close)
            await nc.publish("a")
        else:
            await nc.reconnect()
        await after.wait()
        with anyio.fail_after(PATIENCE):
            await nc._hub.gone.wait()


async def test_cancelling_the_close_ends_it_all_the_same(way: str, url: str) -> None:
    async with opener(way) as open_client:
        nc = await open_client(url)
        with CancelScope() as scope:
            scope.cancel()
            await nc.close()
        assert nc.status is SessionStatus.CLOSED


async def test_a_group_that_is_cancelled_closes_it_in_order(way: str, url: str) -> None:
    if way == "asyncio":
        return  # there is none
    log = EventLog()
    async with nats_anyio.connect(url) as other, other.subscribe("a") as sub:
        await other.flush()
        async with anyio.create_task_group() as group:
            nc = await nats_anyio.open(url, task_group=group, on_event=log)
            await nc.publish("a", b"the last one")
            group.cancel_scope.cancel()
        assert log[-1] == Closed(error=None)
        assert (await sub.next(timeout=PATIENCE)).data == b"the last one"


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio_it_needs_a_group(anyio_backend: str, url: str) -> None:
    with pytest.raises(LocalProtocolError, match="task_group="):
        await nats_anyio.open(url)


def test_a_loop_that_ends_logs_nothing_strange(shared_server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        nc = await nats_anyio.open(shared_server.url, on_event=lambda _: None)
        await nc.subscribe("a", callback=lambda _: None)
        await nc.flush()
        kept.append(nc)

    kept: list[nats_anyio.Client] = []
    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.text == ""
    assert kept[0].status is SessionStatus.CLOSED


# --- blocks that are entered by hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_blocks_entered_by_hand_may_be_left_in_any_order(
    shared_server: LocalServer, backend: str, order: tuple[int, ...]
) -> None:
    async def main() -> None:
        async with NoTaskLeft():
            blocks = [nats_anyio.connect(shared_server.url) for _ in range(3)]
            clients = [await block.__aenter__() for block in blocks]
            for index in order:
                await clients[index].flush()
                await blocks[index].__aexit__(None, None, None)
                assert clients[index].status is SessionStatus.CLOSED
                with anyio.move_on_after(0.001):  # scopes are where they should be
                    await anyio.sleep_forever()

    anyio.run(main, backend=backend)
