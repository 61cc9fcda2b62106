"""``on_event``, callbacks and the log: complete, in order, and harmless whatever the user's code does."""

from __future__ import annotations

import logging
import time

import anyio
import pytest

from nats_proto import Closed, Connected, Disconnected, Reconnected, ServerErrorReceived, SessionStatus
from nats_proto.errors import NoServersError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, Collected, EventLog, Flag, Leg, eventually
from tests.faults.peer import Peer, handshake, hold, send

pytestmark = pytest.mark.anyio


async def test_the_whole_story_in_order(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    async with leg.connect(server.url, on_event=log, **QUICK) as client:
        for n in range(3):
            server.restart()
            await log.wait(Reconnected, count=n + 1)
        await client.close()
    names = [name for name in log.names if name != "Reconnecting"]
    assert names == ["Connected", *["Disconnected", "Reconnected"] * 3, "Disconnected", "Closed"]
    assert {event.server for event in log.of(Disconnected)} == {server.url}
    assert log.of(Connected)[0].server == server.url


async def test_events_come_one_at_a_time(leg: Leg, server: LocalServer) -> None:
    inside: list[int] = []
    most: list[int] = []
    log = EventLog()

    def on_event(event: object) -> None:
        inside.append(1)
        most.append(len(inside))
        log(event)
        inside.pop()

    async with leg.connect(server.url, on_event=on_event, **QUICK):
        server.restart()
        await log.wait(Reconnected)
    assert set(most) == {1}


async def test_an_on_event_that_raises_is_logged_and_harmless(
    leg: Leg, server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    log = EventLog()

    def on_event(event: object) -> None:
        log(event)
        raise ZeroDivisionError("in the user's hook")

    async with leg.connect(server.url, on_event=on_event, **QUICK) as client, client.subscribe("kept") as sub:
        server.restart()
        await log.wait(Reconnected)
        await client.publish("kept", b"1")
        assert (await sub.next(timeout=PATIENCE)).data == b"1"
    assert log.names[-1] == "Closed"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert errors
    assert all("in the user's hook" in str(record.exc_info) for record in errors)


async def test_a_callback_that_raises_is_logged_and_goes_on(
    leg: Leg, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    got: Collected[bytes] = Collected()

    async def handle(message: object) -> None:
        got.add(message.data)
        if message.data in (b"1", b"3"):
            raise ZeroDivisionError("in the user's callback")

    async with leg.connect(url) as client:
        sub = await client.subscribe("raises", callback=leg.handler(handle))
        for n in range(5):
            await client.publish("raises", b"%d" % n)
        assert await got.wait_len(5) == [b"%d" % n for n in range(5)]
        await eventually(lambda: sub.delivered == 5)
        await client.drain(timeout=PATIENCE)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert all("raises" in record.getMessage() for record in errors)


async def test_an_on_event_that_blocks_holds_up_nothing(leg: Leg, server: LocalServer) -> None:
    log, release = EventLog(), Flag()

    async def on_event(event: object) -> None:
        log(event)
        await release.wait()

    async with leg.connect(server.url, on_event=leg.hook(on_event), **QUICK) as client, client.subscribe("kept") as sub:
        server.restart()
        await eventually(lambda: client.stats.reconnects == 1)
        await client.publish("kept", b"1")
        assert (await sub.next(timeout=PATIENCE)).data == b"1"
        assert (await client.rtt()) > 0
        await log.wait(Connected)
        assert log.names == ["Connected"]
        release.set()
        await log.wait(Reconnected)
    assert log.names[-1] == "Closed"


async def test_an_on_event_may_read_the_client(leg: Leg, server: LocalServer) -> None:
    seen: Collected[tuple[object, ...]] = Collected()
    clients: Collected[object] = Collected()

    def on_event(_: object) -> None:
        for client in clients:
            seen.add((client.status, client.stats, client.connected_url, client.servers, client.last_error))

    async with leg.connect(server.url, on_event=on_event, **QUICK) as client:
        clients.add(client)
        server.restart()
        await eventually(lambda: client.stats.reconnects == 1)
    await eventually(lambda: seen and seen[-1][0] is SessionStatus.CLOSED)


async def test_an_on_event_may_call_the_client(leg: Leg, server: LocalServer) -> None:
    results: Collected[object] = Collected()
    clients: Collected[object] = Collected()

    async def on_event(event: object) -> None:
        if isinstance(event, Reconnected):
            client = clients[0]
            async with client.subscribe("hook") as sub:
                await client.publish("hook", b"from the hook")
                results.add((await sub.next(timeout=PATIENCE)).data)
            await client.flush(timeout=PATIENCE)
            await client.subscribe("echo", callback=leg.handler(echo))
            results.add((await client.request("echo", b"asked", timeout=PATIENCE)).data)

    async def echo(message: object) -> None:
        await message.respond(message.data)

    async with leg.connect(server.url, on_event=leg.hook(on_event), **QUICK) as client:
        clients.add(client)
        server.restart()
        assert await results.wait_len(2) == [b"from the hook", b"asked"]


@pytest.mark.parametrize("end", ["close", "drain"])
async def test_an_on_event_may_end_the_client(leg: Leg, server: LocalServer, end: str) -> None:
    log = EventLog()
    clients: Collected[object] = Collected()

    async def on_event(event: object) -> None:
        log(event)
        if isinstance(event, Reconnected):
            await getattr(clients[0], end)()

    async with leg.connect(server.url, on_event=leg.hook(on_event), **QUICK) as client:
        clients.add(client)
        server.restart()
        await eventually(lambda: client.status is SessionStatus.CLOSED)
        await log.wait(Closed)


async def test_closed_has_come_when_the_block_is_left(leg: Leg, url: str) -> None:
    for _ in range(10):
        log = EventLog()
        async with leg.connect(url, on_event=log):
            pass
        assert log.names == ["Connected", "Disconnected", "Closed"]


async def test_a_failed_first_connect_says_closed(leg: Leg, free_port: int) -> None:
    log = EventLog()
    with pytest.raises(NoServersError, match="no server"):
        async with leg.connect(f"nats://127.0.0.1:{free_port}", on_event=log):
            pass
    assert log.names == ["Closed"]
    assert "cannot connect" in str(log[0].error)


async def test_the_log_has_one_line_for_each_event(
    leg: Leg, server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    log = EventLog()
    async with leg.connect(server.url, on_event=log, **QUICK):
        server.restart()
        await log.wait(Reconnected)
    name = "nats_sync" if leg.name == "threads" else "nats_anyio"
    records = [record for record in caplog.records if record.name == name]
    assert len(records) == len(log)
    assert all("\n" not in record.getMessage() for record in records)
    assert all(server.url in record.getMessage() for record in records[:-1])
    levels = {name: record.levelname for name, record in zip(log.names, records, strict=True)}
    assert {levels[name] for name in ("Connected", "Reconnected", "Closed")} == {"INFO"}
    lost = [record for event, record in zip(log, records, strict=True) if isinstance(event, Disconnected)]
    assert [record.levelname for record in lost] == ["WARNING", "INFO"]


async def test_a_flood_of_errors_does_not_flood_the_log(leg: Leg, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = EventLog()
    flood = b"".join(b"-ERR 'Permissions Violation for Publish to \"a.%d\"'\r\n" % n for n in range(5000))
    began = time.monotonic()
    with Peer([handshake(), hold(), send(flood * 4), send(b"PING\r\n")]) as peer:
        async with leg.connect(peer.url, on_event=log) as client:
            peer.release()
            await eventually(lambda: b"PONG" in peer.connections[0].received)
            await eventually(lambda: sum(event.count for event in log.of(ServerErrorReceived)) == 20_000)
            assert client.status is SessionStatus.CONNECTED
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) <= 20 + 10 * (time.monotonic() - began)


async def test_a_callback_running_when_the_client_closes(leg: Leg, url: str) -> None:
    """Threads: the callback is let finish. On a loop it is cancelled, which it may see."""
    began, release = Flag(), Flag()
    ends: Collected[str] = Collected()

    async def handle(_: object) -> None:
        began.set()
        try:
            await release.wait()
            ends.add("finished")
        except anyio.get_cancelled_exc_class():
            ends.add("cancelled")
            raise

    async with leg.connect(url) as client:
        await client.subscribe("long", callback=leg.handler(handle))
        await client.publish("long")
        await began.wait()
        if leg.name == "threads":
            release.set()
    await ends.wait_len(1)
