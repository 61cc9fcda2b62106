"""`Messages`: a consumer's messages without end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nats_proto._consuming.consume import Consume

from .._message import ReceivedMessage
from .message import JetStreamMessage
from .reading import OnWarning, Reading

if TYPE_CHECKING:
    from .._engine.crew import Employer

__all__ = ["Messages", "OnWarning"]


class Messages(Reading[Consume[ReceivedMessage, JetStreamMessage]]):
    """The messages of a consumer, one after another, for as long as the program likes.

    It ends with `stop`, with the ``async with`` block, at its ``limit``, and when the client is drained or closed.
    What passes by itself (a leader that changes, a server that restarts, a lost connection) does not end it: it is told
    in `warnings`, in the log, and to ``on_warning``, which is called by whoever reads. Messages that were asked for
    ahead and not read are handed back to the server, which gives them to another reader at once.

    The end of the block waits, for a second at most, until what the server had on its way is handed back as well. After
    `stop` alone this takes as long as the client is open; `Client.close` loses it, and the server delivers it again
    after ``ack_wait``. `Client.drain` loses nothing. For any number of tasks: each message goes to one of them.
    """

    def __init__(
        self,
        host: Employer[ReceivedMessage],
        make: Callable[[float], Consume[ReceivedMessage, JetStreamMessage]],
        on_warning: OnWarning | None,
    ) -> None:
        super().__init__(host, make, on_warning)
        self._account = self._machine.account

    @property
    def outlived(self) -> int:
        """Messages that were not given, since they were taken so late that the server has given them to another reader,
        or to this one a second time."""
        return self._machine.outlived
