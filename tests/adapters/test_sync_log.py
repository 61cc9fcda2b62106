"""Handlers of the log are user code: the threaded client's may block, and call the client."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

import nats_sync
from nats_proto import SessionStatus
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually, log_handler, threads_of

__all__ = ["log_handler"]  # a fixture

AddHandler = Callable[[Callable[..., object]], None]


def test_a_handler_that_blocks_holds_up_nothing(server: LocalServer, log_handler: AddHandler) -> None:
    began, release = threading.Event(), threading.Event()
    records: list[str] = []

    def block(record: logging.LogRecord) -> None:
        began.set()
        release.wait(PATIENCE)
        records.append(record.getMessage())

    log_handler(block)
    with connect(server) as client, client.subscribe("a") as sub:
        assert began.wait(PATIENCE)
        server.restart()
        eventually(lambda: client.stats.reconnects == 1)
        client.publish("a", b"1")
        assert sub.next(timeout=PATIENCE).data == b"1"
        assert client.rtt() > 0
        assert records == []
        release.set()
    assert records[0].startswith("connected")
    assert records[-1] == "closed"


def test_a_handler_may_call_the_client(server: LocalServer, log_handler: AddHandler) -> None:
    clients: list[nats_sync.Client] = []
    results: list[object] = []

    def call(record: logging.LogRecord) -> None:
        if record.getMessage().startswith("reconnected"):
            client = clients[0]
            results.append(client.status)
            client.publish("a", b"from a handler")
            client.flush()
            results.append(client.request("echo", b"asked").data)

    log_handler(call)
    with connect(server) as client, client.subscribe("a") as sub:
        clients.append(client)
        client.subscribe("echo", callback=lambda message: message.respond(message.data))
        server.restart()
        assert sub.next(timeout=PATIENCE).data == b"from a handler"
        eventually(lambda: len(results) == 2)
    assert results == [SessionStatus.CONNECTED, b"asked"]


@pytest.mark.parametrize("end", ["close", "drain"])
def test_a_handler_may_end_the_client(server: LocalServer, log_handler: AddHandler, end: str) -> None:
    clients: list[nats_sync.Client] = []
    returned = threading.Event()

    def finish(record: logging.LogRecord) -> None:
        if record.getMessage().startswith("reconnected"):
            getattr(clients[0], end)()
            returned.set()

    log_handler(finish)
    with connect(server, name="ended") as client:
        clients.append(client)
        server.restart()
        assert returned.wait(PATIENCE)
        eventually(lambda: client.status is SessionStatus.CLOSED)
    assert threads_of("ended") == {}


def test_a_handler_that_ends_its_thread_ends_none_of_ours(server: LocalServer, log_handler: AddHandler) -> None:
    log: list[str] = []

    def leave(record: logging.LogRecord) -> None:
        raise SystemExit("in a handler of the log")

    log_handler(leave)
    with connect(server, on_event=lambda event: log.append(type(event).__name__)):
        server.restart()
        eventually(lambda: "Reconnected" in log)
    assert log[-1] == "Closed"


def test_events_are_bounded_while_a_handler_blocks(
    server: LocalServer, log_handler: AddHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nats_sync._engine.dispatch.MAX_EVENTS", 5)
    began, release = threading.Event(), threading.Event()
    records: list[str] = []

    def block(record: logging.LogRecord) -> None:
        began.set()
        release.wait(PATIENCE)
        records.append(record.getMessage())

    log_handler(block)
    with connect(server) as client:
        assert began.wait(PATIENCE)
        for count in range(1, 6):
            client.reconnect()
            eventually(lambda count=count: client.stats.reconnects == count)
        release.set()
        eventually(lambda: any(text.startswith("the log is slow: ") for text in records))
    assert records[-1] == "closed"
    assert len(records) <= 10


def test_who_calls_on_event_is_a_thread_only_where_there_is_one(server: LocalServer) -> None:
    with connect(server, name="silent"):
        assert "nats-silent-on-event" not in threads_of("silent")
    callers: list[str] = []
    with connect(server, name="told", on_event=lambda _: callers.append(threading.current_thread().name)):
        assert "nats-told-on-event" in threads_of("told")
    assert set(callers) == {"nats-told-on-event"}
    assert threads_of("told") == {}
