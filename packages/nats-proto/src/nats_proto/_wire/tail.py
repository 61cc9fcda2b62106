"""What programs publish nearly always, written with as little work as Python allows.

It takes publishes that are certainly right: a subject that was checked before, a payload that is ``bytes`` and no
larger than the server takes, no headers. It leaves everything else to `Encoder.publish`, which decides what that is.
Nothing lies between the two: who publishes without a connection or with headers has no need of a second quick path.

A large payload is not copied. It stays a piece of its own, apart from the bytes before it and behind it.

What is written nearly always goes on its way in one step as well: where nothing else waits or is on its way, the tail
gives all it has (`Tail.give`), and keeps it until all of it was sent.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence, Sized
from typing import Final

from ..errors import InvalidSubjectError
from .encoder import APART_ROOM
from .frames import Payload
from .headers import HeadersLike
from .subjects import encode_reply

__all__ = ["Tail"]

CRLF: Final = b"\r\n"

_SIZES = len("H") + 2 * (len(" ") + 19) + len(b"\r\n")
"""Bytes that the rest of a line can have: what stands behind the subject and the reply. A beginning that leaves room
for so many makes no line that is too long, and the finished line need not be measured."""


_Apart = tuple[bytes, bytes]
"""The line of a publish, and its large payload. The two bytes that end it are added when it is taken."""


class Tail:
    """The end of what waits to be written: operations, one behind the other.

    ``heads`` are those of the encoder: subjects that it has checked. As long as there is something in one of ``others``
    the tail gives nothing by itself. The compiled twin may be used by several threads,
    each call is one step there; this one may not.
    """

    __slots__ = (
        "_apart_from",
        "_apart_size",
        "_given",
        "_heads",
        "_largest_payload",
        "_longest_head",
        "_operations",
        "_others",
        "given",
        "limit",
        "msgs",
        "payload_bytes",
        "size",
    )

    def __init__(self, heads: dict[str, bytes], others: Sequence[Sized] = ()) -> None:
        self._heads = heads
        self._others = others
        self._operations: list[bytes | _Apart] = []
        self._given: list[bytes] = []
        self._apart_size = 0
        """Bytes in the tail that are large payloads."""
        self.given = 0
        """Bytes that were given, and not yet sent."""
        self.size = 0
        """Bytes in the tail, large payloads included."""
        self.limit = 0
        """While so many bytes were copied into the tail, or `APART_ROOM` times as many are in it, `publish` takes
        nothing. The outbox sets it, to 0 where every publish needs another look: without a connection, and when too
        much waits."""
        self.msgs = 0
        """Messages that `publish` and `publish_many` have taken since the tail was made."""
        self.payload_bytes = 0
        """Bytes of the payloads of those messages."""
        # Until the encoder has told its limits nothing is taken, not even an empty payload.
        self.restrict(0, -1)

    def restrict(self, longest_line: int, largest_payload: int, apart_from: int = sys.maxsize) -> None:
        """Set the longest line and the largest payload (bytes, both inclusive) that `publish` takes.

        Payloads of ``apart_from`` bytes and more are not copied.
        """
        self._longest_head = longest_line - _SIZES
        self._largest_payload = largest_payload
        self._apart_from = apart_from

    def publish(
        self,
        subject: str,
        data: Payload,
        reply: str | None = None,
        headers: HeadersLike | None = None,
    ) -> bool:
        """Take a message that is certainly right, below the limit; False leaves it to `Encoder.publish`."""
        if self.size >= self.limit and not self._has_room(self.size, self._apart_size):
            return False
        if type(subject) is not str or type(data) is not bytes or headers is not None:
            return False
        head = self._heads.get(subject)
        if head is None:
            return False
        if reply is not None:
            if type(reply) is not str:
                return False
            try:
                head = b"%b%b " % (head, encode_reply(reply))
            # The encoder finds the same fault and raises it, so there is one place where errors come from.
            except InvalidSubjectError:
                return False
        size = len(data)
        if size > self._largest_payload or len(head) > self._longest_head:
            return False
        if size < self._apart_from:
            self.append(b"%b%d\r\n%b\r\n" % (head, size, data))
        else:
            added = self._append_apart(b"%b%d\r\n" % (head, size), data)
            self.size += added  # apart from the call: a finalizer within it may publish, too
            self._apart_size += size
        self.msgs += 1
        self.payload_bytes += size
        return True

    def publish_many(self, subject: str, payloads: tuple[Payload, ...], start: int) -> int:
        """Take messages from ``payloads[start]`` on, as `publish` does, up to the first that it leaves: its index."""
        head = self._heads.get(subject) if type(subject) is str else None
        if head is None or len(head) > self._longest_head:
            return start
        before = size = self.size
        apart_before = apart_size = self._apart_size
        taken = 0
        append = self._operations.append
        for data in payloads[start:] if start else payloads:
            if size >= self.limit and not self._has_room(size, apart_size):
                break
            if type(data) is not bytes or len(data) > self._largest_payload:
                break
            if len(data) < self._apart_from:
                operation = b"%b%d\r\n%b\r\n" % (head, len(data), data)
                append(operation)
                size += len(operation)
            else:
                size += self._append_apart(b"%b%d\r\n" % (head, len(data)), data)
                apart_size += len(data)
            self.payload_bytes += len(data)
            taken += 1
        self.size += size - before
        self._apart_size += apart_size - apart_before
        self.msgs += taken
        return start + taken

    def append(self, operation: bytes) -> None:
        """Add one operation, whatever the limit is."""
        self._operations.append(operation)
        self.size += len(operation)

    def take(self) -> tuple[list[bytes], Sequence[int]]:
        """Take everything out of the tail: the bytes, and the length of each operation.

        The bytes are an odd number of pieces: every second one is a large payload.
        """
        # Made beforehand: to make a list may run a finalizer, which may publish one more.
        none: list[bytes | _Apart] = []
        operations, self._operations = self._operations, none
        self.size = self._apart_size = 0
        # Nearly all there is are operations of one piece, so a loop is worth it only where there are others.
        plain = [operation for operation in operations if type(operation) is bytes]
        if len(plain) == len(operations):
            return [b"".join(plain)], tuple(map(len, plain))
        pieces: list[bytes] = []
        lengths: list[int] = []
        between: list[bytes] = []
        for operation in operations:
            if isinstance(operation, bytes):
                between.append(operation)
                lengths.append(len(operation))
            else:
                line, payload = operation
                pieces += b"".join((*between, line)), payload
                lengths.append(len(line) + len(payload) + len(CRLF))
                between = [CRLF]
        pieces.append(b"".join(between))
        return pieces, tuple(lengths)

    def give(self) -> list[bytes] | None:
        """All that is in the tail, as pieces to be written; none when there is nothing. It is kept until it was `sent`.

        None, and nothing is given: something was given before and is not sent yet, there is a large payload, or there
        is something in one of the ``others``.
        """
        if self.given or any(map(len, self._others)):
            return None
        # Made beforehand, as in `take`.
        none: list[bytes | _Apart] = []
        given = [operation for operation in self._operations if isinstance(operation, bytes)]
        if len(given) != len(self._operations):
            return None
        if not self.size:
            return []
        self._given, self._operations, self.given, self.size = given, none, self.size, 0
        return [b"".join(given)]

    def sent(self, nbytes: int) -> int:
        """So many bytes were sent, of what was given first: how many of them are not of that."""
        if nbytes < self.given:
            self.given -= nbytes
            return 0
        left = nbytes - self.given
        self._given, self.given = [], 0
        return left

    def kept(self) -> tuple[list[bytes], Sequence[int]]:
        """What was given and is not yet sent whole, as `take` gives it; no piece when there is no such thing."""
        if not self.given:
            return [], ()
        return [b"".join(self._given)], tuple(map(len, self._given))

    def _has_room(self, size: int, apart_size: int) -> bool:
        """So many bytes in the tail, so many of them in large payloads, are fewer than the limit."""
        return size - apart_size < self.limit and size < APART_ROOM * self.limit

    def _append_apart(self, line: bytes, payload: bytes) -> int:
        """Add a publish with a large payload: its bytes, which the caller counts.

        Line and payload are one entry of the list: a finalizer that publishes, too, must not come in between.
        """
        self._operations.append((line, payload))
        return len(line) + len(payload) + len(CRLF)
