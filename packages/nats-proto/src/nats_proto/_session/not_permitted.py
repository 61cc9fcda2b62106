"""The error of what the server has refused to take, made of the one that it has said that with.

That one is told as an event as well, and to all whom it may concern. What is raised is each one's own, so that nobody
changes the outcome of another.
"""

from __future__ import annotations

from ..errors import Outcome, PermissionsError

__all__ = ["not_permitted"]


def not_permitted(what: str, error: PermissionsError, *, outcome: Outcome = "failed") -> PermissionsError:
    """``what`` names what was refused. ``outcome``: ``"unknown"`` if an earlier try of it may have been taken."""
    made = PermissionsError(
        f"{what}: {error}",
        text=error.text,
        operation=error.operation,
        subject=error.subject,
        queue=error.queue,
        sid=error.sid,
    )
    made.outcome = outcome
    return made
