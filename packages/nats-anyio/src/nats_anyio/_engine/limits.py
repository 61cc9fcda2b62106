"""Times that several parts of a client keep to."""

from __future__ import annotations

from typing import Final

__all__ = ["CLOSE_LIMIT"]

CLOSE_LIMIT: Final = 2.0
"""Seconds that `Client.close`, and so leaving the block, takes at most. Half a second of it is the session's, for what
was published to be written."""
