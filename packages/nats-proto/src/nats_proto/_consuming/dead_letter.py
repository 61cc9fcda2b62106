"""A message that was given up, as it is stored elsewhere: what it was, and what became of it.

The stored one has the payload and the headers of the message. What begins with ``Nats-`` is left out: those speak to
the stream that stores it (ids, times to live, conditions, schedules), and were meant for another one. In their place
there is an id made of stream, consumer and sequence, so that what is given up twice, by a worker that was killed in
between, is stored once within the duplicate window. Where it comes from is told by headers of our own.

When it could not be stored
---------------------------
As long as the server would deliver the message again it is to do so, after a pause. After its last attempt it would
not, whatever it is told: so the message stays with its handler, is kept alive, and the letter is sent again with
growing pauses, for as long as `work` keeps messages alive, and until it is stopped. What is refused for what it is
would be refused each time: then, and in the end, the message is left. It stays in its stream, and the log says where.
"""

from __future__ import annotations

from typing import Final, Literal

from .._jetstream.acknowledge import Acknowledgeable
from .._jetstream.errors import ApiError
from .._jetstream.metadata import Metadata
from .._value import Value
from .._wire.headers import Headers
from ..errors import (
    HeadersNotSupportedError,
    MaxControlLineError,
    MaxPayloadError,
    NATSError,
    PermissionsError,
)
from .verdicts import pause_after
from .work_options import WorkOptions

__all__ = ["PART", "Unburied", "dead_letter_headers", "left_text", "unburied"]

RESERVED: Final = "nats-"
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
PART: Final = 0.25
"""Seconds of a pause after which a handler looks whether its reader was stopped."""
_FOR_GOOD: Final = (HeadersNotSupportedError, MaxControlLineError, MaxPayloadError, PermissionsError)


class Unburied(Value, frozen=True):
    """What becomes of a message whose dead letter was not stored: delivered ``again`` after ``delay`` seconds, the
    letter sent again after it (``wait``), or the message ``left``."""

    kind: Literal["again", "wait", "left"]
    delay: float = 0.0


def unburied(
    message: Acknowledgeable, error: NATSError, options: WorkOptions, *, max_deliver: int, tries: int, seconds: float
) -> Unburied:
    """After so many tries, the first of which began ``seconds`` ago, and the last of which has failed with ``error``.

    ``max_deliver``: of the consumer, 0 or less: without a limit.
    """
    if max_deliver < 1 or message.metadata.num_delivered < max_deliver:
        return Unburied("again", pause_after(message, options))
    for_good = isinstance(error, _FOR_GOOD) or (isinstance(error, ApiError) and 400 <= error.code < 500)
    if for_good or seconds >= options.keep_alive_for:
        return Unburied("left")
    return Unburied("wait", min(FIRST_PAUSE * 2.0 ** min(tries - 1, 16), LONGEST_PAUSE))


def left_text(what: str, subject: str, metadata: Metadata) -> str:
    """For the log, when a message is left without a dead letter."""
    return (
        f"{what}: no dead letter for {subject!r} was stored for message {metadata.stream_sequence} of stream "
        f"{metadata.stream!r}, which will not be delivered again: it is still in the stream"
    )


def dead_letter_headers(headers: Headers | None, subject: str, metadata: Metadata, reason: str) -> Headers:
    """For a message of this subject, with these headers. Those given stay as they are."""
    made = Headers()
    for name, value in () if headers is None else headers.items():
        if not name.lower().startswith(RESERVED):
            made.add(name, value)
    made["Nats-Msg-Id"] = f"{metadata.stream}.{metadata.consumer}.{metadata.stream_sequence}"
    made["Dead-Letter-Reason"] = reason
    made["Dead-Letter-Subject"] = subject
    made["Dead-Letter-Stream"] = metadata.stream
    made["Dead-Letter-Consumer"] = metadata.consumer
    made["Dead-Letter-Sequence"] = str(metadata.stream_sequence)
    made["Dead-Letter-Attempts"] = str(metadata.num_delivered)
    return made
