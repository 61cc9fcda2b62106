"""Two connections deliver the same messages for a while: which copy is given, and when.

While a client is subscribed on two servers, both send it what is published, the one a little earlier than the other.
The messages of the *old* connection are given as they come, so nothing changes their order. A message of the *new* one
is the copy of one that was given, and dropped; or its copy may still come from the old connection, and it is held until
that is certain. So each is given once, in order, whichever connection has it first, and none is missing that only one
of them has.

Copies are known by their bytes. Of messages that are the same to the last byte, which nothing but a time would tell
apart, one that came from the old connection alone can be taken for the original of one that came from the new alone:
then one of them is lost, none is ever doubled.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic

from .._wire.frames import Message
from .subscription import MessageT

__all__ = ["MAX_HELD_BYTES", "MAX_HELD_MSGS", "Overlap"]

MAX_HELD_MSGS: Final = 65_536
MAX_HELD_BYTES: Final = 64 * 1024 * 1024
"""Messages that may be remembered, and their bytes: far more than one of two healthy connections is ever behind."""

_Key = tuple[int, str, str | None, bytes, bytes | None]


class Overlap(Generic[MessageT]):
    """What the copies of which have not come yet."""

    __slots__ = ("_given", "_held", "_next", "_places", "_size")

    def __init__(self) -> None:
        self._given: dict[_Key, int] = {}
        """Given by the old connection: how many of each have no copy yet."""
        self._held: dict[int, MessageT] = {}
        """Of the new connection, in the order they came."""
        self._places: dict[_Key, deque[int]] = {}
        """Where in it they are, the oldest first."""
        self._next = 0
        self._size = 0

    def exceeds(self, times: int) -> bool:
        """Whether it is so many times what should ever be needed: it is time to come to an end."""
        return self._size > times * MAX_HELD_BYTES or len(self._given) + len(self._held) > times * MAX_HELD_MSGS

    @property
    def owed(self) -> bool:
        """Some of what the old connection has given has no copy yet."""
        return bool(self._given)

    def of_old(self, message: MessageT) -> None:
        """The old connection has this one, and it is given."""
        key = _key(message)
        places = self._places.get(key)
        if places is None:
            self._given[key] = self._given.get(key, 0) + 1
            self._size += message.size
            return
        # The copy that came first, on the new connection, goes: the old connection alone sets the order.
        del self._held[places.popleft()]
        if not places:
            del self._places[key]
        self._size -= message.size

    def is_copy(self, message: MessageT) -> bool:
        """Whether it was given before, by the old connection. Each that was given has one copy."""
        key = _key(message)
        count = self._given.get(key)
        if count is None:
            return False
        if count == 1:
            del self._given[key]
        else:
            self._given[key] = count - 1
        self._size -= message.size
        return True

    def of_new(self, message: MessageT) -> None:
        """The new connection has this one: it is dropped or held."""
        if self.is_copy(message):
            return
        self._held[self._next] = message
        self._places.setdefault(_key(message), deque()).append(self._next)
        self._next += 1
        self._size += message.size

    def release(self) -> list[MessageT]:
        """The old connection has said all: those held that have no copy, in order. They are to be given now."""
        held = list(self._held.values())
        self._size -= sum(message.size for message in held)
        # `_given` stays: late copies of those messages may still come on the new connection.
        self._held.clear()
        self._places.clear()
        return held


def _key(message: Message) -> _Key:
    # With the sid: a message that two subscriptions match is delivered to each, and these are no copies.
    return message.sid, message.subject, message.reply, message.data, message.header_block
