"""Rows 1, 2 and 4 to 8: publishes whose acknowledgements are late, lost, doubled, or somebody else's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import pytest

from nats_proto import Message, SessionStatus
from nats_proto._publishing.window import PublishWindow
from nats_proto.errors import ConnectionLostError, NATSError, NATSTimeoutError
from nats_proto.jetstream import PublishWindowFullError, WrongLastSequenceError
from tests.adapters.legs import PATIENCE, QUICK, Leg, eventually, stands_still
from tests.faults.proxy import Proxy
from tests.jetstream.cluster import ELECTION, Replicas
from tests.jetstream.legs import jetstream
from tests.jetstream.steady import Steadiness, steadily

pytestmark = pytest.mark.anyio


async def _stored(stream: Any) -> dict[int, bytes]:
    """All messages of a stream, by their sequences."""
    count = (await stream.refresh()).state.messages
    consumer = await stream.create_consumer("reader", ack_policy="none")
    found = {}
    async with consumer.fetch(count or 1, timeout=PATIENCE) as batch:
        async for message in batch:
            found[message.metadata.stream_sequence] = message.data
    assert len(found) == count
    return found


async def _has(stream: Any, count: int) -> None:
    """Until a stream has so many messages."""
    with anyio.fail_after(PATIENCE):
        while (await stream.refresh()).state.messages != count:
            await anyio.sleep(0.005)


async def unanswered(publish: Callable[[], Awaitable[object]]) -> NATSTimeoutError:
    """The error of a publish whose acknowledgement does not come; once more when it was given up before it was sent,
    as it may be where the machine stands still."""
    for _ in range(5):
        with pytest.raises(NATSTimeoutError) as error:
            await publish()
        if error.value.outcome != "failed":
            break
    return error.value


async def test_row_1_a_window_keeps_the_order_of_the_calls(leg: Leg, url: str) -> None:
    with Proxy(url) as proxy:
        proxy.up.latency = proxy.down.latency = 0.02
        async with leg.connect(proxy.url) as client:
            js = jetstream(client)
            stream = await js.create_stream("S", subjects=["s"], storage="memory")
            pending, most = [], 0
            async with js.publisher(max_pending=200) as publisher:
                proxy.down.held = True
                for number in range(1000):  # one after another, each with its acknowledgement, this would take 40 s
                    if number == 150:
                        proxy.down.held = False
                    pending.append(await publisher.publish("s", b"%d" % number))
                    most = max(most, publisher.pending)
            assert publisher.pending == 0
            assert 150 <= most <= 200
            acks = [await one.ack() for one in pending]
            assert [ack.sequence for ack in acks] == list(range(1, 1001))
            assert await _stored(stream) == {n + 1: b"%d" % n for n in range(1000)}


async def test_row_1_acknowledgements_are_taken_many_at_once(
    leg: Leg, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one they would cost as much as the publishes themselves."""
    alone = []
    receive = PublishWindow.receive

    def receive_alone(self: PublishWindow[Any, Any], message: Message, *, now: float) -> None:
        alone.append(message)
        receive(self, message, now=now)

    monkeypatch.setattr(PublishWindow, "receive", receive_alone)
    async with leg.connect(url) as client:
        js = jetstream(client)
        await js.create_stream("S", subjects=["s"], storage="memory")
        async with js.publisher(max_pending=50) as publisher:
            for _ in range(1000):
                await publisher.publish("s", b"x")
        assert publisher.pending == 0
        assert alone == []


