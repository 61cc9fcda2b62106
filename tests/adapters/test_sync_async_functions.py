"""Async functions given to the threaded client: refused when it can be seen, said once when not."""

from __future__ import annotations

import functools
import logging
import threading

import pytest

import nats_sync
from nats_proto import LifecycleEvent
from nats_proto.errors import ConfigurationError
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, eventually


async def handle(message: nats_sync.Message) -> None:
    raise AssertionError("it was awaited")


class Handler:
    async def __call__(self, message: nats_sync.Message) -> None:
        raise AssertionError("it was awaited")


@pytest.mark.parametrize("callback", [handle, Handler(), functools.partial(handle), Handler().__call__])
def test_an_async_callback_is_refused(server: LocalServer, callback: object) -> None:
    with nats_sync.connect(server.url) as client:
        with pytest.raises(TypeError, match=r"async function, and threads await nothing: .* use nats_anyio"):
            client.subscribe("a", callback=callback)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"^on_event: it is an async function"):
            nats_sync.connect(server.url, on_event=callback)  # type: ignore[arg-type]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_callback_that_returns_a_coroutine_is_told_of_once(
    server: LocalServer, caplog: pytest.LogCaptureFixture, concurrency: int
) -> None:
    called: list[threading.Thread] = []

    def hidden(message: nats_sync.Message) -> object:
        called.append(threading.current_thread())
        return handle(message)

    with caplog.at_level(logging.ERROR, "nats_sync"), nats_sync.connect(server.url) as client:
        sub = client.subscribe("a", callback=hidden, concurrency=concurrency)
        for _ in range(5):
            client.publish("a")
        eventually(lambda: len(called) == 5)
        sub.drain(timeout=PATIENCE)
    told = [record for record in caplog.records if record.exc_info]
    assert [str(record.exc_info[1]) for record in told if record.exc_info] == [
        "it returned a coroutine, and threads await nothing: give a plain function, or use nats_anyio"
    ]
    assert "subscription to a" in told[0].getMessage()


def test_an_on_event_that_returns_a_coroutine_is_told_of_once(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def later() -> None:
        raise AssertionError("it was awaited")

    def on_event(event: LifecycleEvent) -> object:
        return later()

    with caplog.at_level(logging.ERROR, "nats_sync"), nats_sync.connect(server.url, on_event=on_event):
        pass  # Connected, Disconnected, Closed
    assert sum("it returned a coroutine" in str(record.exc_info) for record in caplog.records) == 1
