"""What the reply subject of a delivered message tells about it (ADR-15).

Two forms exist. Servers have used the first from the beginning, the second names the domain and the account as well:

    $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>
    $JS.ACK.<domain>.<account>.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>...

The first has nine tokens, the second eleven and more: what follows the last number is for servers alone. ``_`` is no
domain. The numbers are unsigned, of 64 bits, in ASCII digits. Whatever else a reply subject is, it is refused: it comes
from outside, and may be anything.
"""

from __future__ import annotations

import re
from typing import Final

from .._json.durations import Timestamp
from .._value import Value
from .errors import NotJetStreamMessageError

__all__ = ["ACK_PREFIX", "Metadata", "parse_ack_subject"]

ACK_PREFIX: Final = "$JS.ACK."

# Not `\d`, which is any digit of Unicode. Twenty digits are enough for 64 bits.
_NUMBERS: Final = r"([0-9]{1,20})\.([0-9]{1,20})\.([0-9]{1,20})\.([0-9]{1,20})\.([0-9]{1,20})"
_FIRST_FORM: Final = re.compile(rf"\$JS\.ACK\.([^.]+)\.([^.]+)\.{_NUMBERS}").fullmatch
_SECOND_FORM: Final = re.compile(rf"\$JS\.ACK\.([^.]+)\.[^.]+\.([^.]+)\.([^.]+)\.{_NUMBERS}(?:\..*)?").fullmatch
_NO_DOMAIN: Final = "_"
_MAX: Final = 2**64 - 1
MAX_SHOWN: Final = 200
"""Characters of a subject that stand in an error's text."""


class Metadata(Value, frozen=True, kw_only=True):
    """Where a message stands in its stream, and how it was delivered."""

    stream: str
    consumer: str
    num_delivered: int
    """How often it was delivered, this time included: 1 for the first time."""
    stream_sequence: int
    consumer_sequence: int
    timestamp: Timestamp
    """When it was stored; its ``nanoseconds`` are exact."""
    num_pending: int
    """Messages that the consumer had still to deliver behind this one."""
    domain: str | None = None


def parse_ack_subject(subject: str | None) -> Metadata:
    """The metadata in a message's reply subject. `NotJetStreamMessageError` when it is no such subject."""
    if subject is None:
        raise NotJetStreamMessageError("the message has no reply subject, so no consumer has delivered it")
    domain: str | None = None
    found = _FIRST_FORM(subject)
    if found is not None:
        stream, consumer, *texts = found.groups()
    else:
        found = _SECOND_FORM(subject)
        if found is None:
            raise not_an_ack_subject(subject)
        domain, stream, consumer, *texts = found.groups()
    numbers = [int(text) for text in texts]
    if max(numbers) > _MAX:
        raise not_an_ack_subject(subject)
    delivered, stream_sequence, consumer_sequence, time, pending = numbers
    return Metadata(
        stream=stream,
        consumer=consumer,
        num_delivered=delivered,
        stream_sequence=stream_sequence,
        consumer_sequence=consumer_sequence,
        timestamp=Timestamp.from_nanoseconds(time),
        num_pending=pending,
        domain=None if domain == _NO_DOMAIN else domain,
    )


def not_an_ack_subject(subject: str) -> NotJetStreamMessageError:
    """For a message that no consumer has delivered."""
    shown = ascii(subject if len(subject) <= MAX_SHOWN else f"{subject[:MAX_SHOWN]}...")
    return NotJetStreamMessageError(f"no consumer has delivered the message: its reply subject is {shown}")
