"""One request, several answers (ADR-47)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, Self

import anyio
import anyio.lowlevel

from nats_proto import HeadersLike, RequestMany
from nats_proto.errors import NATSTimeoutError

from ._message import ReceivedT
from ._subscription import SubscriptionBase

__all__ = ["AnswersBase"]


class Asking(Protocol[ReceivedT]):
    """A client, of which this is all that is needed here."""

    def new_inbox(self) -> str:
        """As `Client.new_inbox`."""
        ...

    def subscribe(self, subject: str) -> SubscriptionBase[ReceivedT]:
        """As `Client.subscribe`."""
        ...

    async def publish_now(
        self,
        subject: str,
        data: bytes | bytearray | memoryview = b"",
        *,
        reply: str | None = None,
        headers: HeadersLike | None = None,
    ) -> None:
        """As `Client.publish_now`."""

    def unsent(self, operation: str, seconds: float) -> NATSTimeoutError:
        """As `Client.unsent`."""
        ...


class AnswersBase(Generic[ReceivedT]):
    """What `Answers` is, for messages of any class."""

    def __init__(
        self,
        client: Asking[ReceivedT],
        subject: str,
        data: bytes | bytearray | memoryview,
        *,
        headers: HeadersLike | None,
        collection: Callable[[float], RequestMany[ReceivedT]],
    ) -> None:
        collection(0.0)  # raises for limits that make no sense, now and not at the first answer
        self._client = client
        self._subject = subject
        self._data = data
        self._headers = headers
        self._make_collection = collection
        self._collection: RequestMany[ReceivedT] | None = None
        self._inbox: SubscriptionBase[ReceivedT] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedT:
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

    async def _next(self) -> ReceivedT | None:
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
