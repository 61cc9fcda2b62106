"""A message that was given up, as it is stored elsewhere: what it was, and what became of it.

The stored one has the payload and the headers of the message. What begins with ``Nats-`` is left out: those speak to
the stream that stores it (ids, times to live, conditions, schedules), and were meant for another one. In their place
there is an id made of stream, consumer and sequence, so that what is given up twice, by a worker that was killed in
between, is stored once within the duplicate window. Where it comes from is told by headers of our own.
"""

from __future__ import annotations

from typing import Final

from .._jetstream.metadata import Metadata
from .._wire.headers import Headers

__all__ = ["dead_letter_headers"]

RESERVED: Final = "nats-"


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
