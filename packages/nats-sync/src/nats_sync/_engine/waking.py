"""Who is woken when many answers arrive together, and when.

Theory of operation
-------------------
Answers that came in one chunk are lined up (`nats_proto._wire.thread_answers` tells why): the manager wakes the first
thread, and each thread that asks again wakes the next. But a thread that was woken may do something else first, for as
long as it likes. So while threads stand in the line, the manager sleeps for `LOOK` seconds at most. Where fewer of them
have gone meanwhile than one in `PACE` seconds, it wakes all that are left, and for some chunks after that everybody is
woken at once: 1, 3, 7, … 63, so that a program which does not ask again soon loses hardly anything by it.

    nobody stands there ──a chunk with several answers──▶ they go one by one ──▶ nobody is left: this went well
                                                               └──too slow: wake all, and leave it alone for a while

One answer alone wakes its thread as ever. Where the core is not compiled a thread still has the interpreter when it
wakes the next one, which gains nothing: everybody is woken at once. All is for the manager's thread alone.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from nats_proto import accelerated

if TYPE_CHECKING:
    from nats_proto._wire.twin import ThreadAnswers

__all__ = ["Waking"]

LOOK: Final = 0.001
"""Seconds between two looks at the line."""
PACE: Final = 0.0001
"""Seconds that each thread has before the next one is woken, on the average: several times what a request takes."""
MAX_REST: Final = 63
"""Chunks after which everybody is woken at once, at most, after it has gone wrong again and again."""


class Waking:
    """Of one client."""

    def __init__(self, answers: ThreadAnswers, *, one_by_one: bool = accelerated) -> None:
        self._answers = answers
        self._one_by_one = one_by_one
        self._since: float | None = None
        """When the present look began; None: nobody stands in the line, as far as this knows."""
        self._gone = 0
        """How many had left the line by then."""
        self._rest = self._penalty = 0
        """For how many chunks everybody is woken at once now, and was the last time."""

    def begin(self) -> None:
        """After a chunk: wake the first thread, or all."""
        answers = self._answers
        if not answers:
            return
        if self._rest and self._since is None:
            self._rest -= 1
            answers.wake_all()
            return
        if not self._one_by_one:
            answers.wake_all()
            return
        answers.wake_next()
        if answers and self._since is None:
            self._since, self._gone = monotonic(), answers.gone

    def seconds(self) -> float | None:
        """Before a sleep: how long it may last; None: as long as it likes. Wakes all if the line goes too slowly."""
        since = self._since
        if since is None:
            return None
        answers = self._answers
        if not answers:
            self._since = None
            self._penalty //= 2
            return None
        now = monotonic()
        if now - since >= LOOK:
            if (answers.gone - self._gone) * PACE < now - since:
                self._since = None
                self._rest = self._penalty = min(2 * self._penalty + 1, MAX_REST)
                answers.wake_all()
                return None
            self._since, self._gone = now, answers.gone
        return LOOK

    def finish(self) -> None:
        """Before anything that may take longer than reading does: wake all."""
        self._answers.wake_all()
        self._since = None
