"""Rows 69 and 70: a trace goes through streams, and a test finds a server with JetStream that is its own."""

from __future__ import annotations

from typing import Any

import pytest

import nats_sync
from nats_proto.jetstream import StreamNotFoundError
from nats_sync.testing import LocalServer
from tests.adapters.legs import Collected, Leg
from tests.jetstream.cluster import STRICT
from tests.jetstream.legs import jetstream

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PARENT = "traceparent"


@pytest.mark.anyio
@pytest.mark.parametrize("windowed", [False, True], ids=["publish", "window"])
async def test_row_69_a_trace_goes_through_streams_and_redeliveries(leg: Leg, url: str, windowed: bool) -> None:
    """The context of a trace (W3C) is a header: each way to publish takes it, each delivery has it, the second too."""
    async with leg.connect(url) as client:
        js = jetstream(client)
        first = await js.create_stream("FIRST", subjects=["first"], storage="memory")
        second = await js.create_stream("SECOND", subjects=["second"], storage="memory")
        seen: Collected[tuple[str, int]] = Collected()

        async def handle(message: Any) -> None:
            seen.add((message.headers[PARENT], message.metadata.num_delivered))
            if message.metadata.num_delivered == 1:
                await message.nak()
                return
            await js.publish("second", b"2", headers={PARENT: message.headers[PARENT]})

        if windowed:
            async with js.publisher() as publisher:
                await publisher.publish("first", b"1", headers={PARENT: TRACE}, msg_id="1")
        else:
            await js.publish("first", b"1", headers={PARENT: TRACE}, msg_id="1")
        async with (await first.create_consumer("c")).work(handle):
            await seen.wait_len(2)
        assert list(seen) == [(TRACE, 1), (TRACE, 2)]
        assert (await second.get_msg(1)).headers[PARENT] == TRACE


def test_row_70_tests_share_one_server_and_see_nothing_of_each_other() -> None:
    """An account for each test: streams of the same name, and none of another one's."""
    count = 100
    accounts = {
        f"T{number}": {"jetstream": "enabled", "users": [{"user": f"t{number}", "password": "x"}]}
        for number in range(count)
    }
    with LocalServer({"accounts": accounts}, jetstream=STRICT) as server:
        for number in range(count):
            with nats_sync.connect(server.url, user=f"t{number}", password="x") as nc:
                js = nc.jetstream()
                with pytest.raises(StreamNotFoundError):
                    js.stream("S").refresh()
                stream = js.create_stream("S", subjects=["s"], storage="memory")
                assert js.publish("s", b"%d" % number).sequence == 1
                assert stream.get_msg(1).data == b"%d" % number
                assert js.account_info().streams == 1
