"""Runs: messages in a row for the same subscription, handed on together.

A run is made by the parser's fast path while it reads the messages, because there the sizes are at hand as numbers and
the sid is compared anyway. Whoever takes a run counts once, and queues once, for all of its messages.
"""

from __future__ import annotations

from typing import Final

import msgspec

from .frames import Message

__all__ = ["SHORTEST_RUN", "Run"]

SHORTEST_RUN: Final = 4
"""The number of messages from which on a run is made. Fewer are handed on one by one: to make a run of them would cost
as much as it saves."""


class Run(msgspec.Struct, gc=False):
    """At least `SHORTEST_RUN` messages for one subscription that came one right behind the other."""

    sid: int
    messages: list[Message]
    data_bytes: int
    """Bytes of all payloads together."""
    size: int
    """Bytes of all payloads and header blocks together, which is what pending limits count."""
    sizes: list[tuple[int, int]]
    """The size of each message, payload and header block together, as pairs: so many messages in a row, and their size.
    Messages in a row are nearly always of one size, so that one pair stands for all of them."""
    with_headers: bool
    """At least one message has a header block."""
