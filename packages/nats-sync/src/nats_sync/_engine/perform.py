"""The threads that do what a connection needs from outside: call the user's functions, read the user's files.

Such a call may block for ever, so it has a thread of its own, started when the first is needed and kept. What is to be
done is always the last that was asked for: the attempt that asked for an earlier one is over.

For a handshake another thread takes over from a call that still hangs then, so that one bad moment of a callback costs
one attempt. ``reconnect_delay`` is different: the client can do without, so it has one thread and is never called twice
at once. That thread is not one of the others: a function that says how long to wait must not keep us from saying who we
are.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final, assert_never

from nats_proto import Call, Effect, Perform, ReadFile

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Performer"]

logger = logging.getLogger("nats_sync")

MAX_THREADS: Final = 4
"""Calls for handshakes that may hang at once. When all do, attempts fail until one returns: one may hang every time."""


class Performer:
    """Belongs to one client. ``perform`` is called by the manager, ``stop`` at the end."""

    def __init__(self, hub: Hub, name: str) -> None:
        self._handshakes = _Crew(hub, f"{name}-credentials", MAX_THREADS)
        self._delays = _Crew(hub, f"{name}-delay", 1)

    @property
    def threads(self) -> list[threading.Thread]:
        """None before they are needed."""
        return [*self._handshakes.threads, *self._delays.threads]

    def perform(self, command: Perform) -> None:
        """Have it done; what was asked for before and not begun is forgotten."""
        crew = self._delays if command.before_dial else self._handshakes
        crew.perform(command)

    def stop(self) -> None:
        """Nothing more will be asked for; what is being done may take its time."""
        self._handshakes.stop()
        self._delays.stop()

    def forget_threads(self) -> None:
        """They are not here, in a forked child."""
        self._handshakes.forget_threads()
        self._delays.forget_threads()


class _Crew:
    """Threads that do one kind of these things, ``most`` at once."""

    def __init__(self, hub: Hub, name: str, most: int) -> None:
        self._hub = hub
        self._name = name
        self._most = most
        self._changed = threading.Condition()
        self._wanted: Perform | None = None
        self._idle = 0
        """Threads that have nothing to do, or were only just started."""
        self._stopped = False
        self._warned: set[str] = set()
        self.threads: list[threading.Thread] = []
        """None before they are needed."""

    def perform(self, command: Perform) -> None:
        """Have it done; what was asked for before and not begun is forgotten."""
        with self._changed:
            self._wanted = command
            self._changed.notify()
            if self._idle or self._stopped or len(self.threads) >= self._most:
                return
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more threads: that attempt has failed, not the client
                self._wanted = None
                failure = error.with_traceback(None)
            else:
                self.threads.append(thread)
                self._idle += 1
                return
        hub = self._hub
        hub.call(lambda: hub.session.perform_failed(command, failure, now=monotonic()))
        hub.agenda.wakeup.set()  # this is the manager's thread, and it has more to do before it sleeps

    def stop(self) -> None:
        """Nothing more will be asked for; what is being done may take its time."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def forget_threads(self) -> None:
        """They are not here, in a forked child."""
        self.threads = []

    def _run(self) -> None:
        try:
            while (command := self._next()) is not None:
                self._answer(command)
                with self._changed:
                    self._idle += 1
        except BaseException as defect:
            self._hub.fail(defect)

    def _next(self) -> Perform | None:
        with self._changed:
            while self._wanted is None and not self._stopped:
                self._changed.wait()
            command, self._wanted = self._wanted, None
            self._idle -= 1
            return None if self._stopped else command

    def _answer(self, command: Perform) -> None:
        hub = self._hub
        try:
            result = perform(command.effect, self._warned)
        except BaseException as error:
            # The frames of what answers a server may hold a secret. Where a delay failed is told by the log.
            failure = error if command.before_dial else error.with_traceback(None)
            hub.call(lambda: hub.session.perform_failed(command, failure, now=monotonic()))
        else:
            hub.call(lambda: hub.session.performed(command, result, now=monotonic()))


def perform(effect: Effect, warned: set[str]) -> object:
    """Do it. Raises what the user's function or the operating system raises.

    ``warned``: the files that the client's user was warned about, which is done once for each.
    """
    match effect:
        case Call(function=function, arguments=arguments):
            from inspect import iscoroutine  # takes a while to load, and few handshakes call a function

            result = function(*arguments)
            if iscoroutine(result):
                result.close()  # the session says that it is of no use here
            return result
        case ReadFile(path=path, limit=limit):
            return _read(path, limit, warned)
        case _:
            assert_never(effect)


def _read(path: str, limit: int, warned: set[str]) -> bytes:
    with open(os.path.expanduser(os.path.expandvars(path)), "rb") as file:
        # Of the open file: its path may name another file a moment later.
        shared = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & (stat.S_IRGRP | stat.S_IROTH)
        if os.name == "posix" and shared and path not in warned:
            warned.add(path)
            logger.warning("others than its owner may read the credentials file %r", path)
        # One byte more than is allowed tells a file that is too large, however large it is, without reading all of it.
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"it has more than {limit} bytes")
    return content
