"""What was asked of JetStream and how it ended, written down while it happens, for the checker.

Each operation is invoked and completed. It completes *ok*, *failed* (it has certainly changed nothing) or *unknown* (it
may have), and the class of its error says which: `NATSError.outcome`. So the clients' own promise is what is checked.
Operations of several threads and tasks go into one history, with the time of one clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from nats_proto.errors import NATSError

__all__ = ["Entry", "History", "Kind", "Outcome", "Stored"]

Kind = Literal["publish", "deliver", "read", "put", "create", "update", "delete", "get", "object_put", "object_get"]
"""Of JetStream: publish; deliver, a message that a consumer gave; read, one that an ordered consumer gave. Of a bucket:
put, create, update, delete, get. Of an object store: object_put, object_get."""

Outcome = Literal["ok", "failed", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One message of the stream as the final read found it."""

    sequence: int
    payload: str
    subject: str = ""
    msg_id: str | None = None
    time: float = 0.0
    """Seconds; only differences count."""


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One operation. What a kind does not have stays as it is here."""

    kind: Kind
    process: str
    """Who did it. One process does one thing after the other, unless it says that it is ``pipelined``."""
    payload: str = ""
    """Different for each publish and each write of a key, so that it names the operation."""
    subject: str = ""
    """Or the key, or the name of the object."""
    msg_id: str | None = None
    expected_last_sequence: int | None = None
    expected_last_subject_sequence: int | None = None
    """Or the revision that an update of a key expects."""
    pipelined: bool = False
    invoked: float = 0.0
    completed: float | None = None
    outcome: Outcome | None = None
    error: str = ""
    sequence: int = 0
    """Of an ok operation: the acknowledged sequence, the revision, or that of the message."""
    duplicate: bool = False
    value: str | None = None
    """What a get returned; None: there is no such key."""
    _now: Callable[[], float] = field(default=time.monotonic, repr=False)

    def ok(self, sequence: int = 0, *, duplicate: bool = False, value: str | None = None) -> None:
        """It was done."""
        self._complete("ok")
        self.sequence, self.duplicate, self.value = sequence, duplicate, value

    def fails(self, error: BaseException) -> None:
        """It ended with this error, whose class says what that means. What is none of ours may have done anything."""
        known = error.outcome if isinstance(error, NATSError) else None
        self._complete("failed" if known == "failed" else "unknown")
        self.error = f"{type(error).__name__}: {error}"

    def _complete(self, outcome: Outcome) -> None:
        if self.outcome is not None:
            raise AssertionError(f"completed a second time, as {outcome}: {self}")
        self.completed = self._now()
        self.outcome = outcome


class History:
    """The entries in the order of their invocations. Any thread may write."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.entries: list[Entry] = []
        self._now = now
        self._lock = threading.Lock()

    def invoke(
        self,
        kind: Kind,
        process: str,
        *,
        payload: str = "",
        subject: str = "",
        msg_id: str | None = None,
        expected_last_sequence: int | None = None,
        expected_last_subject_sequence: int | None = None,
        pipelined: bool = False,
    ) -> Entry:
        """An operation begins now. Its end has to be told by ``ok`` or ``fails`` of what is returned."""
        entry = Entry(
            kind=kind,
            process=process,
            payload=payload,
            subject=subject,
            msg_id=msg_id,
            expected_last_sequence=expected_last_sequence,
            expected_last_subject_sequence=expected_last_subject_sequence,
            pipelined=pipelined,
            _now=self._now,
        )
        with self._lock:
            entry.invoked = self._now()
            self.entries.append(entry)
        return entry

    def delivered(self, process: str, sequence: int, payload: str, *, subject: str = "", ordered: bool = False) -> None:
        """A consumer handed out a message; ``ordered``: an ordered consumer."""
        kind: Kind = "read" if ordered else "deliver"
        self.invoke(kind, process, payload=payload, subject=subject).ok(sequence)

    def of(self, *kinds: Kind) -> list[Entry]:
        """The entries of these kinds."""
        return [entry for entry in self.entries if entry.kind in kinds]

    def counts(self) -> dict[str, int]:
        """How many publishes ended how."""
        counts = {"ok": 0, "failed": 0, "unknown": 0, "never ended": 0}
        for entry in self.of("publish"):
            counts[entry.outcome or "never ended"] += 1
        return counts
