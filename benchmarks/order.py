"""Numbered payloads, and what became of them: every message carries its number, and all numbers are looked at.

The first eight bytes of a payload are its number, big-endian; the rest is filling. A client under measurement only
keeps each payload (its first eight bytes, when it is large) in a list; `findings` reads the list after the clock has
stopped. So the check costs every client one list append for each message, and no message can be missed.

Publishers take their payloads from a ring of a power of two, so that large ones fit into memory: the numbers then count
modulo the ring's size. `unwrap` makes them whole again.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice

__all__ = ["HEAD", "SUBJECT", "Stripes", "findings", "numbers", "payload", "ring", "ring_size", "stream", "unwrap"]

SUBJECT = "bench.subject"
HEAD = 8
"""Bytes of a payload that hold its number."""


def payload(number: int, size: int) -> bytes:
    """One of ``size`` bytes, at least 8."""
    return number.to_bytes(HEAD, "big") + b"." * (size - HEAD)


def ring_size(size: int) -> int:
    """How many different payloads a publisher has: many small ones, 4 MiB of large ones."""
    return 64 if size > 4096 else 4096


def ring(size: int, count: int) -> Iterator[bytes]:
    """``count`` payloads for a publisher."""
    return islice(cycle([payload(number, size) for number in range(ring_size(size))]), count)


def stream(first: int, count: int, size: int, line: bytes) -> bytearray:
    """``count`` operations that differ in their number only: ``line``, payload, CRLF each."""
    operation = b"%b%b\r\n" % (line, payload(0, size))
    length = len(operation)
    data = bytearray(operation * count)
    column = array("Q", range(first, first + count))
    column.byteswap()
    digits = column.tobytes()
    for place in range(HEAD):
        data[len(line) + place :: length] = digits[place::HEAD]
    return data


def numbers(kept: Sequence[bytes]) -> array[int]:
    """The numbers in payloads, or in their heads."""
    column = array("Q", b"".join([head[:HEAD] for head in kept]))
    column.byteswap()
    return column


def unwrap(values: Iterable[int], modulus: int) -> Iterator[int]:
    """Whole numbers from those modulo ``modulus``: each the nearest to its predecessor's successor."""
    expected = 0
    for value in values:
        step = (value - expected) % modulus
        number = expected + (step if step < modulus // 2 else step - modulus)
        yield number
        expected = number + 1


def findings(found: Iterable[int], count: int) -> dict[str, int]:
    """What became of ``count`` messages numbered from 0: received, lost, doubled, misordered."""
    values = list(found)
    if values == list(range(count)):
        return {"received": count, "lost": 0, "doubled": 0, "misordered": 0}
    seen: set[int] = set()
    doubled = misordered = 0
    highest = -1
    for value in values:
        if value in seen:
            doubled += 1
        elif value < highest:
            misordered += 1
        seen.add(value)
        highest = max(highest, value)
    lost = count - len(seen & set(range(count)))
    unknown = len(seen) - (count - lost)  # numbers nobody sent
    return {"received": len(values), "lost": lost, "doubled": doubled + unknown, "misordered": misordered}


class Stripes:
    """Numbers in a raw byte stream of equal MSG operations: the two lowest bytes of each, cut out in stripes.

    What a client does not do, a bare socket need not do: it looks at nothing else. PING and PONG between messages are
    left out.
    """

    modulus = 65536

    def __init__(self, line: bytes, size: int) -> None:
        self.length = len(line) + size + 2
        self.nbytes = 0
        self._held = b""
        self._kept: tuple[list[bytes], list[bytes]] = ([], [])
        self._places = (len(line) + HEAD - 2, len(line) + HEAD - 1)

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream."""
        length, behind = self.length, self.nbytes
        if self._held:
            data, self._held = self._held + data, b""
        starts = data[-behind % length :: length]
        if starts.count(b"M") != len(starts):
            data = self._messages_only(data)
        for place, kept in zip(self._places, self._kept, strict=True):
            kept.append(data[(place - behind) % length :: length])
        self.nbytes = behind + len(data)

    def _messages_only(self, data: bytes) -> bytes:
        """Without PING and PONG; the beginning of one at the end is held back until the rest is there."""
        data = data.replace(b"PING\r\n", b"").replace(b"PONG\r\n", b"")
        last = len(data) - (self.nbytes + len(data)) % self.length
        if data[last:].startswith(b"P"):
            data, self._held = data[:last], data[last:]
        return data

    def findings(self, count: int, modulus: int = modulus) -> dict[str, int]:
        """As `findings` has it; bytes too many or too few count as lost or doubled messages."""
        high, low = (b"".join(kept) for kept in self._kept)
        values = [(above << 8 | below) % modulus for above, below in zip(high, low, strict=False)]
        result = findings(unwrap(values, modulus), count)
        if self.nbytes != count * self.length and result["received"] == count:
            result["lost" if self.nbytes < count * self.length else "doubled"] += 1
        return result
