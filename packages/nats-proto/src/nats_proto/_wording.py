"""Pieces of texts that several modules make."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, thing: str) -> str:
    """``1 message``, ``2 messages``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"
