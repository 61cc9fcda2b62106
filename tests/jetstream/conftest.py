"""The servers of the JetStream tests, on the three legs and transports of the behaviour suite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nats_sync.testing import LocalServer
from tests.adapters.legs import anyio_backend, leg
from tests.jetstream.cluster import PATIENT, STRICT, Replicas, api
from tests.jetstream.schemas import FOLDER, Auditor
from tests.transports import Transport

__all__ = ["anyio_backend", "leg"]


@pytest.fixture(scope="session")
def transport(transport: Transport) -> Transport:
    """What this test's servers speak; its clients wait longer for a server than a machine may stand still."""
    return replace(transport, options={**PATIENT, **transport.options})


@pytest.fixture(scope="session")
def shared_jetstream(transport: Transport) -> Iterator[LocalServer]:
    """One server for all tests that do nothing to it."""
    with transport.server(jetstream=STRICT) as local:
        yield local


@pytest.fixture(scope="session")
def shared_auditor(shared_jetstream: LocalServer, transport: Transport) -> Iterator[Auditor | None]:
    """Holds what that server is asked and answers against the schemas, where there are any."""
    if FOLDER is None:
        yield None
        return
    with Auditor(shared_jetstream.url, **transport.options) as auditor:
        yield auditor


@pytest.fixture
def url(shared_jetstream: LocalServer, shared_auditor: Auditor | None, transport: Transport) -> Iterator[str]:
    """Where to connect when any server with JetStream will do. Streams of the test are deleted when it ends.

    Nothing may be asked or answered there that the schemas do not have.
    """
    yield shared_jetstream.url
    faults = [] if shared_auditor is None else shared_auditor.taken_faults()
    _delete_streams([shared_jetstream.url], transport)
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="session")
def calm_cluster(transport: Transport) -> Iterator[Replicas]:
    """One cluster for all tests that do no more to it than to have leaders step down."""
    with transport.cluster(3, jetstream=STRICT) as local:
        yield Replicas(local, transport.options)


@pytest.fixture
def calm_replicas(calm_cluster: Replicas, transport: Transport) -> Iterator[Replicas]:
    """The same; the streams of the test are deleted when it ends."""
    yield calm_cluster
    _delete_streams(calm_cluster.urls, transport)


@pytest.fixture
def replicas(transport: Transport) -> Iterator[Replicas]:
    """A fresh cluster, whose servers may be killed and frozen."""
    with transport.cluster(3, jetstream=STRICT) as local:
        made = Replicas(local, transport.options)
        try:
            yield made
        finally:
            made.thaw()


def _delete_streams(urls: list[str], transport: Transport) -> None:
    while names := api(urls, "STREAM.NAMES", **transport.options).get("streams"):
        for name in names:
            # The server's files of a stream may come back with it when it is created again at once.
            api(urls, f"STREAM.PURGE.{name}", **transport.options)
            api(urls, f"STREAM.DELETE.{name}", **transport.options)
