"""A stream for each repetition, and what became of it: the server is asked, not the client under measurement.

One memory stream takes the subject that all clients use. It is made anew for each repetition: empty for a client that
publishes; with numbered messages, and often a consumer, for one that reads. Requests of the JetStream API are made here
by their JSON, so that nothing of ours but the plain client has a part in the preparation.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, cast

import nats_sync
from nats_sync.testing import LocalServer

from . import order

__all__ = ["BUCKET", "CONSUMER", "KEY", "KEYS", "OBJECT", "OBJECTS", "OBJECT_CHUNK", "STREAM", "Streams", "streams_of"]

STREAM: Final = "BENCH"
CONSUMER: Final = "bench"
PLAIN: Final[Mapping[str, object]] = {"name": STREAM, "subjects": [order.SUBJECT], "storage": "memory"}
BUCKET: Final = STREAM
KEY: Final = "key.%d"
KEYS: Final[Mapping[str, object]] = {
    "name": f"KV_{BUCKET}",
    "subjects": [f"$KV.{BUCKET}.>"],
    "storage": "memory",
    "max_msgs_per_subject": 1,
    "discard": "new",
    "allow_rollup_hdrs": True,
    "deny_delete": True,
    "allow_direct": True,
}
"""A bucket of Key-Value (ADR-8)."""
OBJECT: Final = "object"
OBJECTS: Final[Mapping[str, object]] = {
    "name": f"OBJ_{BUCKET}",
    "subjects": [f"$O.{BUCKET}.C.>", f"$O.{BUCKET}.M.>"],
    "storage": "memory",
    "discard": "new",
    "allow_rollup_hdrs": True,
    "allow_direct": True,
}
"""A bucket of the object store (ADR-20)."""
OBJECT_CHUNK: Final = 128 * 1024
OBJECT_CHUNKS_AT_ONCE: Final = 64
"""Of them are published before one that the stream acknowledges."""
PROOF: Final = "bench.proof"
CHUNK: Final = 2000
"""Messages published before one that the stream acknowledges: a server drops what it cannot take in time."""
PATIENCE: Final = 2.0
"""Seconds in which a server has looked at all that it was sent."""

Answer = dict[str, object]


class Streams:
    """The one stream of a server, and its one consumer. ``config``: what makes the stream a bucket (`buckets`)."""

    def __init__(self, client: nats_sync.Client, config: Mapping[str, object] = PLAIN) -> None:
        self._client = client
        self._config = config
        self._name = str(config["name"])

    def ask(self, call: str, **given: object) -> Answer:
        """The answer to a call of the API. `RuntimeError` for one that was refused."""
        asked = json.dumps(given).encode()
        answer: Answer = json.loads(self._client.request(f"$JS.API.{call}", asked, timeout=30.0).data)
        if "error" in answer:
            raise RuntimeError(f"{call}: {answer['error']}")
        return answer

    def make(self) -> None:
        """The stream, empty, whatever was there."""
        if self._name in cast(list[str], self.ask("STREAM.NAMES").get("streams") or []):
            self.ask(f"STREAM.DELETE.{self._name}")
        self.ask(f"STREAM.CREATE.{self._name}", **self._config)

    def fill(self, count: int, size: int, fault: str = "") -> None:
        """Numbered messages. With a fault one of them is lost, is there twice, or has changed places."""
        numbers = lie(count, fault) if fault else range(count)
        for begin in range(0, count, CHUNK):
            *most, last = [order.payload(number, size) for number in numbers[begin : begin + CHUNK]]
            self._client.publish_many(order.SUBJECT, most)
            self._client.request(order.SUBJECT, last, timeout=30.0)

    def fill_keys(self, count: int, size: int, fault: str = "") -> None:
        """So many keys, each with a numbered value. With a fault the numbers are as those of `fill`."""
        numbers = lie(count, fault) if fault else range(count)
        for place, number in enumerate(numbers, 1):
            subject, data = f"$KV.{BUCKET}.{KEY % (place - 1)}", order.payload(number, size)
            if place % CHUNK and place < count:
                self._client.publish(subject, data)
            else:
                self._client.request(subject, data, timeout=30.0)

    def fill_object(self, chunks: int) -> None:
        """One object of so many numbered chunks, written as ADR-20 has it."""
        digest = hashlib.sha256()
        for number in range(chunks):
            data = order.payload(number, OBJECT_CHUNK)
            digest.update(data)
            subject = f"$O.{BUCKET}.C.{OBJECT}"
            if (number + 1) % OBJECT_CHUNKS_AT_ONCE and number + 1 < chunks:
                self._client.publish(subject, data)
            else:
                self._client.request(subject, data, timeout=30.0)
        meta = {
            "name": OBJECT,
            "options": {"max_chunk_size": OBJECT_CHUNK},
            "bucket": BUCKET,
            "nuid": OBJECT,
            "size": chunks * OBJECT_CHUNK,
            "mtime": "2026-01-01T00:00:00Z",
            "chunks": chunks,
            "digest": f"SHA-256={base64.urlsafe_b64encode(digest.digest()).decode()}",
        }
        name = base64.urlsafe_b64encode(OBJECT.encode()).decode()
        self._client.request(f"$O.{BUCKET}.M.{name}", json.dumps(meta).encode(), timeout=30.0)

    def consume(self) -> None:
        """The consumer, of which no acknowledgement is too many to wait for."""
        config = {"durable_name": CONSUMER, "ack_policy": "explicit", "deliver_policy": "all", "max_ack_pending": -1}
        self.ask(f"CONSUMER.CREATE.{STREAM}.{CONSUMER}", stream_name=STREAM, config=config)

    def stored(self, count: int) -> int:
        """How many messages are in the stream, once the server has seen all of ``count``."""
        return self._reached(count, f"STREAM.INFO.{self._name}", "state", "messages")

    def written(self, count: int) -> int:
        """The sequence of the last message, once the server has seen ``count``: how many there have ever been."""
        return self._reached(count, f"STREAM.INFO.{self._name}", "state", "last_seq")

    def acknowledged(self, count: int) -> int:
        """How many of ``count`` messages were acknowledged without a gap, once the server has seen all of it."""
        return self._reached(count, f"CONSUMER.INFO.{STREAM}.{CONSUMER}", "ack_floor", "stream_seq")

    def _reached(self, count: int, call: str, part: str, name: str) -> int:
        deadline = time.monotonic() + PATIENCE
        while True:
            found = cast(dict[str, int], self.ask(call)[part])[name]
            if found >= count or time.monotonic() > deadline:
                return found
            time.sleep(0.002)

    def findings(self, count: int, size: int) -> dict[str, int]:
        """What became of ``count`` messages of a ring, read from the stream in their order there."""
        with self._client.subscribe(PROOF, max_pending_msgs=0, max_pending_bytes=0) as sub:
            config = {"deliver_subject": PROOF, "ack_policy": "none", "deliver_policy": "all", "mem_storage": True}
            expected = self.stored(count)
            self._client.flush()
            self.ask(f"CONSUMER.CREATE.{STREAM}", stream_name=STREAM, config=config)
            kept: list[bytes] = []
            while len(kept) < expected:
                kept += [message.data[: order.HEAD] for message in sub.next_batch(1000, timeout=10.0)]
        return order.findings(order.unwrap(order.numbers(kept), order.ring_size(size)), count)


def lie(count: int, fault: str) -> list[int]:
    """The numbers of messages with one thing wrong in the middle, as many as without."""
    numbers = list(range(count))
    at = count // 2
    if fault == "lose":  # one that nobody knows stands in for it
        return [*numbers[:at], *numbers[at + 1 :], count]
    if fault == "double":
        return [*numbers[: at + 1], numbers[at], *numbers[at + 1 : -1]]
    numbers[at], numbers[at + 1] = numbers[at + 1], numbers[at]
    return numbers


@contextmanager
def streams_of(server: LocalServer, config: Mapping[str, object] = PLAIN) -> Iterator[Streams]:
    """To prepare a repetition, and to look at it afterwards."""
    with nats_sync.connect(server.url) as client:
        yield Streams(client, config)
