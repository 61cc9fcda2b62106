"""Whose it is to write, and publishes that take no lock.

Theory of operation
-------------------
The writing side has one owner at a time: nobody, the writer's thread, or a thread that has called the client. Only the
owner takes bytes from the session and sends them, so that they leave in order. Who appends something to the outgoing
buffer while nobody owns the writing side *calls* the writer: the writer's thread wakes up, and takes the writing side.

    NOBODY ──called──▶ the writer's thread ──nothing is left──▶ NOBODY
       └────a caller waits for an answer, or a chunk is full──▶ that caller's thread ──nothing is left──▶ NOBODY
                                                                  └──the system takes no more──▶ the writer's thread

Everybody who leaves the writing side looks once more whether something was appended, under the lock under which it is
left. So nothing stays behind that was appended before.

**A publish** hardly ever needs the lock, which would cost it more than all the rest. Where the core is compiled,
`publish_quickly` may be called at any moment by any thread. Afterwards the publisher looks at `attended`:

* It is True: the writer's thread was called or looks by itself soon, or somebody owns the writing side, and will look
  for what there is to write. Who looks sets `attended` to False before it does, so it will find this message too, and
  there is nothing to be done. When it has found something, and so will look once more, it sets it to True again.
* It is False: the publisher takes the lock, and sees to it that somebody writes (`Writer.do`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from nats_proto import Payload, accelerated

if TYPE_CHECKING:
    from nats_proto import HeadersLike, Message, Session

__all__ = ["NOBODY", "WRITER", "WritingSide"]

# Neither this number nor the next one is the identity of a thread: `get_ident` gives positive numbers only.
NOBODY: Final = 0
WRITER: Final = -1
"""The writer's thread. It has no identity before it runs, and it may be given the writing side while it sleeps."""

QuickPublish = Callable[[str, Payload, "str | None", "HeadersLike | None"], bool]


class WritingSide:
    """Of one client. What publishers use takes no lock, or takes it itself; all else is used under the hub's lock."""

    __slots__ = (
        "_wakes",
        "attend",
        "attended",
        "called",
        "gather",
        "gathered",
        "owner",
        "promised",
        "publish_quickly",
        "push",
        "send_lock",
        "watched",
        "written",
    )

    def __init__(self, session: Session[Message], lock: threading.RLock) -> None:
        self.publish_quickly: QuickPublish
        """`Session.publish_quickly`; not under the lock."""
        self.owner = NOBODY
        """A thread's identity, `WRITER` or `NOBODY`. Changed by `Writer` alone, and in a forked child."""
        self.called = False
        """The writer's thread was told to look, and will; until then the writing side is free for a caller."""
        self.watched = False
        """The writer's thread looks again without being called, soon after the last time: those who append something
        that need not leave at once rely on that. It goes on for as long as they do. Changed by that thread alone."""
        self.promised = False
        """Something was appended that is left to this look."""
        self.gathered = False
        """Publishes are left to it as well, and nobody need be called for them: `Writer.gather`."""
        self.attended = False
        """Somebody will look for what there is to write. Never True without such a one for longer than an exception
        takes to leave `Writer.do`; it may be False although there is one."""
        self.attend: Callable[[], None]
        """`Writer.attend`, for who finds that nobody will look. These three are set by the writer."""
        self.gather: Callable[[], None]
        """`Writer.gather`, before many publishes."""
        self.push: Callable[[], None]
        """`Writer.push`, after many, before a wait."""
        self.written = 0.0
        """When the system took something the last time."""
        self.send_lock = threading.Lock()
        """Held over a send and its report; taken before the hub's lock, never within it."""
        # Not a `Queue`, whose `put` takes a lock: a signal handler that publishes may interrupt a `put` of its own
        # thread.
        self._wakes: SimpleQueue[bool] = SimpleQueue()
        """For the writer's thread. True: look whether there is something to write; False: end."""
        self.serve(session, lock)

    def serve(self, session: Session[Message], lock: threading.RLock) -> None:
        """This is the session from now on."""
        if accelerated:
            self.publish_quickly = session.publish_quickly
            return

        def publish_under_lock(subject: str, data: Payload, reply: str | None, headers: HeadersLike | None) -> bool:
            with lock:  # the Python twin is many steps, and threads have to take turns at it
                return session.publish_quickly(subject, data, reply, headers)

        self.publish_quickly = publish_under_lock

    def call(self) -> None:
        """Wake the writer's thread: it takes the writing side, if that is still free then."""
        self._wakes.put(True)
        # Behind it: after an interrupt in between the writer is woken twice. The other way round it would never be
        # woken again, since everybody would rely on this.
        self.called = self.attended = True

    def give_to_writer(self) -> None:
        """By its owner: the writer's thread goes on with what is left."""
        # Before it is given: an interrupt in between would leave it to a thread that sleeps. The other way round that
        # thread finds that the writing side is not its own yet, and looks again a moment later.
        self._wakes.put(True)
        self.owner = WRITER

    def end(self) -> None:
        """The writer's thread has nothing more to do; not before it is done with what it was called for."""
        self._wakes.put(False)

    def called_within(self, seconds: float | None) -> bool:
        """By the writer's thread: sleep until it is called, or so many seconds. False at the end."""
        try:
            return self._wakes.get(timeout=seconds)
        except Empty:
            return True
