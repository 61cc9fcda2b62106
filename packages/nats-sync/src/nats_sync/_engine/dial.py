"""From a server's name to a connected socket. A dial can be given up at every moment."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from itertools import zip_longest
from queue import SimpleQueue
from time import monotonic
from typing import Final

from .polling import READABLE, WRITABLE, close_poll, milliseconds, new_poll
from .wakeup import Wakeup

__all__ = ["Dialler", "Interrupted"]

HEAD_START: Final = 0.25
"""Seconds after which the next address is tried beside one that does not answer (RFC 8305)."""
# Windows says EWOULDBLOCK where others say EINPROGRESS; after EINTR the system goes on connecting (POSIX).
IN_PROGRESS: Final = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR}

SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
Address = tuple[socket.AddressFamily, SocketAddress]
Wanted = tuple[str, int]


class Interrupted(Exception):  # no "Error" in its name: it ends a dial that nobody wants any more
    """The dial was given up, by the wish of the client or because its time is up."""


class Dialler:
    """Dials for one thread. A dial ends within an instant when ``wakeup`` is set and ``given_up()`` is true then.

    Host names are resolved anew at each attempt, by a thread of their own, because the system's resolver cannot be
    interrupted. That thread is started with the first name (literal addresses need none) and serves all attempts; one
    that hangs is left behind, and ends when the resolver does.
    """

    def __init__(self, wakeup: Wakeup, given_up: Callable[[], bool], name: str) -> None:
        self._wakeup = wakeup
        self._given_up = given_up
        self._name = name
        self._resolver: _Resolver | None = None
        self.attempts: list[socket.socket] = []
        """Sockets that are being connected."""

    def dial(self, host: str, port: int, deadline: float) -> socket.socket:
        """A connected, non-blocking socket.

        Raises `OSError`, with what each address said; what else the resolver raised; `Interrupted`, also at
        ``deadline``: the session says what that means. The addresses are tried in turn, each after a head start of the
        one before or as soon as that has failed, and the first that answers is taken.
        """
        waiting = deque(self._resolve(host, port, deadline))
        alone = len(waiting) == 1
        failures: list[OSError] = []
        try:
            while waiting or self.attempts:
                if waiting:
                    self._attempt(*waiting.popleft(), failures)
                next_at = monotonic() + HEAD_START
                # Behind the last address no other one waits for a head start to end: it has all the time that is left.
                sock = self._first_connected(min(next_at, deadline) if waiting else deadline, failures)
                if sock is not None:
                    return sock
                if monotonic() >= deadline:
                    raise Interrupted
        finally:
            # The socket that is returned is not among them any more: `_first_connected` has taken it out.
            while self.attempts:
                self.attempts.pop().close()
        if alone:
            # As it is: its class (`ConnectionRefusedError`) and its errno would be lost in a summary.
            raise failures[0]
        # The addresses of one host mostly fail alike: each text is given once.
        raise OSError("; ".join(dict.fromkeys(map(str, failures))) or f"{host!r} has no address")

    def close(self) -> None:
        """Let the resolver's thread end. It is waited for unless it hangs in the system's resolver."""
        if self._resolver is not None:
            self._resolver.stop()
            self._resolver = None

    # --- names -------------------------------------------------------------------------------------------------------

    def _resolve(self, host: str, port: int, deadline: float) -> list[Address]:
        """The addresses in the system's order, but the families in turn: one that is not routed delays the other once.

        What is raised for something that is no literal address is left to the thread, which asks again.
        """
        with contextlib.suppress(
            BaseException
        ):  # nearly always `gaierror`, but a resolver that the user has put in may raise anything
            return _in_turn(_look_up((host, port), socket.AI_NUMERICHOST))
        if self._resolver is None or self._resolver.busy:
            if self._resolver is not None:
                self._resolver.stop()
            self._resolver = _Resolver(self._wakeup, self._name)
        resolver = self._resolver
        resolver.ask((host, port))
        while resolver.busy:
            if monotonic() >= deadline:
                raise Interrupted
            self._ready(deadline)
        return _in_turn(resolver.answer())

    # --- addresses ---------------------------------------------------------------------------------------------------

    def _attempt(self, family: socket.AddressFamily, address: SocketAddress, failures: list[OSError]) -> None:
        """Begin to connect to one address."""
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            failures.append(error)
            return
        self.attempts.append(sock)
        try:
            sock.setblocking(False)
            # Else a small message would wait until the peer has acknowledged the one before (Nagle's algorithm).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex(address)
            if code and code not in IN_PROGRESS:
                raise OSError(code, os.strerror(code))
        except OSError as error:
            self._drop(sock, error, failures)

    def _first_connected(self, until: float, failures: list[OSError]) -> socket.socket | None:
        """Wait for the attempts: the first that is connected; None as soon as one has failed, or the time is up."""
        failed = len(failures)
        while self.attempts and len(failures) == failed:
            ready = self._ready(until)
            for sock in ready:
                try:
                    _check_connected(sock)
                except OSError as error:
                    self._drop(sock, error, failures)
                else:
                    self.attempts.remove(sock)
                    return sock
            if not ready and monotonic() >= until:
                break
        return None

    def _drop(self, sock: socket.socket, error: OSError, failures: list[OSError]) -> None:
        self.attempts.remove(sock)
        sock.close()
        failures.append(error)

    def _ready(self, until: float) -> list[socket.socket]:
        """Wait for the attempts, the wakeup or the time: which attempts have succeeded or failed."""
        poll = new_poll()
        try:
            poll.register(self._wakeup, READABLE)
            for sock in self.attempts:
                poll.register(sock, WRITABLE)
            ready = {number for number, _ in poll.poll(milliseconds(until - monotonic()))}
        finally:
            close_poll(poll)
        if self._wakeup.fileno() in ready:
            self._wakeup.clear()
            if self._given_up():
                raise Interrupted
        return [sock for sock in self.attempts if sock.fileno() in ready]


def _check_connected(sock: socket.socket) -> None:
    """Raises `OSError` when it is not."""
    # A poll tells only that the attempt is over. How it ended is told by SO_ERROR.
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    # A socket may be given the very port that it dials as its own. On loopback it is connected with itself then.
    if not code and sock.getsockname() == sock.getpeername():
        code = errno.ECONNREFUSED
    if code:
        raise OSError(code, os.strerror(code))


class _Resolver:
    """A thread that asks the system for addresses."""

    def __init__(self, wakeup: Wakeup, name: str) -> None:
        self._wakeup = wakeup
        self._wanted: SimpleQueue[Wanted | None] = SimpleQueue()
        self._answer: list[Address] | BaseException = []
        self.busy = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the system gives no more threads: that attempt has failed, not the client
            raise OSError(f"no thread to resolve the name in: {error}") from error

    def ask(self, wanted: Wanted) -> None:
        """Only when it is not busy."""
        # Before the thread can see the name: it sets this to False when it has answered, which may be at once.
        self.busy = True
        self._wanted.put(wanted)

    def answer(self) -> list[Address]:
        """Only when it is no longer busy. Raises what the resolver raised, an `OSError` for what is no `Exception`."""
        answer, self._answer = self._answer, []
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, BaseException):
            raise OSError(f"the resolver raised {type(answer).__name__}") from answer
        return answer

    def stop(self) -> None:
        """End it; one that is busy is not waited for."""
        self._wanted.put(None)
        if not self.busy:
            self._thread.join()

    def _run(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            try:
                self._answer = _look_up(wanted)
            except BaseException as error:  # whatever it is, somebody waits for it
                self._answer = error
            # After the answer and before the wakeup: who is woken looks at this first, and then takes the answer.
            self.busy = False
            self._wakeup.set()


def _look_up(wanted: Wanted, flags: int = 0) -> list[Address]:
    found = socket.getaddrinfo(*wanted, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys((entry[0], entry[4]) for entry in found))


def _in_turn(addresses: list[Address]) -> list[Address]:
    """The first of one family, the first of the others, the second of the one, and so on."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    other = [address for address in addresses if address[0] != addresses[0][0]]
    return [address for pair in zip_longest(first, other) for address in pair if address is not None]
