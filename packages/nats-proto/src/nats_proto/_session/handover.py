"""Two connections of one session, the old one and its successor: subscriptions and messages while both are up.

The handover knows which subscriptions the new server was told, decides which of the messages that both connections
deliver is given to the subscription, and makes what the new server has to be told when its connection is the only one.
No subscription that is drained meanwhile closes before: both may have something for it.

States
------
    BOTH ─goodbye to the old server, or the old connection is lost─▶ COMMITTED ─adopted─▶ LINGERING

The machine in `successor` makes these steps. How copies of a message are known is said in `overlap`.

Groups and maxima
-----------------
What a server gives to a member of a group it gives to nobody else. A server counts to a maximum by itself, so two of
them would give more than that, and what is more would be lost. So a member that has a maximum is known to one server at
a time: it is left out until the old one has said all. For the round trip of the goodbye the rest of its group gets all.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Generic

from .overlap import Overlap
from .subscription import MessageT, SubscriptionState

if TYPE_CHECKING:
    from .._interface.events import SessionEvent, SlowConsumer, SubscriptionClosed
    from .event_queue import EventQueue
    from .traffic import Traffic

__all__ = ["Handover"]


class _Phase(Enum):
    BOTH = auto()
    """Both servers have the subscriptions, and both connections deliver."""
    COMMITTED = auto()
    """The old connection was told goodbye, or is lost: what is subscribed from now on is for the new one alone, and
    waits behind all else that waits for it."""
    LINGERING = auto()
    """The new connection is the session's: only late copies still come."""


