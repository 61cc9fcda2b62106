"""The log of a client: when events happen, in their order, whatever ``on_event`` does; and why an outage goes on."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator

import pytest

from nats_proto import Closed, Credentials, Disconnected, Reconnected, Reconnecting
from nats_proto.errors import NATSError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, Collected, EventLog, Flag, Leg, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]


@contextlib.contextmanager
def written(leg: Leg, level: int = logging.DEBUG) -> Iterator[Collected[logging.LogRecord]]:
    """What the client writes to its log."""
    records: Collected[logging.LogRecord] = Collected()
    handler = logging.Handler()
    handler.emit = records.add  # type: ignore[method-assign]
    logger = logging.getLogger("nats_sync" if leg.name == "threads" else "nats_anyio")
    before = logger.level
    logger.setLevel(level)
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def texts(records: Collected[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records]


async def test_an_on_event_that_blocks_silences_nothing(leg: Leg, server: LocalServer) -> None:
    log, release = EventLog(), Flag()

    async def on_event(event: object) -> None:
        log(event)
        await release.wait()

    with written(leg) as records:
        async with leg.connect(server.url, on_event=leg.hook(on_event), **QUICK):
            for n in (1, 2):
                server.restart()
                await records.wait_for(lambda record: record.getMessage().startswith("reconnected"), count=n)
            assert log.names == ["Connected"]
            release.set()
            await log.wait(Reconnected, count=2)
        first_words = [text.split()[0].rstrip(":") for text in texts(records)]
    told = [word for word in first_words if word != "reconnecting"]
    assert told == ["connected", *["disconnected", "reconnected"] * 2, "disconnected", "closed"]
    assert first_words == [name.lower() for name in log.names]


async def test_who_is_told_of_an_event_finds_it_logged(leg: Leg, server: LocalServer) -> None:
    found: Collected[str] = Collected()

    with written(leg) as records:

        def on_event(event: object) -> None:
            found.add(f"{type(event).__name__.lower()} in {' '.join(texts(records))}")

        async with leg.connect(server.url, on_event=on_event, **QUICK):
            server.restart()
            await eventually(lambda: any(text.startswith("reconnected") for text in found))
    assert len(found) > 4
    for text in found:
        name, lines = text.split(" in ", maxsplit=1)
        assert name in lines


async def test_dropped_events_are_told(leg: Leg, server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    package = "nats_sync" if leg.name == "threads" else "nats_anyio"
    monkeypatch.setattr(f"{package}._engine.dispatch.MAX_EVENTS", 5)
    log, release = EventLog(), Flag()

    async def on_event(event: object) -> None:
        log(event)
        await release.wait()

    with written(leg) as records:
        async with leg.connect(server.url, on_event=leg.hook(on_event), **QUICK) as client:
            await log.wait_len(1)
            for count in range(1, 6):
                await client.reconnect()
                await records.wait_for(lambda record: record.getMessage().startswith("reconnected"), count=count)
            release.set()
            await records.wait_for(lambda record: record.getMessage().startswith("on_event is slow: "))
    told = [re.fullmatch(r"on_event is slow: (\d+) events? (?:was|were) dropped", text) for text in texts(records)]
    dropped = [int(match[1]) for match in told if match is not None]
    assert sum(dropped) >= 9
    assert len(log) + sum(dropped) == len(records) - len(dropped)  # each event has a line


async def test_the_log_of_an_outage_says_why(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    with written(leg) as records:
        async with leg.connect(server.url, on_event=log, **QUICK):
            server.kill()
            await log.wait(Reconnecting, count=5)
            server.start()
            await log.wait(Reconnected)
    after = [record for record in records if " after: " in record.getMessage()]
    assert [record.levelname for record in after] == ["WARNING", *["DEBUG"] * (len(after) - 1)]
    assert len(after) >= 4
    for record in after:
        assert f"after: cannot connect to server {server.url}: " in record.getMessage()
        assert record.getMessage().count(server.url) == 1
    for text in texts(records):
        assert text.count(server.url) <= 1, text


async def test_two_servers_that_are_gone_are_two_warnings(leg: Leg, server: LocalServer, free_port: int) -> None:
    log = EventLog()
    servers = [server.url, f"nats://127.0.0.1:{free_port}"]
    with written(leg) as records:
        async with leg.connect(servers, on_event=log, randomize_servers=False, **QUICK):
            server.kill()
            await log.wait(Reconnecting, count=9)
    warnings = [record.getMessage() for record in records if record.levelno == logging.WARNING]
    reasons = [text for text in warnings if text.startswith("reconnecting")]
    assert len(reasons) == 2
    for url in servers:
        assert any(f"after: cannot connect to server {url}" in text for text in reasons)


async def test_what_an_auth_function_raised_is_in_the_log(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    calls: list[int] = []

    def auth(_: object) -> Credentials:
        calls.append(1)
        if len(calls) > 1:
            raise ZeroDivisionError("in its text")
        return Credentials()

    with written(leg) as records:
        async with leg.connect(server.url, auth=auth, on_event=log, **QUICK) as client:
            await client.reconnect()
            await log.wait(Reconnecting, count=4)
    reasons = [record for record in records if "ZeroDivisionError" in record.getMessage()]
    assert [record.levelname for record in reasons[:2]] == ["WARNING", "DEBUG"]
    assert "in its text" not in " ".join(texts(records))


async def test_an_outage_without_an_on_event_is_in_the_log(leg: Leg, server: LocalServer) -> None:
    with written(leg, logging.WARNING) as records:
        async with leg.connect(server.url, max_reconnect_attempts=2, **QUICK) as client:
            server.kill()
            await records.wait_for(lambda record: record.getMessage().startswith("closed: "))
            with pytest.raises(NATSError):
                await client.flush(timeout=PATIENCE)
    assert [text.split()[0] for text in texts(records)] == ["disconnected:", "reconnecting", "closed:"]
    assert "cannot connect" in texts(records)[1]
    assert "cannot connect" in texts(records)[2]


async def test_handlers_of_the_log_that_raise_do_no_harm(leg: Leg, server: LocalServer) -> None:
    log = EventLog()

    def emit(record: logging.LogRecord) -> None:
        raise ZeroDivisionError("in a handler of the log")

    handler = logging.Handler()
    handler.emit = emit  # type: ignore[method-assign]
    with written(leg) as records:
        logger = logging.getLogger("nats_sync" if leg.name == "threads" else "nats_anyio")
        logger.addHandler(handler)
        try:
            async with leg.connect(server.url, on_event=log, **QUICK):
                server.restart()
                await log.wait(Reconnected)
        finally:
            logger.removeHandler(handler)
    assert len(log.of(Disconnected)) == 2
    assert len(log.of(Closed)) == 1
    assert len(records) == len(log)


async def test_the_log_goes_on_while_a_callback_blocks(leg: Leg, server: LocalServer) -> None:
    began, release = Flag(), Flag()

    async def handle(_: object) -> None:
        began.set()
        await release.wait()

    with written(leg) as records:
        async with leg.connect(server.url, **QUICK) as client:
            await client.subscribe("long", callback=leg.handler(handle))
            await client.publish("long")
            await began.wait()
            server.restart()
            await records.wait_for(lambda record: record.getMessage().startswith("reconnected"))
            release.set()
