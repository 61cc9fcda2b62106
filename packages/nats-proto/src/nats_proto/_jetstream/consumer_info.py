"""What servers tell about a consumer. All of it is read alone: times are `Timestamp`, durations `Seconds`."""

from __future__ import annotations

from collections.abc import Sequence

from .._json.durations import Seconds, Timestamp
from .._json.wire_value import WireValue
from .consumer_config import ConsumerConfig
from .stream_info import ClusterInfo

__all__ = ["ConsumerInfo", "ConsumerPause", "PriorityGroupState", "SequenceInfo"]


class SequenceInfo(WireValue, frozen=True, kw_only=True):
    """A place in a stream, and the same place as the consumer counts."""

    consumer_seq: int = 0
    stream_seq: int = 0
    last_active: Timestamp | None = None
    """When something was last delivered, or acknowledged."""


class PriorityGroupState(WireValue, frozen=True, kw_only=True):
    """Who of a priority group has the messages at the moment (ADR-42)."""

    group: str
    pinned_client_id: str | None = None
    pinned_ts: Timestamp | None = None


class ConsumerInfo(WireValue, frozen=True, kw_only=True):
    """A consumer, as its leader sees it."""

    stream_name: str
    name: str
    config: ConsumerConfig
    created: Timestamp | None = None
    ts: Timestamp | None = None
    """When this was told, by the clock of the server."""
    delivered: SequenceInfo | None = None
    """The last message that was delivered."""
    ack_floor: SequenceInfo | None = None
    """All messages up to this one are acknowledged."""
    num_ack_pending: int = 0
    """How many messages wait for their acknowledgement."""
    num_redelivered: int = 0
    """How many of them were delivered more than once."""
    num_waiting: int = 0
    """How many requests of pull consumers wait for messages."""
    num_pending: int = 0
    """How many messages were never delivered yet."""
    cluster: ClusterInfo | None = None
    push_bound: bool = False
    """Somebody listens, of a push consumer."""
    paused: bool = False
    pause_remaining: Seconds | None = None
    """How long the pause lasts yet."""
    priority_groups: Sequence[PriorityGroupState] = ()


class ConsumerPause(WireValue, frozen=True, kw_only=True):
    """What pausing or resuming a consumer came to."""

    paused: bool = False
    pause_until: Timestamp | None = None
    pause_remaining: Seconds | None = None
    """How long the pause lasts yet, by the clock of the server."""
