"""The two clients at work. They do the same; one with threads, one on asyncio.

Besides plain messages and requests, each stores numbered messages in a replicated stream, and handles all that is
stored there, by a consumer of its own. And each writes keys of a replicated bucket, and watches all of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import anyio

import nats_anyio
import nats_anyio.jetstream
import nats_sync
import nats_sync.jetstream
from nats_proto import LifecycleEvent, Reconnected, SessionStatus
from nats_proto.errors import NATSError, OutboundBufferLimitError

from .buckets import BUCKET, PUT_EVERY, PUT_TIMEOUT, BucketLedger, key_of
from .ledger import Ledger
from .streams import STORE_EVERY, STREAM, SUBJECT, StreamLedger
from .timeline import Timeline

PUBLISH_EVERY: Final = 0.002
REQUEST_EVERY: Final = 0.02
NUMBERS: Final = "demo.numbers"
ANSWERS: Final = "demo.answers"
TRY_FOR: Final = 2.0
RETRY_FOR: Final = 30.0
"""Seconds in which a publish to the stream is tried again; with its id that never stores it twice."""
CONFIRM: Final = 1.0
"""Seconds to wait until a server confirms that a message was handled."""


class ThreadsClient:
    """nats-sync: a publisher, a requester, an iterating and a calling subscriber, each in its own thread."""

    def __init__(self, servers: list[str], peer: str, timeline: Timeline) -> None:
        self.ledger = Ledger("threads")
        self.stored = StreamLedger("threads")
        self.bucket = BucketLedger("threads")
        self._peer = peer
        self._timeline = timeline
        self._stop = threading.Event()
        self._stop_storing = threading.Event()
        self._client = nats_sync.connect(
            servers, name="threads", randomize_servers=False, reconnect_wait=0.25, on_event=self._note
        )
        self._kv = self._client.jetstream().key_value(BUCKET)
        work: list[Callable[[], None]] = [self._publish, self._request, self._subscribe, self._handle, self._watch]
        self._threads = [threading.Thread(target=target, name=f"demo-{target.__name__}") for target in work]
        self._storing = [threading.Thread(target=target, name="demo-store") for target in (self._store, self._put)]
        self._client.subscribe(f"{ANSWERS}.threads", callback=lambda message: message.respond(message.data))

    def start(self) -> None:
        for thread in (*self._threads, *self._storing):
            thread.start()

    @property
    def connected_url(self) -> str | None:
        return self._client.connected_url

    def finish_storing(self) -> None:
        """Store no more, and wait until all that was published is acknowledged."""
        self._stop_storing.set()
        for thread in self._storing:
            thread.join()

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

    def _store(self) -> None:
        pendings: deque[tuple[str, nats_sync.jetstream.PendingAck]] = deque()
        with self._client.jetstream().publisher(timeout=TRY_FOR, retry_for=RETRY_FOR) as publisher:
            while not self._stop_storing.wait(STORE_EVERY):
                self.stored.published += 1
                message = f"threads-{self.stored.published}"
                data = str(self.stored.published).encode()
                pendings.append((message, publisher.publish(f"{SUBJECT}.threads", data, msg_id=message)))
                while pendings and pendings[0][1].done:
                    self._ended(*pendings.popleft())
            for message, pending in pendings:
                self._ended(message, pending)

    def _ended(self, message: str, pending: nats_sync.jetstream.PendingAck) -> None:
        try:
            pending.ack()
        except NATSError as error:
            self.stored.failed += 1
            self._timeline.say("threads", f"{message} is not stored for sure: {error}")
        else:
            self.stored.acknowledges(message)

    def _handle(self) -> None:
        # It ends when the client is drained.
        for message in self._client.jetstream().consumer(STREAM, "threads").messages():
            name = f"{message.subject.rpartition('.')[2]}-{message.data.decode()}"
            self.stored.handles(name, message.reply)
            try:
                message.ack_sync(timeout=CONFIRM)
                self.stored.confirms(name)
            except NATSError:
                self.stored.unconfirmed += 1

    def _put(self) -> None:
        while not self._stop_storing.wait(PUT_EVERY):
            self.bucket.written += 1
            try:
                self._kv.put(key_of("threads", self.bucket.written), b"%d" % self.bucket.written, timeout=PUT_TIMEOUT)
            except NATSError:
                self.bucket.unsure += 1

    def _watch(self) -> None:
        # It ends when the client is drained.
        for change in self._kv.watch():
            if isinstance(change, nats_sync.jetstream.KeyValueEntry):
                self.bucket.tells(change.revision)


class AsyncioClient:
    """nats-anyio: the same in tasks, on an event loop in a thread of its own."""

    def __init__(self, servers: list[str], peer: str, timeline: Timeline) -> None:
        self.ledger = Ledger("asyncio")
        self.stored = StreamLedger("asyncio")
        self.bucket = BucketLedger("asyncio")
        self.connected_url: str | None = None
        self._servers = servers
        self._peer = peer
        self._timeline = timeline
        self._ready = threading.Event()
        self._stopping = False
        self._storing = True
        self._all_stored = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="demo-asyncio")

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(10.0)

    def finish_storing(self) -> None:
        """As that of `ThreadsClient`."""
        self._storing = False
        self._all_stored.wait()

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
            tasks.start_soon(self._handle, client)
            kv = await client.jetstream().key_value(BUCKET)
            tasks.start_soon(self._watch, kv)
            async with anyio.create_task_group() as work:
                work.start_soon(self._publish, client)
                work.start_soon(self._request, client)
                work.start_soon(self._store_all, client, kv)
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

    async def _store_all(self, client: nats_anyio.Client, kv: nats_anyio.jetstream.KeyValue[bytes]) -> None:
        async with anyio.create_task_group() as storing:
            storing.start_soon(self._store, client)
            storing.start_soon(self._put, kv)
        self._all_stored.set()

    async def _store(self, client: nats_anyio.Client) -> None:
        pendings: deque[tuple[str, nats_anyio.jetstream.PendingAck]] = deque()
        async with client.jetstream().publisher(timeout=TRY_FOR, retry_for=RETRY_FOR) as publisher:
            while self._storing:
                await anyio.sleep(STORE_EVERY)
                self.stored.published += 1
                message = f"asyncio-{self.stored.published}"
                data = str(self.stored.published).encode()
                pendings.append((message, await publisher.publish(f"{SUBJECT}.asyncio", data, msg_id=message)))
                while pendings and pendings[0][1].done:
                    await self._ended(*pendings.popleft())
            for message, pending in pendings:
                await self._ended(message, pending)

    async def _ended(self, message: str, pending: nats_anyio.jetstream.PendingAck) -> None:
        try:
            await pending.ack()
        except NATSError as error:
            self.stored.failed += 1
            self._timeline.say("asyncio", f"{message} is not stored for sure: {error}")
        else:
            self.stored.acknowledges(message)

    async def _handle(self, client: nats_anyio.Client) -> None:
        # It ends when the client is drained.
        async for message in client.jetstream().consumer(STREAM, "asyncio").messages():
            name = f"{message.subject.rpartition('.')[2]}-{message.data.decode()}"
            self.stored.handles(name, message.reply)
            try:
                await message.ack_sync(timeout=CONFIRM)
                self.stored.confirms(name)
            except NATSError:
                self.stored.unconfirmed += 1

    async def _put(self, kv: nats_anyio.jetstream.KeyValue[bytes]) -> None:
        while self._storing:
            await anyio.sleep(PUT_EVERY)
            self.bucket.written += 1
            try:
                await kv.put(key_of("asyncio", self.bucket.written), b"%d" % self.bucket.written, timeout=PUT_TIMEOUT)
            except NATSError:
                self.bucket.unsure += 1

    async def _watch(self, kv: nats_anyio.jetstream.KeyValue[bytes]) -> None:
        # It ends when the client is drained.
        async for change in kv.watch():
            if isinstance(change, nats_anyio.jetstream.KeyValueEntry):
                self.bucket.tells(change.revision)
