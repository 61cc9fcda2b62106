"""The reading side: who waits for the socket and takes what has arrived.

Theory of operation
-------------------
It is the reader's, which sleeps until there is something, takes it and gives it to the session. But to wake a thread,
which then wakes the caller, costs more than all the rest of a request. So a caller whose answer may come next *leads*,
for at most `LEAD` seconds: it sleeps in an epoll of its own, which the system asks first. Of two that watch the socket
with ``EPOLLEXCLUSIVE``, what arrives wakes the first in which somebody sleeps, and no other.

    free ──something arrived──▶ the reader reads ──nothing left──▶ free
     └───a request──▶ a caller leads ──its answer, anything else, time──▶ free     (the reader sleeps all the while)

Nobody waits for the reading side: a caller who finds it taken waits for its answer as if there were no such thing. The
reader, when it was woken and finds that a caller leads, sleeps until that is over.

A leader receives once. If that is the answer to its own request, whole, and nothing else, it gives it to the session.
Anything else, an error and the end as well, is left to the reader, which takes it before it reads on. So what concerns
anybody else is only ever in the hands of the reader, which no signal interrupts: a `KeyboardInterrupt` can lose nothing
but the answer to the very call that it ends. Where it goes wrong too often to gain anything (a busy connection, a slow
responder) leading is left alone for a while.

A signal handler may hold up its thread in the midst of a lead, for as long as it likes. So as long as callers lead, the
reader sleeps for `PATROL` seconds at most, and takes the reading side away from a caller who had it all that time.
"""

from __future__ import annotations

import errno
import select
from threading import get_ident
from time import sleep
from typing import TYPE_CHECKING, Final

from .polling import LONGEST, READABLE, Poll, close_poll, milliseconds, new_poll
from .transport import Transport

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Lead", "Turns"]

LEAD: Final = 0.01
"""Seconds that a caller leads: an answer that takes longer gains nothing by it, and a call that ends for another reason
while it leads learns of it that much later."""
PATROL: Final = 0.1
"""Seconds between two looks of the reader at callers who lead."""
MOMENT: Final = 0.001
"""Seconds that the reader leaves to a caller who receives at this moment."""
LEAD_SIZE: Final = 16 * 1024
"""Bytes that a leader receives. A larger answer comes in several parts anyway."""
MAX_REST: Final = 63
"""Requests for which leading is left alone, at most, after it has gone wrong again and again."""

Left = bytes | OSError
"""What receiving came to."""
NOTHING: Final = BlockingIOError()
"""There is nothing left for the reader."""


class Lead:
    """One caller's turn.

    The right to receive is an item in a list: who pops that has it. The caller pops it by the same C call that
    receives and stores what it got, so whatever interrupts it, it takes no byte that has become the reader's again, and
    has none that the reader cannot find.
    """

    __slots__ = ("_epoll", "_permit", "received", "thread", "transport")

    def __init__(self, transport: Transport, epoll: select.epoll) -> None:
        self.transport = transport
        self.thread = get_ident()
        self._epoll = epoll
        self._permit = [LEAD_SIZE]
        self.received: list[Left] = []
        """What came of it, as the only item; none before."""

    def receive(self, seconds: float) -> None:
        """Wait for so many seconds at most, then receive; nothing at all when that was revoked."""
        receiving = self.transport.receiving(self._permit)
        try:
            if self._permit:
                self._epoll.poll(seconds if seconds > 0.0 else 0.0, 1)
            self.received.extend(receiving)
        except OSError as error:
            self.received.append(error)
        except IndexError:
            return  # it was revoked
        except ValueError:
            return  # the epoll was closed, in a child that a signal handler has forked

    def revoke(self) -> bool:
        """Under the lock: it receives nothing from now on. False: it is receiving at this moment."""
        try:
            self._permit.pop()
        except IndexError:
            return bool(self.received)
        return True


