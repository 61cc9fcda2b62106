"""`ObjectInfo`: what a bucket knows of an object, and how that is read from the message that says it.

Anybody may have written that message. What is no info is a `JetStreamDecodeError`, as are numbers that no object can
have: they decide how many chunks are waited for. Whether the chunks are as the info says is seen when they are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypedDict

from msgspec.structs import replace

from .._jetstream.api_answer import from_wire
from .._jetstream.errors import JetStreamDecodeError
from .._json.durations import Time, Timestamp, take_time
from .._json.wire_kinds import Mismatch, is_object
from .._json.wire_value import WireValue, decode_json, encode_json, to_wire
from .._limits import MAX_COUNT
from .names import is_nuid

__all__ = [
    "ObjectFields",
    "ObjectInfo",
    "ObjectLink",
    "ObjectOptions",
    "check_target",
    "read_info",
    "with_time",
    "write_info",
]

MAX_SIZE: Final = MAX_COUNT
"""Bytes of an object, and chunks: what is larger is a lie."""


class ObjectLink(WireValue, frozen=True, kw_only=True):
    """Where a link leads."""

    bucket: str
    name: str | None = None
    """The object; None: the link leads to the whole bucket."""


class ObjectOptions(WireValue, frozen=True, kw_only=True):
    """How an object is stored."""

    link: ObjectLink | None = None
    """It has no bytes of its own: those of this object are meant."""
    max_chunk_size: int | None = None
    """No chunk has more bytes."""


class ObjectInfo(WireValue, frozen=True, kw_only=True):
    """What a bucket knows of an object. Sizes are bytes."""

    name: str
    description: str | None = None
    headers: Mapping[str, Sequence[str]] | None = None
    """For programs: texts by names, as in HTTP."""
    metadata: Mapping[str, str] | None = None
    """For programs: one text by each name."""
    options: ObjectOptions | None = None
    bucket: str = ""
    nuid: str = ""
    """What tells the chunks of this version from all others."""
    size: int = 0
    chunks: int = 0
    """How many messages the bytes are in."""
    digest: str | None = None
    """``SHA-256=`` and the hash of all bytes as base64url; None for a link and for what was deleted."""
    deleted: bool | None = None
    """It was there, and is no more."""
    mtime: Time | None = None
    """When it was put or changed, by the clock of the server; after an own put by that of the client."""

    @property
    def link(self) -> ObjectLink | None:
        """Where it leads, when it is a link."""
        return None if self.options is None else self.options.link


class ObjectFields(TypedDict, total=False):
    """What a program may say of an object when it puts it, or later."""

    description: str | None
    headers: Mapping[str, Sequence[str]] | None
    metadata: Mapping[str, str] | None


def check_target(to: object) -> None:
    """Raises `TypeError` for what no link can lead to."""
    if not isinstance(to, ObjectInfo):
        raise TypeError(f"a link leads to an ObjectInfo, not {type(to).__name__}: info() gives that of an object")


def read_info(what: str, data: bytes, *, name: str, bucket: str, mtime: Timestamp | None) -> ObjectInfo:
    """The info in a message whose subject says ``name``.

    Raises `JetStreamDecodeError`, and nothing else; its text begins with ``what``.
    """
    try:
        raw = decode_json(data)
        if is_object(raw):
            raw.pop("mtime", None)  # it is that of the message (ADR-20); nats-py writes an empty text there
        info = from_wire(ObjectInfo, raw)
    except (Mismatch, JetStreamDecodeError) as error:
        raise JetStreamDecodeError(f"{what}: {error}") from None
    for field, number in (("size", info.size), ("chunks", info.chunks)):
        if not 0 <= number <= MAX_SIZE:
            raise JetStreamDecodeError(f"{what}: {field} of the object's info is out of range")
    if info.chunks > info.size:
        raise JetStreamDecodeError(f"{what}: the object's info has {info.chunks} chunks for {info.size} bytes")
    if info.nuid and not is_nuid(info.nuid):
        raise JetStreamDecodeError(f"{what}: nuid of the object's info is none: {info.nuid[:64]!a}")
    if info.chunks and not info.nuid:
        raise JetStreamDecodeError(f"{what}: the object's info has chunks, and no nuid")
    # The subject is what it is found by. Some clients have left another name in the text when they renamed it.
    return replace(info, name=name, bucket=bucket, mtime=mtime)


def write_info(info: ObjectInfo) -> bytes:
    """The message. Its time is not written (ADR-20): it is that of the message."""
    wire = to_wire(info)
    wire.pop("mtime", None)
    return encode_json(wire)


def with_time(info: ObjectInfo, time: Time) -> ObjectInfo:
    """The same info with this time."""
    return replace(info, mtime=take_time("mtime", time))
