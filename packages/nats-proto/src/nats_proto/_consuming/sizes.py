"""How many bytes a delivered message counts for, where requests are bounded by bytes."""

from __future__ import annotations

from typing import Final

from .._wire.frames import MIN_HEADER_BLOCK, Message

__all__ = ["PIN_HEADER", "size_on_wire"]

PIN_HEADER: Final = b"\r\nNats-Pin-Id: "


def size_on_wire(message: Message, pin: str | None) -> int:
    """As servers count it: subject, reply subject, headers and payload; without the identity of a pinned client, which
    they put into the headers afterwards."""
    size = _length(message.subject) + _length(message.reply or "") + len(message.data)
    block = message.header_block
    if block is not None:
        size += len(block)
        if pin is not None and PIN_HEADER in block:
            size -= len(PIN_HEADER) + len(pin)
            if size_of_rest(block, pin) == MIN_HEADER_BLOCK:
                size -= MIN_HEADER_BLOCK
    return size


def size_of_rest(block: bytes, pin: str) -> int:
    """Of a header block without the line of the pinned client."""
    return len(block) - len(PIN_HEADER) - len(pin)


def _length(subject: str) -> int:
    return len(subject) if subject.isascii() else len(subject.encode("utf-8", "surrogateescape"))
