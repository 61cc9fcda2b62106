"""Does what a handshake needs from outside: calls the user's functions, reads the user's files.

An ``async`` function is awaited here. Any other may block, so it is called in a worker thread, and when it returns an
awaitable, that is awaited here. Whoever is cancelled meanwhile leaves the thread to itself.
"""

from __future__ import annotations

import inspect
import logging
import os
import stat
from typing import assert_never

from anyio import to_thread

from nats_proto import Call, Effect, ReadFile

__all__ = ["perform"]

logger = logging.getLogger("nats_anyio")


async def perform(effect: Effect) -> object:
    """Do it. Raises what the user's function or the operating system raises."""
    match effect:
        case Call(function=function, arguments=arguments):
            if inspect.iscoroutinefunction(function):
                return await function(*arguments)
            result = await to_thread.run_sync(function, *arguments, abandon_on_cancel=True)
            return await result if inspect.isawaitable(result) else result
        case ReadFile(path=path, limit=limit):
            return await to_thread.run_sync(_read, path, limit, abandon_on_cancel=True)
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
