"""Numbered payloads, and what became of them: every message carries its number, and all numbers are looked at.

The first eight bytes of a payload are its number, big-endian; the rest is filling. A client under measurement only
keeps each payload (its first eight bytes, when it is large) in a list; `findings` reads the list after the clock has
stopped. So the check costs every client one list append for each message, and no message can be missed.

Publishers take their payloads from a ring of a power of two, so that large ones fit into memory: the numbers then count
modulo the ring's size. `unwrap` makes them whole again.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice

__all__ = [
    "HEAD",
    "SPREAD",
    "SUBJECT",
    "Stripes",
    "findings",
    "findings_of_shares",
    "numbers",
    "payload",
    "ring",
    "ring_size",
    "shares",
    "spread_findings",
    "stream",
    "unwrap",
]

SUBJECT = "bench.subject"
SPREAD = "bench.spread.%05d"
"""The subjects of traffic that is spread over many subscriptions: all of one length."""
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


def shares(size: int, count: int, workers: int) -> list[Iterator[bytes]]:
    """The same for so many publishers beside each other (a power of two): message n is sent by worker n % workers."""
    payloads = [payload(number, size) for number in range(ring_size(size))]
    return [islice(cycle(payloads[worker::workers]), len(range(worker, count, workers))) for worker in range(workers)]


def stream(first: int, count: int, size: int, *lines: bytes) -> bytearray:
    """``count`` operations, numbered from ``first``: ``line``, payload, CRLF each; lines of one length take turns."""
    block = b"".join(b"%b%b\r\n" % (line, payload(0, size)) for line in lines)
    length = len(block) // len(lines)
    begin = first % len(lines)
    data = bytearray(block * (-(-(begin + count) // len(lines))))
    del data[(begin + count) * length :], data[: begin * length]
    column = array("Q", range(first, first + count))
    column.byteswap()
    digits = column.tobytes()
    for place in range(HEAD):
        data[len(lines[0]) + place :: length] = digits[place::HEAD]
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


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = {"received": 0, "lost": 0, "doubled": 0, "misordered": 0}
    for part in parts:
        for name in total:
            total[name] += part[name]
    return total


def findings_of_shares(found: Iterable[int], count: int, modulus: int, workers: int) -> dict[str, int]:
    """What became of the messages of `shares`, numbered modulo ``modulus``: order is kept within each worker's."""
    columns: list[list[int]] = [[] for _ in range(workers)]
    for number in found:
        columns[number % workers].append(number // workers)
    return _sum(
        findings(unwrap(column, modulus // workers), len(range(worker, count, workers)))
        for worker, column in enumerate(columns)
    )


def spread_findings(kept: Sequence[Sequence[bytes]], count: int) -> dict[str, int]:
    """What became of ``count`` messages, each n of them sent to subscription n % len(kept), in order there."""
    every = len(kept)
    parts: list[dict[str, int]] = []
    for first, heads in enumerate(kept):
        expected = range(first, count, every)
        values = list(numbers(heads))
        # A number that belongs to another subscription, or to none, becomes one that nobody sent.
        own = [
            (value - first) // every if value % every == first and value < count else count + value for value in values
        ]
        parts.append(findings(own, len(expected)))
    return _sum(parts)


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

    def findings(self, count: int, modulus: int = modulus, workers: int = 1) -> dict[str, int]:
        """As `findings_of_shares` has it; bytes too many or too few count as lost or doubled messages."""
        high, low = (b"".join(kept) for kept in self._kept)
        values = [(above << 8 | below) % modulus for above, below in zip(high, low, strict=False)]
        result = findings_of_shares(values, count, modulus, workers)
        if self.nbytes != count * self.length and result["received"] == count:
            result["lost" if self.nbytes < count * self.length else "doubled"] += 1
        return result
