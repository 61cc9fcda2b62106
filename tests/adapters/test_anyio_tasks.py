"""What only the anyio client has: one task group, exceptions that come out as they are, cancellation anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from anyio import CancelScope

import nats_anyio
from nats_proto import Closed, Connected, SessionStatus
from nats_proto._session import life_cycle as _life_cycle
from nats_proto.errors import (
    ConfigurationError,
    ConnectionClosedError,
    LocalProtocolError,
    NoServersError,
)
from nats_sync.testing import LocalServer
from tests.adapters.cancelling import NoTaskLeft, tasks
from tests.adapters.legs import PATIENCE, QUICK, EventLog, eventually
from tests.faults.peer import Peer, freeze, handshake, hold

pytestmark = pytest.mark.anyio

Operation = Callable[[nats_anyio.Client], Awaitable[object]]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# --- the block and its tasks -----------------------------------------------------------------------------------------


async def test_the_block_leaves_no_task(url: str) -> None:
    async with NoTaskLeft(), nats_anyio.connect(url) as nc:
        await nc.subscribe("a", callback=lambda _: None)
        _held = await nc.subscribe("b")
        await nc.flush()
        assert len(tasks()) > 1


@pytest.mark.parametrize("end", ["close", "drain"])
async def test_nothing_but_the_block_is_left_after_the_end_inside_it(url: str, end: str) -> None:
    before = tasks()
    async with nats_anyio.connect(url) as nc:
        await nc.subscribe("a", callback=lambda _: None)
        await (nc.close() if end == "close" else nc.drain())
        await eventually(lambda: tasks() == before)
        with pytest.raises(ConnectionClosedError):
            await nc.publish("a")


@pytest.mark.parametrize("how", ["next", "iteration"])
async def test_the_first_message_that_is_there_is_given_without_a_checkpoint(url: str, how: str) -> None:
    async with nats_anyio.connect(url) as nc:
        sub = await nc.subscribe("a")
        await nc.publish("a", b"first")
        await nc.flush()
        with CancelScope() as scope:
            scope.cancel()  # a checkpoint would end the block
            message = await (sub.next() if how == "next" else anext(sub))
            assert message.data == b"first"
            how = "given"
        assert how == "given"


async def test_a_client_is_entered_once(url: str) -> None:
    connecting = nats_anyio.connect(url)
    async with connecting:
        with pytest.raises(LocalProtocolError, match="before"):
            await connecting.__aenter__()


async def test_misuse_shows_before_anything_is_dialled() -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        nats_anyio.connect("nats://127.0.0.1:1", options=nats_anyio.ConnectOptions(), name="x")
    with pytest.raises(ConfigurationError):
        nats_anyio.connect("http://127.0.0.1:1")


async def test_ready_options_are_taken(url: str) -> None:
    async with nats_anyio.connect(url, options=nats_anyio.ConnectOptions(name="ready")) as nc:
        assert nc.name == "ready"
        assert "'ready'" in repr(nc)


async def test_a_failed_connect_leaves_no_task(free_port: int) -> None:
    async with NoTaskLeft():
        with pytest.raises(NoServersError, match="refused"):
            async with nats_anyio.connect(f"nats://127.0.0.1:{free_port}"):
                pass


async def test_connecting_until_cancelled_leaves_no_task() -> None:
    with Peer([hold()]) as peer:
        async with NoTaskLeft():
            with anyio.move_on_after(0.05) as scope:
                async with nats_anyio.connect(peer.url, connect_timeout=60):
                    pass
            assert scope.cancelled_caught


async def test_the_first_connect_may_go_on_in_the_background(server: LocalServer) -> None:
    server.kill()
    log = EventLog()
    async with nats_anyio.connect(server.url, retry_on_failed_connect=True, on_event=log, **QUICK) as nc:
        assert nc.status is SessionStatus.RECONNECTING
        await nc.publish("early", b"1")
        async with nc.subscribe("early") as sub:
            server.start()
            await log.wait(Connected)
            assert (await sub.next(timeout=PATIENCE)).data == b"1"


async def test_a_block_that_is_left_while_reconnecting(server: LocalServer) -> None:
    async with NoTaskLeft(), nats_anyio.connect(server.url, reconnect_wait=60) as nc:
        server.kill()
        await eventually(lambda: nc.status is SessionStatus.RECONNECTING)


# --- exceptions come out as they are ---------------------------------------------------------------------------------


class Odd(BaseException):
    """Not an `Exception`."""


@pytest.mark.parametrize(
    "error", [ValueError("mine"), Odd("mine"), ExceptionGroup("mine", [ValueError()]), StopAsyncIteration()], ids=repr
)
async def test_an_exception_in_the_block_comes_out_as_itself(url: str, error: BaseException) -> None:
    async with NoTaskLeft():
        with pytest.raises(type(error)) as caught:  # noqa: PT012
            async with nats_anyio.connect(url) as nc:
                await nc.subscribe("a", callback=lambda _: None)
                raise error
        assert caught.value is error


async def test_an_exception_comes_out_as_itself_when_the_connection_breaks_as_well(server: LocalServer) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with nats_anyio.connect(server.url, allow_reconnect=False) as nc:
            server.kill()
            await eventually(lambda: nc.status is SessionStatus.CLOSED)
            raise ZeroDivisionError


async def test_an_exception_comes_out_as_itself_when_a_callback_raises_as_well(url: str) -> None:
    with pytest.raises(KeyError):  # noqa: PT012
        async with nats_anyio.connect(url) as nc:
            await nc.subscribe("a", callback=lambda _: 1 // 0)
            await nc.publish("a")
            await nc.flush()
            raise KeyError


async def test_what_is_raised_while_the_scope_around_is_cancelled(url: str) -> None:
    async with NoTaskLeft():
        with CancelScope() as scope, pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with nats_anyio.connect(url):
                scope.cancel()
                raise ZeroDivisionError


async def test_an_interrupt_in_a_callback_ends_the_block_and_comes_out(url: str) -> None:
    """On asyncio such an exception ends the loop itself; a class of one's own stands for it here."""
    with pytest.raises(Odd):  # noqa: PT012
        async with nats_anyio.connect(url) as nc:

            async def interrupted(_: nats_anyio.Message) -> None:
                raise Odd

            await nc.subscribe("a", callback=interrupted)
            await nc.publish("a")
            await anyio.sleep_forever()


