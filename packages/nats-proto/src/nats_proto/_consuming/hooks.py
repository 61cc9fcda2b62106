"""Functions of a user that see what is published to streams, read from consumers and acknowledged.

They are for what concerns a whole program, such as the context of a trace or counters: each message goes by them, and
no call need be wrapped. A `JetStream` without hooks, and a hook that is not given, cost nothing: what calls them is
made only where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from .._callables import check_hook
from .._value import Value
from .._wire.frames import Message
from .._wire.headers import Headers, HeadersLike
from .warning import ConsumerWarning

__all__ = ["HookCalls", "Hooks", "Settlement"]

MessageT = TypeVar("MessageT", bound=Message)

Settlement = Literal["ack", "nak", "term"]
"""How a message was settled, by its reader or by ``work``."""


class Hooks(Value, Generic[MessageT], frozen=True, kw_only=True):
    """Plain functions that a `JetStream` calls, each with what it is about. They are not awaited, and must not block.

    ``publish``: before a message is published, with its subject and headers; what it returns are the headers that are
    sent. Another try of the same publish has the same. What it raises comes out of the call, and nothing was sent.
    ``received``: when a message is given to its reader, redelivered ones too. ``settled``: when a message was
    acknowledged, refused or ended, as far as the outgoing buffer. ``warned``: what any reader has survived. What these
    three raise is logged, and changes nothing.

    Raises `TypeError` for what cannot be called, and for async and generator functions.
    """

    publish: Callable[[str, Headers | None], HeadersLike | None] | None = None
    received: Callable[[MessageT], object] | None = None
    settled: Callable[[MessageT, Settlement], object] | None = None
    warned: Callable[[ConsumerWarning], object] | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            check_hook(f"hooks: {name}", getattr(self, name))

    def headers_for(self, subject: str, headers: HeadersLike | None) -> HeadersLike | None:
        """The headers with which a message is to be published."""
        if self.publish is None:
            return headers
        return self.publish(subject, None if headers is None else Headers(headers))


class HookCalls(Generic[MessageT]):
    """Calls the hooks that are only told something. What they raise is given to ``log_failure``, with where it was."""

    __slots__ = ("_log_failure", "hooks")

    def __init__(self, hooks: Hooks[MessageT], log_failure: Callable[[str, Exception], None]) -> None:
        self.hooks = hooks
        self._log_failure = log_failure

    def received(self, message: MessageT) -> None:
        """A reader is given this."""
        if self.hooks.received is not None:
            try:
                self.hooks.received(message)
            except Exception as error:
                self._log_failure("the hook 'received' raised", error)

    def settled(self, message: MessageT, how: Settlement) -> None:
        """A message is settled."""
        if self.hooks.settled is not None:
            try:
                self.hooks.settled(message, how)
            except Exception as error:
                self._log_failure("the hook 'settled' raised", error)

    def warned(self, warning: ConsumerWarning) -> None:
        """A reader has survived this."""
        if self.hooks.warned is not None:
            try:
                self.hooks.warned(warning)
            except Exception as error:
                self._log_failure("the hook 'warned' raised", error)
