"""The turns at reading: who waits for the socket, and who takes what has arrived.

Theory of operation
-------------------
Reading is the manager's: it sleeps until something arrives, takes it and gives it to the session. But to wake a thread,
which then wakes the caller, costs more than all the rest of a request. So a caller whose answer may come next *leads*,
for at most `LEAD` seconds: it sleeps in an epoll of its own, which the system asks first. Of two that watch the socket
with ``EPOLLEXCLUSIVE``, what arrives wakes the first in which somebody sleeps, and no other. Nobody waits for a turn: a
caller who cannot lead waits for its answer as if there were no such thing.

A leader receives once. If that is the answer to its own request, whole, and nothing else, it gives it to the session.
Anything else, an error and the end of the connection as well, it leaves to the manager, which takes it before it reads
on. So what concerns anybody else is only ever in the hands of the manager, which no signal interrupts: a
`KeyboardInterrupt` can lose nothing but the answer to the very call that it ends. Where leading goes wrong too often to
gain anything (a busy connection, a slow responder) it is left alone for a while.

**Whose turn it is** (`Turn`) changes under the hub's lock, by these tables alone:

                    a request   the manager     the manager   a lead is over, and   a caller who led
                    is sent     wants to read   goes to       nothing is  something before was woken, or
                                                sleep         left        is left   a worker who watches
      FREE          LED         READS                                               OWED *, LED for a worker
      OWED                      READS           (it looks)                          OWED *
      READS                     READS           FREE                                READS_AGAIN *
      READS_AGAIN               READS           OWED                                READS_AGAIN *
      LED                       LED_AWAITED                   FREE        OWED *    LED_OWED *
      LED_AWAITED               LED_AWAITED                   FREE *      OWED *    LED_OWED *
      LED_OWED                  LED_OWED                      OWED *      OWED *    LED_OWED *

An empty place: nothing changes; where it is a turn that somebody asks for, it is refused. ``*``: the manager is woken.
A caller who led before, and whose lead was taken away while it slept, still sleeps where the system asks first: it may
have been told of something in the manager's place. The same goes for a lead that ends before it has received, and for
a worker of the callbacks who watches the socket (`watcher`) and may not lead. Who may leads without a sleep, and gives
all that it receives to the session. A worker who has filled its buffer ends its lead as if it had left something.

**Whether the manager patrols** (`Patrol`). A signal handler may hold up its thread in the midst of a lead, for as long
as it likes. So as long as callers lead, the manager sleeps for `PATROL` seconds at most, and takes the lead away from a
caller who had it all that time. Where nobody leads for a whole such sleep, it stops, and an idle client costs nothing.

                    a caller     a caller      the manager         its sleep ends early,
                    prepares     leads         goes to sleep       or it takes a lead away
      OFF           CALLED *     (refused)     OFF
      CALLED                                   LAST
      LAST                       ON            OFF                 ON
      ON                                       LAST

While somebody leads the manager always goes to sleep as LAST.
"""

from __future__ import annotations

import errno
import select
from enum import Enum, auto
from threading import get_ident
from time import sleep
from typing import TYPE_CHECKING, Final

from .polling import LONGEST, READABLE, Poll, close_poll, milliseconds, new_poll
from .sleeping import WorkerSleep
from .transport import Transport
from .uninterrupted import permitted
from .waking import Waking

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Lead", "Patrol", "Turn", "Turns"]

LEAD: Final = 0.01
"""Seconds that a caller leads: an answer that takes longer gains nothing by it, and a call that ends for another reason
while it leads learns of it that much later."""
PATROL: Final = 0.1
"""Seconds between two looks of the manager at callers who lead."""
MOMENT: Final = 0.001
"""Seconds that the manager leaves to a caller who receives at this moment."""
LEAD_SIZE: Final = 16 * 1024
"""Bytes that a leader receives. A larger answer comes in several parts anyway."""
MAX_REST: Final = 63
"""Requests for which leading is left alone, at most, after it has gone wrong again and again."""

