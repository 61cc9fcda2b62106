"""The cluster of these tests does what its methods say."""

from __future__ import annotations

import time

import pytest

import nats_sync
from nats_proto.errors import NATSError
from nats_sync.testing import LocalServer
from tests.jetstream.cluster import ELECTION, PATIENT, Replicas, api
from tests.server_version import needs_server


def test_leaders_step_down(calm_replicas: Replicas) -> None:
    calm_replicas.create_stream("S", "s")
    calm_replicas.api("CONSUMER.CREATE.S.c", {"stream_name": "S", "config": {"name": "c", "durable_name": "c"}})
    for consumer in (None, "c"):
        before = calm_replicas.leader_of("S", consumer)
        calm_replicas.step_down("S", consumer)
        deadline = time.monotonic() + ELECTION
        while before not in calm_replicas.followers_of("S", consumer):  # until the next one is elected
            assert time.monotonic() < deadline
            time.sleep(0.2)
            if calm_replicas.leader_of("S", consumer) is before:  # asked twice by a late answer, it may lead again
                calm_replicas.step_down("S", consumer)


def test_leaders_step_down_over_and_over(calm_replicas: Replicas) -> None:
    calm_replicas.create_stream("S", "s")
    with calm_replicas.stepping_down("S", every=0.01) as done:
        deadline = time.monotonic() + ELECTION
        while len(done) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    calm_replicas.leader_of("S")


def test_a_killed_leader_is_followed_and_comes_back(replicas: Replicas) -> None:
    replicas.create_stream("S", "s")
    with nats_sync.connect(replicas.urls, **PATIENT) as nc:
        nc.jetstream(timeout=5.0).publish("s", b"1", msg_id="1", retry_for=ELECTION)
    killed = replicas.kill_leader("S")
    assert not killed.running
    assert replicas.leader_of("S") is not killed
    replicas.heal()
    replicas.wait_until_current("S")
    assert replicas.api("STREAM.INFO.S")["state"]["messages"] == 1


def test_without_a_majority_nobody_stores(replicas: Replicas) -> None:
    replicas.create_stream("S", "s")
    with replicas.frozen_majority("S") as left:
        assert replicas.answering == [left]
        with nats_sync.connect(left.url, **PATIENT) as nc, pytest.raises(NATSError):
            nc.request("s", b"1", timeout=0.3)
    assert len(replicas.answering) == 3
    replicas.leader_of("S")


def test_a_test_finds_no_streams_of_another(url: str) -> None:
    assert api(url, "STREAM.NAMES")["streams"] is None
    api(url, "STREAM.CREATE.S", {"name": "S"})


def test_a_test_finds_no_streams_of_another_either(url: str) -> None:
    test_a_test_finds_no_streams_of_another(url)


@needs_server(2, 11, has="strict mode")
def test_servers_refuse_what_they_do_not_know(shared_jetstream: LocalServer) -> None:
    answer = api(shared_jetstream.url, "STREAM.CREATE.S", {"name": "S", "unheard_of": 1})
    assert answer["error"]["err_code"] == 10025
