"""The bucket of the demo: what each client has put there, what its watch has told, and what is really there."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import nats_sync

__all__ = [
    "BUCKET",
    "PUT_EVERY",
    "PUT_TIMEOUT",
    "BucketLedger",
    "BucketVerdict",
    "bucket_lines",
    "judge_bucket",
    "key_of",
]

BUCKET: Final = "DEMO"
HISTORY: Final = 64
"""Of each key, all that the demo writes is kept: so it can be compared with what the watches have told."""
KEYS: Final = 20
"""Of each client, written in turn."""
PUT_EVERY: Final = 0.05
PUT_TIMEOUT: Final = 1.0


@dataclass(slots=True)
class BucketLedger:
    """One client's own account."""

    name: str
    written: int = 0
    unsure: int = 0
    """Writes that were not acknowledged in time. A put has no id, so it is not tried again, and may be stored."""
    told: list[int] = field(default_factory=list[int])
    """The revisions of which its watch has told."""
    longest_silence: float = 0.0
    """The longest time in which the watch told nothing, in seconds."""
    _last: float | None = None

    def tells(self, revision: int) -> None:
        """The watch has told of this revision."""
        now = time.monotonic()
        if self._last is not None:
            self.longest_silence = max(self.longest_silence, now - self._last)
        self._last = now
        self.told.append(revision)


@dataclass(frozen=True, slots=True)
class BucketVerdict:
    """What the bucket says about one client's watch."""

    never_told: int
    told_twice: int
    out_of_order: int

    @property
    def good(self) -> bool:
        return not (self.never_told or self.told_twice or self.out_of_order)


def make_bucket(urls: list[str]) -> None:
    """A bucket on all three servers."""
    with nats_sync.connect(urls) as nc:
        nc.jetstream().create_key_value(BUCKET, history=HISTORY, num_replicas=3)


def key_of(name: str, serial: int) -> str:
    """The key that a client writes next."""
    return f"{name}.{serial % KEYS}"


def judge_bucket(ledger: BucketLedger, stored: Sequence[int]) -> BucketVerdict:
    """Compare what a watch has told with the revisions that are there."""
    told = ledger.told
    return BucketVerdict(
        never_told=len(set(stored) - set(told)),
        told_twice=len(told) - len(set(told)),
        out_of_order=sum(later < earlier for earlier, later in itertools.pairwise(told)),
    )


def bucket_lines(rows: list[tuple[BucketLedger, BucketVerdict]]) -> list[tuple[str, list[str]]]:
    """The lines of the table."""
    lines: list[tuple[str, Iterable[int]]] = [
        ("keys written", (ledger.written for ledger, _ in rows)),
        ("  not acknowledged in time", (ledger.unsure for ledger, _ in rows)),
        ("changes told by the watch", (len(ledger.told) for ledger, _ in rows)),
        ("stored and never told", (verdict.never_told for _, verdict in rows)),
        ("told twice", (verdict.told_twice for _, verdict in rows)),
        ("told out of order", (verdict.out_of_order for _, verdict in rows)),
    ]
    silences = ("longest silence of the watch", [f"{ledger.longest_silence * 1000:,.0f} ms" for ledger, _ in rows])
    plain = [(label, [f"{number:,}" for number in numbers]) for label, numbers in lines]
    return [*plain[:3], silences, *plain[3:]]
