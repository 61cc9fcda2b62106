"""Rows 69 and 70: a trace goes through streams, and a test finds a server with JetStream that is its own."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest

import nats_sync
import nats_sync.jetstream
from nats_proto import Headers
from nats_proto.jetstream import Hooks, StreamNotFoundError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, Collected, Leg
from tests.jetstream.cluster import PATIENT, STRICT
from tests.jetstream.legs import TIMEOUT, jetstream
from tests.jetstream.seen import counted
from tests.server_version import server_version

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


SPAN: ContextVar[Span | None] = ContextVar("SPAN", default=None)
"""What is done at the moment."""


class Span:
    """One piece of work of a trace, with the work that has led to it."""

    def __init__(self, what: str, number: int, parent: str | None, link: str | None = None) -> None:
        self.what = what
        trace = parent.split("-")[1] if parent else f"{number:032x}"
        self.context = f"00-{trace}-{number:016x}-01"
        self.parent = parent
        self.link = link


class Tracer:
    """As those of OpenTelemetry, with an exporter in memory."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.seen: Collected[str] = Collected()

    def span(self, what: str, parent: str | None, link: str | None = None) -> Span:
        self.spans.append(Span(what, len(self.spans) + 1, parent, link))
        return self.spans[-1]

    def published(self, subject: str, headers: Headers | None) -> Headers:
        current = SPAN.get()
        span = self.span(f"publish {subject}", current and current.context)
        return Headers([*(headers or Headers()).items(), (PARENT, span.context)])

    def received(self, message: Any) -> None:
        self.seen.add(f"received {message.metadata.num_delivered}")

    def settled(self, message: Any, how: str) -> None:
        self.seen.add(f"{how} {message.metadata.num_delivered}")

    def handling(self, message: Any) -> Span:
        """In a handler. Who handles a message again links to where it came from."""
        origin = message.headers[PARENT]
        again = message.metadata.num_delivered > 1
        return self.span(f"handle {message.subject}", origin, origin if again else None)

    def hooks(self) -> Hooks[Any]:
        return Hooks(publish=self.published, received=self.received, settled=self.settled)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "way",
    [
        "publish",
        "window",
        "many",
        pytest.param(
            "batch",
            marks=pytest.mark.skipif(server_version() < (2, 12), reason="batches are atomic since nats-server 2.12"),
        ),
    ],
)
async def test_row_69_publish_consume_publish_is_one_trace_by_hooks(leg: Leg, url: str, way: str) -> None:
    """No call is wrapped, no request for messages is seen, and a redelivery links to where the message came from."""
    async with leg.connect(url) as client:
        tracer = Tracer()
        js = jetstream(client, hooks=tracer.hooks())
        atomic = {"allow_atomic": True} if way == "batch" else {}
        first = await js.create_stream("FIRST", subjects=["first"], storage="memory", **atomic)
        second = await js.create_stream("SECOND", subjects=["second"], storage="memory")

        async def handle(message: Any) -> None:
            SPAN.set(tracer.handling(message))
            if message.metadata.num_delivered == 1:
                await message.nak()
                return
            await js.publish("second", b"2", headers={"A": "b"})

        await publish(js, way)
        async with (await first.create_consumer("c")).work(handle):
            await tracer.seen.wait_for(lambda what: what == "ack 2")
            await tracer.seen.wait_for(lambda what: what == "nak 1")
        # The server may be quicker than the thread that has told it of the first attempt.
        assert [what for what in tracer.seen if what != "nak 1"] == ["received 1", "received 2", "ack 2"]
        headers = (await second.get_msg(1)).headers
        assert headers["A"] == "b"
    begun, failed, again, end = tracer.spans
    assert [span.what for span in tracer.spans] == ["publish first", "handle first", "handle first", "publish second"]
    assert (begun.parent, end.parent) == (None, again.context)
    assert failed.parent == again.parent == begun.context
    assert (failed.link, again.link) == (None, begun.context)
    assert headers[PARENT] == end.context


async def publish(js: Any, way: str) -> None:
    """One message to the first stream."""
    if way == "publish":
        await js.publish("first", b"1")
    elif way == "batch":
        async with js.atomic_batch() as batch:
            await batch.publish("first", b"1")
    else:
        async with js.publisher() as publisher:
            if way == "window":
                await publisher.publish("first", b"1")
            else:
                await publisher.publish_many("first", [b"1"])


