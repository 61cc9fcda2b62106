"""What a type checker knows about JetStream of nats-sync. Read by mypy and pyright, never run.

Row 67 of what users ask: strict types, of what is accepted and of what is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import assert_type

from nats_proto import Headers
from nats_proto.errors import NATSError
from nats_sync import Client
from nats_sync.jetstream import (
    AccountInfo,
    ApiError,
    Batch,
    Consumer,
    ConsumerConfig,
    ConsumerInfo,
    ConsumerPause,
    ConsumerStats,
    ConsumerWarning,
    Consuming,
    Diagnosis,
    FetchReason,
    Hooks,
    JetStream,
    JetStreamMessage,
    KeyValue,
    Messages,
    Metadata,
    OrderedBatch,
    OrderedConsumer,
    OrderedMessages,
    PendingAck,
    PubAck,
    Publisher,
    PushConsumer,
    PushMessages,
    Reject,
    Retry,
    StoredMessage,
    StoredMessages,
    Stream,
    StreamConfig,
    StreamInfo,
    StreamState,
    Timestamp,
    Work,
    WrongLastSequenceError,
)


def contexts(client: Client) -> None:
    assert_type(client.jetstream(), JetStream)
    assert_type(client.jetstream(domain="hub", timeout=2.0), JetStream)
    assert_type(client.jetstream(api_prefix="$JS.hub.API"), JetStream)
    client.jetstream(domain=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.jetstream("hub")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.jetstream(prefix="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def values_of_buckets(js: JetStream) -> None:
    assert_type(js.key_value("b"), KeyValue[bytes])
    assert_type(js.key_value("b", value_type=int), KeyValue[int])
    assert_type(js.create_key_value("b", history=5), KeyValue[bytes])
    kv = js.create_key_value("b", value_type=str, history=5)
    assert_type(kv, KeyValue[str])
    assert_type(kv.get("k").value, str)
    kv.put("k", b"")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def management(js: JetStream) -> None:
    assert_type(js.create_stream("S", subjects=["a", "b.>"]), Stream)
    assert_type(js.create_stream("S", subjects=("a",), storage="memory", retention="workqueue", max_age=3600), Stream)
    assert_type(js.create_stream(config=StreamConfig(name="S")), Stream)
    assert_type(js.update_stream("S", duplicate_window=timedelta(minutes=2), metadata={"a": "1"}), Stream)
    assert_type(js.create_or_update_stream("S", num_replicas=3, timeout=1.0), Stream)
    assert_type(js.stream("S"), Stream)
    assert_type(js.stream_names(), Iterator[str])
    assert_type(next(js.streams("a.>")), StreamInfo)
    assert_type(js.stream_name_by_subject("a"), str)
    assert_type(js.account_info(), AccountInfo)
    assert_type(js.consumer("S", "c"), Consumer)
    js.create_stream("S", subject=["a"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    js.create_stream("S", storage="disk")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    js.create_stream("S", retention=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    js.create_stream("S", max_age="1h")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    js.create_stream("S", subjects=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    js.create_stream("S", num_replicas="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    js.create_stream("S", "a")  # type: ignore[arg-type,call-arg]  # pyright: ignore[reportCallIssue]
    js.create_stream(b"S")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    js.stream()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    js.consumer("S")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    StreamConfig("S")  # type: ignore[arg-type,call-arg]  # pyright: ignore[reportCallIssue]
    StreamConfig(name="S").max_msgs = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def hooks(client: Client) -> None:
    def publish(subject: str, headers: Headers | None) -> dict[str, str]:
        return {"A": subject}

    client.jetstream(hooks=Hooks(publish=publish, received=lambda message: message.ack(), settled=print, warned=print))
    client.jetstream(hooks=Hooks(publish=lambda subject: None))  # type: ignore[misc,arg-type]  # pyright: ignore[reportArgumentType, reportUnknownLambdaType]
    client.jetstream(hooks=Hooks(received=lambda message: message.nope))  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    Hooks(publish)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def streams(stream: Stream) -> None:
    assert_type((stream.name, stream.info), tuple[str, StreamInfo])
    assert_type(stream.refresh(subjects_filter=">", deleted_details=True), StreamInfo)
    assert_type(stream.info.state, StreamState)
    assert_type(stream.info.state.messages, int)
    assert_type(stream.info.config.subjects, Sequence[str] | None)
    assert_type(stream.info.config.metadata, Mapping[str, str] | None)
    assert_type(stream.purge(subject="a", keep=1), int)
    assert_type(stream.get_msg(1), StoredMessage)
    assert_type(stream.get_last_msg("a", direct=True).data, bytes)
    assert_type(stream.get_msgs(sequence=5, batch=100), StoredMessages)
    assert_type(stream.get_last_msgs(["a", "b"], up_to_time=datetime.now(UTC)), StoredMessages)
    for stored in stream.get_msgs():
        assert_type(stored, StoredMessage)
        assert_type(stored.headers, Headers)
    stream.delete_msg(1, secure=True)
    stream.get_msg("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stream.delete_msg(1, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.purge("a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.purge(keep="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stream.get_msgs(start_time=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stream.get_last_msgs(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stream.name = "T"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def consumers(stream: Stream) -> None:
    assert_type(stream.create_consumer("c"), Consumer)
    assert_type(stream.create_consumer(name="c", ack_wait=timedelta(seconds=5), backoff=[1, 2.5]), Consumer)
    assert_type(
        stream.create_consumer("c", filter_subjects=["a"], deliver_policy="new", ack_policy="explicit"), Consumer
    )
    assert_type(stream.create_consumer(config=ConsumerConfig(durable_name="c")), Consumer)
    assert_type(stream.update_consumer("c", max_deliver=3), Consumer)
    assert_type(stream.create_or_update_consumer("c", priority_groups=["g"], priority_policy="overflow"), Consumer)
    assert_type(stream.consumer("c"), Consumer)
    assert_type(stream.ordered_consumer(filter_subjects="a", opt_start_seq=5), OrderedConsumer)
    assert_type(stream.push_consumer("c"), PushConsumer)
    assert_type(next(stream.consumer_names()), str)
    assert_type(next(stream.consumers()), ConsumerInfo)
    assert_type(stream.pause_consumer("c", datetime.now(UTC)), ConsumerPause)
    assert_type(stream.resume_consumer("c").paused, bool)
    assert_type(stream.reset_consumer("c", sequence=1), ConsumerInfo)
    stream.unpin_consumer("c", "g")
    stream.create_consumer("c", deliver_policy="newest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stream.create_consumer("c", ack_policy=None, ackwait=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.create_consumer("c", backoff=["1s"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    stream.create_consumer("c", opt_start_time=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stream.pause_consumer("c", 60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stream.unpin_consumer("c")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.reset_consumer("c", 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.ordered_consumer("a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.ordered_consumer(ack_wait=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def publishing(js: JetStream) -> None:
    assert_type(js.publish("a"), PubAck)
    assert_type(js.publish("a", b"x", headers={"A": "1"}, msg_id="7", ttl=3600.0), PubAck)
    ack = js.publish("a", memoryview(b"x"), expected_last_subject_sequence=0, retry_for=5)
    assert_type((ack.stream, ack.sequence, ack.duplicate, ack.domain), tuple[str, int, bool, str | None])
    assert_type(js.publisher(max_pending=100, in_order=True), Publisher)
    with js.publisher() as publisher:
        assert_type(publisher, Publisher)
        pending = publisher.publish("a", b"x", msg_id="8")
        assert_type(pending, PendingAck)
        assert_type((pending.done, pending.error), tuple[bool, NATSError | None])
        assert_type(pending.ack(timeout=1.0), PubAck)
    js.publish("a", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    js.publish("a", b"x", msg_id=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    js.publish("a", b"x", ttl="1h")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    js.publish("a", b"x", message_id="7")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    js.publish("a", b"x", expected_stream=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    js.publisher(100)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    js.publisher(in_order=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def reading(consumer: Consumer) -> None:
    assert_type((consumer.name, consumer.stream_name, consumer.info), tuple[str, str, ConsumerInfo])
    assert_type(consumer.next(), JetStreamMessage | None)
    assert_type(consumer.next(1.0, group="g", priority=3), JetStreamMessage | None)
    with consumer.fetch(10, timeout=1.0, linger=0.05) as batch:
        assert_type(batch, Batch)
        for message in batch:
            assert_type(message, JetStreamMessage)
        assert_type(batch.reason, FetchReason | None)
    assert_type(consumer.fetch(max_bytes=1000, no_wait=True), Batch)
    with consumer.messages(max_messages=500, on_missing="wait", group="g", min_pending=5) as messages:
        assert_type(messages, Messages)
        assert_type(next(messages), JetStreamMessage)
        assert_type(messages.next(1.0), JetStreamMessage | None)
        assert_type((messages.warnings, messages.outlived), tuple[list[ConsumerWarning], int])
    stats = consumer.stats(timeout=1.0)
    assert_type((stats, stats.pending, stats.info), tuple[ConsumerStats, int, ConsumerInfo])
    assert_type((stats.warnings, stats.last_warning), tuple[Mapping[str, int], ConsumerWarning | None])
    diagnosis = consumer.diagnose()
    assert_type(diagnosis, Diagnosis)
    assert_type(diagnosis.text, str)
    consumer.next(timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    consumer.next().ack()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    consumer.fetch("10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    consumer.fetch(10, 1.0)  # type: ignore[arg-type,call-arg]  # pyright: ignore[reportCallIssue]
    consumer.fetch(10, max_wait=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    consumer.messages(500)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    consumer.messages(on_missing="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    consumer.messages(group=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    consumer.messages(on_warning=lambda: None)  # type: ignore[arg-type,misc]  # pyright: ignore[reportArgumentType]


def acknowledging(message: JetStreamMessage) -> None:
    message.ack()
    message.ack_sync(1.0)
    message.nak()
    message.nak(timedelta(seconds=5))
    message.term("nonsense")
    message.in_progress()
    assert_type(message.data, bytes)
    assert_type(message.settled, bool)
    assert_type(message.metadata, Metadata)
    assert_type((message.metadata.num_delivered, message.metadata.timestamp), tuple[int, Timestamp])
    assert_type(message.deadline, float | None)
    message.nak("5s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    message.term(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    message.ack(True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    message.acknowledge()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def handlers(consumer: Consumer) -> None:
    def handle(message: JetStreamMessage) -> None:
        if message.metadata.num_delivered > 3:
            raise Reject("too often")
        raise Retry(timedelta(seconds=5))

    def told(message: JetStreamMessage, error: BaseException) -> None:
        print(message.subject, error)

    with consumer.consume(handle) as consuming:
        assert_type(consuming, Consuming)
    work = consumer.work(handle, concurrency=8, backoff=(1, 5, 30), dead_letter="dead", on_error=told)
    assert_type(work, Work)
    work.stop()
    work.drain(5.0)
    work.wait(5.0)
    assert_type(work.warnings, list[ConsumerWarning])
    assert_type(consumer.work(handle, key=lambda message: message.subject, keep_alive=60, confirmed=True), Work)
    consumer.work()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    consumer.work("handle")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    consumer.work(lambda: None)  # type: ignore[arg-type,misc]  # pyright: ignore[reportArgumentType]
    consumer.work(handle, 8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    consumer.work(handle, on_poison="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    consumer.work(handle, backoff=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    consumer.work(handle, key="subject")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    consumer.consume(handle, concurrency=8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Retry("5s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def ordered_and_pushed(ordered: OrderedConsumer, push: PushConsumer) -> None:
    assert_type(ordered.messages(), OrderedMessages)
    assert_type(ordered.next(1.0), JetStreamMessage | None)
    assert_type(ordered.fetch(10), OrderedBatch)
    for message in ordered.messages():
        assert_type(message, JetStreamMessage)
    assert_type((ordered.sequence, ordered.pending), tuple[int, int | None])
    assert_type(push.messages(on_missing="recreate"), PushMessages)
    assert_type(push.refresh(), ConsumerInfo)
    ordered.fetch()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ordered.work(print)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    push.fetch(1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def errors(js: JetStream) -> None:
    try:
        js.publish("a", expected_last_sequence=5)
    except WrongLastSequenceError as error:
        assert_type((error.code, error.err_code, error.description), tuple[int, int, str])
    except ApiError as error:
        assert_type(str(error.outcome), str)
