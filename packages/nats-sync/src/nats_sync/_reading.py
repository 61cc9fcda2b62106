"""The reading side: who waits for the socket and takes what has arrived.

Theory of operation
-------------------
It is the reader's, which sleeps until there is something, takes it and gives it to the session. But to wake a thread,
which then wakes the caller, costs more than all the rest of a request. So a caller whose answer may come next *leads*,
for at most `LEAD` seconds: the reader's epoll is told to look away, which takes effect while the reader sleeps in it
and wakes nobody, and the caller waits for the socket itself.

    free ──something arrived──▶ the reader reads ──nothing left──▶ free       (the reader sleeps and watches the socket)
     └───a request──▶ a caller leads ──its answer, anything else, time──▶ free     (the reader sleeps and looks away)

Nobody waits for the reading side: a caller who finds it taken waits for its answer as if there were no such thing.

A leader only looks at what has arrived (``MSG_PEEK``). If that is the answer to its own request, whole, and nothing
else, it takes it. If it is anything else, it leaves it where it is and gives the reading side back; what is still there
wakes the reader at once. So what concerns anybody else is only ever in the hands of the reader, which no signal
interrupts: a `KeyboardInterrupt` can lose nothing but the answer to the very call that it ends. Where it goes wrong too
often to gain anything (a busy connection, a slow responder) leading is left alone for a while.

A signal handler may hold up its thread in the midst of a lead, for as long as it likes. So as long as callers lead, the
reader sleeps for `PATROL` seconds at most, and takes the reading side away from a caller who had it all that time.
"""

from __future__ import annotations

import select
from threading import get_ident
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from ._transport import Transport, milliseconds

if TYPE_CHECKING:
    from ._pump import Pump

__all__ = ["Lead", "ReadingSide"]

LEAD: Final = 0.01
"""Seconds that a caller leads: an answer that takes longer gains nothing by it, and a call that ends for another reason
while it leads learns of it that much later."""
PATROL: Final = 0.1
"""Seconds between two looks of the reader at callers who lead."""
MOMENT: Final = 0.001
"""Seconds that the reader leaves to a caller who receives at this moment."""
LOOK_SIZE: Final = 16 * 1024
"""Bytes looked at. A larger answer comes in several parts anyway."""
MAX_REST: Final = 63
"""Requests for which leading is left alone, at most, after it has gone wrong again and again."""


class Lead:
    """One caller's turn: it may look at what has arrived, and take it once it is `entitled`.

    The right to take it is an item in a list: who pops that has it. The caller pops it by the same C call that
    receives, so whatever interrupts it, it never takes a byte that has become the reader's again.
    """

    __slots__ = ("_epoll", "_permit", "_taken", "thread", "transport")

    def __init__(self, transport: Transport, epoll: select.epoll) -> None:
        self.transport = transport
        self.thread = get_ident()
        self._epoll = epoll
        self._permit: list[int] | None = None
        self._taken: list[bytes] = []

    def look(self, seconds: float) -> bytes:
        """What has arrived within so many seconds; b"" when there is nothing, at the end, and for an error."""
        try:
            self._epoll.poll(max(seconds, 0.0), 1)
            return self.transport.look(LOOK_SIZE)
        except (OSError, ValueError):  # ValueError: the epoll was closed, in a child that a signal handler has forked
            return b""

    def entitle(self, nbytes: int) -> None:
        """Under the lock: it may take so many bytes."""
        self._permit = [nbytes]

    def take(self) -> bytes:
        """Take them; b"" when that was revoked, and for an error."""
        try:
            assert self._permit is not None  # it was entitled
            self.transport.take(self._permit, self._taken)
            return self._taken[0]
        except (OSError, IndexError):
            return b""

    def revoke(self) -> bool:
        """Under the lock, by another thread: it takes nothing from now on. False: it is receiving at this moment."""
        if self._permit is not None:
            try:
                self._permit.pop()
            except IndexError:
                return bool(self._taken)
        return True


