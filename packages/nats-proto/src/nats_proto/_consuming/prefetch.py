"""How many messages are asked for ahead of handlers that run beside one another.

Theory of operation
-------------------
    the server ──▶ asked for ──▶ given ──▶ begun ──▶ ended
                   └ outstanding ┘└────── held ──────┘

A message is *held* from the moment in which it was given until its handler has ended, whatever that came to. Held ones
and outstanding ones are together never more than the *size*: so a reader holds back no message from others that they
could handle sooner. It is twice the concurrency at first, so that there is one message in reserve for each handler.
Handlers that need less time than a request for messages does would wait for those; so it grows, to twice itself at most
with each request, up to what was handled in `AHEAD` seconds. It shrinks as soon as handlers get slower. More are asked
for when half of the reserve is used up. Only handlers that end make more room: a message that comes is held in the
place of one that was outstanding.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_PREFETCH", "Prefetch"]

AHEAD: Final = 0.05
"""Seconds of work that are asked for ahead: several times what a request for messages takes."""
MAX_PREFETCH: Final = 1000
"""Messages. As many may wait for their acknowledgement at a consumer, when its configuration says nothing."""


class Prefetch:
    """The `Demand` of handlers.

    ``concurrency``: handlers at once. ``size``: messages that are held or outstanding at most; None: it follows the
    handlers. ``max_ack_pending``: of the consumer, 0 or less when it is not known or there is none.
    """

    __slots__ = ("_concurrency", "_ended", "_most", "_since", "call_at", "held", "low", "maximum", "size", "threshold")

    def __init__(self, concurrency: int, size: int | None, max_ack_pending: int, *, now: float) -> None:
        self._concurrency = concurrency
        self._most = size or max(MAX_PREFETCH, 2 * concurrency)
        if max_ack_pending > 0:
            self._most = min(self._most, max_ack_pending)  # more are not delivered anyway
        self.size = min(self._most, size or 2 * concurrency)
        self.held = 0
        """Messages that are held, as far as their owner has looked: who gives one adds it."""
        self._since = now
        self._ended = 0
        """How many have ended since then: how quick the handlers are."""
        self.call_at = 1
        """When so many more have ended, it is time to look."""
        self.maximum = self.threshold = self.size
        self.low = 0
        """When nothing is outstanding it is time to look; below that, when nothing is to be asked for."""

    def reckon(self, outstanding: int, now: float) -> bool:
        """Whether half of the reserve is used up; then, how many to ask for."""
        missing = self.size - self.held - outstanding
        if missing < self._enough:
            self.call_at = max(1, self._enough - missing)
            return False
        if self._ended:
            self._adapt(now)
        self.maximum = self.size - self.held
        self.threshold = max(0, self.maximum)
        self.low = min(self.threshold - 1, 0)
        return True

    def asked(self, outstanding: int) -> None:
        """See when to look again."""
        self.call_at = max(1, self._enough - (self.size - self.held - outstanding))

    def lower(self, most: int) -> None:
        """No more are held or outstanding than come with one request."""
        self._most = most
        self.size = min(self.size, most)

    def ended(self, count: int) -> None:
        """So many are held no more."""
        self.held -= count
        self._ended += count
        self.call_at = 1

    @property
    def _enough(self) -> int:
        """So many have to be missing before more are asked for."""
        return (max(1, self.size - self._concurrency) + 1) // 2

    def _adapt(self, now: float) -> None:
        """As many as were handled in `AHEAD` seconds, lately."""
        elapsed = now - self._since
        handled = int(min(self._ended * AHEAD / elapsed, 1e9)) if elapsed > 0.0 else 2 * self.size
        self._since, self._ended = now, 0
        wanted = max(2 * self._concurrency, min(handled, 2 * self.size))
        self.size = min(wanted, self._most)
