"""What the answers of the API come to, call by call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from .._calls.operation import Operation
from .._json.wire_kinds import is_sequence, kind_of_json
from .._json.wire_value import WireValue
from .._limits import shown
from .._wire.frames import Message
from ..errors import NATSError
from .api_answer import compare, decode_answer, dropped_fields, from_wire, read_answer
from .consumer_info import ConsumerInfo
from .errors import (
    ConsumerExistsError,
    FeatureDroppedError,
    JetStreamDecodeError,
    MessageNotFoundError,
    StreamNameInUseError,
    api_error,
)
from .stored_message import StoredMessage, stored_message, stored_message_direct
from .stream_info import StreamInfo

__all__ = [
    "check_nothing_dropped",
    "check_sequence",
    "decode_direct",
    "decode_stored",
    "names_of",
    "number_of",
    "succeeded",
    "tell_differences",
    "value_of",
    "values_of",
]

W = TypeVar("W", bound=WireValue)

LAST_SEQUENCE: Final = 2**64 - 1

NO_MESSAGE: Final = 404
"""The status of a direct get that found nothing (ADR-31)."""


def value_of(what: str, kind: type[W]) -> Callable[[Message], W]:
    """The answer is one value."""
    return lambda message: decode_answer(what, message, kind)


def succeeded(what: str) -> Callable[[Message], None]:
    """The answer says that it was done, or has nothing to say."""

    def decode(message: Message) -> None:
        if read_answer(what, message).get("success", True) is not True:
            raise JetStreamDecodeError(f"{what}: the answer names no error, and no success")

    return decode


def number_of(what: str, key: str) -> Callable[[Message], int]:
    """The answer has a number under this key."""

    def decode(message: Message) -> int:
        number = read_answer(what, message).get(key)
        if type(number) is not int or not 0 <= number <= LAST_SEQUENCE:
            raise JetStreamDecodeError(f"{what}: the answer has no number under {key!r}")
        return number

    return decode


def names_of(what: str, answer: Mapping[str, object], key: str) -> list[tuple[str, str]]:
    """A page of names, each as the item and as what tells it from others."""
    return [(name, name) for name in _list_of(what, answer, key) if isinstance(name, str)]


def values_of(
    what: str, answer: Mapping[str, object], key: str, kind: type[W], name: Callable[[W], str]
) -> list[tuple[W, str]]:
    """A page of values, each with what tells it from others. Null in place of a list reads as an empty one."""
    try:
        values = [from_wire(kind, raw) for raw in _list_of(what, answer, key)]
    except JetStreamDecodeError as error:
        raise JetStreamDecodeError(f"{what}: {error}") from None
    return [(value, name(value)) for value in values]


def _list_of(what: str, answer: Mapping[str, object], key: str) -> list[object]:
    given = answer.get(key)
    if given is None:
        return []
    if not is_sequence(given):
        raise JetStreamDecodeError(f"{what}: {key!r} of the answer must be an array, not {kind_of_json(given)}")
    return list(given)


def decode_stored(what: str, stream: str) -> Callable[[Message], StoredMessage]:
    """A message of the stream, as the leader tells it."""
    return lambda message: stored_message(what, read_answer(what, message).get("message"), stream)


def decode_direct(what: str) -> Callable[[Message], StoredMessage]:
    """A message of the stream as it is (ADR-31), or a status that says why there is none."""

    def decode(message: Message) -> StoredMessage:
        status = None if message.data else message.status
        if status is None:
            return stored_message_direct(what, message)
        if status.code == NO_MESSAGE:
            raise MessageNotFoundError(
                f"{what}: no message found (404)", code=404, err_code=10037, description="no message found"
            )
        raise api_error(what, {"code": status.code, "description": status.description})

    return decode


def check_sequence(name: str, sequence: int) -> int:
    """A sequence of a stream, 1 to 2**64 - 1. Raises `TypeError`, `ValueError`."""
    if type(sequence) is not int:
        raise TypeError(f"{name} must be int, not {type(sequence).__name__}")
    if not 1 <= sequence <= LAST_SEQUENCE:
        raise ValueError(f"{name} must be from 1 to 2**64 - 1: {shown(sequence)}")
    return sequence


def tell_differences(
    error: StreamNameInUseError | ConsumerExistsError,
    asked: WireValue,
    there: Operation[StreamInfo] | Operation[ConsumerInfo],
) -> Operation[None]:
    """Look how what is there differs from what was asked for, and have the error tell it."""
    try:
        info = yield from there
    except NATSError:
        return  # then the server's words have to do
    error.differences = tuple(map(str, compare(asked, info.config)))
    if error.differences:
        error.args = (f"{error}; {'; '.join(error.differences)}",)


def check_nothing_dropped(what: str, asked: WireValue, got: WireValue, version: str) -> None:
    """Raises `FeatureDroppedError` when the server has left out what it does not know."""
    dropped = dropped_fields(asked, got)
    if dropped:
        raise FeatureDroppedError(
            f"{what}: it was done, but without {', '.join(dropped)}: the server (version {version or 'unknown'}) is "
            "too old for that and ignored it",
            version=version,
            fields=dropped,
        )