class Turns:
    """Of one client. What is above the line is for the reader's thread alone, what is below it for callers."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        # Without epoll there is no way to choose who is woken, and nobody leads.
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._leaders = select.epoll() if hasattr(select, "epoll") else None
        """What a leader sleeps in. Unlike poll it may be used again within a signal handler."""
        self._poll: Poll | select.epoll = new_poll() if self._epoll is None else self._epoll
        self._aside = new_poll()
        """What the reader sleeps in while it would only find out again that a caller leads."""
        self._poll.register(hub.agenda.wakeup, READABLE)
        self._aside.register(hub.agenda.wakeup, READABLE)
        self._watched: Transport | None = None
        self._reads = False
        """The reader is awake and takes what there is."""
        self._lead: Lead | None = None
        self._led = False
        """Somebody led, or wanted to, since the reader last slept to the end."""
        self._patrols = False
        """The reader sleeps for `PATROL` at most."""
        self._called = False
        """It will: it was woken for that."""
        self._stands_aside = False
        """The reader has found that a caller leads, and is to be told when that is over."""
        self._look = False
        """Something may have arrived of which the reader was not told; until it has looked, nobody leads."""
        self._left: Left | None = None
        """What a leader has left to the reader."""
        self._rest = self._penalty = 0

    def watch(self, transport: Transport) -> None:
        """There is a connection."""
        with self._hub.lock:
            if self._leaders is not None and not _exclusive(self._leaders, transport):
                self._leaders.close()
                self._leaders = None
            # Behind the leaders' epoll: the one that is registered first is asked first.
            self._poll.register(transport, READABLE | (0 if self._leaders is None else select.EPOLLEXCLUSIVE))
            self._watched = transport

    def unwatch(self) -> None:
        """It has ended. Afterwards no caller takes anything from it."""
        with self._hub.lock:
            watched, self._watched = self._watched, None
            if watched is not None:
                self._poll.unregister(watched)
                if self._leaders is not None:
                    self._leaders.unregister(watched)
        while not self._revoke(self._lead):
            sleep(MOMENT)
        self._look = False
        self._left = None

    def wait(self, seconds: float | None) -> bool:
        """Sleep until something has arrived, a wakeup, or so many seconds: whether there may be something to read.

        A caller who has led all that time does no longer. Of what has arrived meanwhile we may not have been told.
        """
        hub = self._hub
        with hub.lock:
            before = self._lead
            self._patrols = self._led or before is not None
            self._led = self._called = False
            aside = self._stands_aside
            if self._look and before is None:
                return True  # to tell us was left to our own thread
        if self._patrols:
            seconds = PATROL if seconds is None else min(seconds, PATROL)
        if self._epoll is None or aside:
            ready = (self._aside if aside else self._poll).poll(milliseconds(seconds))
        else:
            ready = self._epoll.poll(LONGEST if seconds is not None and seconds > LONGEST else seconds)
        if not ready:
            self._revoke(before)
            return self._look or self._patrols
        self._led |= self._patrols  # it was no whole sleep
        number = hub.agenda.wakeup.fileno()
        if ready[0][0] == number or ready[-1][0] == number:
            hub.agenda.wakeup.clear()
            return self._look or len(ready) > 1
        return True

    def begin(self) -> bool:
        """Take the reading side; False: a caller leads."""
        with self._hub.lock:
            self._reads = self._lead is None
            self._stands_aside = not self._reads
            if self._reads:
                self._look = False
            return self._reads

    def left(self) -> Left | None:
        """Once, before anything is received: what a leader has received."""
        left, self._left = self._left, None
        return left

    def end(self) -> None:
        """There is nothing left to be read."""
        self._reads = False

    def _revoke(self, lead: Lead | None) -> bool:
        if lead is not None:
            with self._hub.lock:
                if self._lead is lead:
                    if not lead.revoke():
                        return False
                    self._free(lead)
                    self._led = True  # it may still be asleep, and be told in our place: one patrol more
        return True

    def close(self) -> None:
        """At the end, and in a forked child: the descriptors are its own copies, what they mean is the parent's."""
        self._watched = self._lead = None
        for epoll in (self._epoll, self._leaders):
            if epoll is not None:
                epoll.close()
        if self._epoll is None:
            close_poll(self._poll)
        close_poll(self._aside)

    # --- callers -----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Before the lock is taken to `lead`: see that the reader looks after those who do."""
        if not self._patrols and self._leaders is not None:
            self._led = self._called = True
            self._hub.agenda.wakeup.set()

    def lead(self) -> Lead | None:
        """Under the lock, before a request is sent: take the reading side for `take_reply`, if it is free."""
        transport = self._watched
        if self._lead is not None or self._reads or self._look or not (self._patrols or self._called):
            return None
        if transport is None or transport is not self._hub.transport or self._leaders is None:
            return None
        if self._rest:
            self._rest -= 1
            return None
        lead = self._lead = Lead(transport, self._leaders)
        self._led = True
        return lead

    def take_reply(self, lead: Lead, token: int, seconds: float) -> bool:
        """Wait a moment for the answer to this request, and complete it if nothing else arrives: whether it did."""
        hub = self._hub
        lead.receive(seconds if seconds < LEAD else LEAD)
        with hub.lock:
            completed = False
            if self._lead is lead:
                try:
                    completed = self._complete(lead, token)
                except Exception as defect:
                    hub.agenda.report(defect)  # who called waits for an answer, and is told
            elif lead.transport is self._watched:
                self._look = hub.agenda.urgent = True  # this thread may be the one that was told
        hub.leave()
        return completed

    def _complete(self, lead: Lead, token: int) -> bool:
        hub = self._hub
        received = lead.received[0] if lead.received else None
        completion = hub.session.take_reply(received, token) if isinstance(received, bytes) else None
        if completion is None:
            self._rest = self._penalty = min(2 * self._penalty + 1, MAX_REST)
        else:
            self._penalty //= 2
            lead.received[0] = NOTHING
            hub.complete(completion)
        self._free(lead)
        return completion is not None

    def give_back(self) -> None:
        """If this thread leads, it does no longer. Also after a `KeyboardInterrupt`, wherever it came."""
        lead = self._lead
        if lead is not None and lead.thread == get_ident():
            with self._hub.lock:
                if self._lead is lead:
                    lead.revoke()
                    self._free(lead)
        self._hub.leave()

    def _free(self, lead: Lead) -> None:
        """Under the lock: the end of a lead that receives no more. Unless it has found nothing, the reader goes on.

        A lead that was ended before it received may have been the only one to be told that something arrived.
        """
        left = lead.received[0] if lead.received else None
        empty = isinstance(left, BlockingIOError)
        if not empty:
            self._left = left
            self._look = True
        self._lead = None
        if not empty or self._stands_aside:
            self._stands_aside = False
            self._hub.agenda.urgent = True


def _exclusive(epoll: select.epoll, transport: Transport) -> bool:
    """Register it so that one of those who wait is woken; False: this system cannot (Linux before 4.5)."""
    try:
        epoll.register(transport, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True
