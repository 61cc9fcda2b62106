"""What a consumer says of itself, as far as it explains why nothing comes."""

from __future__ import annotations

from .._value import Value

__all__ = ["ConsumerCondition"]


class ConsumerCondition(Value, frozen=True, kw_only=True):
    """A part of a consumer's info. A maximum of 0 or less is none."""

    waiting: int = 0
    """Requests for messages that wait at the server."""
    max_waiting: int = 0
    ack_pending: int = 0
    """Messages that were delivered and are not acknowledged."""
    max_ack_pending: int = 0
    pending: int = 0
    """Messages that were not delivered yet."""
    paused: bool = False

    @property
    def at_ack_limit(self) -> bool:
        """Nothing new is delivered until some of the delivered messages are acknowledged."""
        return 0 < self.max_ack_pending <= self.ack_pending

    @property
    def at_waiting_limit(self) -> bool:
        """No further request is taken; a server does not say so to who asked for heart-beats."""
        return 0 < self.max_waiting <= self.waiting
