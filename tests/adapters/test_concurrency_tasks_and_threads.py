"""What callbacks side by side take of each client: tasks that come and go, threads that others keep."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest

import nats_anyio
import nats_sync
from nats_anyio._engine.callbacks import MAX_IDLE
from nats_sync._engine import callbacks as _callbacks
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, eventually, threads_of


def callback_tasks() -> int:
    return sum("callback" in str(task.name) for task in anyio.get_running_tasks())


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_tasks_are_started_for_messages_and_end_without(server: LocalServer, anyio_backend: str) -> None:
    async with nats_anyio.connect(server.url) as nc:
        go_on = anyio.Event()
        running = 0

        async def handle(message: nats_anyio.Message) -> None:
            nonlocal running
            running += 1
            await go_on.wait()
            running -= 1

        await nc.subscribe("a", callback=handle, concurrency=50)
        await nc.flush()
        assert callback_tasks() == 1
        for _ in range(40):
            await nc.publish("a")
        with anyio.fail_after(PATIENCE):
            while running < 40:
                await anyio.sleep(0.001)
            assert callback_tasks() == 41  # one waits for what comes next
            go_on.set()
            while callback_tasks() > MAX_IDLE:
                await anyio.sleep(0.001)
        assert running == 0


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("end", ["drain", "maximum"])
async def test_no_task_is_busy_with_a_subscription_that_ended_with_messages_unread(
    server: LocalServer, anyio_backend: str, end: str
) -> None:
    async with nats_anyio.connect(server.url) as nc:
        go_on = anyio.Event()
        ended: list[bytes] = []

        async def handle(message: nats_anyio.Message) -> None:
            await go_on.wait()
            ended.append(message.data)

        sub = await nc.subscribe("a", callback=handle, concurrency=2)
        for n in range(7):
            await nc.publish("a", b"%d" % n)
        await nc.flush()
        if end == "maximum":
            await sub.unsubscribe(7)
        with anyio.fail_after(PATIENCE):
            if end == "drain":
                with pytest.raises(TimeoutError):
                    await sub.drain(timeout=0.05)
            while "CLOSED" not in repr(sub) or sub.pending[0] > 5:
                await anyio.sleep(0.001)
            go_on.set()
            while callback_tasks() > len(nc._hub.workers._idle):
                await anyio.sleep(0.001)
        assert sorted(ended) == [b"%d" % n for n in range(7)]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_that_is_cancelled_from_within_does_not_stop_the_others(
    server: LocalServer, anyio_backend: str
) -> None:
    async with nats_anyio.connect(server.url) as nc:
        go_on = anyio.Event()
        began: list[bytes] = []
        ended: list[bytes] = []

        async def handle(message: nats_anyio.Message) -> None:
            began.append(message.data)
            if message.data == b"2":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            await go_on.wait()
            ended.append(message.data)

        sub = await nc.subscribe("a", callback=handle, concurrency=3)
        for n in range(5):
            await nc.publish("a", b"%d" % n)
        with anyio.fail_after(PATIENCE):
            while len(began) < 4:  # the place of the one that was cancelled is free again
                await anyio.sleep(0.001)
            assert ended == []
            go_on.set()
            await sub.drain(timeout=PATIENCE)
        assert sorted(ended) == [b"0", b"1", b"3", b"4"]


def test_workers_are_started_when_needed_and_the_others_keep_theirs(server: LocalServer) -> None:
    with nats_sync.connect(server.url, name="wide") as client:
        permits = threading.Semaphore(0)
        running: list[int] = []

        def handle(message: nats_sync.Message) -> None:
            running.append(1)
            permits.acquire()

        before = len(threads_of("wide"))
        wide = client.subscribe("wide", callback=handle, concurrency=40)
        assert len(threads_of("wide")) == before
        narrow = [client.subscribe("narrow", callback=handle) for _ in range(_callbacks.MAX_WORKERS)]
        for _ in range(45):
            client.publish("wide")
        client.publish("narrow")
        eventually(lambda: len(running) == 40 + _callbacks.MAX_WORKERS)
        assert wide.pending[0] == 5
        assert len(threads_of("wide")) == before + 40 + _callbacks.MAX_WORKERS
        permits.release(5 + len(running))
        wide.drain(timeout=PATIENCE)
        for sub in narrow:
            sub.drain(timeout=PATIENCE)
        assert client._hub.callbacks._reserved == 0  # what was asked for goes with who asked


@pytest.mark.parametrize("end", ["unsubscribe", "drain"])
def test_what_was_reserved_is_given_back_also_without_a_message(server: LocalServer, end: str) -> None:
    with nats_sync.connect(server.url) as client:
        for _ in range(3):
            sub = client.subscribe("a", callback=print, concurrency=1000)
            assert client._hub.callbacks._reserved == 1000
            getattr(sub, end)()
            eventually(lambda: client._hub.callbacks._reserved == 0)
