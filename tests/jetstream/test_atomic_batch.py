"""Atomic batches (ADR-50): all of a batch is stored or nothing, and every failure says which."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from nats_proto.errors import InvalidSubjectError, LocalProtocolError, MaxPayloadError, NATSError, NATSTimeoutError
from nats_proto.jetstream import AtomicBatchError, NoStreamResponseError, WrongLastSequenceError
from tests.adapters.legs import PATIENCE, QUICK, Leg, eventually, stands_still
from tests.faults.proxy import Proxy
from tests.jetstream.legs import TIMEOUT, jetstream
from tests.jetstream.seen import swallowed
from tests.jetstream.steady import steadily
from tests.jetstream.versions import since
from tests.server_version import needs_server
from tests.transports import Transport

pytestmark = [pytest.mark.anyio]
has_batches = needs_server(2, 12, has="atomic batches")


async def made(js: Any) -> Any:
    return await js.create_stream("S", subjects=["s.>"], allow_atomic=True, storage="memory")


async def stored(stream: Any) -> list[bytes]:
    last = (await stream.refresh()).state.last_seq
    return [(await stream.get_msg(sequence)).data for sequence in range(1, last + 1)]


async def test_a_server_that_is_too_old_is_named(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        with since(2, 12):
            jetstream(client).atomic_batch()


@has_batches
async def test_messages_stand_one_behind_the_other(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)
        async with js.atomic_batch() as batch:
            for number in range(5):
                await batch.publish(f"s.{number}", b"%d" % number, headers={"N": str(number)}, msg_id=str(number))
                await js.publish("s.other", b"other")
                assert (await stream.refresh()).state.messages == number + 1  # nothing of the batch
            assert batch.pub_ack is None
        assert (batch.size, batch.pub_ack.stream) == (5, "S")
        assert (batch.pub_ack.sequence, batch.pub_ack.count) == (10, 5)
        assert await stored(stream) == [b"other"] * 5 + [b"0", b"1", b"2", b"3", b"4"]
        assert (await stream.get_msg(7)).headers["N"] == "1"
        with pytest.raises(LocalProtocolError):
            await batch.publish("s.a")


@has_batches
@pytest.mark.parametrize("count", [0, 1, 2, 1000])
async def test_how_many(leg: Leg, url: str, count: int) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)
        async with js.atomic_batch(ack_every=100) as batch:
            for _ in range(count):
                await batch.publish("s.a")
            if count == 1000:
                with pytest.raises(LocalProtocolError, match="1000 messages at most"):
                    await batch.publish("s.a")
        assert (await stream.refresh()).state.messages == count
        assert (batch.pub_ack is None) == (count == 0)


@has_batches
async def test_more_than_the_server_takes(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)
        batch = js.atomic_batch(max_messages=2000)
        for _ in range(1001):
            await batch.publish("s.a")
        with pytest.raises(AtomicBatchError, match="too large: 1000") as refused:
            await batch.commit()
        assert (refused.value.err_code, refused.value.outcome) == (10199, "failed")
        assert (await stream.refresh()).state.messages == 0


@has_batches
async def test_an_exception_gives_it_up(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)

        async def fail() -> None:
            async with js.atomic_batch() as batch:
                await batch.publish("s.a")
                await batch.publish("s.b")
                raise KeyError

        with pytest.raises(KeyError):
            await fail()
        async with js.atomic_batch() as batch:
            await batch.publish("s.a")
            batch.discard()
        assert batch.pub_ack is None
        assert (await stream.refresh()).state.messages == 0


@has_batches
async def test_a_condition_that_does_not_hold(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)
        await js.publish("s.a", b"before")

        async def change(name: int, street: int) -> None:
            async with js.atomic_batch() as batch:
                await batch.publish("s.a", b"name", expected_last_subject_sequence=name)
                await batch.publish("s.b", b"street", expected_last_subject_sequence=street)

        with pytest.raises(WrongLastSequenceError) as refused:
            await change(1, 7)
        assert refused.value.outcome == "failed"
        assert await stored(stream) == [b"before"]
        await change(1, 0)
        assert await stored(stream) == [b"before", b"name", b"street"]
        batch = js.atomic_batch()
        await batch.publish("s.a", expected_last_sequence=1)
        with pytest.raises(ValueError, match="first message"):
            await batch.publish("s.a", expected_last_sequence=1)
        with pytest.raises(WrongLastSequenceError):
            await batch.commit()


@has_batches
async def test_a_stream_without_batches_and_no_stream(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["s.>"], storage="memory")

        async def catch(batch: Any) -> None:
            async with batch:
                await batch.publish("s.a")
                with pytest.raises(AtomicBatchError):
                    await batch.publish("s.b")
                with pytest.raises(LocalProtocolError):
                    await batch.publish("s.c")

        # Who catches it in the block is told once more when it is left.
        with pytest.raises(AtomicBatchError) as refused:
            await catch(js.atomic_batch())
        assert (refused.value.err_code, refused.value.outcome) == (10174, "failed")
        assert (await stream.refresh()).state.messages == 0
        batch = js.atomic_batch(retry_for=0)
        await batch.publish("nobody.here")
        with pytest.raises(NoStreamResponseError) as nobody:
            await batch.commit()
        assert nobody.value.outcome == "failed"


@has_batches
async def test_what_cannot_be_sent_changes_nothing(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)
        async with js.atomic_batch() as batch:
            await batch.publish("s.a", b"1")
            with pytest.raises(InvalidSubjectError):
                await batch.publish("s a")
            with pytest.raises(MaxPayloadError):
                await batch.publish("s.a", bytes(2_000_000))
            await batch.publish("s.b", b"2")
        assert await stored(stream) == [b"1", b"2"]
        for wrong in ({"timeout": -1}, {"ack_every": 0}, {"max_messages": 0}, {"retry_for": float("nan")}):
            with pytest.raises(ValueError, match=r"."):
                js.atomic_batch(**wrong)


@has_batches
async def test_a_batch_whose_fate_is_unknown_is_repeated_with_its_ids(leg: Leg, url: str, transport: Transport) -> None:
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url) as client, leg.connect(url) as other:
            js = jetstream(client)
            stream = await made(jetstream(other))

            async def store() -> None:
                async with js.atomic_batch(timeout=TIMEOUT if repeated else 0.3) as batch:
                    for number in range(3):
                        await batch.publish("s.a", b"%d" % number, msg_id=str(number))
                        if number == 2 and not repeated:
                            proxy.down.held = True

            repeated = False
            with steadily(url, **transport.options) as steady, pytest.raises(NATSTimeoutError) as unknown:
                await store()
            if steady.stood_still > 0.1:
                return  # another answer than that to the commit may have been too late
            assert unknown.value.outcome == "unknown"
            assert any("commit of an atomic batch of 3" in note for note in unknown.value.__notes__)
            proxy.down.held = False
            repeated = True
            with pytest.raises(AtomicBatchError) as there:
                await store()
            assert there.value.err_code == 10201
            assert await stored(stream) == [b"0", b"1", b"2"]


@has_batches
async def test_messages_that_are_lost_in_the_midst(leg: Leg, url: str) -> None:
    """The connection is cut with messages on their way: nothing is stored, and the commit says so."""
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url, **QUICK) as client, leg.connect(url) as other:
            js = jetstream(client)
            stream = await made(jetstream(other))

            async def lose(batch: Any) -> None:
                async with batch:
                    await batch.publish("s.a")
                    await batch.publish("s.a")
                    proxy.up.black_hole = True
                    for _ in range(10):
                        await batch.publish("s.a")
                    await stands_still(lambda: swallowed(proxy))
                    proxy.refuse = True  # the next connection is not to begin in the black hole
                    proxy.cut()
                    proxy.up.black_hole = False
                    proxy.refuse = False

            with pytest.raises(NATSError) as failed:
                await lose(js.atomic_batch())
            assert isinstance(failed.value, AtomicBatchError)
            assert (failed.value.err_code, failed.value.outcome) == (10176, "failed")
            assert (await stream.refresh()).state.messages == 0


@has_batches
async def test_a_commit_that_was_cancelled(leg: Leg, url: str) -> None:
    if leg.name == "threads":
        pytest.skip("threads cannot be cancelled")
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url) as client:
            js = jetstream(client)
            stream = await made(js)

            async def leave(batch: Any) -> None:
                async with batch:
                    await batch.publish("s.a")
                    proxy.down.held = True
                    before = proxy.up.passed
                    async with anyio.create_task_group() as group:
                        group.start_soon(batch.commit)
                        await eventually(lambda: proxy.up.passed > before)
                        group.cancel_scope.cancel()
                    proxy.down.held = False

            with pytest.raises(LocalProtocolError, match="commit was sent") as interrupted:
                await leave(js.atomic_batch())
            assert interrupted.value.outcome == "unknown"
            with anyio.fail_after(PATIENCE):  # the stream may take the commit behind the question
                while (await stream.refresh()).state.messages != 1:
                    await anyio.lowlevel.checkpoint()
