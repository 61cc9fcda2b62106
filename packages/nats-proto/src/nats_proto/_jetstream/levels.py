"""Which level of the API a configuration needs (ADR-44), so that a server that is too old says so.

A server of 2.12 or newer refuses a request whose level it has not (`ApiLevelError`). An older one does not know the
question, and drops what it does not know: that is seen by comparing what it answers. The levels are those that a server
of 2.15.1 writes into ``_nats.req.level`` of a stream's or consumer's metadata.
"""

from __future__ import annotations

from .consumer_config import ConsumerConfig
from .stream_config import StreamConfig

__all__ = ["level_of_consumer", "level_of_stream"]


def level_of_stream(config: StreamConfig) -> int:
    """0: any server of 2.10 has it."""
    if config.allow_batched:
        return 4
    if config.allow_msg_counter or config.allow_atomic or config.allow_msg_schedules or config.persist_mode == "async":
        return 2
    if config.allow_msg_ttl or config.subject_delete_marker_ttl:
        return 1
    return 0


def level_of_consumer(config: ConsumerConfig) -> int:
    """0: any server of 2.10 has it."""
    if config.ack_policy == "flow_control":
        return 4
    if config.pause_until is not None or config.priority_groups or config.priority_policy not in (None, "none"):
        return 1
    return 0
