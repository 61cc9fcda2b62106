"""A ``reconnect_delay`` that raises or returns what it should not: the usual wait is used, and the log says so once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import nats_sync
from nats_proto import MAX_SECONDS, Reconnecting, SessionStatus
from nats_proto.errors import ConfigurationError, NoServersError
from nats_sync.testing import LocalServer
from tests.adapters.legs import QUICK, Collected, EventLog, Leg, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]


class Own(BaseException):
    """No `Exception`."""


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Odd:
    """Its conversion fails by more than an `Exception`."""

    def __float__(self) -> float:
        raise Own


def raising(error: BaseException) -> Callable[[int], float]:
    def delay(rounds: int) -> float:
        raise error

    return delay


RAISED: list[BaseException] = [
    *(RuntimeError("boom"), Mute(), ExceptionGroup("g", [ValueError("1")]), MemoryError()),
    *(SystemExit(3), GeneratorExit(), asyncio.CancelledError("mine"), Own("mine")),
]
RETURNED: list[object] = [None, "soon", math.nan, math.inf, -1.0, 10**400, Odd(), [2]]
KINDS: list[tuple[Callable[[int], object], str]] = [
    *((raising(error), f"raised {type(error).__name__}") for error in RAISED),
    (raising(StopIteration(1)), "raised"),  # Python makes it a RuntimeError on its way through a task
    *((lambda rounds, said=said: said, "returned") for said in RETURNED),
]


async def survives(
    leg: Leg, server: LocalServer, delay: Callable[[int], object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    events = EventLog()
    with caplog.at_level(logging.ERROR):
        async with leg.connect(server.url, reconnect_delay=delay, on_event=events, **QUICK) as nc:
            server.kill()
            await events.wait(Reconnecting, count=4)
            assert nc.last_error is not None
            server.start()
            await eventually(lambda: nc.stats.reconnects == 1)
            await nc.flush()
    told = [record for record in caplog.records if "reconnect_delay" in record.getMessage()]
    assert len(told) == 1
    assert said in told[0].getMessage()


@pytest.mark.parametrize(("delay", "said"), KINDS, ids=[str(number) for number in range(len(KINDS))])
async def test_whatever_reconnect_delay_does_is_survived(
    leg: Leg,
    server: LocalServer,
    delay: Callable[[int], object],
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await survives(leg, server, delay, said, caplog)


async def test_an_interrupt_is_survived_by_threads_and_ends_tasks(
    leg: Leg, server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    delay = raising(KeyboardInterrupt())
    if leg.name == "threads":
        await survives(leg, server, delay, "raised KeyboardInterrupt", caplog)
        return

    async def interrupted() -> None:
        async with leg.connect(server.url, reconnect_delay=delay, **QUICK) as nc:
            server.kill()
            await eventually(lambda: nc.status is SessionStatus.CLOSED)

    with pytest.raises(KeyboardInterrupt):
        await interrupted()


async def test_a_huge_delay_is_a_wait_that_reconnect_ends(leg: Leg, server: LocalServer) -> None:
    events = EventLog()
    async with leg.connect(server.url, reconnect_delay=lambda rounds: 1e300, on_event=events, **QUICK) as nc:
        server.kill()
        await events.wait_for(lambda event: isinstance(event, Reconnecting) and event.delay == MAX_SECONDS)
        server.start()
        await nc.reconnect()
        await eventually(lambda: nc.stats.reconnects == 1)
        await nc.flush()


async def test_an_async_function_is_awaited_by_tasks_and_refused_by_threads(leg: Leg, server: LocalServer) -> None:
    asked: list[int] = []

    async def delay(rounds: int) -> float:
        asked.append(rounds)
        await anyio.lowlevel.checkpoint()
        return 0.01

    if leg.name == "threads":
        with pytest.raises(ConfigurationError, match=r"^reconnect_delay: it is an async function"):
            nats_sync.connect(server.url, reconnect_delay=delay)
        return
    options: dict[str, Any] = {"reconnect_wait": 0.0, "reconnect_jitter": 0.0}
    for function in (delay, lambda rounds: delay(rounds)):
        asked.clear()
        async with leg.connect(server.url, reconnect_delay=function, **options) as nc:
            server.kill()
            await eventually(lambda: len(asked) >= 3)
            server.start()
            await eventually(lambda: nc.stats.reconnects == 1)
        assert asked[:3] == [1, 2, 3]


async def test_a_coroutine_that_threads_cannot_await_is_no_delay(
    leg: Leg, server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def delay() -> float:
        raise AssertionError("it was awaited")

    if leg.name == "threads":
        said = "returned coroutine, which this client cannot await"
        await survives(leg, server, lambda rounds: delay(), said, caplog)


@contextlib.asynccontextmanager
async def hastily(leg: Leg, url: str, **options: Any) -> AsyncIterator[Any]:
    """A client that gives everything a tenth of a second, which its first connection may take some tries for."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            with contextlib.suppress(NoServersError):
                client = await stack.enter_async_context(leg.connect(url, connect_timeout=0.1, **options))
                break
        yield client


