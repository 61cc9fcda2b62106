"""What a handler of `work` may raise to say more than that it has failed."""

from __future__ import annotations

from .._jetstream.acknowledge import term
from .._json.durations import DurationLike, take_duration

__all__ = ["Reject", "Retry", "Spent"]


class Retry(Exception):
    """Raised by a handler of `work`: deliver the message again after ``delay`` (seconds, or a `timedelta`).

    None: after the pause that this attempt has anyway. It counts as an attempt like any other, but is not logged as a
    failure. Raises `TypeError` and `ValueError` for what is no duration.
    """

    def __init__(self, delay: DurationLike | None = None) -> None:
        self.delay = None if delay is None else float(take_duration("delay", delay))
        super().__init__("try again" if self.delay is None else f"try again in {self.delay:g} s")

    def __reduce__(self) -> tuple[type[Retry], tuple[float | None]]:
        return type(self), (self.delay,)


class Reject(Exception):
    """Raised by a handler of `work`: the message is of no use, and is never to be delivered again.

    It goes to the dead letters, where there are any. ``reason``: one line of text without control characters, else
    `ValueError`; `TypeError` for what is no text.
    """

    def __init__(self, reason: str = "rejected") -> None:
        term(reason)  # raises for what it cannot be
        self.reason = reason
        super().__init__(reason)


class Spent(Reject):
    """Raised in place of a handler, for a message that was delivered too often: whoever had it is gone."""
