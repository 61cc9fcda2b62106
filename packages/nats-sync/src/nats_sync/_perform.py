"""The thread that does what a handshake needs from outside: calls the user's functions, reads the user's files.

Such a call may block for ever, so it has a thread of its own, started when the first is needed and kept. It does one
thing at a time, and always the last that was asked for: the attempt that asked for an earlier one is over.
"""

from __future__ import annotations

import inspect
import logging
import os
import stat
import threading
from time import monotonic
from typing import TYPE_CHECKING, assert_never

from nats_proto import Call, Effect, Perform, ReadFile

if TYPE_CHECKING:
    from ._pump import Pump

__all__ = ["Performer"]

logger = logging.getLogger("nats_sync")


class Performer:
    """Belongs to one client. ``perform`` is called by the reader, ``stop`` at the end."""

    def __init__(self, pump: Pump, name: str) -> None:
        self._pump = pump
        self._name = f"{name}-credentials"
        self._changed = threading.Condition()
        self._wanted: Perform | None = None
        self._stopped = False
        self.threads: list[threading.Thread] = []
        """The one, if it was ever needed."""

    def perform(self, command: Perform) -> None:
        """Have it done; what was asked for before and not begun is forgotten."""
        with self._changed:
            self._wanted = command
            self._changed.notify()
            if not self.threads and not self._stopped:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self.threads.append(thread)

    def stop(self) -> None:
        """Nothing more will be asked for; what is being done may take its time."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def forget_parent(self) -> None:
        """In a forked child: the thread is not here."""
        self.threads = []

    def _run(self) -> None:
        while (command := self._next()) is not None:
            self._answer(command)

    def _next(self) -> Perform | None:
        with self._changed:
            while self._wanted is None and not self._stopped:
                self._changed.wait()
            command, self._wanted = self._wanted, None
            return None if self._stopped else command

    def _answer(self, command: Perform) -> None:
        pump = self._pump
        try:
            result = perform(command.effect)
        except BaseException as error:
            failure = error.with_traceback(None)  # its frames may hold a secret
            pump.call(lambda: pump.session.perform_failed(command, failure, now=monotonic()))
        else:
            pump.call(lambda: pump.session.performed(command, result, now=monotonic()))


def perform(effect: Effect) -> object:
    """Do it. Raises what the user's function or the operating system raises."""
    match effect:
        case Call(function=function, arguments=arguments):
            result = function(*arguments)
            if inspect.iscoroutine(result):
                result.close()  # the session says that it is of no use here
            return result
        case ReadFile(path=path, limit=limit):
            return _read(path, limit)
        case _:
            assert_never(effect)


def _read(path: str, limit: int) -> bytes:
    with open(os.path.expanduser(os.path.expandvars(path)), "rb") as file:
        status = os.fstat(file.fileno())
        if os.name == "posix" and stat.S_IMODE(status.st_mode) & (stat.S_IRGRP | stat.S_IROTH):
            logger.warning("others than its owner may read the credentials file %r", path)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"it has more than {limit} bytes")
    return content
