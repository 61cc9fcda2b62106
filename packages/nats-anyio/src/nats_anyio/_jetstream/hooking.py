"""The hooks of a user, called for one `JetStream`: for messages of readers, and by a publisher of its own.

Where there are no hooks nothing of this is made, and readers and publishers are what they are without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Unpack

from nats_proto import HeadersLike, Payload
from nats_proto._consuming.hooks import HookCalls

from .message import JetStreamMessage
from .publisher import PendingAck, Publisher

if TYPE_CHECKING:
    from nats_proto._consuming.hooks import Settlement
    from nats_proto._json.durations import DurationLike
    from nats_proto._publishing.headers import PublishOptions

    from .._message import ReceivedMessage

__all__ = ["HookedPublisher", "Hooking"]


class Hooking(HookCalls[JetStreamMessage]):
    """Calls the hooks, also by the messages that it makes."""

    __slots__ = ()

    def making(
        self, make: Callable[[ReceivedMessage, float], JetStreamMessage]
    ) -> Callable[[ReceivedMessage, float], JetStreamMessage]:
        """What makes the messages of a reader, whose hooks are called."""
        if self.hooks.received is None and self.hooks.settled is None:
            return make

        def made(message: ReceivedMessage, now: float) -> JetStreamMessage:
            plain = make(message, now)
            hooked = HookedMessage(
                plain.subject,
                plain.sid,
                plain.reply,
                plain.data,
                plain.header_block,
                plain.parsed,
                plain.client,
                plain.writer,
                plain.delivery,
                plain.received,
                hooking=self,
            )
            self.received(hooked)
            return hooked

        return made


# The garbage collector has to look at these: a hook may refer to messages.
class HookedMessage(JetStreamMessage, gc=True, eq=False):
    """A message whose settlement is told."""

    hooking: Hooking | None = None

    async def ack(self) -> None:
        """As `JetStreamMessage.ack`."""
        await super().ack()
        self._tell("ack")

    async def ack_sync(self, timeout: float = 5.0) -> None:
        """As `JetStreamMessage.ack_sync`."""
        await super().ack_sync(timeout)
        self._tell("ack")

    async def nak(self, delay: DurationLike | None = None) -> None:
        """As `JetStreamMessage.nak`."""
        await super().nak(delay)
        self._tell("nak")

    async def term(self, reason: str | None = None) -> None:
        """As `JetStreamMessage.term`."""
        await super().term(reason)
        self._tell("term")

    def _tell(self, how: Settlement) -> None:
        if self.settled and self.hooking is not None:  # it is never settled where nothing is acknowledged
            self.hooking.settled(self, how)


class HookedPublisher(Publisher):
    """A publisher that asks the user's hook for the headers of each message."""

    hooking: Hooking | None = None

    async def publish(
        self,
        subject: str,
        data: Payload = b"",
        *,
        headers: HeadersLike | None = None,
        timeout: float | None = None,
        **options: Unpack[PublishOptions],
    ) -> PendingAck:
        """As `Publisher.publish`."""
        if self.hooking is not None:
            headers = self.hooking.hooks.headers_for(subject, headers)
        return await super().publish(subject, data, headers=headers, timeout=timeout, **options)

    async def publish_many(
        self, subject: str, payloads: Iterable[Payload], *, timeout: float | None = None
    ) -> list[PendingAck]:
        """As `Publisher.publish_many`."""
        return [await self.publish(subject, payload, timeout=timeout) for payload in payloads]
