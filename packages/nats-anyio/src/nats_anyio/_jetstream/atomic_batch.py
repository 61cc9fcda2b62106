"""`AtomicBatch`: messages that a stream stores together or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, Unpack

import anyio

from nats_proto import HeadersLike, Payload
from nats_proto._jetstream.pub_ack import PubAck
from nats_proto._publishing.headers import PublishOptions, publish_headers
from nats_proto._publishing.versions import check_versions
from nats_proto.errors import NATSError

from .message import Acknowledger

if TYPE_CHECKING:
    from nats_proto._publishing.atomic_batch import AtomicBatch as Core

    from .caller import Caller

__all__ = ["AtomicBatch", "Sender"]


class Sender(Acknowledger, Protocol):
    """A client, of which this is all that batches need."""

    @property
    def max_payload(self) -> int | None:
        """As `Client.max_payload`."""


class AtomicBatch:
    """Messages that their stream stores together, one behind the other, or not at all (server 2.12, ADR-50).

    Leaving the ``async with`` block commits them, and an exception in it gives them up: nothing is stored then. All
    must be for one stream, which must have ``allow_atomic``. The server forgets a batch to which nothing was added for
    10 s. For any number of tasks.
    """

    def __init__(self, caller: Caller, batch: Core) -> None:
        self._caller = caller
        self._batch = batch
        self._lock = anyio.Lock(fast_acquire=True)
        """The numbers of the messages are their order on the wire."""
        self._error: NATSError | None = None
        """Why it has failed before it was committed."""
        self._told = False
        """Its user knows what has become of it."""
        self._pub_ack: PubAck | None = None

    def __repr__(self) -> str:
        state = "stored" if self._pub_ack is not None else "ended" if self._batch.ended else "open"
        return f"<nats_anyio.AtomicBatch of {self._batch.size}, {state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self.discard()
        elif self._error is not None:
            raise self._error  # whoever has caught it in the block learns once more that nothing is stored
        elif self._batch.size and not self._told:
            await self.commit()

    @property
    def size(self) -> int:
        """How many messages were added."""
        return self._batch.size

    @property
    def pub_ack(self) -> PubAck | None:
        """What the stream has said to the commit: ``sequence`` is that of the last message, ``count`` how many there
        are. None before, and when nothing was added."""
        return self._pub_ack

    async def publish(
        self,
        subject: str,
        data: Payload = b"",
        *,
        headers: HeadersLike | None = None,
        **options: Unpack[PublishOptions],
    ) -> None:
        """Add a message. It is sent with the next call, since the server is told which one is the last.

        The options are those of `JetStream.publish`. Conditions are looked at when the batch is committed, as of the
        moment before it; ``expected_last_sequence`` is for the first message, ``expected_last_msg_id`` for none.

        For what cannot be sent it raises what `Client.publish` raises, `ValueError`, `TypeError`, `ApiLevelError` for
        an option that the server is too old for, `LocalProtocolError` for a message too many or a batch that has ended;
        the batch stays as it was. When the messages before cannot be sent, or the stream takes no batch, the batch has
        failed: it raises `AtomicBatchError`, `TooManyRequestsError` for too many open batches, and as
        `JetStream.publish`.
        """
        caller = self._caller
        check_versions(caller.api, options)
        made = publish_headers(subject, data, caller.headers_for(subject, headers), options)
        async with self._lock:
            adding = self._batch.add(subject, data, made)
            try:
                await caller.run(adding)
            except NATSError as error:
                self._error = error
                raise

    async def commit(self) -> PubAck:
        """Store all that was added; leaving the block does this as well.

        After an `AtomicBatchError`, and for a condition that does not hold (`WrongLastSequenceError`), nothing is
        stored. When the server does not answer, it raises `NATSTimeoutError` or what `Client.request` raises, with
        ``outcome`` "unknown": all of it is stored, or nothing. `LocalProtocolError` when nothing was added.
        """
        async with self._lock:
            try:
                self._pub_ack = await self._caller.run(self._batch.commit())
            except NATSError:
                self._told = True
                raise
            self._told = True
        return self._pub_ack

    def discard(self) -> None:
        """Give it up: nothing is stored. Does nothing after its end."""
        self._error, self._told = None, True
        self._batch.discard()
