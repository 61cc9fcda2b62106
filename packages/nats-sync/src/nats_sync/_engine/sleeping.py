"""Where a worker of the callbacks sleeps that watches the socket: at most one of a client."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from .wakeup import Wakeup

if TYPE_CHECKING:
    from .transport import Transport

__all__ = ["WorkerSleep"]


class WorkerSleep:
    """An epoll with the connection's socket, and a wakeup for whoever calls the worker.

    `sleep`, `call`, `close` and `forget` are not used under the client's lock, everything else is.
    """

    __slots__ = ("_closed", "_epoll", "_wakeup", "asleep")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wakeup = Wakeup()
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self.asleep = False
        self._closed = False

    def watch(self, transport: Transport) -> None:
        """There is a connection. Nobody else is told of what this worker is told of."""
        self._epoll.register(transport, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def unwatch(self, transport: Transport) -> None:
        """It has ended."""
        self._epoll.unregister(transport)

    def enter(self) -> bool:
        """Go to bed: False when somebody is asleep there, or it is closed."""
        if self.asleep or self._closed:
            return False
        self.asleep = True
        return True

    def sleep(self) -> bool:
        """After `enter`. Whether it ended because something has arrived."""
        wakeup = self._wakeup
        arrived = False
        for number, _ in self._epoll.poll(None, 2):
            if number == wakeup.fileno():
                wakeup.clear()
            else:
                arrived = True
        return arrived

    def leave(self) -> None:
        """The worker is up."""
        self.asleep = False
        if self._closed:
            self._close()

    def call(self) -> None:
        """End the worker's sleep, if there is one."""
        if self.asleep:
            self._wakeup.set()

    def close(self) -> None:
        """For good. A worker who is still asleep closes it, since its sleep would not end if the descriptor did."""
        self._closed = True
        if self.asleep:
            self.call()
        else:
            self._close()

    def forget(self) -> None:
        """In a forked child: nobody is asleep here, and what belongs to the parent must not hear of it."""
        self.asleep = False
        self._closed = True
        self._epoll.close()
        self._wakeup.close_without_lock()

    def _close(self) -> None:
        self._epoll.close()
        self._wakeup.close()
