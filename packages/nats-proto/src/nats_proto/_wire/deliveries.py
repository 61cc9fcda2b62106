"""Messages of a consumer, counted and given: what is done for every one of them, with as little work as Python allows.

It gives what is nothing but one less of what was asked for. What else there may be to do is known by the machine that
has it (`nats_proto._consuming`): it says by the numbers here from when on it has to look itself, and sees to all that
is left in the queue then.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence, Sized
from sys import maxsize
from typing import Final, Generic, TypeVar

from .frames import Message

__all__ = ["Deliveries", "EntryMaker", "MessageMaker"]

MOST_DIGITS: Final = 19
"""Numbers with fewer digits always fit in 63 bits. Others are the machine's."""

# What a server writes before a value that was published without headers, and that it was asked for directly: the
# subject, the sequence, and a time that is certainly one, so that it can be read when somebody asks. A 29th of February
# is left to those who look more closely.
_LAST: Final = re.compile(
    rb"NATS/1\.0\r\nNats-Stream: [!-~]+\r\nNats-Subject: ([!-~]+)\r\nNats-Sequence: ([1-9][0-9]{0,17})\r\n"
    rb"Nats-Time-Stamp: ([2-9][0-9]{3}-"
    rb"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    rb"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?Z)\r\n\r\n"
).fullmatch

ItemT = TypeVar("ItemT")
EntryT = TypeVar("EntryT")
DeliveryT = TypeVar("DeliveryT")
MessageT = TypeVar("MessageT", bound=Message)


class MessageMaker(Generic[ItemT, DeliveryT]):
    """Makes what is given: ``kind`` of all that a message has, of the client, its writing side, `delivery`, and the
    time."""

    __slots__ = ("_client", "_kind", "_writing", "delivery")

    def __init__(self, kind: Callable[..., ItemT], client: object, writing: object, delivery: DeliveryT) -> None:
        self._kind = kind
        self._client = client
        self._writing = writing
        self.delivery = delivery
        """What the messages of a reader have in common, which may change while it reads."""

    def __call__(self, message: Message, now: float) -> ItemT:
        return self._kind(
            message.subject,
            message.sid,
            message.reply,
            message.data,
            message.header_block,
            message.parsed,
            self._client,
            self._writing,
            self.delivery,
            now,
        )


class EntryMaker(Generic[EntryT]):
    """Makes entries of what a bucket's stream has: ``kind`` of all that an entry has.

    ``start``: how the subjects of keys begin. ``codec``: of the values. ``telling``: without one of these texts in its
    header block a message says nothing but that its key was given a value.
    """

    __slots__ = ("_bucket", "_codec", "_kind", "_start", "_telling", "bytes", "key")

    def __init__(
        self, kind: Callable[..., EntryT], bucket: str, start: str, codec: object, telling: Sequence[bytes]
    ) -> None:
        self._kind = kind
        self._bucket = bucket
        self._start = start
        self._codec = codec
        self._telling = tuple(telling)
        self.key = ""
        """Of the entry that was made last."""
        self.bytes = 0
        """Of the values of all that were made."""

    def make(self, message: Message, revision: int, stored: int, delta: int) -> EntryT | None:
        """None: whoever knows all that a message may mean has to look."""
        subject, block = message.subject, message.header_block
        if not subject.startswith(self._start):
            return None
        if block is not None and any(name in block for name in self._telling):
            return None
        self.key = subject[len(self._start) :]
        self.bytes += len(message.data)
        return self._kind(
            bucket=self._bucket,
            key=self.key,
            data=message.data,
            revision=revision,
            stored=stored,
            delta=delta,
            operation="put",
            codec=self._codec,
        )

    def last(self, message: Message, subject: str) -> EntryT | None:
        """The last entry of a subject, of what a server answers who was asked for it directly (ADR-31).

        None for all that is not plainly a value of this subject. Leaves `key` and `bytes` alone, so any number of
        threads may ask.
        """
        block = message.header_block
        found = None if block is None else _LAST(block)
        if found is None or not subject.startswith(self._start):
            return None
        told, sequence, stored = found.groups()
        if told != subject.encode():
            return None
        return self._kind(
            bucket=self._bucket,
            key=subject[len(self._start) :],
            data=message.data,
            revision=int(sequence),
            stored=stored.decode(),
            delta=0,
            operation="put",
            codec=self._codec,
        )


