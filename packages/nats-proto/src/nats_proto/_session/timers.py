"""The timers of a session, by name. What each does when its time has come is said where it is set."""

from __future__ import annotations

__all__ = ["Timers", "due"]


class Timers:
    """When each is due (absolute seconds), None while it does not run. Connections have timers of their own."""

    __slots__ = ("answer", "close", "dial", "drain", "migrate", "successor")

    def __init__(self) -> None:
        self.answer: float | None = None
        """The link: what the user's ``reconnect_delay`` says is not waited for any more."""
        self.dial: float | None = None
        """The link: the dial is given up."""
        self.migrate: float | None = None
        """The link: a lame duck is left, at the latest. Runs only without a second transport."""
        self.successor: float | None = None
        """The successor: the step that its state says."""
        self.drain: float | None = None
        """The life cycle: a drain ends with what is left."""
        self.close: float | None = None
        """The life cycle: the end does not wait any more for what is to be written. Runs from the end on until then."""

    def next_timeout(self) -> float | None:
        """When the first of them is due."""
        if self.answer is self.dial is self.migrate is self.successor is self.drain is self.close is None:
            return None  # nearly always, and adapters ask after every call
        timers = (self.answer, self.dial, self.migrate, self.successor, self.drain, self.close)
        return min(at for at in timers if at is not None)


def due(at: float | None, now: float) -> bool:
    """Whether a timer that runs until then has come to its time."""
    return at is not None and now >= at
