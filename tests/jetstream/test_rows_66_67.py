"""Rows 66 and 67, as far as management goes: no quorum is not "not there", and misuse of a loop is named."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import nats_anyio.jetstream
import nats_proto.jetstream
import nats_sync.jetstream
from nats_proto.errors import NATSError
from nats_proto.jetstream import ConsumerNotFoundError, StreamNotFoundError
from tests.adapters.legs import Leg, in_thread
from tests.jetstream.cluster import ELECTION, Replicas, patiently
from tests.jetstream.legs import jetstream

pytestmark = pytest.mark.anyio


async def test_row_66_without_quorum_nothing_is_reported_as_absent(leg: Leg, replicas: Replicas) -> None:
    await in_thread(lambda: replicas.create_stream("S", "s"))
    durable = {"stream_name": "S", "config": {"durable_name": "c"}}
    await in_thread(lambda: replicas.api("CONSUMER.CREATE.S.c", durable))
    await in_thread(lambda: replicas.leader_of("S", "c"))
    with replicas.frozen_majority("S") as left:
        async with leg.connect(left.url) as client:
            js = jetstream(client)
            with pytest.raises(NATSError) as raised:  # its leader is frozen
                await js.stream("S").refresh(timeout=1.0)
            assert not isinstance(raised.value, StreamNotFoundError)
            for call in (js.stream("S").consumer("c").refresh, js.account_info):
                # The server that is left may happen to lead the consumer, or the account, and then it answers.
                assert not isinstance(await failure_of(call), (StreamNotFoundError, ConsumerNotFoundError))
            with pytest.raises(NATSError):
                await js.create_stream("T", subjects=["t"], num_replicas=3, timeout=1.0)
            await client.flush()  # core NATS works
    async with leg.connect(replicas.urls) as client:
        await in_thread(lambda: replicas.cluster.wait_for_leader(ELECTION))
        await in_thread(lambda: replicas.leader_of("S"))
        assert (await patiently(jetstream(client).stream("S").refresh)).config.name == "S"


async def failure_of(call: Callable[..., Awaitable[object]]) -> NATSError | None:
    try:
        await call(timeout=1.0)
    except NATSError as error:
        return error
    return None


async def test_row_67_from_another_loop_it_is_a_clear_error(leg: Leg, url: str) -> None:
    if leg.name == "threads":
        return  # any thread may call it
    async with leg.connect(url) as client:
        js = jetstream(client)
        raised: list[Any] = []

        def elsewhere() -> None:
            try:
                anyio.run(js.account_info, backend=leg.backend)
            except Exception as error:
                raised.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await in_thread(thread.join)
        assert len(raised) == 1
        assert isinstance(raised[0], (NATSError, RuntimeError))
        assert "loop" in str(raised[0])
        assert (await js.account_info()).streams == 0


def test_row_67_every_public_name_is_exported_by_both_clients() -> None:
    for name in nats_proto.jetstream.__all__:
        assert getattr(nats_sync.jetstream, name) is getattr(nats_anyio.jetstream, name)
        assert name in nats_sync.jetstream.__all__
    assert sorted(nats_sync.jetstream.__all__) == sorted(nats_anyio.jetstream.__all__)
