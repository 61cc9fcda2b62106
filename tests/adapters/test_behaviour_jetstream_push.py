"""Push consumers against real servers, on three legs."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import anyio
import pytest

from nats_proto._jetstream.errors import (
    ConsumerDeletedError,
    ConsumerInUseError,
    ConsumerNotFoundError,
    JetStreamError,
)
from nats_sync.testing import LocalServer
from tests.adapters.jetstream import fill, jetstream, js_server, restart
from tests.adapters.legs import PATIENCE, QUICK, Leg, eventually

__all__ = ["js_server"]

pytestmark = pytest.mark.anyio


async def test_r30_flow_control_and_a_slow_reader(leg: Leg, js_server: LocalServer) -> None:
    """More messages than the limit of the client's queues; the connection serves other requests meanwhile."""
    count = 5000
    async with leg.connect(js_server.url, max_pending_msgs=100) as client, leg.connect(js_server.url) as other:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        await fill(other, count)
        await stream.create_consumer(
            "P",
            deliver_subject="to.p",
            ack_policy="none",
            flow_control=True,
            idle_heartbeat=PATIENCE,  # which a server that stands still is not to miss
            max_ack_pending=None,
        )
        async with stream.push_consumer("P").messages() as messages:
            for number in range(1, count + 1):
                message = await messages.next(PATIENCE)
                assert message is not None
                assert message.metadata.stream_sequence == number
                if number % 1000 == 0:
                    await client.flush()
            assert messages.warnings == []


async def test_r31_a_group_shares_the_messages(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        await stream.create_consumer("P", deliver_subject="to.p", deliver_group="g", ack_policy="explicit")
        got: list[int] = []

        async def read() -> None:
            async with stream.push_consumer("P").messages() as messages:
                ready.append(1)
                while len(got) < 300:
                    message = await messages.next(0.1)
                    if message is not None:
                        await message.ack()
                        got.append(message.metadata.stream_sequence)

        ready: list[int] = []
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(read)
            await eventually(lambda: len(ready) == 3)
            await fill(client, 300)
        assert sorted(got) == list(range(1, 301))


async def test_r31_a_bound_one_without_a_group_is_in_use(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client, leg.connect(js_server.url) as other:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        await stream.create_consumer("P", deliver_subject="to.p")
        await stream.create_consumer("pull")
        await fill(client, 1)
        async with stream.push_consumer("P").messages() as messages:
            assert await messages.next(PATIENCE) is not None
            with pytest.raises(ConsumerInUseError, match="deliver_group"):
                await jetstream(other).stream("S").push_consumer("P").messages().next(PATIENCE)
            await client.reconnect()
            await fill(client, 1)
            assert await messages.next(PATIENCE) is not None  # it is bound by itself
        with pytest.raises(JetStreamError, match="pull consumer"):
            await stream.push_consumer("pull").messages().next(PATIENCE)
        with pytest.raises(ConsumerNotFoundError):
            await stream.push_consumer("none").messages().next(PATIENCE)
        with pytest.raises(ValueError, match="on_missing"):
            stream.push_consumer("P").messages(on_missing="cry")


def told(messages: Any) -> list[str]:
    """Its warnings. A server that stands still misses heart-beats more than once."""
    return [kind for kind, _ in groupby(warning.kind for warning in messages.warnings)]


@pytest.mark.parametrize("on_missing", ["raise", "recreate", "wait"])
async def test_r32_a_consumer_that_is_gone(leg: Leg, js_server: LocalServer, on_missing: Any) -> None:
    async with leg.connect(js_server.url, **QUICK) as client:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        fields = {"name": "P", "deliver_subject": "to.p", "ack_policy": "none", "idle_heartbeat": 0.2}
        await stream.create_consumer(**fields)
        await fill(client, 3)
        async with stream.push_consumer("P").messages(on_missing=on_missing) as messages:
            got = [(await messages.next(PATIENCE)).metadata.stream_sequence for _ in range(3)]
            await stream.delete_consumer("P")
            await fill(client, 2, start=4)
            if on_missing == "raise":
                with pytest.raises(ConsumerDeletedError), anyio.fail_after(PATIENCE):
                    await messages.next()
                assert told(messages) == ["no_heartbeat"]
                return
            if on_missing == "wait":
                with anyio.fail_after(PATIENCE):
                    while "consumer_missing" not in told(messages):
                        assert await messages.next(0.1) is None
                await stream.create_consumer(**fields, deliver_policy="by_start_sequence", opt_start_seq=4)
            got += [(await messages.next(PATIENCE)).metadata.stream_sequence for _ in range(2)]
            assert got == [1, 2, 3, 4, 5]
            # The answer to the creation may come behind the first messages.
            kinds = told(messages)[:3]
            assert ["no_heartbeat", "consumer_missing", "consumer_recreated"][: len(kinds)] == kinds
            assert len(kinds) >= 2


async def test_r32_an_ephemeral_one_and_a_restart(leg: Leg, js_server: LocalServer) -> None:
    """Without heart-beats the new connection is what tells."""
    async with leg.connect(js_server.url, **QUICK) as client:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        # Without the threshold the server deletes it when for five seconds nobody listens, before or after the restart.
        await stream.create_consumer(
            name="P", deliver_subject="to.p", ack_policy="none", mem_storage=True, inactive_threshold=300
        )
        await fill(client, 2)
        async with stream.push_consumer("P").messages(on_missing="recreate") as messages:
            got = [(await messages.next(PATIENCE)).metadata.stream_sequence for _ in range(2)]
            await restart(js_server, client)
            await fill(client, 2, start=3)
            got += [(await messages.next(PATIENCE)).metadata.stream_sequence for _ in range(2)]
            assert got == [1, 2, 3, 4]


async def test_what_is_not_read_comes_again(leg: Leg, js_server: LocalServer) -> None:
    """It is handed back; what the server sent into the moment of leaving is lost until ``ack_wait``."""
    async with leg.connect(js_server.url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["a"])
        await stream.create_consumer("P", deliver_subject="to.p", deliver_group="g", ack_wait=2.0)
        await fill(client, 50)
        async with stream.push_consumer("P").messages() as messages:
            first = await messages.next(PATIENCE)
            await first.ack_sync(PATIENCE)
        got = {first.metadata.stream_sequence}
        async with stream.push_consumer("P").messages() as messages:
            while len(got) < 50:
                message = await messages.next(PATIENCE)
                await message.ack()
                got.add(message.metadata.stream_sequence)
        assert got == set(range(1, 51))
