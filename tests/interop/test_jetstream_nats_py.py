"""JetStream with nats-py: what one has written and configured the other reads, both ways.

Streams are in memory: a server may give a stream in files that is made right after its namesake was deleted some of the
old messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from nats.js import api as their_api
from nats.js.errors import APIError

from nats_proto.jetstream import WrongLastSequenceError
from tests.adapters.legs import Leg, in_thread
from tests.interop.nats_py import TIMEOUT, NatsPy
from tests.jetstream.cluster import api
from tests.jetstream.legs import jetstream
from tests.server_version import server_version

pytestmark = pytest.mark.anyio

STREAM: dict[str, Any] = {
    "subjects": ["s.>", "t.*"],
    "description": "all kinds of fields",
    "max_consumers": 10,
    "max_msgs": 1000,
    "max_bytes": 1_000_000,
    "max_age": 3600.5,
    "max_msgs_per_subject": 5,
    "max_msg_size": 70_000,
    "num_replicas": 1,
    "duplicate_window": 60.25,
    "allow_rollup_hdrs": True,
    "allow_direct": True,
    "deny_delete": True,
    "retention": "limits",
    "storage": "memory",
    "discard": "new",
    "metadata": {"mine": "1"},
}
CONSUMER: dict[str, Any] = {
    "description": "of both",
    "deliver_policy": "by_start_sequence",
    "opt_start_seq": 2,
    "ack_policy": "explicit",
    "max_deliver": 4,
    "backoff": [1.5, 2.0, 30.25],
    "filter_subjects": ["s.a", "s.b"],
    "replay_policy": "instant",
    "sample_freq": "50%",
    "max_waiting": 7,
    "max_ack_pending": 99,
    "headers_only": True,
    "inactive_threshold": 3600.5,
    "mem_storage": True,
    "num_replicas": 1,
    "metadata": {"mine": "1"},
}


def seen(config: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that are spoken of here, as plain values."""
    found: dict[str, Any] = {}
    for name in wanted:
        value = getattr(config, name)
        if isinstance(value, tuple):
            value = list(value)
        elif name == "metadata":  # the server puts its version there
            value = {key: text for key, text in value.items() if not key.startswith("_nats")}
        found[name] = getattr(value, "value", value)
    return found


async def test_streams_that_nats_py_has_made(leg: Leg, url: str, theirs: NatsPy) -> None:
    await in_thread(lambda: theirs(lambda js: js.add_stream(name="S", **STREAM)))
    before = await in_thread(lambda: api(url, "STREAM.INFO.S")["config"])
    async with leg.connect(url) as client:
        js = jetstream(client)
        config = (await js.stream("S").refresh()).config
        assert seen(config, STREAM) == STREAM
        await js.update_stream(config=config)
    assert await in_thread(lambda: api(url, "STREAM.INFO.S")["config"]) == before


async def test_streams_that_we_have_made(leg: Leg, url: str, theirs: NatsPy) -> None:
    async with leg.connect(url) as client:
        await jetstream(client).create_stream("S", **STREAM)
    before = await in_thread(lambda: api(url, "STREAM.INFO.S")["config"])
    info = await in_thread(lambda: theirs(lambda js: js.stream_info("S")))
    assert seen(info.config, STREAM) == STREAM
    await in_thread(lambda: theirs(lambda js: js.update_stream(info.config)))
    assert await in_thread(lambda: api(url, "STREAM.INFO.S")["config"]) == before


async def test_consumers_that_nats_py_has_made(leg: Leg, url: str, theirs: NatsPy) -> None:
    async def make(js: Any) -> None:
        await js.add_stream(name="S", subjects=["s.*"], storage="memory")
        await js.add_consumer("S", their_api.ConsumerConfig(durable_name="c", **CONSUMER))

    await in_thread(lambda: theirs(make))
    async with leg.connect(url) as client:
        stream = jetstream(client).stream("S")
        config = (await stream.consumer("c").refresh()).config
        assert seen(config, CONSUMER) == CONSUMER
        if server_version() < (2, 12):
            # They have it without the name that nats-py did not give, and compare that too.
            await stream.update_consumer(config=config)
        else:
            await stream.create_consumer(config=config)  # the very same, or it would be refused


async def test_consumers_that_we_have_made(leg: Leg, url: str, theirs: NatsPy) -> None:
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s.*"], storage="memory")
        await stream.create_consumer("c", **CONSUMER)
    info = await in_thread(lambda: theirs(lambda js: js.consumer_info("S", "c")))
    assert seen(info.config, CONSUMER) == CONSUMER
    assert (info.stream_name, info.name, info.config.durable_name) == ("S", "c", "c")


# --- messages -------------------------------------------------------------------------------------------------------

HEADERS = {"Trace": "1", "lower-case": "a: colon, and more", "X-Empty": ""}
PAYLOADS = [b"", b"text", bytes(range(256)) * 10, b"\r\n+ACK\r\n", b"x" * 65_000]


def plain(headers: Any) -> dict[str, str]:
    return {name: headers[name] for name in headers or ()}


