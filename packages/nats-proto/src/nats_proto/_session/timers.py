"""The timers of a session, by name. What each does when its time has come is said where it is set."""

from __future__ import annotations

from typing import Final

__all__ = ["Timers", "due"]

_NAMES: Final = ("answer", "close", "dial", "drain", "migrate", "successor")


class Timers:
    """When each is due (absolute seconds), None while it does not run. Connections have timers of their own."""

    __slots__ = (*_NAMES, "first")

    answer: float | None
    """The link: what the user's ``reconnect_delay`` says is not waited for any more."""
    dial: float | None
    """The link: the dial is given up."""
    migrate: float | None
    """The link: a lame duck is left, at the latest. Runs only without a second transport."""
    successor: float | None
    """The successor: the step that its state says."""
    drain: float | None
    """The life cycle: a drain ends with what is left."""
    close: float | None
    """The life cycle: the end does not wait any more for what is to be written. Runs from the end on until then."""
    first: float | None
    """When the first of them is due. Kept, since adapters ask after every call, and timers are hardly ever set."""

    def __init__(self) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, None)

    def __setattr__(self, name: str, at: float | None) -> None:
        object.__setattr__(self, name, at)
        running = [at for each in _NAMES if (at := getattr(self, each)) is not None]
        object.__setattr__(self, "first", min(running, default=None))


def due(at: float | None, now: float) -> bool:
    """Whether a timer that runs until then has come to its time."""
    return at is not None and now >= at
