"""What is asked of the event loop so often that the way through anyio costs more than the answer.

Theory of operation
-------------------
On asyncio a task that waits for its socket through anyio registers it and takes it out again for every chunk, and the
task that a chunk wakes has to wake another. That is half the time of a request. asyncio can call a function whenever a
registered socket has something. So there what has arrived is taken by such a call, and the task that reads only waits
for the end. On trio, and on a loop of asyncio that cannot do it (Windows' proactor), that task waits, takes, and waits.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    import asyncio

__all__ = ["MORE", "OVER", "QUIET", "EventLoop", "Wait"]

QUIET: Final = 0
"""Taken: for now there is nothing left."""
MORE: Final = 1
"""Taken: there is probably more."""
OVER: Final = 2
"""Nothing is to be taken any more."""


class Wait(Protocol):
    """One task's wait for one thing."""

    def set(self) -> None:
        """End it; also before it has begun, and again."""

    def wait(self) -> Awaitable[object]:
        """To be awaited once."""
        ...


class EventLoop:
    """The running one; to be made within it."""

    def __init__(self) -> None:
        self._asyncio = _running_asyncio()
        self.now: Callable[[], float] = anyio.current_time if self._asyncio is None else self._asyncio.time
        """The clock, in seconds."""

    def new_wait(self) -> Wait:
        """A wait that has not begun."""
        return anyio.Event() if self._asyncio is None else _FutureWait(self._asyncio)

    async def read(self, sock: socket.socket, take: Callable[[], int]) -> None:
        """Call ``take`` whenever ``sock`` has something, until it says `OVER`. Raises `OSError`.

        It must not raise. On asyncio it runs outside of any task: it can set events and cancel scopes, but make none.
        """
        if self._asyncio is None or not await _called(self._asyncio, sock, take):
            await _waiting(sock, take)


class _FutureWait:
    """An event of asyncio finds its loop, keeps a queue of waiters and makes a future for each; this is the future."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def wait(self) -> Awaitable[object]:
        return self._future


async def _called(loop: asyncio.AbstractEventLoop, sock: socket.socket, take: Callable[[], int]) -> bool:
    """Let the loop call; False when it cannot."""
    over = anyio.Event()
    # In a call by the loop anyio knows where it is only if this context says so: what works without it always works.
    context = Context()

    def readable() -> None:
        if context.run(take) == OVER:
            loop.remove_reader(sock)
            over.set()

    try:
        loop.add_reader(sock, readable)
    except NotImplementedError:
        return False
    try:
        await over.wait()
    finally:
        loop.remove_reader(sock)
    return True


async def _waiting(sock: socket.socket, take: Callable[[], int]) -> None:
    taken = QUIET
    while taken != OVER:
        if taken == QUIET:
            await anyio.wait_readable(sock)
        taken = take()
        # Who was woken goes first: to wait for the socket again would take longer than to give way.
        await anyio.lowlevel.checkpoint()


def _running_asyncio() -> asyncio.AbstractEventLoop | None:
    """The loop of asyncio that this task belongs to, if it belongs to one."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        # trio can run as a guest of asyncio: then there is a loop, but the task is not one of it.
        return asyncio.get_running_loop() if asyncio.current_task() is not None else None
    except RuntimeError:
        return None