async def test_messages_that_nats_py_has_published(leg: Leg, url: str, theirs: NatsPy) -> None:
    async def write(js: Any) -> list[int]:
        await js.add_stream(name="S", subjects=["s.*"], storage="memory", allow_direct=True)
        return [(await js.publish("s.a", payload, headers=HEADERS)).seq for payload in PAYLOADS]

    assert await in_thread(lambda: theirs(write)) == [1, 2, 3, 4, 5]
    async with leg.connect(url) as client:
        stream = jetstream(client).stream("S")
        consumer = await stream.create_consumer("c")
        fetched = [message async for message in consumer.fetch(5, timeout=TIMEOUT)]
        direct = [await stream.get_msg(sequence) for sequence in range(1, 6)]
        asked = [await stream.get_msg(sequence, direct=False) for sequence in range(1, 6)]
        for found in (fetched, direct, asked):
            assert [message.data for message in found] == PAYLOADS
            assert [plain(message.headers) for message in found] == [HEADERS] * 5
        ordered = [message.data async for message in stream.ordered_consumer().fetch(5, timeout=TIMEOUT)]
        assert ordered == PAYLOADS


async def test_messages_that_we_have_published(leg: Leg, url: str, theirs: NatsPy) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        await js.create_stream("S", subjects=["s.*"], storage="memory", allow_direct=True)
        for payload in PAYLOADS[:2]:
            await js.publish("s.a", payload, headers=HEADERS)
        async with js.publisher() as publisher:
            for payload in PAYLOADS[2:]:
                await publisher.publish("s.a", payload, headers=HEADERS)

    async def read(js: Any) -> list[list[Any]]:
        subscription = await js.pull_subscribe("s.*", durable="c", stream="S")
        fetched = await subscription.fetch(5, timeout=TIMEOUT)
        asked = [await js.get_msg("S", sequence) for sequence in range(1, 6)]
        direct = [await js.get_msg("S", sequence, direct=True) for sequence in range(1, 6)]
        return [fetched, asked, direct]

    for found in await in_thread(lambda: theirs(read)):
        assert [message.data or b"" for message in found] == PAYLOADS
        for message in found:
            headers = {name: text for name, text in plain(message.headers).items() if not name.startswith("Nats-")}
            assert headers == HEADERS


async def test_a_message_id_is_the_same_from_both(leg: Leg, url: str, theirs: NatsPy) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        await js.create_stream("S", subjects=["s.*"], storage="memory")
        first = await in_thread(lambda: theirs(lambda js: js.publish("s.a", b"1", headers={"Nats-Msg-Id": "one"})))
        assert (first.seq, bool(first.duplicate)) == (1, False)
        again = await js.publish("s.a", b"1", msg_id="one")
        assert (again.sequence, again.duplicate) == (1, True)
        assert (await js.publish("s.a", b"2", msg_id="two")).sequence == 2
        theirs_again = await in_thread(
            lambda: theirs(lambda js: js.publish("s.a", b"2", headers={"Nats-Msg-Id": "two"}))
        )
        assert (theirs_again.seq, theirs_again.duplicate) == (2, True)


async def test_what_each_expects_the_other_has_stored(leg: Leg, url: str, theirs: NatsPy) -> None:
    last = "Nats-Expected-Last-Subject-Sequence"
    async with leg.connect(url) as client:
        js = jetstream(client)
        await js.create_stream("S", subjects=["s.*"], storage="memory")
        await in_thread(lambda: theirs(lambda js: js.publish("s.a", b"1", headers={last: "0"})))
        with pytest.raises(WrongLastSequenceError) as refused:
            await js.publish("s.a", b"2", expected_last_subject_sequence=0)
        assert refused.value.last_sequence == 1
        assert (await js.publish("s.a", b"2", expected_last_subject_sequence=1)).sequence == 2
        with pytest.raises(APIError) as theirs_refused:
            await in_thread(lambda: theirs(lambda js: js.publish("s.a", b"3", headers={last: "1"})))
        assert theirs_refused.value.err_code == 10071


# --- one consumer for both ------------------------------------------------------------------------------------------


async def test_both_work_off_one_consumer(leg: Leg, url: str, theirs: NatsPy) -> None:
    async def begin(js: Any) -> tuple[list[bytes], Any]:
        await js.add_stream(name="S", subjects=["s"], storage="memory")
        for number in range(20):
            await js.publish("s", b"%d" % number)
        subscription = await js.pull_subscribe("s", durable="c", stream="S")
        taken = await subscription.fetch(5, timeout=TIMEOUT)
        for message in taken[:3]:
            await message.ack()
        await taken[3].nak()
        await taken[4].ack_sync(timeout=TIMEOUT)
        return [message.data for message in taken], subscription

    taken, subscription = await in_thread(lambda: theirs(begin))
    assert taken == [b"0", b"1", b"2", b"3", b"4"]
    async with leg.connect(url) as client:
        consumer = jetstream(client).consumer("S", "c")
        ours = [message async for message in consumer.fetch(10, timeout=TIMEOUT)]
        assert [int(message.data) for message in ours] == [3, *range(5, 14)]
        assert [message.metadata.num_delivered for message in ours] == [2] + [1] * 9
        for message in ours[:7]:
            await message.ack()
        await ours[7].nak()
        await ours[8].term("for both")
        await ours[9].ack_sync(timeout=TIMEOUT)

        async def end(js: Any) -> list[tuple[int, int]]:
            found = await subscription.fetch(7, timeout=TIMEOUT)
            for message in found:
                await message.ack_sync(timeout=TIMEOUT)
            return [(int(message.data), message.metadata.num_delivered) for message in found]

        assert await in_thread(lambda: theirs(end)) == [(11, 2), *((number, 1) for number in range(14, 20))]
        info = await consumer.refresh()
        assert (info.num_pending, info.num_ack_pending) == (0, 0)


