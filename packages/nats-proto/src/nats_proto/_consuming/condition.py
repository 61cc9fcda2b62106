"""What a consumer says of itself, as far as it explains why nothing comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._value import Value

if TYPE_CHECKING:
    from .._jetstream.consumer_info import ConsumerInfo

__all__ = ["ConsumerCondition", "condition_of"]


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
    priority_timeout: float | None = None
    """Of a consumer that pins clients: seconds without a request, after which a client is not pinned any more."""

    @property
    def at_ack_limit(self) -> bool:
        """Nothing new is delivered until some of the delivered messages are acknowledged."""
        return 0 < self.max_ack_pending <= self.ack_pending

    @property
    def at_waiting_limit(self) -> bool:
        """No further request is taken; a server does not say so to who asked for heart-beats."""
        return 0 < self.max_waiting <= self.waiting


def condition_of(info: ConsumerInfo) -> ConsumerCondition:
    """The part of a consumer's info that matters here."""
    return ConsumerCondition(
        waiting=info.num_waiting,
        max_waiting=info.config.max_waiting or 0,
        ack_pending=info.num_ack_pending,
        max_ack_pending=info.config.max_ack_pending or 0,
        pending=info.num_pending,
        paused=info.paused,
        priority_timeout=info.config.priority_timeout or None,
    )
