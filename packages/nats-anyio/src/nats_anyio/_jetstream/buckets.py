"""What `JetStream` has for Key-Value buckets, which are loaded when they are first used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeVar, Unpack, overload

from .caller import Caller, Listing

if TYPE_CHECKING:
    from nats_proto import Operation
    from nats_proto._jetstream.pages import Pages
    from nats_proto._keyvalue.bucket import KeyValueConfig, KeyValueFields, KeyValueStatus
    from nats_proto._keyvalue.reading import Reads

    from .keyvalue import KeyValue

__all__ = ["KeyValueBuckets"]

T = TypeVar("T")


class KeyValueBuckets:
    """The base of `JetStream`."""

    _caller: Caller

    @overload
    async def create_key_value(
        self,
        bucket: str | None = None,
        /,
        *,
        config: KeyValueConfig | None = None,
        value_type: None = None,
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[KeyValueFields],
    ) -> KeyValue[bytes]: ...

    @overload
    async def create_key_value(
        self,
        bucket: str | None = None,
        /,
        *,
        config: KeyValueConfig | None = None,
        value_type: type[T],
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[KeyValueFields],
    ) -> KeyValue[T]: ...

    async def create_key_value(
        self,
        bucket: str | None = None,
        /,
        *,
        config: KeyValueConfig | None = None,
        value_type: type[T] | None = None,
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[KeyValueFields],
    ) -> KeyValue[T] | KeyValue[bytes]:
        """Make a bucket, from fields of `KeyValueConfig` or a ready one. The same one again is no error.

        ``value_type`` and ``reads`` as of `key_value`. Raises `BucketExistsError` for another configuration under this
        name, `ApiLevelError` when the server is too old for a field, `InvalidBucketError`, `TypeError` and `ValueError`
        for what cannot be.
        """
        from nats_proto._keyvalue import buckets
        from nats_proto._keyvalue.bucket import read_bucket

        wanted = read_bucket(config, bucket, fields)
        made = buckets.create_bucket(self._caller.api, wanted, timeout=timeout)
        return await self._opened(made, reads, value_type)

    @overload
    async def update_key_value(
        self,
        bucket: str | None = None,
        /,
        *,
        config: KeyValueConfig | None = None,
        value_type: None = None,
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[KeyValueFields],
    ) -> KeyValue[bytes]: ...

    @overload
    async def update_key_value(
        self,
        bucket: str | None = None,
        /,
        *,
        config: KeyValueConfig | None = None,
        value_type: type[T],
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[KeyValueFields],
    ) -> KeyValue[T]: ...

    async def update_key_value(
        self,
        bucket: str | None = None,
        /,
        *,
        config: KeyValueConfig | None = None,
        value_type: type[T] | None = None,
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[KeyValueFields],
    ) -> KeyValue[T] | KeyValue[bytes]:
        """Change a bucket. What is not given gets its default: begin with the ``config`` of its status.

        Raises `BucketNotFoundError`, and as `create_key_value`.
        """
        from nats_proto._keyvalue import buckets
        from nats_proto._keyvalue.bucket import read_bucket

        wanted = read_bucket(config, bucket, fields)
        made = buckets.update_bucket(self._caller.api, wanted, timeout=timeout)
        return await self._opened(made, reads, value_type)

    @overload
    async def create_or_update_key_value(
        self,
        bucket: str | None = None,
        /,
        *,
        config: KeyValueConfig | None = None,
        value_type: None = None,
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[KeyValueFields],
    ) -> KeyValue[bytes]: ...

    @overload
    async def create_or_update_key_value(
        self,
        bucket: str | None = None,
        /,
        *,
        config: KeyValueConfig | None = None,
        value_type: type[T],
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[KeyValueFields],
    ) -> KeyValue[T]: ...

    async def create_or_update_key_value(
        self,
        bucket: str | None = None,
        /,
        *,
        config: KeyValueConfig | None = None,
        value_type: type[T] | None = None,
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[KeyValueFields],
    ) -> KeyValue[T] | KeyValue[bytes]:
        """`update_key_value`, or `create_key_value` where there is none of this name."""
        from nats_proto._keyvalue import buckets
        from nats_proto._keyvalue.bucket import read_bucket

        wanted = read_bucket(config, bucket, fields)
        made = buckets.create_or_update_bucket(self._caller.api, wanted, timeout=timeout)
        return await self._opened(made, reads, value_type)

    @overload
    async def key_value(
        self, bucket: str, *, value_type: None = None, reads: Reads = "any", timeout: float | None = None
    ) -> KeyValue[bytes]: ...

    @overload
    async def key_value(
        self, bucket: str, *, value_type: type[T], reads: Reads = "any", timeout: float | None = None
    ) -> KeyValue[T]: ...

    async def key_value(
        self,
        bucket: str,
        *,
        value_type: type[T] | None = None,
        reads: Reads = "any",
        timeout: float | None = None,
    ) -> KeyValue[T] | KeyValue[bytes]:
        """A bucket that is there. It is asked for, since only the server knows whether it is a mirror.

        ``value_type``: its values, written as JSON by msgspec, as of `KeyValue.typed`; bytes by default. ``reads``: any
        replica answers, which is quick and may be a little behind, or ``"leader"``, so that each read sees what was
        written before it. Raises `BucketNotFoundError`, `InvalidBucketError`, `ValueError`, `TypeError`.
        """
        from nats_proto._keyvalue import buckets

        found = buckets.bucket_status(self._caller.api, bucket, timeout=timeout)
        return await self._opened(found, reads, value_type)

    def key_value_names(self, *, timeout: float | None = None) -> AsyncIterator[str]:
        """The names of all buckets but mirrors; each page has ``timeout``."""
        from nats_proto._keyvalue import buckets

        return Listing(self._caller, buckets.list_bucket_names(self._caller.api), timeout)

    def key_values(self, *, timeout: float | None = None) -> AsyncIterator[KeyValueStatus]:
        """All buckets but mirrors, as `KeyValue.status` tells of each; each page has ``timeout``."""
        from nats_proto._keyvalue import buckets

        pages: Pages[KeyValueStatus] = buckets.list_buckets(self._caller.api)
        return Listing(self._caller, pages, timeout)

    async def delete_key_value(self, bucket: str, *, timeout: float | None = None) -> None:
        """Delete a bucket with all its keys. Raises `BucketNotFoundError`."""
        from nats_proto._keyvalue import buckets

        await self._caller.run(buckets.delete_bucket(self._caller.api, bucket, timeout=timeout))

    async def _opened(
        self, asked: Operation[KeyValueStatus], reads: Reads, value_type: type[T] | None
    ) -> KeyValue[T] | KeyValue[bytes]:
        """The bucket whose status this tells. What cannot be is refused before anything is asked."""
        from nats_proto._keyvalue.codecs import check_value_type
        from nats_proto._keyvalue.operations import bucket_of
        from nats_proto._keyvalue.reading import check_reads

        from .keyvalue import KeyValue

        check_reads(reads)
        check_value_type(value_type)
        status = await self._caller.run(asked)
        kv = KeyValue(self._caller, bucket_of(self._caller.api, status.stream_info.config, reads))
        return kv if value_type is None else kv.typed(value_type)
