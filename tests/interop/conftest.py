"""A server, the client under test on three legs, and nats-py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nats_sync.testing import LocalServer
from tests.adapters.legs import anyio_backend, leg
from tests.interop.nats_py import NatsPy
from tests.jetstream.cluster import api

__all__ = ["anyio_backend", "leg"]


@pytest.fixture(scope="session")
def shared_server() -> Iterator[LocalServer]:
    """One server for all tests. It is not strict: what nats-py asks for is nats-py's affair."""
    with LocalServer(jetstream=True) as local:
        yield local


@pytest.fixture
def url(shared_server: LocalServer) -> Iterator[str]:
    """Where to connect. Streams of the test are deleted when it ends."""
    yield shared_server.url
    for name in api(shared_server.url, "STREAM.NAMES")["streams"] or ():
        # The server's files of a stream may come back with it when it is created again at once.
        api(shared_server.url, f"STREAM.PURGE.{name}")
        api(shared_server.url, f"STREAM.DELETE.{name}")


@pytest.fixture
def theirs(url: str) -> Iterator[NatsPy]:
    """nats-py, connected."""
    with NatsPy(url) as client:
        yield client
