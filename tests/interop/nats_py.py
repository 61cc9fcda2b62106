"""nats-py at work beside the client under test: on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self, TypeVar

import nats

__all__ = ["TIMEOUT", "NatsPy"]

T = TypeVar("T")
PATIENCE: Final = 60.0  # seconds for one thing that nats-py is asked to do
TIMEOUT: Final = 30.0
"""Seconds for each of its calls: its own five, or one, are less than a busy machine may stand still."""


class NatsPy:
    """As a context manager: a connected client of nats-py. Its methods block."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats-py")
        self._client: Any = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._client = self._run(nats.connect(self._url, connect_timeout=TIMEOUT))
        return self

    def __exit__(self, *exc: object) -> None:
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __call__(self, function: Callable[[Any], Awaitable[T]]) -> T:
        """What ``function`` comes to, which is given the JetStream of nats-py and runs on its loop."""
        return self._run(function(self._client.jetstream(timeout=TIMEOUT)))

    def run(self, function: Callable[[Any], Awaitable[T]]) -> T:
        """The same with the client of nats-py."""
        return self._run(function(self._client))

    def _run(self, awaitable: Awaitable[T]) -> T:
        async def run() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE)
