"""Buckets whose keys and values are translated (ADR-54), on three legs: whatever is done goes through the codecs."""

from __future__ import annotations

import pytest

from nats_proto.jetstream import Base64Keys
from nats_sync.testing import LocalServer
from tests.adapters.jetstream import jetstream, js_server
from tests.adapters.legs import PATIENCE, Leg
from tests.server_version import needs_server

__all__ = ["js_server"]

pytestmark = pytest.mark.anyio


async def test_n16_a_history_is_of_one_key(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = (await jetstream(client).create_key_value("B", history=5)).with_keys(Base64Keys())
        for key in ("a.b", "a.*", "a.c", "a.*"):
            await kv.put(key, key.encode())
        assert [entry.key for entry in await kv.history("a.*")] == ["a.*", "a.*"]
        assert [key async for key in kv.keys("a.*")] == ["a.b", "a.c", "a.*"]


@needs_server(2, 11, has="a time to live of messages")
async def test_n16_a_lock_whose_key_would_be_a_pattern(leg: Leg, js_server: LocalServer) -> None:
    """Another key that the pattern would match says nothing about the lock."""
    async with leg.connect(js_server.url) as client:
        kv = (await jetstream(client).create_key_value("B", limit_marker_ttl=60)).with_keys(Base64Keys())
        async with kv.lock("a.*", ttl=10, timeout=PATIENCE) as lock:
            held = getattr(lock, "thing", lock)
            await kv.put("a.b", b"1")
            await kv.delete("a.b")
            assert [entry.key for entry in await kv.history("a.b")] == ["a.b"]
            with pytest.raises(TimeoutError):
                await kv.lock("a.*", ttl=10).acquire(0.05)
            assert held.held
        assert not held.held
