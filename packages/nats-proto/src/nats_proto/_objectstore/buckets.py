"""What is asked about buckets of objects as a whole: to make, change, seal, find, list and delete one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from .._calls.operation import Operation
from .._jetstream import stream_calls
from .._jetstream.decoders import names_of, values_of
from .._jetstream.errors import StreamNameInUseError, StreamNotFoundError
from .._jetstream.pages import Pages
from .._jetstream.stream_info import StreamInfo
from .._keyvalue.errors import BucketExistsError, BucketNotFoundError
from .bucket import ObjectStoreConfig, ObjectStoreStatus, status_of, stream_of
from .names import STREAM_PREFIX, stream_name

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi

__all__ = [
    "create_or_update_store",
    "create_store",
    "delete_store",
    "list_store_names",
    "list_stores",
    "seal_store",
    "store_status",
    "update_store",
]

ALL_BUCKETS: Final = "$O.*.C.>"


def create_store(
    api: JetStreamApi, config: ObjectStoreConfig, *, timeout: float | None
) -> Operation[ObjectStoreStatus]:
    """Make a bucket. With the very same configuration as it has, an existing one is no error.

    Raises `BucketExistsError`, others of `ApiError`.
    """
    return _put(api, config, stream_calls.create_stream, "create", timeout)


def update_store(
    api: JetStreamApi, config: ObjectStoreConfig, *, timeout: float | None
) -> Operation[ObjectStoreStatus]:
    """Change a bucket; what is not given gets its default. Raises `BucketNotFoundError`, and as `create_store`."""
    return _put(api, config, stream_calls.update_stream, "update", timeout)


def create_or_update_store(
    api: JetStreamApi, config: ObjectStoreConfig, *, timeout: float | None
) -> Operation[ObjectStoreStatus]:
    """`update_store`, or `create_store` where there is none."""
    return _put(api, config, stream_calls.create_or_update_stream, "create or update", timeout)


def _put(
    api: JetStreamApi,
    config: ObjectStoreConfig,
    put: Callable[..., Operation[StreamInfo]],
    verb: str,
    timeout: float | None,
) -> Operation[ObjectStoreStatus]:
    what = f"{verb} bucket {config.bucket!r}"
    try:
        info = yield from put(api, stream_of(config), timeout=timeout)
    except StreamNotFoundError as error:
        raise _missing(what, config.bucket) from error
    except StreamNameInUseError as error:
        told = f": {'; '.join(error.differences)}" if error.differences else ""
        raise BucketExistsError(
            f"{what}: it exists with another configuration{told}", bucket=config.bucket, differences=error.differences
        ) from error
    return status_of(info)


def seal_store(api: JetStreamApi, bucket: str, *, timeout: float | None) -> Operation[ObjectStoreStatus]:
    """Have the server refuse every further change, for ever. Raises `BucketNotFoundError`."""
    what = f"seal bucket {bucket!r}"
    began, seconds = api.clock(), api.seconds(timeout)
    try:
        info = yield from stream_calls.stream_info(api, stream_name(bucket), timeout=seconds)
        status_of(info)
        # What a sealed stream is besides, the server says so too; a field that it changes by itself is an error else.
        sealed = replace(
            info.config, sealed=True, deny_delete=True, deny_purge=True, allow_rollup_hdrs=False, max_age=None
        )
        left = max(began + seconds - api.clock(), 0.0)
        info = yield from stream_calls.update_stream(api, sealed, timeout=left)
    except StreamNotFoundError as error:
        raise _missing(what, bucket) from error
    return status_of(info)


def store_status(api: JetStreamApi, bucket: str, *, timeout: float | None) -> Operation[ObjectStoreStatus]:
    """The bucket as it is. Raises `BucketNotFoundError`, also for a stream of this name that has no objects."""
    try:
        info = yield from stream_calls.stream_info(api, stream_name(bucket), timeout=timeout)
    except StreamNotFoundError as error:
        raise _missing(f"status of bucket {bucket!r}", bucket) from error
    return status_of(info)


def delete_store(api: JetStreamApi, bucket: str, *, timeout: float | None) -> Operation[None]:
    """Delete a bucket with all its objects. Raises `BucketNotFoundError`."""
    try:
        yield from stream_calls.delete_stream(api, stream_name(bucket), timeout=timeout)
    except StreamNotFoundError as error:
        raise _missing(f"delete bucket {bucket!r}", bucket) from error


def _missing(what: str, bucket: str) -> BucketNotFoundError:
    return BucketNotFoundError(f"{what}: there is no such bucket", bucket=bucket)


def list_store_names(api: JetStreamApi) -> Pages[str]:
    """The names of all buckets of objects."""
    return Pages(
        api,
        "bucket names",
        "STREAM.NAMES",
        {"subject": ALL_BUCKETS},
        lambda what, answer: [
            (name.removeprefix(STREAM_PREFIX), name)
            for name, _ in names_of(what, answer, "streams")
            if name.startswith(STREAM_PREFIX)
        ],
    )


def list_stores(api: JetStreamApi) -> Pages[ObjectStoreStatus]:
    """All buckets of objects."""
    return Pages(api, "buckets", "STREAM.LIST", {"subject": ALL_BUCKETS}, _statuses)


def _statuses(what: str, answer: Mapping[str, object]) -> list[tuple[ObjectStoreStatus, str]]:
    infos = values_of(what, answer, "streams", StreamInfo, lambda info: info.config.name or "")
    found: list[tuple[ObjectStoreStatus, str]] = []
    for info, name in infos:
        with suppress(BucketNotFoundError, ValueError):  # a stream that has such subjects, and is no bucket
            found.append((status_of(info), name))
    return found
