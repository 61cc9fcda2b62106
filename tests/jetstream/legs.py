"""JetStream of the client under test, so that a test is written once and runs on three legs.

On asyncio and trio it is that of `nats_anyio` itself. On threads it is `Twin`s of what `nats_sync` has: each is called
as its namesake of `nats_anyio` is, and what is awaited, iterated or entered there blocks in a worker thread here.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from tests.adapters.legs import ThreadsClient, _Caller, _run_here

__all__ = ["TIMEOUT", "Twin", "jetstream"]

TIMEOUT: Final = 20.0
"""Seconds for each call that says nothing else. The five of a user are less than a machine with too much to do may
stand still, and less than an election takes."""
_END: Final = object()


def jetstream(client: Any, **options: Any) -> Any:
    """``client.jetstream(**options)``, whose methods are awaited on every leg; it is patient by default."""
    options.setdefault("timeout", TIMEOUT)
    if isinstance(client, ThreadsClient):
        return _wrapped(client.client.jetstream(**options), client._call)
    return client.jetstream(**options)


class Twin:
    """An object of `nats_sync`, as its namesake in `nats_anyio` would be."""

    def __init__(self, thing: Any, namesake: type, call: _Caller) -> None:
        self.thing = thing
        self._namesake = namesake
        self._call = call
        self._iterator: Any = None

    def __repr__(self) -> str:
        return repr(self.thing)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.thing, name)
        if not inspect.ismethod(value):
            return _wrapped(value, self._call)
        if inspect.iscoroutinefunction(getattr(self._namesake, name)):
            return self._awaited(value)
        return lambda *args, **kwargs: _wrapped(value(*self._plain(args), **self._plain_fields(kwargs)), self._call)

    def _awaited(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return _wrapped(
                await self._call(method, *self._plain(args), **self._plain_fields(kwargs)),
                self._call,
            )

        return call

    def _plain(self, args: tuple[Any, ...]) -> list[Any]:
        return [_plain(arg, self._call) for arg in args]

    def _plain_fields(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {name: _plain(value, self._call) for name, value in kwargs.items()}

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self.thing)
        item = await self._call(next, self._iterator, _END)
        if item is _END:
            raise StopAsyncIteration
        return _wrapped(item, self._call)

    async def __aenter__(self) -> Any:
        return _wrapped(await self._call(self.thing.__enter__), self._call)

    async def __aexit__(self, *exc: Any) -> Any:
        return await self._call(self.thing.__exit__, *exc)


def _wrapped(value: Any, call: _Caller) -> Any:
    """Values are the same on every leg; what can block is wrapped."""
    kind = type(value)
    if kind.__module__.startswith("nats_sync.") and (namesake := _namesake(kind)) is not None:
        return Twin(value, namesake, call)
    return value


def _namesake(kind: type) -> type | None:
    module = importlib.import_module(kind.__module__.replace("nats_sync", "nats_anyio", 1))
    found = getattr(module, kind.__qualname__, None)
    return found if isinstance(found, type) else None


def _plain(value: Any, call: _Caller) -> Any:
    """What a test passes: a twin stands for its thing, and a callback of a test is run in the thread that calls it."""
    if isinstance(value, Twin):
        return value.thing
    if inspect.iscoroutinefunction(value):
        return lambda *args: _run_here(value(*(_wrapped(arg, call) for arg in args)))
    return value
