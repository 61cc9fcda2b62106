"""The task group of a block, ``async with connect(...)``, which ends when the block is left.

Theory of operation
-------------------
A task group can be left only by the task that has entered it, and groups only in the reverse order of entering. Code
that writes ``async with`` does both. Code that enters by hand, as fixtures and exit stacks of others, may do neither:

    left by another task ─────▶ the group stays as it is. It has no other child than the client's root task, so waiting
                                for that one is as good.
    left before a later block ▶ wait for the root as well. The group, which is empty then, is left together with the
                                one that was entered behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Final

import anyio
from anyio import CancelScope

from .interrupt import Interrupt, the_one

__all__ = ["Block"]


class Block:
    """Of one client; to be made by the task that enters it. ``stopped`` is set when the client's root has ended."""

    def __init__(self, stopped: anyio.Event) -> None:
        self._stopped = stopped
        self._task_id = anyio.get_current_task().id
        self._group = anyio.create_task_group()
        self._left = False
        """The block was left; its group may have to wait for those that were entered behind it."""

    async def enter(self, root: Callable[[], Coroutine[object, object, None]]) -> None:
        """Begin with the client's root task."""
        await self._group.__aenter__()
        _entered.setdefault(self._task_id, []).append(self)
        self._group.start_soon(root, name="nats client")

    async def leave(self) -> None:
        """Once the client was closed and its root was told to stop. Raises what its tasks have failed of."""
        self._left = True
        if anyio.get_current_task().id != self._task_id:
            self._forget()
            await self._wait_stopped()
        elif _entered[self._task_id][-1] is self:
            await self._leave_groups()
        else:
            await self._wait_stopped()

    async def _wait_stopped(self) -> None:
        with CancelScope(shield=True):
            await self._stopped.wait()

    def _forget(self) -> None:
        entered = _entered[self._task_id]
        entered.remove(self)
        if not entered:
            del _entered[self._task_id]

    async def _leave_groups(self) -> None:
        """Leave this group, and those entered before it whose block was left already."""
        entered = _entered[self._task_id]
        failures: list[BaseException] = []
        while entered and entered[-1]._left:
            last = entered[-1]
            last._forget()
            try:
                await last._leave_group()
            except BaseException as error:
                # A group that fails must not keep those before it from being left. Only one error can be raised: the
                # first.
                failures.append(error)
        if failures:
            raise failures[0]

    async def _leave_group(self) -> None:
        self._group.cancel_scope.shield = True
        try:
            # The block's own exception is not shown to the group: it would come out wrapped.
            await self._group.__aexit__(None, None, None)
        except BaseExceptionGroup as failures:
            failed = the_one(failures)
            raise failed.error if isinstance(failed, Interrupt) else failed from None


_entered: Final[dict[int, list[Block]]] = {}
"""The blocks that a task has entered and whose groups it has not left, by the task's id, in order."""
