"""The final read of a stream, by the API alone."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import nats_sync
from tests.jetstream.cluster import Replicas, answer_to
from tests.jetstream.history import Stored

__all__ = ["stored_in"]


def stored_in(stream: str, replicas: Replicas) -> list[Stored]:
    """All messages of a stream, asked of its leader one after the other."""
    found: list[Stored] = []
    sequence = 1
    with nats_sync.connect(replicas.urls, **replicas.options) as nc:
        while True:
            answer = answer_to(nc, f"STREAM.MSG.GET.{stream}", {"seq": sequence, "next_by_subj": ">"})
            if "error" in answer:
                assert answer["error"]["err_code"] == 10037, answer
                return found
            found.append(_stored(answer["message"]))
            sequence = found[-1].sequence + 1


def _stored(message: Any) -> Stored:
    headers = base64.b64decode(message.get("hdrs", "")).decode()
    ids = [line.partition(":")[2].strip() for line in headers.splitlines() if line.startswith("Nats-Msg-Id:")]
    return Stored(
        sequence=message["seq"],
        payload=base64.b64decode(message.get("data", "")).decode(),
        subject=message["subject"],
        msg_id=ids[0] if ids else None,
        time=datetime.fromisoformat(message["time"][:19] + "+00:00").timestamp(),
    )
