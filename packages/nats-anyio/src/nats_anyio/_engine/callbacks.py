"""Callbacks of subscriptions, and the tasks that call them: the workers.

Theory of operation
-------------------
No callback has a task of its own, so one that has no messages costs nothing.

    messages ──▶ the callbacks that are ready ──▶ the worker on duty calls them, one after the other
                                                        │ a call suspends
                                                        └──▶ another worker takes over the duty

The worker on duty is woken once for all messages that came together. What a callback returns to be awaited is awaited
in the task of that worker. When it suspends, another worker takes over the duty, and this one stays with its callback,
until there are no messages for it. Then it waits for the duty itself, or ends when enough others wait. So a call that
waits for something occupies one worker, and holds up no other subscription.

A callback is queued when messages arrive, unless it is queued already, or as many calls as may run at once are under
way. It is queued again when a call has suspended and another may begin, and when a worker has left messages behind:
because it was the turn of others, or because the worker was cancelled.

Each callback has a context, a copy of that of the call of ``subscribe``, and another copy for each further call at
once. Each step of a call runs in it, whichever worker's task that is.

**In place of a worker.** On trio the task that reads is a task as workers are, and to wake one of them for a message
that comes alone takes more time than all else that is done for it. So the task that reads calls the callback itself, if
one alone has messages, and only a few. What such a call returns to be awaited is awaited in a task of its own, and the
next calls of that callback are left to the workers.

Whatever a callback raises is logged and survived. It may block its own subscription, never the client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from contextvars import Context, copy_context
from functools import partial
from inspect import iscoroutinefunction
from itertools import repeat
from operator import length_hint
from typing import Final, Generic, Protocol, TypeVar

import anyio
import anyio.lowlevel

from nats_proto import Message, SubscriptionState, SubscriptionStatus
from nats_proto.errors import NATSError

from .event_loop import EventLoop, Wait
from .log import Log
from .message_type import MessageT
from .tasks import Tasks

__all__ = ["Workers"]

MessageT_co = TypeVar("MessageT_co", bound=Message, covariant=True)

TURN: Final = 8192
"""Messages after which a worker that never had to wait lets others run: more than one chunk from the network holds."""
FEW: Final = 8
"""Messages that the task that reads hands on itself, at most. It should soon read on."""
MAX_IDLE: Final = 16
"""Workers that wait for the duty; more than these end. To start one takes several times as long as to wake one."""


class Served(Protocol[MessageT_co]):
    """A subscription that has a callback, as its workers know it."""

    def give_to(self, function: Callable[[MessageT_co], object], turn: Iterator[object]) -> Awaitable[object] | None:
        """Call it with each message that is there, for as long as ``turn`` lasts, or until it returns an awaitable."""
        ...

    async def go_on_giving_to(
        self, function: Callable[[MessageT_co], object], turn: Iterator[object], awaitable: Awaitable[object]
    ) -> None:
        """Await this, and then do as `give_to` does, but await what the callback returns."""
        ...

    def progress(self) -> None:
        """A callback has returned."""
        ...

    def wake(self) -> None:
        """There will be no messages any more."""
        ...

    def end_with(self, error: NATSError) -> None:
        """Its session is not asked any more."""
        ...


class _Callback(Generic[MessageT]):
    """One subscription's callback: a function, or one that returns something to await."""

    __slots__ = ("_contexts", "_origin", "awaits", "function", "queued", "room", "state", "sub")

    def __init__(
        self,
        sub: Served[MessageT],
        state: SubscriptionState[MessageT],
        function: Callable[[MessageT], object],
        concurrency: int,
    ) -> None:
        self.sub: Final = sub
        self.state: Final = state
        self.function: Final = function
        self.room = concurrency
        """So many more calls may begin: those that may run at once, without those under way."""
        self.queued = False
        """It stands among those that are ready."""
        self.awaits: bool = iscoroutinefunction(function)
        """What it returns is awaited, or was to be once: the task that reads does not call it."""
        self._origin = copy_context()
        self._contexts: list[Context] = []
        """Those of calls that may begin."""

    def begin(self) -> Context:
        """A call begins; its context."""
        self.state.handler_started()
        self.room -= 1
        return self._contexts.pop() if self._contexts else self._origin.copy()

    def end(self, context: Context) -> None:
        """A call is over, and maybe many that have followed it."""
        self._contexts.append(context)
        self.room += 1
        self.state.handler_finished()
        if self.state.status is not SubscriptionStatus.ACTIVE:
            self.sub.progress()


