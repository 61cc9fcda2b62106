"""Defaults of batches, apart from what needs them: the clients show them before they load the machines."""

from __future__ import annotations

from typing import Final

__all__ = ["FLOW", "MAX_MESSAGES", "MAX_OUTSTANDING"]

MAX_MESSAGES: Final = 1000
"""Of one atomic batch, as servers are configured by default (ADR-50)."""
FLOW: Final = 100
"""Of a fast ingest: messages for one acknowledgement, at most."""
MAX_OUTSTANDING: Final = 2
"""While one acknowledgement's worth of messages is stored, another one is on its way."""
