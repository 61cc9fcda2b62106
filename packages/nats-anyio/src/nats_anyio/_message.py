"""A received message that knows its client, so that it can be answered."""

from __future__ import annotations

from typing import Protocol, TypeVar

import nats_proto
from nats_proto import HeadersLike, cannot_respond

__all__ = ["Publisher", "ReceivedMessage", "ReceivedT"]


class Publisher(Protocol):
    """A client, of which this is all that is needed here. So this module and those above it need not know `Client`."""

    async def publish(
        self, subject: str, data: bytes | bytearray | memoryview = b"", *, headers: HeadersLike | None = None
    ) -> None:
        """As `Client.publish`."""


# The garbage collector need not look at messages (``gc=False``): a message that a client still holds does not hold its
# client yet, so the two are never a cycle.
class ReceivedMessage(nats_proto.Message, gc=False, eq=False):
    """What `Message` is, but for the type of its client."""

    client: Publisher | None = None
    """The client it came to. Set when the message is given to the user, not before: a queue holds no reference back."""

    def __repr__(self) -> str:
        return f"Message(subject={self.subject!r}, sid={self.sid}, reply={self.reply!r}, data={self.data!r})"

    async def respond(self, data: bytes | bytearray | memoryview = b"", *, headers: HeadersLike | None = None) -> None:
        """Publish to the message's reply subject; waits and raises as `Client.publish` does.

        Raises `NoReplySubjectError` when there is none, or no client: for a message that was unpickled or made by hand.
        """
        if self.reply is None or self.client is None:
            raise cannot_respond(self)
        await self.client.publish(self.reply, data, headers=headers)


ReceivedT = TypeVar("ReceivedT", bound=ReceivedMessage)
"""The class of a client's messages."""
