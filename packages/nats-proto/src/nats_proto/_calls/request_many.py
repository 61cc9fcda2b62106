"""One request, several answers (ADR-47): the simplest machine.

It ends at ``max_wait`` after the request at the latest, after ``max_msgs`` answers, when ``stall`` seconds pass between
two answers, or with the message that ``sentinel`` recognises. Ending by time is a normal end, also without any answer.
A request that still waits for a connection then is not sent any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic

from .._callables import check_hook
from .._limits import check_count, check_seconds
from .._session.inbox import NO_RESPONDERS, no_responders
from .._session.marks import PublishRefused
from .._session.not_permitted import not_permitted
from .._session.subscription import MessageT
from .._wire.frames import Payload
from .._wire.headers import HeadersLike
from ..errors import NATSError, NATSTimeoutError
from .machine import Subscribe, Want
from .operation import ApiCall, Publish

__all__ = ["RequestMany"]

LATE: Final = 1.0
"""Seconds after its time for which the request is still sent by whoever comes to send it: on a busy machine a short
wait may be over before anything was done. Later than that it was left, or the program was stopped."""


class RequestMany(Generic[MessageT]):
    """A `Machine` that publishes one request, with ``inbox`` as its reply subject, and gives the answers.

    ``stall`` does not apply before the first answer: that one may take the whole ``max_wait``. ``sentinel`` is called
    with each answer and returns True for the one that means "no more"; that one is not given to the user.
    Raises `ValueError` for a wait that is not positive or a maximum below 1, `TypeError` for what is no number. A wait
    above `MAX_SECONDS` is one for ever.
    """

    __slots__ = (
        "_deadline",
        "_end",
        "_max_msgs",
        "_received",
        "_replaced",
        "_sentinel",
        "_stall",
        "_subject",
        "done",
        "error",
        "items",
        "wants",
    )

    def __init__(
        self,
        subject: str,
        data: Payload = b"",
        *,
        inbox: str,
        headers: HeadersLike | None = None,
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
        check_hook("request_many: the sentinel", sentinel)
        self._sentinel = sentinel
        self._received = 0
        self._replaced = False
        """The request may have gone over an earlier connection."""
        self._deadline = self._end
        """Until when the next answer is awaited."""
        self.items: deque[MessageT] = deque()
        self.wants: deque[Want] = deque(
            (Subscribe(inbox, awaits=self._awaits, asks=subject), Publish(subject, data, inbox, headers))
        )
        self.done = False
        self.error: NATSError | None = None

    @property
    def what(self) -> str:
        """For the texts of errors."""
        return f"request_many to {self._subject!r}"

    def receive(self, message: MessageT, *, now: float) -> None:
        """An answer. What ``sentinel`` raises comes through.

        A status without a payload comes from the server and ends the collection; with `NoRespondersError` when it is
        the first answer and says that nobody listens.
        """
        # More may have been queued behind the answer that ended it.
        if self.done:
            return
        if message.header_block is not None and not message.data:
            status = message.status
            if status is not None:
                self.done = True
                if status.code == NO_RESPONDERS and not self._received:
                    self.error = no_responders(self._subject)
                return
        if self._sentinel is not None and self._sentinel(message):
            self.done = True
            return
        self._received += 1
        if self._stall is not None:
            self._deadline = min(self._end, now + self._stall)
        if self._received == self._max_msgs:
            self.done = True
        self.items.append(message)

    def connection_replaced(self, *, now: float) -> None:
        """The inbox was restored, and those who have the request may still answer."""
        self._replaced = self._replaced or not self.wants

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """Nobody has the request, unless somebody has answered: then it was another one that the server has refused."""
        if not (self.done or self._received):
            self.done = True
            self.error = not_permitted(self.what, refused.error, replaced=self._replaced)

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """It makes no calls."""

    def next_timeout(self) -> float | None:
        """When the collection ends, if no answer comes before."""
        return None if self.done else self._deadline

    def handle_timeout(self, *, now: float) -> None:
        """The time for an answer may be up."""
        if now >= self._deadline:
            self.done = True
            if self.wants and now >= self._deadline + LATE:
                self.error = NATSTimeoutError(
                    f"{self.what}: it was not sent, since nobody came to do it until {now - self._deadline:.3g} s "
                    f"after its time was up",
                    outcome="failed",
                )

    def _awaits(self, _reply: str, now: float) -> bool:
        """Whether the request is still to be sent, if no connection has taken it yet."""
        return not self.done and now < self._deadline + LATE