Left = bytes | OSError
"""What receiving came to."""
NOTHING: Final = BlockingIOError()
"""There is nothing left for the manager."""


class Turn(Enum):
    """Who may take what arrives, and who is next."""

    FREE = auto()
    """Nobody, until a caller leads or the manager is woken."""
    OWED = auto()
    """Nobody but the manager, which looks as soon as it can: something may have arrived of which it was not told, or a
    leader has left something. A caller who led now would be given something that came later, first."""
    READS = auto()
    """The manager, which is awake."""
    READS_AGAIN = auto()
    """The manager, and it has to look once more when it has found nothing left."""
    LED = auto()
    """A caller."""
    LED_AWAITED = auto()
    """A caller; the manager was woken, has found that out, and sleeps until it is told that the lead is over."""
    LED_OWED = auto()
    """A caller; afterwards the manager has to look, whatever the lead comes to."""

    __hash__ = object.__hash__  # that of `Enum` is written in Python, and each request looks into a table


_TO_READ: Final = {
    Turn.FREE: Turn.READS,
    Turn.OWED: Turn.READS,
    Turn.READS: Turn.READS,
    Turn.READS_AGAIN: Turn.READS,
    Turn.LED: Turn.LED_AWAITED,
    Turn.LED_AWAITED: Turn.LED_AWAITED,
    Turn.LED_OWED: Turn.LED_OWED,
}
_TO_SLEEP: Final = {Turn.READS: Turn.FREE, Turn.READS_AGAIN: Turn.OWED}
_NOTHING_LEFT: Final = {Turn.LED: Turn.FREE, Turn.LED_AWAITED: Turn.FREE, Turn.LED_OWED: Turn.OWED}
_SOMETHING_LEFT: Final = {Turn.LED: Turn.OWED, Turn.LED_AWAITED: Turn.OWED, Turn.LED_OWED: Turn.OWED}
_TOLD_ANOTHER: Final = {
    Turn.FREE: Turn.OWED,
    Turn.OWED: Turn.OWED,
    Turn.READS: Turn.READS_AGAIN,
    Turn.READS_AGAIN: Turn.READS_AGAIN,
    Turn.LED: Turn.LED_OWED,
    Turn.LED_AWAITED: Turn.LED_OWED,
    Turn.LED_OWED: Turn.LED_OWED,
}
# The members that are asked for at each request, by names of this module: to look one up in its enum costs a request
# as much as calling a function.
FREE: Final = Turn.FREE
LED: Final = Turn.LED
OWED: Final = Turn.OWED
READS: Final = Turn.READS
LED_AWAITED: Final = Turn.LED_AWAITED
LED_OWED: Final = Turn.LED_OWED


class Patrol(Enum):
    """How the manager sleeps, and whether callers may lead, which they may only if it looks after them."""

    OFF = auto()
    """For as long as nothing happens. Nobody may lead."""
    CALLED = auto()
    """The same, but it was woken to begin a patrol: callers may lead."""
    LAST = auto()
    """For `PATROL` seconds at most, the last time if nobody leads in this sleep."""
    ON = auto()
    """For `PATROL` seconds at most, and the next time as well."""


OFF: Final = Patrol.OFF
CALLED: Final = Patrol.CALLED
LAST: Final = Patrol.LAST
ON: Final = Patrol.ON


