"""Rows 26, 27 and 30 with servers that restart and readers that are slow; ``FAULTS=full`` takes the sizes that users
have named."""

from __future__ import annotations

import os
import time
from typing import Any

import anyio
import pytest

from nats_proto import Reconnected
from tests.adapters.legs import PATIENCE, QUICK, EventLog, Leg, eventually, in_thread
from tests.jetstream.cluster import STRICT
from tests.jetstream.legs import jetstream
from tests.jetstream.steady import steadily
from tests.transports import Transport

FULL = os.environ.get("FAULTS") == "full"

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp"), pytest.mark.timeout(3600 if FULL else 120)]

WATCHERS, RESTARTS, PAUSE = (100, 20, 1.0) if FULL else (8, 2, 0.0)
MESSAGES = 1_000_000 if FULL else 6000
PUSHED = 200_000 if FULL else 6000


async def _fill(client: Any, count: int) -> None:
    js = jetstream(client)
    async with js.publisher() as publisher:
        for number in range(count):
            await publisher.publish("s", b"%d" % number)


async def test_row_26_restarts_make_no_storm_of_consumers(leg: Leg, transport: Transport) -> None:
    """Never more than two consumers of one reader, and in the end exactly one."""
    with transport.server(jetstream=STRICT) as server:
        events, of_admin = EventLog(), EventLog()
        async with (
            leg.connect(server.url, on_event=events, **QUICK) as client,
            leg.connect(server.url, on_event=of_admin, **QUICK) as admin,
        ):
            # What a killed server was asked is asked again, after the time that users have.
            stream = await jetstream(client, timeout=5.0).create_stream("S", subjects=["s"])
            got = [0] * WATCHERS
            readers = [stream.ordered_consumer(name_prefix=f"w{number}", heartbeat=0.5) for number in range(WATCHERS)]

            async def read(number: int) -> None:
                async for message in readers[number].messages():
                    assert int(message.data) == got[number]
                    got[number] += 1

            async def owners() -> list[str]:
                names = [name async for name in jetstream(admin).stream("S").consumer_names()]
                return [name.partition("-")[0] for name in names]

            async def most_of_one_reader() -> int:
                found = await owners()
                return max(map(found.count, found), default=0)

            async with anyio.create_task_group() as group:
                for number in range(WATCHERS):
                    group.start_soon(read, number)
                for turn in range(RESTARTS):
                    await jetstream(admin).publish("s", b"%d" % turn)
                    await eventually(lambda turn=turn: min(got) > turn, timeout=60)
                    assert await most_of_one_reader() <= 2
                    await in_thread(server.restart)
                    await events.wait(Reconnected, count=turn + 1)
                    await of_admin.wait(Reconnected, count=turn + 1)
                    assert await most_of_one_reader() <= 2
                    await anyio.sleep(PAUSE)
                await jetstream(admin).publish("s", b"%d" % RESTARTS)
                await eventually(lambda: min(got) > RESTARTS, timeout=60)
                with anyio.fail_after(PATIENCE):  # those that were given up are deleted a moment later
                    while sorted(await owners()) != sorted(f"w{n}" for n in range(WATCHERS)):
                        await anyio.sleep(0.02)
                for reader in readers:
                    reader.stop()


async def test_row_27_a_reader_that_pauses_has_no_hole(leg: Leg, url: str) -> None:
    """More messages than the client keeps for any subscription, and fifty pauses."""
    async with leg.connect(url, max_pending_msgs=1000) as client, leg.connect(url) as other:
        stream = await jetstream(client).create_stream("S", subjects=["s"], storage="memory")
        await _fill(other, MESSAGES)
        expected = 0
        async with stream.ordered_consumer(max_messages=2000).messages() as messages:
            async for message in messages:
                assert int(message.data) == expected
                expected += 1
                if expected == MESSAGES:
                    break
                if expected % (MESSAGES // 50) == 0:
                    await anyio.sleep(0.005)
            assert messages.warnings == []


async def test_row_30_a_push_consumer_under_flow_control_stalls_nobody(
    leg: Leg, url: str, record_property: Any, transport: Transport
) -> None:
    """All of it comes, and requests on the same connection are answered meanwhile."""
    async with leg.connect(url, max_pending_msgs=1000) as client, leg.connect(url) as other:
        stream = await jetstream(client).create_stream("S", subjects=["s"], storage="memory")
        await _fill(other, PUSHED)
        await stream.create_consumer(
            "P", deliver_subject="to.p", ack_policy="none", flow_control=True, idle_heartbeat=0.5
        )
        times: list[float] = []
        over = False

        async def ask() -> None:
            while not over:
                began = time.monotonic()
                await client.rtt()
                times.append(time.monotonic() - began)
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            with steadily(url, **transport.options) as steady:
                async with stream.push_consumer("P").messages() as messages:
                    for number in range(PUSHED):
                        assert int((await anext(messages)).data) == number
                    assert messages.warnings == [] or steady.stood_still > 0.25
            over = True
        times.sort()
        record_property("row 30", f"row 30 {leg.name}: p99 of a request {times[len(times) * 99 // 100] * 1e3:.1f} ms")
        assert len(times) > 1
