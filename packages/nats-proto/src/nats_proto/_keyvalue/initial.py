"""`Initial`: sees when all that a bucket had at the beginning of a watch has come.

Theory of operation
-------------------
A consumer tells how many messages it has before it when it is made (the *target*), and each message tells how many are
behind it. Messages come in the order of the stream. So when one comes that was written after the consumer was made,
or when a message tells that it is the last, whatever was there and was not written again has come.

A key that is written again while the watch begins is what makes this hard. Its message leaves its place, and the new
one is the last of the stream. Neither number is to be trusted then:

    the target       is reached by the messages of new keys, before that of the key which was written again
    nothing behind   is told too early: a server takes the old message off its count at once, and puts the new one on it
                     a little later

So where a consumer has one message of each key before it, the keys are counted, and both numbers are needed. The end is

    all keys have come, and the last message told that nothing is behind it, or was written well after the beginning
    some are missing, and the consumer has nothing more when it is asked, or the reader is at the end of the stream for
                      a second: they are gone, as when they have expired, and no message tells it
    some are missing, and the consumer has told for three seconds that there is more, and nothing has come
    some are missing, and for ten seconds the reader did not come to the end of what others write

In all other cases (the history of keys, a start at a revision) the messages are counted, and either number will do.

What is promised by that: a key that the bucket had when the watch began is told before the end of the initial values,
with its newest value or an older one, unless it was removed without a marker; also when it is written all the time,
as long as the reader is not slower than all writers together.
"""

from __future__ import annotations

from typing import Final

from .._jetstream.consumer_info import ConsumerInfo
from .._json.durations import MAX_NANOSECONDS

__all__ = ["Initial"]

QUIET: Final = 1.0
"""Seconds without a message after which the consumer is asked how many there are yet."""
SOON: Final = 0.1
"""The same, when a message has told that nothing is behind it, and keys are missing."""
DOUBT: Final = 3.0
"""Seconds after which a consumer is not believed that there is more, when its last message told that there is not."""
PATIENCE: Final = 10.0
"""Seconds in which a reader has to come to the end of what others write."""
SECOND: Final = 1_000_000_000
SAME_TIME: Final = SECOND
"""Nanoseconds that the clocks of a cluster's servers may differ."""


class Initial:
    """Counts what comes. ``one_each``: the consumer has one message of each key before it.

    ``now`` is an absolute time (seconds).
    """

    __slots__ = (
        "_beginning", "_counted", "_empty", "_last", "_last_since", "_made_at", "_more", "_position", "keys", "latest",
        "target",
    )  # fmt: skip

    def __init__(self, *, one_each: bool) -> None:
        self.keys: set[str] | None = set() if one_each else None
        """Those that have come."""
        self.target: int | None = None
        """How many keys, or messages, there were; None until the consumer is made."""
        self._counted = 0
        """Messages of this consumer."""
        self._empty = False
        """It had nothing before it."""
        self._last = False
        """The last message told that nothing is behind it."""
        self._more = False
        """It told since, when it was asked, that there is something behind the last message."""
        self._last_since: float | None = None
        """When a message of this consumer told that for the first time."""
        self._made_at = 0.0
        self._beginning: int | None = None
        """When the consumer was made, by the clock of its server (nanoseconds)."""
        self.latest = MAX_NANOSECONDS
        """A message that was written later comes so late that the reader is behind the writers, in the same way."""
        self._position = 0
        """When the last message was written, in the same way."""

    def begin(self, info: ConsumerInfo, now: float) -> None:
        """The consumer was made."""
        made = info.ts or info.created
        if self.target is None:
            self.target = info.num_pending
            self._made_at = now
            if made is not None:
                self._beginning = made.nanoseconds
                self.latest = max(0, min(self._beginning + int(PATIENCE * SECOND), MAX_NANOSECONDS))
        self._empty = not info.num_pending

    def begin_again(self) -> None:
        """Another consumer is made in its place, which begins behind the last message."""
        self._counted = 0
        self._last = self._empty = self._more = False
        self._last_since = None
        if self.keys is None:
            self.target = None

    def came(self, subject: str | None, pending: int, written: int, now: float) -> bool:
        """A message that is given; it told how many are behind it, and when it was written (nanoseconds).

        ``subject``: None for one that tells nothing. False when it is certain that this is not the end: nearly always,
        and then `over` need not be asked.
        """
        self._counted += 1
        if subject is None:
            return True
        keys = self.keys
        if keys is not None:
            keys.add(subject)
        self._position = written
        self._more = False
        self._last = not pending
        if not pending and self._last_since is None:
            self._last_since = now
        if not pending or self._empty or keys is None or self.target is None:
            return True
        return len(keys) >= self.target or written > self.latest

    @property
    def certain(self) -> int:
        """So many messages are not the end for certain, if each tells that more are behind it, and none was written
        later than `latest`. Then their keys, and `came_at_once`, tell as much as `came` of each."""
        if self.target is None or self._empty:
            return 0
        return self.target - 1 - (self._counted if self.keys is None else len(self.keys))

    def came_at_once(self, count: int, written: int) -> None:
        """So many messages, as `certain` says; the last one was written then. Their keys are in `keys` already."""
        self._counted += count
        self._position = written
        self._more = self._last = False

    def over(self, now: float) -> bool:
        """All that there was has come."""
        if self.target is None:
            return False
        if self._empty:
            return True
        if self.keys is None:
            return self._last or self._counted >= self.target
        passed = 0 if self._beginning is None else self._position - self._beginning
        if len(self.keys) >= self.target:
            return self._last or passed > SAME_TIME
        if self._last:
            return self._last_since is not None and now >= self._last_since + (DOUBT if self._more else QUIET)
        return passed > PATIENCE * SECOND and now >= self._made_at + PATIENCE

    def asked(self, info: ConsumerInfo) -> None:
        """What the consumer told: it is over if it has nothing more, and all that it has sent has come."""
        delivered = 0 if info.delivered is None else info.delivered.consumer_seq
        if info.num_pending:
            self._more = True
        elif delivered <= self._counted:
            self._empty = True

    @property
    def pause(self) -> float:
        """Seconds without a message after which the consumer is to be asked."""
        return SOON if self._last else QUIET