class ReadingSide:
    """Of one client. What is above the line is for the reader's thread alone, what is below it for callers."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        # Without epoll there is no way to make a thread that sleeps look away, and nobody leads.
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._leaders = select.epoll() if hasattr(select, "epoll") else None
        """What a leader sleeps in. Unlike poll it may be used again within a signal handler."""
        self._poll = select.poll() if self._epoll is None else self._epoll
        self._poll.register(pump.wakeup, select.POLLIN)
        self._watched: Transport | None = None
        self._reads = False
        """The reader is awake and takes what there is."""
        self._lead: Lead | None = None
        self._led = False
        """Somebody led, or wanted to, since the reader went to sleep."""
        self._patrols = False
        """The reader sleeps for `PATROL` at most."""
        self._called = False
        """It will: it was woken for that."""
        self._rest = self._penalty = 0

    def watch(self, transport: Transport) -> None:
        """There is a connection."""
        with self._pump.lock:
            self._poll.register(transport, select.POLLIN)
            if self._leaders is not None:
                self._leaders.register(transport, select.EPOLLIN)
            self._watched = transport

    def unwatch(self) -> None:
        """It has ended. Afterwards no caller takes anything from it."""
        with self._pump.lock:
            watched, self._watched = self._watched, None
            if watched is not None:
                self._poll.unregister(watched)
                if self._leaders is not None:
                    self._leaders.unregister(watched)
        while not self._revoke(self._lead):
            sleep(MOMENT)

    def poll(self, seconds: float | None) -> list[tuple[int, int]]:
        """Sleep until something has arrived, a wakeup, or so many seconds: the descriptors that are ready.

        A caller who has led all that time does no longer.
        """
        with self._pump.lock:
            before = self._lead
            self._patrols = self._led or before is not None
            self._led = self._called = False
        if self._patrols:
            seconds = PATROL if seconds is None else min(seconds, PATROL)
        ready = self._poll.poll(milliseconds(seconds) if self._epoll is None else seconds)
        if not ready:
            self._revoke(before)
        return ready

    def begin(self) -> bool:
        """Take the reading side; False: a caller leads."""
        with self._pump.lock:
            self._reads = self._lead is None
            return self._reads

    def end(self) -> None:
        """There is nothing left to be read."""
        self._reads = False

    def _revoke(self, lead: Lead | None) -> bool:
        if lead is not None:
            with self._pump.lock:
                if self._lead is lead:
                    if not lead.revoke():
                        return False
                    self._free()
        return True

    def close(self) -> None:
        """At the end, and in a forked child: the descriptors are its own copies, what they mean is the parent's."""
        self._watched = self._lead = None
        for epoll in (self._epoll, self._leaders):
            if epoll is not None:
                epoll.close()

    # --- callers -----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Before the lock is taken to `lead`: see that the reader looks after those who do."""
        if not self._patrols and self._epoll is not None:
            self._led = self._called = True
            self._pump.wakeup.set()

    def lead(self) -> Lead | None:
        """Under the lock, before a request is sent: take the reading side for `take_reply`, if it is free."""
        if not (self._patrols or self._called):
            return None
        transport = self._watched
        if self._lead is not None or self._reads or transport is None or transport is not self._pump.transport:
            return None
        if self._epoll is None or self._leaders is None:
            return None
        if self._rest:
            self._rest -= 1
            return None
        lead = self._lead = Lead(transport, self._leaders)
        self._epoll.modify(transport, select.EPOLLONESHOT)  # an error or the end it still tells, but only once
        self._led = True
        return lead

    def take_reply(self, lead: Lead, token: int, seconds: float) -> None:
        """Wait a moment for the answer to this request, and complete it if nothing else arrives."""
        pump = self._pump
        looked_at = lead.look(min(seconds, LEAD))
        with pump.lock:
            message = pump.session.reply_in(looked_at, token) if self._lead is lead else None
            if message is None:
                self._rest = self._penalty = min(2 * self._penalty + 1, MAX_REST)
                self.give_back()
                return
            lead.entitle(len(looked_at))
        taken = lead.take()
        with pump.lock:
            self._penalty //= 2
            self.give_back()
            if taken:
                pump.session.receive_reply(message, now=monotonic())
                pump.drain()
        pump.leave()

    def give_back(self) -> None:
        """If this thread leads, it does no longer. Also after a `KeyboardInterrupt`, wherever it came."""
        lead = self._lead
        if lead is not None and lead.thread == get_ident():
            with self._pump.lock:
                if self._lead is lead:
                    self._free()

    def _free(self) -> None:
        try:
            if self._watched is not None and self._epoll is not None:
                self._epoll.modify(self._watched, select.EPOLLIN)
        finally:
            self._lead = None
