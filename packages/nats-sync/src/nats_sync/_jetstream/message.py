"""A message of a consumer, which is acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import nats_proto
from nats_proto import HeadersLike, Payload
from nats_proto._jetstream.acknowledge import ACK, IN_PROGRESS, Acknowledgeable, Delivery, nak, term
from nats_proto._jetstream.errors import NotJetStreamMessageError
from nats_proto._jetstream.metadata import ACK_PREFIX, Metadata
from nats_proto._json.durations import DurationLike
from nats_proto.errors import NATSTimeoutError

if TYPE_CHECKING:
    from .._engine.writing_side import WritingSide

__all__ = ["Acknowledger", "JetStreamMessage"]


class Acknowledger(Protocol):
    """A client, of which this is all that is needed here."""

    def publish(
        self, subject: str, data: Payload = b"", *, reply: str | None = None, headers: HeadersLike | None = None
    ) -> None:
        """As `Client.publish`."""

    def request(
        self, subject: str, data: Payload = b"", *, timeout: float = ..., headers: HeadersLike | None = None
    ) -> object:
        """As `Client.request`."""


# The garbage collector need not look at messages (``gc=False``): nothing that a message refers to holds messages.
class JetStreamMessage(nats_proto.Message, Acknowledgeable, gc=False, eq=False):
    """A message that a consumer has delivered: acknowledge it, or the server delivers it again after ``ack_wait``.

    Its final acknowledgement is one of `ack`, `ack_sync`, `nak` and `term`; a second one raises
    `AlreadyAcknowledgedError` and sends nothing. With a consumer whose ``ack_policy`` is ``none`` they do nothing. All
    raise what `Client.publish` raises; then the message is not acknowledged yet.
    """

    client: Acknowledger | None = None
    writer: WritingSide | None = None
    delivery: Delivery = Delivery(stream="", consumer="")
    received: float = 0.0
    settled: bool = False
    parsed_metadata: Metadata | None = None

    def __repr__(self) -> str:
        return f"JetStreamMessage(subject={self.subject!r}, reply={self.reply!r}, data={self.data!r})"

    def ack(self) -> None:
        """It is done. Returns when the acknowledgement is in the outgoing buffer: the server may still not get it."""
        # `_settle` in one piece: each message is acknowledged, and four calls less are a tenth of what it costs.
        reply, writer = self.reply, self.writer
        if (
            writer is None
            or reply is None
            or self.settled
            or not self.delivery.acknowledged
            or not reply.startswith(ACK_PREFIX)
        ):
            self._settle(ACK)
            return
        self.settled = True
        try:
            if not writer.publish_quickly(reply, ACK, None, None):
                self._client().publish(reply, ACK)
            elif not writer.attended:
                writer.attend()
        except BaseException:
            self.settled = False
            raise

    def ack_sync(self, timeout: float = 5.0) -> None:
        """`ack`, and wait until the server has confirmed it, for ``timeout`` seconds.

        Raises `NATSTimeoutError`, `NoRespondersError` and what else `Client.request` raises: it is unknown then whether
        the server has it, and the call can be repeated.
        """
        if not self.delivery.acknowledged:
            return
        subject = self.settle()
        try:
            self._client().request(subject, ACK, timeout=timeout)
        except BaseException as error:
            self.settled = False
            if isinstance(error, NATSTimeoutError):
                error.add_note(f"the acknowledgement of {self.subject!r} was not confirmed")
            raise

    def nak(self, delay: DurationLike | None = None) -> None:
        """Deliver it again: at once, or after ``delay`` (seconds, or a `timedelta`)."""
        self._settle(nak(delay))

    def term(self, reason: str | None = None) -> None:
        """Never deliver it again. ``reason`` goes into the server's advisory (one line; server 2.10.4)."""
        self._settle(term(reason))

    def in_progress(self) -> None:
        """It takes longer: the server begins to wait for the acknowledgement anew. May be repeated."""
        if self.delivery.acknowledged:
            self._client().publish(self.ack_subject(), IN_PROGRESS)

    def _settle(self, payload: bytes) -> None:
        if not self.delivery.acknowledged:
            return
        subject = self.settle()
        try:
            self._client().publish(subject, payload)
        except BaseException:
            self.settled = False
            raise

    def _client(self) -> Acknowledger:
        if self.client is None:
            raise NotJetStreamMessageError("the message has no client, since it was unpickled or made by hand")
        return self.client
