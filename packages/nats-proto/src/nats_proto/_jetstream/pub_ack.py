"""What a stream answers to a publish.

A program that publishes fast reads a million of these each second or so. They are decoded by a decoder with fixed types
and not by the codec of `wire_value`; keys that we do not know have no use here.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from .._value import Value
from .._wire.frames import Message
from .errors import JetStreamDecodeError, JetStreamError, api_error

__all__ = ["PubAck", "decode_pub_ack", "read_plain"]


# The names are those of the decoder below. A counter's total is a text on the wire, so that is none for it.
class PubAck(
    Value, frozen=True, kw_only=True, rename={"sequence": "seq", "value": "(a number)"}, forbid_unknown_fields=True
):
    """The message is stored."""

    stream: str
    """The stream that has it."""
    sequence: Annotated[int, msgspec.Meta(ge=0)]
    """Where it stands there. Of a batch: its last message."""
    duplicate: bool = False
    """A message with its id was stored before, at ``sequence``; this one was dropped."""
    domain: str | None = None
    """The stream's JetStream domain."""
    value: int | None = None
    """Of a counter: its total now (ADR-49)."""
    batch: str | None = None
    """Of an atomic batch or fast ingest: its id."""
    count: int | None = None
    """Of a batch: how many messages were stored."""


class _Wire(msgspec.Struct, gc=False):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    domain: str | None = None
    val: str | None = None
    batch: str | None = None
    count: int | None = None
    error: dict[str, object] | None = None


_decode: Final = msgspec.json.Decoder(_Wire).decode
_decode_plain: Final = msgspec.json.Decoder(PubAck).decode

_STORING: Final = {"code": 409, "err_code": 10158, "description": "duplicate message id is in process"}
"""What servers since 2.11 say of a message while one of the same id is being stored. Older ones acknowledge it as a
duplicate at sequence 0, although nothing is stored yet, nor certain to be."""

LARGEST: Final = 2**64 - 1
"""The last sequence that there can be."""

MAX_VALUE_DIGITS: Final = 4096
"""Digits of a counter. There is no limit in ADR-49, and Python refuses to read more than 4,300 of them."""


def read_plain(data: bytes) -> PubAck | None:
    """An acknowledgement and nothing else, as nearly all are: no error, no counter, no key of a newer server.

    None for all else: `decode_pub_ack` tells what that is. Raises nothing.
    """
    try:
        plain = _decode_plain(data)
    except (RecursionError, msgspec.DecodeError, ValueError):
        return None
    if plain.duplicate and not plain.sequence:
        return None
    return plain if plain.stream and plain.sequence <= LARGEST and not plain.count else None


def decode_pub_ack(what: str, message: Message) -> PubAck | JetStreamError | None:
    """The acknowledgement in an answer, or the error in it. None: the answer is from somebody other than a stream.

    ``what`` names the publish in the error's text, such as ``publish to 'orders.new'``. Raises nothing.
    """
    plain = read_plain(message.data)
    if plain is not None:
        return plain
    # Whatever is no JSON of this shape may come from a responder that listens to the subject of a stream.
    try:
        wire = _decode(message.data)
    except (RecursionError, msgspec.DecodeError, ValueError):
        return None
    if wire.error is not None:
        return api_error(what, wire.error)
    if not wire.stream:
        return None
    if not 0 <= wire.seq <= LARGEST or not 0 <= (wire.count or 0) <= LARGEST:
        return JetStreamDecodeError(f"{what}: the acknowledgement has a number that is out of range")
    if wire.duplicate and not wire.seq:
        return api_error(what, _STORING)
    value = None
    if wire.val is not None:
        value = _number(wire.val)
        if value is None:
            return JetStreamDecodeError(f"{what}: the acknowledgement has a counter that is no number")
    return PubAck(
        stream=wire.stream,
        sequence=wire.seq,
        duplicate=wire.duplicate,
        domain=wire.domain,
        value=value,
        batch=wire.batch,
        count=wire.count,
    )


def _number(text: str) -> int | None:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > MAX_VALUE_DIGITS:
        return None
    return int(text)
