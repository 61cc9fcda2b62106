"""Servers and streams of the JetStream tests on three legs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nats_proto import SessionStatus
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, eventually, in_thread
from tests.jetstream.cluster import STRICT
from tests.jetstream.legs import jetstream
from tests.transports import Transport

__all__ = ["fill", "jetstream", "js_server", "restart"]


@pytest.fixture
def js_server(transport: Transport) -> Iterator[LocalServer]:
    """A fresh server with JetStream."""
    with transport.server(jetstream=STRICT) as local:
        yield local


async def fill(client: Any, count: int, *, subject: str = "a", start: int = 1) -> None:
    """Publish so many messages, each with its number, and wait until the last one is stored, and so all of them."""
    for number in range(start, start + count - 1):
        await client.publish(subject, b"%d" % number)
    await client.request(subject, b"%d" % (start + count - 1), timeout=PATIENCE)


async def restart(server: LocalServer, client: Any) -> None:
    """Stop and start a server. The client knows that the old one is gone, so whatever it asks goes to the new one."""
    await in_thread(server.stop)
    await eventually(lambda: client.status is not SessionStatus.CONNECTED)
    await in_thread(server.start)
