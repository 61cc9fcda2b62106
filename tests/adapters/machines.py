"""The drivers of machines, operations and calls on all legs, behind one facade."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import nats_anyio
from nats_anyio._engine import driver as anyio_driver
from nats_proto import ApiCall, Machine, Operation
from nats_sync._engine import driver as sync_driver
from tests.adapters.legs import PATIENCE, ThreadsClient, in_thread

__all__ = ["Driven", "call", "run"]

T = TypeVar("T")


class Driven:
    """One machine, run by the driver of a leg's client."""

    def __init__(self, client: nats_anyio.Client | ThreadsClient, machine: Machine[Any, Any]) -> None:
        self._threads = isinstance(client, ThreadsClient)
        if isinstance(client, ThreadsClient):
            self._sync: Any = sync_driver.Driver(client.client._host(), machine)
        else:
            self._anyio: Any = anyio_driver.Driver(client._host(), machine)

    async def next_until(self, deadline: float | None) -> Any:
        if self._threads:
            return await in_thread(lambda: self._sync.next_until(deadline))
        return await self._anyio.next_until(deadline)

    def stop(self) -> None:
        (self._sync if self._threads else self._anyio).stop()

    async def close(self) -> None:
        await (in_thread(self._sync.close) if self._threads else self._anyio.close())

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (item := await self.next_until(None)) is not None:
            yield item


async def call(client: nats_anyio.Client | ThreadsClient, api: ApiCall[T], *, timeout: float = PATIENCE) -> T:
    if isinstance(client, ThreadsClient):
        host = client.client._host()
        return await in_thread(lambda: sync_driver.call(host, api, timeout=timeout))
    return await anyio_driver.call(client._host(), api, timeout=timeout)


async def run(client: nats_anyio.Client | ThreadsClient, operation: Operation[T], *, timeout: float = PATIENCE) -> T:
    if isinstance(client, ThreadsClient):
        host = client.client._host()
        return await in_thread(lambda: sync_driver.run(host, operation, timeout=timeout))
    return await anyio_driver.run(client._host(), operation, timeout=timeout)
