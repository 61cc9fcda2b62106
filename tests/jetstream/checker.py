"""Holds a history against what the stream really has at the end: a small Jepsen.

Theory of operation
-------------------
The final read is the truth. An operation that completed *ok* must be found there, one that *failed* must not, and an
*unknown* one may be or not. Sequences are the order in which the stream took things; where an operation had completed
before another was invoked, this order must be that one as well. Each check looks for one kind of lie and gives a
`Violation` for each that it finds, so that a planted one is found by its name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from .history import Entry, History, Kind, Stored

__all__ = ["Check", "Final", "Violation", "check"]

Check = Literal[
    "never ended",
    "acked but lost",
    "failed but stored",
    "stored by nobody",
    "double",
    "wrong position",
    "order",
    "blind retry",
    "never delivered",
    "delivered by nobody",
    "hole",
    "ordered twice",
    "not ordered",
    "create won twice",
    "stale update",
    "wrong value",
    "wrong object",
]

WRITES: tuple[Kind, ...] = ("publish", "put", "create", "update", "delete")
LISTED = 5
"""So many of a violation's cases are told."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One promise that was broken."""

    check: Check
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """What the final read found."""

    stream: Sequence[Stored] = ()
    duplicate_window: float = 120.0
    """Seconds, as `Stored.time`."""
    pending: int = 0
    """Messages that each consumer has not delivered yet."""
    consumer: bool = False
    """Whether consumers delivered into the history, each as a process: then none may lack anything of the stream."""
    deletes: frozenset[str] = field(default_factory=frozenset)
    """Payloads of markers that stand for a deleted key."""


def check(history: History, final: Final) -> list[Violation]:
    """All violations; none: the clients and the servers kept their word."""
    found: list[Violation] = []
    for one in _CHECKS:
        cases = list(one(history, final))
        found += cases[:LISTED]
        if len(cases) > LISTED:
            found.append(Violation(cases[0].check, f"... and {len(cases) - LISTED} more"))
    return found


# --- publishes, and other writes ------------------------------------------------------------------------------------


def _ended(history: History, final: Final) -> Iterator[Violation]:
    for entry in history.entries:
        if entry.outcome is None:
            yield Violation("never ended", str(entry))


def _outcomes(history: History, final: Final) -> Iterator[Violation]:
    by_payload = _by_payload(final.stream)
    ids = {stored.msg_id for stored in final.stream if stored.msg_id is not None}
    # The copy of an operation that was found to be a duplicate is the other's.
    stored_for_another = {entry.msg_id for entry in history.of(*WRITES) if entry.outcome != "failed"} - {None}
    for entry in history.of(*WRITES):
        there = entry.payload in by_payload
        if entry.outcome == "ok" and not there and not (entry.duplicate and entry.msg_id in ids):
            yield Violation("acked but lost", str(entry))
        if entry.outcome == "failed" and there and entry.msg_id not in stored_for_another:
            yield Violation("failed but stored", str(entry))
    asked_for = {entry.payload for entry in history.of(*WRITES)}
    for stored in final.stream:
        if stored.payload not in asked_for:
            yield Violation("stored by nobody", str(stored))


def _doubles(history: History, final: Final) -> Iterator[Violation]:
    """An operation is stored once: with an id because the server knows it, without because nobody sends it twice."""
    for payload, copies in _by_payload(final.stream).items():
        for one, other in pairwise(copies):
            if one.msg_id is None or other.time - one.time < final.duplicate_window:
                yield Violation("double", f"{payload!r} at {one.sequence} and {other.sequence}, id {one.msg_id}")
    by_id: dict[str, list[Stored]] = defaultdict(list)
    for stored in final.stream:
        if stored.msg_id is not None:
            by_id[stored.msg_id].append(stored)
    for msg_id, copies in by_id.items():
        for one, other in pairwise(copies):
            if one.payload != other.payload and other.time - one.time < final.duplicate_window:
                yield Violation("double", f"id {msg_id!r} at {one.sequence} and {other.sequence}")


def _positions(history: History, final: Final) -> Iterator[Violation]:
    at = {stored.sequence: stored for stored in final.stream}
    stored_somewhere = {stored.payload for stored in final.stream}
    for entry in history.of(*WRITES):
        stored = at.get(entry.sequence)
        if entry.outcome != "ok" or (stored is None and entry.payload not in stored_somewhere):
            continue  # what is lost is told by another check
        copy = stored is not None and entry.duplicate and stored.msg_id == entry.msg_id
        if not copy and (stored is None or stored.payload != entry.payload):
            yield Violation("wrong position", f"{entry} acknowledged at the place of {stored}")


def _order(history: History, final: Final) -> Iterator[Violation]:
    """What was acknowledged before another began has the lower sequence; so it has within a process, one by one."""
    shared = _shared_ids(history)
    writes = [entry for entry in history.of(*WRITES) if entry.outcome == "ok" and entry.msg_id not in shared]
    done = sorted(writes, key=_completed)
    latest: Entry | None = None
    passed = 0
    for entry in sorted(writes, key=lambda entry: entry.invoked):
        while passed < len(done) and _completed(done[passed]) < entry.invoked:
            if latest is None or done[passed].sequence > latest.sequence:
                latest = done[passed]
            passed += 1
        if latest is not None and latest.sequence >= entry.sequence:
            yield Violation("order", f"{entry} began after the end of {latest}")
    last: dict[str, Entry] = {}
    for entry in writes:
        before = last.get(entry.process)
        if before is not None and not entry.pipelined and before.sequence >= entry.sequence:
            yield Violation("order", f"{entry} after {before}, of one process")
        last[entry.process] = entry