@pytest.mark.anyio
async def test_row_69_hooks_see_each_way_to_read_and_what_they_raise_changes_nothing(
    leg: Leg, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, str]] = []

    def note(what: str) -> Any:
        def hook(message: Any, how: str = "") -> None:
            seen.append((what + how, message.subject))
            raise ZeroDivisionError(what)

        return hook

    async with leg.connect(url) as client:
        js = jetstream(client, hooks=Hooks(received=note("received"), settled=note("settled ")))
        stream = await js.create_stream("S", subjects=["a"], storage="memory")
        consumer = await stream.create_consumer("c")
        for number in range(4):
            await js.publish("a", b"%d" % number)
        message = await consumer.next(PATIENCE)
        await message.ack_sync(PATIENCE)
        async for message in consumer.fetch(1, timeout=PATIENCE):
            await message.term("no")
        async with consumer.messages(limit=2) as messages:
            async for message in messages:
                await message.ack()
        async with stream.ordered_consumer() as ordered:
            message = await ordered.next(PATIENCE)
            assert message.data == b"0"
            await message.ack()  # nothing is acknowledged here, and nothing told
        each = ["received", "settled ack", "received", "settled term", *["received", "settled ack"] * 2, "received"]
        assert seen == [(what, "a") for what in each]
        assert "the hook 'received' raised" in caplog.text
        assert "the hook 'settled' raised" in caplog.text


@pytest.mark.anyio
async def test_row_69_what_a_hook_of_publish_raises_comes_out_and_nothing_is_sent(leg: Leg, url: str) -> None:
    def refuse(subject: str, headers: object) -> None:
        raise ZeroDivisionError(subject)

    async with leg.connect(url) as client:
        js = jetstream(client, hooks=Hooks(publish=refuse))
        stream = await js.create_stream("S", subjects=["a"], storage="memory")
        with pytest.raises(ZeroDivisionError):
            await js.publish("a")
        async with js.publisher() as publisher:
            with pytest.raises(ZeroDivisionError):
                await publisher.publish("a")
        assert (await stream.refresh()).state.messages == 0


@pytest.mark.anyio
async def test_row_69_the_figures_of_a_consumer_and_one_place_for_all_warnings(leg: Leg, url: str) -> None:
    """``stats`` says what waits and what was survived; a hook hears of the warnings of every reader."""
    warned: Collected[str] = Collected()
    async with leg.connect(url) as client:
        js = jetstream(client, hooks=Hooks(warned=lambda warning: warned.add(warning.kind)))
        stream = await js.create_stream("S", subjects=["a"], storage="memory")
        consumer = await stream.create_consumer("c", max_batch=2)
        for number in range(5):
            await js.publish("a", b"%d" % number)
        await counted(consumer, 5)
        stats = await consumer.stats()
        assert (stats.pending, stats.ack_pending, stats.redelivered, stats.waiting) == (5, 0, 0, 0)
        assert (dict(stats.warnings), stats.last_warning, stats.missed_heartbeats) == ({}, None, 0)
        await consumer.next(PATIENCE)
        await counted(consumer, 4)
        stats = await consumer.stats()
        assert (stats.pending, stats.ack_pending, stats.info.name) == (4, 1, "c")
        own: list[str] = []
        for _ in range(2):
            async with consumer.messages(max_messages=3, on_warning=lambda warning: own.append(warning.kind)) as reader:
                await reader.next(PATIENCE)
                await reader.next(PATIENCE)
        stats = await consumer.stats()
        assert dict(stats.warnings) == {"limit_lowered": 2}
        assert stats.last_warning.kind == "limit_lowered"
        assert list(warned) == own == ["limit_lowered"] * 2


def test_row_69_without_hooks_messages_and_publishers_are_the_plain_ones() -> None:
    """So that they cost nothing when they are not set."""
    with LocalServer(jetstream=STRICT) as server, nats_sync.connect(server.url, **PATIENT) as nc:
        js = nc.jetstream(hooks=Hooks(warned=print), timeout=TIMEOUT)
        consumer = js.create_stream("S", subjects=["a"], storage="memory").create_consumer("c")
        with js.publisher() as publisher:
            publisher.publish("a")
        assert type(publisher) is nats_sync.jetstream.Publisher
        assert type(consumer.next(PATIENCE)) is nats_sync.jetstream.JetStreamMessage


def test_row_70_tests_share_one_server_and_see_nothing_of_each_other() -> None:
    """An account for each test: streams of the same name, and none of another one's."""
    count = 100
    accounts = {
        f"T{number}": {"jetstream": "enabled", "users": [{"user": f"t{number}", "password": "x"}]}
        for number in range(count)
    }
    with LocalServer({"accounts": accounts}, jetstream=STRICT) as server:
        for number in range(count):
            with nats_sync.connect(server.url, user=f"t{number}", password="x", **PATIENT) as nc:
                js = nc.jetstream(timeout=TIMEOUT)
                with pytest.raises(StreamNotFoundError):
                    js.stream("S").refresh()
                stream = js.create_stream("S", subjects=["s"], storage="memory")
                assert js.publish("s", b"%d" % number).sequence == 1
                assert stream.get_msg(1).data == b"%d" % number
                assert js.account_info().streams == 1
