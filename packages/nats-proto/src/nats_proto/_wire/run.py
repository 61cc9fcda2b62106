"""Messages in a row for the same subscription, handed on as one.

A run is made where its messages are read, without a pass of its own: there the sizes are numbers, and the sid is known
to be the same. Whoever takes a run counts once and queues once for all of it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from .frames import Message

__all__ = ["SHORTEST_RUN", "Run"]

SHORTEST_RUN: Final = 4
"""Messages. Fewer are handed on as they are: to make a run of them would cost what it saves."""


class Run(msgspec.Struct, gc=False):
    """Messages that came one right behind the other, at least `SHORTEST_RUN`."""

    sid: int
    messages: list[Message]
    data_bytes: int
    """Of all payloads."""
    size: int
    """Of all payloads and header blocks: what pending limits count."""
    sizes: list[tuple[int, int]]
    """How many messages in a row have which size, the size being that of payload and header block."""
    with_headers: bool
    """At least one message has a header block."""