class Deliveries(Generic[MessageT, ItemT]):
    """The account of one machine, and the quick way past it.

    ``make`` makes an item of a message and the time; only where that is a `MessageMaker`, which runs no code of a user,
    there is a quick way. While there is something in ``items`` or ``wants``, the machine has more to do.

    The compiled twin may be used by several threads, each call is one step there; this one may not.
    """

    __slots__ = (
        "_items",
        "_make",
        "_wants",
        "budget",
        "expected",
        "heard",
        "left",
        "look_at",
        "low",
        "messages",
        "newest",
        "plain",
        "prefix",
        "queue",
        "sequence",
    )

    def __init__(
        self, make: Callable[[MessageT, float], ItemT] | None = None, items: Sized = (), wants: Sized = ()
    ) -> None:
        self._make: Callable[[MessageT, float], ItemT] | None = make if _is_ours(make) else None
        self._items = items
        self._wants = wants
        self.plain = False
        """A message is nothing but one less: nothing else is looked at."""
        self.messages = 0
        """Outstanding messages. Whoever receives one takes it off."""
        self.heard = float("-inf")
        """When the last message or heart-beat was received. Whoever receives one sets it."""
        self.newest: str | None = None
        """The reply subject of the last message."""
        self.low = -maxsize
        """With so few messages outstanding there may be something to do."""
        self.left = maxsize
        """Messages that may still be given. The last of them is the machine's."""
        self.look_at = float("inf")
        """A message that is taken later is the machine's."""
        self.queue: deque[MessageT] | None = None
        """Where the messages come, as long as nobody else is at the machine, and nothing at all may be taken before."""
        self.prefix: str | None = None
        """In order: how the reply subjects begin, up to their first number. None: in whatever order they come."""
        self.expected = 1
        """In order: the consumer's number of the next message."""
        self.sequence = 0
        """In order: the last message's place in the stream. That of the next one is behind it."""
        self.budget = maxsize
        """Messages that may be taken before it is the turn of something else."""

    def take(self, now: float) -> ItemT | None:
        """The next message, as it is given. None: there is none, or the machine has to look.

        The last one in the queue is left to the machine: who takes that may have to tell somebody.
        """
        queue = self.queue
        if queue is None or self._make is None or not self.plain or now >= self.look_at:
            return None
        if len(queue) < 2 or self.budget < 1 or self.left < 2 or self.messages - 1 <= self.low:
            return None
        if self._items or self._wants:
            return None
        message = queue[0]
        reply = message.reply
        if reply is None or not message.subject:
            return None
        if self.prefix is not None:
            sequence = _next_sequence(reply, self.prefix, self.expected)
            if sequence <= self.sequence:
                return None
        else:
            sequence = self.sequence
        item = self._make(message, now)
        queue.popleft()
        self.messages -= 1
        self.left -= 1
        self.budget -= 1
        self.heard = now
        self.newest = reply
        if self.prefix is not None:
            self.expected += 1
            self.sequence = sequence
        return item

    def take_entries(
        self,
        make: EntryMaker[EntryT],
        arrived: deque[MessageT],
        give: Callable[[EntryT], object],
        now: float,
        most: int = maxsize,
        latest: int | None = None,
        keys: set[str] | None = None,
    ) -> int:
        """Take entries out of ``arrived``, in order, and ``give`` each: how many there were. The next one is the
        machine's, or there is none.

        ``most`` entries are taken. With ``latest`` only such that have told that more are behind them, and that were
        not written later (nanoseconds). Their keys come into ``keys``.
        """
        taken = 0
        if self.prefix is None or not self.plain or now >= self.look_at:
            return taken
        while arrived and taken < most and self.left > 1 and self.messages - 1 > self.low:
            message = arrived[0]
            reply = message.reply
            if reply is None or not message.subject:
                break
            told = _told(reply, self.prefix, self.expected)
            if told is None or told[0] <= self.sequence:
                break
            sequence, stored, pending = told
            if latest is not None and (not pending or stored > latest):
                break
            entry = make.make(message, sequence, stored, pending)
            if entry is None:
                break
            arrived.popleft()
            give(entry)
            if keys is not None:
                keys.add(make.key)
            self.messages -= 1
            self.left -= 1
            self.heard = now
            self.newest = reply
            self.expected += 1
            self.sequence = sequence
            taken += 1
        return taken


def _next_sequence(reply: str, prefix: str, expected: int) -> int:
    """The place in the stream of a message that has this number at its consumer; 0 where that is not plain to see."""
    if not reply.startswith(prefix):
        return 0
    numbers = reply[len(prefix) :].split(".", 3)[:-1]
    if len(numbers) != 3 or not all(_is_number(number) for number in numbers):
        return 0
    return int(numbers[1]) if int(numbers[2]) == expected else 0


def _told(reply: str, prefix: str, expected: int) -> tuple[int, int, int] | None:
    """What the next message tells: its place in the stream, when it was stored, how many are behind it."""
    sequence = _next_sequence(reply, prefix, expected)
    stored, pending, *_ = [*reply[len(prefix) :].split(".", 5)[3:5], "", ""]
    if not sequence or not _is_number(stored, MOST_DIGITS + 1) or not _is_number(pending):
        return None
    return sequence, int(stored), int(pending)


def _is_number(text: str, digits: int = MOST_DIGITS) -> bool:
    return text.isascii() and text.isdigit() and len(text) < digits


def _is_ours(make: object) -> bool:
    return isinstance(make, MessageMaker)
