"""Callbacks of subscriptions, and the tasks that call them: the workers.

One worker is always there for a callback that is called one message at a time. For one that may be called several times
at once, workers come when there are messages, and go when there are none.

Whatever a callback raises is logged and survived. It may block its own subscription, never the client.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import anyio
import anyio.lowlevel

from nats_proto import Message, SubscriptionState

from .log import Log
from .message_type import MessageT
from .tasks import Tasks

__all__ = ["Callback", "Workers"]

MessageT_co = TypeVar("MessageT_co", bound=Message, covariant=True)


class Callback(Generic[MessageT]):
    """What is known of one subscription's callback: a function, or one that returns something to await."""

    __slots__ = ("concurrency", "function", "state", "task_ids", "turns", "workers")

    def __init__(
        self, function: Callable[[MessageT], object], concurrency: int, state: SubscriptionState[MessageT]
    ) -> None:
        self.function: Final = function
        self.concurrency: Final = concurrency
        """Workers at once, at most."""
        self.state: Final = state
        """Of the subscription."""
        self.workers = 0
        """Tasks that call it, wait for messages, or were just started."""
        self.turns = 0
        """Those of them that are in the midst of calling."""
        self.task_ids: set[int] = set()
        """Of the workers."""


class Served(Protocol[MessageT_co]):
    """A subscription that has a callback, as its workers know it."""

    def take_turn(self) -> Iterator[MessageT_co]:
        """Takes the messages that are there, up to a number after which others have to run."""
        ...

    def wait_for_arrival(self) -> Awaitable[None]:
        """Until there may be messages, or there will be none."""
        ...

    def progress(self) -> None:
        """Messages were taken, or a callback has returned."""
        ...


class Workers:
    """All workers of one client."""

    def __init__(self, tasks: Tasks, log: Log, is_failed: Callable[[], bool]) -> None:
        self._tasks = tasks
        self._log = log
        self._is_failed = is_failed
        """The client has ended in a way that its subscriptions were not told of."""
        self.task_ids: set[int] = set()

    def serve(self, sub: Served[MessageT], callback: Callback[MessageT]) -> None:
        """Have a new subscription's callback called. The tasks hold the subscription, so that it goes on."""
        if callback.concurrency == 1:
            self._start(sub, callback, stays=True)
        else:
            self._tasks.start(partial(self._start_some, sub, callback), name=f"nats callbacks {callback.state.sid}")

    async def _start_some(self, sub: Served[MessageT], callback: Callback[MessageT]) -> None:
        """Start as many workers as the messages need, until the subscription ends.

        By a task of its own: where messages arrive, outside of any task, none can be started.
        """
        state = callback.state
        while True:
            # A worker in the midst of a call may be busy for long, so none of the waiting messages is left to it.
            wanted = min(callback.concurrency, callback.turns + len(state.messages))
            for _ in range(wanted - callback.workers):
                self._start(sub, callback, stays=False)
            if state.closed:
                return  # a worker ends when there are no messages, so what is left has its workers
            await sub.wait_for_arrival()

    def _start(self, sub: Served[MessageT], callback: Callback[MessageT], *, stays: bool) -> None:
        """A worker that stays until the subscription ends, or goes as soon as there are no messages."""
        callback.workers += 1
        self._tasks.start(partial(self._run, sub, callback, stays), name=f"nats callback {callback.state.sid}")

    async def _run(self, sub: Served[MessageT], callback: Callback[MessageT], stays: bool) -> None:
        task = anyio.get_current_task().id
        callback.task_ids.add(task)
        self.task_ids.add(task)
        try:
            await self._call(sub, callback, stays)
        except anyio.get_cancelled_exc_class():
            if not self._tasks.is_replaced("a callback"):
                raise
            self._start(sub, callback, stays=stays)
        finally:
            callback.workers -= 1
            callback.task_ids.discard(task)
            self.task_ids.discard(task)

    async def _call(self, sub: Served[MessageT], callback: Callback[MessageT], stays: bool) -> None:
        function = callback.function
        state = callback.state
        while await self._wait_for_messages(sub, callback, stays):
            state.handler_started()
            callback.turns += 1
            try:
                for message in sub.take_turn():
                    try:
                        result = function(message)
                        if result is not None and inspect.isawaitable(result):
                            await result
                    except Exception as error:
                        what = f"the callback of the subscription to {state.subject} (sid {state.sid}) raised"
                        self._log.failure(what, error)
            finally:
                callback.turns -= 1
                state.handler_finished()
                sub.progress()

    async def _wait_for_messages(self, sub: Served[MessageT], callback: Callback[MessageT], stays: bool) -> bool:
        """Whether there are messages; False for a worker that has to end."""
        state = callback.state
        if state.messages:
            await anyio.lowlevel.checkpoint()
        while not state.messages:
            if state.closed or not stays or self._is_failed():
                return False
            await sub.wait_for_arrival()
        return True