class _Worker(Generic[MessageT]):
    """One task that calls callbacks."""

    __slots__ = ("called", "cancellations", "on_duty", "turn", "wait")

    def __init__(self, wait: Wait, cancellations: Callable[[], int]) -> None:
        self.on_duty = True
        """It goes through the callbacks that are ready, or was told to."""
        self.wait = wait
        """What it waits for when it is not on duty and has nothing to call."""
        self.called: _Callback[MessageT] | None = None
        """In the midst of a call."""
        self.turn = repeat(None, TURN)
        """Counts the messages that it may hand on before others run."""
        self.cancellations: Final = cancellations
        """How often its task was cancelled by those who need no cancel scope for that."""


class Workers(Generic[MessageT]):
    """All workers of one client."""

    def __init__(self, loop: EventLoop, tasks: Tasks, log: Log) -> None:
        self._loop = loop
        self._tasks = tasks
        self._log = log
        self._callbacks: dict[int, _Callback[MessageT]] = {}
        """Those of subscriptions that have not ended, by their sids. So a subscription that has one goes on."""
        self._ready: deque[_Callback[MessageT]] = deque()
        """Those that have messages, and may be called."""
        self._duty = False
        """A worker is on duty."""
        self._idle: list[_Worker[MessageT]] = []
        """Workers that wait for the duty. There is one, or one is on duty: else nobody could be woken for messages."""
        self._by_task: dict[int, _Worker[MessageT]] = {}
        self._ended = False
        self._in_place: _Worker[MessageT] = _Worker(loop.new_wait(), loop.cancellations())
        """The task that reads, when it calls a callback."""
        self.held = False
        """Nobody is called out for what arrives: `call_in_place` follows."""

    def serve(
        self,
        sub: Served[MessageT],
        state: SubscriptionState[MessageT],
        function: Callable[[MessageT], object],
        concurrency: int,
    ) -> None:
        """Have a new subscription's callback called."""
        self._callbacks[state.sid] = _Callback(sub, state, function, concurrency)
        if not self._by_task and not self._duty:
            self._call_out()

    def arrived(self, sids: Iterable[int]) -> list[int]:
        """There are messages for these subscriptions; those of them that have no callback."""
        callbacks, ready = self._callbacks, self._ready
        others: list[int] = []
        for sid in sids:
            callback = callbacks.get(sid)
            if callback is None:
                others.append(sid)
            elif callback.room and not callback.queued:
                callback.queued = True
                ready.append(callback)
        if ready and not self._duty and not self.held:
            self._call_out()
        return others

    def call_in_place(self) -> None:
        """By the task that reads, after what was `held`: call the callback that is ready, or have a worker do it."""
        ready = self._ready
        if not ready or self._duty:
            return
        callback = ready[0]
        if len(ready) > 1 or callback.awaits or len(callback.state.messages) > FEW:
            self._call_out()
            return
        ready.clear()
        callback.queued = False
        self._duty = True  # as long as it lasts
        worker = self._in_place
        worker.turn = repeat(None, FEW)
        worker.on_duty = False
        worker.called = callback
        context = callback.begin()
        awaitable: Awaitable[object] | None = None
        try:
            awaitable = context.run(self._call, worker, callback)
        except BaseException as error:
            # Raised here it would be wrapped, and end the connection first. From a task of its own it goes its way as
            # it does from a worker.
            self._tasks.start(partial(_raise, error), name="nats callbacks")
        finally:
            worker.called = None
            self._duty = False
            if awaitable is None:
                self._finished(callback, context)
        if awaitable is not None:
            callback.awaits = True
            self._tasks.start(partial(self._finish, callback, context, awaitable), name="nats callbacks")
            self.suspended(worker, callback)

    def closed(self, sid: int) -> None:
        """No more messages will arrive for this subscription. What is there is still given to its callback."""
        callback = self._callbacks.pop(sid, None)
        if callback is not None:
            callback.sub.wake()

    def served(self) -> list[Served[MessageT]]:
        """The subscriptions that have a callback and have not ended."""
        return [callback.sub for callback in self._callbacks.values()]

    def finish(self) -> None:
        """No subscription is left that messages could arrive for: the workers end when all have been handed on."""
        self._ended = True
        idle, self._idle = self._idle, []
        for worker in idle:
            self._loop.end_wait(worker.wait)

    def is_worker(self, task: int) -> bool:
        """Whether this task calls callbacks."""
        return task in self._by_task or self._in_place.called is not None

    def is_calling(self, task: int, state: SubscriptionState[MessageT]) -> bool:
        """Whether this task is in the midst of a call of this subscription's callback."""
        worker = self._by_task.get(task, self._in_place)
        return worker.called is not None and worker.called.state is state

    # --- who is on duty ----------------------------------------------------------------------------------------------

    def _call_out(self) -> None:
        """Have another worker take the duty, which nobody has. To start one takes a task; the first that waits not."""
        self._duty = True
        if self._idle:
            worker = self._idle.pop()
            worker.on_duty = True
            self._loop.end_wait(worker.wait)
        else:
            self._tasks.start(self._run, name="nats callbacks")

    def _give_up_duty(self) -> None:
        """A worker has suspended or ends: another one has to be on duty, or at least wait for it."""
        self._duty = False
        if self._ready or not self._idle:
            self._call_out()

    def _queue_again(self, callback: _Callback[MessageT]) -> None:
        """There may be messages left, and another call may begin. The caller sees to it that somebody is on duty."""
        if callback.room and not callback.queued and callback.state.messages:
            callback.queued = True
            self._ready.append(callback)

    def _finished(self, callback: _Callback[MessageT], context: Context) -> None:
        """A call is over that no worker on duty has made."""
        callback.end(context)
        self._queue_again(callback)
        if self._ready and not self._duty:
            self._call_out()

    # --- the task of a worker ----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        task = anyio.get_current_task().id
        worker: _Worker[MessageT] = _Worker(self._loop.new_wait(), self._loop.cancellations())
        self._by_task[task] = worker
        try:
            await self._work(worker)
        except anyio.get_cancelled_exc_class():
            if not self._tasks.is_replaced("a callback"):
                raise
            if worker in self._idle:
                self._idle.remove(worker)
            if worker.on_duty or not self._duty:
                self._give_up_duty()
        finally:
            del self._by_task[task]

    async def _work(self, worker: _Worker[MessageT]) -> None:
        while True:
            await self._do_duty(worker)
            if worker.on_duty:
                worker.on_duty = self._duty = False
            elif self._ready and not self._duty:
                worker.on_duty = self._duty = True
                continue
            if self._ended or len(self._idle) >= MAX_IDLE:
                return
            worker.wait = self._loop.new_wait()
            self._idle.append(worker)
            await worker.wait

    async def _finish(self, callback: _Callback[MessageT], context: Context, awaitable: Awaitable[object]) -> None:
        """Await what a call in place of a worker has returned."""
        task = anyio.get_current_task().id
        worker: _Worker[MessageT] = _Worker(self._loop.new_wait(), self._loop.cancellations())
        worker.on_duty = False
        worker.called = callback
        self._by_task[task] = worker
        try:
            await _Steps(self, worker, callback, context, self._go_on(worker, callback, awaitable))
        except anyio.get_cancelled_exc_class():
            if not self._tasks.is_replaced("a callback"):
                raise
        finally:
            del self._by_task[task]
            self._finished(callback, context)

    async def _do_duty(self, worker: _Worker[MessageT]) -> None:
        """Call all callbacks that are ready, until none is, or until a call suspends."""
        ready = self._ready
        cancelled = worker.cancellations()
        worker.turn = repeat(None, TURN)
        while worker.on_duty and ready:
            if not length_hint(worker.turn) or worker.cancellations() != cancelled:
                # Also when a callback has cancelled the task that it runs in: here that hits no call of another one.
                await anyio.lowlevel.checkpoint()
                cancelled = worker.cancellations()
                worker.turn = repeat(None, TURN)
            callback = worker.called = ready.popleft()
            callback.queued = False
            context = callback.begin()
            try:
                awaitable = context.run(self._call, worker, callback)
                if awaitable is not None:
                    await _Steps(self, worker, callback, context, self._go_on(worker, callback, awaitable))
            finally:
                worker.called = None
                callback.end(context)
                self._queue_again(callback)

    def _call(self, worker: _Worker[MessageT], callback: _Callback[MessageT]) -> Awaitable[object] | None:
        """Call it with the messages that are there, until it returns something to await."""
        while True:
            try:
                return callback.sub.give_to(callback.function, worker.turn)
            except Exception as error:
                self._log_failure(callback, error)

    async def _go_on(
        self, worker: _Worker[MessageT], callback: _Callback[MessageT], awaitable: Awaitable[object] | None
    ) -> None:
        """Await this, and what the callback returns for the next messages, until there are none."""
        while awaitable is not None:
            try:
                await callback.sub.go_on_giving_to(callback.function, worker.turn, awaitable)
            except Exception as error:
                self._log_failure(callback, error)
            if not length_hint(worker.turn):
                await anyio.lowlevel.checkpoint()
            awaitable = self._call(worker, callback)

    def suspended(self, worker: _Worker[MessageT], callback: _Callback[MessageT]) -> None:
        """Its call waits for something, so others run meanwhile."""
        self._queue_again(callback)
        if worker.on_duty:
            worker.on_duty = False
            self._give_up_duty()
        elif self._ready and not self._duty:
            self._call_out()

    def _log_failure(self, callback: _Callback[MessageT], error: Exception) -> None:
        state = callback.state
        self._log.failure(f"the callback of the subscription to {state.subject} (sid {state.sid}) raised", error)


