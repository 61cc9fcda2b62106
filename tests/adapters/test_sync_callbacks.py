"""Callbacks of many subscriptions share workers: none is forgotten, none is held up by another, none runs twice."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

import nats_sync
from nats_proto.errors import NATSTimeoutError
from nats_sync import Client
from nats_sync._engine import callbacks as _callbacks
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually, threads_of


class Free(list[None]):
    """Of a `Handling`: a message arrives in the moment in which a worker puts its item back."""

    def __init__(self, arrive: Callable[[], None], moment: str) -> None:
        super().__init__([None])
        self.arrive = arrive
        self.moment = moment

    def append(self, item: None) -> None:
        if self.moment == "before":
            self.arrive()
        super().append(item)
        if self.moment == "after":
            self.arrive()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_message_in_the_moment_in_which_the_worker_leaves(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Either the reader or the worker sees to it, and not both."""
    monkeypatch.setattr(_callbacks, "MAX_WORKERS", 1)  # no other one takes it meanwhile
    got: list[bytes] = []
    with connect(server) as client:
        late = ["late"]

        def arrive() -> None:
            """From the lock's point of view the reader is as fast as can be: all of its work is done here."""
            if late:
                late.pop()
                received = client.stats.in_msgs
                client.publish("a", b"late")
                client._writer.do(lambda session: None, needs_room=False)
                eventually(lambda: client.stats.in_msgs > received)
                with client._hub.lock:
                    pass  # the reader has told the subscription: that is under the same lock

        sub = client.subscribe("a", callback=lambda message: got.append(message.data))
        assert sub._handling is not None
        sub._handling.free = Free(arrive, moment)
        client.publish("a", b"first")
        eventually(lambda: len(got) == 2)
        client.publish("a", b"last")
        eventually(lambda: len(got) == 3)
        sub.drain(timeout=PATIENCE)
        assert got == [b"first", b"late", b"last"]
        assert sub._handling.free == [None]


class Counting:
    """Subscriptions ``many.0`` to ``many.99`` that count what they get; some block until they are let go."""

    def __init__(self, client: Client, blocking: set[int]) -> None:
        self.counts = [0] * 100
        self.go_on = threading.Event()
        self.blocked = threading.Semaphore(0)
        self.client = client
        self.blocking = blocking
        self.subs = [client.subscribe(f"many.{number}", callback=self._handler(number)) for number in range(100)]
        client.flush()

    def _handler(self, number: int) -> Callable[[nats_sync.Message], None]:
        def handle(_: nats_sync.Message) -> None:
            if number in self.blocking:
                self.blocked.release()
                self.go_on.wait()
            self.counts[number] += 1

        return handle

    def publish_to_all(self, publisher: Client) -> None:
        for number in range(100):
            publisher.publish(f"many.{number}")
        publisher.flush()

    def wait_for(self, times: int) -> None:
        """Until all but those that block have been called so often."""
        eventually(lambda: all(count == times for n, count in enumerate(self.counts) if n not in self.blocking))


def test_a_callback_that_blocks_holds_up_nothing_that_came_with_it(server: LocalServer) -> None:
    """Nor what comes later, for those that its worker has called before, nor the ends of their drains."""
    with connect(server) as client, connect(server) as other:
        counting = Counting(client, {40, 41, 70})
        for times in (1, 2, 3):
            counting.publish_to_all(other)
            counting.wait_for(times)
        for _ in counting.blocking:
            assert counting.blocked.acquire(timeout=PATIENCE)
        for number, sub in enumerate(counting.subs):
            if number not in counting.blocking:
                sub.drain(timeout=PATIENCE)
        waiting = counting.subs[40]
        with pytest.raises(NATSTimeoutError, match="2 messages unread, 1 callback still running"):
            waiting.drain(timeout=0.01)
        counting.go_on.set()
        for number in counting.blocking:
            counting.subs[number].drain(timeout=PATIENCE)
        assert counting.counts == [3] * 100


def test_as_many_as_there_are_workers_may_block_in_one_chunk(server: LocalServer) -> None:
    with connect(server, name="blocks") as client, connect(server) as other:
        blocking = set(range(_callbacks.MAX_WORKERS - 1))
        counting = Counting(client, blocking)
        counting.publish_to_all(other)
        counting.wait_for(1)
        for _ in blocking:
            assert counting.blocked.acquire(timeout=PATIENCE)
        counting.publish_to_all(other)
        counting.wait_for(2)
        assert len([name for name in threads_of("blocks") if "callbacks" in name]) == _callbacks.MAX_WORKERS
        counting.go_on.set()
        eventually(lambda: counting.counts == [2] * 100)


def test_a_worker_that_sleeps_holds_no_subscription(server: LocalServer) -> None:
    with connect(server) as client:
        called = threading.Event()
        subs = [client.subscribe("held", callback=lambda _: called.set())]
        client.publish("held")
        assert called.wait(PATIENCE)
        subs[0].drain(timeout=PATIENCE)
        held = weakref.ref(subs.pop())

        def is_gone() -> bool:
            gc.collect()
            return held() is None

        eventually(is_gone)
        eventually(lambda: client._hub.callbacks.running == {})


def test_a_worker_that_cannot_be_started_is_replaced_by_the_next(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[bytes] = []
    start = threading.Thread.start
    refused: list[str] = []

    def refuse(self: threading.Thread) -> None:
        if "callbacks" in self.name and not refused:
            refused.append(self.name)
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with connect(server) as client:
        client.subscribe("a", callback=lambda message: got.append(message.data))
        client.subscribe("b", callback=lambda message: got.append(message.data))
        client.publish("a", b"1")
        eventually(lambda: refused)
        client.publish("b", b"2")
        eventually(lambda: sorted(got) == [b"1", b"2"])