class Lead:
    """One caller's turn.

    The right to receive is an item in a list: who pops it may receive, once. The caller pops it, receives and stores
    what it got by one C call (`permitted`). So whatever interrupts the caller, it takes no byte that has become the
    manager's again, and has none that the manager cannot find.
    """

    __slots__ = ("_epoll", "_permit", "received", "size", "thread", "transport")

    def __init__(self, transport: Transport, epoll: select.epoll | None, size: int = LEAD_SIZE) -> None:
        self.transport = transport
        self.thread = get_ident()
        self._epoll = epoll
        """What it sleeps in, before it receives."""
        self.size = size
        self._permit = [size]
        self.received: list[Left] = []
        """What came of it, as the only item; none before."""

    def receive(self, seconds: float) -> None:
        """Wait for so many seconds at most, then receive; nothing at all when that was revoked."""
        try:
            if self._permit and self._epoll is not None:
                self._epoll.poll(seconds if seconds > 0.0 else 0.0, 1)
        except OSError as error:
            self.received.append(error)
            return
        except ValueError:
            return  # the epoll was closed, in a child that a signal handler has forked
        self.receive_at_once()

    def receive_at_once(self) -> None:
        """Receive; nothing at all when that was revoked."""
        try:
            self.received.extend(permitted(self._permit, self.transport.receive))
        except OSError as error:
            # A `BlockingIOError` is kept as well: it tells that nothing is left for the manager.
            self.received.append(error)
        except IndexError:
            return  # it was revoked

    def revoke(self) -> bool:
        """Under the lock: it receives nothing from now on. False: it is receiving at this moment."""
        try:
            self._permit.pop()
        except IndexError:
            return bool(self.received)
        return True


