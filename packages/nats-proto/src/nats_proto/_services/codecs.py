"""Typed requests and answers: JSON of a type that msgspec knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from .errors import BAD_REQUEST, ServiceError

__all__ = ["answer_writer", "request_reader"]

T = TypeVar("T")


def request_reader(kind: type[T]) -> Callable[[bytes], T]:
    """Reads requests as this type (a struct, a dataclass, ``dict[str, int]``, ...); bytes stay as they are.

    What it gives raises `ServiceError` with the code 400 for a request that is none, and nothing else. Raises
    `TypeError` for a type that msgspec does not know.
    """
    if kind is bytes:
        return _unchanged  # type: ignore[return-value]  # T is bytes
    decode = msgspec.json.Decoder(kind).decode

    def read(data: bytes) -> T:
        try:
            return decode(data)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise ServiceError(BAD_REQUEST, f"the request cannot be read: {str(error)[:200]}") from None

    return read


def answer_writer(kind: type[T]) -> Callable[[T], bytes]:
    """Writes answers of this type as JSON; bytes stay as they are. What it gives raises `TypeError` for other types.

    Of a type with parameters, such as ``list[int]``, nothing is checked. Raises `TypeError` for a type that msgspec
    does not know.
    """
    msgspec.json.Decoder(kind)  # raises for a type that cannot be written either
    encode: Callable[[T], bytes] = msgspec.json.Encoder().encode
    if kind is bytes:
        encode = _unchanged  # type: ignore[assignment]  # T is bytes
    named = getattr(kind, "__name__", str(kind))
    checked = kind is not float and _is_class(kind)

    def write(answer: T) -> bytes:
        if checked and not isinstance(answer, kind):
            raise TypeError(f"the answer must be {named}, not {type(answer).__name__}")
        return encode(answer)

    return write


def _unchanged(data: bytes) -> bytes:
    return data


def _is_class(kind: type[object]) -> bool:
    """Whether it can be told what is an instance of it: not for ``list[int]``, a `TypedDict` and the like."""
    probe: object = b""
    try:
        isinstance(probe, kind)
    except TypeError:
        return False
    return True
