"""A bucket with a stream that answers what an operation asks, for tables without a server."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from nats_proto import Message, Operation, Pause, Request
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.pub_ack import PubAck
from nats_proto._jetstream.stream_config import StreamConfig
from nats_proto._keyvalue.bucket import KeyValueConfig, stream_of
from nats_proto._keyvalue.operations import Bucket, bucket_of
from nats_proto._keyvalue.reading import Reads
from nats_proto._wire.headers import Headers
from nats_proto.errors import NATSError, NoRespondersError
from tests.proto.consuming import Inboxes

Fault = NATSError | bytes | Callable[["Stream"], None]
"""What comes in place of the next answer; or what is done before it."""


class Stream:
    """The stream of bucket ``B``, with one replica. ``faults``: for the next requests, None for one that goes well."""

    def __init__(self, config: StreamConfig | None = None, *, reads: Reads = "any", **options: Any) -> None:
        self.now = 1000.0
        self.messages: dict[int, tuple[str, bytes, Headers]] = {}
        self.sequence = 0
        self.asked: list[str] = []
        self.pauses: list[float] = []
        self.faults: deque[Fault | None] = deque()
        api = JetStreamApi(
            now=lambda: self.now, new_inbox=Inboxes(), server_version=lambda: "2.15.1", timeout=5.0, **options
        )
        self.bucket: Bucket[bytes] = bucket_of(api, config or stream_of(KeyValueConfig(bucket="B", history=5)), reads)

    def write(self, key: str, data: bytes = b"x", **headers: str) -> int:
        self.sequence += 1
        lines = Headers({name.replace("_", "-"): value for name, value in headers.items()})
        self.messages[self.sequence] = f"$KV.B.{key}", data, lines
        return self.sequence

    def remove(self, sequence: int) -> None:
        del self.messages[sequence]

    def put(self, bucket: Bucket[Any], key: str, value: object, timeout: float | None = None) -> int:
        """As a client does it: its revision."""
        first = bucket.put(key, value, timeout)
        try:
            answer = self._answer(Request(first.subject, first.data, timeout=first.seconds, accept=first))
            assert first(answer)
        except NATSError as error:
            return self._sequence(first.go_on(error, now=lambda: self.now))
        return first.ack.sequence if first.ack else self._sequence(first.go_on(None, now=lambda: self.now))

    def _sequence(self, operation: Operation[PubAck]) -> int:
        ack: PubAck = self.run(operation)
        return ack.sequence

    def run(self, operation: Operation[Any]) -> Any:
        """What the operation comes to."""
        try:
            effect = next(operation)
            while True:
                if isinstance(effect, Pause):
                    self.pauses.append(effect.seconds)
                    self.now += effect.seconds
                    effect = operation.send(None)
                    continue
                assert isinstance(effect, Request)
                try:
                    answer = self._answer(effect)
                    assert effect.accept is None or effect.accept(answer)
                except NATSError as error:
                    effect = operation.throw(error)
                else:
                    effect = operation.send(answer)
        except StopIteration as end:
            return end.value

    def _answer(self, request: Request) -> Message:
        self.asked.append(request.subject)
        self.now += 0.001
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, NATSError):
            raise fault
        if isinstance(fault, bytes):
            return Message("in", 1, None, fault, None)
        if fault is not None:
            fault(self)
        subject = request.subject
        if "$KV.B." in subject and "DIRECT.GET" not in subject:
            return self._publish(subject[subject.index("$KV.B.") :], request)
        if "STREAM.MSG.GET" in subject:
            return self._leader(msgspec.json.decode(bytes(request.data)))
        if "DIRECT.GET" in subject:
            raise NoRespondersError("nobody", subject)
        raise AssertionError(subject)

    def _last(self, subject: str) -> int:
        return max((number for number, stored in self.messages.items() if stored[0] == subject), default=0)

    def _publish(self, subject: str, request: Request) -> Message:
        headers = Headers(request.headers or {})
        expected = headers.get("Nats-Expected-Last-Subject-Sequence")
        last = self._last(subject)
        if expected is not None and int(expected) != last:
            return failure(10071, f"wrong last sequence: {last}")
        if headers.get("Nats-Rollup") == "sub":
            self.messages = {number: stored for number, stored in self.messages.items() if stored[0] != subject}
        self.sequence += 1
        self.messages[self.sequence] = subject, bytes(request.data), headers
        return Message("in", 1, None, b'{"stream":"KV_B","seq":%d}' % self.sequence, None)

    def _leader(self, body: dict[str, Any]) -> Message:
        number = body.get("seq") or self._last(body["last_by_subj"])
        if number not in self.messages:
            return failure(10037, "no message found")
        subject, data, headers = self.messages[number]
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        message = {
            "subject": subject,
            "seq": number,
            "time": "2026-01-02T03:04:05Z",
            "data": base64.b64encode(data).decode(),
            "hdrs": base64.b64encode(f"NATS/1.0\r\n{lines}\r\n".encode()).decode(),
        }
        return Message("in", 1, None, msgspec.json.encode({"message": message}), None)


def failure(code: int, description: str) -> Message:
    return Message("in", 1, None, refusal(code, description), None)


def refusal(code: int, description: str) -> bytes:
    return msgspec.json.encode({"error": {"code": 400, "err_code": code, "description": description}})
