"""`KeyValue`: the keys of one bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from nats_proto import check_timeout
from nats_proto._jetstream.durations import DurationLike, take_duration
from nats_proto._jetstream.errors import JetStreamError
from nats_proto._keyvalue import buckets
from nats_proto._keyvalue.deletes import OLDER_THAN, Cleaning
from nats_proto._keyvalue.errors import KeyNotFoundError
from nats_proto._keyvalue.many import cannot_batch, each_alone, questions_for_keys, snapshot_question
from nats_proto._keyvalue.reading import Reads, check_reads
from nats_proto._keyvalue.watch import WatchOptions

from .stored import StoredMessages
from .telling import OnWarning
from .watching import Keys, KeyWatch, read_initial

if TYPE_CHECKING:
    from nats_proto._consuming.batch_get import BatchGet
    from nats_proto._keyvalue.bucket import KeyValueStatus
    from nats_proto._keyvalue.codecs import KeyCodec
    from nats_proto._keyvalue.deletes import DeletesPurged
    from nats_proto._keyvalue.entry import KeyValueEntry
    from nats_proto._keyvalue.operations import Bucket

    from .caller import Caller

__all__ = ["KeyValue"]

T = TypeVar("T")
OtherT = TypeVar("OtherT")


class KeyValue(Generic[T]):
    """One bucket: its keys and their values, which are bytes if `typed` says nothing else. Made by `JetStream`.

    A key has letters, digits and ``- / _ = .``; the dots part it, and patterns may have ``*`` in place of one part and
    ``>`` in place of the rest. Each call takes ``timeout`` (seconds) and raises what those of `JetStream` raise;
    `InvalidKeyError` before anything is sent, `BucketNotFoundError` when the bucket is gone.
    """

    def __init__(self, caller: Caller, bucket: Bucket[T]) -> None:
        self._caller = caller
        self._bucket = bucket

    def __repr__(self) -> str:
        return f"<nats_sync.KeyValue {self._bucket.name!r}>"

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._bucket.name

    def typed(self, value_type: type[OtherT]) -> KeyValue[OtherT]:
        """The same bucket with values of this type, written as JSON by msgspec: a struct, ``dict[str, int]``, ...

        Raises `TypeError` for a type that msgspec does not know.
        """
        return KeyValue(self._caller, self._bucket.typed(value_type))

    def with_keys(self, codec: KeyCodec) -> KeyValue[T]:
        """The same bucket with keys that this codec translates (ADR-54)."""
        return KeyValue(self._caller, self._bucket.with_keys(codec))

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, key: str, value: T, *, timeout: float | None = None) -> int:
        """Write a value: its revision. After a `NATSTimeoutError` it may be written."""
        return self._caller.run(self._bucket.put(key, value, timeout=timeout))

    def create(
        self, key: str, value: T, *, ttl: DurationLike | Literal["never"] | None = None, timeout: float | None = None
    ) -> int:
        """Write the value of a key that has none, or whose value was deleted or has expired: its revision.

        ``ttl``: how long it lives, from 1 second on; the bucket needs a ``limit_marker_ttl``. Raises `KeyExistsError`,
        whatever others do at the same time.
        """
        return self._caller.run(self._bucket.create(key, value, ttl=ttl, timeout=timeout))

    def update(self, key: str, value: T, revision: int, *, timeout: float | None = None) -> int:
        """Write a value if the key's last revision is ``revision``: the new one. Raises `RevisionMismatchError`."""
        return self._caller.run(self._bucket.update(key, value, revision, timeout=timeout))

    def modify(self, key: str, change: Callable[[T | None], T], *, timeout: float | None = None) -> int:
        """Write what ``change`` makes of the key's value, or of None when it has none: the new revision.

        It is called again, with the newer value, when another writer was quicker. Raises what it raises;
        `RevisionMismatchError` when others are quicker for ``timeout`` seconds.
        """
        return self._caller.run(self._bucket.modify(key, change, timeout=timeout))

    def delete(self, key: str, *, revision: int | None = None, timeout: float | None = None) -> int:
        """Take the key's value away: the revision of the marker that is left. The history stays.

        ``revision``: only if that is the key's last one, else `RevisionMismatchError`.
        """
        return self._caller.run(self._bucket.delete(key, revision=revision, timeout=timeout))

    def purge(
        self,
        key: str,
        *,
        revision: int | None = None,
        ttl: DurationLike | None = None,
        timeout: float | None = None,
    ) -> int:
        """As `delete`, and the history goes. ``ttl``: how long the marker stays; needs a ``limit_marker_ttl``."""
        return self._caller.run(self._bucket.purge(key, revision=revision, ttl=ttl, timeout=timeout))

    def purge_deletes(self, *, older_than: DurationLike = OLDER_THAN, timeout: float | None = None) -> DeletesPurged:
        """Remove the markers of deleted keys that are older than so many seconds (0: all), and what is before them.

        Younger ones stay, so that watchers that were away are told. ``timeout`` is for each key; a call that was cut
        off has done a part.
        """
        take_duration("older_than", older_than)
        cleaning = Cleaning(self._bucket, older_than, self.status(timeout=timeout))
        for entry in self._initial(WatchOptions(meta_only=True, until_initial=True), timeout):
            if entry.deleted:
                self._caller.run(cleaning.clean(entry, timeout))
        return cleaning.result

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(
        self,
        key: str,
        *,
        revision: int | None = None,
        min_revision: int | None = None,
        reads: Reads | None = None,
        timeout: float | None = None,
    ) -> KeyValueEntry[T]:
        """The key's last entry, or the one with this ``revision``.

        Any replica may answer, and may be a little behind: ``min_revision`` waits for an entry that is at least so new,
        ``reads="leader"`` asks the leader. Raises `KeyNotFoundError` (`KeyDeletedError` for a key that was deleted or
        has expired), `NATSTimeoutError` when none so new comes.
        """
        return self._caller.run(
            self._bucket.get(key, revision, min_revision=min_revision, reads=reads, timeout=timeout)
        )

    def get_many(
        self, keys: Iterable[str], *, reads: Reads | None = None, timeout: float | None = None
    ) -> dict[str, KeyValueEntry[T]]:
        """The last entries of those of these keys that have a value, with few requests.

        One by one where the server is older than 2.11, and where the leader is to be asked.
        """
        wanted = list(keys)
        questions = questions_for_keys(self._bucket, wanted, timeout=timeout)
        if (self._bucket.reads if reads is None else check_reads(reads)) == "any":
            try:
                return self._collect(questions)
            except JetStreamError as error:
                if not cannot_batch(error):
                    raise
        return self._caller.run(each_alone(self._bucket, wanted, reads=reads, timeout=timeout))

    def snapshot(self, *patterns: str, timeout: float | None = None) -> dict[str, KeyValueEntry[T]]:
        """All keys of these patterns (by default all) that have a value, as they were at one moment.

        Needs a server of 2.11 (`FeatureDroppedError`), which answers for at most 1024 keys, and refuses more with an
        `ApiError`.
        """
        return self._collect([snapshot_question(self._bucket, patterns, timeout=timeout)])

    def history(self, key: str, *, timeout: float | None = None) -> list[KeyValueEntry[T]]:
        """All entries of a key that the bucket still has, the oldest first. Raises `KeyNotFoundError`."""
        self._bucket.stored_key(key)
        found = self._initial(WatchOptions(patterns=(key,), include_history=True, until_initial=True), timeout)
        if not found:
            raise KeyNotFoundError(
                f"history of key {key!r} of bucket {self.bucket!r}: there is no such key", bucket=self.bucket, key=key
            )
        return found

    def keys(self, *patterns: str, timeout: float | None = None) -> Keys:
        """The keys of these patterns (by default all) that have a value, each once; values are not sent.

        The server picks them out. ``timeout``: seconds between two keys.
        """
        options = WatchOptions(
            patterns=patterns or (">",), meta_only=True, ignore_deletes=True, until_initial=True, distinct=True
        )
        for pattern in options.patterns:
            self._bucket.filter(pattern)
        return Keys(lambda: KeyWatch(self._caller, self._bucket.untyped(), options), self._caller.api.seconds(timeout))

    def watch(
        self,
        *patterns: str,
        include_history: bool = False,
        updates_only: bool = False,
        ignore_deletes: bool = False,
        meta_only: bool = False,
        resume_from_revision: int | None = None,
        coalesce: bool = False,
        on_warning: OnWarning | None = None,
    ) -> KeyWatch[T]:
        """What happens to the keys of these patterns (by default all), beginning with the last entry of each.

        ``include_history``: beginning with all entries there are; ``updates_only``: with none, and without
        `InitialValuesDone`; ``resume_from_revision``: with this revision. ``meta_only``: without values.
        ``coalesce``: of each key only the newest entry that was not read yet, for readers that are slow: the order of
        different keys is lost. Raises `ValueError` for options that exclude each other.
        """
        options = WatchOptions(
            patterns=patterns or (">",),
            include_history=include_history,
            updates_only=updates_only,
            ignore_deletes=ignore_deletes,
            meta_only=meta_only,
            resume_from_revision=resume_from_revision,
            coalesce=coalesce,
        )
        return KeyWatch(self._caller, self._bucket, options, on_warning)

    def status(self, *, timeout: float | None = None) -> KeyValueStatus:
        """The bucket's configuration and state. Raises `BucketNotFoundError`."""
        return self._caller.run(buckets.bucket_status(self._bucket.api, self.bucket, timeout=timeout))

    def _initial(self, options: WatchOptions, timeout: float | None) -> list[KeyValueEntry[T]]:
        seconds = self._caller.api.timeout if timeout is None else check_timeout("timeout", timeout)
        return read_initial(KeyWatch(self._caller, self._bucket, options), seconds)

    def _collect(self, questions: Iterable[Callable[[float], BatchGet]]) -> dict[str, KeyValueEntry[T]]:
        found: dict[str, KeyValueEntry[T]] = {}
        for question in questions:
            with StoredMessages(self._caller.host, question) as messages:
                for message in messages:
                    entry = self._bucket.entry_of(message)
                    if entry is not None and not entry.deleted:
                        found[entry.key] = entry
        return found
