"""Fast ingest (ADR-50): one acknowledgement for many, and what is lost or refused is told."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from nats_proto.errors import InvalidSubjectError, LocalProtocolError, NATSTimeoutError
from nats_proto.jetstream import (
    FastIngestError,
    FastIngestGapError,
    IngestGap,
    IngestRefusal,
    NoStreamResponseError,
    WrongLastSequenceError,
)
from tests.adapters.legs import PATIENCE, QUICK, Leg, all_written, stands_still
from tests.faults.proxy import Proxy
from tests.jetstream.legs import jetstream
from tests.jetstream.seen import swallowed
from tests.jetstream.steady import steadily
from tests.jetstream.versions import since
from tests.server_version import needs_server
from tests.transports import Transport

pytestmark = pytest.mark.anyio
has_ingest = needs_server(2, 14, has="fast ingest")


async def made(js: Any, **fields: Any) -> Any:
    return await js.create_stream("S", subjects=["s.>"], allow_batched=True, storage="memory", **fields)


async def stored(stream: Any) -> list[int]:
    """The numbers that are in the stream, in its order."""
    last = (await stream.refresh()).state.last_seq
    return [int((await stream.get_msg(sequence)).data) for sequence in range(1, last + 1)]


async def test_a_server_that_is_too_old_is_named(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        with since(2, 14):
            js.fast_ingest()


@has_ingest
@pytest.mark.parametrize(("flow", "outstanding"), [(1, 1), (10, 2), (100, 2), (65535, 3)])
async def test_all_are_stored_in_order(leg: Leg, url: str, flow: int, outstanding: int) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)
        most = 0
        async with js.fast_ingest(flow=flow, max_outstanding=outstanding) as ingest:
            for number in range(1, 501):
                assert await ingest.publish("s.a", b"%d" % number) == number
                most = max(most, ingest.sent - ingest.acknowledged)
            assert ingest.pub_ack is None
        assert most <= flow * outstanding
        assert (ingest.sent, ingest.acknowledged, ingest.lost, ingest.refused) == (500, 500, 0, 0)
        assert (ingest.pub_ack.stream, ingest.pub_ack.sequence, ingest.pub_ack.count) == ("S", 500, 500)
        assert (await stream.refresh()).state.messages == 500
        assert await stored(stream) == list(range(1, 501))
        with pytest.raises(LocalProtocolError, match="ended"):
            await ingest.publish("s.a")


@has_ingest
@pytest.mark.parametrize("count", [0, 1, 2])
async def test_few(leg: Leg, url: str, count: int) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)
        async with js.fast_ingest() as ingest:
            for _ in range(count):
                await ingest.publish("s.a", headers={"X": "1"}, msg_id=None)
        assert (await stream.refresh()).state.messages == count
        assert (ingest.pub_ack is None) == (count == 0)
        with pytest.raises(LocalProtocolError):
            await ingest.publish("s.a")


@has_ingest
async def test_two_writers_and_an_exception_in_the_block(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)

        async def fail() -> None:
            async with js.fast_ingest() as ingest, js.fast_ingest() as other:
                for number in range(50):
                    await ingest.publish("s.a", b"%d" % number)
                    await other.publish("s.b", b"%d" % number)
                raise KeyError

        with pytest.raises(KeyError) as raised:
            await fail()
        assert not hasattr(raised.value, "__notes__")
        assert (await stream.refresh()).state.messages == 100  # what was published before is stored


@has_ingest
@pytest.mark.parametrize("on_gap", ["fail", "ok"])
async def test_a_refused_message(leg: Leg, url: str, on_gap: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)
        seen: list[Any] = []

        async def publish(ingest: Any) -> None:
            async with ingest:
                for number in range(1, 301):
                    condition = {"expected_last_subject_sequence": 7} if number == 100 else {}
                    await ingest.publish("s.a", b"%d" % number, **condition)

        ingest = js.fast_ingest(on_gap=on_gap, flow=10, on_report=seen.append)
        if on_gap == "ok":
            await publish(ingest)
            assert (ingest.refused, ingest.lost) == (1, 0)
            (report,) = seen
            assert isinstance(report, IngestRefusal)
            assert report.number == 100
            assert isinstance(report.error, WrongLastSequenceError)
            assert ingest.reports == (report,)
            assert await stored(stream) == [number for number in range(1, 301) if number != 100]
            return
        with pytest.raises(WrongLastSequenceError, match="message 100") as refused:
            await publish(ingest)
        assert "99 messages are stored" in refused.value.__notes__[0]
        assert await stored(stream) == list(range(1, 100))


@has_ingest
@pytest.mark.parametrize(("flow", "outstanding"), [(1, 1), (3, 1), (3, 2)])
async def test_a_stream_that_refuses_all_that_comes_is_no_end_of_the_ingest(
    leg: Leg, url: str, flow: int, outstanding: int
) -> None:
    """A server acknowledges what it has stored, so of a window of refused messages there comes no acknowledgement."""
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream(
            "S", subjects=["s.>"], storage="memory", allow_batched=True, max_msgs=5, discard="new"
        )
        with anyio.fail_after(PATIENCE):
            async with js.fast_ingest(on_gap="ok", flow=flow, max_outstanding=outstanding) as ingest:
                for number in range(1, 51):
                    await ingest.publish("s.a", b"%d" % number)
        assert (ingest.refused, ingest.lost) == (45, 0)
        assert await stored(stream) == [1, 2, 3, 4, 5]


@has_ingest
@pytest.mark.parametrize("on_gap", ["fail", "ok"])
async def test_messages_that_are_lost_on_the_way(leg: Leg, url: str, on_gap: str) -> None:
    if url.startswith("tls"):
        pytest.skip("a stream that misses bytes is none for TLS")
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url, ping_interval=60) as client, leg.connect(url) as other:
            js = jetstream(client)
            stream = await made(jetstream(other))

            async def publish(ingest: Any) -> None:
                async with ingest:
                    for number in range(1, 201):
                        # Nothing else is on its way, so whole messages are lost, and no more than five.
                        if number == 51:
                            await client.flush()
                            proxy.up.black_hole = True
                        elif number == 56:
                            await all_written(client)
                            await stands_still(lambda: swallowed(proxy))
                            proxy.up.black_hole = False
                        await ingest.publish("s.a", b"%d" % number)

            ingest = js.fast_ingest(on_gap=on_gap, flow=100)
            if on_gap == "ok":
                await publish(ingest)
                assert ingest.lost == 5
                assert ingest.reports == (IngestGap(51, 56),)
                assert await stored(stream) == [*range(1, 51), *range(56, 201)]
                return
            with pytest.raises(FastIngestGapError) as lost:
                await publish(ingest)
            assert (lost.value.stored, lost.value.first, lost.value.outcome) == (50, 51, "unknown")
            assert await stored(stream) == list(range(1, 51))


@has_ingest
async def test_a_lost_connection(leg: Leg, url: str) -> None:
    """The acknowledgements are lost with it: the server is asked, and what is told in the end is what it has."""
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url, **QUICK) as client, leg.connect(url) as other:
            js = jetstream(client)
            stream = await made(jetstream(other))
            async with js.fast_ingest(on_gap="ok") as ingest:
                for number in range(1, 101):
                    await ingest.publish("s.a", b"%d" % number)
                proxy.down.black_hole = True
                await stands_still(lambda: proxy.up.passed)
                proxy.refuse = True  # the next connection is not to begin in the black hole
                proxy.cut()
                proxy.down.black_hole = False
                proxy.refuse = False
                for number in range(101, 1001):
                    await ingest.publish("s.a", b"%d" % number)
            there = await stored(stream)
            assert there == sorted(set(there))
            assert len(there) == 1000 - ingest.lost
            assert ingest.pub_ack.sequence == len(there)


@has_ingest
async def test_a_silent_server(leg: Leg, url: str, transport: Transport) -> None:
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url) as client, leg.connect(url) as other:
            js = jetstream(client)
            await made(jetstream(other))
            ingest = js.fast_ingest(timeout=0.3)
            with steadily(url, **transport.options) as steady:
                try:
                    await ingest.publish("s.a")
                    await ingest.publish("s.a")
                except NATSTimeoutError:
                    assert steady.stood_still > 0.1
                    return  # it was silent before its time
            proxy.down.held = True
            with pytest.raises(NATSTimeoutError, match="of 2 messages were acknowledged") as silent:
                await ingest.__aexit__(None, None, None)
            assert silent.value.outcome == "unknown"
            with pytest.raises(NATSTimeoutError):
                await ingest.__aexit__(None, None, None)  # nobody takes it for stored later either
            with pytest.raises(LocalProtocolError):
                await ingest.publish("s.a")
            proxy.down.held = False


@has_ingest
async def test_streams_that_take_none(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["s.>"], storage="memory")

        async def publish(subject: str) -> None:
            async with js.fast_ingest() as ingest:
                await ingest.publish(subject)
                await ingest.publish(subject)

        with pytest.raises(FastIngestError) as refused:
            await publish("s.a")
        assert (refused.value.err_code, refused.value.outcome) == (10205, "failed")
        with pytest.raises(NoStreamResponseError):
            await publish("nobody.here")
        assert (await stream.refresh()).state.messages == 0


@has_ingest
async def test_what_cannot_be_sent_takes_no_number(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)
        async with js.fast_ingest() as ingest:
            await ingest.publish("s.a", b"1")
            with pytest.raises(InvalidSubjectError):
                await ingest.publish("s a", b"2")
            assert await ingest.publish("s.b", b"2") == 2
        assert await stored(stream) == [1, 2]
        for wrong in ({"flow": 0}, {"flow": 65536}, {"max_outstanding": 0}, {"on_gap": "no"}, {"timeout": 0}):
            with pytest.raises(ValueError, match=r"."):
                js.fast_ingest(**wrong)
