"""A bucket's configuration and state, and the stream that it is (ADR-8, ADR-48, ADR-57)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypedDict

from msgspec.structs import replace

from .._jetstream.read_config import refuse_config
from .._jetstream.stream_config import (
    Placement,
    Republish,
    Storage,
    StreamConfig,
    StreamSource,
    SubjectTransform,
)
from .._jetstream.stream_info import StreamInfo
from .._json.durations import Duration, DurationLike, Seconds
from .._json.wire_value import WireValue
from .._limits import check_count
from .._value import Value
from .errors import BucketNotFoundError
from .names import STREAM_PREFIX, check_bucket, stream_name

__all__ = ["KeyValueConfig", "KeyValueFields", "KeyValueStatus", "config_of", "read_bucket", "status_of", "stream_of"]

MAX_HISTORY: Final = 64
DUPLICATE_WINDOW: Final = 120.0
"""Seconds in which a write that is tried again is known again. It must not be longer than values live."""
MIN_MARKER_TTL: Final = 1.0


class KeyValueConfig(WireValue, frozen=True, kw_only=True):
    """A bucket's configuration. Durations are seconds, sizes bytes; what is not given is None."""

    bucket: str
    """Letters, digits, ``_`` and ``-``."""
    description: str | None = None
    """For people; 4096 characters at most."""
    history: int | None = None
    """How many revisions of each key are kept, 1 (the default) to 64."""
    ttl: Duration | None = None
    """How long a value lives; 0 and None: for ever."""
    limit_marker_ttl: Duration | None = None
    """For how long a marker stands in the place of a value that has expired, so that watchers are told; 1 s at least.
    Needs a server of 2.11. With it single keys may have a time to live of their own."""
    max_bytes: int | None = None
    """How large the bucket may become; -1 and None: no limit."""
    max_value_size: int | None = None
    """The largest value that is taken, with its headers; -1 and None: no limit but the server's."""
    storage: Storage | None = None
    """``file`` (the default) or ``memory``."""
    num_replicas: int | None = None
    """On how many servers each value is stored, 1 (the default) to 5."""
    placement: Placement | None = None
    """On which servers the bucket is placed."""
    republish: Republish | None = None
    """What is stored is published once more."""
    mirror: StreamSource | None = None
    """The bucket is a copy of this one. Writes go to the origin. ``KV_`` in front of its name may be left out."""
    sources: Sequence[StreamSource] | None = None
    """Buckets whose keys are copied into this one. One that has ``subject_transforms`` may be any stream."""
    compression: bool | None = None
    """Whether values are compressed on the disk."""
    metadata: Mapping[str, str] | None = None
    """For programs. Keys that begin with ``_nats.`` are the server's."""

    def check(self) -> None:
        check_bucket(self.bucket)
        if self.history is not None and check_count("history", self.history) > MAX_HISTORY:
            raise ValueError(f"history must be from 1 to {MAX_HISTORY}: {self.history}")
        if self.limit_marker_ttl is not None and 0 < float(self.limit_marker_ttl) < MIN_MARKER_TTL:
            raise ValueError("limit_marker_ttl must be at least 1 second")
        if self.mirror is not None and self.sources:
            raise ValueError(f"bucket {self.bucket!r}: a mirror has no sources of its own: leave them out")
        super().check()


class KeyValueFields(TypedDict, total=False):
    """The fields of `KeyValueConfig` but ``bucket``, as keywords."""

    description: str | None
    history: int | None
    ttl: DurationLike | None
    limit_marker_ttl: DurationLike | None
    max_bytes: int | None
    max_value_size: int | None
    storage: Storage | None
    num_replicas: int | None
    placement: Placement | None
    republish: Republish | None
    mirror: StreamSource | None
    sources: Sequence[StreamSource] | None
    compression: bool | None
    metadata: Mapping[str, str] | None


def read_bucket(config: object, bucket: str | None, fields: Mapping[str, object]) -> KeyValueConfig:
    """The configuration that a user gave: a ready one, or its fields by name. It is checked.

    Raises `TypeError` for both, for neither, and for a name that is no field; `ValueError` for what cannot be used.
    """
    refuse_config(bucket)
    if config is None:
        if bucket is None:
            raise TypeError("a bucket needs a name, or config")
        known = set(KeyValueConfig.__struct_fields__) - {"bucket", "unknown"}
        for field in fields:
            if field not in known:
                raise TypeError(_no_field(field, sorted(known)))
        made = KeyValueConfig(bucket=bucket, **fields)  # type: ignore[arg-type]  # the constructor checks the types
    elif not isinstance(config, KeyValueConfig):
        raise TypeError(f"config must be KeyValueConfig, not {type(config).__name__}")
    elif fields:
        raise TypeError(f"give either config or its fields by name, not both: {', '.join(fields)}")
    elif bucket not in (None, config.bucket):
        raise ValueError(f"the name is given twice, as {bucket!r} and as {config.bucket!r} in config")
    else:
        made = config
    made.check()
    return made