@pytest.mark.parametrize("awaits", [False, True])
async def test_attempts_go_on_while_a_reconnect_delay_hangs(
    leg: Leg, server: LocalServer, caplog: pytest.LogCaptureFixture, awaits: bool
) -> None:
    """It is called once at a time, though each round would ask; an ``async`` one is given up when its time is up."""
    if awaits and leg.name == "threads":
        return
    release = threading.Event()
    asked: list[int] = []
    ended: list[int] = []
    events = EventLog()

    def hang(rounds: int) -> float:
        asked.append(rounds)
        release.wait()
        return 3600.0

    async def sleep(rounds: int) -> float:
        asked.append(rounds)
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(rounds)
        raise AssertionError

    try:
        with caplog.at_level(logging.ERROR):
            async with hastily(
                leg, server.url, reconnect_delay=sleep if awaits else hang, on_event=events, **QUICK
            ) as nc:
                server.kill()
                await events.wait(Reconnecting, count=4)
                if awaits:  # on a slow machine the next question may have been asked by now
                    assert asked[:3] == [1, 2, 3]
                    await eventually(lambda: ended[:3] == [1, 2, 3])
                else:
                    assert asked == [1]
                server.start()
                await eventually(lambda: nc.stats.reconnects == 1)
                await nc.flush()
    finally:
        release.set()
    told = [record.getMessage() for record in caplog.records if "reconnect_delay" in record.getMessage()]
    assert told == ["reconnect_delay did not return within 0.1 s; the usual wait is used (told once)"]


@pytest.mark.parametrize("awaits", [False, True])
async def test_reconnect_ends_the_question(leg: Leg, server: LocalServer, awaits: bool) -> None:
    if awaits and leg.name == "threads":
        return
    release = threading.Event()
    asked: Collected[int] = Collected()

    def hang(rounds: int) -> float:
        asked.add(rounds)
        release.wait()
        return 3600.0

    async def sleep(rounds: int) -> float:
        asked.add(rounds)
        await anyio.sleep_forever()
        raise AssertionError

    options: dict[str, Any] = {"connect_timeout": 3600.0, "reconnect_wait": 3600.0, "reconnect_jitter": 0.0}
    try:
        async with leg.connect(server.url, reconnect_delay=sleep if awaits else hang, **options) as nc:
            server.kill()
            await nc.reconnect()  # the first attempt comes at once, and fails
            await asked.wait_len(1)
            server.start()
            await nc.reconnect()
            await eventually(lambda: nc.stats.reconnects == 1)
            await nc.flush()
    finally:
        release.set()


async def test_a_task_that_somebody_else_cancels_has_no_answer(leg: Leg, server: LocalServer) -> None:
    """The time for the answer is up then, and nothing else comes of it."""
    if leg.name != "asyncio":
        return  # nobody else can
    asked: Collected[int] = Collected()

    async def sleep(rounds: int) -> float:
        asked.add(rounds)
        await anyio.sleep_forever()
        raise AssertionError

    events = EventLog()
    async with hastily(leg, server.url, reconnect_delay=sleep, on_event=events, **QUICK) as nc:
        server.kill()
        victims: list[asyncio.Task[Any]] = []
        while not victims:  # its time may be up before it is found
            await asked.wait_len(len(asked) + 1)
            victims = [task for task in asyncio.all_tasks() if task.get_name() == "nats delay"]
        victims[0].cancel()
        await asked.wait_len(len(asked) + 2)
        server.start()
        await eventually(lambda: nc.stats.reconnects == 1)
        await nc.flush()
