"""`Lease`: one holder's hold of a lock, which is a key with a time to live.

Theory of operation
-------------------
Who creates the key holds the lock. The key lives for ``ttl`` seconds, and its holder writes it again before they are
over. A holder that dies, or that is cut off, writes no more: the key expires, and the next one may create it.

    FREE ──take: the key was created──▶ HELD ──release: deleted, at its revision──▶ FREE
                                         │
                                         ╰──another value, no value, not renewed in time──▶ LOST

The server counts the time from when it stored the key, which is after the holder has sent it. So the holder counts from
when it began to send, and a little less: it knows that the lock is lost before anybody else can have it. That needs no
common clock, only clocks that run equally fast for a few seconds.

A renewal is a write on condition that the key has the revision of the last one. Its acknowledgement may get lost; then
the next one finds a revision that it does not know. The value tells whose it is: each hold has a value of its own. The
same is true of a creation that was not answered.

A program may be stopped for any time between its look at the lock and what it does then. No lock can help that: what it
protects has to be told the ``token``, and has to refuse one that is less than the greatest that it has seen. The token
is the revision with which the hold began; each later hold has a greater one.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import msgspec

from .._calls.operation import Operation, Pause
from .._jetstream.errors import WrongLastSequenceError
from .._json.durations import DurationLike, Seconds, take_duration
from .._limits import check_encodable, shown
from ..errors import ConnectionClosedError, LocalProtocolError, NATSError
from .entry import KeyValueEntry
from .errors import KeyExistsError, LockLostError
from .operations import Bucket
from .watch import InitialValuesDone

__all__ = ["Lease"]

SHORTEST: Final = 1.0
"""Seconds: servers count whole ones."""
LONGEST: Final = 86_400.0
RENEWALS: Final = 3
"""How often a hold is renewed in the time that it has: two may fail."""
MARGIN: Final = 0.1
"""The part of its time that the holder does not count on, since clocks do not run equally fast."""
RETRY: Final = 1.0
"""Seconds at the most between two tries of what has failed by itself."""
PAUSE: Final = 0.02
"""Seconds before a deletion that was refused is tried again: another write may have been on its way."""
MAX_HOLDER: Final = 256


class _State(Enum):
    FREE = auto()
    HELD = auto()
    LOST = auto()


class Lease:
    """``ttl``: seconds, from 1 to 86400; ``holder``: a text for those who look who holds it. Times are absolute.

    Raises `InvalidKeyError`, `TypeError`, and `ValueError` for what cannot be, or when the bucket has no
    ``limit_marker_ttl``, or lets no key expire so soon.
    """

    __slots__ = (
        "_bucket", "_data", "_due", "_seconds", "_state", "_taken_by_other", "_trouble", "_unsure", "_until", "error",
        "holder", "key", "retry_at", "revision", "token", "what",
    )  # fmt: skip

    def __init__(self, bucket: Bucket[bytes], key: str, ttl: DurationLike, holder: str) -> None:
        bucket.stored_key(key)
        seconds = take_duration("ttl", ttl)
        if not SHORTEST <= seconds <= LONGEST:
            raise ValueError(f"ttl of a lock must be {SHORTEST:g} to {LONGEST:g} seconds: {shown(ttl)}")
        self.what = f"lock key {key!r} of bucket {bucket.name!r}"
        if not bucket.keys_may_expire:
            raise ValueError(f"{self.what}: the bucket needs a limit_marker_ttl, without which no key can expire")
        if seconds < bucket.shortest_life:
            raise ValueError(
                f"{self.what}: in a bucket with a history no key expires before its limit_marker_ttl of "
                f"{bucket.shortest_life:g} s, so a lock cannot have a ttl of {seconds:g} s: a bucket with history=1 "
                f"has no such limit"
            )
        self._bucket = bucket
        self._seconds: Seconds = seconds
        self.key = key
        self.holder = _holder(holder)
        self._data = b""
        """The value of this hold."""
        self._unsure = False
        """It may be stored, by a creation that was not answered."""
        self._state = _State.FREE
        self._taken_by_other = False
        self._until = 0.0
        self._due = 0.0
        self._trouble: NATSError | None = None
        self.retry_at = 0.0
        """When to try to take it again, if nothing has told that it is free."""
        self.token = 0
        """The revision with which the hold began; 0 before the first. Each later hold, whoever's, has a greater one."""
        self.revision = 0
        """Of the last renewal."""
        self.error: LockLostError | None = None
        """How it was lost."""

    @property
    def ttl(self) -> float:
        """Seconds."""
        return self._seconds

    # --- taking

    def take(self, timeout: float) -> Operation[bool]:
        """Try to create the key: whether it is held now. Raises what `Bucket.create` raises but `KeyExistsError`."""
        if self._state is _State.HELD:
            raise LocalProtocolError(f"{self.what}: it is held already")
        clock = self._bucket.api.clock
        self.error = self._trouble = None
        self._taken_by_other = False
        if not self._unsure:
            self._data = msgspec.json.encode({"holder": self.holder, "id": self._bucket.new_id()})
        began = clock()
        try:
            revision = yield from self._bucket.create(
                self.key, self._data, ttl=self._seconds, timeout=timeout, retry_for=0.0
            )
        except KeyExistsError:
            self.retry_at = clock() + self._seconds + SHORTEST
            return self._unsure and (yield from self._take_own(timeout))
        except BaseException as error:
            # It may be stored, also by a call that was cancelled or interrupted.
            if not isinstance(error, NATSError) or error.outcome != "failed":
                self._unsure = True
            self.retry_at = clock() + RETRY
            raise
        self.token = revision
        self._unsure = False
        self._hold(revision, began)
        return True

    def _take_own(self, timeout: float) -> Operation[bool]:
        """The key may be that of an earlier try. When the server has stored that is not known: it is written again."""
        entry = yield from self._mine(timeout)
        self._unsure = False
        if entry is None:
            return False
        began = self._bucket.api.clock()
        try:
            revision = yield from self._write(entry.revision, timeout)
        except WrongLastSequenceError:
            return False  # it has just expired
        except NATSError:
            self._unsure = True
            raise
        self.token = entry.revision
        self._hold(revision, began)
        return True

    def may_take(self, item: KeyValueEntry[bytes] | InitialValuesDone) -> bool:
        """Whether the lock is free, by what a watch of the key tells."""
        if isinstance(item, InitialValuesDone):
            return not self._taken_by_other
        self._taken_by_other = not item.deleted
        return item.deleted

    # --- holding

    def held(self, now: float) -> bool:
        """It is held, for sure."""
        return self._state is _State.HELD and now < self._until

    def lost(self, now: float) -> bool:
        """It was held, nobody has released it, and it is not held any more."""
        return self._state is _State.LOST or (self._state is _State.HELD and now >= self._until)

    @property
    def over(self) -> bool:
        """It is not held any more, or never was."""
        return self._state is not _State.HELD

    def next_timeout(self) -> float | None:
        """When it is to be renewed, or is lost."""
        return min(self._due, self._until) if self._state is _State.HELD else None

    def look(self, now: float) -> bool:
        """Whether to `renew` now. It is lost when it is too late for that."""
        if self._state is not _State.HELD:
            return False
        if now >= self._until:
            why = "" if self._trouble is None else f": {self._trouble}"
            self.lose(f"it could not be renewed in time{why}", self._trouble)
            return False
        return now >= self._due

    def renew(self) -> Operation[None]:
        """Write the key again. What fails by itself is tried again until it is too late. Raises nothing but
        `ConnectionClosedError`."""
        clock = self._bucket.api.clock
        began = clock()
        # Half of what is left at the most: so there is time for another try, and nobody waits beyond the end.
        timeout = min(max((self._until - began) / 2, 0.001), self._bucket.api.timeout)
        try:
            revision = yield from self._write(self.revision, timeout)
        except ConnectionClosedError:
            raise
        except WrongLastSequenceError as error:
            yield from self._doubt(error, timeout)
        except NATSError as error:
            self._later(error)
        else:
            if self._state is _State.HELD:
                self._hold(revision, began)
        self.look(clock())

    def saw(self, entry: KeyValueEntry[bytes]) -> None:
        """An entry of the key, by a watch."""
        if self._state is not _State.HELD or entry.revision <= self.revision:
            return
        if not entry.deleted and entry.data == self._data:
            self.revision = entry.revision
        else:
            self.lose(_TOLD.get(entry.operation, "another one has it"), None)

    def lose(self, why: str, cause: BaseException | None) -> None:
        """It is not held any more, and nobody has released it. Does nothing when it is not held."""
        if self._state is not _State.HELD:
            return
        self._state = _State.LOST
        self.error = LockLostError(
            f"{self.what}: it was lost: {why}", bucket=self._bucket.name, key=self.key, token=self.token
        )
        self.error.__cause__ = cause

    # --- the end

    def release(self, timeout: float) -> Operation[None]:
        """Delete the key. Raises `LockLostError` when it was lost; after any other error the key expires by itself."""
        clock = self._bucket.api.clock
        self.look(clock())
        if self._state is not _State.HELD:
            if self.error is not None:
                raise self.error.with_traceback(None)
            raise LocalProtocolError(f"{self.what}: it is not held")
        until = clock() + timeout
        try:
            while True:
                try:
                    yield from self._bucket.delete_once(self.key, self.revision, max(until - clock(), 0.001))
                    return
                except WrongLastSequenceError as refused:
                    entry = yield from self._mine(timeout)
                    if entry is None or clock() >= until:
                        self.lose("it was taken away", refused)
                        raise (self.error or refused) from refused
                    self.revision = entry.revision  # of a renewal whose acknowledgement was lost
                    yield Pause(PAUSE)
        finally:
            if self._state is _State.HELD:
                self._state = _State.FREE

    # --- how

    def _hold(self, revision: int, began: float) -> None:
        self._state = _State.HELD
        self.revision = max(revision, self.revision)
        self._trouble = None
        self._until = began + self._seconds * (1 - MARGIN)
        self._due = began + self._seconds / RENEWALS

    def _later(self, error: NATSError) -> None:
        self._trouble = error
        self._due = self._bucket.api.clock() + min(self._seconds / 10, RETRY)

    def _doubt(self, error: WrongLastSequenceError, timeout: float) -> Operation[None]:
        """The key has another revision than the last renewal: is that ours?"""
        try:
            entry = yield from self._mine(timeout)
        except ConnectionClosedError:
            raise
        except NATSError as trouble:
            self._later(trouble)
            return
        if entry is None:
            self.lose("it was taken away", error)
        elif entry.revision == self.revision:
            self._later(error)  # another write is on its way, and may be refused
        else:
            self.revision = entry.revision
            self._due = self._bucket.api.clock()

    def _write(self, revision: int, timeout: float) -> Operation[int]:
        return self._bucket.write_again(self.key, self._data, revision, ttl=self._seconds, timeout=timeout)

    def _mine(self, timeout: float) -> Operation[KeyValueEntry[bytes] | None]:
        """The key's last entry if it is of this hold, as the leader has it."""
        entry = yield from self._bucket.last_written(self.key, timeout)
        return entry if entry is not None and not entry.deleted and entry.data == self._data else None


def _holder(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError(f"holder must be str, not {type(given).__name__}")
    if len(given) > MAX_HOLDER:
        raise ValueError(f"holder has {len(given)} characters, {MAX_HOLDER} are allowed")
    holder = str.__str__(given)
    check_encodable("holder", holder)
    return holder


_TOLD: Final = {"delete": "its key was deleted", "purge": "its key was purged", "expired": "its key has expired"}