@pytest.mark.parametrize(
    "defects", [["receive_data"], ["receive_data", "close"], ["data_to_send", "close"]], ids="+".join
)
async def test_a_defect_in_a_task_closes_the_client_and_leaves_nobody_waiting(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, defects: list[str]
) -> None:
    async with NoTaskLeft(), nats_anyio.connect(url) as nc:
        sub = await nc.subscribe("a")
        await nc.flush()
        ended: list[str] = []

        async def fails(name: str, call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(ConnectionClosedError):
                await call()
            ended.append(name)

        async def iterate() -> None:
            async for _ in sub:
                pass

        def defect(*_: object, **__: object) -> None:
            raise RuntimeError("a defect")

        with anyio.fail_after(PATIENCE), monkeypatch.context() as patched:
            async with anyio.create_task_group() as group:
                group.start_soon(fails, "next", sub.next)
                group.start_soon(fails, "iterate", iterate)
                await anyio.lowlevel.checkpoint()
                for name in defects:
                    patched.setattr(nc._hub.session, name, defect)
                group.start_soon(fails, "request", lambda: nc.request("a"))
                group.start_soon(fails, "flush", nc.flush)
        assert len(ended) == 4
    assert "defect" in caplog.text


# --- fixtures and frameworks -----------------------------------------------------------------------------------------


@pytest.fixture
async def client(url: str) -> AsyncIterator[nats_anyio.Client]:
    async with nats_anyio.connect(url) as nc:
        yield nc


async def test_an_async_generator_fixture(client: nats_anyio.Client) -> None:
    await client.subscribe("echo", callback=lambda message: message.respond(message.data))
    assert (await client.request("echo", b"1")).data == b"1"


async def test_an_async_generator_fixture_again(client: nats_anyio.Client) -> None:
    assert await client.rtt() > 0


async def test_the_lifespan_of_a_web_framework(url: str) -> None:
    @asynccontextmanager
    async def lifespan(app: dict[str, nats_anyio.Client]) -> AsyncIterator[None]:
        async with nats_anyio.connect(url) as nc:
            app["nats"] = nc
            yield

    async with NoTaskLeft():
        app: dict[str, nats_anyio.Client] = {}
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(lifespan(app))
            async with anyio.create_task_group() as requests:
                for _ in range(10):
                    requests.start_soon(app["nats"].flush)


def test_entered_by_one_task_and_left_by_another(shared_server: LocalServer) -> None:
    """As pytest-asyncio runs fixtures: each step in a task of its own."""

    async def fixture() -> AsyncIterator[nats_anyio.Client]:
        async with nats_anyio.connect(shared_server.url) as nc:
            yield nc

    async def serve(nc: nats_anyio.Client) -> None:
        await nc.subscribe("echo", callback=lambda message: message.respond(message.data))
        assert (await nc.request("echo", b"1")).data == b"1"

    async def others() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    with asyncio.Runner() as runner:
        generator = fixture()
        nc = runner.run(anext(generator))  # type: ignore[arg-type]  # an awaitable that is a coroutine in all but name
        runner.run(serve(nc))
        assert runner.run(nc.rtt()) > 0
        with pytest.raises(StopAsyncIteration):
            runner.run(anext(generator))  # type: ignore[arg-type]  # as above
        assert nc.status is SessionStatus.CLOSED
        assert runner.run(others()) == []


def test_a_generator_that_nobody_finishes_ends_with_the_loop(shared_server: LocalServer) -> None:
    async def fixture() -> AsyncIterator[nats_anyio.Client]:
        async with nats_anyio.connect(shared_server.url) as nc:
            yield nc

    async def main() -> nats_anyio.Client:
        return await anext(generator)

    generator = fixture()
    nc = asyncio.run(main())
    assert nc.status is SessionStatus.CLOSED


# --- closing -----------------------------------------------------------------------------------------------------


async def test_close_in_a_cancelled_scope_closes(url: str) -> None:
    async with nats_anyio.connect(url) as other, other.subscribe("last") as sub:
        await other.flush()
        async with nats_anyio.connect(url) as nc:
            completed = False
            with CancelScope() as scope:
                scope.cancel()
                await nc.publish("last", b"1")
                await nc.close()
                completed = True
            assert completed
            assert nc._hub.ended.is_set()
            assert (await sub.next(timeout=PATIENCE)).data == b"1"


async def test_what_was_published_in_a_cancelled_block_is_written(url: str) -> None:
    async with nats_anyio.connect(url) as other, other.subscribe("last") as sub:
        await other.flush()
        with CancelScope() as scope:
            async with nats_anyio.connect(url) as nc:
                for n in range(100):
                    await nc.publish("last", b"%d" % n)
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        got = [(await sub.next(timeout=PATIENCE)).data for _ in range(100)]
        assert got == [b"%d" % n for n in range(100)]


async def test_the_end_comes_with_the_last_byte_and_not_with_the_time(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_life_cycle, "CLOSE_GRACE", 60.0)
    log = EventLog()
    async with nats_anyio.connect(url, on_event=log) as nc:
        await nc.publish("last", b"x" * 500_000)
        await nc.close()
        assert nc._hub.ended.is_set()
    assert log[-1] == Closed(error=None)


async def test_leaving_while_the_peer_takes_nothing(url: str) -> None:
    with Peer([handshake(), freeze()], rcvbuf=4096) as peer:
        async with NoTaskLeft():
            with anyio.fail_after(PATIENCE):
                async with nats_anyio.connect(peer.url, ping_interval=0) as nc:
                    with anyio.move_on_after(0.2):
                        while True:
                            await nc.publish("big", b"x" * 100_000)
