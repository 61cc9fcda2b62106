"""What waits to be written, and what has been taken for writing but not yet accepted by the transport.

Theory of operation
-------------------
Operations (whole protocol operations, never parts) are written to the *tail*, one behind the other. When it holds
`CHUNK_SIZE` bytes it is sealed: the bytes are one piece from then on, but for large payloads, which stay pieces of
their own; the length of each operation is beside them. So taking a batch moves a few chunks instead of looking at every
operation, and nothing is joined.

    append → tail → sealed chunks → take() → in flight → sent(n) → gone
                └──────────────────→ take() → kept by the tail ─┘

Nearly always the tail is all there is: nothing is sealed, and nothing on its way. Then the tail gives what it has
without being sealed, and keeps it until it was sent. So what the tail has given is always in front of all other that is
in flight.

Nearly all publishes do not even come by here: what is certainly right `Tail.publish` takes by itself, as long as its
limit says that there is nothing else to be looked at. Compiled, a call of the tail is one step, and another thread may
publish between any two of them. So what is in the tail, or how much, is asked for once for each decision, and what
needs to know all that waits closes the tail first.

At a `cut` operations whose bytes were all accepted by the transport are gone: core NATS is at most once, and writing
them again could double them. Of the rest publishes are kept, in order; SUB, UNSUB, PING and PONG belong to the
connection that died, the session makes them anew. An operation that was accepted in part was not handed over; it is
written whole on the next connection.

Whoever writes may learn of the end of a connection before it can report its last write. So what was in flight is set
aside at a cut, and reports still count until `begin` says that there is another transport:

    in flight → cut() → set aside → sent(n) → gone
                             └────→ begin() → in front of all that waits

What was accepted when more was allowed than the connected server allows is given up with `drop`, and so is what nobody
waits for any more. An operation of that kind that was set aside stays there, as bytes that may still be reported, and
is no publish any more.

A chunk carries the tokens of the flushes whose PINGs are in it. So the connection learns the tokens in the order the
PINGs leave, which is the order the PONGs come back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, repeat
from operator import call, methodcaller
from typing import Final, TypeVar

from .._wire.encoder import CRLF, PING, Encoded
from .._wire.twin import Tail
from ..errors import LocalProtocolError

__all__ = ["CHUNK_SIZE", "HIGH_WATER", "Outbox", "encoded_size"]

CHUNK_SIZE: Final = 96 * 1024
"""Bytes after which a chunk is sealed. A write of this size already costs little more than its bytes; from 128 KiB on
the C library asks the system for the memory of each, and gives it back."""
HIGH_WATER: Final = 1024 * 1024
"""Bytes waiting at which the outbox is `full`: a publisher with a connection waits, it gains nothing by going on."""
LOW_WATER: Final = HIGH_WATER // 2
"""Bytes at which it no longer is; lower, so that a waiting publisher is not woken for every message written."""

ReasonT = TypeVar("ReasonT")

_take: Final = methodcaller("take")
_clear: Final = methodcaller("clear")

# Made and forgotten at once, so that the GNU C library keeps memory that was freed. At first it returns to the system
# what is free at the end of a heap as soon as that is 128 KiB, as two chunks are: nearly every chunk is written to new
# pages then, which costs a publish of 1 KiB more than all the rest. Once a block that had pages of its own is freed, it
# keeps twice the size of that in each heap. Elsewhere, and where the environment says what to keep, nothing changes.
bytes(HIGH_WATER)

_PUBLISH_VERBS: Final = (b"PUB ", b"HPUB ")
_SUBSCRIPTION_VERBS: Final = (b"SUB ", b"UNSUB ")


_Taken = tuple[tuple[list[bytes], Sequence[int]], tuple[int, ...], None]
"""What was taken from the tail: pieces and lengths, and the tokens of the PINGs in it."""


class _Chunk:
    """Whole operations that are written together: as they are, or as the tail gives them."""

    __slots__ = ("_lengths", "_operations", "_pieces", "one_piece", "pings", "size")

    def __init__(
        self, operations: list[Encoded] | None = None, pieces: Sequence[bytes] = (), lengths: Sequence[int] = ()
    ) -> None:
        self._operations = operations
        self._pieces = pieces
        self._lengths = lengths
        self.one_piece = len(pieces) == 1
        if self.one_piece:
            self.size = len(pieces[0])  # nearly always
        else:
            self.size = sum(map(len, pieces)) if operations is None else sum(map(encoded_size, operations))
        self.pings: tuple[int, ...] = ()

    @property
    def operations(self) -> list[Encoded]:
        """Hardly ever asked for: at a cut."""
        if self._operations is not None:
            return self._operations
        operations: list[Encoded] = []
        pieces = iter(self._pieces)
        piece, at = next(pieces, b""), 0
        for length in self._lengths:
            if length <= len(piece) - at:
                operations.append(piece[at : at + length])
                at += length
            else:
                # More than is left of the piece: its line ends the piece, and the payload is the next one.
                line, payload = piece[at:], next(pieces)
                piece, at = next(pieces), len(CRLF)
                operations.append((line, payload, piece[:at]))
        return operations

    @property
    def large(self) -> bool:
        """There are large payloads in it, each a piece of its own, and the first of them asks for no answer."""
        if self._operations is None:
            return len(self._pieces) > 1 and _asks_nothing(self._pieces[0].splitlines()[-1])
        heads = (operation[0] for operation in self._operations if not isinstance(operation, bytes))
        return any(_asks_nothing(head[: head.index(CRLF)]) for head in islice(heads, 1))

    def pieces(self) -> Sequence[bytes]:
        """What is to be written."""
        if self._operations is None:
            return self._pieces
        flat: list[bytes] = []
        for operation in self._operations:
            if isinstance(operation, bytes):
                flat.append(operation)
            else:
                flat.extend(operation)
        return flat


def _chunks_of(operations: Iterable[Encoded]) -> Iterator[_Chunk]:
    gathered: list[Encoded] = []
    size = 0
    for operation in operations:
        gathered.append(operation)
        size += encoded_size(operation)
        if size >= CHUNK_SIZE:
            yield _Chunk(gathered)
            gathered = []
            size = 0
    if gathered:
        yield _Chunk(gathered)


class Outbox:
    """Operations on their way out, in order. Belongs to the session: it lives through reconnects."""

    __slots__ = (
        "_aside",
        "_full",
        "_in_flight",
        "_landed",
        "_large",
        "_open",
        "_pings",
        "_quick",
        "_sealed",
        "_sent_of_flight",
        "_taken",
        "_unaccepted",
        "beside_tail",
        "tail",
    )

    def __init__(self, heads: dict[str, bytes] | None = None) -> None:
        self._pings: list[int] = []
        """In the tail."""
        self._landed: list[_Chunk | _Taken] = []
        """On its way from the tail to the sealed chunks: longer than a moment only after an interrupt."""
        self._sealed: deque[_Chunk] = deque()
        self._in_flight: deque[_Chunk] = deque()
        """But for what the tail has given, which is in front of these."""
        others = self._pings, self._landed, self._sealed, self._in_flight
        self.tail = Tail({} if heads is None else heads, others)
        pings = repeat(self._pings)
        self._taken: Iterator[_Taken] = zip(
            map(_take, repeat(self.tail)), map(tuple, pings), map(_clear, pings), strict=False
        )
        """Each item is taken from the tail when it is asked for, with its tokens."""
        self._aside: deque[Encoded] = deque()
        """What was in flight at the cut, until `begin`."""
        self._sent_of_flight = 0
        """Bytes accepted of the first chunk in flight, or of the first operation set aside."""
        self._unaccepted = 0
        self._large = False
        """What `take` gave last, but for what the tail gives by itself, has large payloads."""
        self._open = False
        """There is a transport: between `begin` and `cut`."""
        self.beside_tail = 0
        """`pending_bytes` without those that the tail has, or has given."""
        self._full = False
        self._quick = False

    @property
    def pending_bytes(self) -> int:
        """Bytes appended or taken and not yet accepted by the transport; after a cut those of publishes alone."""
        return self.beside_tail + self.tail.given + self.tail.size

    @property
    def full(self) -> bool:
        """Whether a publisher with a connection should wait."""
        return self._full or (self.tail.size >= CHUNK_SIZE and self.pending_bytes >= HIGH_WATER)

    @full.setter
    def full(self, full: bool) -> None:
        self._full = full
        self.tail.limit = CHUNK_SIZE if self._quick and not full else 0

    def make_room(self) -> bool:
        """Close the chunk in the tail if it is a whole one, so that publishes are taken again: whether they may be."""
        if self.tail.size >= CHUNK_SIZE:
            self._seal()
        return not self._full

    def allow_quick(self, allowed: bool) -> None:
        """Whether a publish needs nothing but room: `Tail.publish` may take it."""
        self._quick = allowed
        self.full = self._full

    @property
    def reported(self) -> bool:
        """Everything that was taken was accepted by the transport."""
        return not (self._unaccepted or self.tail.given)

    @property
    def large(self) -> bool:
        """What is on its way, if anything is, has large payloads that ask for no answer."""
        return self._large and not self.tail.given

    def append(self, operation: Encoded) -> None:
        """Add one operation behind all others."""
        if not isinstance(operation, bytes):
            self._seal()
            # A large payload is a chunk of its own: to join it with its neighbours would copy it.
            self._add(_Chunk([operation]))
            return
        self.tail.append(operation)
        if self.tail.size >= CHUNK_SIZE:
            self._seal()

    def append_ping(self, token: int) -> None:
        """Add the PING of a flush behind all others."""
        # Both by one C call. An interrupt in between would leave a token without a PING: it would be taken for that of
        # the next one, and on this connection each flush would wait for the PONG of the one behind it.
        any(map(call, (partial(self._pings.append, token), partial(self.tail.append, PING))))
        if self.tail.size >= CHUNK_SIZE:
            self._seal()

    def prepend(self, operations: Iterable[bytes]) -> None:
        """Put operations in front of all others: the subscriptions of a new connection, before its publishes."""
        chunks = list(_chunks_of(operations))
        self._sealed.extendleft(reversed(chunks))
        self.beside_tail += sum(chunk.size for chunk in chunks)

    def take(self, limit: int, control: list[bytes]) -> tuple[list[bytes], list[int]]:
        """Take the connection's ``control`` bytes and whole chunks until ``limit`` bytes: pieces, and flush tokens."""
        if self._landed:
            self._seal_landed()
        if not (control or self._sealed):
            given = self.tail.give() if limit > 0 else []
            if given is not None:
                return given, []  # nearly always
        pieces: list[bytes] = []
        pings: list[int] = []
        if control:
            chunk = _Chunk([*control])
            self.beside_tail += chunk.size
            self._unaccepted += chunk.size
            self._in_flight.append(chunk)
            pieces.extend(control)
        taken = 0
        large = False
        while taken < limit:
            if not self._sealed:
                if not self.tail.size:
                    break
                self._seal()
            self._in_flight.extend(islice(iter(self._sealed.popleft, None), 1))  # by one C call, as in `_seal`
            chunk = self._in_flight[-1]
            taken += chunk.size
            large = large or (not chunk.one_piece and chunk.large)
            pieces.extend(chunk.pieces())
            pings.extend(chunk.pings)
        if taken:
            self._large = large
        self._unaccepted += taken
        return pieces, pings

    def sent(self, nbytes: int) -> None:
        """The transport accepted the next ``nbytes`` of what was taken. `LocalProtocolError` when that is more."""
        tail = self.tail
        if nbytes and nbytes == tail.given and tail.size < tail.limit:
            tail.sent(nbytes)  # nearly always
            return
        if not self._open:
            self._sent_late(nbytes)
            return
        unreported = self._unaccepted + tail.given
        if not 0 <= nbytes <= unreported:
            raise LocalProtocolError(f"{nbytes} bytes sent, but {unreported} were given and not yet reported")
        if not self._full and self.tail.size >= CHUNK_SIZE:
            self._seal()  # too much may wait by now: then publishers wait until little is left, not only less
        nbytes = tail.sent(nbytes)
        self._unaccepted -= nbytes
        self.beside_tail -= nbytes
        sent = self._sent_of_flight + nbytes
        in_flight = self._in_flight
        while in_flight and sent >= in_flight[0].size:
            sent -= in_flight.popleft().size
        self._sent_of_flight = sent
        if not (in_flight or self._sealed or self._landed or self._aside):
            self.beside_tail = 0  # it is more where an interrupt had `_seal_landed` count a chunk twice
        if self._full and self.pending_bytes <= LOW_WATER:
            self.full = False

    def cut(self) -> None:
        """The transport is gone: keep, in order, the publishes that it has not accepted whole; forget all else.

        Nothing is published quickly from now on, until it is allowed again.
        """
        self.allow_quick(False)
        in_flight = self._operations_in_flight()
        waiting = [operation for operation in self._waiting() if _is_publish(operation)]
        sent = self._sent_of_first()
        self.clear()
        for operation in waiting:
            self.append(operation)
        self._aside.extend(in_flight)
        self.beside_tail += sum(encoded_size(operation) for operation in in_flight if _is_publish(operation))
        # What was accepted of the first chunk is counted again, by operations: those accepted whole must not be
        # written twice.
        self._sent_late(sent)

    def drop(
        self, reason: Callable[[Encoded], ReasonT | None], among: Sequence[bytes] = (b"",)
    ) -> tuple[list[ReasonT], int]:
        """Forget the publishes for which there is a reason, but for those in flight on a connection.

        The reasons, in order, and how many bytes were dropped. Only those are asked for that have one of ``among``
        somewhere in their bytes, and maybe some beside them.
        """
        dropped: list[ReasonT] = []

        def stays(operation: Encoded) -> bool:
            why = reason(operation) if _is_publish(operation) else None
            if why is None:
                return True
            dropped.append(why)
            self.beside_tail -= encoded_size(operation)
            return False

        self._seal()
        pending = self.beside_tail
        self._aside = deque(each if stays(each) else _dead(each) for each in self._aside)
        for index, chunk in enumerate(self._sealed):
            # A look at each operation costs as much as to write it: at whole chunks it costs next to nothing.
            if not any(part in piece for piece in chunk.pieces() for part in among):
                continue
            before = len(dropped)
            operations = [operation for operation in chunk.operations if stays(operation)]
            if len(dropped) > before:
                self._sealed[index] = _Chunk(operations)
                self._sealed[index].pings = chunk.pings
        nbytes = pending - self.beside_tail
        if self.pending_bytes <= LOW_WATER:
            self.full = False
        return dropped, nbytes

    def drop_subscriptions(self) -> list[bytes]:
        """Forget what waits to be told about subscriptions: these operations, in order."""
        dropped: list[bytes] = []
        self._seal()
        for index, chunk in enumerate(self._sealed):
            if not any(verb in piece for piece in chunk.pieces() for verb in _SUBSCRIPTION_VERBS):
                continue  # as in `drop`
            kept: list[Encoded] = []
            for each in chunk.operations:
                if isinstance(each, bytes) and each.startswith(_SUBSCRIPTION_VERBS):
                    dropped.append(each)
                else:
                    kept.append(each)
            self._sealed[index] = _Chunk(kept)
            self._sealed[index].pings = chunk.pings
        self.beside_tail -= sum(map(len, dropped))
        return dropped

    def abandon(self) -> None:
        """A handshake failed: its own bytes, all that can be in flight, are gone; nothing to do after a `cut`."""
        if self._open:
            self._open = False
            self.beside_tail -= self._unaccepted
            self._aside.extend(operation for chunk in self._in_flight for operation in chunk.operations)
            self._in_flight.clear()
            self._unaccepted = 0

    def begin(self) -> None:
        """There is a transport: what the one before did not accept whole goes first, and its reports are over."""
        self.abandon()
        kept = list(_chunks_of(operation for operation in self._aside if _is_publish(operation)))
        self._sealed.extendleft(reversed(kept))
        self._aside.clear()
        self._sent_of_flight = self._unaccepted = 0
        self._open = True
        # Publishers without a connection do not wait (`Session.writable`), so more than the mark may have gathered.
        self.full = self.pending_bytes >= HIGH_WATER

    def _sent_late(self, nbytes: int) -> None:
        self._sent_of_flight += nbytes
        aside = self._aside
        while aside and self._sent_of_flight >= (size := encoded_size(aside[0])):
            self._sent_of_flight -= size
            if _is_publish(aside.popleft()):
                self.beside_tail -= size

    def unsent_publishes(self) -> Iterator[Encoded]:
        """The publishes that were not handed over whole, in order."""
        sent = self._sent_of_first()
        for operation in self._operations_in_flight():
            if sent > 0:
                sent -= encoded_size(operation)
                if sent >= 0:
                    continue
            if _is_publish(operation):
                yield operation
        yield from (operation for operation in (*self._aside, *self._waiting()) if _is_publish(operation))

    def _operations_in_flight(self) -> list[Encoded]:
        kept = _Chunk(None, *self.tail.kept())
        return [operation for chunk in (kept, *self._in_flight) for operation in chunk.operations]

    def _sent_of_first(self) -> int:
        """Bytes accepted of what is the first in flight, or set aside."""
        given = self.tail.given
        return sum(self.tail.kept()[1]) - given if given else self._sent_of_flight

    def _waiting(self) -> Iterator[Encoded]:
        self._seal()
        for chunk in self._sealed:
            yield from chunk.operations

    def clear(self) -> None:
        """Forget everything, the transport included. Not while publishes are allowed to be quick."""
        self._open = False
        self._sealed.clear()
        self._in_flight.clear()
        self._aside.clear()
        self.tail.take()
        self.tail.sent(self.tail.given)
        self._landed.clear()
        self._pings.clear()
        self._sent_of_flight = self._unaccepted = 0
        self.beside_tail = 0
        self.full = False

    def _seal(self) -> None:
        if self._landed:
            self._seal_landed()
        if self.tail.size:
            # Taken and kept by one C call, with its tokens, and moved by one more: a `KeyboardInterrupt` likes to come
            # with their ends.
            self._landed.extend(islice(self._taken, 1))
            self._seal_landed()

    def _seal_landed(self) -> None:
        """Put what has landed behind the sealed chunks. An interrupt leaves it to the next call."""
        landed = self._landed
        chunk = landed[0]
        if not isinstance(chunk, _Chunk):
            (pieces, lengths), pings, _ = chunk
            chunk = _Chunk(None, pieces, lengths)
            chunk.pings = pings
            landed[0] = chunk
        self._count(chunk.size)
        self._sealed.extend(map(landed.pop, (0,)))  # type: ignore[arg-type]  # what has landed is a chunk by now

    def _add(self, chunk: _Chunk) -> None:
        self._count(chunk.size)
        self._sealed.append(chunk)

    def _count(self, nbytes: int) -> None:
        self.beside_tail += nbytes
        if self.pending_bytes >= HIGH_WATER and not self._full:
            self.full = True


def encoded_size(operation: Encoded) -> int:
    """Bytes on the wire."""
    return len(operation) if isinstance(operation, bytes) else sum(map(len, operation))


def _dead(operation: Encoded) -> Encoded:
    """No publish any more, and yet as many bytes: reports of what was handed over go on counting."""
    if isinstance(operation, bytes):
        return b"", operation, b""
    head, payload, end = operation
    return b"", payload, head + end


def _asks_nothing(line: bytes) -> bool:
    """The line of a PUB or HPUB has no reply subject."""
    return line.count(b" ") == (3 if line.startswith(b"H") else 2)


def _is_publish(operation: Encoded) -> bool:
    head = operation if isinstance(operation, bytes) else operation[0]
    return head.startswith(_PUBLISH_VERBS)
