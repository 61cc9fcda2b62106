"""The replicated flavour of the model is held to a real cluster: the conversations of streams with three replicas."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import nats_sync
from nats_sync.testing import LocalCluster
from tests.simulation.conversations import CONVERSATIONS, ModelTalk, RealTalk, Talk
from tests.simulation.jetstream import JetStream, Sent

pytestmark = pytest.mark.long

DIFFERENT = {
    # A server says at once where the floor of a consumer is that begins later than at the first message; a cluster not.
    "where_they_begin",
    "the_last_of_each_subject_and_what_comes_then",
    "begun_anew",
    "streams_of_interest",
    # Nor does it say that a stream was not there before.
    "made_twice",
    # A request that does not wait and has got some: "408 Request Timeout" with what is left of it, in place of 404.
    "without_waiting",
    "without_waiting_once_something_came",
}
"""What a cluster says otherwise than the model does, in no more than these details."""
GRACE = 0.4
"""Seconds in which the server that we are connected to hears of what the others have just made."""


class _Replicated(Talk):
    def stream(self, name: str = "S", **config: object) -> object:
        return super().stream(name, **{"num_replicas": 3, **config})


class ReplicatedModelTalk(_Replicated, ModelTalk):
    """With the model of a cluster."""

    def __init__(self) -> None:
        super().__init__()
        self.jetstream = JetStream(lambda subject: subject in self._queues, clustered=True)


class ClusterTalk(_Replicated, RealTalk):
    """With three servers."""

    def request(self, subject: str, data: bytes, block: bytes | None, *, short: bool = False) -> Sent | None:
        until = time.monotonic() + GRACE
        while (answer := super().request(subject, data, block, short=short)) is None and not short:
            if time.monotonic() > until:
                break
            time.sleep(0.01)
        return answer


@pytest.fixture(scope="module")
def client() -> Iterator[nats_sync.Client]:
    with LocalCluster(3, jetstream=True) as cluster, nats_sync.connect(cluster.urls) as client:
        yield client


@pytest.mark.parametrize("name", [name for name in CONVERSATIONS if name not in DIFFERENT])
def test_the_model_says_what_the_cluster_says(name: str, client: nats_sync.Client) -> None:
    model = ReplicatedModelTalk()
    CONVERSATIONS[name](model)
    for _ in range(3):
        # A cluster that has much to do is asked again, as a single server is. A model that is wrong is wrong each time.
        real = ClusterTalk(client, model.transcript)
        try:
            CONVERSATIONS[name](real)
        finally:
            real.end()
        if model.transcript == real.transcript:
            return
    assert model.transcript == real.transcript
