"""Does what a connection needs from outside: calls the user's functions, reads the user's files.

An ``async`` function is awaited here. Any other may block, so it is called in a thread of its own, and when it returns
an awaitable, that is awaited here. Whoever is cancelled meanwhile leaves the thread to itself.

``reconnect_delay`` has a thread of its own kind, and only one: the client can do without, so a call that hangs is not
followed by another, and takes no thread from what says who we are.
"""

from __future__ import annotations

import inspect
import logging
import os
import stat
from functools import partial
from typing import assert_never

from nats_proto import Call, Perform, ReadFile

from .event_loop import EventLoop
from .worker_threads import WorkerThreads

__all__ = ["Performer"]

logger = logging.getLogger("nats_anyio")


class Performer:
    """Belongs to one client."""

    def __init__(self, loop: EventLoop) -> None:
        self._handshakes = WorkerThreads(loop, "nats-credentials")
        self._delays = WorkerThreads(loop, "nats-delay", most=1)
        self._warned: set[str] = set()
        """The files that the user was warned about."""

    async def perform(self, command: Perform) -> object:
        """Do it. Raises what the user's function or the operating system raises."""
        threads = self._delays if command.before_dial else self._handshakes
        match command.effect:
            case Call(function=function, arguments=arguments):
                if inspect.iscoroutinefunction(function):
                    return await function(*arguments)
                result = await threads.run(partial(function, *arguments))
                return await result if inspect.isawaitable(result) else result
            case ReadFile(path=path, limit=limit):
                return await threads.run(partial(_read, path, limit, self._warned))
            case _:
                assert_never(command.effect)


def _read(path: str, limit: int, warned: set[str]) -> bytes:
    with open(os.path.expanduser(os.path.expandvars(path)), "rb") as file:
        # Of the file that is open: at its path there may be another one by now.
        shared = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & (stat.S_IRGRP | stat.S_IROTH)
        # Windows makes up the bits of the group and of others, so they say nothing there.
        if os.name == "posix" and shared and path not in warned:
            warned.add(path)
            logger.warning("others than its owner may read the credentials file %r", path)
        # One byte beyond the limit tells a file that is too long; the whole is not read, since it may be without end.
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"it has more than {limit} bytes")
    return content
