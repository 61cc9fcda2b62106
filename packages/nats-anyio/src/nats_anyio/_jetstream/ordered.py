"""`OrderedConsumer`: the messages of a stream in order, without a hole and without a double."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self

import anyio.lowlevel

from nats_proto import check_count, check_timeout
from nats_proto._consuming.ordered import Ordered
from nats_proto._jetstream.acknowledge import Delivery

from .leaving import Leaving
from .message import JetStreamMessage
from .reading import OnWarning, Reading, message_maker

if TYPE_CHECKING:
    from nats_proto._consuming.options import ConsumeOptions
    from nats_proto._consuming.ordered_calls import OrderedCalls
    from nats_proto._consuming.warning import ConsumerWarning

    from .._message import ReceivedMessage
    from .caller import Caller

__all__ = ["OrderedBatch", "OrderedConsumer", "OrderedMessages"]


class OrderedMessages(Reading["Ordered[ReceivedMessage, JetStreamMessage]"]):
    """The messages of an ordered consumer, one after another, for as long as the program likes.

    It ends with `stop`, with the ``async with`` block, and when the client is closed by its user. What passes by itself
    does not end it: it is told in `warnings`, in the log, and to ``on_warning``, which is called by whoever reads. The
    iteration raises `StreamNotFoundError` and `ConsumerDeletedError` when the stream is gone, `PermissionsError`,
    `ApiError` for what the server refuses, `JetStreamNotEnabledError` when the first consumer cannot be made in the
    time of a call, `ConnectionClosedError`, and what ``on_warning`` raises. For any number of tasks: each message goes
    to one of them.
    """

    def __init__(
        self,
        caller: Caller,
        calls: OrderedCalls,
        options: ConsumeOptions,
        max_attempts: int | None,
        after: int | None,
        on_warning: OnWarning | None,
    ) -> None:
        self._host = caller.host
        self._leaving = Leaving(self._host)
        self._stopped = False
        make = caller.making(
            message_maker(caller, Delivery(stream=calls.stream, consumer=calls.name(1), acknowledged=False))
        )

        def machine(now: float) -> Ordered[ReceivedMessage, JetStreamMessage]:
            return Ordered(calls, options, make=make, now=now, after=after, max_attempts=max_attempts)

        super().__init__(self._host, machine, caller.warned(on_warning))
        self._account = self._machine.account

    @property
    def sequence(self) -> int:
        """The stream's sequence of the last message that was given; 0 before the first."""
        return self._machine.sequence

    @property
    def pending(self) -> int | None:
        """Messages that were behind the last one when it was delivered; None when that is not known."""
        return self._machine.pending

    @property
    def ended(self) -> bool:
        """It was stopped, or has ended with an error."""
        return self._stopped or self._machine.done

    def stop(self) -> None:
        """End it, by any task: whoever waits for a message is told that there is none, and nothing is waited for.

        The consumer on the server is deleted. May be called again.
        """
        self._stopped = True
        super().stop()
        self._leaving.forget(self._machine.leave())

    def _look_around(self, message: JetStreamMessage | None) -> None:
        if message is None and self.ended:
            # Also what was being made while another task has stopped it.
            self._leaving.forget(self._machine.leave())
        super()._look_around(message)


class OrderedConsumer:
    """Reads a stream in order, whatever becomes of the servers. Made by `Stream.ordered_consumer`; costs no request.

    All ways to read share one place in the stream, and one consumer of the server. It is made with the first message,
    and deleted by `stop`, by the end of the ``async with`` block, and by `OrderedMessages.stop`. Reading again goes
    on behind the last message, with another one. For one task at a time, but for `stop`.
    """

    def __init__(
        self,
        caller: Caller,
        calls: OrderedCalls,
        options: ConsumeOptions,
        max_attempts: int | None,
        on_warning: OnWarning | None,
    ) -> None:
        self._caller = caller
        self._calls = calls
        self._options = options
        self._max_attempts = max_attempts
        self._on_warning = on_warning
        self._messages: OrderedMessages | None = None

    def __repr__(self) -> str:
        return f"<nats_anyio.OrderedConsumer of stream {self._calls.stream!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()
        await anyio.lowlevel.cancel_shielded_checkpoint()

    @property
    def stream_name(self) -> str:
        """The name of its stream."""
        return self._calls.stream

    @property
    def sequence(self) -> int:
        """The stream's sequence of the last message that was given; 0 before the first."""
        return 0 if self._messages is None else self._messages.sequence

    @property
    def pending(self) -> int | None:
        """Messages that were behind the last one when it was delivered; None when that is not known."""
        return None if self._messages is None else self._messages.pending

    @property
    def warnings(self) -> list[ConsumerWarning]:
        """What it has survived since it was last begun, the newest last; the last hundred are kept."""
        return [] if self._messages is None else self._messages.warnings

    def messages(self) -> OrderedMessages:
        """Messages without end. What `next` and `fetch` have left of those that were asked for ahead comes first."""
        messages = self._messages
        if messages is None or messages.ended:
            after = None if messages is None else messages.sequence
            messages = self._messages = OrderedMessages(
                self._caller, self._calls.renewed(), self._options, self._max_attempts, after or None, self._on_warning
            )
        return messages

    async def next(self, timeout: float = 5.0) -> JetStreamMessage | None:
        """The next message; None when there was none for ``timeout`` seconds. Raises as `OrderedMessages` does.

        Many calls cost no more requests than an iteration: messages are asked for ahead.
        """
        return await self.messages().next(timeout)

    def fetch(self, max_messages: int, *, timeout: float = 5.0) -> OrderedBatch:
        """Up to so many messages, each as it comes, for ``timeout`` seconds in all.

        It asks for nothing of its own: what was asked for ahead and is not taken is there for the next call. Raises
        `ValueError` and `TypeError`.
        """
        count = check_count("max_messages", max_messages)
        return OrderedBatch(self.messages(), count, check_timeout("timeout", timeout), self._caller.host.now)

    def stop(self) -> None:
        """End it, by any task: whoever waits for a message is told that there is none, and nothing is waited for.

        The consumer on the server is deleted. May be called again.
        """
        if self._messages is not None:
            self._messages.stop()


class OrderedBatch:
    """Some messages of an ordered consumer, each as it comes. Its time begins when the first is asked for."""

    def __init__(self, messages: OrderedMessages, left: int, timeout: float, now: Callable[[], float]) -> None:
        self._messages = messages
        self._left = left
        self._timeout = timeout
        self._now = now
        self._deadline: float | None = None
        self._reason: Literal["limit", "expired"] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JetStreamMessage:
        """The next message. Raises as `OrderedMessages` does."""
        if self._reason is None and not self._left:
            self._reason = "limit"
        if self._reason is not None:
            raise StopAsyncIteration
        if self._deadline is None:
            self._deadline = self._now() + self._timeout
        message = await self._messages.next(self._deadline - self._now())
        if message is None:
            self._reason = "expired"
            raise StopAsyncIteration
        self._left -= 1
        return message

    @property
    def reason(self) -> Literal["limit", "expired"] | None:
        """Why it has ended: it has all messages that it asked for, or its time was up. None before its end."""
        return self._reason
