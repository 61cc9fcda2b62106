"""One request, several answers (ADR-47)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel

from nats_proto import HeadersLike, RequestMany

from ._message import Message

if TYPE_CHECKING:
    from ._client import Client
    from ._subscription import Subscription

__all__ = ["Answers"]


class Answers:
    """The answers to one `Client.request_many`, each as it comes. The request leaves when the first is asked for.

    Its inbox goes with the end of the iteration, also when that is an error or a cancellation, with `aclose`, with the
    ``async with`` block, or, soon after, when nobody holds the iterator any more, as after a ``break``.
    """

    def __init__(
        self,
        client: Client,
        subject: str,
        data: bytes | bytearray | memoryview,
        *,
        headers: HeadersLike | None,
        collection: Callable[[float], RequestMany[Message]],
    ) -> None:
        collection(0.0)  # raises for limits that make no sense, now and not at the first answer
        self._client = client
        self._subject = subject
        self._data = data
        self._headers = headers
        self._make_collection = collection
        self._collection: RequestMany[Message] | None = None
        self._inbox: Subscription | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """The next answer.

        Raises `NoRespondersError` when nobody listens, `NATSTimeoutError` when there was no room for the request in the
        outgoing buffer until its time was up, `ConnectionClosedError`, whatever ``publish`` raises for the
        request, and whatever ``sentinel`` raises.
        """
        try:
            message = await self._next()
        except BaseException:
            await self._close()
            raise
        if message is None:
            await self._close()
            raise StopAsyncIteration
        return message

    async def aclose(self) -> None:
        """End it early."""
        await self._close()
        await anyio.lowlevel.cancel_shielded_checkpoint()

    async def _next(self) -> Message | None:
        collection = self._collection
        if collection is None:
            now = anyio.current_time()
            collection = self._collection = self._make_collection(now)
            await self._ask(now, collection.deadline)
        while not collection.done and self._inbox is not None:
            message = await self._inbox.next_until(collection.deadline)
            if message is None:
                return None
            if collection.receive(message, now=anyio.current_time()):
                return message
        return None

    async def _ask(self, now: float, deadline: float) -> None:
        inbox = self._client.new_inbox()
        self._inbox = self._client.subscribe(inbox)
        with anyio.CancelScope(deadline=deadline) as waiting:
            await self._client.publish_now(self._subject, self._data, reply=inbox, headers=self._headers)
        if waiting.cancelled_caught:
            raise self._client.unsent(f"request_many to {self._subject!r}", deadline - now)

    async def _close(self) -> None:
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            await inbox.unsubscribe()  # which cannot be cancelled
