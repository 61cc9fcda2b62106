"""How a consumer is, in figures: what its server says now, and what its readers here have survived."""

from __future__ import annotations

from collections.abc import Mapping

from .._jetstream.consumer_info import ConsumerInfo
from .._json.read_only import ReadOnlyMapping
from .._value import Value
from .warning import ConsumerWarning

__all__ = ["ConsumerStats", "Tally"]


class ConsumerStats(Value, frozen=True, kw_only=True):
    """One look at a consumer. ``warnings`` counts, by kind, what readers of one handle were told since it was made."""

    info: ConsumerInfo
    warnings: Mapping[str, int]
    last_warning: ConsumerWarning | None = None

    @property
    def pending(self) -> int:
        """Messages that were not delivered yet."""
        return self.info.num_pending

    @property
    def ack_pending(self) -> int:
        """Messages that were delivered, and wait for their acknowledgement or for their next delivery."""
        return self.info.num_ack_pending

    @property
    def redelivered(self) -> int:
        """Those of them that were delivered more than once."""
        return self.info.num_redelivered

    @property
    def waiting(self) -> int:
        """Requests for messages that wait at the server."""
        return self.info.num_waiting

    @property
    def missed_heartbeats(self) -> int:
        """How often there was no sign of life for two heart-beats."""
        return self.warnings.get("no_heartbeat", 0)


class Tally:
    """Counts what readers of one consumer are told. For one caller at a time."""

    __slots__ = ("_counts", "_last")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._last: ConsumerWarning | None = None

    def add(self, warning: ConsumerWarning) -> None:
        """A reader was told this."""
        self._counts[warning.kind] = self._counts.get(warning.kind, 0) + 1
        self._last = warning

    def stats(self, info: ConsumerInfo) -> ConsumerStats:
        """With what the server says."""
        return ConsumerStats(info=info, warnings=ReadOnlyMapping(self._counts), last_warning=self._last)
