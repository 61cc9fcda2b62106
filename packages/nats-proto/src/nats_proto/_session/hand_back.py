"""Messages that nobody will read go back at once to the server that has more readers for them.

Theory of operation
-------------------
A JetStream server gives a message to one reader of a consumer, and to another one only when the first says so, or is
silent for half a minute. So a subscription may be made with a payload that hands a message back. When it is left, each
message that is unread in its queue is answered with that payload. And since the server goes on sending until it has
read the UNSUB, so is each one that still comes. The PONG of a PING behind the UNSUB says that there will be no more.

Who stops reading waits for none of this. When more waits to be written than there should be, messages are dropped as
after any other UNSUB: the server misses their acknowledgements, later.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._wire.frames import Message

__all__ = ["HandBack"]


class HandBack:
    """What is to be handed back, and which subscriptions were left whose last messages may still come."""

    __slots__ = ("left", "returned")

    def __init__(self) -> None:
        self.left: dict[int, bytes] = {}
        """Payloads by sid, of subscriptions whose last messages may still come."""
        self.returned: list[tuple[str, bytes]] = []
        """Subjects and payloads, which `take` gives. Whoever looks at each chunk whether there are any looks here."""

    def leave(self, sid: int, payload: bytes) -> None:
        """What still comes for this sid is handed back with that payload."""
        self.left[sid] = payload

    def confirmed(self, sid: int) -> None:
        """The server has read the UNSUB: nothing comes any more."""
        self.left.pop(sid, None)

    def connection_ended(self) -> None:
        """What that connection had still to bring is lost with it."""
        self.left.clear()

    def late(self, sid: int, messages: Iterable[Message]) -> bool:
        """Messages came for a sid that is not subscribed: whether it is one that was left."""
        payload = self.left.get(sid)
        if payload is None:
            return False
        self.give(messages, payload)
        return True

    def give(self, messages: Iterable[Message], payload: bytes) -> None:
        """Hand these back. Marks, and what cannot be answered, are dropped."""
        self.returned += [(message.reply, payload) for message in messages if message.reply is not None]

    def take(self) -> list[tuple[str, bytes]]:
        """What is to be published now: subjects and payloads."""
        returned, self.returned = self.returned, []
        return returned
