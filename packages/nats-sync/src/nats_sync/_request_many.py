"""One request, several answers (ADR-47)."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Self

from nats_proto import HeadersLike, RequestMany

from ._message import Message

if TYPE_CHECKING:
    from ._client import Client
    from ._subscription import Subscription

__all__ = ["Answers"]


class Answers:
    """The answers to one `Client.request_many`, each as it comes. The request leaves when the first is asked for.

    Its inbox goes with the end of the iteration, with `close`, with the ``with`` block, or soon after nobody holds
    the iterator any more, as after a ``break``. For one thread at a time.
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
        self._inbox: Subscription | None = None
        collection(0.0)  # raises for limits that make no sense, now and not at the first answer
        self._client = client
        self._subject = subject
        self._data = data
        self._headers = headers
        self._make_collection = collection
        self._collection: RequestMany[Message] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """The next answer.

        Raises `NoRespondersError` when nobody listens, `NATSTimeoutError` when there was no room for the request in the
        outgoing buffer until its time was up, `ConnectionClosedError`, whatever ``publish`` raises for the
        request, and whatever ``sentinel`` raises.
        """
        try:
            message = self._next()
        except Exception:
            self.close()
            raise
        if message is None:
            self.close()
            raise StopIteration
        return message

    def close(self) -> None:
        """End it early."""
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            inbox.unsubscribe()

    def _next(self) -> Message | None:
        collection = self._collection
        if collection is None:
            now = monotonic()
            collection = self._collection = self._make_collection(now)
            inbox = self._client.new_inbox()
            self._inbox = self._client.subscribe(inbox)
            deadline = collection.deadline
            if not self._client.publish_now(
                self._subject, self._data, reply=inbox, headers=self._headers, deadline=deadline
            ):
                raise self._client.unsent(f"request_many to {self._subject!r}", deadline - now)
        while not collection.done and self._inbox is not None:
            message = self._inbox.next_until(collection.deadline)
            if message is None:
                return None
            if collection.receive(message, now=monotonic()):
                return message
        return None
