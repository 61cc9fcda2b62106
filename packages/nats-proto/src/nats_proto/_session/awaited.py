"""Which publishes are for somebody who waits for their answer: what nobody waits for any more is not sent late.

Theory of operation
-------------------
While there is no connection publishes wait in the outbox, for minutes maybe. Who has published one to get an answer,
and was told meanwhile that none came, has gone on since: nobody expects it to be done any more. And a stream may have
forgotten the message ids that it knew, so it would store what it has stored before. So with each new connection those
are given up that were not handed over to the one before, and for which nobody waits.

A publish is known by its reply subject, by all of that but its last token, or by how that begins: the request inbox is
registered here, and each subscription whose reader says which answers it awaits
(``Session.subscribe(..., awaits=...)``). All others wait for their connection, however long.

When such a subscription is left nobody awaits its answers; but it stays here until none of its publishes can be in the
outbox: until the PONG of a PING behind all of them, or until the next connection. Where that is long in coming and many
were left, their publishes are given up at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from .._wire.encoder import Encoded, reply_of

__all__ = ["AT_ANY_TIME", "Awaited", "Awaits"]

Awaits = Callable[[str, float], bool]
"""Called with a reply subject and the time: whether a publish that has it is still to be sent."""

AT_ANY_TIME: Final = float("-inf")
"""The time for which no wait is over."""
FEW: Final = 8
"""Subscriptions for which the bytes that wait are searched. With more, a look at each publish costs less."""
MANY_LEFT: Final = 1000
"""Subscriptions that are kept though they were left. One is left with each call that waits for several answers."""


def nobody(_reply: str, _now: float) -> bool:
    """`Awaits` of a subscription that was left."""
    return False


class Awaited:
    """Who waits for answers, by the subjects of their subscriptions without the ``*`` or ``>`` at the end of some."""

    __slots__ = ("_awaits", "_deep", "_left")

    def __init__(self) -> None:
        self._awaits: dict[bytes, Awaits] = {}
        self._deep: set[bytes] = set()
        """Of these, those of a ``>``."""
        self._left: set[bytes] = set()
        """Of these, those for which it is `nobody`."""

    def add(self, subject: str, awaits: Awaits) -> None:
        """``subject`` is that of a subscription, and has no wildcard but one ``.*`` or ``.>`` at its end, if any."""
        self._awaits[_base(subject)] = awaits
        if subject.endswith(">"):
            self._deep.add(_base(subject))
        self._left.discard(_base(subject))

    def leave(self, subject: str) -> None:
        """Nobody awaits what comes there."""
        self._awaits[_base(subject)] = nobody
        self._left.add(_base(subject))

    def forget(self, subject: str) -> None:
        """None of its publishes waits to be sent."""
        self._awaits.pop(_base(subject), None)
        self._left.discard(_base(subject))
        self._deep.discard(_base(subject))

    def forget_left(self) -> None:
        """What was left is gone: none of its publishes waits to be sent."""
        for base in self._left:
            del self._awaits[base]
        self._deep -= self._left
        self._left.clear()

    @property
    def many_left(self) -> bool:
        """`forget_left` should be soon."""
        return len(self._left) >= MANY_LEFT

    @property
    def bases(self) -> Sequence[bytes]:
        """One of these is in each publish that may be `late`."""
        return tuple(self._awaits) if len(self._awaits) <= FEW else (b"",)

    def late(self, operation: Encoded, now: float) -> bytes | None:
        """The reply subject of a publish that nobody waits for any more; None: it is to be sent."""
        head = operation if isinstance(operation, bytes) else operation[0]
        if len(self._awaits) <= FEW:
            for base in self._awaits:
                if base in head:
                    break
            else:
                return None  # nearly always: of those that wait beside one that may be late
        reply = reply_of(operation)
        if reply is None:
            return None
        awaits = self._awaits.get(reply) or self._awaits.get(reply[: reply.rfind(b".") + 1])
        if awaits is None:
            awaits = next((self._awaits[base] for base in self._deep if reply.startswith(base)), None)
        return None if awaits is None or awaits(reply.decode(), now) else reply


def _base(subject: str) -> bytes:
    return subject.rstrip("*>").encode()
