"""The model of JetStream is held to the truth: the same conversations with it and with a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import nats_sync
from nats_sync.testing import LocalServer
from tests.server_version import server_version
from tests.simulation.conversations import CONVERSATIONS, ModelTalk, RealTalk


@pytest.fixture(scope="module")
def client() -> Iterator[nats_sync.Client]:
    with LocalServer(jetstream=True) as server, nats_sync.connect(server.url) as client:
        yield client


def test_there_are_many() -> None:
    assert len(CONVERSATIONS) >= 60


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_model_says_what_the_server_says(name: str, client: nats_sync.Client) -> None:
    if server_version() < (2, 14) and ("batch" in name or "ingest" in name):
        pytest.skip("this server does not know them")
    model = ModelTalk()
    CONVERSATIONS[name](model)
    for _ in range(3):
        # A server that has much to do may answer before it has counted what came before. A model that is wrong is
        # wrong each time.
        real = RealTalk(client, model.transcript)
        try:
            CONVERSATIONS[name](real)
        finally:
            real.end()
        if model.transcript == real.transcript:
            return
    assert model.transcript == real.transcript