def _no_field(field: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches  # only who needs to be told pays for loading it

    near = get_close_matches(field, known, n=1)
    advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"KeyValueConfig has no field {field[:64]!r}: {advice}"


def stream_of(config: KeyValueConfig) -> StreamConfig:
    """The stream that is this bucket."""
    ttl = 0.0 if config.ttl is None else float(config.ttl)
    markers = config.limit_marker_ttl or None
    mirror = None if config.mirror is None else replace(config.mirror, name=_with_prefix(config.mirror.name))
    return StreamConfig(
        name=stream_name(config.bucket),
        description=config.description,
        subjects=None if mirror is not None else (f"$KV.{config.bucket}.>",),
        retention="limits",
        max_msgs_per_subject=config.history or 1,
        discard="new",
        max_age=config.ttl or 0.0,
        duplicate_window=config.ttl if 0 < ttl < DUPLICATE_WINDOW else DUPLICATE_WINDOW,
        max_bytes=-1 if config.max_bytes is None else config.max_bytes,
        max_msg_size=-1 if config.max_value_size is None else config.max_value_size,
        max_msgs=-1,
        max_consumers=-1,
        storage=config.storage or "file",
        num_replicas=config.num_replicas or 1,
        placement=config.placement,
        republish=config.republish,
        compression="s2" if config.compression else "none",
        allow_rollup_hdrs=True,
        deny_delete=True,
        deny_purge=False,
        allow_direct=True,
        # ADR-48: both are sent. A server that is not strict would add the first by itself.
        allow_msg_ttl=None if markers is None else True,
        subject_delete_marker_ttl=markers,
        mirror=mirror,
        mirror_direct=None if mirror is None else True,
        sources=tuple(_source(source, config.bucket) for source in config.sources or ()) or None,
        metadata=config.metadata,
    )


def config_of(stream: StreamConfig) -> KeyValueConfig:
    """The bucket that is this stream. Raises `BucketNotFoundError` for a stream that is none."""
    name = stream.name
    bucket = name.removeprefix(STREAM_PREFIX)
    if bucket == name or not stream.max_msgs_per_subject or stream.max_msgs_per_subject < 1:
        raise BucketNotFoundError(f"bucket {bucket!r}: the stream {name!r} is none", bucket=bucket)
    return KeyValueConfig(
        bucket=bucket,
        description=stream.description,
        history=stream.max_msgs_per_subject,
        ttl=stream.max_age or None,
        limit_marker_ttl=stream.subject_delete_marker_ttl or None,
        max_bytes=stream.max_bytes,
        max_value_size=stream.max_msg_size,
        storage=stream.storage,
        num_replicas=stream.num_replicas,
        placement=stream.placement,
        republish=stream.republish,
        mirror=stream.mirror,
        sources=stream.sources,
        compression=stream.compression == "s2",
        metadata=stream.metadata,
    )


class KeyValueStatus(Value, frozen=True, kw_only=True):
    """A bucket, as the leader of its stream sees it."""

    bucket: str
    values: int
    """How many entries there are, those of the history and markers included."""
    bytes: int
    """How large the bucket is."""
    history: int
    """How many revisions of each key are kept."""
    ttl: Seconds | None
    """How long a value lives; None: for ever."""
    limit_marker_ttl: Seconds | None
    """How long the marker of an expired value stays; None: there are no markers."""
    compressed: bool
    mirror: str | None
    """The bucket that this one is a copy of."""
    metadata: Mapping[str, str]
    config: KeyValueConfig
    stream_info: StreamInfo
    """All that the server has told."""
    backing_store: str = "JetStream"


def status_of(info: StreamInfo) -> KeyValueStatus:
    """Raises `BucketNotFoundError` for a stream that is no bucket."""
    config = config_of(info.config)
    return KeyValueStatus(
        bucket=config.bucket,
        values=info.state.messages,
        bytes=info.state.bytes,
        history=config.history or 1,
        ttl=_seconds(info.config.max_age),
        limit_marker_ttl=_seconds(info.config.subject_delete_marker_ttl),
        compressed=bool(config.compression),
        mirror=None if config.mirror is None else config.mirror.name.removeprefix(STREAM_PREFIX),
        metadata=config.metadata or {},
        config=config,
        stream_info=info,
    )


def _seconds(duration: Duration | None) -> Seconds | None:
    return duration if isinstance(duration, Seconds) and duration else None


def _with_prefix(name: str) -> str:
    return name if name.startswith(STREAM_PREFIX) else STREAM_PREFIX + name


def _source(source: StreamSource, bucket: str) -> StreamSource:
    if source.subject_transforms:
        return source  # it may be any stream: its user says what its subjects become
    name = _with_prefix(source.name)
    origin = f"$KV.{name.removeprefix(STREAM_PREFIX)}."
    kept = source.filter_subject or f"{origin}>"
    if not kept.startswith(origin):
        raise ValueError(f"bucket {bucket!r}: the filter_subject of the source {name!r} must begin with {origin!r}")
    transform = SubjectTransform(src=kept, dest=f"$KV.{bucket}.{_same(kept.removeprefix(origin))}")
    return replace(source, name=name, filter_subject=None, subject_transforms=(transform,))


def _same(pattern: str) -> str:
    """As the destination of a transform: each wildcard stands for what it has found."""
    count = 0
    parts: list[str] = []
    for part in pattern.split("."):
        if part == "*":
            count += 1
            part = f"{{{{wildcard({count})}}}}"
        parts.append(part)
    return ".".join(parts)
