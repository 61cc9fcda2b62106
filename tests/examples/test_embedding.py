"""The embedding examples against a real server, through one conformance check."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

import nats_sync
from examples.embedding.asyncio_protocol import Driver
from examples.embedding.machine import items
from examples.embedding.selectors_loop import Loop
from nats_proto import (
    Closed,
    Connected,
    ConnectOptions,
    Disconnected,
    FlushCompleted,
    Message,
    Reconnected,
    ReplyReceived,
    RequestFailed,
    Session,
    SessionEvent,
)
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE
from tests.machines import SERVICE, Numbers
from tests.transports import Transport

EXAMPLES = Path(__file__).parents[2] / "examples" / "embedding"
OPTIONS = ConnectOptions(reconnect_wait=0.05, reconnect_jitter=0.01, reconnect_jitter_tls=0.01, connect_timeout=10.0)

everywhere = pytest.mark.transports("tcp", "tls", "wss")

Wait = Callable[[Callable[[], bool]], Awaitable[bool]]


async def conformance(session: Session[Message], events: list[SessionEvent], wait: Wait, server: LocalServer) -> None:
    """What every driver of the core must get right, reconnecting included. The session was just started."""
    sub = session.subscribe("check.>")
    assert await wait(lambda: any(isinstance(event, Connected) for event in events))
    for number in range(100):
        session.publish(f"check.{number}", b"x" * number, headers={"Number": str(number)})
    big = bytes(range(256)) * 2048
    session.publish("check.big", big)
    assert await wait(lambda: sub.pending_msgs == 101)
    messages = sub.take(200)
    assert [message.data for message in messages[:100]] == [b"x" * number for number in range(100)]
    assert [message.headers["Number"] for message in messages[:100] if message.headers] == list(map(str, range(100)))
    assert messages[100].data == big

    flush = session.flush()
    assert await wait(lambda: FlushCompleted(flush) in events)

    session.subscribe("service", max_msgs=1)
    request = session.request("service", b"answer me")
    service = session.request("nobody.listens")
    assert await wait(lambda: any(isinstance(e, RequestFailed) and e.token == service for e in events))
    assert not any(isinstance(e, ReplyReceived) and e.token == request for e in events)

    server.kill()
    assert await wait(lambda: any(isinstance(event, Disconnected) for event in events))
    for number in range(50):
        session.publish(f"check.later.{number}", str(number).encode())
    server.start()
    assert await wait(lambda: any(isinstance(event, Reconnected) for event in events))
    assert await wait(lambda: sub.pending_msgs == 50)
    assert [message.data for message in sub.take(100)] == [str(number).encode() for number in range(50)]


@everywhere
def test_selectors_loop(server: LocalServer, transport: Transport) -> None:
    loop = Loop(server.url, replace(OPTIONS, **transport.options))

    async def wait(done: Callable[[], bool]) -> bool:
        return loop.run_until(done, PATIENCE)

    loop.connect()
    asyncio.run(conformance(loop.session, loop.events, wait, server))
    loop.close()
    assert isinstance(loop.events[-1], Closed)


@everywhere
def test_asyncio_protocol(server: LocalServer, transport: Transport) -> None:
    async def run() -> list[SessionEvent]:
        driver = Driver(server.url, replace(OPTIONS, **transport.options))

        async def wait(done: Callable[[], bool]) -> bool:
            return await driver.run_until(done, PATIENCE)

        driver.connect()
        await conformance(driver.session, driver.events, wait, server)
        await driver.close()
        return driver.events

    assert isinstance(asyncio.run(run())[-1], Closed)


def test_a_machine_in_a_loop_of_its_own(server: LocalServer) -> None:
    """The one that the drivers of both clients run as well: with a call, a timer, other subscriptions and marks."""
    asked: list[int] = []

    def serve(message: nats_sync.Message) -> None:
        """Numbers from the one that was asked for: the first time one is missing, then all are, then they stop."""
        first, inbox = message.data.decode().split()
        asked.append(int(first))
        if len(asked) == 2:
            return
        message.respond(first.encode())
        for number in range(int(first), 20 if len(asked) == 3 else 30):
            if number != 10 * len(asked):
                other.publish(inbox, b"%d" % number)

    given: list[str] = []
    loop = Loop(server.url, OPTIONS)
    loop.connect()
    with nats_sync.connect(server.url) as other:
        other.subscribe(SERVICE, callback=serve)
        other.flush()
        # For as long a busy machine may stand still, and the machine waits when it is not answered.
        machine = Numbers(30, loop.session.new_inbox, now=time.monotonic(), idle=3.0)
        for item in items(loop, machine):
            given.append(item)
            if len(given) == 15:
                machine.idle = 1000.0  # nothing but the mark helps it when the numbers stop
                loop.session.reconnect(now=time.monotonic())
    loop.close()
    assert given == [f"number {n}" for n in range(30)]
    assert asked[:3] == [0, 10, 10]  # and from where it had come to, when the connection was replaced
    assert machine.replaced == 1


@pytest.mark.parametrize("name", ["selectors_loop.py", "asyncio_protocol.py", "machine.py"])
def test_runs_as_written_and_stays_short(server: LocalServer, name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 150
    command = [sys.executable, str(EXAMPLES / name), server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "hello from" in done.stdout
    assert not done.stderr
