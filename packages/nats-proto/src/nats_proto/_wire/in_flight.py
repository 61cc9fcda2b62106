"""Publishes whose answers are waited for, each known by its reply subject: what is done for every one of them.

It begins them, has them published, and takes the plain acknowledgements off the queue in which they come, all of it
with as little work as Python allows. What anything else means is told by the window that has it
(`nats_proto._publishing.window`), and so is everything that happens to a publish later.

Reply subjects that are used again
----------------------------------
A server looks up who listens to a subject, and remembers that of the last thousand or so. So a reply subject that it
has seen a moment ago costs it less than a new one, and it takes up to a third more publishes in the same time. But an
acknowledgement must complete its own publish only, and some come twice: a leader that takes over may say once more what
the one before has said, and where two streams take one subject each of them answers. Therefore

- a reply subject is used again only when its publish has ended with a plain acknowledgement, and only for the same
  subject and without headers: the acknowledgement of such a publish never speaks of another message;
- what then comes there counts only if it is from the same stream and has a later sequence than what came there last
  (`ReplySlot.is_later`). What comes a second time has the same sequence, or is from another stream;
- it is done only for who publishes much: after `InFlight.own` publishes, and if the last one was less than `PAUSE`
  seconds ago. Nobody else gains by it. And the sequences of a stream that was deleted and made again begin anew, so
  that its acknowledgements would be in doubt; to make it takes a while.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sized
from typing import Any, Final, Generic, Protocol, TypeVar

from .frames import Message, Payload
from .headers import Headers, HeadersLike

__all__ = ["NEVER", "InFlight", "QuickPublish", "ReplySlot", "Waits"]

PAUSE: Final = 0.1
"""Seconds without a publish after which no reply subject from before is used again."""
MAX_SUBJECTS: Final = 64
"""For so many subjects reply subjects are kept. With many more there is little to gain."""
NEVER: Final = sys.maxsize
"""For `InFlight.own`: no reply subject is used again."""

QuickPublish = Callable[[str, Payload, "str | None", "HeadersLike | None"], bool]
"""`Session.publish_quickly`, or what stands for it."""


class Waits(Protocol):
    """A publish that waits for its answer."""

    pub_ack: Any  # its acknowledgement
    slot: ReplySlot | None  # if its reply subject may be used again


class ReplySlot:
    """A reply subject that may be used more than once, and what its last acknowledgement has said."""

    __slots__ = ("domain", "generation", "home", "reply", "sequence", "stream")

    def __init__(self, reply: str, home: list[ReplySlot], generation: int) -> None:
        self.reply = reply
        self.home = home
        """Where it is kept when it is free: among those of the same subject."""
        self.generation = generation
        """One before that of `InFlight`: it is not used again."""
        self.stream: str | None = None
        """None: it has none yet."""
        self.domain: str | None = None
        self.sequence = 0

    def is_later(self, pub_ack: Any) -> bool:
        """Whether this acknowledgement is certainly none that has come here before, nor a second answer to one of the
        publishes that were acknowledged here."""
        return self.stream is None or (
            pub_ack.sequence > self.sequence
            and pub_ack.stream == self.stream
            and pub_ack.domain == self.domain
            and not pub_ack.duplicate
        )


OwnerT = TypeVar("OwnerT")
MessageT = TypeVar("MessageT", bound=Message)
WaitsT = TypeVar("WaitsT", bound=Waits)


class InFlight(Generic[WaitsT, OwnerT]):
    """What waits for its answer, by reply subjects that are ``prefix`` and a number.

    ``make`` makes one of: subject, payload, headers, reply subject, number, the time twice, until when it waits,
    `owner`, and the slot.
    ``plain`` reads the payload of an acknowledgement; None: it is none, or has more to say than where a message is
    stored. As long as there is something in ``held`` nothing is begun. ``timeout``: seconds that a publish waits.

    The compiled twin may be used by several threads, each call is one step there; this one may not.
    """

    __slots__ = (
        "_begun", "_generation", "_held", "_homes", "_kept", "_make", "_plain", "_prefix", "_timeout", "limit", "look",
        "number", "own", "owner", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        prefix: str,
        make: Callable[
            [str, Payload, Headers | None, str, int, float, float, float, OwnerT | None, ReplySlot | None], WaitsT
        ],
        plain: Callable[[bytes], Any],
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
        self.own = NEVER
        """After so many publishes reply subjects are used again."""
        self._homes: dict[str, list[ReplySlot]] = {}
        """Those that may be used, by the subject for which."""
        self._kept = 0
        """How many these are: never more than may wait, so that many subjects cost no more than one."""
        self._generation = 0
        self._begun = 0.0
        """When the last publish was begun."""
        self.look = float("inf")
        """Not later than the first of the times until when they wait. Whoever has looked through them sets it anew."""

    def begin(self, subject: str, data: Payload, headers: Headers | None, now: float) -> WaitsT | None:
        """Count on a publish that is sent now; None when there is no room."""
        waiting = self.waiting
        if len(waiting) >= self.limit or self._held:
            return None
        number = self.number = self.number + 1
        slot = self._slot(subject, now) if number > self.own and headers is None else None
        reply = self._prefix + str(number) if slot is None else slot.reply
        deadline = now + self._timeout
        pending = self._make(subject, data, headers, reply, number, now, now, deadline, self.owner, slot)
        waiting[reply] = pending
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
        slot = pending.slot
        reply = self._prefix + str(self.number) if slot is None else slot.reply
        try:
            if quickly(subject, data, reply, None):
                return pending
        except BaseException:
            del self.waiting[reply]
            raise
        del self.waiting[reply]
        if slot is not None and slot.stream is not None:  # else its name is that of the next one
            self._keep(slot)
        self.number -= 1
        return None

    def forget(self) -> None:
        """Use none of the reply subjects again that were used until now."""
        self._homes = {}
        self._kept = 0
        self._generation += 1

    def _slot(self, subject: str, now: float) -> ReplySlot | None:
        """A reply subject for this publish; None: it has to have one of its own."""
        begun, self._begun = self._begun, now
        if now - begun > PAUSE:
            self.forget()
        home = self._homes.get(subject)
        if home is None:
            if len(self._homes) >= MAX_SUBJECTS:
                return None
            home = self._homes[subject] = []
        if not home:
            return ReplySlot(self._prefix + str(self.number), home, self._generation)
        self._kept -= 1
        return home.pop()  # the last one: the fewer are used in turn, the better the server remembers them

    def _keep(self, slot: ReplySlot) -> None:
        """It is free."""
        if self._kept < self.limit and slot.generation == self._generation:
            self._kept += 1
            slot.home.append(slot)

    def look_by(self, deadline: float) -> None:
        """Something is due then: `look` is not later."""
        if deadline < self.look:
            self.look = deadline

    def complete(self, arrived: deque[MessageT], ended: deque[WaitsT]) -> None:
        """Take plain acknowledgements of what waits off the front of the queue, up to the first that is anything else,
        or of which it is not certain whose it is.

        What they complete is appended to ``ended``, in order.
        """
        waiting, plain, take, append = self.waiting, self._plain, arrived.popleft, ended.append
        while arrived:
            message = arrived[0]
            pending = waiting.get(message.subject)
            if pending is None:
                return
            pub_ack = plain(message.data)
            slot = pending.slot
            if pub_ack is None or (slot is not None and not slot.is_later(pub_ack)):
                return
            take()
            del waiting[message.subject]
            pending.pub_ack = pub_ack
            append(pending)
            if slot is not None and not pub_ack.duplicate:
                slot.stream, slot.domain, slot.sequence = pub_ack.stream, pub_ack.domain, pub_ack.sequence
                self._keep(slot)
