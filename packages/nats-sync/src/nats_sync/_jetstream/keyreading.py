"""`ReadOnlyKeyValue`: what can be read of one bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from nats_proto._consuming.readers import check_handler
from nats_proto._jetstream.errors import ApiError, JetStreamError
from nats_proto._keyvalue import buckets
from nats_proto._keyvalue.errors import KeyNotFoundError
from nats_proto._keyvalue.many import cannot_batch, each_alone, questions_for_keys, snapshot_question, snapshot_refused
from nats_proto._keyvalue.reading import Reads, check_reads
from nats_proto._keyvalue.watch import WatchOptions, history_options, keys_options
from nats_proto._limits import several
from nats_proto.errors import NoRespondersError

from .changes import ChangeHandler, Changes
from .stored import StoredMessages
from .telling import OnWarning
from .watching import Keys, KeyWatch, read_initial

if TYPE_CHECKING:
    from nats_proto._consuming.batch_get import BatchGet
    from nats_proto._keyvalue.bucket import KeyValueStatus
    from nats_proto._keyvalue.codecs import KeyCodec, ValueCodec
    from nats_proto._keyvalue.entry import KeyValueEntry
    from nats_proto._keyvalue.operations import Bucket
    from nats_proto._permissions import Permissions

    from .caller import Caller
    from .viewing import KeyValueView

__all__ = ["ReadOnlyKeyValue"]

T = TypeVar("T")
OtherT = TypeVar("OtherT")


class ReadOnlyKeyValue(Generic[T]):
    """One bucket, to read. Made by `KeyValue.read_only`, and the base of `KeyValue`, whose words hold here as well.

    A program that needs no more may be given no more: nothing here writes to the bucket or changes the server, but for
    the consumers of watches.
    """

    def __init__(self, caller: Caller, bucket: Bucket[T]) -> None:
        self._caller = caller
        self._bucket = bucket

    def __repr__(self) -> str:
        return f"<nats_sync.{type(self).__name__} {self._bucket.name!r}>"

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._bucket.name

    def typed(self, value_type: type[OtherT]) -> ReadOnlyKeyValue[OtherT]:
        """The same bucket with values of this type, written as JSON by msgspec: a struct, ``dict[str, int]``, ...

        Bytes are written as they are. Raises `TypeError` for a type that msgspec does not know.
        """
        return ReadOnlyKeyValue(self._caller, self._bucket.typed(value_type))

    def with_keys(self, codec: KeyCodec) -> ReadOnlyKeyValue[T]:
        """The same bucket with keys that this codec translates (ADR-54).

        Patterns need a `FilterableKeyCodec`: with another one they raise `WildcardNotSupportedError`.
        """
        return ReadOnlyKeyValue(self._caller, self._bucket.with_keys(codec))

    def with_values(self, codec: ValueCodec) -> ReadOnlyKeyValue[T]:
        """The same bucket with values that this codec translates (ADR-54), such as encrypted ones.

        Of a typed bucket it gets the JSON. What it raises when a value is read, `KeyValueEntry.value` raises: for a
        `ValueError` `JetStreamDecodeError`. `lock` does without it.
        """
        return ReadOnlyKeyValue(self._caller, self._bucket.with_values(codec))

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
        caller, bucket = self._caller, self._bucket
        question = bucket.question(key, revision, min_revision, reads)
        if question is None:
            operation = bucket.get(key, revision, min_revision=min_revision, reads=reads, timeout=timeout)
            return caller.run(operation)
        # Nearly always: to run an operation for one question costs more than all else that there is to do.
        seconds = caller.api.seconds(timeout)
        until = caller.api.clock() + seconds
        try:
            answer = caller.host.request(question, b"", timeout=seconds, headers=None, accept=None)
        except NoRespondersError:
            return caller.run(bucket.unanswered(key, question, until))
        return bucket.answered(key, question, answer)

    def get_many(
        self, keys: Iterable[str], *, reads: Reads | None = None, timeout: float | None = None
    ) -> dict[str, KeyValueEntry[T]]:
        """The last entries of those of these keys that have a value, with few requests.

        One by one where the server is older than 2.11, and where the leader is to be asked.
        """
        wanted = several("keys", keys)
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

        Needs a server of 2.11 (`FeatureDroppedError`). Servers answer for at most 1024 keys, markers of deleted ones
        included: `ApiError` with code 413 for more.
        """
        question = snapshot_question(self._bucket, patterns, timeout=timeout)
        try:
            return self._collect([question])
        except ApiError as error:
            raise snapshot_refused(self._bucket, error) from error

    def history(self, key: str, *, timeout: float | None = None) -> list[KeyValueEntry[T]]:
        """All entries of a key that the bucket still has, the oldest first. Raises `KeyNotFoundError`."""
        self._bucket.stored_key(key)
        seconds = self._caller.api.seconds(timeout)
        found = self._initial(history_options(key, seconds), seconds)
        if not found:
            raise KeyNotFoundError(
                f"history of key {key!r} of bucket {self.bucket!r}: there is no such key", bucket=self.bucket, key=key
            )
        return found

    def keys(self, *patterns: str, timeout: float | None = None) -> Keys:
        """The keys of these patterns (by default all) that have a value, each once; values are not sent.

        The server picks them out. ``timeout``: seconds between two keys.
        """
        seconds = self._caller.api.seconds(timeout)
        options = keys_options(patterns, seconds)
        self._bucket.filters(options.patterns)  # what is no pattern is refused here
        return Keys(lambda: KeyWatch(self._caller, self._bucket.untyped(), options), seconds)

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
            patterns=patterns,
            include_history=include_history,
            updates_only=updates_only,
            ignore_deletes=ignore_deletes,
            meta_only=meta_only,
            resume_from_revision=resume_from_revision,
            coalesce=coalesce,
        )
        return KeyWatch(self._caller, self._bucket, options, on_warning)

    def on_change(
        self,
        handler: ChangeHandler[T],
        *patterns: str,
        include_history: bool = False,
        updates_only: bool = False,
        ignore_deletes: bool = False,
        meta_only: bool = False,
        resume_from_revision: int | None = None,
        coalesce: bool = False,
        on_warning: OnWarning | None = None,
    ) -> Changes[T]:
        """`watch`, with a handler that is called with each entry, and with `InitialValuesDone`; begins at once.

        Options as of `watch`. Raises `ValueError` for those that exclude each other, `TypeError` for what cannot be
        called, `ConnectionClosedError`.
        """
        check_handler("on_change", handler, awaits=False)
        options = WatchOptions(
            patterns=patterns,
            include_history=include_history,
            updates_only=updates_only,
            ignore_deletes=ignore_deletes,
            meta_only=meta_only,
            resume_from_revision=resume_from_revision,
            coalesce=coalesce,
        )
        self._bucket.filters(options.patterns)  # what is no pattern is refused here
        return Changes(self._caller, self._bucket, options, handler, on_warning)

    def mapping(
        self, *patterns: str, timeout: float | None = None, on_warning: OnWarning | None = None
    ) -> KeyValueView[T]:
        """The keys of these patterns (by default all) and their values, kept in memory: ``view["web.port"]``.

        Begins at once. ``timeout``: seconds in which all that the bucket has must be there when a block begins:
        ``with kv.mapping("web.>") as view``. Raises `InvalidKeyError`, `ConnectionClosedError`.
        """
        from .viewing import KeyValueView

        seconds = self._caller.api.seconds(timeout)
        options = WatchOptions(patterns=patterns, coalesce=True, patience=seconds)
        self._bucket.filters(options.patterns)  # what is no pattern is refused here
        return KeyValueView(self._caller, self._bucket, options, seconds, on_warning)

    def status(self, *, timeout: float | None = None) -> KeyValueStatus:
        """The bucket's configuration and state. Raises `BucketNotFoundError`."""
        return self._caller.run(buckets.bucket_status(self._bucket.api, self.bucket, timeout=timeout))

    def permissions(self) -> Permissions:
        """The subjects that a program needs which opens the bucket, and does with it what this handle can do.

        Printed, they are what a user of the server is given. Nothing is asked.
        """
        from nats_proto._keyvalue.permissions import to_read_keys

        return to_read_keys(self._bucket.api, self._bucket.subjects)

    def _initial(self, options: WatchOptions, seconds: float) -> list[KeyValueEntry[T]]:
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
