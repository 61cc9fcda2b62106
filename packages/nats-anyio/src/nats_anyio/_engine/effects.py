"""Does for the session what a connection needs from outside, and tells it how that went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

import anyio
from anyio.abc import TaskGroup

from nats_proto import Perform, Session

from .event_loop import EventLoop
from .interrupt import Interrupt, interruptible
from .message_type import MessageT
from .perform import Performer

__all__ = ["Effects"]


class Effects(Generic[MessageT]):
    """Of one client. ``settle`` is called after every change of the session."""

    def __init__(
        self, session: Session[MessageT], loop: EventLoop, performer: Performer, settle: Callable[[], None]
    ) -> None:
        self._session = session
        self._loop = loop
        self._now = loop.now
        self._performer = performer
        self._settle = settle

    async def perform(self, command: Perform, tasks: TaskGroup, is_given_up: Callable[[], bool]) -> None:
        """What `Perform` asks for, as a task of ``tasks``, which end with the connection or with the wait before it.

        A user's function may cancel the task that it runs in. That is its failure, unless the connection is given up,
        or somebody else has cancelled the task, as `asyncio.run` does at its end with all tasks, in any order.
        """
        cancelled_from_outside = self._loop.cancelled_from_outside()
        try:
            result = await interruptible(self._performer.perform(command))
        except anyio.get_cancelled_exc_class() as error:
            if tasks.cancel_scope.cancel_called or is_given_up() or cancelled_from_outside():
                raise
            self._session.perform_failed(command, error, now=self._now())
        except Interrupt as interrupt:
            # The client can do without a delay. So of what its function raises only Ctrl-C is not survived.
            if not command.before_dial or isinstance(interrupt.error, KeyboardInterrupt):
                raise
            self._session.perform_failed(command, interrupt.error, now=self._now())
        except Exception as error:
            self._session.perform_failed(command, error, now=self._now())
        else:
            self._session.performed(command, result, now=self._now())
        self._settle()
