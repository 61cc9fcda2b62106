"""Callbacks that the task that reads calls in place of a worker, on trio: which, and what becomes of them."""

from __future__ import annotations

from collections.abc import Awaitable

import anyio
import anyio.lowlevel
import pytest
import trio

import nats_anyio
from nats_anyio._engine.callbacks import FEW
from tests.adapters.cancelling import NoTaskLeft
from tests.adapters.legs import Collected, Flag

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


def callers() -> Collected[tuple[bytes, str]]:
    """What came, and the name of the task that it was given in."""
    return Collected()


def here() -> str:
    return trio.lowlevel.current_task().name


READER, WORKER = "nats connection", "nats callbacks"


async def alone(other: nats_anyio.Client, data: bytes, subject: str = "a") -> None:
    """Publish so that it comes in a chunk of its own."""
    await other.publish(subject, data)
    await other.flush()


def chunk(nc: nats_anyio.Client, sub: nats_anyio.Subscription, *payloads: bytes) -> None:
    """Receive these in one chunk, in the calling task."""
    data = b"".join(b"MSG a %d %d\r\n%b\r\n" % (sub._state.sid, len(each), each) for each in payloads)
    nc._hub.session.receive_data(data, now=nc._hub.now())
    nc._hub.received()


async def test_the_task_that_reads_calls_a_plain_callback(url: str) -> None:
    got = callers()
    async with NoTaskLeft(), nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        hub = nc._hub

        def handle(message: nats_anyio.Message) -> None:
            assert hub.is_handler()
            assert hub.is_own_task()
            assert hub.workers.is_calling(anyio.get_current_task().id, sub._state)
            got.add((message.data, here()))

        sub = await nc.subscribe("a", callback=handle)
        await nc.flush()
        for number in range(3):
            await alone(other, b"%d" % number)
            await got.wait_len(number + 1)
            assert not hub.is_handler()
        assert [*got] == [(b"0", READER), (b"1", READER), (b"2", READER)]


@pytest.mark.parametrize(("count", "in_place"), [(1, True), (FEW, True), (FEW + 1, False)])
async def test_many_messages_are_left_to_a_worker(url: str, count: int, in_place: bool) -> None:
    got = callers()
    async with NoTaskLeft(), nats_anyio.connect(url) as nc:
        sub = await nc.subscribe("a", callback=lambda message: got.add((message.data, here())))
        await nc.flush()  # the first worker was on duty, and waits now
        chunk(nc, sub, *(b"%d" % number for number in range(count)))
        assert len(got) == (count if in_place else 0)
        task = here() if in_place else WORKER
        assert await got.wait_len(count) == [(b"%d" % number, task) for number in range(count)]


async def test_two_callbacks_are_left_to_a_worker(url: str) -> None:
    got = callers()
    async with NoTaskLeft(), nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        for name in ("one", "two"):
            await nc.subscribe("a", callback=lambda message, name=name: got.add((name.encode(), here())))
        await nc.flush()
        await other.publish("a")
        assert sorted(name for name, _ in await got.wait_len(2)) == [b"one", b"two"]


async def test_a_worker_on_duty_is_left_its_work(url: str) -> None:
    """What comes while a worker was called out and has not begun is its work, behind what it was called for."""
    got = callers()
    async with NoTaskLeft(), nats_anyio.connect(url) as nc:
        sub = await nc.subscribe("a", callback=lambda message: got.add((message.data, here())))
        await nc.flush()
        first = [b"%d" % number for number in range(FEW + 1)]
        chunk(nc, sub, *first)
        chunk(nc, sub, b"last")
        assert len(got) == 0
        assert await got.wait_len(FEW + 2) == [(data, WORKER) for data in (*first, b"last")]


async def test_a_coroutine_function_is_left_to_a_worker(url: str) -> None:
    got = callers()

    async def handle(message: nats_anyio.Message) -> None:
        got.add((message.data, here()))

    async with NoTaskLeft(), nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        await nc.subscribe("a", callback=handle)
        await nc.flush()
        await alone(other, b"0")
        assert await got.wait_len(1) == [(b"0", WORKER)]


async def test_what_is_to_be_awaited_is_awaited_in_a_task_of_its_own(url: str) -> None:
    """Nothing else waits for it, its own subscription keeps its order, and the client its drain."""
    go_on = Flag()
    called: Collected[bytes] = Collected()
    got, others = callers(), callers()

    def handle(message: nats_anyio.Message) -> Awaitable[None]:
        async def work() -> None:
            await go_on.wait()
            got.add((message.data, here()))

        called.add(message.data)
        return work()

    async with NoTaskLeft(), nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        await nc.subscribe("a", callback=handle)
        await nc.subscribe("b", callback=lambda message: others.add((message.data, here())))
        await nc.flush()
        for data in (b"0", b"1", b"2"):
            await alone(other, data)
            await called.wait_len(1)
        await alone(other, b"beside", subject="b")
        assert await others.wait_len(1) == [(b"beside", READER)]
        assert [*called] == [b"0"]
        async with anyio.create_task_group() as group:
            group.start_soon(nc.drain)
            await anyio.lowlevel.checkpoint()
            go_on.set()
        assert [*got] == [(b"0", WORKER), (b"1", WORKER), (b"2", WORKER)]
    assert [*called] == [b"0", b"1", b"2"]


async def test_once_it_was_awaited_the_workers_call_it(url: str) -> None:
    got = callers()

    def handle(message: nats_anyio.Message) -> Awaitable[None]:
        got.add((message.data, here()))
        return anyio.lowlevel.checkpoint()

    async with NoTaskLeft(), nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        await nc.subscribe("a", callback=handle)
        await nc.flush()
        for number in range(3):
            await alone(other, b"%d" % number)
            await got.wait_len(number + 1)
        assert [*got] == [(b"0", READER), (b"1", WORKER), (b"2", WORKER)]


async def test_what_it_raises_is_logged_and_the_next_call_follows(url: str, caplog: pytest.LogCaptureFixture) -> None:
    got = callers()

    def handle(message: nats_anyio.Message) -> None:
        if message.data == b"bad":
            raise LookupError("nowhere")
        got.add((message.data, here()))

    async with NoTaskLeft(), nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        await nc.subscribe("a", callback=handle)
        await nc.flush()
        for data in (b"bad", b"0", b"1"):
            await alone(other, data)
        assert await got.wait_len(2) == [(b"0", READER), (b"1", READER)]
    assert "nowhere" in caplog.text


class Stop(BaseException):
    pass


async def test_what_is_no_exception_comes_out_of_the_block(url: str) -> None:
    """As from a worker: nobody swallows it, and no task is left."""

    def handle(message: nats_anyio.Message) -> None:
        raise Stop(here())

    stopped: list[str] = []
    async with NoTaskLeft(), nats_anyio.connect(url) as other:
        try:
            async with nats_anyio.connect(url) as nc:
                await nc.subscribe("a", callback=handle)
                await nc.flush()
                await alone(other, b"0")
                await anyio.sleep_forever()
        except Stop as stop:
            stopped.append(str(stop))
    assert stopped == [READER]


async def test_a_callback_that_ends_its_client_in_place(url: str) -> None:
    got = callers()
    async with NoTaskLeft(), nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        async with anyio.create_task_group() as group:

            def handle(message: nats_anyio.Message) -> None:
                got.add((message.data, here()))
                group.start_soon(nc.drain)

            await nc.subscribe("a", callback=handle)
            await nc.flush()
            await alone(other, b"0")
            await got.wait_len(1)
        assert [*got] == [(b"0", READER)]
