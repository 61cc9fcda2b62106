"""How soon an ordered reader makes its next consumer, and with what answer it gives up.

The first rebuild after a quiet time follows nearly at once, and each that a new connection asks for. Any other one, and
each that has failed, waits for twice as long as the one before, from 1 to 30 seconds, with a share of chance; the time
that the failed attempt itself has taken counts. What ends that is not a consumer that was made, but one that was read
for a minute: else readers that are all disturbed by the same thing would make consumers without end.
"""

from __future__ import annotations

from random import Random
from typing import Final

from .._jetstream.errors import (
    ApiError,
    ClusterUnavailableError,
    ConsumerExistsError,
    InsufficientResourcesError,
    MaxConsumersError,
    TooManyRequestsError,
)
from ..errors import NATSError, PermissionsError

__all__ = ["Backoff", "is_final", "is_final_at_first"]

FIRST_PAUSE: Final = 0.1
"""Seconds, at most, before the first rebuild after a quiet time."""
SHORTEST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
HEALTHY: Final = 60.0
"""Seconds of reading after which a disturbance counts as the first one."""


class Backoff:
    """The pauses of one reader."""

    __slots__ = ("_disturbed", "_rng")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._disturbed = 0
        """Rebuilds and failed attempts since the last quiet time."""

    def was_read_for(self, seconds: float) -> None:
        """The consumer that is given up was read for so long."""
        if seconds >= HEALTHY:
            self._disturbed = 0

    def first(self) -> float:
        """Seconds until the next attempt, as if nothing had disturbed the reader lately."""
        return FIRST_PAUSE * self._rng.random()

    def pause(self) -> float:
        """Seconds until the next attempt."""
        disturbed, self._disturbed = self._disturbed, self._disturbed + 1
        if not disturbed:
            return self.first()
        share = self._rng.random()
        doubled = SHORTEST_PAUSE * 2.0 ** min(disturbed - 1, 8)
        return min(doubled * (1.0 + share / 2), LONGEST_PAUSE * (1.0 - share / 4))


def is_final(error: NATSError) -> bool:
    """Whether it is for good that a consumer cannot be made like this: the stream is gone, it is not permitted, the
    server does not take it. Not when it may be another one later: no leader, no room, too much to do."""
    if not isinstance(error, ApiError):
        return isinstance(error, PermissionsError)
    transient = (
        ClusterUnavailableError,
        ConsumerExistsError,
        InsufficientResourcesError,
        MaxConsumersError,
        TooManyRequestsError,
    )
    return not isinstance(error, transient) and error.code not in (500, 503)


def is_final_at_first(error: NATSError) -> bool:
    """The same for the very first one, for which there has to be room."""
    return isinstance(error, (InsufficientResourcesError, MaxConsumersError)) or is_final(error)
