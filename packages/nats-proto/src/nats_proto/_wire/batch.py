"""Batches: messages that came together, by subscription.

A batch is made by the parser's fast path while it reads the messages, because there the sizes are at hand as numbers.
However the messages of many subscriptions alternate in what was received, each subscription has one share in the batch.
Whoever takes a batch counts once for all of its messages, and queues once for each share.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .frames import Message

__all__ = ["Batch", "Share"]

Share = tuple[int, list[Message], int, tuple[int, int] | list[tuple[int, int]]]
"""The messages of a batch for one subscription: its sid; the messages in order; the bytes of all their payloads and
header blocks together, which is what pending limits count; and the size of each, as pairs: so many messages in a row,
and their size. Messages in a row are nearly always of one size: then the one pair stands there without a list.

Nothing of it is kept: with many subscriptions there may be one for each message, and the collector of the interpreter
would look at all of them again and again."""


class Batch(msgspec.Struct, gc=False):
    """Two messages or more, with no other frame between them. Their header blocks are well framed."""

    messages: list[Message]
    """In the order in which they came."""
    shares: Iterable[Share]
    """In the order of their first messages. Each is made when it is asked for, as often as one goes through them."""
    data_bytes: int
    """Bytes of all payloads together."""
