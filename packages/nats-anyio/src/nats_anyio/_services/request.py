"""A request, as the handler of an endpoint gets it."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from nats_proto import HeadersLike, cannot_respond
from nats_proto._services.errors import error_headers, error_text

from .._message import ReceivedMessage

__all__ = ["Answered", "Request"]

T = TypeVar("T")


class Answered(Protocol):
    """The endpoint of a request, as far as the request needs it."""

    def count_error(self, text: str) -> None:
        """It was answered with an error."""


# The garbage collector has to look at these (``gc=True``): the value may be anything, also what refers to the request.
class Request(ReceivedMessage, Generic[T], gc=True, eq=False):
    """A message for an endpoint of a service. It may be answered when the handler has returned as well, by any task.

    ``value`` is what the payload says: of the endpoint's ``request_type``, or the payload itself.
    """

    value: T = b""  # type: ignore[assignment]  # each request is made with its own
    origin: Answered | None = None
    answered: bool = False
    """Whether it was answered, well or not."""

    def __repr__(self) -> str:
        return f"Request(subject={self.subject!r}, reply={self.reply!r}, data={self.data!r})"

    async def respond(self, data: bytes | bytearray | memoryview = b"", *, headers: HeadersLike | None = None) -> None:
        """Answer; waits and raises as `Client.publish` does.

        Raises `NoReplySubjectError` when there is no reply subject, or no client: for a request that was unpickled.
        """
        reply, client = self.reply, self.client
        if reply is None or client is None:
            raise cannot_respond(self)
        await client.publish(reply, data, headers=headers)
        self.answered = True

    async def respond_error(
        self,
        code: int,
        description: str,
        data: bytes | bytearray | memoryview = b"",
        *,
        headers: HeadersLike | None = None,
    ) -> None:
        """Answer with an error (ADR-32), which is counted; to raise a `ServiceError` in the handler does the same.

        Raises as `respond`, and as `ServiceError` for a code or a description that cannot be one.
        """
        made = error_headers(code, description, headers)
        await self.respond(data, headers=made)
        if self.origin is not None:
            self.origin.count_error(error_text(code, description))
