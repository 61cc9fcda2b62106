"""The tasks that call callbacks: who is on duty, what becomes of a call that suspends, and of one that is cancelled."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from types import coroutine

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import sniffio

import nats_anyio
from nats_anyio._engine.callbacks import MAX_IDLE
from tests.adapters.cancelling import NoTaskLeft
from tests.adapters.legs import Collected, Flag, eventually

pytestmark = pytest.mark.anyio

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def callback_tasks() -> int:
    return sum("callback" in str(task.name) for task in anyio.get_running_tasks())


# --- how many there are ----------------------------------------------------------------------------------------------


async def test_subscriptions_that_have_no_messages_have_no_tasks(url: str) -> None:
    got: Collected[str] = Collected()
    async with NoTaskLeft(), nats_anyio.connect(url) as nc:
        assert callback_tasks() == 0
        for number in range(1000):
            await nc.subscribe(f"idle.{number}", callback=lambda message: got.add(message.subject))
        await nc.flush()
        assert callback_tasks() == 1
        for number in range(1000):
            await nc.publish(f"idle.{number}")
        assert await got.wait_len(1000) == [f"idle.{number}" for number in range(1000)]
        assert callback_tasks() == 1


async def test_a_call_that_suspends_takes_a_task_and_gives_it_back(url: str) -> None:
    go_on = Flag()
    begun: Collected[str] = Collected()
    ended: Collected[str] = Collected()

    async def wait(message: nats_anyio.Message) -> None:
        begun.add(message.subject)
        await go_on.wait()
        ended.add(message.subject)

    async with NoTaskLeft(), nats_anyio.connect(url) as nc:
        for number in range(100):
            await nc.subscribe(f"wait.{number}", callback=wait)
        for number in range(100):
            await nc.publish(f"wait.{number}")
        await begun.wait_len(100)
        assert callback_tasks() == 101  # and one that waits for messages
        go_on.set()
        await ended.wait_len(100)
        await eventually(lambda: callback_tasks() <= MAX_IDLE)
        for number in range(100):  # and the workers that are left do it all again
            await nc.publish(f"wait.{number}")
        await ended.wait_len(200)


async def test_two_workers_suffice_for_calls_that_suspend_one_after_the_other(url: str) -> None:
    got: Collected[bytes] = Collected()

    async def handle(message: nats_anyio.Message) -> None:
        await anyio.lowlevel.checkpoint()
        got.add(message.data)

    async with nats_anyio.connect(url) as nc:
        await nc.subscribe("a", callback=handle)
        for number in range(100):
            await nc.publish("a", b"%d" % number)
            await got.wait_len(number + 1)
            assert callback_tasks() <= 2
    assert list(got) == [b"%d" % number for number in range(100)]


# --- nobody waits for the callback of another -------------------------------------------------------------------------


async def test_no_subscription_waits_for_the_callback_of_another(url: str) -> None:
    go_on = Flag()
    begun: Collected[str] = Collected()
    got: Collected[str] = Collected()

    async def wait(message: nats_anyio.Message) -> None:
        begun.add(message.subject)
        await go_on.wait()
        got.add(message.subject)

    async with nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        for number in range(10):
            await nc.subscribe(f"wait.{number}", callback=wait)
        await nc.subscribe("plain", callback=lambda message: got.add(message.subject))
        await nc.flush()
        for number in range(10):  # they come together, the plain one last
            await other.publish(f"wait.{number}")
        await other.publish("plain")
        assert await got.wait_len(1) == ["plain"]
        await other.publish("plain")
        assert await got.wait_len(2) == ["plain"] * 2
        assert len(begun) == 10
        go_on.set()
        await got.wait_len(12)


async def test_the_order_of_each_subscription_stands_whoever_calls(url: str) -> None:
    got: dict[str, list[int]] = {f"a.{number}": [] for number in range(20)}
    count: Collected[None] = Collected()

    async def handle(message: nats_anyio.Message) -> None:
        number = int(message.data)
        for _ in range(number % 4):
            await anyio.lowlevel.checkpoint()
        got[message.subject].append(number)
        count.add(None)
        if number % 7 == 3:
            raise ValueError("on purpose")

    async with nats_anyio.connect(url) as nc:
        for subject in got:
            await nc.subscribe(subject, callback=handle)
        for number in range(2000):
            await nc.publish(f"a.{number % 20}", b"%d" % number)
        await count.wait_len(2000)
    assert got == {f"a.{first}": list(range(first, 2000, 20)) for first in range(20)}


# --- contexts --------------------------------------------------------------------------------------------------------


async def test_each_step_of_a_call_has_the_context_of_its_subscription(url: str) -> None:
    seen: Collected[tuple[str, str, str]] = Collected()

    async def handle(message: nats_anyio.Message) -> None:
        before = TENANT.get()
        TENANT.set(f"{message.subject} {message.data.decode()}")
        await anyio.lowlevel.checkpoint()
        between = TENANT.get()
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        async with anyio.create_task_group() as group:
            group.start_soon(_set_in_child)
        assert TENANT.get() == between
        assert await anyio.to_thread.run_sync(TENANT.get) == between
        seen.add((message.subject, before, between))

    async def _set_in_child() -> None:
        TENANT.set("child")

    async with nats_anyio.connect(url) as nc:
        for subject in ("a", "b"):
            await nc.subscribe(subject, callback=handle)
        for number in range(3):
            for subject in ("a", "b"):
                await nc.publish(subject, b"%d" % number)
        await seen.wait_len(6)
    for subject in ("a", "b"):
        steps = [step for step in seen if step[0] == subject]
        assert [step[2] for step in steps] == [f"{subject} 0", f"{subject} 1", f"{subject} 2"]
        assert [step[1] for step in steps] == ["nobody", f"{subject} 0", f"{subject} 1"]
    assert TENANT.get() == "nobody"


async def test_calls_at_once_have_a_context_each(url: str) -> None:
    door = Flag()
    seen: Collected[str] = Collected()
    begun: Collected[bytes] = Collected()

    async def handle(message: nats_anyio.Message) -> None:
        assert TENANT.get() == "subscriber"
        TENANT.set(message.data.decode())
        begun.add(message.data)
        await door.wait()
        assert TENANT.get() == message.data.decode()
        seen.add(TENANT.get())

    async with nats_anyio.connect(url) as nc:
        token = TENANT.set("subscriber")
        await nc.subscribe("a", callback=handle, concurrency=5)
        TENANT.reset(token)
        for number in range(5):
            await nc.publish("a", b"%d" % number)
        await begun.wait_len(5)
        door.set()
        assert sorted(await seen.wait_len(5)) == ["0", "1", "2", "3", "4"]


# --- what can be awaited ---------------------------------------------------------------------------------------------


class Later:
    """An object to be awaited that is no coroutine."""

    def __init__(self, done: Callable[[], None], steps: int) -> None:
        self._done = done
        self._steps = steps

    def __await__(self) -> Generator[object, object, None]:
        for _ in range(self._steps):
            yield from anyio.lowlevel.checkpoint().__await__()
        self._done()


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("kind", ["object", "generator", "mixed"])
async def test_whatever_can_be_awaited_is_awaited(url: str, kind: str, steps: int) -> None:
    got: Collected[bytes] = Collected()

    @coroutine
    def by_generator(message: nats_anyio.Message) -> Generator[object, object, None]:
        yield from Later(lambda: got.add(message.data), steps).__await__()

    def handle(message: nats_anyio.Message) -> object:
        if kind == "generator":
            return by_generator(message)
        if kind == "mixed" and int(message.data) % 2:
            got.add(message.data)
            return "this is not to be awaited"
        return Later(lambda: got.add(message.data), steps)

    async with nats_anyio.connect(url) as nc:
        await nc.subscribe("a", callback=handle)
        for number in range(10):
            await nc.publish("a", b"%d" % number)
        assert await got.wait_len(10) == [b"%d" % number for number in range(10)]


async def test_what_is_there_for_tasks_works_in_callbacks(url: str) -> None:
    done: Collected[str] = Collected()
    library = sniffio.current_async_library()

    @asynccontextmanager
    async def managed() -> AsyncGenerator[int, None]:
        await anyio.lowlevel.checkpoint()
        yield 1
        await anyio.lowlevel.checkpoint()

    async def handle(message: nats_anyio.Message) -> None:
        assert sniffio.current_async_library() == library
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.001):
            await anyio.sleep_forever()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        async with managed() as one:
            assert one == 1
        assert await anyio.to_thread.run_sync(anyio.from_thread.run, nc.rtt) >= 0
        reply = await nc.request("echo", b"1")
        done.add(reply.data.decode())

    async with nats_anyio.connect(url) as nc:
        await nc.subscribe("a", callback=handle)
        await nc.subscribe("echo", callback=lambda message: message.respond(message.data))
        await nc.publish("a")
        await nc.publish("a")
        assert await done.wait_len(2) == ["1", "1"]


async def test_an_error_in_a_callback_has_no_context_of_the_workers(url: str, caplog: pytest.LogCaptureFixture) -> None:
    got: Collected[bytes] = Collected()

    async def handle(message: nats_anyio.Message) -> None:
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        got.add(message.data)
        raise LookupError("plain")

    async with nats_anyio.connect(url) as nc:
        await nc.subscribe("a", callback=handle)
        await nc.publish("a")
        await got.wait_len(1)
        await eventually(lambda: "raised" in caplog.text)
    (error,) = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert isinstance(error, LookupError)
    assert error.__context__ is None


# --- cancelled tasks -------------------------------------------------------------------------------------------------


async def test_a_plain_callback_that_cancels_its_task_costs_no_call_of_another(
    anyio_backend: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    if anyio_backend == "trio":
        return  # where nobody cancels a task
    got: Collected[str] = Collected()

    def cancel(message: nats_anyio.Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def handle(message: nats_anyio.Message) -> None:
        await anyio.lowlevel.checkpoint()
        got.add(message.subject)

    async with NoTaskLeft(), nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        await nc.subscribe("cancel", callback=cancel)
        for number in range(3):
            await nc.subscribe(f"a.{number}", callback=handle)
        await nc.flush()
        for _ in range(3):  # they come together, and the one that cancels first
            await other.publish("cancel")
            for number in range(3):
                await other.publish(f"a.{number}")
        assert sorted(await got.wait_len(9)) == ["a.0"] * 3 + ["a.1"] * 3 + ["a.2"] * 3
    assert "cancelled from within" in caplog.text


@pytest.mark.parametrize("which", ["waiting for messages", "in a call", "in a call while another is on duty"])
async def test_a_worker_that_somebody_cancels_is_replaced(anyio_backend: str, url: str, which: str) -> None:
    if anyio_backend == "trio":
        return  # where nobody cancels a task
    got: Collected[str] = Collected()
    begun: Collected[asyncio.Task[object]] = Collected()
    go_on = Flag()

    async def handle(message: nats_anyio.Message) -> None:
        if message.data == b"wait":
            task = asyncio.current_task()
            assert task is not None
            begun.add(task)
            await go_on.wait()
        got.add(f"{message.subject} {message.data.decode()}")

    async with NoTaskLeft(), nats_anyio.connect(url) as nc:
        for subject in ("a", "b"):
            await nc.subscribe(subject, callback=handle)
        await nc.publish("a", b"0")
        await got.wait_len(1)
        if which == "waiting for messages":
            for task in asyncio.all_tasks():
                if "callbacks" in task.get_name():
                    task.cancel()
        else:
            await nc.publish("a", b"wait")
            await nc.publish("a", b"1")
            await nc.flush()
            (victim,) = await begun.wait_len(1)
            if which != "in a call":
                await nc.publish("b", b"wait")
                await begun.wait_len(2)
            victim.cancel()
            assert await got.wait_len(2) == ["a 0", "a 1"]  # what it was in the midst of is lost, and no more
            go_on.set()
        await nc.publish("b", b"2")
        await got.wait_for("b 2".__eq__)
        await nc.publish("a", b"3")
        await got.wait_for("a 3".__eq__)


async def test_a_cancellation_that_a_callback_catches_costs_one_turn_and_no_call(anyio_backend: str, url: str) -> None:
    if anyio_backend == "trio":
        return  # where nobody cancels a task
    got: Collected[bytes] = Collected()

    async def handle(message: nats_anyio.Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            got.add(message.data)

    async with nats_anyio.connect(url) as nc:
        await nc.subscribe("a", callback=handle)
        for number in range(10):
            await nc.publish("a", b"%d" % number)
        assert await got.wait_len(10) == [b"%d" % number for number in range(10)]


async def test_a_close_in_the_midst_of_calls_begins_no_other(url: str) -> None:
    begun: Collected[bytes] = Collected()

    async def handle(message: nats_anyio.Message) -> None:
        begun.add(message.data)
        await anyio.sleep_forever()

    async with NoTaskLeft(), nats_anyio.connect(url) as nc:
        sub = await nc.subscribe("a", callback=handle)
        for number in range(3):
            await nc.publish("a", b"%d" % number)
        await begun.wait_len(1)
        await eventually(lambda: sub.pending[0] == 2)
    assert list(begun) == [b"0"]


# --- ends ------------------------------------------------------------------------------------------------------------


async def test_a_subscription_that_has_ended_is_forgotten(url: str) -> None:
    got: Collected[bytes] = Collected()

    class Handler:
        def __call__(self, message: nats_anyio.Message) -> None:
            got.add(message.data)

    async with nats_anyio.connect(url) as nc:
        handler = Handler()
        sub = await nc.subscribe("a", callback=handler)
        await nc.publish("a")
        await got.wait_len(1)
        gone = weakref.ref(sub), weakref.ref(handler)
        await sub.unsubscribe()
        gc.disable()
        try:
            del sub, handler
            await nc.flush()
            assert [each() for each in gone] == [None, None]
        finally:
            gc.enable()


async def test_the_workers_end_with_the_client_inside_the_block(url: str) -> None:
    got: Collected[bytes] = Collected()

    async def handle(message: nats_anyio.Message) -> None:
        await anyio.lowlevel.checkpoint()
        got.add(message.data)

    async with nats_anyio.connect(url) as nc:
        await nc.subscribe("a", callback=handle)
        for number in range(100):
            await nc.publish("a", b"%d" % number)
        await nc.drain()
        await eventually(lambda: callback_tasks() == 0)
    assert list(got) == [b"%d" % number for number in range(100)]


async def test_a_copy_of_the_context_may_be_entered_in_a_callback(url: str) -> None:
    got: Collected[str] = Collected()

    def handle(message: nats_anyio.Message) -> Awaitable[None]:
        context = copy_context()
        context.run(TENANT.set, "inner")
        got.add(TENANT.get())
        return message.respond(b"")

    async with nats_anyio.connect(url) as nc:
        await nc.subscribe("a", callback=handle)
        await nc.request("a")
    assert list(got) == ["nobody"]
