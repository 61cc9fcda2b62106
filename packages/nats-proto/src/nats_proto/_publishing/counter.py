"""Counters: messages whose sum the stream keeps, for each subject (ADR-49; servers from 2.12 on).

The number of an increment, and the total, are of any size. Totals come as texts of digits, in an acknowledgement or in
the message itself; what a server sends is read with a bound, and anything else is a `JetStreamDecodeError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from .._calls.operation import Operation
from .._jetstream.api import JetStreamApi
from .._jetstream.errors import FeatureDroppedError, JetStreamDecodeError, MessageNotFoundError
from .._jetstream.names import check_name
from .._jetstream.pub_ack import MAX_VALUE_DIGITS, PubAck
from .._jetstream.stored_message import StoredMessage
from .._jetstream.stream_calls import get_last_msg, stream_name_by_subject
from .._json.read_only import ReadOnlyMapping
from .._value import Value
from .._wire.headers import Headers
from .._wire.subjects import encode_subject
from .headers import PublishOptions, publish_headers
from .publish import publish_operation

__all__ = ["Counter", "CounterEntry", "counter_of", "increment_operation", "read_counter"]

SOURCES: Final = "Nats-Counter-Sources"
MAX_SOURCES: Final = 1024 * 1024
"""Bytes of the header above that are read."""


_NO_SOURCES: Final = ReadOnlyMapping[Mapping[str, int]]({})


class CounterEntry(Value, frozen=True, kw_only=True):
    """A counter as its last message has it."""

    subject: str = ""
    """Whose it is."""
    value: int
    """The total."""
    increment: int | None = None
    """What the last message has added; None when it does not say."""
    sources: Mapping[str, Mapping[str, int]] = _NO_SOURCES
    """Of a stream with sources: what each subject of each of them has contributed."""


class _Body(msgspec.Struct):
    val: str


_decode_body: Final = msgspec.json.Decoder(_Body).decode
_decode_sources: Final = msgspec.json.Decoder(dict[str, dict[str, str]]).decode


class Counter:
    """One counter. Its methods are operations.

    ``stream`` has it; None: the one that takes the subject, which is looked up when it is read first. Raises
    `InvalidSubjectError` and `InvalidNameError` for what can be none, `ApiLevelError` when the server is too old.
    """

    __slots__ = ("_api", "_stream", "subject")

    def __init__(self, api: JetStreamApi, subject: str, stream: str | None) -> None:
        encode_subject(subject)
        if stream is not None:
            check_name("stream", stream)
        api.check_server("a counter", 2, 12)
        self._api = api
        self._stream = stream
        self.subject = subject

    def add(self, delta: int, msg_id: str | None, *, timeout: float | None, retry_for: float) -> Operation[int]:
        """The total after ``delta`` was added; see `increment_operation`. ``TypeError`` for what is no int."""
        options: PublishOptions = {"increment": delta, "msg_id": msg_id}
        publish = publish_operation(
            self.subject,
            b"",
            publish_headers(self.subject, b"", None, options),
            now=self._api.clock,
            timeout=self._api.seconds(timeout),
            retry_for=retry_for,
        )
        return increment_operation(publish, self.subject, lambda: self._total(timeout))

    def entry(self, *, direct: bool, timeout: float | None) -> Operation[CounterEntry]:
        """The counter as it is, 0 when nothing was added yet. ``direct``: any replica may tell it.

        Raises `StreamNotFoundError`, `JetStreamDecodeError` when the subject holds something else, and what calls of
        the API raise.
        """
        began, seconds = self._api.clock(), self._api.seconds(timeout)
        if self._stream is None:
            self._stream = yield from stream_name_by_subject(self._api, self.subject, timeout=seconds)
        left = max(began + seconds - self._api.clock(), 0.0)
        try:
            stored = yield from get_last_msg(self._api, self._stream, self.subject, direct=direct, timeout=left)
        except MessageNotFoundError:
            return CounterEntry(subject=self.subject, value=0)
        return counter_of(stored)

    def _total(self, timeout: float | None) -> Operation[int]:
        entry = yield from self.entry(direct=False, timeout=timeout)
        return entry.value


def increment_operation(
    publish: Operation[PubAck], subject: str, total: Callable[[], Operation[int]]
) -> Operation[int]:
    """The total after an increment, which ``publish`` sends.

    A server that recognises the message's id as one that it has does not tell the total: then ``total`` asks for what
    it is by now. Raises what these raise, and `FeatureDroppedError` when the server is too old for counters; it has
    stored the message then.
    """
    answer = yield from publish
    if answer.value is not None:
        return answer.value
    if answer.duplicate:
        return (yield from total())
    raise FeatureDroppedError(
        f"increment {subject!r}: the server knows no counters (they came with 2.12) and has stored an empty message in "
        f"stream {answer.stream!r} at {answer.sequence}",
        fields=("Nats-Incr",),
    )


def read_counter(what: str, data: bytes, headers: Headers | None, subject: str = "") -> CounterEntry:
    """The counter that a stored message is. Raises `JetStreamDecodeError`, whose text begins with ``what``."""
    try:
        value = _number(_decode_body(data).val)
        increment, sources = None, None
        if headers is not None:
            increment, sources = headers.get("Nats-Incr"), headers.get(SOURCES)
        if sources is not None and len(sources) > MAX_SOURCES:
            raise ValueError
        read = {} if sources is None else _decode_sources(sources.encode("utf-8", "surrogateescape"))
        return CounterEntry(
            subject=subject,
            value=value,
            increment=None if increment is None else _number(increment),
            sources=ReadOnlyMapping(
                {
                    stream: ReadOnlyMapping({subject: _number(text) for subject, text in subjects.items()})
                    for stream, subjects in read.items()
                }
            ),
        )
    except (RecursionError, ValueError, msgspec.DecodeError):
        raise JetStreamDecodeError(f"{what}: the message is no counter") from None


def counter_of(message: StoredMessage) -> CounterEntry:
    """As `read_counter`."""
    return read_counter(f"counter {message.subject!r}", message.data, message.headers, message.subject)


def _number(text: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > MAX_VALUE_DIGITS:
        raise ValueError
    return int(text)
