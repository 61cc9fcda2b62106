"""What waits to be written, and what has been taken for writing but not yet accepted by the transport.

Theory of operation
-------------------
Operations (whole protocol operations, never parts) are appended to the *tail*. When the tail holds `CHUNK_SIZE` bytes
it is sealed and a new one begun; so taking a batch moves a few chunks instead of looking at every operation.

    append → tail → sealed chunks → take() → in flight → sent(n) → gone

At a `cut` operations whose bytes were all accepted by the transport are gone: core NATS is at most once, and writing
them again could double them. Of the rest publishes are kept, in order; SUB, UNSUB, PING and PONG belong to the
connection that died, the session makes them anew. An operation that was accepted in part was not handed over; it is
written whole on the next connection.

Whoever writes may learn of the end of a connection before it can report its last write. So what was in flight is set
aside at a cut, and reports still count until `begin` says that there is another transport:

    in flight → cut() → set aside → sent(n) → gone
                             └────→ begin() → in front of all that waits

What was accepted when more was allowed than the connected server allows is given up with `drop`. An operation of that
kind that was set aside stays there, as bytes that may still be reported, and is no publish any more.

A chunk carries the tokens of the flushes whose PINGs are in it. So the connection learns the tokens in the order the
PINGs leave, which is the order the PONGs come back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ._encoder import PING, Refusal
from .errors import LocalProtocolError

__all__ = ["HIGH_WATER", "Operation", "Outbox", "operation_size"]

Operation = bytes | tuple[bytes, bytes, bytes]
"""One protocol operation; a large payload stays a piece of its own so that it is not copied."""

CHUNK_SIZE: Final = 64 * 1024
"""Bytes after which a chunk is sealed. A write of this size already costs little more than its bytes."""
HIGH_WATER: Final = 1024 * 1024
"""Bytes waiting at which the outbox is `full`: a publisher with a connection waits, it gains nothing by going on."""
LOW_WATER: Final = HIGH_WATER // 2
"""Bytes at which it no longer is; lower, so that a waiting publisher is not woken for every message written."""

_PUBLISH_VERBS: Final = (b"PUB ", b"HPUB ")


class _Chunk:
    __slots__ = ("has_pieces", "operations", "pings", "size")

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.size = 0
        self.pings: tuple[int, ...] = ()
        self.has_pieces = False

    def pieces(self) -> list[bytes]:
        if not self.has_pieces:
            return self.operations  # type: ignore[return-value]  # no tuple was ever appended
        flat: list[bytes] = []
        for operation in self.operations:
            if isinstance(operation, bytes):
                flat.append(operation)
            else:
                flat.extend(operation)
        return flat


def _chunks_of(operations: Iterable[Operation]) -> list[_Chunk]:
    chunks: list[_Chunk] = []
    for operation in operations:
        if not chunks or chunks[-1].size >= CHUNK_SIZE:
            chunks.append(_Chunk())
        chunk = chunks[-1]
        chunk.operations.append(operation)
        chunk.size += operation_size(operation)
        chunk.has_pieces = chunk.has_pieces or not isinstance(operation, bytes)
    return chunks


class Outbox:
    """Operations on their way out, in order. Belongs to the session: it lives through reconnects."""

    __slots__ = (
        "_aside",
        "_in_flight",
        "_open",
        "_sealed",
        "_sent_of_flight",
        "_tail",
        "_unaccepted",
        "full",
        "pending_bytes",
    )

    def __init__(self) -> None:
        self._sealed: deque[_Chunk] = deque()
        self._tail = _Chunk()
        self._in_flight: deque[_Chunk] = deque()
        self._aside: deque[Operation] = deque()
        """What was in flight at the cut, until `begin`."""
        self._sent_of_flight = 0
        """Bytes accepted of the first chunk in flight, or of the first operation set aside."""
        self._unaccepted = 0
        self._open = False
        """There is a transport: between `begin` and `cut`."""
        self.pending_bytes = 0
        """Bytes appended or taken and not yet accepted by the transport; after a cut those of publishes alone."""
        self.full = False
        """Whether a publisher with a connection should wait."""

    def append(self, operation: Operation) -> None:
        """Add one operation behind all others."""
        tail = self._tail
        if isinstance(operation, bytes):
            size = len(operation)
        else:
            size = operation_size(operation)
            tail.has_pieces = True
        tail.operations.append(operation)
        tail.size += size
        self.pending_bytes += size
        if tail.size >= CHUNK_SIZE:
            self._seal()
            self.full = self.full or self.pending_bytes >= HIGH_WATER

    def append_ping(self, token: int) -> None:
        """Add the PING of a flush behind all others."""
        self.append(PING)
        chunk = self._tail if self._tail.operations else self._sealed[-1]
        chunk.pings = (*chunk.pings, token)

    def prepend(self, operations: Iterable[bytes]) -> None:
        """Put operations in front of all others: the subscriptions of a new connection, before its publishes."""
        chunks = _chunks_of(operations)
        self._sealed.extendleft(reversed(chunks))
        self.pending_bytes += sum(chunk.size for chunk in chunks)

    def take(self, limit: int, control: list[bytes]) -> tuple[list[bytes], list[int]]:
        """Take the connection's ``control`` bytes and whole chunks until ``limit`` bytes: pieces, and flush tokens."""
        if not (control or self._sealed or self._tail.operations):
            return [], []
        pieces: list[bytes] = []
        pings: list[int] = []
        if control:
            chunk = _Chunk()
            chunk.operations.extend(control)
            chunk.size = sum(map(len, control))
            self.pending_bytes += chunk.size
            self._unaccepted += chunk.size
            self._in_flight.append(chunk)
            pieces.extend(control)
        taken = 0
        while taken < limit:
            if not self._sealed:
                if not self._tail.operations:
                    break
                self._seal()
            chunk = self._sealed.popleft()
            self._in_flight.append(chunk)
            taken += chunk.size
            pieces.extend(chunk.pieces())
            pings.extend(chunk.pings)
        self._unaccepted += taken
        return pieces, pings

    def sent(self, nbytes: int) -> None:
        """The transport accepted the next ``nbytes`` of what was taken. `LocalProtocolError` when that is more."""
        if not self._open:
            self._sent_late(nbytes)
            return
        if not 0 <= nbytes <= self._unaccepted:
            raise LocalProtocolError(f"{nbytes} bytes sent, but {self._unaccepted} were given and not yet reported")
        self._unaccepted -= nbytes
        self.pending_bytes -= nbytes
        sent = self._sent_of_flight + nbytes
        in_flight = self._in_flight
        while in_flight and sent >= in_flight[0].size:
            sent -= in_flight.popleft().size
        self._sent_of_flight = sent
        if self.pending_bytes <= LOW_WATER:
            self.full = False

    def cut(self) -> None:
        """The transport is gone: keep, in order, the publishes that it has not accepted whole; forget all else."""
        in_flight = [operation for chunk in self._in_flight for operation in chunk.operations]
        waiting = [operation for operation in self._waiting() if _is_publish(operation)]
        sent = self._sent_of_flight
        self.clear()
        for operation in waiting:
            self.append(operation)
        self._aside.extend(in_flight)
        self.pending_bytes += sum(operation_size(operation) for operation in in_flight if _is_publish(operation))
        self._sent_late(sent)

    def drop(self, refusal: Callable[[Operation], Refusal | None]) -> list[Refusal]:
        """Forget the publishes that are refused, but for those in flight on a connection: why, in order."""
        dropped: list[Refusal] = []

        def stays(operation: Operation) -> bool:
            refused = refusal(operation) if _is_publish(operation) else None
            if refused is None:
                return True
            dropped.append(refused)
            self.pending_bytes -= operation_size(operation)
            return False

        self._aside = deque(each if stays(each) else _dead(each) for each in self._aside)
        for chunk in (*self._sealed, self._tail):
            before = len(dropped)
            operations = [operation for operation in chunk.operations if stays(operation)]
            if len(dropped) > before:
                chunk.operations = operations
                chunk.size = sum(map(operation_size, operations))
        if self.pending_bytes <= LOW_WATER:
            self.full = False
        return dropped

    def abandon(self) -> None:
        """A handshake failed: its own bytes, all that can be in flight, are gone; nothing to do after a `cut`."""
        if self._open:
            self._open = False
            self.pending_bytes -= self._unaccepted
            self._aside.extend(operation for chunk in self._in_flight for operation in chunk.operations)
            self._in_flight.clear()
            self._unaccepted = 0

    def begin(self) -> None:
        """There is a transport: what the one before did not accept whole goes first, and its reports are over."""
        self.abandon()
        self._sealed.extendleft(reversed(_chunks_of(operation for operation in self._aside if _is_publish(operation))))
        self._aside.clear()
        self._sent_of_flight = self._unaccepted = 0
        self._open = True
        self.full = self.pending_bytes >= HIGH_WATER

    def _sent_late(self, nbytes: int) -> None:
        self._sent_of_flight += nbytes
        aside = self._aside
        while aside and self._sent_of_flight >= (size := operation_size(aside[0])):
            self._sent_of_flight -= size
            if _is_publish(aside.popleft()):
                self.pending_bytes -= size

    def unsent_publishes(self) -> Iterator[Operation]:
        """The publishes that were not handed over whole, in order."""
        sent = self._sent_of_flight
        for chunk in self._in_flight:
            for operation in chunk.operations:
                if sent > 0:
                    sent -= operation_size(operation)
                    if sent >= 0:
                        continue
                if _is_publish(operation):
                    yield operation
        yield from (operation for operation in (*self._aside, *self._waiting()) if _is_publish(operation))

    def _waiting(self) -> Iterator[Operation]:
        for chunk in (*self._sealed, self._tail):
            yield from chunk.operations

    def clear(self) -> None:
        """Forget everything, the transport included."""
        self._open = False
        self._sealed.clear()
        self._in_flight.clear()
        self._aside.clear()
        self._tail = _Chunk()
        self._sent_of_flight = self._unaccepted = 0
        self.pending_bytes = 0
        self.full = False

    def _seal(self) -> None:
        self._sealed.append(self._tail)
        self._tail = _Chunk()


def operation_size(operation: Operation) -> int:
    """Bytes on the wire."""
    return len(operation) if isinstance(operation, bytes) else sum(map(len, operation))


def _dead(operation: Operation) -> Operation:
    """No publish any more, and yet as many bytes: reports of what was handed over go on counting."""
    if isinstance(operation, bytes):
        return b"", operation, b""
    head, payload, end = operation
    return b"", payload, head + end


def _is_publish(operation: Operation) -> bool:
    head = operation if isinstance(operation, bytes) else operation[0]
    return head.startswith(_PUBLISH_VERBS)
