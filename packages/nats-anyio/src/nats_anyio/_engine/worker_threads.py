"""Calls that may block for ever, in threads that nobody waits for.

The threads that event loops lend are waited for at the end of the loop or of the interpreter: one call of the system's
resolver that hangs would hold up the end of the program. These are daemons, one for each call: such a call is rare, and
a thread costs less than what it does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Final, TypeVar

import anyio

from .event_loop import EventLoop
from .interrupt import Interrupt

__all__ = ["WorkerThreads"]

T = TypeVar("T")

MAX_THREADS: Final = 4
"""Calls of a kind that may hang at once. When all do, attempts to connect fail until one returns."""


class WorkerThreads:
    """For one kind of calls of one client, ``most`` at once."""

    def __init__(self, loop: EventLoop, name: str, *, most: int = MAX_THREADS) -> None:
        self._loop = loop
        self._name = name
        self._most = most
        self._calls: set[_Call] = set()
        """Those on their way, also those that nobody waits for any more."""

    async def run(self, function: Callable[[], T]) -> T:
        """Call it in a thread. Raises what it raises. Whoever is cancelled meanwhile leaves the thread to itself."""
        if len(self._calls) >= self._most:
            await anyio.sleep_forever()  # until the time for it is up
        results: list[T] = []
        call = _Call(lambda: results.append(function()), self._loop, self._calls)
        # A thread begins with an empty context. The function is to see the variables that an ``async`` one would see.
        context = copy_context()
        try:
            threading.Thread(target=lambda: context.run(call.run), name=self._name, daemon=True).start()
        except RuntimeError as error:  # the system gives no more threads
            self._calls.discard(call)
            raise OSError(f"no thread could be started: {error}") from error
        await call.done.wait()
        if isinstance(call.error, GeneratorExit):
            raise Interrupt(call.error)  # as itself it would mean that this coroutine is closed
        if call.error is not None:
            raise call.error
        return results[0]


class _Call:
    def __init__(self, function: Callable[[], None], loop: EventLoop, calls: set[_Call]) -> None:
        self._function = function
        self._loop = loop
        self._calls = calls
        self.error: BaseException | None = None
        self.done = anyio.Event()
        calls.add(self)

    def run(self) -> None:
        """In the thread."""
        try:
            self._function()
        except BaseException as error:
            self.error = error
        # Before the caller is woken, so that the place of this call is free when the caller makes the next one.
        self._calls.discard(self)
        self._loop.call_from_thread(self.done.set)