async def test_row_4_tries_that_find_no_room_are_waited_with(
    leg: Leg, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes nothing for a while costs no processor meanwhile."""
    looks = []
    handle_timeout = PublishWindow.handle_timeout

    def count(self: PublishWindow[Any, Any], *, now: float) -> None:
        looks.append(now)
        handle_timeout(self, now=now)

    monkeypatch.setattr(PublishWindow, "handle_timeout", count)
    with Proxy(url, rcvbuf=4096) as proxy:
        async with leg.connect(proxy.url) as client:
            js = jetstream(client)
            stream = await js.create_stream("S", subjects=["s"], storage="memory")
            async with js.publisher(timeout=0.2, retry_for=PATIENCE) as publisher:
                proxy.up.stop_reading = True
                # Each time that they are sent again fills what systems and client take beyond the server.
                pending = [await publisher.publish("s", bytes(120 * 1024), msg_id=f"{n}") for n in range(8)]
                with pytest.raises(NATSTimeoutError):
                    await pending[0].ack(timeout=2.5)
                assert publisher.pending == len(pending)
                seen = len(looks)
                proxy.up.stop_reading = False
            assert seen < 1000
            assert (await stream.refresh()).state.messages == len(pending)


async def test_row_1_a_full_window_is_waited_for_until_the_time_is_up(leg: Leg, url: str) -> None:
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url) as client:
            js = jetstream(client)
            await js.create_stream("S", subjects=["s"], storage="memory")
            async with js.publisher(max_pending=3) as publisher:
                proxy.down.held = True
                first = [await publisher.publish("s", b"1") for _ in range(3)]
                with pytest.raises(PublishWindowFullError) as full:
                    await publisher.publish("s", b"2", timeout=0.1)
                assert (full.value.max_pending, full.value.outcome) == (3, "failed")
                assert full.value.oldest >= 0.1
                proxy.down.held = False
                assert [(await one.ack()).sequence for one in first] == [1, 2, 3]
                assert (await (await publisher.publish("s", b"3")).ack()).sequence == 4


async def test_row_2_lost_acknowledgements_free_their_places(leg: Leg, url: str) -> None:
    """500 in flight, the acknowledgements vanish, the connection is cut: each publish ends, and the next ones go on."""
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url, **QUICK) as client, leg.connect(url) as other:
            js = jetstream(client)
            stream = await js.create_stream("S", subjects=["s"], storage="memory")
            async with js.publisher(max_pending=500, timeout=4.0) as publisher:
                await (await publisher.publish("s", b"before")).ack()
                proxy.down.black_hole = True
                with_id = [await publisher.publish("s", b"", msg_id=str(number)) for number in range(250)]
                without = [await publisher.publish("s", b"") for _ in range(250)]
                assert publisher.pending == 500
                await _has(jetstream(other).stream("S"), 501)
                proxy.refuse = True  # the next connection is not to begin in the black hole
                proxy.cut()
                proxy.down.black_hole = False
                proxy.refuse = False
                for number, one in enumerate(with_id):
                    assert (await one.ack()).stream == "S", number
                for one in without:
                    with pytest.raises((NATSTimeoutError, ConnectionLostError)) as error:
                        await one.ack()
                    assert error.value.outcome == "unknown"
                assert publisher.pending == 0
                after = [await publisher.publish("s", b"after") for _ in range(1000)]
                assert len({(await one.ack()).sequence for one in after}) == 1000
            stored = list((await _stored(stream)).values())
            assert stored.count(b"after") == 1000
            assert len(stored) == 1501  # nothing is there twice


FORGETS: Final = 2.0
"""Seconds for which the stream of the next test knows a message id."""


async def test_row_4_what_was_tried_again_during_an_outage_is_not_stored_when_its_id_is_forgotten(
    leg: Leg, url: str
) -> None:
    """The first try is stored and its acknowledgement lost; the next ones wait in the client for a connection."""
    options = {"timeout": 0.4, "duplicate_window": FORGETS}
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url, **QUICK) as client, leg.connect(url) as other:
            js = jetstream(client)
            await js.create_stream("S", subjects=["s"], storage="memory", duplicate_window=FORGETS)
            proxy.down.black_hole = True
            errors: list[NATSError] = []

            async def one() -> None:
                with pytest.raises(NATSError) as error:
                    await js.publish("s", b"one", msg_id="1", **options)
                errors.append(error.value)

            async def of_a_window() -> None:
                async with js.publisher(**options) as publisher:
                    pending = await publisher.publish("s", b"of a window", msg_id="2")
                    with pytest.raises(NATSError) as error:
                        await pending.ack()
                    errors.append(error.value)

            async with anyio.create_task_group() as group:
                group.start_soon(one)
                group.start_soon(of_a_window)
                await _has(jetstream(other).stream("S"), 2)
                proxy.refuse = True
                proxy.cut()
                proxy.down.black_hole = False
            assert [error.outcome for error in errors] == ["unknown", "unknown"]
            await anyio.sleep(2 * FORGETS)  # until the server certainly has forgotten both
            proxy.refuse = False
            await eventually(lambda: client.status is SessionStatus.CONNECTED and client.stats.reconnects)
            await client.flush()
            info = await jetstream(other).stream("S").refresh()
            assert info.state.messages == 2


async def test_row_4_a_silence_is_tried_again_only_with_an_identity(leg: Leg, url: str) -> None:
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url) as client:
            js = jetstream(client)
            stream = await js.create_stream("S", subjects=["s"], storage="memory")

            proxy.down.held = True
            unknown = await unanswered(lambda: js.publish("s", b"1", timeout=0.2))
            assert unknown.outcome == "unknown"
            proxy.down.held = False
            assert (await stream.refresh()).state.messages == 1  # it was sent once

            proxy.down.held = True
            before = proxy.up.passed
            async with anyio.create_task_group() as group:

                async def publish() -> None:
                    ack = await js.publish("s", b"2", msg_id="2", timeout=0.2, retry_for=ELECTION)
                    assert (ack.sequence, ack.duplicate) == (2, True)

                group.start_soon(publish)
                await eventually(lambda: proxy.up.passed > before)
                first = proxy.up.passed
                await eventually(lambda: proxy.up.passed > first, "the second try")
                proxy.down.held = False
            assert (await stream.refresh()).state.messages == 2


@pytest.mark.parametrize("windowed", [False, True], ids=["publish", "publisher"])
async def test_row_5_somebody_else_answers_first(leg: Leg, url: str, windowed: bool) -> None:
    async with leg.connect(url) as other, leg.connect(url) as client:
        js = jetstream(client)

        async def answer(message: Any) -> None:
            await message.respond(b"hi")

        async def publish(timeout: float) -> Any:
            if not windowed:
                return await js.publish("s", timeout=timeout)
            async with js.publisher(timeout=timeout) as publisher:
                return await (await publisher.publish("s")).ack()

        async with other.subscribe("s", callback=leg.handler(answer)):
            await other.flush()
            # There is no stream yet. Where the machine stands still, the other one may be too late.
            for timeout in (0.2, 1.0, PATIENCE):
                nobody = await unanswered(lambda timeout=timeout: publish(timeout))
                if "somebody other than a stream has answered: b'hi'" in str(nobody):
                    break
            assert "somebody other than a stream has answered: b'hi'" in str(nobody)
            assert nobody.outcome == "unknown"
            await js.create_stream("S", subjects=["s"], storage="memory")
            for sequence in range(1, 6):
                assert (await publish(PATIENCE)).sequence == sequence


async def test_row_6_a_late_acknowledgement_completes_no_other_publish(leg: Leg, url: str) -> None:
    headers = {"A": "1"}
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url) as client:
            js = jetstream(client)
            stream = await js.create_stream("S", subjects=["s"], storage="memory")
            sequences, late, unsent = {}, 0, 0
            async with js.publisher(max_pending=300, timeout=0.3) as publisher:
                for begin in range(0, 2000, 500):
                    pending = []
                    for number in range(begin, begin + 500):
                        if number == begin + 450:
                            proxy.down.held = True
                        pending.append(await publisher.publish("s", b"%d" % number, headers=headers, timeout=PATIENCE))
                    await stands_still(lambda: proxy.up.passed)  # the server has all of them
                    with pytest.raises(NATSTimeoutError):
                        await pending[-1].ack()
                    proxy.down.held = False
                    for number, one in enumerate(pending, begin):
                        try:
                            sequences[(await one.ack()).sequence] = b"%d" % number
                        except NATSTimeoutError as error:
                            late += 1
                            unsent += error.outcome == "failed"  # where the machine stood still
                assert publisher.pending == 0
            assert 4 <= late < 2000  # the last one of each round, and as many of the others as were given up before it
            stored = await _stored(stream)
            assert unsent < late
            assert len(stored) == 2000 - unsent
            assert {sequence: stored[sequence] for sequence in sequences} == sequences
            assert headers == {"A": "1"}


async def test_row_7_one_identity_is_stored_once(leg: Leg, calm_replicas: Replicas) -> None:
    calm_replicas.create_stream("S", "s")
    async with leg.connect(calm_replicas.urls) as client:
        with steadily(calm_replicas.urls[0], **calm_replicas.options) as steady:
            await publish_each_sixteen_times(client, steady)


async def publish_each_sixteen_times(client: Any, steady: Steadiness) -> None:
    js = jetstream(client)
    for round_number in range(10):
        acks: list[Any] = []

        async def publish(identity: str, acks: list[Any] = acks) -> None:
            acks.append(await js.publish("s", identity.encode(), msg_id=identity))

        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(publish, str(round_number))
        # A leader that gives its lead away takes its answer with it.
        firsts = [ack.duplicate for ack in acks].count(False)
        assert firsts == 1 or (firsts == 0 and steady.stood_still > 0.5)
        assert len({ack.sequence for ack in acks}) == 1
    assert (await js.stream("S").refresh()).state.messages == 10


@pytest.mark.parametrize("replicas", [1, 3])
async def test_row_8_a_conflict_with_itself_is_none(leg: Leg, calm_replicas: Replicas, replicas: int) -> None:
    """The acknowledgement of the first try is lost: the second one finds what the first has stored."""
    calm_replicas.create_stream("S", "s.*", replicas=replicas)
    with Proxy(calm_replicas.urls[0]) as proxy:
        async with leg.connect(proxy.url, ignore_discovered_servers=True) as client:
            js = jetstream(client)
            await js.publish("s.before")  # so the server knows whose the subject is
            proxy.down.held = True
            async with anyio.create_task_group() as group:

                async def publish() -> None:
                    ack = await js.publish(
                        "s.a", b"1", msg_id="1", expected_last_subject_sequence=0, timeout=0.3, retry_for=ELECTION
                    )
                    assert (ack.sequence, ack.duplicate) == (2, True)

                before = proxy.up.passed
                group.start_soon(publish)
                await eventually(lambda: proxy.up.passed > before)
                first = proxy.up.passed
                await eventually(lambda: proxy.up.passed > first, "the second try")
                proxy.down.held = False
            with pytest.raises(WrongLastSequenceError) as conflict:
                await js.publish("s.a", b"2", msg_id="2", expected_last_subject_sequence=0)
            assert conflict.value.outcome == "failed"
            assert (await js.stream("S").refresh()).state.messages == 2
