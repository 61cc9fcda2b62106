"""What the driver of machines needs of a client, apart from what users see of it."""

from __future__ import annotations

from contextlib import suppress
from operator import length_hint
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio

from nats_proto.errors import ConnectionClosedError

from ._engine.crew import Crew
from ._message import ReceivedMessage, ReceivedT
from ._subscription import Owner, SubscriptionBase

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable

    import nats_proto
    from nats_proto import ApiCall, HeadersLike, Mark, Payload, Subscribe, SubscriptionState
    from nats_proto.errors import NATSTimeoutError

    from ._engine.hub import Hub

__all__ = ["MachineHost", "MachineInbox"]

ReceivedOut = TypeVar("ReceivedOut", bound=ReceivedMessage, covariant=True)


class Asking(Owner, Protocol[ReceivedOut]):
    """A client, of which this is all that is needed here."""

    def new_inbox(self) -> str:
        """As `Client.new_inbox`."""
        ...

    async def request_accepted(
        self,
        subject: str,
        data: Payload,
        *,
        timeout: float,
        headers: HeadersLike | None,
        accept: Callable[[nats_proto.Message], bool] | None,
    ) -> ReceivedOut:
        """As `Client.request_accepted`."""
        ...

    def unsent(self, operation: str, seconds: float) -> NATSTimeoutError:
        """As `Client.unsent`."""
        ...

    async def flush(self, timeout: float = ...) -> None:
        """As `Client.flush`."""
        ...


class _Poked(Exception):
    """Out of a wait: see `MachineInbox.poke`."""


class MachineInbox(SubscriptionBase[ReceivedT]):
    """The subscription of a machine: its queue has marks and answers to calls as well."""

    __slots__ = ("_host", "_poked")

    def __init__(
        self,
        client: Asking[ReceivedT],
        hub: Hub[ReceivedT],
        state: SubscriptionState[ReceivedT],
        host: MachineHost[ReceivedT],
    ) -> None:
        super().__init__(client, hub, state)
        self._host = host
        self._poked = False

    def take(self) -> ReceivedT | None:
        """The next message, if there is one and it is not the turn of others to run."""
        try:
            for message in self._turn:
                message.client = self._client
                self.progress()
                return message
        except IndexError:
            pass  # none left
        return None

    @property
    def unread(self) -> deque[Any]:
        """Where its messages come. Who takes them there leaves the last one, and counts them."""
        return self._state.messages

    @property
    def budget(self) -> int:
        """How many may be taken there before others have their turn."""
        return length_hint(self._left)

    @budget.setter
    def budget(self, msgs: int) -> None:
        self._begin_turn(max(0, msgs))

    def take_all(self, into: Callable[[Iterable[ReceivedT]], object]) -> None:
        """Put all whose turn it is into what this extends, without their client: they are for a machine alone."""
        with suppress(IndexError):  # none left
            into(self._turn)
        self.progress()

    async def next_until(self, deadline: float | None) -> ReceivedT | None:
        """The next message, or None at ``deadline`` (absolute), and after `poke`. Raises as of `Subscription.next`."""
        try:
            return await super().next_until(deadline)
        except _Poked:
            return None

    def poke(self) -> None:
        """Who waits in `next_until` gets None at once, or else who waits next does."""
        self._poked = True
        self.wake()

    async def _wait_for_arrival(self) -> None:
        if not self._poked:
            await super()._wait_for_arrival()
        if self._poked:
            self._poked = False
            raise _Poked

    def release(self) -> None:
        """A drain need not wait for this any more. Once, after `MachineHost.open_held_inbox`."""
        self._state.handler_finished()
        if not self._hub.over:
            self.progress()

    def leave(self) -> None:
        """`unsubscribe`, and let nobody run meanwhile."""
        if not self._hub.over:
            self._hub.check_caller()
            self._unsubscribe(None)

    def ask(self, api: ApiCall[object]) -> int:
        """When there is room: send the request of a call whose answer comes into the queue. Its token."""
        return self._host.ask(api, self._state)

    def catch_up(self, number: int) -> None:
        """Have a mark put behind all that the server has sent until it reads this."""
        self._host.catch_up(self._state, number)

    async def wait_until(self, deadline: float | None) -> bool:
        """Wait for a message, and leave it where it is; False when there was none at the deadline (absolute)."""
        return await self._wait_until(deadline)

    def take_mark(self) -> Mark:
        """What the message without a subject stands for that was just given."""
        return self._state.take_mark()

    def arrivals(self) -> tuple[int, int]:
        """How many of its messages were taken, and how many have come."""
        taken = self._state.delivered
        return taken, taken + self._state.pending_msgs


