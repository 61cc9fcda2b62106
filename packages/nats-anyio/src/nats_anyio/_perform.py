"""Does what a handshake needs from outside: calls the user's functions, reads the user's files.

An ``async`` function is awaited here. Any other may block, so it is called in a worker thread, and when it returns an
awaitable, that is awaited here. Whoever is cancelled meanwhile leaves the thread to itself.
"""

from __future__ import annotations

import inspect
import logging
import os
import stat
from collections.abc import Callable
from typing import Final, assert_never

import anyio
from anyio import CapacityLimiter, to_thread

from nats_proto import Call, Effect, ReadFile

__all__ = ["Performer"]

logger = logging.getLogger("nats_anyio")


MAX_THREADS: Final = 4
"""Calls of one client that may hang at once. When all do, attempts fail until one returns; the threads that the rest of
the program shares are not used up."""


class Performer:
    """Belongs to one client."""

    def __init__(self) -> None:
        self._calls: set[object] = set()
        """Those on their way in threads."""
        self._warned: set[str] = set()
        """The files that the user was warned about."""

    async def perform(self, effect: Effect) -> object:
        """Do it. Raises what the user's function or the operating system raises."""
        match effect:
            case Call(function=function, arguments=arguments):
                if inspect.iscoroutinefunction(function):
                    return await function(*arguments)
                result = await self._in_thread(function, *arguments)
                return await result if inspect.isawaitable(result) else result
            case ReadFile(path=path, limit=limit):
                return await self._in_thread(_read, path, limit, self._warned)
            case _:
                assert_never(effect)

    async def _in_thread(self, function: Callable[..., object], *arguments: object) -> object:
        if len(self._calls) >= MAX_THREADS:
            await anyio.sleep_forever()  # until the attempt's time is up
        return await to_thread.run_sync(
            self._call, function, arguments, abandon_on_cancel=True, limiter=CapacityLimiter(1)
        )

    def _call(self, function: Callable[..., object], arguments: tuple[object, ...]) -> object:
        """In a thread, which is left to itself when nobody waits for the result any more."""
        call = object()
        self._calls.add(call)
        try:
            return function(*arguments)
        finally:
            self._calls.discard(call)


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
