"""The two clients at work. They do the same; one with threads, one on asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

import anyio

import nats_anyio
import nats_sync
from nats_proto import LifecycleEvent, Reconnected, SessionStatus
from nats_proto.errors import NATSError, OutboundBufferLimitError

from .ledger import Ledger
from .timeline import Timeline

PUBLISH_EVERY: Final = 0.002
REQUEST_EVERY: Final = 0.02
NUMBERS: Final = "demo.numbers"
ANSWERS: Final = "demo.answers"


class ThreadsClient:
    """nats-sync: a publisher, a requester, an iterating and a calling subscriber, each in its own thread."""

    def __init__(self, servers: list[str], peer: str, timeline: Timeline) -> None:
        self.ledger = Ledger("threads")
        self._peer = peer
        self._timeline = timeline
        self._stop = threading.Event()
        self._client = nats_sync.connect(
            servers, name="threads", randomize_servers=False, reconnect_wait=0.25, on_event=self._note
        )
        work: list[Callable[[], None]] = [self._publish, self._request, self._subscribe]
        self._threads = [threading.Thread(target=target, name=f"demo-{target.__name__}") for target in work]
        self._client.subscribe(f"{ANSWERS}.threads", callback=lambda message: message.respond(message.data))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def connected_url(self) -> str | None:
        return self._client.connected_url

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads[:2]:
            thread.join()
        self._client.drain(timeout=5.0)
        for thread in self._threads:
            thread.join()

    def _note(self, event: LifecycleEvent) -> None:
        self.ledger.reconnects += isinstance(event, Reconnected)
        self._timeline.event("threads", event)

    def _publish(self) -> None:
        serial = 0
        while not self._stop.wait(PUBLISH_EVERY):
            serial += 1
            away = self._client.status is SessionStatus.RECONNECTING
            try:
                self._client.publish(f"{NUMBERS}.threads", str(serial).encode())
            except OutboundBufferLimitError:
                self.ledger.refused += 1
                continue
            self.ledger.published += 1
            if away and self._client.status is SessionStatus.RECONNECTING:
                self.ledger.buffered.append(serial)

    def _request(self) -> None:
        while not self._stop.wait(REQUEST_EVERY):
            try:
                self._client.request(f"{ANSWERS}.{self._peer}", b"?", timeout=1.0)
                self.ledger.answered += 1
            except NATSError:
                self.ledger.failed += 1

    def _subscribe(self) -> None:
        for message in self._client.subscribe(f"{NUMBERS}.*"):
            self.ledger.saw(message.subject.rpartition(".")[2], int(message.data))


class AsyncioClient:
    """nats-anyio: the same in tasks, on an event loop in a thread of its own."""

    def __init__(self, servers: list[str], peer: str, timeline: Timeline) -> None:
        self.ledger = Ledger("asyncio")
        self.connected_url: str | None = None
        self._servers = servers
        self._peer = peer
        self._timeline = timeline
        self._ready = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="demo-asyncio")

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(10.0)

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()

    async def _run(self) -> None:
        connecting = nats_anyio.connect(
            self._servers, name="asyncio", randomize_servers=False, reconnect_wait=0.25, on_event=self._note
        )
        async with connecting as client, anyio.create_task_group() as tasks:
            await client.subscribe(f"{ANSWERS}.asyncio", callback=lambda message: message.respond(message.data))
            tasks.start_soon(self._subscribe, client)
            async with anyio.create_task_group() as work:
                work.start_soon(self._publish, client)
                work.start_soon(self._request, client)
                self._ready.set()
            await client.drain(timeout=5.0)

    def _note(self, event: LifecycleEvent) -> None:
        self.ledger.reconnects += isinstance(event, Reconnected)
        self._timeline.event("asyncio", event)

    async def _publish(self, client: nats_anyio.Client) -> None:
        serial = 0
        while not self._stopping:
            await anyio.sleep(PUBLISH_EVERY)
            self.connected_url = client.connected_url
            serial += 1
            away = client.status is SessionStatus.RECONNECTING
            try:
                await client.publish(f"{NUMBERS}.asyncio", str(serial).encode())
            except OutboundBufferLimitError:
                self.ledger.refused += 1
                continue
            self.ledger.published += 1
            if away and client.status is SessionStatus.RECONNECTING:
                self.ledger.buffered.append(serial)

    async def _request(self, client: nats_anyio.Client) -> None:
        while not self._stopping:
            await anyio.sleep(REQUEST_EVERY)
            try:
                await client.request(f"{ANSWERS}.{self._peer}", b"?", timeout=1.0)
                self.ledger.answered += 1
            except NATSError:
                self.ledger.failed += 1

    async def _subscribe(self, client: nats_anyio.Client) -> None:
        async for message in client.subscribe(f"{NUMBERS}.*"):
            self.ledger.saw(message.subject.rpartition(".")[2], int(message.data))
