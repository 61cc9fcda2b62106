"""Which messages are too old to be handed out, since the server has given them to another reader.

Theory of operation
-------------------
The server gives a message to another reader when it was not acknowledged for ``ack_wait``. That time begins with the
delivery, not when the message is taken from the queue; and a message does not tell when it arrived. Two things are
known: the marks of the queue (`Ages`), where whoever drives the machine can count; and that a message is not delivered
later than when the last of all requests has expired. What has outlived ``ack_wait`` by one of them is not handed out,
only counted: the reader is slow, or the process was stopped. In the second case nothing new is asked for until the ends
of these requests were read (`has_run_out`), by which time the old messages are through. What may be older than half of
``ack_wait`` is handed out, and the server told that it is in progress. A message that is only perhaps too old is handed
out, since to lose a fresh one is worse; and so is one whose last attempt this is, for nobody else gets it. What lies
unread twice is handed out once all the same (`Repeats`).
"""

from __future__ import annotations

from typing import Final

from .._jetstream.errors import NotJetStreamMessageError
from .._jetstream.metadata import parse_ack_subject
from .ages import Age, Ages
from .pulls import GRACE
from .repeats import Repeats

__all__ = ["Freshness"]

_UNGIVEN: Final = (Age.OUTLIVED, Age.REPEATED)


class Freshness:
    """What is known of the age of one reader's messages. Times are absolute seconds.

    ``ack_wait``: seconds, infinite for messages that are not acknowledged. ``max_deliver``: 0 and less: without end.
    ``ages``: whether to look at the marks of the queue.
    """

    __slots__ = ("_ages", "_max_deliver", "_outliving", "_repeats", "_until", "ack_wait", "outlived")

    def __init__(self, ack_wait: float, max_deliver: int, *, ages: bool) -> None:
        self.ack_wait = ack_wait
        self._max_deliver = max_deliver
        self._ages = Ages(ack_wait) if ages and ack_wait < float("inf") else None
        self._repeats = None if self._ages is None else Repeats(ack_wait)
        self._until = float("inf")
        """A message that is taken later has certainly outlived ``ack_wait``."""
        self._outliving = False
        """Messages were too old lately."""
        self.outlived = 0
        """Messages that were not handed out."""

    @property
    def ages(self) -> Ages | None:
        """The marks of the queue, if they are looked at."""
        return self._ages

    @property
    def look_at(self) -> float:
        """A message that is taken later may have outlived ``ack_wait``, or may be about to, or may come twice."""
        if self._repeats is not None and self._repeats.possible:
            return float("-inf")
        return self._until if self._ages is None else min(self._until, self._ages.look_at)

    def asked(self, expires: float, *, now: float) -> None:
        """Messages were asked for, which come within so many seconds."""
        self._until = now + expires + GRACE + self.ack_wait
        if self._ages is None:
            self._outliving = False

    def has_run_out(self, now: float) -> bool:
        """Whether all that is unread has outlived ``ack_wait``."""
        return now >= self._until

    def renewed(self, now: float) -> None:
        """Another queue takes the place of the one before."""
        if self._ages is not None and self._repeats is not None:
            self._ages.renewed(now)
            self._repeats.renewed(now)

    def look(self, now: float) -> int | None:
        """Somebody takes a message, as of ``Repeats.ask``."""
        if self._repeats is None:
            return None
        self._repeats.look(now)
        return self._repeats.ask()

    def caught_up(self, number: int) -> None:
        """As of `Repeats`."""
        if self._repeats is not None:
            self._repeats.caught_up(number)

    def beat(self, now: float) -> None:
        """A heart-beat was taken: while a reader waits, these are what makes marks."""
        if self._ages is not None and self._repeats is not None:
            self._repeats.look(now)
            self._ages.judge(now)

    def judge(self, reply: str, now: float) -> Age:
        """The age of the message that was taken last. ``reply``: its reply subject."""
        age = Age.OUTLIVED
        if now < self._until and self._ages is not None:
            age = self._ages.judge(now)
            if age is Age.YOUNG:
                self._outliving = False
            if age is not Age.OUTLIVED and self._repeats is not None and self._repeats.is_one(reply):
                age = Age.REPEATED
        return Age.YOUNG if age in _UNGIVEN and self._is_last_attempt(reply) else age

    def count(self) -> bool:
        """One was not handed out: whether that is news. It is not, when no reader has kept up since the last one."""
        self.outlived += 1
        news, self._outliving = not self._outliving, True
        return news

    def _is_last_attempt(self, reply: str) -> bool:
        """Nobody else gets it any more."""
        last = self._max_deliver
        try:
            return last > 0 and parse_ack_subject(reply).num_delivered >= last
        except NotJetStreamMessageError:
            return False
