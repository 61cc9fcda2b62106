"""What a caller is told whose time was up: the same words for the same thing in every client.

Each function returns the error for one kind of wait. Its text names the operation, the subject, the seconds that were
given, and the status of the client, which is nearly always the reason.
"""

from __future__ import annotations

from ..errors import NATSTimeoutError
from .status import SessionStatus

__all__ = ["no_answer_in_time", "no_message_in_time", "no_room_in_time", "not_drained_in_time"]


def no_answer_in_time(operation: str, seconds: float, status: SessionStatus) -> NATSTimeoutError:
    """A request or a flush was taken, and no answer came."""
    return NATSTimeoutError(f"{operation}: no answer within {seconds:g} s; the client is {status.name}")


def no_room_in_time(operation: str, seconds: float, status: SessionStatus) -> NATSTimeoutError:
    """There was no room for it in the outgoing buffer. So nothing was sent, and its outcome is ``"failed"``."""
    return NATSTimeoutError(
        f"{operation}: it was not sent, the outgoing buffer was full for {seconds:g} s; the client is {status.name}",
        outcome="failed",
    )


def no_message_in_time(subject: str, seconds: float, status: SessionStatus) -> NATSTimeoutError:
    """No message came on a subscription."""
    return NATSTimeoutError(f"next: no message on {subject!r} within {seconds:g} s; the client is {status.name}")


def not_drained_in_time(subject: str, seconds: float, left: str, status: SessionStatus) -> NATSTimeoutError:
    """A subscription was not read to its end. ``left`` says what is left (`SubscriptionState.left`)."""
    return NATSTimeoutError(
        f"drain of the subscription to {subject!r} took longer than {seconds:g} s: {left}; the client is {status.name}"
    )
