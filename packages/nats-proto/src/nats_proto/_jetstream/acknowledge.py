"""How a delivered message is acknowledged: what is published to its reply subject, and whether it may be.

Theory of operation
-------------------
An acknowledgement is a message to the reply subject of the one that it is for (ADR-15). `ACK`, `nak` and `term` settle
a message, once: a second one is refused here, before anything is sent. `IN_PROGRESS` settles nothing, and may be
repeated: the server waits for ``ack_wait`` anew. A client's method that settles asks `Acknowledgeable.settle` for the
subject, the other one `Acknowledgeable.ack_subject`.

Each client has a class of messages of its own, since what is published needs the client. What both must decide alike is
here: a class without fields, which the clients' classes have as a second base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from .._json.durations import DurationLike, take_duration
from .._limits import check_seconds
from .._value import Value
from .errors import AlreadyAcknowledgedError, NotJetStreamMessageError
from .metadata import ACK_PREFIX, Metadata, not_an_ack_subject, parse_ack_subject

__all__ = ["ACK", "IN_PROGRESS", "NAK", "TERM", "Acknowledgeable", "Delivery", "nak", "term"]

ACK: Final = b"+ACK"
NAK: Final = b"-NAK"
IN_PROGRESS: Final = b"+WPI"
TERM: Final = b"+TERM"


def nak(delay: DurationLike | None = None) -> bytes:
    """Deliver it again, at once or after ``delay`` (seconds, or a `timedelta`).

    Raises `TypeError` and `ValueError` for what is no duration.
    """
    if delay is None:
        return NAK
    nanoseconds = take_duration("delay", delay).nanoseconds
    return b'-NAK {"delay": %d}' % nanoseconds if nanoseconds else NAK


def term(reason: str | None = None) -> bytes:
    """Never deliver it again. ``reason`` goes into the server's advisory (servers from 2.10.4 on).

    Raises `TypeError` for a reason that is no text, `ValueError` for one that is not one line of printable text.
    """
    if reason is None:
        return TERM
    _check_line("reason", reason)
    return b"+TERM " + reason.encode() if reason else TERM


class Delivery(Value, frozen=True, kw_only=True):
    """What all messages of one reader have in common.

    ``acknowledged``: whether the consumer expects acknowledgements. ``ack_wait``: how long it waits for one (seconds),
    None when that is not known; ``backoff``: the same by attempt, in place of it. Raises `TypeError`, `ValueError`.
    """

    stream: str
    consumer: str
    acknowledged: bool = True
    ack_wait: float | None = None
    backoff: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.ack_wait is not None:
            check_seconds("ack_wait", self.ack_wait)
        for wait in self.backoff:
            check_seconds("backoff", wait)

    def wait(self, attempt: int) -> float | None:
        """How long the server waits for an acknowledgement (seconds) when it has delivered a message so often.

        None when that is not known, and when no acknowledgement is expected. A server's ``backoff`` has its first entry
        for the first attempt, and its last one for all further attempts.
        """
        if not self.acknowledged:
            return None
        if self.backoff:
            return self.backoff[min(max(attempt, 1), len(self.backoff)) - 1]
        return self.ack_wait


if TYPE_CHECKING:
    _NoFields = object  # else type checkers would take what is declared below for fields of this class
else:

    class _NoFields(msgspec.Struct, gc=False):
        """What a struct that the collector need not look at may have as a second base, with any version of msgspec."""


class Acknowledgeable(_NoFields):
    """The second base of each client's class of JetStream messages, which has the fields that are declared here."""

    if TYPE_CHECKING:
        reply: str | None
        delivery: Delivery
        received: float
        """When the reader took it (absolute seconds, monotonic), or when it may have come, if nobody has looked for
        long."""
        settled: bool
        """It was acknowledged finally: by ack, nak or term."""
        parsed_metadata: Metadata | None

    @property
    def metadata(self) -> Metadata:
        """What the reply subject tells: stream, sequences, attempt, time. Parsed when first read, and kept.

        Raises `NotJetStreamMessageError` when no consumer has delivered the message.
        """
        metadata = self.parsed_metadata
        if metadata is None:
            metadata = self.parsed_metadata = parse_ack_subject(self.reply)
        return metadata

    @property
    def deadline(self) -> float | None:
        """When the server gives the message to another reader, at the latest (absolute seconds, monotonic).

        None when that is not known, or never happens. Counted from the moment when it was taken from the queue: the
        server counts from when it has sent it.
        """
        delivery = self.delivery
        wait = delivery.wait(self.metadata.num_delivered if delivery.backoff else 1)
        return None if wait is None else self.received + wait

    def ack_subject(self) -> str:
        """Where an acknowledgement goes that settles nothing.

        Raises `AlreadyAcknowledgedError` when the message is settled, `NotJetStreamMessageError` when no consumer has
        delivered it.
        """
        reply = self.reply
        if self.settled:
            raise AlreadyAcknowledgedError(f"the message was acknowledged already{self._which()}")
        if reply is None:
            raise NotJetStreamMessageError("the message has no reply subject, so no consumer has delivered it")
        if not reply.startswith(ACK_PREFIX):
            raise not_an_ack_subject(reply)
        return reply

    def settle(self) -> str:
        """Where the acknowledgement goes that settles the message. It counts as settled from now on: when nothing could
        be sent after all, the client sets ``settled`` back. Raises as `ack_subject`."""
        reply = self.reply
        if self.settled or reply is None or not reply.startswith(ACK_PREFIX):
            return self.ack_subject()  # raises
        self.settled = True
        return reply

    def _which(self) -> str:
        try:
            metadata = self.metadata
        except NotJetStreamMessageError:
            return ""
        return f": sequence {metadata.stream_sequence} of stream {metadata.stream!r}, by {metadata.consumer!r}"


def _check_line(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str, not {type(text).__name__}")
    if not text.isprintable():
        raise ValueError(f"{name} must be one line without control characters: {text!r:.64}")
