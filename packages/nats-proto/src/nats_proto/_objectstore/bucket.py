"""The configuration and state of a bucket of objects, and the stream that it is (ADR-20)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from .._jetstream.read_config import refuse_config
from .._jetstream.stream_config import Placement, Storage, StreamConfig
from .._jetstream.stream_info import StreamInfo
from .._json.durations import Duration, DurationLike, Seconds
from .._json.wire_value import WireValue
from .._keyvalue.errors import BucketNotFoundError
from .._value import Value
from .names import STREAM_PREFIX, check_bucket, stream_name

__all__ = [
    "ObjectStoreConfig",
    "ObjectStoreFields",
    "ObjectStoreStatus",
    "config_of",
    "read_store",
    "status_of",
    "stream_of",
]


class ObjectStoreConfig(WireValue, frozen=True, kw_only=True):
    """The configuration of a bucket of objects. Durations are seconds, sizes bytes; what is not given is None."""

    bucket: str
    """Letters, digits, ``_`` and ``-``."""
    description: str | None = None
    """For people; 4096 characters at most."""
    ttl: Duration | None = None
    """How long an object lives; 0 and None: for ever."""
    max_bytes: int | None = None
    """How large the bucket may become; -1 and None: no limit. A put that finds no room fails and leaves nothing."""
    storage: Storage | None = None
    """``file`` (the default) or ``memory``."""
    num_replicas: int | None = None
    """On how many servers each object is stored, 1 (the default) to 5."""
    placement: Placement | None = None
    """On which servers the bucket is placed."""
    compression: bool | None = None
    """Whether objects are compressed on the disk."""
    metadata: Mapping[str, str] | None = None
    """For programs. Keys that begin with ``_nats.`` are the server's."""

    def check(self) -> None:
        check_bucket(self.bucket)
        super().check()


class ObjectStoreFields(TypedDict, total=False):
    """The fields of `ObjectStoreConfig` but ``bucket``, as keywords."""

    description: str | None
    ttl: DurationLike | None
    max_bytes: int | None
    storage: Storage | None
    num_replicas: int | None
    placement: Placement | None
    compression: bool | None
    metadata: Mapping[str, str] | None


def read_store(config: object, bucket: str | None, fields: Mapping[str, object]) -> ObjectStoreConfig:
    """The configuration that a user gave: a ready one, or its fields by name. It is checked.

    Raises `TypeError` for both, for neither, and for a name that is no field; `ValueError` for what cannot be used.
    """
    refuse_config(bucket)
    if config is None:
        if bucket is None:
            raise TypeError("a bucket needs a name, or config")
        known = set(ObjectStoreConfig.__struct_fields__) - {"bucket", "unknown"}
        for field in fields:
            if field not in known:
                raise TypeError(_no_field(field, sorted(known)))
        made = ObjectStoreConfig(bucket=bucket, **fields)  # type: ignore[arg-type]  # the constructor checks the types
    elif not isinstance(config, ObjectStoreConfig):
        raise TypeError(f"config must be ObjectStoreConfig, not {type(config).__name__}")
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
    return f"ObjectStoreConfig has no field {field[:64]!r}: {advice}"


def stream_of(config: ObjectStoreConfig) -> StreamConfig:
    """The stream that is this bucket."""
    return StreamConfig(
        name=stream_name(config.bucket),
        description=config.description,
        subjects=(f"$O.{config.bucket}.C.>", f"$O.{config.bucket}.M.>"),
        retention="limits",
        discard="new",
        max_age=config.ttl or 0.0,
        max_bytes=-1 if config.max_bytes is None else config.max_bytes,
        storage=config.storage or "file",
        num_replicas=config.num_replicas or 1,
        placement=config.placement,
        compression="s2" if config.compression else "none",
        allow_rollup_hdrs=True,
        allow_direct=True,
        metadata=config.metadata,
    )


def config_of(stream: StreamConfig) -> ObjectStoreConfig:
    """The bucket that is this stream. Raises `BucketNotFoundError` for a stream that is none."""
    name = stream.name or ""
    bucket = name.removeprefix(STREAM_PREFIX)
    if bucket == name or f"$O.{bucket}.M.>" not in (stream.subjects or ()):
        raise BucketNotFoundError(f"bucket {bucket!r}: the stream {name!r} has no objects", bucket=bucket)
    return ObjectStoreConfig(
        bucket=bucket,
        description=stream.description,
        ttl=stream.max_age or None,
        max_bytes=stream.max_bytes,
        storage=stream.storage,
        num_replicas=stream.num_replicas,
        placement=stream.placement,
        compression=stream.compression == "s2",
        metadata=stream.metadata,
    )


class ObjectStoreStatus(Value, frozen=True, kw_only=True):
    """A bucket of objects, as the leader of its stream sees it."""

    bucket: str
    description: str | None
    bytes: int
    """How large the bucket is, with all that belongs to its objects."""
    sealed: bool
    """Nothing in it can be changed any more."""
    ttl: Seconds | None
    """How long an object lives; None: for ever."""
    storage: str
    replicas: int
    compressed: bool
    metadata: Mapping[str, str]
    config: ObjectStoreConfig
    stream_info: StreamInfo
    """All that the server has told."""
    backing_store: str = "JetStream"


def status_of(info: StreamInfo) -> ObjectStoreStatus:
    """Raises `BucketNotFoundError` for a stream that is no bucket of objects."""
    stream = info.config
    config = config_of(stream)
    return ObjectStoreStatus(
        bucket=config.bucket,
        description=config.description,
        bytes=info.state.bytes,
        sealed=bool(stream.sealed),
        ttl=stream.max_age if isinstance(stream.max_age, Seconds) and stream.max_age else None,
        storage=stream.storage or "file",
        replicas=stream.num_replicas or 1,
        compressed=bool(config.compression),
        metadata=config.metadata or {},
        config=config,
        stream_info=info,
    )
