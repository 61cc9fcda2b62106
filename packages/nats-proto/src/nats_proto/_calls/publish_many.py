"""Many messages to one subject, in steps between which an adapter writes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from .._wire.frames import Payload

if TYPE_CHECKING:
    from .._session.session import Session
    from .._session.subscription import MessageT

__all__ = ["PublishMany"]

FETCHED: Final = 512
"""Payloads taken from the user's iterable at once."""


class PublishMany:
    """One call of ``publish_many``.

    `fetch` runs the user's iterable and is called without any lock; `step` is one mutation of the session:

        while many.fetch():
            wait until the session is writable
            many.step(session)
            write
    """

    __slots__ = ("_fetched", "_payloads", "_position", "_subject", "taken")

    def __init__(self, subject: str, payloads: Iterable[Payload]) -> None:
        """`TypeError` for one payload in place of many."""
        if not _is_many(payloads):
            raise TypeError(f"publish_many: payloads must be an iterable of payloads, not {type(payloads).__name__}")
        self._subject = subject
        self._payloads = iter(payloads)
        self._fetched: tuple[Payload, ...] = ()
        self._position = 0
        self.taken = 0
        """Messages that the session has taken."""

    def fetch(self) -> bool:
        """Whether there is another payload. Raises what the user's iterable raises."""
        if self._position == len(self._fetched):
            self._fetched = tuple(islice(self._payloads, FETCHED))
            self._position = 0
        return self._position < len(self._fetched)

    def step(self, session: Session[MessageT]) -> None:
        """Publish what was fetched, as much of it as makes about one chunk; after a `fetch` that said True.

        Raises what `Session.publish` raises, with a note on how many were taken before.
        """
        try:
            position = session.publish_many(self._subject, self._fetched, self._position)
        except Exception as error:
            error.add_note(f"publish_many: {self.taken} messages were taken before this one")
            raise
        self.taken += position - self._position
        self._position = position


def _is_many(payloads: object) -> bool:
    # These can be iterated over as well, by characters or bytes, but whoever gives one means a single payload.
    if isinstance(payloads, (str, bytes, bytearray, memoryview)):
        return False
    return isinstance(payloads, Iterable) or hasattr(payloads, "__getitem__")  # the old way to be iterated