class Handover(Generic[MessageT]):
    """Belongs to one attempt of a successor, and begins when the new server has accepted the client."""

    __slots__ = (
        "_counts",
        "_events",
        "_later",
        "_phase",
        "_replied",
        "_told",
        "_traffic",
        "has_members",
        "out",
        "overlap",
    )

    def __init__(self, traffic: Traffic[MessageT], events: EventQueue[SessionEvent]) -> None:
        self._traffic = traffic
        self._events = events
        self.out: list[bytes] = []
        """SUB and UNSUB lines that wait to be written to the new server."""
        self.overlap: Overlap[MessageT] = Overlap()
        self._phase = _Phase.BOTH
        self._replied = False
        """There were replies, of which nobody knows the copies."""
        self.has_members = False
        """The new server knows members of groups here, or did a moment ago."""
        self._told: set[int] = set()
        """The sids that the new server knows, or will when it has read all of `out`."""
        self._later: dict[int, bool] = {}
        """The sids that were subscribed (True) or unsubscribed (False) since the handover is COMMITTED."""
        self._counts: dict[int, int] = {}
        """How many messages the new server has sent, by sid: it counts a maximum from the SUB that it was sent."""

    # --- subscriptions -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Tell the new server of every subscription, also of those that the old one has refused."""
        traffic = self._traffic
        traffic.handover = self
        # A refusal was the old server's. The new one may have other permissions, so it is asked for everything.
        traffic.inbox.subscribed = traffic.inbox.sid is not None
        for sub in traffic.subs:
            sub.denied = None
            self.subscribed(sub)

    def subscribed(self, sub: SubscriptionState[MessageT]) -> None:
        """There is a subscription that the new server has to know."""
        if self._phase is _Phase.COMMITTED:
            self._later[sub.sid] = True
        # A draining subscription waits for what the old server has sent, and must get nothing newer from another.
        elif not (sub.draining or (sub.queue is not None and sub.max_msgs is not None)):
            self.out.append(self._traffic.encoder.subscribe(sub.subject, sub.queue, sub.sid))
            self._told.add(sub.sid)
            self.has_members = self.has_members or sub.queue is not None

    def unsubscribed(self, sid: int) -> None:
        """The new server need not know this subscription any more."""
        if self._phase is _Phase.COMMITTED:
            self._later[sid] = False
        elif sid in self._told:
            self._told.discard(sid)
            self.out.append(self._traffic.encoder.unsubscribe(sid))

    def limited(self, sub: SubscriptionState[MessageT]) -> bool:
        """A subscription has got a maximum: whether the server that `Traffic` writes to is to be told now."""
        if self._phase is _Phase.BOTH:
            if sub.queue is not None:
                self.unsubscribed(sub.sid)
            return True
        # `operations` tells the new server, which counts from another SUB; but for one that is still to be sent.
        return self._later.get(sub.sid, False)

    def commit(self) -> list[bytes]:
        """There is no way back to the old connection. What ends the interest of its server.

        What that was still to hear about subscriptions must not go to the new one, which was told, or will be by
        `operations`.
        """
        traffic = self._traffic
        self._phase = _Phase.COMMITTED
        waiting = traffic.outbox.drop_subscriptions()
        ends = [each for each in waiting if each.startswith(b"UNSUB")]
        return [*ends, *(traffic.encoder.unsubscribe(sub.sid) for sub in traffic.subs if not sub.draining)]

    def operations(self, *, lost: bool) -> list[bytes]:
        """What the new server has to be told first, now that it is the only one.

        ``lost``: so was the old connection, and with it all that waited but publishes.
        """
        encoder, told = self._traffic.encoder, self._told
        if not lost:
            # The lines for `_later` wait in the outbox, behind these operations. A lost connection cuts them.
            told |= {sid for sid, subscribed in self._later.items() if subscribed}
            told -= {sid for sid, subscribed in self._later.items() if not subscribed}
        operations: list[bytes] = []
        for sub in self._traffic.subs:
            if sub.draining:
                continue  # the new server hears of its end, if it has not yet
            known = sub.sid in told
            told.discard(sub.sid)
            count = self._counts.get(sub.sid, 0) if known else 0
            # A server counts a maximum from its own SUB, so what this one has already sent belongs to its maximum.
            sub.received_before = sub.received - count
            if not known:
                operations.append(encoder.subscribe(sub.subject, sub.queue, sub.sid))
            if sub.connection_max is not None:
                operations.append(encoder.unsubscribe(sub.sid, sub.connection_max))
        return [*(encoder.unsubscribe(sid) for sid in sorted(told)), *operations]

    # --- messages ----------------------------------------------------------------------------------------------------

    def receive(self, message: MessageT) -> None:
        """A message of the new connection, before it is the session's."""
        sid = message.sid
        # Counted whether it is a copy or not: the server has counted it towards a maximum in any case.
        self._counts[sid] = self._counts.get(sid, 0) + 1
        sub = self._traffic.subs.get(sid)
        if sub is None:
            return
        if sid == self._traffic.inbox.sid:
            self._take_reply(message)
        elif sub.queue is not None:
            # A group's message goes to one member, so there is no copy. The old server does not count it.
            sub.received_before += 1
            self._give(message)
            if sub.max_msgs is not None and not sub.closed and self._phase is _Phase.BOTH:
                self._traffic.tell_maximum(sub)  # set when this was on its way: the old server has so much less to give
        else:
            self.overlap.of_new(message)

    def deliver(self, message: MessageT) -> SlowConsumer | SubscriptionClosed | None:
        """As `SubscriptionTable.deliver`, for a message of the session's own connection: the old one, later the new."""
        if message.sid == self._traffic.inbox.sid:
            self._take_reply(message)
            return None
        sub = self._traffic.subs.get(message.sid)
        if sub is not None and sub.queue is None:
            if self._phase is not _Phase.LINGERING:
                self.overlap.of_old(message)
            elif self.overlap.is_copy(message):
                sub.received_before -= 1  # its server has counted it
                return None
        return self._traffic.subs.deliver(message)

    @property
    def owed(self) -> bool:
        """Copies of what the old connection has delivered may still come on the new one."""
        return self._replied or self.overlap.owed

    def linger(self) -> None:
        """The new connection is the session's."""
        self.end()
        self._phase = _Phase.LINGERING

    def end(self) -> None:
        """There is one connection now: the new one, or the old one when there was nowhere to go; or there is none.

        Once the handover is COMMITTED the old one says no more: what is held has come on the new one alone.
        """
        if self._traffic.handover is not self:
            return
        if self._phase is _Phase.COMMITTED:
            for message in self.overlap.release():
                self._give(message)
            self._traffic.announce_messages()
        self._traffic.handover_ended()

    def _take_reply(self, message: MessageT) -> None:
        """A reply comes on both connections: the second copy must not count as a reply to no request."""
        self._replied = True
        if self._traffic.inbox.awaits(message):
            self._traffic.receive_reply(message)

    def _give(self, message: MessageT) -> None:
        noteworthy = self._traffic.subs.deliver(message)
        if noteworthy is not None:
            self._traffic.announce_messages()
            self._events.add(noteworthy)
