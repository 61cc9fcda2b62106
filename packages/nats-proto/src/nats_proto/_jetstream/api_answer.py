"""Answers of the API: an error, or a value; and what a server made of what it was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeVar

from .._json.durations import Seconds, Timestamp
from .._json.wire_kinds import Mismatch, is_mapping, is_object, is_sequence, kind_of_json
from .._json.wire_value import WireValue, decode_json, read_wire
from .._value import Value
from .._wire.frames import Message
from .errors import JetStreamDecodeError, api_error

__all__ = ["Difference", "compare", "decode_answer", "dropped_fields", "from_wire", "read_answer"]

W = TypeVar("W", bound=WireValue)

_ABOUT_THE_ANSWER: Final = frozenset({"type", "did_create", "total", "offset", "limit"})
"""Keys of an answer that tell of the answer itself, and which page it is, and not of what was asked about."""


class Difference(Value, frozen=True):
    """A field that is not as it was asked for. ``str`` of it is such as ``ack_wait: 10.0 asked for, 30.0 there``."""

    field: str
    """Its path, such as ``placement.cluster``."""
    asked: object
    got: object

    def __str__(self) -> str:
        return f"{self.field}: {self.asked!r:.64} asked for, {self.got!r:.64} there"


def read_answer(what: str, message: Message) -> dict[str, object]:
    """The object of JSON in an answer. Raises the error that is in it (`ApiError`), or `JetStreamDecodeError`.

    ``what`` names the call in the error's text, such as ``create stream 'ORDERS'``.
    """
    if not message.data:
        raise JetStreamDecodeError(f"{what}: the answer is empty")
    try:
        answer = decode_json(message.data)
    except Mismatch as mismatch:
        raise JetStreamDecodeError(f"{what}: {mismatch}") from None
    if not is_object(answer):
        raise JetStreamDecodeError(f"{what}: the answer must be an object, not {kind_of_json(answer)}")
    if answer.get("error") is not None:
        raise api_error(what, answer["error"])
    return answer


def decode_answer(what: str, message: Message, kind: type[W], key: str | None = None) -> W:
    """The value in an answer: the whole of it, or what stands under ``key``. Raises as `read_answer`."""
    answer = read_answer(what, message)
    inner: object = (
        {name: field for name, field in answer.items() if name not in _ABOUT_THE_ANSWER}
        if key is None
        else answer.get(key)
    )
    try:
        if inner is None:
            raise Mismatch("is missing")
        return read_wire(kind, inner)
    except Mismatch as mismatch:
        seen = mismatch if key is None else mismatch.under(f".{key}")
        raise JetStreamDecodeError(f"{what}: the answer cannot be read: {seen}") from None


def from_wire(kind: type[W], raw: object) -> W:
    """A value that stands in an answer. Raises `JetStreamDecodeError`, and nothing else; the text names the field."""
    try:
        return read_wire(kind, raw)
    except Mismatch as mismatch:
        raise JetStreamDecodeError(f"{kind.__name__} cannot be read: {mismatch}") from None


# --- what a server made of a configuration ---------------------------------------------------------------------------

_NO_LIMIT: Final = frozenset(
    {"max_bytes", "max_consumers", "max_deliver", "max_msg_size", "max_msgs", "max_msgs_per_subject"}
)
"""Where servers take 0 as -1: no limit. (`max_bytes` of a consumer, whose 0 is no limit, is among them.)"""
_SERVERS_CHOICE: Final = frozenset(
    {
        *("ack_wait", "duplicate_window", "inactive_threshold", "max_ack_pending", "max_waiting", "num_replicas"),
        *("priority_timeout", "src"),
    }
)
"""Where 0, or an empty text, asks the server for its own default."""
_OF_SERVERS: Final = "_nats."
"""How the keys begin that servers write into ``metadata``, such as the version that made it."""


def compare(asked: WireValue, got: WireValue) -> tuple[Difference, ...]:
    """The fields that are not as they were asked for, of two values of one class.

    What was not asked for is no difference, whatever the server made of it; nor is what the server writes into
    ``metadata`` itself, a default that it was asked for by 0, or "no limit" written in another way.
    """
    return tuple(_differences("", asked, got))


def dropped_fields(asked: WireValue, got: WireValue) -> tuple[str, ...]:
    """The fields that were asked for and are not there: what a version does not know that is too old for them."""
    return tuple(found.field for found in compare(asked, got) if found.asked and not found.got)


def _differences(path: str, asked: WireValue, got: WireValue) -> Iterator[Difference]:
    known = [(name, getattr(asked, name), getattr(got, name)) for name in asked.__struct_fields__ if name != "unknown"]
    more = [(name, value, got.unknown.get(name)) for name, value in asked.unknown.items()]
    for name, wanted, there in (*known, *more):
        if wanted is None:
            continue
        where = f"{path}{name}"
        if isinstance(wanted, WireValue) and isinstance(there, WireValue):
            yield from _differences(f"{where}.", wanted, there)
        elif (pairs := _pairs(wanted, there)) is not None:
            for index, (item, other) in enumerate(pairs):
                yield from _differences(f"{where}[{index}].", item, other)
        elif name == "metadata":
            wanted, there = _of_users(wanted), _of_users(there)
            if wanted != there:
                yield Difference(where, wanted, there)
        elif name == "subjects" and not wanted and there == (getattr(got, "name", None),):
            continue  # a stream without subjects and sources takes its own name as its subject
        elif not _same(name, wanted, there):
            yield Difference(where, wanted, there)


def _of_users(metadata: object) -> dict[object, object]:
    """Without what servers write. Who has read a configuration and writes it back asks for that as well."""
    if not is_mapping(metadata):
        return {}
    return {key: text for key, text in metadata.items() if not f"{key}".startswith(_OF_SERVERS)}


def _pairs(wanted: object, there: object) -> list[tuple[WireValue, WireValue]] | None:
    """Two lists of values item by item; None for lists of other things, and for those of two lengths."""
    if not is_sequence(wanted) or not is_sequence(there) or not wanted or len(wanted) != len(there):
        return None
    pairs = list(zip(wanted, there, strict=True))
    return [(a, b) for a, b in pairs if isinstance(a, WireValue) and isinstance(b, WireValue)] or None


def _same(name: str, wanted: object, there: object) -> bool:
    if not wanted and (not there or name in _SERVERS_CHOICE):
        return True
    if name in _NO_LIMIT:
        return (wanted or -1) == (there or -1)
    return _exact(wanted) == _exact(there)


def _exact(value: object) -> object:
    """What can be compared: durations and times in nanoseconds, texts whose order means nothing in one order."""
    if isinstance(value, (Seconds, Timestamp)):
        return value.nanoseconds
    if is_sequence(value):
        exact = [_exact(item) for item in value]
        texts = [item for item in exact if isinstance(item, str)]
        return sorted(texts) if len(texts) == len(exact) else exact
    return value
