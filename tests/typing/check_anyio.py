"""What a type checker knows about nats-anyio. Read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

import anyio

import nats_anyio
from nats_anyio import (
    Client,
    Connecting,
    ConnectOptions,
    Headers,
    Message,
    ServerInfo,
    SessionStatus,
    StatsSnapshot,
    Status,
    Subscription,
)
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


async def connecting() -> None:
    assert_type(nats_anyio.connect(), Connecting)
    assert_type(nats_anyio.connect("nats://a, nats://b", name="n", ping_interval=1.0, echo=False), Connecting)
    assert_type(nats_anyio.connect(["nats://a"], options=ConnectOptions(name="n")), Connecting)
    async with nats_anyio.connect() as client:
        assert_type(client, Client)
    assert_type(await nats_anyio.open("nats://a", name="n"), Client)
    async with anyio.create_task_group() as group:
        assert_type(await nats_anyio.open(["nats://a"], task_group=group, options=ConnectOptions(name="n")), Client)
    async with await nats_anyio.open() as client:
        assert_type(client, Client)
    await nats_anyio.open(nmae="n")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    nats_anyio.connect(nmae="n")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    nats_anyio.connect(ping_interval="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    nats_anyio.connect(4222)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def sending(client: Client) -> None:
    await client.publish("a")
    await client.publish("a", bytearray(b"x"), reply="b", headers={"A": "1", "B": ["2", "3"]})
    await client.publish("a", memoryview(b"x"), headers=[("A", "1"), ("A", "2")])
    await client.publish("a", headers=Headers({"A": "1"}))
    await client.publish_many("a", [b"x", bytearray(b"y")])
    await client.publish_many("a", (b"x" for _ in range(3)))
    await client.publish_many("a", ["text"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await client.publish("a", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.publish("a", headers={"A": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.publish(b"a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.publish("not awaited")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    assert_type(await client.request("a", b"x", timeout=1.0), Message)
    async for answer in client.request_many("a", max_wait=1.0, max_msgs=3, stall=0.1, sentinel=lambda m: not m.data):
        assert_type(answer, Message)
    async with client.request_many("a") as answers:
        assert_type(await anext(answers), Message)
    assert_type(await client.rtt(), float)
    assert_type(client.new_inbox(), str)


async def receiving(client: Client) -> None:
    async with client.subscribe("a", queue="q", max_msgs=1, max_pending_msgs=1, max_pending_bytes=1) as sub:
        _ = assert_type(sub, Subscription)
        async for message in sub:
            assert_type(message, Message)
        assert_type(await sub.next(), Message)
        assert_type(await sub.next(timeout=1.0), Message)
        assert_type(await sub.next_batch(10, timeout=1.0), list[Message])
        assert_type((sub.subject, sub.queue, sub.sid), tuple[str, str | None, int])
        assert_type((sub.pending, sub.delivered, sub.dropped), tuple[tuple[int, int], int, int])
        iterator: AsyncIterator[Message] = aiter(sub)
        assert_type(await anext(iterator), Message)
    async for message in client.subscribe("a"):
        assert_type(message, Message)

    async def handle(message: Message) -> None:
        await message.respond(b"x", headers={"A": "1"})

    def handle_at_once(message: Message) -> None:
        print(message.data)

    _ = assert_type(await client.subscribe("a", callback=handle), Subscription)
    _ = await client.subscribe("a", callback=handle_at_once)
    _ = await client.subscribe("a", callback=handle, concurrency=8)
    _ = await client.subscribe("a", "q")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    _ = await client.subscribe("a", cb=handle)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    _ = await client.subscribe("a", concurrency="8")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _ = await client.subscribe("a", callback=lambda: None)  # type: ignore[arg-type,misc]  # pyright: ignore[reportArgumentType]


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
    nats_anyio.connect(on_event=on_event, reconnect_delay=lambda rounds: rounds * 0.1)
    nats_anyio.connect(on_event=lambda: None)  # type: ignore[arg-type,misc]  # pyright: ignore[reportArgumentType]
