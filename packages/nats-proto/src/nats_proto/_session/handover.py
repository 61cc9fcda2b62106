"""Two connections of one session, the old one and its successor: subscriptions and messages while both are up.

The handover knows which subscriptions the new server was told, decides which of the messages that both connections
deliver is given to the subscription, and makes what the new server has to be told when its connection is the only one.

States
------
    BOTH ─goodbye to the old server, or the old connection is lost─▶ COMMITTED ─adopted─▶ LINGERING

The machine in `successor` makes these steps. How copies of a message are known is said in `overlap`.
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

    __slots__ = ("_counts", "_events", "_later", "_phase", "_told", "_traffic", "draining", "out", "overlap")

    def __init__(self, traffic: Traffic[MessageT], events: EventQueue[SessionEvent]) -> None:
        self._traffic = traffic
        self._events = events
        self.out: list[bytes] = []
        """SUB and UNSUB lines that wait to be written to the new server."""
        self.overlap: Overlap[MessageT] = Overlap()
        self._phase = _Phase.BOTH
        self._told: set[int] = set()
        """The sids that the new server knows, or will when it has read all of `out`."""
        self._later: dict[int, bool] = {}
        """The sids that were subscribed (True) or unsubscribed (False) since the handover is COMMITTED."""
        self._counts: dict[int, int] = {}
        """How many messages the new server has sent, by sid: it counts a maximum from the SUB that it was sent."""
        self.draining: list[SubscriptionState[MessageT]] = []
        """Those that are drained, and of which the new server may have sent messages before it has read their UNSUB."""

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
        elif not sub.draining:
            self.out.append(self._traffic.encoder.subscribe(sub.subject, sub.queue, sub.sid))
            self._told.add(sub.sid)

    def unsubscribed(self, sid: int) -> None:
        """The new server need not know this subscription any more."""
        if self._phase is _Phase.COMMITTED:
            self._later[sid] = False
        elif sid in self._told:
            self._told.discard(sid)
            self.out.append(self._traffic.encoder.unsubscribe(sid))

    def drains(self, sub: SubscriptionState[MessageT]) -> bool:
        """A subscription is to be drained. Whether its end waits for the handover's.

        What the new server gives to a member of a group it gives to nobody else. So that has to be waited for as well,
        by a PING when its connection is the session's: then the old server has said all that it had to say. Once the
        handover is COMMITTED every subscription ends at the new server, also when the old connection is lost.
        """
        if sub.sid not in self._told or (sub.queue is None and self._phase is _Phase.BOTH):
            return False
        self.draining.append(sub)
        return True

    @property
    def has_members(self) -> bool:
        """The new server knows members of groups here, or did a moment ago."""
        return bool(self.draining) or any(sub.queue is not None and sub.sid in self._told for sub in self._traffic.subs)

    def commit(self) -> None:
        """There is no way back to the old connection."""
        self._phase = _Phase.COMMITTED

    def goodbyes(self) -> list[bytes]:
        """What ends the interest of the old server."""
        encoder = self._traffic.encoder
        return [encoder.unsubscribe(sub.sid) for sub in self._traffic.subs if not sub.draining]

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
            self._give(message)  # a group's message goes to one member, so there is no copy
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

    def linger(self) -> None:
        """The new connection is the session's. What was held is given."""
        self._phase = _Phase.LINGERING
        self._traffic.handover = None
        for message in self.overlap.release():
            self._give(message)
        self._traffic.announce_messages()
        self.end_drains()

    def end_drains(self) -> None:
        """There is one connection now: the new one, or the old one when there was nowhere to go."""
        draining, self.draining = self.draining, []
        for sub in draining:
            self._traffic.end_drain(sub)

    def _take_reply(self, message: MessageT) -> None:
        """A reply comes on both connections: the second copy must not count as a reply to no request."""
        if self._traffic.inbox.awaits(message):
            self._traffic.receive_reply(message)

    def _give(self, message: MessageT) -> None:
        noteworthy = self._traffic.subs.deliver(message)
        if noteworthy is not None:
            self._traffic.announce_messages()
            self._events.add(noteworthy)
