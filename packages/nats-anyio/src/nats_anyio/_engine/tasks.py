"""The tasks of one client: a root task owns all others.

The root is shielded: cancelling the block around the client reaches the tasks only through `Tasks.stop`, after the
client was closed in order.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from .event_loop import EventLoop
from .interrupt import Interrupt, interruptible, the_one

__all__ = ["Tasks"]

logger = logging.getLogger("nats_anyio")


class Tasks:
    """``fail`` is called when one of them fails, which is a defect of the client."""

    def __init__(self, loop: EventLoop, fail: Callable[[BaseException], None]) -> None:
        self._loop = loop
        self._fail = fail
        self._group: TaskGroup | None = None
        """Made by the root: it can be made by the task alone that leaves it."""
        self._stopping = False
        self._cancelled_from_outside: Callable[[], bool] = lambda: False

    async def run(self, first: dict[str, Callable[[], Awaitable[None]]]) -> None:
        """The root: starts these, by their names, and returns when no task is left, or when it is stopped."""
        self._cancelled_from_outside = self._loop.cancelled_from_outside()
        try:
            with CancelScope(shield=True):
                async with anyio.create_task_group() as self._group:
                    if self._stopping:
                        self._group.cancel_scope.cancel()
                    for name, task in first.items():
                        self.start(task, name=name)
        except anyio.get_cancelled_exc_class():
            # On asyncio anybody can cancel it, shielded or not. A task that ends so would take its group with it, and
            # so the block that holds the client; its code learns of the end by the errors that it gets.
            if not self._loop.is_asyncio:
                raise

    def start(self, task: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Start a task, in a task. There is a root: nothing else calls this before it, nor can after it."""
        assert self._group is not None
        self._group.start_soon(self._guard, task, name=name)

    def stop(self) -> None:
        """Cancel whatever still runs."""
        self._stopping = True
        if self._group is not None:
            self._group.cancel_scope.cancel()

    def is_replaced(self, who: str) -> bool:
        """Whether another task has to take the place of the calling one, which was cancelled.

        It has to when it was not cancelled by us, but by the user code in it or by somebody else. On asyncio a task
        that ends so would take its whole group with it.
        """
        if self._group is None or self._group.cancel_scope.cancel_called or self._cancelled_from_outside():
            return False
        logger.warning("%s was cancelled from within; the next call of it follows", who)
        return True

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await interruptible(task())
        except Exception as error:
            failed = the_one(error)
            if isinstance(failed, Interrupt):
                raise failed from None
            self._fail(failed)
