"""Counters of a session."""

from __future__ import annotations

from .._value import Value

__all__ = ["StatsSnapshot"]


class StatsSnapshot(Value, frozen=True, kw_only=True):
    """What a session has done since it was made. Bytes count payloads alone."""

    in_msgs: int = 0
    """Messages received, answers to requests and those that were dropped included."""
    in_bytes: int = 0
    """Bytes of the payloads of those messages."""
    out_msgs: int = 0
    """Publishes accepted, requests included. They are counted when they are accepted, also while nothing is written."""
    out_bytes: int = 0
    """Bytes of the payloads of those publishes."""
    reconnects: int = 0
    """Connections made after the first one."""
    dropped_msgs: int = 0
    """Messages dropped because a subscription was at its pending limits."""
    dropped_unknown_sid: int = 0
    """Messages for a subscription that does not exist (any more)."""
    dropped_replies: int = 0
    """Replies that nobody waits for (any more)."""
    dropped_publishes: int = 0
    """Publishes accepted, and given up before they were handed over to a connection: the server connected later would
    have refused them (see `PublishesDropped`), or nobody waited for their answers any more."""
