"""A message as a stream has it, read by sequence or by subject.

It comes in two ways: in the JSON of the API, where payload and headers are base64, or directly (ADR-31) as a message
whose headers tell where it is stored. Both give the same value.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from .._json.durations import Timestamp, parse_time
from .._json.wire_kinds import Mismatch
from .._json.wire_value import WireValue, read_wire
from .._value import Value
from .._wire.frames import Message
from .._wire.headers import Headers, parse_header_block
from .errors import JetStreamDecodeError

__all__ = ["StoredMessage", "stored_message", "stored_message_direct"]


class StoredMessage(Value, frozen=True, kw_only=True, eq=False):
    """A message of a stream."""

    subject: str
    sequence: int
    time: Timestamp | None
    """When it was stored, by the clock of the stream's leader."""
    data: bytes
    headers: Headers
    """The publisher's headers."""
    stream: str | None = None
    """The stream that it was read from."""
    num_pending: int | None = None
    """Of a read of several messages: how many come after this one."""
    last_sequence: int | None = None
    """Of a read of several messages: the sequence of the one before."""


class _Stored(WireValue, frozen=True, kw_only=True):
    subject: str
    seq: int
    time: Timestamp | None = None
    data: str = ""
    hdrs: str = ""


STREAM: Final = "Nats-Stream"
SUBJECT: Final = "Nats-Subject"
SEQUENCE: Final = "Nats-Sequence"
TIME: Final = "Nats-Time-Stamp"
NUM_PENDING: Final = "Nats-Num-Pending"
LAST_SEQUENCE: Final = "Nats-Last-Sequence"
_OF_THE_SERVER: Final = (STREAM, SUBJECT, SEQUENCE, TIME, NUM_PENDING, LAST_SEQUENCE)


def stored_message(what: str, raw: object, stream: str | None = None) -> StoredMessage:
    """Of the object ``message`` in an answer of the API. ``stream`` is the one that was asked.

    Raises `JetStreamDecodeError`; ``what`` names the call in its text.
    """
    try:
        stored = read_wire(_Stored, raw)
        headers = Headers()
        if stored.hdrs:
            headers = parse_header_block(_base64("hdrs", stored.hdrs)).headers
        return StoredMessage(
            subject=stored.subject,
            sequence=stored.seq,
            time=stored.time,
            data=_base64("data", stored.data),
            headers=headers,
            stream=stream,
        )
    except Mismatch as mismatch:
        raise JetStreamDecodeError(f"{what}: the answer cannot be read: {mismatch.under('.message')}") from None


def stored_message_direct(what: str, message: Message) -> StoredMessage:
    """Of a message that a direct get gave. Its headers are those of the publisher, without those of the server.

    Raises `JetStreamDecodeError`; ``what`` names the call in its text.
    """
    if message.header_block is not None and (plain := _PLAIN(message.header_block)) is not None:
        stored = _without_headers(message, *plain.groups())
        if stored is not None:
            return stored
    given = message.headers
    if given is None or SEQUENCE not in given or SUBJECT not in given:
        raise JetStreamDecodeError(f"{what}: the answer does not say where the message is stored")
    text = given.get(TIME)
    try:
        time = None if text is None else parse_time(text)
        sequence = _header_number(given, SEQUENCE)
        num_pending, last_sequence = _header_number(given, NUM_PENDING), _header_number(given, LAST_SEQUENCE)
    except ValueError as error:
        raise JetStreamDecodeError(f"{what}: the headers of the answer cannot be read: {error}") from None
    assert sequence is not None  # it is among the headers, as was seen above
    headers = given.copy()
    for name in _OF_THE_SERVER:
        headers.delete(name)
    return StoredMessage(
        subject=given[SUBJECT],
        sequence=sequence,
        time=time,
        data=message.data,
        headers=headers,
        stream=given.get(STREAM),
        num_pending=num_pending,
        last_sequence=last_sequence,
    )


# What a server writes before a message that was published without headers, as nearly all are: to read it at once takes
# a third of the time that reading it as headers does. Anything else goes that way, and is refused there.
_PLAIN: Final = re.compile(
    rb"NATS/1\.0\r\nNats-Stream: ([!-~]+)\r\nNats-Subject: ([!-~]+)\r\nNats-Sequence: ([0-9]{1,19})\r\n"
    rb"Nats-Time-Stamp: ([!-~]+)\r\n\r\n"
).fullmatch


def _without_headers(
    message: Message, stream: bytes, subject: bytes, sequence: bytes, time: bytes
) -> StoredMessage | None:
    try:
        stored = parse_time(time.decode())
    except ValueError:
        return None
    return StoredMessage(
        subject=subject.decode(),
        sequence=int(sequence),
        time=stored,
        data=message.data,
        headers=Headers(),
        stream=stream.decode(),
    )


def _base64(name: str, text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # `binascii.Error` is one, and so is that the text is not ASCII
        raise Mismatch("must be base64").under(f".{name}") from None


def _header_number(headers: Headers, name: str) -> int | None:
    text = headers.get(name)
    if text is None:
        return None
    # Twenty digits are enough for 64 bits, and a text of thousands would take Python long.
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < 2**64):
        raise ValueError(f"{name} must be a number of 64 bits, not {text!r:.64}")
    return int(text)
