"""`Consuming`: a consumer's messages, given to a handler one after another."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import TYPE_CHECKING

from .._engine.driver import Driver
from .background import LOOK, Background

if TYPE_CHECKING:
    from nats_proto._consuming.consume import Consume

    from .._engine.crew import Employer
    from .._message import ReceivedMessage
    from .message import JetStreamMessage
    from .messages import OnWarning

__all__ = ["Consuming", "MessageHandler"]

MessageHandler = Callable[["JetStreamMessage"], object]
"""What messages are given to: a function, or one that returns something to await."""


class Consuming(Background["Consume[ReceivedMessage, JetStreamMessage]", "JetStreamMessage"]):
    """A handler that gets the messages of a consumer, one at a time. Made by `Consumer.consume`; begins at once.

    The handler acknowledges. What it raises is logged, and the next message follows. It ends as `Messages` does, and by
    `stop`, `drain` and the end of the ``async with`` block, which waits for the handler to return.
    """

    def __init__(
        self,
        host: Employer[ReceivedMessage],
        make: Callable[[float], Consume[ReceivedMessage, JetStreamMessage]],
        handler: MessageHandler,
        what: str,
        on_warning: OnWarning | None,
    ) -> None:
        super().__init__(host, what, on_warning)
        self._make = make
        self._handler = handler
        self._start()

    def __repr__(self) -> str:
        return f"<nats_anyio.Consuming {self._what}>"

    async def _make_machine(self) -> Consume[ReceivedMessage, JetStreamMessage]:
        return self._make(self._host.now())

    def _make_driver(
        self, machine: Consume[ReceivedMessage, JetStreamMessage]
    ) -> Driver[ReceivedMessage, JetStreamMessage]:
        return Driver(self._holding, machine)

    async def _read(
        self,
        driver: Driver[ReceivedMessage, JetStreamMessage],
        machine: Consume[ReceivedMessage, JetStreamMessage],
    ) -> None:
        handler, now = self._handler, self._host.now
        while True:
            message = await driver.next_until(now() + LOOK)
            if machine.warnings:
                self._warn()
            if message is None:
                if machine.done or self._stopping:
                    return
                continue
            try:
                result = handler(message)
                if result is not None and isawaitable(result):
                    await result
            except Exception as error:
                self._host.log_failure(f"{self._what}: the handler raised", error)
