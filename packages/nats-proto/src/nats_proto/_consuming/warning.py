"""What a reader reports of itself while it goes on."""

from __future__ import annotations

from typing import Final, Literal

from .._value import Value
from ..errors import NATSError

__all__ = ["MAX_WARNINGS", "ConsumerWarning", "WarningKind"]

MAX_WARNINGS: Final = 100
"""Warnings that are kept, the newest."""

WarningKind = Literal[
    "no_heartbeat",
    "no_responders",
    "leadership_change",
    "server_shutdown",
    "consumer_missing",
    "consumer_recreated",
    "gap",
    "not_created",
    "ack_limit",
    "max_waiting",
    "limit_lowered",
    "outlived",
    "pinned",
    "unpinned",
    "unknown_status",
]


class ConsumerWarning(Value, frozen=True):
    """Something that a reader has survived, told once for each time that it happens in a row.

    ``error``: the error of which it is told, if there is one. It is not raised.
    """

    kind: WarningKind
    text: str
    error: NATSError | None = None
