"""How the handles of JetStream ask the servers: one client, one API, one driver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Generic, TypeVar

from .._engine.driver import run

if TYPE_CHECKING:
    from nats_proto import Operation
    from nats_proto._jetstream.api import JetStreamApi
    from nats_proto._jetstream.pages import Pages

    from .._engine.crew import Employer
    from .._message import ReceivedMessage
    from .message import Acknowledger

__all__ = ["Caller", "Listing"]

T = TypeVar("T")


class Caller:
    """What all handles that come from one `JetStream` share."""

    __slots__ = ("api", "client", "host")

    def __init__(self, client: Acknowledger, host: Employer[ReceivedMessage], api: JetStreamApi) -> None:
        self.client = client
        self.host = host
        self.api = api

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end."""
        return await run(self.host, operation, timeout=self.api.timeout)


class Listing(Generic[T]):
    """An iterator over a list that is asked for page by page, the first page with the first item."""

    __slots__ = ("_caller", "_items", "_pages", "_timeout")

    def __init__(self, caller: Caller, pages: Pages[T], timeout: float | None) -> None:
        self._caller = caller
        self._pages = pages
        self._timeout = timeout
        self._items: list[T] = []

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._pages.done:
                raise StopAsyncIteration
            self._items = await self._caller.run(self._pages.next_page(self._timeout))
            self._items.reverse()
        return self._items.pop()
