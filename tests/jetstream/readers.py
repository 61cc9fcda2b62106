"""Reading from a consumer beside the test, in each of the ways that there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from tests.adapters.legs import Collected

__all__ = ["WAYS", "Readings", "reading"]

WAYS: Final = ["next", "fetch", "messages", "consume", "work"]
TURN: Final = 0.3
"""Seconds that one fetch waits."""


class Readings(Collected[int]):
    """The numbers that a reader has got, and what it has survived."""

    def __init__(self) -> None:
        super().__init__()
        self.pins: set[str] = set()
        self.redelivered = 0
        self.reader: Any = None

    @property
    def kinds(self) -> list[str]:
        return [warning.kind for warning in self.reader.warnings]

    async def take(self, message: Any, *, acknowledged: bool = True) -> None:
        if acknowledged:
            await message.ack()
        self.redelivered += message.metadata.num_delivered > 1
        if message.headers is not None and "Nats-Pin-Id" in message.headers:
            self.pins.add(message.headers["Nats-Pin-Id"])
        self.add(int(message.data))


@asynccontextmanager
async def reading(consumer: Any, way: str, **options: Any) -> AsyncIterator[Readings]:
    """Meanwhile messages are read and acknowledged, in one of the `WAYS`."""
    got = Readings()
    if way in ("consume", "work"):
        async with getattr(consumer, way)(got.take, **options) as got.reader:
            yield got
        return
    over = False

    async def read() -> None:
        while not over:
            if way == "next":
                if (message := await consumer.next(TURN, **options)) is not None:
                    await got.take(message)
            else:
                async with consumer.fetch(7, timeout=TURN, **options) as batch:
                    async for message in batch:
                        await got.take(message)

    async def read_on() -> None:
        async for message in got.reader:
            await got.take(message)

    async with anyio.create_task_group() as group:
        if way == "messages":
            got.reader = consumer.messages(**options)
            group.start_soon(read_on)
        else:
            group.start_soon(read)
        yield got
        over = True
        if got.reader is not None:
            got.reader.stop()
