"""Direct gets: stored messages as plain messages, one or several."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from .wire import Sent, added, status, time_text, virtual_time

if TYPE_CHECKING:
    from .stream import ModelStream, Stored

__all__ = ["get_direct"]

MOST: Final = 1024
"""Subjects that a multi_last may match."""


def get_direct(stream: ModelStream, data: bytes, reply: str) -> None:
    """Send what was asked for."""
    refuse = _Refusals(stream, reply)
    if not data:
        refuse(408, "Empty Request")
        return
    try:
        asked: dict[str, Any] = json.loads(data)
    except ValueError:
        refuse(408, "Malformed Request")
        return
    seq, last, following = asked.get("seq", 0), asked.get("last_by_subj"), asked.get("next_by_subj")
    several, start, batch = asked.get("multi_last"), asked.get("start_time"), asked.get("batch", 0)
    if not (seq or last or following or several or start):
        refuse(408, "Empty Request")
    elif (
        (last and (seq or start or following or batch or several))
        or (seq and start)
        or (following and several)
        or (asked.get("up_to_seq") and asked.get("up_to_time"))
    ):
        refuse(408, "Bad Request")
    elif several:
        _several(stream, asked, reply, refuse)
    else:
        _in_order(stream, asked, reply, refuse)


class _Refusals:
    def __init__(self, stream: ModelStream, reply: str) -> None:
        self._account, self._reply = stream.account, reply

    def __call__(self, code: int, text: str) -> None:
        self._account.send_status(self._reply, status(code, text))


def _send(stream: ModelStream, reply: str, message: Stored, more: dict[str, object]) -> int:
    fields: dict[str, object] = {
        "Nats-Stream": stream.name,
        "Nats-Subject": message.subject,
        "Nats-Sequence": message.seq,
        "Nats-Time-Stamp": time_text(message.at),
    }
    stream.account.send(Sent(reply, reply, None, added(message.block, fields | more), message.data))
    return len(message.subject) + len(message.block or b"") + len(message.data)


def _in_order(stream: ModelStream, asked: dict[str, Any], reply: str, refuse: _Refusals) -> None:
    """One message, or a batch from a sequence on."""
    start, following, batch = asked.get("start_time"), asked.get("next_by_subj"), asked.get("batch", 0)
    seq = stream.seq_at(virtual_time(start)) if start else asked.get("seq", 0)
    patterns = [following] if following else []
    if not batch:
        if following:
            found = stream.next_of(patterns, seq)
        else:
            found = stream.messages.get(seq) if seq else stream.last_of([asked.get("last_by_subj", "")])
        if found is None:
            refuse(404, "Message Not Found")
        else:
            _send(stream, reply, found, {})
        return
    messages = list(stream.upward(patterns, seq))
    if not messages:
        refuse(404, "Message Not Found")
        return
    _batch(stream, reply, messages, batch, asked.get("max_bytes"), {})


def _several(stream: ModelStream, asked: dict[str, Any], reply: str, refuse: _Refusals) -> None:
    """The last message of each of several subjects."""
    if asked.get("up_to_time"):
        up_to = stream.seq_at(virtual_time(asked["up_to_time"])) - 1
    else:
        up_to = asked.get("up_to_seq", 0) or stream.last
    found = stream.lasts_of(asked["multi_last"], up_to)
    if len(found) > MOST:
        refuse(413, "Too Many Results")
        return
    found = [message for message in found if message.seq >= asked.get("seq", 0)]
    if not found:
        refuse(404, "No Results")
        return
    _batch(stream, reply, found, asked.get("batch", 0), asked.get("max_bytes"), {"Nats-UpTo-Sequence": up_to})


def _batch(
    stream: ModelStream,
    reply: str,
    messages: Iterable[Stored],
    batch: int,
    max_bytes: int | None,
    end: dict[str, object],
) -> None:
    messages = list(messages)
    left, last, sent = len(messages), 0, 0
    for message in messages[: batch or None]:
        left -= 1
        sent += _send(stream, reply, message, {"Nats-Num-Pending": left, "Nats-Last-Sequence": last})
        last = message.seq
        if max_bytes and sent >= max_bytes:
            break
    fields = {"Nats-Num-Pending": left, "Nats-Last-Sequence": last, **end}
    stream.account.send_status(reply, status(204, "EOB", fields))
