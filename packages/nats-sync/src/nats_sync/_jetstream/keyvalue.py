"""`KeyValue`: the keys of one bucket."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeVar

from nats_proto import check_timeout
from nats_proto._callables import check_function
from nats_proto._json.durations import DurationLike, take_duration
from nats_proto._keyvalue.deletes import OLDER_THAN, Cleaning
from nats_proto._keyvalue.watch import last_options
from nats_proto.errors import NATSError

from .keyreading import ReadOnlyKeyValue

if TYPE_CHECKING:
    from nats_proto._keyvalue.codecs import KeyCodec, ValueCodec
    from nats_proto._keyvalue.deletes import DeletesPurged
    from nats_proto._permissions import Permissions

    from .locking import Lock, OnLost

__all__ = ["KeyValue"]

T = TypeVar("T")
OtherT = TypeVar("OtherT")


class KeyValue(ReadOnlyKeyValue[T]):
    """One bucket: its keys and their values, which are bytes if `typed` says nothing else. Made by `JetStream`.

    A key has letters, digits and ``- / _ = .``; the dots part it, and patterns may have ``*`` in place of one part and
    ``>`` in place of the rest. Each call takes ``timeout`` (seconds) and raises what those of `JetStream` raise;
    `InvalidKeyError` before anything is sent, `BucketNotFoundError` when the bucket is gone.
    """

    def typed(self, value_type: type[OtherT]) -> KeyValue[OtherT]:
        """The same bucket with values of this type, written as JSON by msgspec: a struct, ``dict[str, int]``, ...

        Bytes are written as they are. Raises `TypeError` for a type that msgspec does not know.
        """
        return KeyValue(self._caller, self._bucket.typed(value_type))

    def with_keys(self, codec: KeyCodec) -> KeyValue[T]:
        """The same bucket with keys that this codec translates (ADR-54).

        Patterns need a `FilterableKeyCodec`: with another one they raise `WildcardNotSupportedError`.
        """
        return KeyValue(self._caller, self._bucket.with_keys(codec))

    def with_values(self, codec: ValueCodec) -> KeyValue[T]:
        """The same bucket with values that this codec translates (ADR-54), such as encrypted ones.

        Of a typed bucket it gets the JSON. What it raises when a value is read, `KeyValueEntry.value` raises: for a
        `ValueError` `JetStreamDecodeError`. `lock` does without it.
        """
        return KeyValue(self._caller, self._bucket.with_values(codec))

    def read_only(self) -> ReadOnlyKeyValue[T]:
        """The same bucket without what writes, for a part of a program that is only to read."""
        return ReadOnlyKeyValue(self._caller, self._bucket)

    def permissions(self) -> Permissions:
        """The subjects that a program needs which opens the bucket, and does with it what this handle can do.

        Printed, they are what a user of the server is given; those of `read_only` are for one that only reads. Nothing
        is asked.
        """
        from nats_proto._keyvalue.permissions import to_write_keys

        return to_write_keys(self._bucket.api, self._bucket.subjects)

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, key: str, value: T, *, timeout: float | None = None) -> int:
        """Write a value: its revision. After a `NATSTimeoutError` it may be written."""
        caller = self._caller
        first = self._bucket.put(key, value, timeout)
        try:
            caller.host.request(first.subject, first.data, timeout=first.seconds, headers=None, accept=first)
        except NATSError as error:
            return caller.run(first.go_on(error, now=caller.api.clock)).sequence
        ack = first.ack
        if ack is None:
            ack = caller.run(first.go_on(None, now=caller.api.clock))
        return ack.sequence

    def create(
        self, key: str, value: T, *, ttl: DurationLike | Literal["never"] | None = None, timeout: float | None = None
    ) -> int:
        """Write the value of a key that has none, or whose value was deleted or has expired: its revision.

        ``ttl``: how long it lives, from 1 second on; the bucket needs a ``limit_marker_ttl``, and with ``history`` it
        lives that long at least (ADR-43). Raises `KeyExistsError`, whatever others do at the same time.
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
        seconds = self._caller.api.seconds(timeout)
        for entry in self._initial(last_options(seconds), seconds):
            if entry.deleted:
                self._caller.run(cleaning.clean(entry, timeout))
        return cleaning.result

    def lock(
        self,
        key: str,
        *,
        ttl: DurationLike = 10.0,
        holder: str = "",
        timeout: float | None = None,
        on_lost: OnLost | None = None,
    ) -> Lock:
        """A lock that one program holds at a time: ``with kv.lock("leader") as lock``.

        It is the key, which must be used for nothing else. Who holds it renews it all the time; ``ttl`` (seconds, from
        1 to 86400) after it has died or was cut off, the next one may have it. ``holder``: a text that others see.
        ``timeout``: seconds to wait for it at the beginning of the block. ``on_lost``: told that it was lost.

        Raises `InvalidKeyError`, and `ValueError` for a bucket without ``limit_marker_ttl``, which needs a server of
        2.11, and for a ``ttl`` shorter than that in a bucket with ``history``, where no key expires so soon;
        `TypeError` for an ``on_lost`` that cannot be called.
        """
        from nats_proto._keyvalue.lock import Lease

        from .locking import Lock

        bucket = self._bucket.untyped()
        if timeout is not None:
            check_timeout("timeout", timeout)
        if on_lost is not None:
            check_function("lock: on_lost", on_lost, awaits=False)
        return Lock(self._caller, bucket, Lease(bucket, key, ttl, holder), timeout, on_lost)
