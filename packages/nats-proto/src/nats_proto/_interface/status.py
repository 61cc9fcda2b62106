"""The states of a session."""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["SessionStatus"]


class SessionStatus(Enum):
    """Where a session, and so a client, is in its life."""

    DISCONNECTED = auto()
    """Made, not started."""
    CONNECTING = auto()
    """The pool is walked for the first time."""
    CONNECTED = auto()
    RECONNECTING = auto()
    """The link was lost, or the first connect is retried in the background: publishes are buffered."""
    DRAINING_SUBS = auto()
    """Subscriptions finish what they have; publishing is still allowed, handlers may answer."""
    DRAINING_PUBS = auto()
    """What was published is being written."""
    CLOSED = auto()
    """Final."""
