"""A machine for tests that needs all that a driver carries: a call, a timer, another subscription, the mark.

`Numbers` asks a service (an API call) to send numbers in order to its inbox. It begins anew, with another inbox and
with the number that it needs next, when one is missing, when it has waited for too long, and when the connection was
replaced. So whatever is lost on the way, what it gives has no gap and nothing twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from nats_proto import ApiCall, Ask, Message, Publish, Subscribe, Want
from nats_proto.errors import NATSError, NoRespondersError

__all__ = ["IDLE", "SERVICE", "Numbers", "Refused", "accept", "request_of"]

SERVICE = "numbers.start"
IDLE = 0.3
"""Seconds without a number after which it begins anew."""
BACKOFF = 0.05
"""Seconds after a call that has failed."""


class Refused(NATSError):
    """The service will not."""


def accept(message: Message) -> int:
    """What the service's answer means: the first number that will come."""
    if not message.data.isdigit():
        raise Refused(f"the service said {message.data!r}")
    return int(message.data)


def request_of(first: int, inbox: str) -> ApiCall[object]:
    """Ask for all numbers from this one on, sent to the inbox."""
    return ApiCall[object]("start numbers", SERVICE, b"%d %b" % (first, inbox.encode()), accept)


class Numbers:
    """A `Machine`: gives the numbers below ``end`` as texts, in order, and then ends."""

    def __init__(self, end: int, new_inbox: Callable[[], str], *, now: float, idle: float = IDLE) -> None:
        self._end = end
        self._new_inbox = new_inbox
        self._next = 0
        self.inbox = ""
        self.items: deque[str] = deque()
        self.wants: deque[Want] = deque()
        self.done = False
        self.error: NATSError | None = None
        self.begun = 0
        """How often it began."""
        self.replaced = 0
        self.answers: list[object] = []
        self.idle = idle
        self._deadline = now
        self._begin(now)

    @property
    def what(self) -> str:
        return "numbers"

    def _begin(self, now: float) -> None:
        self.begun += 1
        self.inbox = self._new_inbox()
        self.wants.clear()
        self.wants += (Subscribe(self.inbox), Ask(request_of(self._next, self.inbox), 5.0))
        self._deadline = now + self.idle

    def receive(self, message: Message, *, now: float) -> None:
        assert message.subject == self.inbox
        number = int(message.data)
        if number > self._next:
            self._begin(now)
        if number != self._next:
            return
        self._deadline = now + self.idle
        self.items.append(f"number {number}")
        self._next += 1
        if self._next == self._end:
            self.wants.append(Publish("numbers.thanks", b"%d" % number))
            self.done = True

    def connection_replaced(self, *, now: float) -> None:
        self.replaced += 1
        self._begin(now)

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        assert api.what == "start numbers"
        self.answers.append(answer)
        if isinstance(answer, Refused):
            self.error = answer
            self.done = True
        elif isinstance(answer, NoRespondersError):
            self._deadline = now + BACKOFF
        elif isinstance(answer, NATSError):
            self._begin(now)

    def next_timeout(self) -> float | None:
        return None if self.done else self._deadline

    def handle_timeout(self, *, now: float) -> None:
        if now >= self._deadline and not self.done:
            self._begin(now)
