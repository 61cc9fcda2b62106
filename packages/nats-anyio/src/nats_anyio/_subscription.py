"""A subscription: iterate it, ask for the next message or a batch, or let a callback have them."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from inspect import isawaitable
from itertools import repeat
from operator import length_hint
from types import CoroutineType
from typing import TYPE_CHECKING, Final, Generic, Never, NoReturn, Protocol, Self

import anyio
import anyio.lowlevel

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

from ._message import Publisher, ReceivedT

if TYPE_CHECKING:
    from ._engine.hub import Hub

__all__ = ["SubscriptionBase"]

TURN: Final = 8192
"""Messages after which a reader that never had to wait lets others run, and notices a cancellation. That is more than
one chunk from the network can hold: a reader who keeps up with what comes in must not fall behind by letting others
run."""


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
        "_arrival",
        "_client",
        "_drained",
        "_has_callback",
        "_hub",
        "_left",
        "_state",
        "_turn",
    )

    def __init__(
        self,
        client: Owner,
        hub: Hub[ReceivedT],
        state: SubscriptionState[ReceivedT],
        *,
        has_callback: bool = False,
    ) -> None:
        self._client = client
        self._hub = hub
        self._state = state
        self._has_callback = has_callback
        self._arrival: anyio.Event | None = None
        """Somebody waits until there is a message."""
        self._drained: anyio.Event | None = None
        """Somebody waits for the end of a drain."""
        self._left: object = _NONE_LEFT
        """What knows how many messages may still be taken in this turn (`length_hint`)."""
        self._turn: Iterator[ReceivedT] = _NO_TURN

    def __del__(self) -> None:
        if not self._state.finished:
            self.abandon()

    def __repr__(self) -> str:
        return f"<nats_anyio.Subscription {self.subject!r} sid={self.sid} {self._state.status.name}>"

    def __await__(self) -> Generator[None, None, Self]:
        yield from ()  # there is nothing to wait for
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.unsubscribe()

    # --- reading -----------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        self._hub.check_caller()
        return self

    async def __anext__(self) -> ReceivedT:
        """The next message. The iteration ends with the subscription, or when the client is closed by its user.

        Raises `ConnectionClosedError` when the client gave up, `PermissionsError` when the server refuses the
        subscription, `LocalProtocolError` when a callback takes the messages.
        """
        while True:
            try:
                # This runs for each message. One C call takes it from the queue and counts it for the turn.
                for message in self._turn:
                    message.client = self._client
                    return message
            except IndexError:
                pass  # none left
            try:
                await self._wait(iterating=True)
            except SubscriptionClosedError:
                await anyio.lowlevel.checkpoint()
                raise StopAsyncIteration from None
            except NATSError:
                await anyio.lowlevel.checkpoint()  # who tries again at once lets the client's tasks run
                raise

    async def next(self, timeout: float | None = None) -> ReceivedT:
        """The next message; waits for it for ``timeout`` seconds, None: for ever, 0 and less: not at all.

        Raises `NATSTimeoutError`; when no message is left `SubscriptionClosedError` (unsubscribed, drained, maximum
        reached) or `ConnectionClosedError`; `PermissionsError` while the server refuses the subscription;
        `LocalProtocolError` when a callback takes the messages; `TypeError` and `ValueError` for a ``timeout`` that is
        no number.
        """
        if type(timeout) is not float or not 0.0 <= timeout <= MAX_SECONDS:  # nearly never: it saves a call
            timeout = None if timeout is None else check_timeout("timeout", timeout)
        message = await self.next_until(None if timeout is None else self._hub.now() + timeout)
        if message is None:
            assert timeout is not None  # without one `next_until` returns a message or raises
            raise no_message_in_time(self.subject, timeout, self._client.status)
        return message

    async def next_batch(self, max_msgs: int, timeout: float | None = None) -> list[ReceivedT]:
        """What is there, up to ``max_msgs``; waits for the first alone, an empty list after ``timeout`` seconds.

        Raises as `next` does, and `ValueError` for a maximum below 1.
        """
        check_count("max_msgs", max_msgs)
        self._hub.check_caller()
        if not await self._wait_until(None if timeout is None else self._hub.now() + check_timeout("timeout", timeout)):
            return []
        messages = self._state.take(max_msgs)
        self._begin_turn(max(0, length_hint(self._left) - len(messages)))
        client = self._client
        for message in messages:
            message.client = client
        self.progress()
        return messages

    async def next_until(self, deadline: float | None) -> ReceivedT | None:
        """The next message, or None when there is none at ``deadline`` (absolute). Raises as `next` does."""
        self._hub.check_caller()
        try:
            for message in self._turn:
                message.client = self._client
                self.progress()
                return message
        except IndexError:
            pass  # none left
        if not await self._wait_until(deadline):
            return None
        first = self._state.pop()
        assert first is not None  # it was there, and nothing was awaited since
        first.client = self._client
        self.progress()
        return first

    async def _wait_until(self, deadline: float | None) -> bool:
        """Whether there is a message."""
        state = self._state
        if state.messages and length_hint(self._left) and not self._has_callback:
            return True
        try:
            if deadline is None:
                await self._wait(iterating=False)
            else:
                with anyio.CancelScope(deadline=deadline):
                    await self._wait(iterating=False)
        except NATSError:
            # As in `__anext__`; outside of the scope, whose deadline would hide the error.
            await anyio.lowlevel.checkpoint()
            raise
        return bool(state.messages)

    async def _wait(self, *, iterating: bool) -> None:
        """Return when there is a message; raise the reason when none will come."""
        state = self._state
        self._hub.check_caller()
        if self._has_callback:
            raise LocalProtocolError(f"the messages on {self.subject!r} go to the subscription's callback")
        if state.messages:
            # There are messages, but the turn of this reader is used up: others run before its next one begins.
            await anyio.lowlevel.checkpoint()
        while not state.messages:
            ending = self._hub.failed or state.ending(iterating=iterating)
            if ending is not None:
                self.progress()
                _raise(ending)
            await self._wait_for_arrival()
        self._begin_turn(TURN)

    def _begin_turn(self, msgs: int) -> None:
        """Whoever reads may take so many messages before others run: iterating over ``_turn`` takes and counts them."""
        left = self._left = repeat(self._state.messages, msgs)
        self._turn = map(deque[ReceivedT].popleft, left)

    # --- ends --------------------------------------------------------------------------------------------------------

    async def unsubscribe(self, max_msgs: int | None = None) -> None:
        """End it now, dropping what is queued; or after ``max_msgs`` messages in all, those given so far included.

        Then what is queued beyond the maximum is dropped, and it ends at once when as many have been received. Others
        run meanwhile, but it cannot be cancelled. Does nothing when it has ended. Raises `ValueError` for a maximum
        below 1, or above one that was set before; `TypeError` for one that is no number.
        """
        if self._hub.over:
            return
        self._hub.check_caller()
        self._unsubscribe(max_msgs)
        await anyio.lowlevel.cancel_shielded_checkpoint()

    def abandon(self) -> None:
        """`unsubscribe` for finalizers. They may run in the midst of anything: the next `Hub.settle` sees to it."""
        self._hub.abandoned.append(self._state)

    def _unsubscribe(self, max_msgs: int | None) -> None:
        self._hub.session.unsubscribe(self._state, max_msgs=max_msgs)
        self._hub.settle()
        self.progress()

    async def drain(self, timeout: float | None = None) -> None:
        """Take no new messages, and wait until those the server has sent were read and the callback has returned.

        A message counts as read when it was taken; a callback also has to return. Called from its own callback it does
        not wait: it would wait for itself. A cancelled wait leaves the drain going on.

        Raises `NATSTimeoutError` after ``timeout`` seconds (default: option ``drain_timeout``), what is left can still
        be read; `ConnectionClosedError` when the client was closed.
        """
        self._hub.check_caller()
        seconds = check_timeout("timeout", self._client.drain_timeout if timeout is None else timeout)
        self.begin_drain()
        if self._has_callback and self._hub.workers.is_calling(anyio.get_current_task().id, self._state):
            return
        if self._state.finished:
            await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(seconds):
            while not self._state.finished:
                if self._drained is None:
                    self._drained = anyio.Event()
                await self._drained.wait()
        if self._state.error is not None:
            _raise(self._state.error)
        if not self._state.finished:
            raise not_drained_in_time(self.subject, seconds, self._state.left, self._client.status)

    def begin_drain(self) -> None:
        """`drain`, which goes on by itself: nobody waits, and so nobody can be cancelled here."""
        self._hub.check_caller()
        self._hub.session.drain_subscription(self._state, now=self._hub.now())
        self._hub.settle()

    def end_with(self, error: NATSError) -> None:
        """Its session is not asked any more, in a forked child: it has ended."""
        self._state.end_with(error)

    def wake(self) -> None:
        """There are messages, or there will be none."""
        if self._turn is _NO_TURN and self._state.messages and not self._has_callback:
            self._begin_turn(TURN)
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None
        self._tell_drained()

    def progress(self) -> None:
        """Messages were taken, or a callback has returned: whoever waits for the end of a drain may go on."""
        if self._state.status is not SubscriptionStatus.ACTIVE:
            self._tell_drained()
            if self._state.finished:
                self._hub.session.subscription_progress(now=self._hub.now())
                self._hub.settle()

    def _tell_drained(self) -> None:
        if self._drained is not None and self._state.finished:
            self._drained.set()
            self._drained = None

    # --- for whoever has its messages --------------------------------------------------------------------------------

    async def _wait_for_arrival(self) -> None:
        """Until there may be messages, or there will be none."""
        if self._arrival is None:
            self._arrival = anyio.Event()
        await self._arrival.wait()

    def give_to(self, function: Callable[[ReceivedT], object], turn: Iterator[object]) -> Awaitable[object] | None:
        """Call it with each message that is there, for as long as ``turn`` lasts, or until it returns an awaitable."""
        client = self._client
        messages = self._state.messages
        for _ in turn:
            if not messages:
                break
            message = messages.popleft()
            message.client = client
            result = function(message)
            if result is not None and (type(result) is _COROUTINE or isawaitable(result)):
                return result
        return None

    async def go_on_giving_to(
        self, function: Callable[[ReceivedT], object], turn: Iterator[object], awaitable: Awaitable[object]
    ) -> None:
        """Await this, and then do as `give_to` does, but await what the callback returns.

        It is written out a second time, since to call `give_to` for each message would take half as long as all of
        this does for a callback that does not wait.
        """
        client = self._client
        messages = self._state.messages
        await awaitable
        for _ in turn:
            if not messages:
                break
            message = messages.popleft()
            message.client = client
            result = function(message)
            if result is not None and (type(result) is _COROUTINE or isawaitable(result)):
                await result

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
        return self._state.pending_msgs, self._state.pending_bytes

    @property
    def delivered(self) -> int:
        """Messages given to the user."""
        return self._state.delivered

    @property
    def refusal(self) -> NATSError | None:
        """What the server refuses the subscription with, since it has no permission; None while it has."""
        return self._state.denied

    @property
    def dropped(self) -> int:
        """Messages received and never given: over the pending limits or a maximum, or unread when it was ended."""
        return self._state.dropped + self._state.discarded


_COROUTINE: Final[type[Coroutine[object, object, object]]] = CoroutineType
_NONE_LEFT: Final = repeat(None, 0)
_NO_TURN: Final[Iterator[Never]] = iter(())
"""What all subscriptions share that never had a message, or whose messages go to a callback."""


def _raise(error: NATSError) -> NoReturn:
    """Raise an error that may be raised again, without the traces of the times before."""
    raise error.with_traceback(None)
