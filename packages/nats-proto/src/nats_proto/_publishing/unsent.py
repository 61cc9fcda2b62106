"""Tries that a window wants to send and the client has not taken yet: these are certainly not stored."""

from __future__ import annotations

from collections import deque

from .._calls.machine import Want
from .._calls.operation import Publish

__all__ = ["take_back", "unsent_replies"]


def unsent_replies(wants: deque[Want]) -> set[str | None]:
    """Their reply subjects."""
    return {want.reply for want in wants if isinstance(want, Publish)}


def take_back(wants: deque[Want], reply: str) -> bool:
    """Whether there was one with this reply subject; it will not be sent any more."""
    for want in wants:
        if isinstance(want, Publish) and want.reply == reply:
            wants.remove(want)
            return True
    return False
