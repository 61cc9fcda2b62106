"""What the driver of machines needs of a client, apart from what users see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from nats_proto.errors import ConnectionClosedError

from ._message import Message
from ._subscription import Subscription

if TYPE_CHECKING:
    from nats_proto import ApiCall, Mark, Session, Subscribe, SubscriptionState

    from ._client import Client
    from ._engine.pump import Pump
    from ._engine.writer import Writer

__all__ = ["MachineHost", "MachineInbox"]


class MachineInbox(Subscription):
    """The subscription of a machine: its queue has marks and answers to calls as well."""

    __slots__ = ("_host",)

    def __init__(self, client: Client, pump: Pump, state: SubscriptionState[Message], host: MachineHost) -> None:
        super().__init__(client, pump, state)
        self._host = host

    def ask(self, api: ApiCall[object], deadline: float | None) -> int | None:
        """Send the request of a call whose answer comes into the queue: its token; None when there was no room."""
        return self._host.ask(api, self._state, deadline)

    def take_mark(self) -> Mark:
        """What the message without a subject stands for that was just given."""
        return self._state.take_mark()


class MachineHost:
    """One client, as `Driver` sees it."""

    def __init__(self, client: Client, pump: Pump, writer: Writer) -> None:
        self._client = client
        self._pump = pump
        self._writer = writer
        self.new_inbox = client.new_inbox
        self.publish_now = client.publish_now
        self.request = client.request
        self.unsent = client.unsent

    def open_inbox(self, subscribe: Subscribe) -> MachineInbox:
        """A subscription whose reader finds marks in its queue. Raises what ``Client.subscribe`` raises."""
        pump = self._pump
        with pump.lock:
            state = pump.session.subscribe(
                subscribe.subject,
                max_pending_msgs=subscribe.max_pending_msgs,
                max_pending_bytes=subscribe.max_pending_bytes,
                marks=True,
            )
            inbox = MachineInbox(self._client, pump, state, self)
            pump.subscriptions[state.sid] = ref(inbox)
            pump.drain()
            pump.give_to_writer()
        pump.leave()
        return inbox

    def ask(self, api: ApiCall[object], into: SubscriptionState[Message], deadline: float | None) -> int | None:
        """Send the request of a call whose answer goes into this queue: the request's token.

        None, and nothing was sent, when there was no room until ``deadline`` (absolute).
        """
        token = 0

        def request(session: Session[Message]) -> None:
            nonlocal token
            token = session.request(api.subject, api.payload, into=into)

        return token if self._writer.do(request, deadline) else None

    def cancel(self, token: int) -> None:
        """Nobody waits for the answer to this request any more."""
        with self._pump.lock:
            self._pump.session.cancel_request(token)

    def pause(self, seconds: float) -> None:
        """Wait for so many seconds; `ConnectionClosedError` as soon as the client is closed."""
        if self._pump.wait_closed(seconds):
            raise ConnectionClosedError("the client is closed")
