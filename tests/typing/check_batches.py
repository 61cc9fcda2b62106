"""Batches and counters of both clients, as type checkers see them."""

from typing import assert_type

import nats_anyio.jetstream
import nats_sync.jetstream
from nats_proto.jetstream import CounterEntry, IngestGap, IngestRefusal, PubAck


def with_threads(js: nats_sync.jetstream.JetStream) -> None:
    with js.atomic_batch(timeout=1.0, retry_for=0, ack_every=10, max_messages=50) as batch:
        assert_type(batch, nats_sync.jetstream.AtomicBatch)
        batch.publish("a", b"x", msg_id="1", expected_last_subject_sequence=0)
        batch.publish("a", mgs_id="1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        assert_type(batch.commit(), PubAck)
    assert_type((batch.size, batch.pub_ack), tuple[int, PubAck | None])
    batch.discard()

    def on_report(report: IngestGap | IngestRefusal) -> None:
        match report:
            case IngestGap(first=first, next=after):
                assert_type((first, after), tuple[int, int])
            case IngestRefusal(number=number):
                assert_type(number, int)

    with js.fast_ingest(flow=10, max_outstanding=3, on_gap="ok", on_report=on_report) as ingest:
        assert_type(ingest, nats_sync.jetstream.FastIngest)
        assert_type(ingest.publish("a", b"x"), int)
    assert_type((ingest.sent, ingest.acknowledged, ingest.lost, ingest.refused), tuple[int, int, int, int])
    assert_type(ingest.close(), PubAck | None)
    js.fast_ingest(on_gap="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    counter = js.counter("hits", stream="HITS")
    assert_type(counter.add(-(10**30), msg_id="1"), int)
    assert_type(counter.value(direct=False), int)
    assert_type(counter.entry(), CounterEntry)
    for entry in js.counters("HITS", ["hits.>"], timeout=1.0):
        assert_type(entry, CounterEntry)
    counter.add(1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def with_tasks(js: nats_anyio.jetstream.JetStream) -> None:
    async with js.atomic_batch() as batch:
        assert_type(batch, nats_anyio.jetstream.AtomicBatch)
        await batch.publish("a", b"x")
        assert_type(await batch.commit(), PubAck)
    async with js.fast_ingest() as ingest:
        assert_type(await ingest.publish("a", b"x"), int)
    assert_type(await ingest.aclose(), PubAck | None)
    counter = js.counter("hits")
    assert_type(await counter.add(), int)
    assert_type(await counter.value(), int)
    assert_type((await counter.entry()).sources["EU"]["hits"], int)
    async for entry in js.counters("HITS", "hits.>"):
        assert_type(entry, CounterEntry)
