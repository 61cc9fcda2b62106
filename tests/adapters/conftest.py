"""The fixtures of the suite that runs on three legs."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nats_anyio
import nats_sync
from nats_sync.testing import LocalServer
from tests.adapters.legs import DIAL, anyio_backend, leg
from tests.transports import Transport

__all__ = ["anyio_backend", "leg"]


@pytest.fixture(autouse=True)
def patient_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test says nothing else, its clients wait longer for their only server than a busy machine stands still:
    the two seconds of a user are less."""
    for package, name in ((nats_anyio, "connect"), (nats_anyio, "open"), (nats_sync, "connect")):
        monkeypatch.setattr(package, name, _patient(getattr(package, name)))


def _patient(connect: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(connect)
    def call(*servers: Any, **options: Any) -> Any:
        if servers and isinstance(servers[0], str) and "options" not in options:
            options = {"connect_timeout": DIAL, **options}
        return connect(*servers, **options)

    return call


@pytest.fixture(scope="session")
def shared_server(transport: Transport) -> Iterator[LocalServer]:
    """A nats-server for all tests that do nothing to it."""
    with transport.server() as local:
        yield local


@pytest.fixture
def url(shared_server: LocalServer) -> str:
    """Where to connect when any server will do."""
    return shared_server.url
