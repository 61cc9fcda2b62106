"""A request to an endpoint of a service, and what its answer says: values of types on both sides, errors raised."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec

from .._wire.frames import Message
from .errors import ServiceDecodeError, service_error

__all__ = ["ServiceRequest"]

T = TypeVar("T")


class ServiceRequest(Generic[T]):
    """``value``: what is asked, sent as JSON, or bytes as they are. ``kind``: the type of the answer; bytes stay so.

    Raises `TypeError` for a type that msgspec does not know, and what msgspec raises for a value that is no JSON:
    `TypeError`, `ValueError`. Nothing was sent then.
    """

    __slots__ = ("_decode", "_subject", "data")

    def __init__(self, subject: str, value: object, kind: type[T] | None) -> None:
        self._subject = subject
        try:
            self._decode: Final = None if kind is None or kind is bytes else msgspec.json.Decoder(kind).decode
        except TypeError as error:
            raise TypeError(f"response_type cannot be read from JSON: {error}") from None
        if isinstance(value, (bytes, bytearray, memoryview)):
            self.data = bytes(value)  # pyright: ignore[reportUnknownArgumentType]  # a view of whatever it is
            return
        try:
            self.data = msgspec.json.encode(value)
        except TypeError as error:
            raise TypeError(f"value cannot be written as JSON: {error}") from None
        except UnicodeEncodeError as error:
            raise ValueError(f"value cannot be written as JSON: {error}") from None

    def read(self, answer: Message) -> T:
        """What the answer says. Raises `ServiceError` for one that is an error, else `ServiceDecodeError`, and nothing
        else, whatever the answer is."""
        refused = service_error(answer)
        if refused is not None:
            raise refused
        if self._decode is None:
            return answer.data  # type: ignore[return-value]  # T is bytes
        try:
            return self._decode(answer.data)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            told = str(error)[:200]
            raise ServiceDecodeError(f"the answer from {self._subject!r} cannot be read: {told}") from None
