"""Publishes whose answers are waited for, each known by a reply subject of its own: what is done for every one of them.

It begins them, has them published, and takes the plain acknowledgements off the queue in which they come, all of it
with as little work as Python allows. What anything else means is told by the window that has it
(`nats_proto._publishing.window`), and so is everything that happens to a publish later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sized
from typing import Any, Generic, Protocol, TypeVar

from .frames import Message, Payload
from .headers import Headers, HeadersLike

__all__ = ["InFlight", "QuickPublish", "Waits"]

QuickPublish = Callable[[str, Payload, "str | None", "HeadersLike | None"], bool]
"""`Session.publish_quickly`, or what stands for it."""


class Waits(Protocol):
    """A publish that waits for its answer."""

    pub_ack: Any  # its acknowledgement, of which nothing is known here


OwnerT = TypeVar("OwnerT")
MessageT = TypeVar("MessageT", bound=Message)
WaitsT = TypeVar("WaitsT", bound=Waits)


class InFlight(Generic[WaitsT, OwnerT]):
    """What waits for its answer, by reply subjects that are ``prefix`` and a number.

    ``make`` makes one of: subject, payload, headers, reply subject, number, the time twice, until when it waits, and
    `owner`.
    ``plain`` reads the payload of an acknowledgement; None: it is none, or has more to say than where a message is
    stored. As long as there is something in ``held`` nothing is begun. ``timeout``: seconds that a publish waits.

    The compiled twin may be used by several threads, each call is one step there; this one may not.
    """

    __slots__ = ("_held", "_make", "_plain", "_prefix", "_timeout", "limit", "look", "number", "owner", "waiting")

    def __init__(
        self,
        prefix: str,
        make: Callable[[str, Payload, Headers | None, str, int, float, float, float, OwnerT | None], WaitsT],
        plain: Callable[[bytes], object | None],
        held: Sized,
        timeout: float,
    ) -> None:
        self._prefix = prefix
        self._make = make
        self._plain = plain
        self._held = held
        self._timeout = timeout
        self.waiting: dict[str, WaitsT] = {}
        """By their reply subjects. The window takes out what has ended in another way than by a plain answer."""
        self.number = 0
        """How many were begun."""
        self.owner: OwnerT | None = None
        """Who publishes."""
        self.limit = 0
        """While so many wait, no other is begun."""
        self.look = float("inf")
        """Not later than the first of the times until when they wait. Whoever has looked through them sets it anew."""

    def begin(self, subject: str, data: Payload, headers: Headers | None, now: float) -> WaitsT | None:
        """Count on a publish that is sent now; None when there is no room."""
        waiting = self.waiting
        if len(waiting) >= self.limit or self._held:
            return None
        number = self.number = self.number + 1
        reply = self._prefix + str(number)
        deadline = now + self._timeout
        pending = waiting[reply] = self._make(subject, data, headers, reply, number, now, now, deadline, self.owner)
        self.look_by(deadline)
        return pending

    def publish(self, quickly: QuickPublish, subject: str, data: Payload, now: float) -> WaitsT | None:
        """Begin it, and publish it by ``quickly``. None, and nothing was begun: no room, or it has to go another way.

        Of payloads it takes ``bytes`` alone, which nobody can change while they wait for another try.
        """
        if type(data) is not bytes:
            return None
        pending = self.begin(subject, data, None, now)
        if pending is None:
            return None
        reply = self._prefix + str(self.number)
        try:
            if quickly(subject, data, reply, None):
                return pending
        except BaseException:
            del self.waiting[reply]
            raise
        del self.waiting[reply]
        self.number -= 1
        return None

    def look_by(self, deadline: float) -> None:
        """Something is due then: `look` is not later."""
        if deadline < self.look:
            self.look = deadline

    def complete(self, arrived: deque[MessageT], ended: deque[WaitsT]) -> None:
        """Take plain acknowledgements of what waits off the front of the queue, up to the first that is anything else.

        What they complete is appended to ``ended``, in order.
        """
        waiting, plain, take, append = self.waiting, self._plain, arrived.popleft, ended.append
        while arrived:
            message = arrived[0]
            pending = waiting.get(message.subject)
            if pending is None:
                return
            pub_ack = plain(message.data)
            if pub_ack is None:
                return
            take()
            del waiting[message.subject]
            pending.pub_ack = pub_ack
            append(pending)
