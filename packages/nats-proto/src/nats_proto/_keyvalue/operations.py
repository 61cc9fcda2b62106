"""Writing the keys of one bucket: operations, which the driver of a client runs.

Theory of operation
-------------------
A key's value is the last message of its subject, its revision that message's sequence. A conditional write tells the
revision that the key must have; the leader of the stream decides. What it refuses with says little about the key:

    10071   the last revision is another one
    10164   replicated streams: any other write to the key is on its way; the expected revision may even be right

So a refusal is looked into before it is told, by reading from the leader, until the outcome is certain:

    create  10164: wait a moment, write again            update  10164: read; the same revision: wait, write again;
            10071: read: a value ─▶ KeyExistsError                      another one ─▶ RevisionMismatchError
                   a marker ─▶ write at its revision             10071 ─▶ RevisionMismatchError
                   nothing ─▶ write at 0 again

Each round that is lost is one that another writer has won, and a time limits them all. A conditional write has a
message id, so that a try whose acknowledgement was lost is known again, see `nats_proto._publishing.publish`. A plain
put has none, so that servers need not remember it: it is not tried again when it may be stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from .._callables import check_function, check_hook
from .._calls.operation import Operation, Pause
from .._jetstream.errors import MessageTTLError, WrongLastSequenceError
from .._jetstream.pub_ack import PubAck
from .._jetstream.stream_calls import get_last_msg, purge_stream
from .._json.durations import DurationLike
from .._limits import check_count
from .._publishing.headers import PublishOptions, message_id, publish_headers
from .._publishing.publish import FirstTry, publish_operation
from .._publishing.retries import RETRY_FOR
from .._wire.headers import Headers
from .codecs import BYTES, KeyCodec, ValueCodec, values_of
from .entry import KEY_OPERATION, KeyValueEntry
from .errors import KeyExistsError, RevisionMismatchError
from .reading import BucketReader, Reads, check_reads

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .._jetstream.stream_config import StreamConfig

__all__ = ["Bucket", "bucket_of"]

T = TypeVar("T")
OtherT = TypeVar("OtherT")

IN_FLIGHT: Final = 10164
NO_TTL: Final = 10166


def bucket_of(api: JetStreamApi, stream: StreamConfig, reads: Reads) -> Bucket[bytes]:
    """The bucket that is this stream. Raises `ValueError` for another choice of ``reads``."""
    return Bucket(api, stream, check_reads(reads), BYTES, None)


class Bucket(BucketReader[T]):
    """One bucket, to read and to write. ``timeout``: seconds for a whole operation, for a `put` those of each try."""

    __slots__ = ()

    def typed(self, kind: type[OtherT]) -> Bucket[OtherT]:
        """The same bucket with values of another type. Raises `TypeError` for one that msgspec does not know."""
        values = values_of(kind, self._codec.codec)
        return Bucket(self._api, self._stream, self._reads, values, self._keys, self._rng)

    def with_values(self, codec: ValueCodec) -> Bucket[T]:
        """The same bucket with other bytes for its values."""
        values = values_of(self._codec.kind, codec)
        return Bucket(self._api, self._stream, self._reads, values, self._keys, self._rng)

    def untyped(self) -> Bucket[bytes]:
        """The same bucket with values as they are."""
        return Bucket(self._api, self._stream, self._reads, BYTES, self._keys, self._rng)

    def with_keys(self, codec: KeyCodec) -> Bucket[T]:
        """The same bucket with other names for its keys."""
        return Bucket(self._api, self._stream, self._reads, self._codec, codec, self._rng)

    def put(self, key: str, value: T, timeout: float | None = None) -> FirstTry:
        """Write a value; the acknowledgement tells its revision. ``timeout``: seconds of each try."""
        subject = self.subjects.write + self.stored_key(key)
        data = self._codec.encode(value)
        return FirstTry(subject, data, seconds=self._api.seconds(timeout), began=self._api.clock())

    def create(
        self,
        key: str,
        value: T,
        *,
        ttl: DurationLike | Literal["never"] | None = None,
        timeout: float | None = None,
        retry_for: float = RETRY_FOR,
    ) -> Operation[int]:
        """Write the value of a key that has none: its revision. Raises `KeyExistsError`.

        ``retry_for``: seconds for which a write that failed by itself is tried again.
        """
        what = self._what("create", key)
        data = self._codec.encode(value)
        options: PublishOptions = {} if ttl is None else {"ttl": ttl}
        until = self._api.clock() + self._api.seconds(timeout)
        expected = 0
        found: int | None = None
        pauses = self._pauses()
        while True:
            try:
                written = self._write(key, data, expected, None, options, timeout, retry_for)
                ack = yield from self._living(what, written)
                return ack.sequence
            except WrongLastSequenceError as error:
                refused = error
            left = until - self._api.clock()
            if refused.err_code != IN_FLIGHT:
                entry = yield from self._at_origin(key, max(left, 0.0))
                if entry is not None and not entry.deleted:
                    raise KeyExistsError(
                        f"{what}: it has a value (revision {entry.revision})",
                        bucket=self.name, key=key, revision=entry.revision,
                    ) from refused  # fmt: skip
                expected = 0 if entry is None else entry.revision
                if expected != found:
                    found = expected
                    if left > 0:
                        continue
            pause = next(pauses)
            if pause >= left:
                raise KeyExistsError(
                    f"{what}: others are writing it all the time", bucket=self.name, key=key
                ) from refused
            yield Pause(pause)

    def update(self, key: str, value: T, revision: int, *, timeout: float | None = None) -> Operation[int]:
        """Write a value if the key's last revision is ``revision``: the new one. Raises `RevisionMismatchError`."""
        return self._conditional("update", key, self._codec.encode(value), revision, None, {}, timeout)

    def delete(self, key: str, *, revision: int | None = None, timeout: float | None = None) -> Operation[int]:
        """Write a marker that the key has no value: its revision. The history stays."""
        return self._mark("delete", key, Headers({KEY_OPERATION: "DEL"}), revision, {}, timeout)

    def purge(
        self,
        key: str,
        *,
        revision: int | None = None,
        ttl: DurationLike | None = None,
        timeout: float | None = None,
    ) -> Operation[int]:
        """The same, and the history goes. ``ttl``: how long the marker stays."""
        options: PublishOptions = {"rollup": "sub"}
        if ttl is not None:
            options["ttl"] = ttl
        marked = self._mark("purge", key, Headers({KEY_OPERATION: "PURGE"}), revision, options, timeout)
        return self._living(self._what("purge", key), marked)

    def modify(self, key: str, change: Callable[[T | None], T], *, timeout: float | None = None) -> Operation[int]:
        """Write what ``change`` makes of the value (None: there is none), again when another writer was quicker.

        The revision. Raises what ``change`` raises; `RevisionMismatchError` when others win all the time.
        """
        check_function("modify: the change", change, awaits=True)  # which must not be None
        check_hook("modify: the change", change)
        until = self._api.clock() + self._api.seconds(timeout)
        pauses = self._pauses()
        while True:
            entry = yield from self._at_origin(key, max(until - self._api.clock(), 0.0))
            value = change(None if entry is None or entry.deleted else entry.value)
            expected = 0 if entry is None else entry.revision
            try:
                ack = yield from self._write(key, self._codec.encode(value), expected, None, {}, timeout)
                return ack.sequence
            except WrongLastSequenceError as error:
                pause = next(pauses)
                if self._api.clock() + pause >= until:
                    raise self._mismatch("modify", key, expected, error.last_sequence) from error
            yield Pause(pause)

    def _living(self, what: str, written: Operation[OtherT]) -> Operation[OtherT]:
        """A write that may have a time to live: a bucket that allows none is named in the words of buckets."""
        try:
            return (yield from written)
        except MessageTTLError as error:
            if error.err_code != NO_TTL:
                raise
            raise MessageTTLError(
                f"{what}: a ttl needs a bucket with limit_marker_ttl, and this one has none",
                code=error.code,
                err_code=error.err_code,
                description=error.description,
            ) from error

    def _mark(
        self,
        verb: str,
        key: str,
        headers: Headers,
        revision: int | None,
        options: PublishOptions,
        timeout: float | None,
    ) -> Operation[int]:
        if revision is not None:
            return self._conditional(verb, key, b"", revision, headers, options, timeout)
        return self._unconditional(key, headers, options, timeout)

    def _unconditional(
        self, key: str, headers: Headers, options: PublishOptions, timeout: float | None
    ) -> Operation[int]:
        subject = self.subjects.write + self.stored_key(key)
        ack = yield from publish_operation(
            subject,
            b"",
            publish_headers(subject, b"", headers, options),
            now=self._api.clock,
            timeout=self._api.seconds(timeout),
        )
        return ack.sequence

    def _conditional(
        self,
        verb: str,
        key: str,
        data: bytes,
        revision: int,
        headers: Headers | None,
        options: PublishOptions,
        timeout: float | None,
    ) -> Operation[int]:
        check_count("revision", revision, least=0)
        until = self._api.clock() + self._api.seconds(timeout)
        pauses = self._pauses()
        while True:
            try:
                ack = yield from self._write(key, data, revision, headers, options, timeout)
                return ack.sequence
            except WrongLastSequenceError as error:
                refused = error
            if refused.err_code != IN_FLIGHT:
                raise self._mismatch(verb, key, revision, refused.last_sequence) from refused
            entry = yield from self._at_origin(key, max(until - self._api.clock(), 0.0))
            last = 0 if entry is None else entry.revision
            pause = next(pauses)
            if last != revision or self._api.clock() + pause >= until:
                raise self._mismatch(verb, key, revision, None if last == revision else last) from refused
            yield Pause(pause)

    def _write(
        self,
        key: str,
        data: bytes,
        expected: int,
        headers: Headers | None,
        options: PublishOptions,
        timeout: float | None,
        retry_for: float = RETRY_FOR,
    ) -> Operation[PubAck]:
        """Write if the key's last revision is ``expected``."""
        subject = self.subjects.write + self.stored_key(key)
        told: PublishOptions = {
            **options,
            "msg_id": self._random(),
            "expected_last_subject_sequence": expected,
        }
        return publish_operation(
            subject,
            data,
            publish_headers(subject, data, headers, told),
            now=self._api.clock,
            timeout=self._api.seconds(timeout),
            retry_for=retry_for,
            duplicate_window=self._window,
            find_stored=lambda _, identity: self._find(key, identity),
        )

    def _find(self, key: str, identity: str) -> Operation[PubAck | None]:
        """The acknowledgement of an earlier try of a write, if that is the last one of its key."""
        subject = self.subjects.read + self.stored_key(key)
        stored = yield from get_last_msg(
            self.subjects.origin_api, self.subjects.origin_stream, subject, direct=False, timeout=None
        )
        if message_id(stored.headers) != identity:
            return None
        return PubAck(stream=self.subjects.origin_stream, sequence=stored.sequence, duplicate=True)

    def _mismatch(self, verb: str, key: str, expected: int, last: int | None) -> RevisionMismatchError:
        told = "others are writing it at this moment" if last is None else f"its last revision is {last}"
        return RevisionMismatchError(
            f"{self._what(verb, key)}: revision {expected} was expected, {told}",
            bucket=self.name,
            key=key,
            expected=expected,
            revision=last,
        )

    # --- for locks

    @property
    def keys_may_expire(self) -> bool:
        """A key may have a time to live. Of a mirror only its origin knows."""
        return bool(self._stream.allow_msg_ttl) or self.subjects.is_mirror

    @property
    def shortest_life(self) -> float:
        """Seconds that a key with a time to live lives at least. Where a stream keeps more than one message of a
        subject, servers raise a shorter time to that of its markers, and do not say so (ADR-43)."""
        if self._stream.max_msgs_per_subject == 1:
            return 0.0
        return float(self._stream.subject_delete_marker_ttl or 0.0)

    def new_id(self) -> str:
        """A random text that nobody else has."""
        return self._random()

    def write_again(self, key: str, data: bytes, revision: int, *, ttl: DurationLike, timeout: float) -> Operation[int]:
        """Write a value that lives for ``ttl`` if the key's last revision is ``revision``: the new one.

        Raises `WrongLastSequenceError`, which may be about an earlier write whose acknowledgement was lost.
        """
        ack = yield from self._write(key, data, revision, None, {"ttl": ttl}, timeout, retry_for=0.0)
        return ack.sequence

    def delete_once(self, key: str, revision: int, timeout: float) -> Operation[int]:
        """Delete a key if its last revision is ``revision``, with one try. Raises as `write_again`."""
        headers = Headers({KEY_OPERATION: "DEL"})
        ack = yield from self._write(key, b"", revision, headers, {}, timeout, retry_for=0.0)
        return ack.sequence

    def last_written(self, key: str, timeout: float) -> Operation[KeyValueEntry[T] | None]:
        """The key's last entry as the leader has it, which may be a marker; None when there is none."""
        return self._at_origin(key, timeout)

    def clean(self, entry: KeyValueEntry[T], *, keep: bool, timeout: float | None = None) -> Operation[int]:
        """Remove all of a key up to this entry, or ``keep`` it and remove what is before: how many entries went.

        What was written behind the entry stays, whenever that was.
        """
        return purge_stream(
            self.subjects.origin_api,
            self.subjects.origin_stream,
            subject=self.subjects.read + self.stored_key(entry.key),
            up_to_sequence=entry.revision if keep else entry.revision + 1,
            timeout=timeout,
        )
