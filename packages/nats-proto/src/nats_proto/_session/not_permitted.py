"""The error of what the server has refused to take, made of the one that it has said that with.

That one is told as an event as well, and to all whom it may concern. What is raised is each one's own, so that nobody
changes the outcome of another.
"""

from __future__ import annotations

from ..errors import PermissionsError

__all__ = ["not_permitted"]


def not_permitted(what: str, error: PermissionsError, *, replaced: bool = False) -> PermissionsError:
    """``what`` names what was refused, which has failed; ``replaced``: it may have gone over an earlier connection."""
    made = PermissionsError(
        f"{what}: {error}",
        text=error.text,
        operation=error.operation,
        subject=error.subject,
        queue=error.queue,
        sid=error.sid,
    )
    made.outcome = "unknown" if replaced else "failed"
    if replaced:
        made.add_note("It was made before the connection was replaced, so somebody may have got it.")
    return made