async def test_both_say_the_same_of_a_message(leg: Leg, url: str, theirs: NatsPy) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["s"], storage="memory")
        for payload in (b"1", b"2"):
            await js.publish("s", payload)
        consumer = await stream.create_consumer("c")  # behind them, so that it has counted both

        async def first(js: Any) -> Any:
            subscription = await js.pull_subscribe_bind("c", stream="S")
            (message,) = await subscription.fetch(1, timeout=TIMEOUT)
            await message.nak()
            return message.metadata

        them = await in_thread(lambda: theirs(first))
        message = await consumer.next(timeout=TIMEOUT)
        if message.metadata.num_delivered == 1:
            message = await consumer.next(
                timeout=TIMEOUT
            )  # the other one has come before the server had handled the nak
        ours = message.metadata
        assert (ours.stream, ours.consumer) == (them.stream, them.consumer)
        assert ours.num_pending <= them.num_pending == 1
        assert ours.stream_sequence == them.sequence.stream
        assert ours.consumer_sequence > them.sequence.consumer
        assert (ours.num_delivered, them.num_delivered) == (2, 1)
        assert abs(ours.timestamp.timestamp() - them.timestamp.timestamp()) < 1e-5  # theirs is a float


async def test_a_push_consumer_of_nats_py(leg: Leg, url: str, theirs: NatsPy) -> None:
    """Its subject is the server's, and whoever listens there gets the messages: first nobody, then we."""

    async def make(js: Any) -> None:
        await js.add_stream(name="S", subjects=["s"], storage="memory")
        for number in range(5):
            await js.publish("s", b"%d" % number)
        await js.add_consumer("S", durable_name="p", deliver_subject="push.here", ack_policy="explicit")

    await in_thread(lambda: theirs(make))
    async with leg.connect(url) as client:
        consumer = jetstream(client).stream("S").push_consumer("p")
        async with consumer.messages() as messages:
            for number in range(5):
                message = await anext(messages)
                assert message.data == b"%d" % number
                await message.ack_sync(timeout=TIMEOUT)
    info = await in_thread(lambda: theirs(lambda js: js.consumer_info("S", "p")))
    assert info.ack_floor.stream_seq == 5


async def test_a_push_consumer_of_ours(leg: Leg, url: str, theirs: NatsPy) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["s"], storage="memory")
        await stream.create_consumer("p", deliver_subject="push.there", deliver_group="g")
        for number in range(5):
            await js.publish("s", b"%d" % number)

        async def read(js: Any) -> list[bytes]:
            subscription = await js.subscribe_bind(
                stream="S", consumer="p", config=(await js.consumer_info("S", "p")).config, manual_ack=True
            )
            found = [await subscription.next_msg(timeout=TIMEOUT) for _ in range(5)]
            for message in found:
                await message.ack_sync(timeout=TIMEOUT)
            return [message.data for message in found]

        assert await in_thread(lambda: theirs(read)) == [b"%d" % number for number in range(5)]
        assert (await stream.consumer("p").refresh()).num_ack_pending == 0


@pytest.mark.parametrize("what", ["nak with delay", "in progress", "term"])
async def test_what_nats_py_answers_counts_for_us(leg: Leg, url: str, theirs: NatsPy, what: str) -> None:
    answers: dict[str, Callable[[Any], Any]] = {
        "nak with delay": lambda message: message.nak(delay=0.2),
        "in progress": lambda message: message.in_progress(),
        "term": lambda message: message.term(),
    }
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["s"], storage="memory")
        consumer = await stream.create_consumer("c", ack_wait=60)
        await js.publish("s", b"1")

        async def answer(js: Any) -> None:
            subscription = await js.pull_subscribe_bind("c", stream="S")
            (message,) = await subscription.fetch(1, timeout=TIMEOUT)
            await answers[what](message)
            await js._nc.flush()

        await in_thread(lambda: theirs(answer))
        if what == "nak with delay":
            message = await consumer.next(timeout=TIMEOUT)
            assert message.metadata.num_delivered == 2
            await message.ack_sync(timeout=TIMEOUT)
        left = 1 if what == "in progress" else 0
        with anyio.fail_after(TIMEOUT):
            while (await consumer.refresh()).num_ack_pending != left:
                await anyio.sleep(0.01)  # a server counts an answer a moment after it has read it
