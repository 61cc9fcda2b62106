"""What each client did and saw, and the verdict over it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from .buckets import BucketLedger, BucketVerdict, bucket_lines
from .recorder import Recorder
from .streams import StreamLedger, StreamVerdict, stream_lines


@dataclass(slots=True)
class Ledger:
    """One client's own account."""

    name: str
    published: int = 0
    buffered: list[int] = field(default_factory=list[int])
    """Serials published while there was no connection: each has to arrive, once, in order."""
    refused: int = 0
    received: int = 0
    out_of_order: int = 0
    answered: int = 0
    failed: int = 0
    reconnects: int = 0
    longest_gap: float = 0.0
    _last_seen: dict[str, int] = field(default_factory=dict[str, int])
    _last_time: float | None = None

    def saw(self, publisher: str, serial: int) -> None:
        """A subscription of this client delivered a message."""
        now = time.monotonic()
        if self._last_time is not None:
            self.longest_gap = max(self.longest_gap, now - self._last_time)
        self._last_time = now
        self.received += 1
        if serial <= self._last_seen.get(publisher, 0):
            self.out_of_order += 1
        self._last_seen[publisher] = max(serial, self._last_seen.get(publisher, 0))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the recorders say about one client's buffered publishes."""

    lost: int
    doubled: int
    out_of_order: int

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.out_of_order)


def judge(ledger: Ledger, recorders: Iterable[Recorder]) -> Verdict:
    """Compare what was buffered with what arrived anywhere."""
    buffered = set(ledger.buffered)
    arrived: set[int] = set()
    doubled = out_of_order = 0
    for recorder in recorders:
        seen = [serial for serial in recorder.serials[ledger.name] if serial in buffered]
        arrived.update(seen)
        doubled += len(seen) - len(set(seen))
        out_of_order += sum(1 for earlier, later in itertools.pairwise(seen) if later < earlier)
    return Verdict(len(buffered - arrived), doubled, out_of_order)


def table(
    rows: list[tuple[Ledger, Verdict]],
    streams: list[tuple[StreamLedger, StreamVerdict]],
    buckets: list[tuple[BucketLedger, BucketVerdict]],
) -> str:
    """One column for each client."""
    lines: list[tuple[str, list[str]]] = [
        ("", [ledger.name for ledger, _ in rows]),
        ("published", [f"{ledger.published:,}" for ledger, _ in rows]),
        ("  of them while disconnected", [f"{len(ledger.buffered):,}" for ledger, _ in rows]),
        ("  refused, buffer full", [f"{ledger.refused:,}" for ledger, _ in rows]),
        ("received", [f"{ledger.received:,}" for ledger, _ in rows]),
        ("in order", ["yes" if not ledger.out_of_order else f"no: {ledger.out_of_order:,}" for ledger, _ in rows]),
        ("requests answered", [f"{ledger.answered:,}" for ledger, _ in rows]),
        ("requests failed", [f"{ledger.failed:,}" for ledger, _ in rows]),
        ("reconnects", [f"{ledger.reconnects:,}" for ledger, _ in rows]),
        ("longest gap", [f"{ledger.longest_gap * 1000:,.0f} ms" for ledger, _ in rows]),
        ("buffered and lost", [f"{verdict.lost:,}" for _, verdict in rows]),
        ("buffered and doubled", [f"{verdict.doubled:,}" for _, verdict in rows]),
        ("buffered and out of order", [f"{verdict.out_of_order:,}" for _, verdict in rows]),
        ("", []),
        ("a stream with three replicas", []),
        *stream_lines(streams),
        ("", []),
        ("a bucket with three replicas", []),
        *bucket_lines(buckets),
    ]
    return "\n".join((f"  {label:<32}" + "".join(f"{cell:>12}" for cell in cells)).rstrip() for label, cells in lines)
