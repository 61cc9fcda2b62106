"""From a server's name to a connected socket, ready to be given up at every moment."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic

from ._transport import milliseconds
from ._wakeup import Wakeup

__all__ = ["Dialler", "Interrupted"]

SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
Address = tuple[socket.AddressFamily, SocketAddress]
Wanted = tuple[str, int]

IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR}


class Interrupted(Exception):  # not an error: somebody wants the thread back
    """The dial was given up, by the wish of the client or because its time is up."""


class Dialler:
    """For one thread, which it lets go within an instant when ``given_up()`` is true after ``wakeup`` was set.

    Host names are resolved anew at each attempt, by a thread of their own, because the system's resolver cannot be
    interrupted. That thread is started with the first name (literal addresses need none) and serves all attempts; one
    that hangs is left behind, and ends when the resolver does.
    """

    def __init__(self, wakeup: Wakeup, given_up: Callable[[], bool], name: str) -> None:
        self._wakeup = wakeup
        self._given_up = given_up
        self._name = name
        self._resolver: _Resolver | None = None
        self._sock: socket.socket | None = None

    def dial(self, host: str, port: int, deadline: float) -> socket.socket:
        """A connected, non-blocking socket. Raises `OSError` of the last address, or `Interrupted`.

        What is left until ``deadline`` is shared by the addresses still to try, so that a dead one leaves time.
        """
        addresses = self._resolve(host, port, deadline)
        failure: OSError | None = None
        for number, (family, address) in enumerate(addresses):
            now = monotonic()
            share = (deadline - now) / (len(addresses) - number)
            try:
                return self._connect(family, address, now + share)
            except OSError as error:
                failure = error
            if monotonic() >= deadline:
                raise Interrupted from failure  # the session says what that means
        raise failure or OSError(f"{host!r} has no address")

    def close(self) -> None:
        """Let the resolver's thread end; it is waited for only when it does nothing."""
        if self._resolver is not None:
            self._resolver.stop()
            self._resolver = None

    def close_copies(self) -> None:
        """In a forked child: close the socket that the parent is connecting."""
        if self._sock is not None:
            self._sock.close()

    # --- names -------------------------------------------------------------------------------------------------------

    def _resolve(self, host: str, port: int, deadline: float) -> list[Address]:
        try:
            return _look_up((host, port), socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # a name
        if self._resolver is None or self._resolver.busy:
            if self._resolver is not None:
                self._resolver.stop()
            self._resolver = _Resolver(self._wakeup, self._name)
        resolver = self._resolver
        resolver.ask((host, port))
        while resolver.busy:
            self._pause(None, deadline)
        return resolver.answer()

    # --- addresses ---------------------------------------------------------------------------------------------------

    def _connect(self, family: socket.AddressFamily, address: SocketAddress, deadline: float) -> socket.socket:
        sock = self._sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex(address)
            if code in IN_PROGRESS:
                while not self._pause(sock, deadline):
                    if monotonic() >= deadline:
                        raise TimeoutError(errno.ETIMEDOUT, "no answer in time")
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            if sock.getsockname() == sock.getpeername():
                # On loopback a dial to a port that nobody listens on may be given that very port, and then succeeds.
                raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        except BaseException:
            sock.close()
            raise
        finally:
            self._sock = None
        return sock

    def _pause(self, sock: socket.socket | None, deadline: float) -> bool:
        """Wait for the socket to be connected or the wakeup: whether it was the socket."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if sock is not None:
            poll.register(sock, select.POLLOUT)
        ready = poll.poll(milliseconds(deadline - monotonic()))
        if any(number == self._wakeup.fileno() for number, _ in ready):
            self._wakeup.clear()
            if self._given_up():
                raise Interrupted
            return len(ready) > 1
        if not ready and sock is None:
            raise Interrupted
        return bool(ready)


class _Resolver:
    """A thread that asks the system for addresses."""

    def __init__(self, wakeup: Wakeup, name: str) -> None:
        self._wakeup = wakeup
        self._wanted: SimpleQueue[Wanted | None] = SimpleQueue()
        self._answer: list[Address] | OSError = []
        self.busy = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(self, wanted: Wanted) -> None:
        """Only when it is not busy."""
        self.busy = True
        self._wanted.put(wanted)

    def answer(self) -> list[Address]:
        """Only when it is no longer busy. Raises what the resolver raised."""
        if isinstance(self._answer, OSError):
            raise self._answer
        return self._answer

    def stop(self) -> None:
        """End it; one that is busy is not waited for."""
        self._wanted.put(None)
        if not self.busy:
            self._thread.join()

    def _run(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            try:
                self._answer = _look_up(wanted)
            except OSError as error:
                self._answer = error
            self.busy = False
            self._wakeup.set()


def _look_up(wanted: Wanted, flags: int = 0) -> list[Address]:
    found = socket.getaddrinfo(*wanted, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys((entry[0], entry[4]) for entry in found))
