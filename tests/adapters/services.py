"""Services of the client under test, so that a test is written once and runs on three legs; as `jetstream.py` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from tests.adapters.legs import PATIENCE, ThreadsClient
from tests.jetstream.legs import _plain, _wrapped

__all__ = ["add_service", "found", "found_all", "services"]


def add_service(client: Any, name: str = "orders", version: str = "1.2.0", **options: Any) -> Any:
    """``client.add_service(...)``, whose methods are awaited on every leg."""
    if isinstance(client, ThreadsClient):
        plain = {key: _plain(value, client._call) for key, value in options.items()}
        return _wrapped(client.client.add_service(name, version, **plain), client._call)
    return client.add_service(name, version, **options)


def services(client: Any, *args: Any, **options: Any) -> Any:
    """``client.services(...)``, whose answers are iterated over with ``async for`` on every leg.

    The first answer may be late, as on a busy machine. One instance that is named by its id has only that one.
    """
    options = {"timeout": PATIENCE, **options}
    if isinstance(client, ThreadsClient):
        return _wrapped(client.client.services(*args, **options), client._call)
    return client.services(*args, **options)


async def found(answers: Any) -> list[Any]:
    """The instances that answer."""
    return [answer async for answer in answers]


async def found_all(ask: Callable[[], Any], ids: set[str]) -> list[Any]:
    """The same, asked again while one of these is missing: on a busy machine an answer may be late."""
    with anyio.fail_after(PATIENCE):
        while True:
            answers = await found(ask())
            if {one.id for one in answers} >= ids:
                return answers
