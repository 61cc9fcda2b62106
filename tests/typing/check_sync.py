"""What a type checker knows about nats-sync. Read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

import nats_sync
from nats_proto import (
    AuthenticationFailed,
    Closed,
    Connected,
    ContentErrorReceived,
    Disconnected,
    LameDuckMode,
    LifecycleEvent,
    PublishesDropped,
    Reconnected,
    Reconnecting,
    ServerErrorReceived,
    ServersDiscovered,
    SlowConsumer,
)
from nats_proto.errors import HeaderError, NATSError, PermissionsError
from nats_sync import (
    Client,
    ConnectOptions,
    Headers,
    Message,
    ServerInfo,
    SessionStatus,
    StatsSnapshot,
    Status,
    Subscription,
)


def connecting() -> None:
    assert_type(nats_sync.connect(), Client)
    assert_type(nats_sync.connect("nats://a, nats://b", name="n", ping_interval=1.0, echo=False), Client)
    assert_type(nats_sync.connect(["nats://a"], options=ConnectOptions(name="n")), Client)
    with nats_sync.connect() as client:
        assert_type(client, Client)
    nats_sync.connect(nmae="n")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    nats_sync.connect(ping_interval="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    nats_sync.connect(4222)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def sending(client: Client) -> None:
    client.publish("a")
    client.publish("a", bytearray(b"x"), reply="b", headers={"A": "1", "B": ["2", "3"]})
    client.publish("a", memoryview(b"x"), headers=[("A", "1"), ("A", "2")])
    client.publish("a", headers=Headers({"A": "1"}))
    client.publish_many("a", [b"x", bytearray(b"y")])
    client.publish_many("a", (b"x" for _ in range(3)))
    client.publish_many("a", ["text"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    client.publish("a", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.publish("a", headers={"A": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.publish(b"a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(client.request("a", b"x", timeout=1.0), Message)
    for answer in client.request_many("a", max_wait=1.0, max_msgs=3, stall=0.1, sentinel=lambda m: not m.data):
        assert_type(answer, Message)
    with client.request_many("a") as answers:
        assert_type(next(answers), Message)
    assert_type(client.rtt(), float)
    assert_type(client.new_inbox(), str)


def receiving(client: Client) -> None:
    with client.subscribe("a", queue="q", max_msgs=1, max_pending_msgs=1, max_pending_bytes=1) as sub:
        assert_type(sub, Subscription)
        for message in sub:
            assert_type(message, Message)
        assert_type(sub.next(), Message)
        assert_type(sub.next(timeout=1.0), Message)
        assert_type(sub.next_batch(10, timeout=1.0), list[Message])
        assert_type((sub.subject, sub.queue, sub.sid), tuple[str, str | None, int])
        assert_type((sub.pending, sub.delivered, sub.dropped), tuple[tuple[int, int], int, int])
        iterator: Iterator[Message] = iter(sub)
        assert_type(next(iterator), Message)

    def handle(message: Message) -> None:
        message.respond(b"x", headers={"A": "1"})

    assert_type(client.subscribe("a", callback=handle), Subscription)
    client.subscribe("a", callback=lambda message: message.data)
    client.subscribe("a", callback=handle, concurrency=8)
    client.subscribe("a", "q")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.subscribe("a", cb=handle)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.subscribe("a", concurrency="8")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.subscribe("a", callback=lambda: None)  # type: ignore[arg-type,misc]  # pyright: ignore[reportArgumentType]


def reading(message: Message) -> None:
    assert_type((message.subject, message.reply, message.data), tuple[str, str | None, bytes])
    assert_type(message.headers, Headers | None)
    assert_type(message.status, Status | None)
    assert_type(message.header_error, HeaderError | None)
    if message.headers is not None:
        assert_type(message.headers["A"], str)
        assert_type(message.headers.values("A"), list[str])
        assert_type(list(message.headers.items()), list[tuple[str, str]])


def state(client: Client) -> None:
    assert_type(client.status, SessionStatus)
    assert_type(client.stats, StatsSnapshot)
    assert_type(client.server_info, ServerInfo | None)
    assert_type(client.connected_url, str | None)
    assert_type(client.servers, tuple[str, ...])
    assert_type(client.max_payload, int | None)
    assert_type(client.last_error, NATSError | None)


def on_event(event: LifecycleEvent) -> str:
    """Every event is named, so a new one is a finding here."""
    match event:
        case Connected(server=server) | Reconnected(server=server) | Reconnecting(server=server):
            return assert_type(server, str)
        case Disconnected(error=error) | Closed(error=error):
            assert_type(error, NATSError | None)
            return str(error)
        case ServersDiscovered(servers=servers):
            return assert_type(servers, tuple[str, ...])[0]
        case LameDuckMode(migrating=migrating):
            return str(assert_type(migrating, bool))
        case SlowConsumer(dropped=dropped):
            return str(assert_type(dropped, int))
        case ServerErrorReceived(error=PermissionsError(subject=subject)):
            return assert_type(subject, str)
        case PublishesDropped(dropped_msgs=msgs):
            return str(assert_type(msgs, int))
        case ServerErrorReceived() | ContentErrorReceived() | AuthenticationFailed():
            return str(event.error)


def hooks() -> None:
    nats_sync.connect(on_event=on_event, reconnect_delay=lambda rounds: rounds * 0.1)
    nats_sync.connect(on_event=lambda: None)  # type: ignore[arg-type,misc]  # pyright: ignore[reportArgumentType]