def _expectations(history: History, final: Final) -> Iterator[Violation]:
    """A conditional write is stored behind what it expected, or nowhere: also when its end is unknown."""
    entries = {entry.payload: entry for entry in history.of("publish")}
    before_all = 0
    before_on: dict[str, int] = defaultdict(int)
    for stored in final.stream:
        entry = entries.get(stored.payload)
        if entry is not None:
            expected, real = entry.expected_last_sequence, before_all
            if expected is not None and expected != real:
                yield Violation("blind retry", f"{entry} is stored behind {real}")
            expected, real = entry.expected_last_subject_sequence, before_on[stored.subject]
            if expected is not None and expected != real:
                yield Violation("blind retry", f"{entry} is stored behind {real} of its subject")
        before_all = before_on[stored.subject] = stored.sequence


# --- consumers ------------------------------------------------------------------------------------------------------


def _deliveries(history: History, final: Final) -> Iterator[Violation]:
    if not final.consumer:
        return
    at = {stored.sequence: stored for stored in final.stream}
    consumers: dict[str, set[int]] = defaultdict(set)
    for entry in history.of("deliver"):
        stored = at.get(entry.sequence)
        if stored is None or stored.payload != entry.payload:
            yield Violation("delivered by nobody", f"{entry}; the stream has {stored}")
        consumers[entry.process].add(entry.sequence)
    for name, delivered in consumers.items() or [("any consumer", set[int]())]:
        missing = sorted(set(at) - delivered)
        if len(missing) != final.pending:
            told = f"{len(missing)} of {len(at)} sequences, with {final.pending} pending: {missing[:20]}"
            yield Violation("never delivered", f"{name}: {told}")


def _ordered_reads(history: History, final: Final) -> Iterator[Violation]:
    """An ordered reader has seen the stream from its beginning on: all of it, once, in order."""
    readers: dict[str, list[Entry]] = defaultdict(list)
    for entry in history.of("read"):
        readers[entry.process].append(entry)
    for name, entries in readers.items():
        seen: set[int] = set()
        last = 0
        for entry in entries:
            if entry.sequence in seen:
                yield Violation("ordered twice", f"{name}: {entry.sequence}")
            elif entry.sequence < last:
                yield Violation("not ordered", f"{name}: {entry.sequence} after {last}")
            seen.add(entry.sequence)
            last = max(last, entry.sequence)
        holes = [stored.sequence for stored in final.stream if stored.sequence < last and stored.sequence not in seen]
        if holes:
            yield Violation("hole", f"{name}: {holes[:20]}, and has read up to {last}")
        at = {stored.sequence: stored.payload for stored in final.stream}
        for entry in entries:
            if at.get(entry.sequence) != entry.payload:
                yield Violation("delivered by nobody", str(entry))


# --- keys and objects -----------------------------------------------------------------------------------------------


def _keys(history: History, final: Final) -> Iterator[Violation]:
    """Per key, in the order of revisions: what each write found is what the one before it left."""
    entries = {entry.payload: entry for entry in history.of("create", "update", "put", "delete")}
    revisions: dict[str, list[Stored]] = defaultdict(list)
    for stored in final.stream:
        if stored.payload in entries:
            revisions[stored.subject].append(stored)
    for writes in revisions.values():
        for before, stored in zip([None, *writes], writes, strict=False):
            entry = entries[stored.payload]
            live = before is not None and before.payload not in final.deletes
            if entry.kind == "create" and live:
                yield Violation("create won twice", f"{entry} over {before}")
            expected = entry.expected_last_subject_sequence
            if entry.kind == "update" and expected is not None and (before is None or before.sequence != expected):
                yield Violation("stale update", f"{entry} over {before}")
    yield from _gets(history, final, revisions)


def _gets(history: History, final: Final, revisions: Mapping[str, Sequence[Stored]]) -> Iterator[Violation]:
    for entry in history.of("get"):
        if entry.outcome != "ok" or entry.value is None:
            continue
        there = {stored.sequence: stored.payload for stored in revisions.get(entry.subject, ())}
        if there.get(entry.sequence) != entry.value:
            yield Violation("wrong value", f"{entry}; at {entry.sequence} is {there.get(entry.sequence)!r}")


def _objects(history: History, final: Final) -> Iterator[Violation]:
    """A get gives the bytes of one put that may have been done, or it raises."""
    put: dict[str, set[str]] = defaultdict(set)
    for entry in history.of("object_put"):
        if entry.outcome != "failed":
            put[entry.subject].add(entry.payload)
    for entry in history.of("object_get"):
        if entry.outcome == "ok" and entry.value is not None and entry.value not in put[entry.subject]:
            yield Violation("wrong object", str(entry))


_CHECKS = (
    _ended,
    _outcomes,
    _doubles,
    _positions,
    _order,
    _expectations,
    _deliveries,
    _ordered_reads,
    _keys,
    _objects,
)


def _by_payload(stream: Iterable[Stored]) -> dict[str, list[Stored]]:
    found: dict[str, list[Stored]] = defaultdict(list)
    for stored in stream:
        found[stored.payload].append(stored)
    return found


def _shared_ids(history: History) -> set[str | None]:
    """Ids that several operations have: the sequence acknowledged to one may be that of another."""
    count: dict[str, int] = defaultdict(int)
    for entry in history.of("publish"):
        if entry.msg_id is not None:
            count[entry.msg_id] += 1
    return {msg_id for msg_id, times in count.items() if times > 1}


def _completed(entry: Entry) -> float:
    assert entry.completed is not None  # of an ok one
    return entry.completed
