"""How old the messages are that a reader takes, and what follows from it.

Theory of operation
-------------------
A server gives a message to another reader when it was not acknowledged for ``ack_wait``, counted from its delivery. A
message does not tell when it has arrived, and it may lie unread for long, since messages are asked for ahead. But the
queue counts how many have come, and how many of those were taken. So now and then a *mark* is made: a time, and how
many messages had come by then. The message that is being taken has a number, too: it came before the first mark with as
many messages, and after the mark before that one.

    marks      t0 : 10            t1 : 14            t2 : 30
    message number 12:   came after t0, and before t1

The message has *outlived* ``ack_wait`` when the first of these marks is as long ago, or nearly: somebody else has it,
or will get it at once, and whoever handled it as well would do the work twice. Where the two marks are close to one
another the second one decides, since little is lost: nobody acknowledges the message, so it comes again in a moment. It
is *aged* when it may be older than half of that time. Then the server is told that it is in progress, so that its
reader has the whole time for it; else much of what was asked for ahead would be delivered again while it is handled.

A mark is made with each eighth of ``ack_wait`` at most, and only when a message or a heart-beat is taken: a reader that
keeps up looks so often, and does nothing else. One that was away for longer has no marks of that time, so that the
first message after it may be older than is known: it is handed out, or such a reader would never get any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

__all__ = ["Age", "Ages"]

PARTS: Final = 8
"""Of ``ack_wait``: a mark for each."""
YOUNG: Final = 0.5
"""Of ``ack_wait``: what is certainly younger needs nothing."""
KEPT: Final = 7 / 8
"""Of ``ack_wait``: what is older is not ours any more before the server could be told anything."""
CLOSE: Final = 0.5
"""Of ``ack_wait``: how far apart two marks may be that decide together. More than that would be no progress."""
MAX_MARKS: Final = 64
"""Marks that are kept; without the oldest ones less is certain."""
NEVER: Final = float("inf")


class Age(Enum):
    """What is known of a message."""

    YOUNG = auto()
    AGED = auto()
    """It may be older than half of ``ack_wait``."""
    OUTLIVED = auto()
    """The server has given it to another reader, or will in a moment."""
    REPEATED = auto()
    """This reader was given it before, and it lay unread twice."""


class Ages:
    """The marks of one queue. ``ack_wait``: seconds; infinite: nothing ever ages."""

    __slots__ = ("_ack_wait", "_arrivals", "_marks", "_part", "_since", "look_at")

    def __init__(self, ack_wait: float) -> None:
        self._ack_wait = ack_wait
        self._part = ack_wait / PARTS
        self._arrivals: Callable[[], tuple[int, int]] | None = None
        self._marks: deque[tuple[float, int]] = deque(maxlen=MAX_MARKS)
        """Times, and how many messages had come by then; those that were taken since are gone."""
        self._since = NEVER
        """What is taken now came after that."""
        self.look_at = NEVER
        """What is taken before that is young."""

    def renewed(self, now: float) -> None:
        """Another queue takes the place of the one before."""
        self._arrivals = None
        self._marks.clear()
        self._since = now
        self.look_at = now + self._part

    def opened(self, arrivals: Callable[[], tuple[int, int]]) -> None:
        """That queue is there. ``arrivals`` tells how many of its messages were taken, and how many have come."""
        self._arrivals = arrivals

    def judge(self, now: float) -> Age:
        """The age of what was taken last, a message or a heart-beat."""
        if self._arrivals is None:
            self.look_at = NEVER  # whoever drives the machine cannot count
            return Age.YOUNG
        number, come = self._arrivals()
        marks = self._marks
        while marks and marks[0][1] < number:
            self._since = marks.popleft()[0]
        if not marks or now - marks[-1][0] >= self._part:
            marks.append((now, come))
        self.look_at = now  # the next one may be as old
        least, most = now - marks[0][0], now - self._since
        kept = self._ack_wait * KEPT
        if least >= kept or (most >= kept and most - least <= self._ack_wait * CLOSE):
            return Age.OUTLIVED
        if most >= self._ack_wait * YOUNG:
            return Age.AGED
        self.look_at = now + self._part
        return Age.YOUNG
