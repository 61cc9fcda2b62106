"""One request, several answers (ADR-47): when the collection ends.

It ends at ``max_wait`` after the request at the latest, after ``max_msgs`` answers, when ``stall`` seconds pass between
two answers, or with the message that ``sentinel`` recognises. Ending by time is a normal end, also without any answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from .._limits import check_count, check_seconds
from .._session.inbox import NO_RESPONDERS, no_responders
from .._session.subscription import MessageT

__all__ = ["RequestMany"]


class RequestMany(Generic[MessageT]):
    """The state of one collection. Times are absolute seconds unless called a wait.

    ``stall`` does not apply before the first answer: that one may take the whole ``max_wait``. ``sentinel`` is called
    with each answer and returns True for the one that means "no more"; that one is not given to the user.
    Raises `ValueError` for a wait that is not positive or a maximum below 1, `TypeError` for what is no number. A wait
    above `MAX_SECONDS` is one for ever.
    """

    __slots__ = ("_end", "_max_msgs", "_received", "_sentinel", "_stall", "_subject", "deadline", "done")

    def __init__(
        self,
        subject: str,
        *,
        now: float,
        max_wait: float,
        max_msgs: int | None = None,
        stall: float | None = None,
        sentinel: Callable[[MessageT], bool] | None = None,
    ) -> None:
        self._subject = subject
        self._end = now + check_seconds("max_wait", max_wait)
        self._stall = None if stall is None else check_seconds("stall", stall)
        if max_msgs is not None:
            check_count("max_msgs", max_msgs)
        self._max_msgs = max_msgs
        self._sentinel = sentinel
        self._received = 0
        self.deadline = self._end
        """Until when the next answer is awaited."""
        self.done = False
        """No further answer is awaited."""

    def receive(self, message: MessageT, *, now: float) -> bool:
        """An answer arrived: whether it is for the user.

        A status without a payload comes from the server and ends the collection. Raises `NoRespondersError` when it is
        the first answer and says that nobody listens. What ``sentinel`` raises comes through.
        """
        if self.done:
            return False
        status = message.status
        if status is not None and not message.data:
            self.done = True
            if status.code == NO_RESPONDERS and not self._received:
                raise no_responders(self._subject)
            return False
        if self._sentinel is not None and self._sentinel(message):
            self.done = True
            return False
        self._received += 1
        if self._stall is not None:
            self.deadline = min(self._end, now + self._stall)
        self.done = self._max_msgs is not None and self._received >= self._max_msgs
        return True
