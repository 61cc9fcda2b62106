"""A ``reconnect_delay`` that raises or returns what it should not: the usual wait is used, and the log says so once."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

import pytest

from nats_anyio._engine.delays import Delays
from nats_proto import MAX_SECONDS, Reconnecting
from nats_sync.testing import LocalServer
from tests.adapters.legs import QUICK, EventLog, Leg, eventually

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
    *(RuntimeError("boom"), Mute(), StopIteration(1), ExceptionGroup("g", [ValueError("1")]), MemoryError()),
    *(SystemExit(3), GeneratorExit(), asyncio.CancelledError("mine"), Own("mine")),
]
RETURNED: list[object] = [None, "soon", math.nan, math.inf, -1.0, 10**400, Odd(), [2]]
KINDS: list[tuple[Callable[[int], object], str]] = [
    *((raising(error), f"raised {type(error).__name__}") for error in RAISED),
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
    """A thread of the client's own is not where Ctrl-C is raised; the thread that runs an event loop is."""
    delay = raising(KeyboardInterrupt())
    if leg.name == "threads":
        await survives(leg, server, delay, "raised KeyboardInterrupt", caplog)
    else:
        with pytest.raises(KeyboardInterrupt):
            Delays(delay)(1)


async def test_a_huge_delay_is_a_wait_that_reconnect_ends(leg: Leg, server: LocalServer) -> None:
    events = EventLog()
    async with leg.connect(server.url, reconnect_delay=lambda rounds: 1e300, on_event=events, **QUICK) as nc:
        server.kill()
        await events.wait_for(lambda event: isinstance(event, Reconnecting) and event.delay == MAX_SECONDS)
        server.start()
        await nc.reconnect()
        await eventually(lambda: nc.stats.reconnects == 1)
        await nc.flush()
