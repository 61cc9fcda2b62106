"""The fixtures of the suite that runs on three legs."""

from collections.abc import Iterator

import pytest

from nats_sync.testing import LocalServer
from tests.adapters.legs import anyio_backend, leg
from tests.transports import Transport

__all__ = ["anyio_backend", "leg"]


@pytest.fixture(scope="session")
def shared_server(transport: Transport) -> Iterator[LocalServer]:
    """A nats-server for all tests that do nothing to it."""
    with transport.server() as local:
        yield local


@pytest.fixture
def url(shared_server: LocalServer) -> str:
    """Where to connect when any server will do."""
    return shared_server.url