class MachineHost(Generic[ReceivedT]):
    """One client, as `Driver` sees it."""

    def __init__(self, client: Asking[ReceivedT], hub: Hub[ReceivedT]) -> None:
        self._client = client
        self._hub = hub
        self.writer = hub.writer
        self.check_caller = hub.check_caller
        self.new_inbox = client.new_inbox
        self.request = client.request_accepted
        self.unsent = client.unsent
        self.flush = client.flush
        self.drain_timeout = client.drain_timeout
        self.now = hub.now

    def open_inbox(self, subscribe: Subscribe) -> MachineInbox[ReceivedT]:
        """A subscription whose reader finds marks in its queue. Raises what ``Client.subscribe`` raises."""
        return self._open(subscribe, hold=False)

    def open_held_inbox(self, subscribe: Subscribe) -> MachineInbox[ReceivedT]:
        """The same; a drain of the client waits until `MachineInbox.release`."""
        return self._open(subscribe, hold=True)

    def _open(self, subscribe: Subscribe, *, hold: bool) -> MachineInbox[ReceivedT]:
        hub = self._hub
        hub.check_caller()
        state = hub.session.subscribe(
            subscribe.subject,
            queue=subscribe.queue,
            max_pending_msgs=subscribe.max_pending_msgs,
            max_pending_bytes=subscribe.max_pending_bytes,
            marks=True,
            hand_back=subscribe.hand_back,
            awaits=subscribe.awaits,
            asks=subscribe.asks,
        )
        if hold:
            state.handler_started()
        inbox = MachineInbox(self._client, hub, state, self)
        hub.add_subscription(state.sid, inbox)
        hub.settle()
        return inbox

    async def room_until(self, deadline: float | None) -> bool:
        """Wait for room in the outgoing buffer; False when there was none until ``deadline`` (absolute)."""
        hub = self._hub
        hub.check_caller()
        if not hub.session.writable:
            with anyio.CancelScope(deadline=float("inf") if deadline is None else deadline):
                await hub.wait_writable()
        return hub.session.writable

    def publish_at_once(self, subject: str, data: Payload, *, reply: str | None, headers: HeadersLike | None) -> None:
        """When there is room: publish, and write what can be written now, since an answer is waited for."""
        self._hub.session.publish(subject, data, reply=reply, headers=headers)
        self._hub.writer.write_now()

    def ask(self, api: ApiCall[object], into: SubscriptionState[ReceivedT]) -> int:
        """When there is room: send the request of a call whose answer goes into this queue. Its token."""
        token = self._hub.session.request(api.subject, api.payload, headers=api.headers, into=into)
        self._hub.writer.write_now()
        return token

    def catch_up(self, sub: SubscriptionState[ReceivedT], number: int) -> None:
        """Have the session mark in the queue of ``sub`` what the server has sent until now."""
        self._hub.session.catch_up(sub, number)
        self._hub.writer.write_now()

    def cancel(self, token: int) -> None:
        """Nobody waits for the answer to this request any more."""
        self._hub.session.cancel_request(token)

    def crew(self) -> Crew:
        """Tasks of the client that run user code, see `Crew`."""
        return Crew(self._hub)

    def log_failure(self, text: str, error: Exception) -> None:
        """Log what user code raised."""
        self._hub.log_failure(text, error)

    async def pause(self, seconds: float) -> None:
        """Wait for so many seconds; `ConnectionClosedError` as soon as the client is closed."""
        with anyio.move_on_after(seconds):
            await self._hub.ended.wait()
            raise ConnectionClosedError("the client is closed")
