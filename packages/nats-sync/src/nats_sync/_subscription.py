"""A subscription: iterate it, ask for the next message or a batch, or let a callback have them.

A message is taken from the queue by ``deque.popleft`` alone, which is atomic. So reading takes no lock as long as there
are messages. The lock is taken by who finds the queue empty, and by who takes the last message of a subscription that
is ending. Messages are taken by a ``for`` over `taken_from`, so that an interrupt finds each message either in the
queue or given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from sys import maxsize
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, Never, NoReturn, Protocol, Self

from nats_proto import (
    MAX_SECONDS,
    SessionStatus,
    SubscriptionState,
    SubscriptionStatus,
    check_count,
    check_timeout,
    no_message_in_time,
    not_drained_in_time,
)
from nats_proto.errors import LocalProtocolError, NATSError, SubscriptionClosedError

from ._engine.handling import Handling, close_coroutine
from ._engine.uninterrupted import taken_from
from ._engine.waiter import Waiter, complete_all, remaining
from ._message import Publisher, ReceivedT

if TYPE_CHECKING:
    from contextvars import Context

    import nats_proto

    from ._engine.hub import Hub

__all__ = ["SubscriptionBase"]


class Owner(Publisher, Protocol):
    """A client, of which this is all that is needed here."""

    @property
    def status(self) -> SessionStatus:
        """As `Client.status`."""
        ...

    @property
    def drain_timeout(self) -> float:
        """The option ``drain_timeout``."""
        ...


class SubscriptionBase(Generic[ReceivedT]):
    """What `Subscription` is, for messages of any class."""

    __slots__ = (
        "__weakref__",
        "_client",
        "_context",
        "_drainers",
        "_handling",
        "_hub",
        "_queue",
        "_queued",
        "_state",
        "_waiters",
    )

    def __init__(
        self,
        client: Owner,
        hub: Hub,
        state: SubscriptionState[nats_proto.Message],
        handling: Handling[ReceivedT] | None = None,
    ) -> None:
        self._client = client
        self._hub = hub
        self._state = state
        self._handling = handling
        self._context: Context | None = None
        """What the callback runs in. Subscriptions share workers; a callback must not see what another one sets."""
        if handling is not None:
            from contextvars import copy_context  # not needed by those who iterate

            self._context = copy_context()
        self._queue: deque[nats_proto.Message] = _NO_QUEUE
        """What those who ask for messages may take: nothing before there was one, and when a callback has them."""
        self._queued: Iterator[ReceivedT] = _NONE_QUEUED
        """Takes messages out of that queue."""
        self._waiters: list[Waiter[None]] = []
        """Who waits for a message, in order."""
        self._drainers: list[Waiter[None]] = []
        """Who waits for the end of a drain."""

    def __del__(self) -> None:
        if not self._state.finished:
            self.abandon()

    def __repr__(self) -> str:
        return f"<nats_sync.Subscription {self.subject!r} sid={self.sid} {self._state.status.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.unsubscribe()

    # --- reading -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ReceivedT:
        """The next message. The iteration ends with the subscription, or when the client is closed by its user.

        Raises `ConnectionClosedError` when the client gave up, `PermissionsError` when the server refuses the
        subscription, `LocalProtocolError` when a callback takes the messages.
        """
        while True:
            try:
                for message in self._queued:
                    message.client = self._client
                    if not self._queue and self._state.status is not SubscriptionStatus.ACTIVE:
                        self._emptied()
                    return message
            except IndexError:
                pass  # none left
            try:
                self._wait(None, iterating=True)
            except SubscriptionClosedError:
                raise StopIteration from None

    def next(self, timeout: float | None = None) -> ReceivedT:
        """The next message; waits for it for ``timeout`` seconds, None: for ever, 0 and less: not at all.

        Raises `NATSTimeoutError`; when no message is left `SubscriptionClosedError` (unsubscribed, drained, maximum
        reached) or `ConnectionClosedError`; `PermissionsError` while the server refuses the subscription;
        `LocalProtocolError` when a callback takes the messages; `TypeError` and `ValueError` for a ``timeout`` that is
        no number.
        """
        if type(timeout) is not float or not 0.0 <= timeout <= MAX_SECONDS:  # else a call for each message less
            timeout = None if timeout is None else check_timeout("timeout", timeout)
        message = self.next_until(None if timeout is None else monotonic() + timeout)
        if message is None:
            assert timeout is not None  # else it waits for ever
            raise no_message_in_time(self.subject, timeout, self._client.status)
        return message

    def next_batch(self, max_msgs: int, timeout: float | None = None) -> list[ReceivedT]:
        """What is there, up to ``max_msgs``; waits for the first alone, an empty list after ``timeout`` seconds.

        Raises as `next` does, and `ValueError` for a maximum below 1.
        """
        check_count("max_msgs", max_msgs)
        first = self.next_until(None if timeout is None else monotonic() + check_timeout("timeout", timeout))
        if first is None:
            return []
        messages = [first]
        client = self._client
        try:
            for message in self._taken(max_msgs - 1):
                message.client = client
                messages.append(message)
        except IndexError:
            pass  # none left
        if not self._queue:
            self._emptied()
        return messages

    def next_until(self, deadline: float | None) -> ReceivedT | None:
        """The next message, or None when there is none at ``deadline`` (absolute). Raises as `next` does."""
        while True:
            try:
                for message in self._queued:
                    message.client = self._client
                    if not self._queue and self._state.status is not SubscriptionStatus.ACTIVE:
                        self._emptied()
                    return message
            except IndexError:
                pass  # none left
            if not self._wait(deadline, iterating=False):
                return None

    def _wait(self, deadline: float | None, *, iterating: bool) -> bool:
        """Whether there was a message before the time was up. Raises the reason when none will come."""
        lock = self._hub.lock
        while not self._queue:
            with lock:
                # Again, under the lock: a message that came since the look above found no waiter to wake.
                if self._queue:
                    break
                self._check_more_to_come(iterating)
                seconds = remaining(deadline)
                if seconds == 0.0:
                    return False
                waiter: Waiter[None] = Waiter()
                self._waiters.append(waiter)
            done = False
            try:
                done = waiter.wait(seconds)
            finally:
                if not done:
                    with lock:
                        self._stop_waiting(waiter)
        return True

    def _check_more_to_come(self, iterating: bool) -> None:
        if self._handling is not None:
            raise LocalProtocolError(f"the messages on {self.subject!r} go to the subscription's callback")
        ending = self._state.ending(iterating=iterating)
        if ending is not None:
            _raise(ending)

    def _stop_waiting(self, waiter: Waiter[None]) -> None:
        """Under the lock, after a time-out or an interrupt."""
        if waiter.done:
            self.notify()  # it was woken after all, for a message that somebody else who waits can have
        else:
            self._waiters.remove(waiter)

    # --- ends --------------------------------------------------------------------------------------------------------

    def unsubscribe(self, max_msgs: int | None = None) -> None:
        """End it now, dropping what is queued; or after ``max_msgs`` messages in all, those given so far included.

        Then what is queued beyond the maximum is dropped, and it ends at once when as many have been received. Raises
        `ValueError` for a maximum below 1, or above one that was set before; `TypeError` for one that is no number.
        """
        hub = self._hub
        with hub.lock:
            hub.session.unsubscribe(self._state, max_msgs=max_msgs)
            hub.settle()
            self._see_to_writing()
            # What was dropped may have been all that a drain was waiting for.
            self._progress()
        hub.leave()

    def abandon(self) -> None:
        """`unsubscribe` soon, by the manager's thread: for finalizers, which may run in the midst of anything."""
        if self._hub.closed is None:
            self._hub.agenda.abandon(self._state)

    def drain(self, timeout: float | None = None) -> None:
        """Take no new messages, and wait until those the server has sent were read and the callback has returned.

        A message counts as read when it was taken; so somebody else has to read what is queued, or it is read after a
        timeout. Called from its own callback, or in a signal handler that has interrupted another call of the client,
        it does not wait: it would wait for itself.

        Raises `NATSTimeoutError` after ``timeout`` seconds (default: option ``drain_timeout``), what is left can still
        be read; `ConnectionClosedError` when the client was closed.
        """
        seconds = check_timeout("timeout", self._client.drain_timeout if timeout is None else timeout)
        waiter: Waiter[None] = Waiter()
        hub = self._hub
        with hub.lock:
            hub.session.drain_subscription(self._state, now=monotonic())
            hub.settle()
            hub.see_to_writing()
            self._drainers.append(waiter)
            # Nothing may be left to wait for already, and then nobody else would end this wait.
            self._tell_drainers()
        hub.leave()
        if hub.callbacks.running.get(get_ident()) is self or hub.interrupted_here():
            return
        try:
            waiter.wait(seconds)
        finally:
            if not waiter.done:
                with hub.lock:
                    if waiter in self._drainers:
                        self._drainers.remove(waiter)
        if self._state.error is not None:
            _raise(self._state.error)
        if not waiter.done:
            raise not_drained_in_time(self.subject, seconds, self._state.left, self._client.status)

    def _emptied(self) -> None:
        """The last message was taken: a drain may have waited for that."""
        if self._state.status is not SubscriptionStatus.ACTIVE:
            with self._hub.lock:
                self._progress()
            self._hub.leave()

    def _progress(self) -> None:
        """Under the lock: messages were taken, or a callback returned."""
        if self._state.finished:
            self._tell_drainers()
            hub = self._hub
            hub.session.subscription_progress(now=monotonic())
            hub.settle()
            self._see_to_writing()

    def _see_to_writing(self) -> None:
        """Under the lock, after something was appended to the outgoing buffer."""
        self._hub.see_to_writing()

    def _tell_drainers(self) -> None:
        if self._state.finished:
            complete_all(self._drainers)

    # --- for the hub and the workers --------------------------------------------------------------------------------

    def notify(self) -> None:
        """Under the lock: there are messages, or there is a reason why not."""
        messages = self._state.messages
        handling = self._handling
        if handling is not None:
            # Without one that is free there is nothing to do: each of its workers looks once more before it leaves.
            if handling.free and messages:
                self._schedule(handling)
            return
        if messages is not self._queue:
            self._queue = messages
            self._queued = self._taken()
        # Without a message there may be a reason why none will come, and all who wait have to learn it.
        for _ in range(min(len(messages), len(self._waiters)) or len(self._waiters)):
            self._waiters.pop(0).complete()

    def notify_closed(self) -> None:
        """Under the lock: no more messages will arrive."""
        self.notify()
        complete_all(self._waiters)
        self._tell_drainers()
        self._release_workers()

    def _schedule(self, handling: Handling[ReceivedT]) -> None:
        """Under the lock, or by its only worker: have it handled, by as many workers as there are messages."""
        state, ready = self._state, self._hub.callbacks.ready
        for _ in _ONCE if handling.concurrency == 1 else range(min(len(state.messages), len(handling.free))):
            try:
                handling.free.pop()
            except IndexError:
                return  # its one worker has come back, and was faster
            state.handler_started()
            ready.append(self)

    def _release_workers(self) -> None:
        handling = self._handling
        if handling is not None and len(handling.free) == handling.concurrency:
            self._hub.callbacks.release(handling)

    def handle_messages(self, limit: int) -> bool:
        """By a worker: give up to so many messages to the callback, one after the other. Whether there may be more."""
        handling, context = self._handling, self._context
        assert handling is not None  # it has a worker
        assert context is not None  # it has a callback
        if handling.concurrency > 1:
            context = context.copy()  # one can be entered by one thread only
        return context.run(self._handle_messages, handling, limit)

    def _handle_messages(self, handling: Handling[ReceivedT], limit: int) -> bool:
        handler = handling.handler
        client = self._client
        messages: deque[ReceivedT] = self._state.messages  # type: ignore[assignment]  # the session makes no others
        for _ in range(limit):
            if not messages:
                return False
            # No signal handler runs in a worker's thread, so nothing comes between the queue and the callback. Another
            # thread may have taken the last one: another worker, or who unsubscribes.
            try:
                message = messages.popleft()
            except IndexError:
                return False
            message.client = client
            try:
                result = handler(message)
                if result is not None and (unawaited := close_coroutine(result)) is not None and not handling.told:
                    handling.told = True
                    raise unawaited
            except BaseException as error:
                what = f"the callback of the subscription to {self.subject} (sid {self.sid}) raised"
                self._hub.dispatcher.log_failure(what, error)
        return True

    def handled(self) -> None:
        """By a worker, not under the lock: it leaves the subscription, or puts it into the pool's queue again.

        With the lock for each subscription, workers and the reader would mostly wait for one another. A single worker
        needs none: nobody else is at this subscription until `Handling.free` says so, and then both this thread and the
        reader look whether there are messages, and one of them takes the item out again.
        """
        handling, state = self._handling, self._state
        assert handling is not None  # it has a worker
        if handling.concurrency == 1:
            state.handler_finished()
            handling.free.append(None)
            if state.messages:
                self._schedule(handling)
            if state.status is SubscriptionStatus.ACTIVE:
                return
        with self._hub.lock:
            if handling.concurrency > 1:
                state.handler_finished()
                handling.free.append(None)
                self._schedule(handling)
            self._progress()  # a drain may have waited for that
            if state.closed:
                self._release_workers()
        self._hub.leave()

    def end_with(self, error: NATSError) -> None:
        """It has ended, in a forked child or after a defect: its session is not asked any more."""
        self._state.end_with(error)

    def _taken(self, limit: int = maxsize) -> Iterator[ReceivedT]:
        """The messages of the queue, each taken out of it when it is asked for: see `taken_from`."""
        return taken_from(self._state.messages, limit)  # type: ignore[arg-type]  # the session makes no others

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def subject(self) -> str:
        """As given to `Client.subscribe`."""
        return self._state.subject

    @property
    def queue(self) -> str | None:
        """The queue group, or None."""
        return self._state.queue

    @property
    def sid(self) -> int:
        """Its number on this client; it stays across reconnects."""
        return self._state.sid

    @property
    def pending(self) -> tuple[int, int]:
        """Messages received and not yet read, and their bytes (headers and payload)."""
        with self._hub.lock:
            return self._state.pending_msgs, self._state.pending_bytes

    @property
    def delivered(self) -> int:
        """Messages given to the user."""
        with self._hub.lock:
            return self._state.delivered

    @property
    def refusal(self) -> NATSError | None:
        """What the server refuses the subscription with, since it has no permission; None while it has."""
        return self._state.denied

    @property
    def dropped(self) -> int:
        """Messages received and never given: over the pending limits or a maximum, or unread when it was ended."""
        return self._state.dropped + self._state.discarded


# All can share it since nothing can ever be put into it: its maximal length is 0.
_NO_QUEUE: Final[deque[nats_proto.Message]] = deque(maxlen=0)
_ONCE: Final = (None,)
_NONE_QUEUED: Final[Iterator[Never]] = iter(())
"""What all subscriptions share that never had a message: queues of their own would take most of their memory."""


def _raise(error: NATSError) -> NoReturn:
    """Raise an error that may be raised again, without the traces of the times before."""
    raise error.with_traceback(None)
