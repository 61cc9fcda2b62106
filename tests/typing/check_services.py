"""What a type checker knows about services of both clients. Read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

import msgspec

import nats_anyio
import nats_sync
from nats_anyio import services as tasks
from nats_proto.services import EndpointInfo, EndpointStats, ServiceError, ServiceInfo, ServicePing, ServiceStats
from nats_sync import services as threads


class Order(msgspec.Struct):
    item: str


def plain(request: threads.Request[bytes]) -> None:
    assert_type(request.value, bytes)
    request.respond(request.value)
    request.respond_error(404, "none", b"", headers={"Trace": "1"})
    request.respond_error("404", "none")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def typed(request: threads.Request[Order]) -> int:
    assert_type(request.value, Order)
    return len(request.value.item)


def with_threads(client: nats_sync.Client) -> None:
    service = client.add_service("orders", "1.2.0", description="", metadata={"a": "b"}, queue_group=None)
    assert_type(service, threads.Service)
    assert_type(service.endpoint("plain", plain, concurrency=3, subject="a.*"), threads.Endpoint)
    assert_type(service.group("v1").endpoint("typed", typed, request_type=Order), threads.Endpoint)
    service.endpoint("typed", typed)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    service.endpoint("plain", plain, nonsense=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

    @service.endpoint("total", request_type=Order, response_type=int)
    def total(request: threads.Request[Order]) -> int:
        return len(request.value.item)

    assert_type(total, Callable[[threads.Request[Order]], int])
    assert_type(service.info(), ServiceInfo)
    assert_type(service.stats(), ServiceStats)
    assert_type(service.stats().endpoints[0], EndpointStats)
    assert_type(service.endpoints[0].info, EndpointInfo)
    assert_type(service.wait(1.0), bool)
    for ping in client.services("orders").ping():
        assert_type(ping, ServicePing)
    assert_type([info.endpoints[0] for info in client.services().info()], list[EndpointInfo])
    assert_type(threads.service_error(client.request("a")), ServiceError | None)
    assert_type(client.request_service("a", Order("book")), bytes)
    assert_type(client.request_service("a", b"", response_type=bytes), bytes)
    assert_type(client.request_service("a", {"item": "book"}, response_type=Order, timeout=1.0), Order)
    assert_type(client.request_service("a", response_type=list[str]), list[str])
    client.request_service("a", response_type=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    client.add_service("orders")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def waits(request: tasks.Request[Order]) -> None:
    assert_type(request.value, Order)
    await request.respond(b"")


async def with_tasks(client: nats_anyio.Client) -> None:
    async with client.add_service("orders", "1.2.0") as service:
        same: tasks.Service = service
        assert_type(same.endpoint("waits", waits, request_type=Order), tasks.Endpoint)
        assert_type(await service.wait(), bool)
        async for stats in client.services("orders", service.id, timeout=2.0).stats():
            assert_type(stats, ServiceStats)
    assert_type(await client.request_service("a", Order("book")), bytes)
    assert_type(await client.request_service("a", Order("book"), response_type=Order), Order)
    awaited: tasks.Service = await client.add_service("orders", "1.2.0")
    await awaited.stop()
