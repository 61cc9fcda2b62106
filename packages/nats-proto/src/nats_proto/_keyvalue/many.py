"""Many keys at once, by direct gets of several subjects (ADR-31), or one by one where a server is too old for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from .._calls.operation import Operation
from .._consuming.batch_get import BATCH, MAX_SUBJECTS, BatchGet, get_last_msgs
from .._jetstream.errors import ApiError, FeatureDroppedError, JetStreamError
from .entry import KeyValueEntry
from .errors import KeyNotFoundError
from .reading import BucketReader, Reads

__all__ = ["cannot_batch", "each_alone", "questions_for_keys", "snapshot_question", "snapshot_refused"]

T = TypeVar("T")

TOO_MANY: Final = 413
KEYS_OF_A_QUESTION: Final = 256
"""Servers take 1024, and a question of long keys has to fit into a message."""


def questions_for_keys(
    bucket: BucketReader[T], keys: Iterable[str], *, timeout: float | None
) -> list[Callable[[float], BatchGet]]:
    """The last entries of these keys. Raises `InvalidKeyError`, before anything is asked."""
    subjects = [bucket.subjects.read + bucket.stored_key(key) for key in dict.fromkeys(keys)]
    return [
        _question(bucket, subjects[start : start + KEYS_OF_A_QUESTION], timeout)
        for start in range(0, len(subjects), KEYS_OF_A_QUESTION)
    ]


def snapshot_question(
    bucket: BucketReader[T], patterns: Sequence[str], *, timeout: float | None
) -> Callable[[float], BatchGet]:
    """The last entries of all keys of these patterns, as they were at one moment. Raises `InvalidKeyError`."""
    return _question(bucket, bucket.filters(patterns), timeout)


def _question(bucket: BucketReader[T], subjects: list[str], timeout: float | None) -> Callable[[float], BatchGet]:
    return get_last_msgs(
        bucket.api,
        bucket.subjects.stream,
        subjects,
        up_to_seq=None,
        up_to_time=None,
        batch=BATCH,
        max_bytes=None,
        limit=None,
        timeout=timeout,
    )


def snapshot_refused(bucket: BucketReader[T], error: ApiError) -> ApiError:
    """What a snapshot ends with that the server has refused: more keys than it answers for in one go have one."""
    if error.code != TOO_MANY:
        return error
    return ApiError(
        f"snapshot of bucket {bucket.name!r}: more than {MAX_SUBJECTS} keys match, and a server answers for no more of "
        f"them as they are at one moment: give narrower patterns, or use keys() and get_many(), which take several",
        code=error.code,
        description=error.description,
    )


def cannot_batch(error: JetStreamError) -> bool:
    """Whether they can be had one by one all the same: the server is too old, or the stream has no direct access."""
    return isinstance(error, FeatureDroppedError) or type(error) is JetStreamError


def each_alone(
    bucket: BucketReader[T], keys: Iterable[str], *, reads: Reads | None, timeout: float | None
) -> Operation[dict[str, KeyValueEntry[T]]]:
    """The entries of these keys that have a value, asked for one after the other."""
    found: dict[str, KeyValueEntry[T]] = {}
    for key in dict.fromkeys(keys):
        with suppress(KeyNotFoundError):
            found[key] = yield from bucket.get(key, reads=reads, timeout=timeout)
    return found
