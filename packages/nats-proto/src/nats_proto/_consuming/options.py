"""What a program may say of how a consumer is read."""

from __future__ import annotations

from typing import Final, Literal

from .._limits import check_count, check_encodable, check_seconds, shown
from .._value import Value, set_once

__all__ = ["ConsumeOptions", "OnMissing", "Priority", "renewing"]

OnMissing = Literal["raise", "wait", "recreate"]
"""What a reader does when its consumer is gone: end with the error, wait for one of the same name, or create it."""

MAX_MESSAGES: Final = 100
"""Messages outstanding, when nobody says otherwise. More is of use only to readers that are faster than the server, and
with a slow one the last would lie unread for too long."""
MAX_MESSAGES_BY_BYTES: Final = 1_000_000
"""When bytes are to be the bound."""
EXPIRES: Final = 30.0
MIN_EXPIRES: Final = 1.0
HEARTBEAT: Final = 5.0
"""Seconds between the server's signs of life, when nobody says otherwise; never more than half of ``expires``."""
MIN_HEARTBEAT: Final = 0.5
MIN_RENEWAL: Final = 0.05
"""Seconds between two requests that keep a client pinned, whatever a consumer's configuration says."""


class Priority(Value, frozen=True, kw_only=True):
    """What each request to a consumer with priority groups says (ADR-42).

    ``min_pending`` and ``min_ack_pending`` (messages): only serve this reader when as many are pending, or wait for
    their acknowledgement (policy ``overflow``). ``priority``: 0 to 9, the lowest is served first (``prioritized``).
    Raises `TypeError` and `ValueError` for what no server takes.
    """

    group: str
    min_pending: int | None = None
    min_ack_pending: int | None = None
    priority: int | None = None

    def __post_init__(self) -> None:
        _check_text("group", self.group)
        if self.min_pending is not None:
            check_count("min_pending", self.min_pending)
        if self.min_ack_pending is not None:
            check_count("min_ack_pending", self.min_ack_pending)
        if self.priority is not None and check_count("priority", self.priority, least=0) > 9:
            raise ValueError(f"priority must be from 0 to 9: {shown(self.priority)}")


class ConsumeOptions(Value, frozen=True, kw_only=True):
    """How `Consume` reads. Times are seconds.

    ``max_messages`` and ``max_bytes`` (with subjects and headers): the most that is outstanding at any time; with bytes
    alone messages are not bounded, else 100 messages. ``threshold``: it asks again when fewer messages are outstanding;
    by default half of the maximum. ``limit``: it ends after so many messages. ``expires``: how long a request waits at
    the server, 1 s at least. ``heartbeat``: 0.5 s at least, half of ``expires`` at most.

    ``ack_wait``: a message that was certainly given to another reader by now is not handed out, but for the last of
    ``max_deliver`` attempts (0 or less: there is no last one); None for a consumer
    whose messages are not acknowledged. ``priority_timeout``: of a consumer that pins clients, infinite for one that
    does not, None when it is not known.

    Raises `TypeError` and `ValueError` for what cannot be used. Afterwards every field has its value.
    """

    max_messages: int | None = None
    max_bytes: int | None = None
    threshold: int | None = None
    limit: int | None = None
    expires: float = EXPIRES
    heartbeat: float | None = None
    on_missing: OnMissing = "raise"
    ack_wait: float | None = None
    max_deliver: int = 0
    priority: Priority | None = None
    priority_timeout: float | None = None

    def __post_init__(self) -> None:
        most = self.max_messages
        if self.max_bytes is not None:
            check_count("max_bytes", self.max_bytes)
        if most is None:
            most = MAX_MESSAGES if self.max_bytes is None else MAX_MESSAGES_BY_BYTES
        set_once(self, "max_messages", check_count("max_messages", most))
        if self.threshold is None:
            set_once(self, "threshold", half(most))
        elif check_count("threshold", self.threshold) > most:
            raise ValueError(f"threshold must be at most max_messages={most}: {shown(self.threshold)}")
        if self.limit is not None:
            check_count("limit", self.limit)
        if self.on_missing not in ("raise", "wait", "recreate"):
            raise ValueError(f"on_missing must be 'raise', 'wait' or 'recreate': {shown(self.on_missing)}")
        if self.ack_wait is not None:
            check_seconds("ack_wait", self.ack_wait)
        self._check_times()

    def _check_times(self) -> None:
        seconds = check_seconds("expires", self.expires)
        if seconds < MIN_EXPIRES or seconds == float("inf"):
            raise ValueError(f"expires must be from {MIN_EXPIRES:g} seconds to a hundred years: {shown(self.expires)}")
        wanted = HEARTBEAT if self.heartbeat is None else check_seconds("heartbeat", self.heartbeat)
        if self.heartbeat is not None and not MIN_HEARTBEAT <= wanted <= seconds / 2:
            raise ValueError(
                f"heartbeat must be from {MIN_HEARTBEAT:g} seconds to half of expires={seconds:g}: {shown(wanted)}"
            )
        if self.priority_timeout is not None:
            seconds = renewing(seconds, check_seconds("priority_timeout", self.priority_timeout))
        set_once(self, "expires", seconds)
        set_once(self, "heartbeat", min(wanted, seconds / 2))


def renewing(expires: float, priority_timeout: float | None) -> float:
    """How long a request waits at most (seconds), so that the next one comes in time to keep the client pinned.

    A pin is renewed by each request, and lost when none comes for ``priority_timeout`` (ADR-42).
    """
    return expires if priority_timeout is None else min(expires, max(priority_timeout / 2, MIN_RENEWAL))


def half(count: int) -> int:
    """Rounded up."""
    return (count + 1) // 2


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str, not {type(text).__name__}")
    if not text:
        raise ValueError(f"{name} must not be empty")
    check_encodable(name, text)
