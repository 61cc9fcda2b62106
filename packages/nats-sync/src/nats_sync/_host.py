"""What the driver of machines needs of a client, apart from what users see of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from nats_proto import SubscriptionStatus
from nats_proto.errors import ConnectionClosedError

from ._engine.crew import Crew
from ._engine.waiter import complete_all
from ._message import ReceivedMessage, ReceivedT
from ._subscription import Owner, SubscriptionBase

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable

    import nats_proto
    from nats_proto import ApiCall, HeadersLike, Mark, Payload, Session, Subscribe, SubscriptionState
    from nats_proto.errors import NATSTimeoutError

    from ._engine.hub import Hub
    from ._engine.writer import Writer

__all__ = ["MachineHost", "MachineInbox"]

ReceivedOut = TypeVar("ReceivedOut", bound=ReceivedMessage, covariant=True)


class Asking(Owner, Protocol[ReceivedOut]):
    """A client, of which this is all that is needed here."""

    def new_inbox(self) -> str:
        """As `Client.new_inbox`."""
        ...

    def publish_now(
        self,
        subject: str,
        data: Payload = b"",
        *,
        reply: str | None = None,
        headers: HeadersLike | None = None,
        deadline: float | None = None,
        aside: bool = False,
    ) -> bool:
        """As `Client.publish_now`."""
        ...

    def request_accepted(
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

    def flush(self, timeout: float = ...) -> None:
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
        hub: Hub,
        state: SubscriptionState[nats_proto.Message],
        host: MachineHost[ReceivedT],
    ) -> None:
        super().__init__(client, hub, state)
        self._host = host
        self._poked = False

    def take(self) -> ReceivedT | None:
        """The next message, if there is one: what is there costs no look at the time that is left."""
        try:
            for message in self._queued:
                message.client = self._client
                if not self._queue and self._state.status is not SubscriptionStatus.ACTIVE:
                    self._emptied()
                return message
        except IndexError:
            pass  # none left
        return None

    @property
    def unread(self) -> deque[Any]:
        """Where its messages come. Who takes them there leaves the last one."""
        return self._queue

    def _see_to_writing(self) -> None:
        # Its end is in no hurry, and a program that fetches one batch after another is about to write the next request.
        self._hub.see_to_writing_soon()

    def take_all(self, into: Callable[[Iterable[ReceivedT]], object]) -> None:
        """Put all there are into what this extends, without their client: they are for a machine alone."""
        with suppress(IndexError):  # none left
            into(self._queued)  # in one piece: a signal handler runs before it or after it
        if not self._queue:
            self._emptied()

    def next_until(self, deadline: float | None) -> ReceivedT | None:
        """The next message, or None at ``deadline`` (absolute), and after `poke`. Raises as of `Subscription.next`."""
        try:
            return super().next_until(deadline)
        except _Poked:
            return None

    def poke(self) -> None:
        """From any thread: who waits in `next_until` gets None at once, or else who waits next does."""
        with self._hub.lock:
            self._poked = True
            complete_all(self._waiters)

    def _check_more_to_come(self, iterating: bool) -> None:
        if self._poked:
            self._poked = False
            raise _Poked
        super()._check_more_to_come(iterating)

    def release(self) -> None:
        """A drain need not wait for this any more. Once, after `MachineHost.open_held_inbox`."""
        with self._hub.lock:
            self._state.handler_finished()
            self._progress()
        self._hub.leave()

    def ask(self, api: ApiCall[object], deadline: float | None) -> int | None:
        """Send the request of a call whose answer comes into the queue: its token; None when there was no room."""
        return self._host.ask(api, self._state, deadline)

    def catch_up(self, number: int) -> None:
        """Have a mark put behind all that the server has sent until it reads this."""
        self._host.catch_up(self._state, number)

    def wait_until(self, deadline: float | None) -> bool:
        """Wait for a message, and leave it where it is; False when there was none at the deadline (absolute)."""
        return self._wait(deadline, iterating=False)

    def take_mark(self) -> Mark:
        """What the message without a subject stands for that was just given."""
        return self._state.take_mark()

    def arrivals(self) -> tuple[int, int]:
        """How many of its messages were taken, and how many have come."""
        with self._hub.lock:
            taken = self._state.delivered
            return taken, taken + self._state.pending_msgs


class MachineHost(Generic[ReceivedT]):
    """One client, as `Driver` sees it."""

    def __init__(self, client: Asking[ReceivedT], hub: Hub, writer: Writer) -> None:
        self._client = client
        self._hub = hub
        self._writer = writer
        self.writing = hub.writing
        self.new_inbox = client.new_inbox
        self.publish_now = client.publish_now
        self.request = client.request_accepted
        self.unsent = client.unsent
        self.flush = client.flush
        self.drain_timeout = client.drain_timeout

    def open_inbox(self, subscribe: Subscribe) -> MachineInbox[ReceivedT]:
        """A subscription whose reader finds marks in its queue. Raises what ``Client.subscribe`` raises."""
        return self._open(subscribe, hold=False)

    def open_held_inbox(self, subscribe: Subscribe) -> MachineInbox[ReceivedT]:
        """The same; a drain of the client waits until `MachineInbox.release`."""
        return self._open(subscribe, hold=True)

    def _open(self, subscribe: Subscribe, *, hold: bool) -> MachineInbox[ReceivedT]:
        hub = self._hub
        with hub.lock:
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
            inbox = MachineInbox(self._client, hub, state, self)
            if hold:
                state.handler_started()
            hub.add_subscription(state.sid, inbox, hold=False)
            hub.settle()
            hub.see_to_writing_soon()  # nearly always a request follows, which its caller writes
        hub.leave()
        return inbox

    def ask(
        self, api: ApiCall[object], into: SubscriptionState[nats_proto.Message], deadline: float | None
    ) -> int | None:
        """Send the request of a call whose answer goes into this queue: the request's token.

        None, and nothing was sent, when there was no room until ``deadline`` (absolute).
        """
        token = 0

        def request(session: Session[nats_proto.Message]) -> None:
            nonlocal token
            token = session.request(api.subject, api.payload, headers=api.headers, into=into)

        return token if self._writer.do(request, deadline) else None

    def catch_up(self, sub: SubscriptionState[nats_proto.Message], number: int) -> None:
        """Have the session mark in the queue of ``sub`` what the server has sent until now."""
        self._writer.do(lambda session: session.catch_up(sub, number), needs_room=False)

    def cancel(self, token: int) -> None:
        """Nobody waits for the answer to this request any more."""
        with self._hub.lock:
            self._hub.session.cancel_request(token)

    def crew(self, size: int, step: Callable[[int], bool], waiting: Callable[[], object]) -> Crew:
        """Threads of the client that call ``step``, see `Crew`."""
        return Crew(self._hub, size, step, waiting)

    def log_failure(self, text: str, error: BaseException) -> None:
        """Log what user code raised."""
        self._hub.dispatcher.log_failure(text, error)

    def pause(self, seconds: float) -> None:
        """Wait for so many seconds; `ConnectionClosedError` as soon as the client is closed."""
        if self._hub.wait_closed(seconds):
            raise ConnectionClosedError("the client is closed")
