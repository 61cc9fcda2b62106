"""Which messages a reader would be given twice after it was away.

Theory of operation
-------------------
When a reader does not look for as long as ``ack_wait``, since its process was stopped or what it does with one message
takes long, the server delivers again what was not acknowledged: to others, or to this reader, if it has asked for more
than it has. Then the same message lies unread twice. How old each of them is nobody can see. But all that was sent
before the reader looks again has come when the server answers a question for a sign: it has *caught up* then.

    the last look ─── nobody looks ──▶ the next look ──CatchUp──▶ the server ──▶ caught up
                                            └── what was given there comes no more ──┘

So a message that is given in between, and comes once more in between, was delivered again before it was given. It is
left out: an acknowledgement counts for each delivery of its message, and without one it comes again when its time is
up. What the reader does with a message, such as to refuse it so that it comes at once, is heard by the server behind
the question, so what follows from that is behind the sign. Of what was given before it was away nobody knows that.
"""

from __future__ import annotations

from typing import Final

from .._jetstream.errors import NotJetStreamMessageError
from .._jetstream.metadata import parse_ack_subject

__all__ = ["Repeats"]

AWAY: Final = 0.5
"""Of ``ack_wait``: when nobody has looked for so long the server may have delivered something again, since a message
may have waited for as long before it was given."""


class Repeats:
    """Of one reader. ``ack_wait``: seconds."""

    __slots__ = ("_away", "_catching_up", "_given", "_looked", "_patience")

    def __init__(self, ack_wait: float) -> None:
        self._patience = AWAY * ack_wait
        self._looked = float("inf")
        """When somebody looked last."""
        self._away = False
        """Nobody had looked for long before that, and no message was taken since."""
        self._catching_up = 0
        """The number of the last sign that the server was asked for."""
        self._given: set[int] | None = None
        """Sequences of what was given since; None: it has caught up."""

    @property
    def possible(self) -> bool:
        """What is taken now may have been given before."""
        return self._given is not None

    def look(self, now: float) -> None:
        """Somebody takes something."""
        self._away = self._away or now >= self._looked + self._patience
        self._looked = now

    def ask(self) -> int | None:
        """What is taken is a message: the number of the sign to ask for, if nobody has looked for long."""
        if not self._away:
            return None
        self._away = False
        if self._given is None:
            self._given = set()
        self._catching_up += 1
        return self._catching_up

    def is_one(self, reply: str) -> bool:
        """Whether the message with this reply subject was given before; it counts as given."""
        if self._given is None:
            return False
        try:
            delivered = parse_ack_subject(reply)
        except NotJetStreamMessageError:
            return False
        # What is delivered for the first time is of another stream, made anew meanwhile.
        if delivered.num_delivered > 1 and delivered.stream_sequence in self._given:
            return True
        self._given.add(delivered.stream_sequence)
        return False

    def caught_up(self, number: int) -> None:
        """The sign has come."""
        if number == self._catching_up:
            self._given = None

    def renewed(self, now: float) -> None:
        """Nothing of what was asked for before is taken any more."""
        self._given, self._away = None, False
        self._looked = now
