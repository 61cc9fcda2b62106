"""Does what a handshake needs from outside: calls the user's functions, reads the user's files.

An ``async`` function is awaited here. Any other may block, so it is called in a thread of its own, and when it returns
an awaitable, that is awaited here. Whoever is cancelled meanwhile leaves the thread to itself.
"""

from __future__ import annotations

import inspect
import logging
import os
import stat
from functools import partial
from typing import assert_never

from nats_proto import Call, Effect, ReadFile

from .worker_threads import WorkerThreads

__all__ = ["Performer"]

logger = logging.getLogger("nats_anyio")


class Performer:
    """Belongs to one client."""

    def __init__(self, threads: WorkerThreads) -> None:
        self._threads = threads
        self._warned: set[str] = set()
        """The files that the user was warned about."""

    async def perform(self, effect: Effect) -> object:
        """Do it. Raises what the user's function or the operating system raises."""
        match effect:
            case Call(function=function, arguments=arguments):
                if inspect.iscoroutinefunction(function):
                    return await function(*arguments)
                result = await self._threads.run(partial(function, *arguments))
                return await result if inspect.isawaitable(result) else result
            case ReadFile(path=path, limit=limit):
                return await self._threads.run(partial(_read, path, limit, self._warned))
            case _:
                assert_never(effect)


def _read(path: str, limit: int, warned: set[str]) -> bytes:
    with open(os.path.expanduser(os.path.expandvars(path)), "rb") as file:
        shared = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & (stat.S_IRGRP | stat.S_IROTH)
        if os.name == "posix" and shared and path not in warned:
            warned.add(path)
            logger.warning("others than its owner may read the credentials file %r", path)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"it has more than {limit} bytes")
    return content
