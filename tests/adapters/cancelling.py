"""For tests of tasks: who runs, and cancelling at one exact point, a suspension or a turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import anyio.lowlevel
from anyio import CancelScope

__all__ = ["NoTaskLeft", "after_turns", "at_suspension", "tasks", "watched"]

Operation = Callable[[], Awaitable[object]]


def tasks() -> list[str]:
    """The tasks that run now, by name: a new connection has a new writer of the same name."""
    return sorted(str(task.name) for task in anyio.get_running_tasks())


class NoTaskLeft:
    """``async with NoTaskLeft():`` the tasks behind the block are those before it, at once and not later."""

    async def __aenter__(self) -> None:
        self._before = {task.id for task in anyio.get_running_tasks()}

    async def __aexit__(self, *exc: object) -> None:
        left = [task for task in anyio.get_running_tasks() if task.id not in self._before]
        assert not left, left


class _Watched:
    """Awaits an operation, counts how often it suspends, and calls ``cancel`` the ``point``-th time."""

    def __init__(self, operation: Awaitable[object], cancel: Callable[[], object], point: int) -> None:
        self._operation = operation
        self._cancel = cancel
        self._point = point
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._operation.__await__()
        send, throw = getattr(steps, "send", None), getattr(steps, "throw", None)
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                if error is not None and throw is not None:
                    suspended = throw(error)
                else:
                    suspended = next(steps) if value is None or send is None else send(value)
            except StopIteration as stop:
                return stop.value
            self.suspensions += 1
            if self.suspensions == self._point:
                self._cancel()
            value = error = None
            try:
                value = yield suspended
            except BaseException as thrown:
                error = thrown


async def watched(operation: Operation, look: Callable[[], object]) -> object:
    """Run it, and call ``look`` when it suspends for the first time: before anybody else runs."""
    return await _Watched(operation(), look, 1)


async def at_suspension(operation: Operation, point: int, *, how: str = "scope", strict: bool = False) -> bool:
    """Run it and cancel it when it suspends for the ``point``-th time. False: it did not suspend that often.

    ``how``: ``"scope"``, a cancel scope around it; ``"task"``, ``asyncio.Task.cancel``, as other frameworks do: that is
    said once, so an operation that swallows it goes on. ``strict``: this is a failure.
    """
    if how == "task":
        return await _at_suspension_of_a_task(operation, point, strict)
    with CancelScope() as scope:
        running = _Watched(operation(), scope.cancel, point)
        await running
    return running.suspensions >= point


async def _at_suspension_of_a_task(operation: Operation, point: int, strict: bool) -> bool:
    suspensions = 0

    async def run() -> None:
        nonlocal suspensions
        task = asyncio.current_task()
        assert task is not None
        running = _Watched(operation(), task.cancel, point)
        try:
            await running
        finally:
            suspensions = running.suspensions

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
        assert not strict or suspensions < point, "the cancellation was swallowed"
    return suspensions >= point


async def after_turns(operation: Operation, turns: int) -> None:
    """Run it and cancel it once the event loop has gone round so many times."""

    async def cancel() -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    async with anyio.create_task_group() as group:
        with CancelScope() as scope:
            group.start_soon(cancel)
            await operation()
        group.cancel_scope.cancel()
