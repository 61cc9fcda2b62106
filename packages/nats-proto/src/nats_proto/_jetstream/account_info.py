"""What servers tell about an account's use of JetStream."""

from __future__ import annotations

from collections.abc import Mapping

from .._json.wire_value import WireValue

__all__ = ["AccountInfo", "AccountLimits", "AccountTier", "ApiStats"]


class AccountLimits(WireValue, frozen=True, kw_only=True):
    """What an account may have; sizes in bytes, -1 means no limit."""

    max_memory: int = -1
    max_storage: int = -1
    max_streams: int = -1
    max_consumers: int = -1
    max_ack_pending: int = -1
    memory_max_stream_bytes: int = -1
    """The largest stream in memory."""
    storage_max_stream_bytes: int = -1
    """The largest stream on disk."""
    max_bytes_required: bool = False
    """Each stream needs ``max_bytes``."""


class ApiStats(WireValue, frozen=True, kw_only=True):
    """The account's use of the API."""

    level: int = 0
    """The level of the API that the server has (ADR-44); 0: before 2.11, which does not tell."""
    total: int = 0
    errors: int = 0
    inflight: int = 0


class AccountTier(WireValue, frozen=True, kw_only=True):
    """What an account has and may have of streams with so many replicas."""

    memory: int = 0
    """Bytes in memory."""
    storage: int = 0
    """Bytes on disk."""
    reserved_memory: int = 0
    reserved_storage: int = 0
    streams: int = 0
    consumers: int = 0
    limits: AccountLimits


class AccountInfo(AccountTier, frozen=True, kw_only=True):
    """What an account has and may have."""

    domain: str | None = None
    """The JetStream domain."""
    api: ApiStats
    tiers: Mapping[str, AccountTier] | None = None
    """By the number of replicas, such as ``R3``, where the account has limits for each."""
