"""The states of a session."""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["SessionStatus"]


class SessionStatus(Enum):
    """Where a session, and so a client, is in its life."""

    DISCONNECTED = auto()
    """The session was made and not started yet."""
    CONNECTING = auto()
    """The first walk through the pool is under way: each server is tried once."""
    CONNECTED = auto()
    """There is a connection, and its handshake is done."""
    RECONNECTING = auto()
    """The link was lost, or the first connect is retried in the background: publishes are buffered."""
    DRAINING_SUBS = auto()
    """Subscriptions finish what they have; publishing is still allowed, handlers may answer."""
    DRAINING_PUBS = auto()
    """What was published is being written."""
    CLOSED = auto()
    """The session has ended, and cannot be started again."""