async def _raise(error: BaseException) -> None:
    raise error


class _Steps(Generic[MessageT]):
    """Awaits a coroutine each step of which runs in a context; tells of every step that ends with a suspension."""

    __slots__ = ("_callback", "_context", "_coroutine", "_worker", "_workers")

    def __init__(
        self,
        workers: Workers[MessageT],
        worker: _Worker[MessageT],
        callback: _Callback[MessageT],
        context: Context,
        coroutine: Coroutine[object, object, None],
    ) -> None:
        self._workers = workers
        self._worker = worker
        self._callback = callback
        self._context = context
        self._coroutine = coroutine

    def __await__(self) -> Generator[object, object, None]:
        run, send = self._context.run, self._coroutine.send
        worker, callback = self._worker, self._callback
        sent: object = None
        thrown: list[BaseException] = []
        """Empty, or the one on its way into the coroutine. A variable would keep it, and its traceback this frame."""
        try:
            while True:
                wanted = run(self._coroutine.throw, thrown.pop()) if thrown else run(send, sent)
                worker.turn = repeat(None, TURN)
                if worker.on_duty or callback.room:
                    self._workers.suspended(worker, callback)
                sent = None
                try:
                    sent = yield wanted
                except GeneratorExit:
                    run(self._coroutine.close)
                    raise
                except BaseException as error:
                    # Thrown behind this handler, so that it is not taken for the context of errors in the coroutine.
                    thrown.append(error)
        except StopIteration:
            return
