"""The longest times that options may have: the event loop's clocks and timers take them."""

from __future__ import annotations

import anyio
import pytest

import nats_anyio
from nats_proto import MAX_SECONDS
from nats_sync.testing import LocalServer

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])]

NAMES = ("connect_timeout", "ping_interval", "reconnect_wait", "reconnect_jitter", "drain_timeout")


@pytest.mark.parametrize("seconds", [25 * 86400, 25 * 86400.0, MAX_SECONDS])
async def test_a_client_lives_with_them(server: LocalServer, anyio_backend: str, seconds: float) -> None:
    async with nats_anyio.connect(server.url, **dict.fromkeys(NAMES, seconds)) as nc:  # type: ignore[arg-type]
        await nc.subscribe("q", callback=lambda message: message.respond(b"ok"))
        assert (await nc.request("q", timeout=seconds)).data == b"ok"
        await nc.flush(seconds)
        await nc.drain()


@pytest.mark.parametrize("seconds", [25 * 86400, MAX_SECONDS])
async def test_a_wait_for_the_next_attempt_as_long_can_be_left(
    server: LocalServer, anyio_backend: str, seconds: float
) -> None:
    async with nats_anyio.connect(server.url, reconnect_wait=seconds, reconnect_jitter=seconds) as nc:
        server.kill()
        while nc.status.name != "RECONNECTING":
            await anyio.sleep(0.001)
