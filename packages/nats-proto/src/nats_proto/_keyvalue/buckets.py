"""What is asked about buckets as a whole: to make, change, find, list and delete one. Each is an operation."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from .._calls.operation import Operation
from .._jetstream import stream_calls
from .._jetstream.decoders import names_of, values_of
from .._jetstream.errors import ApiLevelError, StreamNameInUseError, StreamNotFoundError
from .._jetstream.pages import Pages
from .._jetstream.stream_info import StreamInfo
from .bucket import KeyValueConfig, KeyValueStatus, status_of, stream_of
from .errors import BucketExistsError, BucketNotFoundError
from .names import STREAM_PREFIX, stream_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._jetstream.api import JetStreamApi
    from .._jetstream.stream_config import StreamConfig

__all__ = [
    "bucket_status",
    "create_bucket",
    "create_or_update_bucket",
    "delete_bucket",
    "list_bucket_names",
    "list_buckets",
    "update_bucket",
]

ALL_BUCKETS: Final = "$KV.*.>"
MARKER_LEVEL: Final = 1
"""Of the API that a server needs to have markers."""


def create_bucket(api: JetStreamApi, config: KeyValueConfig, *, timeout: float | None) -> Operation[KeyValueStatus]:
    """Make a bucket. With the very same configuration as it has, an existing one is no error.

    Raises `BucketExistsError`, `ApiLevelError` when the server is too old for markers, others of `ApiError`.
    """
    return _put(api, config, stream_calls.create_stream, "create", timeout)


def update_bucket(api: JetStreamApi, config: KeyValueConfig, *, timeout: float | None) -> Operation[KeyValueStatus]:
    """Change a bucket; what is not given gets its default. Raises `BucketNotFoundError`, and as `create_bucket`."""
    return _put(api, config, stream_calls.update_stream, "update", timeout)


def create_or_update_bucket(
    api: JetStreamApi, config: KeyValueConfig, *, timeout: float | None
) -> Operation[KeyValueStatus]:
    """`update_bucket`, or `create_bucket` where there is none."""
    return _put(api, config, stream_calls.create_or_update_stream, "create or update", timeout)


def _put(
    api: JetStreamApi,
    config: KeyValueConfig,
    put: Callable[..., Operation[StreamInfo]],
    verb: str,
    timeout: float | None,
) -> Operation[KeyValueStatus]:
    what = f"{verb} bucket {config.bucket!r}"
    wanted: StreamConfig = stream_of(config)
    if wanted.subject_delete_marker_ttl:
        # ADR-48: asked before anything changes. An older server would make the bucket, only without markers.
        account = yield from stream_calls.account_info(api, timeout=timeout)
        if account.api.level < MARKER_LEVEL:
            raise ApiLevelError(
                f"{what}: limit_marker_ttl needs a server of 2.11 or newer (level {MARKER_LEVEL} of the API), this one "
                f"is {api.server_version() or 'of an unknown version'} and has level {account.api.level}",
                code=412,
                err_code=10185,
            )
    try:
        info = yield from put(api, wanted, timeout=timeout)
    except StreamNotFoundError as error:
        raise _missing(what, config.bucket) from error
    except StreamNameInUseError as error:
        told = f": {'; '.join(error.differences)}" if error.differences else ""
        raise BucketExistsError(
            f"{what}: it exists with another configuration{told}", bucket=config.bucket, differences=error.differences
        ) from error
    return status_of(info)


def bucket_status(api: JetStreamApi, bucket: str, *, timeout: float | None) -> Operation[KeyValueStatus]:
    """The bucket as it is. Raises `BucketNotFoundError`, also for a stream of this name that is no bucket."""
    try:
        info = yield from stream_calls.stream_info(api, stream_name(bucket), timeout=timeout)
    except StreamNotFoundError as error:
        raise _missing("status", bucket) from error
    return status_of(info)


def delete_bucket(api: JetStreamApi, bucket: str, *, timeout: float | None) -> Operation[None]:
    """Delete a bucket with all its keys. Raises `BucketNotFoundError`."""
    try:
        yield from stream_calls.delete_stream(api, stream_name(bucket), timeout=timeout)
    except StreamNotFoundError as error:
        raise _missing("delete", bucket) from error


def _missing(what: str, bucket: str) -> BucketNotFoundError:
    named = what if "bucket" in what else f"{what} of bucket {bucket!r}"
    return BucketNotFoundError(f"{named}: there is no such bucket", bucket=bucket)


def list_bucket_names(api: JetStreamApi) -> Pages[str]:
    """The names of all buckets. A mirror has no subjects of its own and is not among them."""
    return Pages(
        api,
        "bucket names",
        "STREAM.NAMES",
        {"subject": ALL_BUCKETS},
        lambda what, answer: [
            (name.removeprefix(STREAM_PREFIX), name) for name, _ in names_of(what, answer, "streams")
        ],
    )


def list_buckets(api: JetStreamApi) -> Pages[KeyValueStatus]:
    """All buckets but mirrors."""
    return Pages(api, "buckets", "STREAM.LIST", {"subject": ALL_BUCKETS}, _statuses)


def _statuses(what: str, answer: Mapping[str, object]) -> list[tuple[KeyValueStatus, str]]:
    infos = values_of(what, answer, "streams", StreamInfo, lambda info: info.config.name)
    found: list[tuple[KeyValueStatus, str]] = []
    for info, name in infos:
        with suppress(BucketNotFoundError, ValueError):  # a stream that has such subjects, and is no bucket
            found.append((status_of(info), name))
    return found
