"""A JetStream that says what a test has it say: for answers that no real server gives, and to see what is sent.

It lives on a real server beside the real one, below a prefix of its own: ``jetstream(client, api_prefix=fake.prefix)``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, Self

import nats_sync
from tests.jetstream.cluster import PATIENT

__all__ = ["FakeApi", "consumer_answer", "stream_answer"]

Answer = dict[str, Any] | bytes
PREFIX: Final = "FAKE.API"


class FakeApi:
    """As a context manager. ``answer(call, body)`` gives an object of JSON, or bytes; ``calls`` has what was asked."""

    prefix = PREFIX

    def __init__(self, url: str, answer: Callable[[str, Any], Answer], **options: Any) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._answer = answer
        self._client = nats_sync.connect(url, name="fake", **{**PATIENT, **options})

    def __enter__(self) -> Self:
        self._client.subscribe(f"{PREFIX}.>", callback=self._serve)
        self._client.flush()
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def bodies(self, call: str) -> list[Any]:
        """What was sent to one call, such as ``STREAM.CREATE.S``."""
        return [body for asked, body in self.calls if asked == call]

    def _serve(self, message: nats_sync.Message) -> None:
        call = message.subject.removeprefix(f"{PREFIX}.")
        body = json.loads(message.data) if message.data else None
        self.calls.append((call, body))
        answer = self._answer(call, body)
        message.respond(answer if isinstance(answer, bytes) else json.dumps(answer).encode())


def stream_answer(config: object, **more: object) -> dict[str, Any]:
    """The least that a server says of a stream."""
    state = {"messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0, "consumer_count": 0}
    return {"config": config, "created": "2026-01-01T00:00:00Z", "state": state, **more}


def consumer_answer(name: str, config: object, *, stream: str = "S") -> dict[str, Any]:
    """The least that a server says of a consumer."""
    place = {"consumer_seq": 0, "stream_seq": 0}
    zeros = dict.fromkeys(("num_ack_pending", "num_redelivered", "num_waiting", "num_pending"), 0)
    created = "2026-01-01T00:00:00Z"
    about = {"stream_name": stream, "name": name, "created": created, "config": config}
    return {**about, "delivered": place, "ack_floor": place, **zeros}