class Turns:
    """Of one client. What is above the line is for the manager's thread alone, what is below it for callers."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.waking = Waking(hub.answers)
        """Of those whose answers the manager has read."""
        # Without epoll there is no way to choose who is woken, and nobody leads.
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._leaders = select.epoll() if hasattr(select, "epoll") else None
        """What a leader sleeps in. Unlike poll it may be used again within a signal handler."""
        self.worker: WorkerSleep | None = None
        """Where a worker of the callbacks sleeps who watches the socket; there is one from the first callback on."""
        self._poll: Poll | select.epoll = new_poll() if self._epoll is None else self._epoll
        self._aside = new_poll()
        """What the manager sleeps in while it would only find out again that a caller leads."""
        self._poll.register(hub.agenda.wakeup, READABLE)
        self._aside.register(hub.agenda.wakeup, READABLE)
        self.watched: Transport | None = None
        """The transport that is read, if there is one."""
        self.turn = FREE
        self.patrol = OFF
        self._lead: Lead | None = None
        """Of the caller who leads."""
        self._left: Left | None = None
        """What a leader has left to the manager."""
        self._rest = self._penalty = 0
        """For how many requests leading is left alone now, and was the last time."""

    def watch(self, transport: Transport) -> None:
        """There is a connection."""
        with self._hub.lock:
            if self._leaders is not None and not _exclusive(self._leaders, transport):
                self._leaders.close()
                self._leaders = None
                if self.worker is not None:
                    self.worker.close()
                    self.worker = None
            # One behind the other: who is registered first is asked first.
            if self.worker is not None:
                self.worker.watch(transport)
            self._poll.register(transport, READABLE | (0 if self._leaders is None else select.EPOLLEXCLUSIVE))
            self.watched = transport

    def unwatch(self) -> None:
        """It has ended. Afterwards no caller takes anything from it."""
        with self._hub.lock:
            watched, self.watched = self.watched, None
            if watched is not None:
                self._poll.unregister(watched)
                if self._leaders is not None:
                    self._leaders.unregister(watched)
                if self.worker is not None:
                    self.worker.unwatch(watched)
        # Without the lock, which the caller needs to end its lead. That takes a moment: its socket does not block.
        while not self._take_away(self._lead):
            sleep(MOMENT)
        with self._hub.lock:
            self.turn = FREE
            self._left = None

    def wait(self, seconds: float | None) -> bool:
        """Sleep until something has arrived, a wakeup, or so many seconds: whether there may be something to read.

        A caller who has led all that time does no longer. Of what has arrived meanwhile we may not have been told.
        """
        wakeup = self._hub.agenda.wakeup
        with self._hub.lock:
            turn = self.turn = _TO_SLEEP.get(self.turn, self.turn)
            leader = self._lead
            patrols = leader is not None or self.patrol is CALLED or self.patrol is ON
            self.patrol = LAST if patrols else OFF
            if turn is OWED:
                return True  # the only one who may have been told was not this thread
        look = self.waking.seconds()
        if look is not None and (seconds is None or look < seconds):
            seconds = look
        else:
            look = None
        if patrols:
            seconds = PATROL if seconds is None else min(seconds, PATROL)
        aside = turn is LED_AWAITED or turn is LED_OWED
        if self._epoll is None or aside:
            ready = (self._aside if aside else self._poll).poll(milliseconds(seconds))
        else:
            ready = self._epoll.poll(LONGEST if seconds is not None and seconds > LONGEST else seconds)
        if not ready and look is not None:
            # Not a whole sleep of a patrol: nobody can have led all that time.
            self._go_on_patrolling()
            return self._owed()
        if not ready:
            self._take_away(leader)
            return patrols or self._owed()
        self._go_on_patrolling()
        number = wakeup.fileno()
        if ready[0][0] == number or ready[-1][0] == number:
            wakeup.clear()
            return len(ready) > 1 or self._owed()
        return True

    def begin(self) -> bool:
        """Take the turn; False: a caller leads. It lasts until the manager calls `wait`."""
        with self._hub.lock:
            self.turn = _TO_READ[self.turn]
            return self.turn is READS

    def left(self) -> Left | None:
        """After `begin`, once, before anything is received: what a leader has received."""
        left, self._left = self._left, None
        return left

    def _owed(self) -> bool:
        return self.turn is OWED or self.turn is LED_OWED

    def _take_away(self, lead: Lead | None) -> bool:
        """From a caller who leads; False: it is receiving at this moment."""
        if lead is not None:
            with self._hub.lock:
                if self._lead is lead:
                    if not lead.revoke():
                        return False
                    self._end_lead(lead)
                    # It may still be asleep, and be told in our place: one patrol more.
                    self._go_on_patrolling()
        return True

    def _go_on_patrolling(self) -> None:
        if self.patrol is LAST:
            self.patrol = ON

    def close(self) -> None:
        """At the end, and in a forked child: the descriptors are its own copies, what they mean is the parent's."""
        self.watched = self._lead = None
        self.turn = FREE
        for epoll in (self._epoll, self._leaders, self.worker):
            if epoll is not None:
                epoll.close()
        if self._epoll is None:
            close_poll(self._poll)
        close_poll(self._aside)

    # --- a worker who watches ----------------------------------------------------------------------------------------

    def make_bed(self) -> None:
        """Under the lock, when there is a callback: from now on a worker with nothing to do can watch the connection.

        Without a callback nobody needs it, and a client has three descriptors less.
        """
        if self.worker is not None or self._leaders is None:
            return
        try:
            self.worker = worker = WorkerSleep()
        except OSError:  # the process has no descriptor left: the manager reads everything, as on other systems
            return
        watched = self.watched
        if watched is not None:
            # The manager is to be asked after the worker, and so it has to be registered behind it.
            self._poll.unregister(watched)
            try:
                worker.watch(watched)
            except OSError:  # the system has no room for one more who watches
                self.worker = None
                worker.close()
            finally:
                self._poll.register(watched, READABLE | select.EPOLLEXCLUSIVE)

    def free(self) -> bool:
        """Under the lock: nobody reads the connection, and there is one."""
        return self.turn is FREE and self.watched is not None and self.watched is self._hub.transport

    def take(self) -> Lead | None:
        """Under the lock, by a worker who was told that something has arrived: the turn, for a moment, if it is free.

        Else the manager is told, which has to look for it.
        """
        transport = self.watched
        if transport is None:
            return None
        if not self.free():
            self.turn = _TOLD_ANOTHER[self.turn]
            self._hub.agenda.urgent = True
            return None
        lead = self._lead = Lead(transport, None, self._hub.session.receive_size)
        self.turn = LED
        return lead

    def taken(self, lead: Lead) -> bytes:
        """Under the lock, when it has received; the lead is over. What it gives to the session, under the same lock.

        Nothing when that is for the manager: an error, the end, and what was received when the lead was taken away.
        """
        if self._lead is not lead:
            return b""
        received = lead.received[0] if lead.received else None
        data = b""
        if isinstance(received, bytes) and received:
            lead.received[0] = NOTHING
            if lead.transport is self._hub.transport:  # else the session has given it up, and that is for nobody
                data = received
        self._end_lead(lead)
        if len(data) >= lead.size:
            # There is probably more, and the system tells nobody of that until something else arrives.
            self.turn = _TOLD_ANOTHER[self.turn]
            self._hub.agenda.urgent = True
        return data

    # --- callers -----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Before the lock is taken to `lead`, since it may have to wake the manager: see that it patrols."""
        if self.patrol is OFF and self._leaders is not None:
            # Without the lock: whatever this overwrites, the manager wakes up and goes to sleep anew.
            self.patrol = CALLED
            self._hub.agenda.wakeup.set()

    def lead(self) -> Lead | None:
        """Under the lock, before a request is sent: take the turn for `take_reply`, if it is free."""
        # Who leads sleeps, and wakes nobody before.
        if self.turn is not FREE or self.patrol is OFF or self._hub.answers:
            return None
        transport = self.watched
        if transport is None or transport is not self._hub.transport or self._leaders is None:
            return None
        if self._rest:
            self._rest -= 1
            return None
        lead = Lead(transport, self._leaders)
        self._lead, self.turn = lead, LED
        if self.patrol is LAST:
            self.patrol = ON
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
            elif lead.transport is self.watched:
                self.turn = _TOLD_ANOTHER[self.turn]
                hub.agenda.urgent = True
        hub.leave()
        return completed

    def _complete(self, lead: Lead, token: int) -> bool:
        hub = self._hub
        received = lead.received[0] if lead.received else None
        completion = hub.session.take_reply(received, token) if isinstance(received, bytes) else None
        if completion is None:
            # 1, 3, 7, … 63: a single failure costs one request its lead, and a busy connection is soon left alone.
            # Where others are answered meanwhile, the next lead would go wrong as this one did.
            crowded = isinstance(received, bytes) and len(hub.requests) > 1
            self._rest = self._penalty = MAX_REST if crowded else min(2 * self._penalty + 1, MAX_REST)
        else:
            self._penalty //= 2
            lead.received[0] = NOTHING
            hub.complete(completion)
        if self._lead is lead:
            self._end_lead(lead)
        elif completion is not None:
            # A signal handler in this very thread has ended the lead in the midst of this, and has left to the manager
            # what is completed here. Nobody else could look at it meanwhile: this thread has the lock.
            self._left = None
        return completion is not None

    def give_back(self) -> None:
        """If this thread leads, it does no longer. Also after a `KeyboardInterrupt`, wherever it came."""
        lead = self._lead
        if lead is not None and lead.thread == get_ident():
            with self._hub.lock:
                if self._lead is lead:
                    lead.revoke()
                    self._end_lead(lead)
        self._hub.leave()

    def _end_lead(self, lead: Lead) -> None:
        """Under the lock: the end of a lead that receives no more.

        A lead that was ended before it received may have been the only one to be told that something arrived: then,
        too, something is left.
        """
        left = lead.received[0] if lead.received else None
        nothing = isinstance(left, BlockingIOError)
        if not nothing:
            self._left = left
        if not nothing or self.turn is not LED:
            self._hub.agenda.urgent = True
        self._lead, self.turn = None, (_NOTHING_LEFT if nothing else _SOMETHING_LEFT)[self.turn]


def _exclusive(epoll: select.epoll, transport: Transport) -> bool:
    """Register it so that one of those who wait is woken; False: this system cannot (Linux before 4.5)."""
    try:
        epoll.register(transport, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True
