"""What `JetStream` has for buckets of objects, which are loaded when they are first used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Unpack

from .caller import Caller, Listing

if TYPE_CHECKING:
    from nats_proto._jetstream.pages import Pages
    from nats_proto._keyvalue.reading import Reads
    from nats_proto._objectstore.bucket import ObjectStoreConfig, ObjectStoreFields, ObjectStoreStatus

    from .atomic_batch import Sender
    from .objectstore import ObjectStore

__all__ = ["ObjectStores"]


class ObjectStores:
    """A base of `JetStream`."""

    _caller: Caller
    _sender: Sender

    async def create_object_store(
        self,
        bucket: str | None = None,
        /,
        *,
        config: ObjectStoreConfig | None = None,
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[ObjectStoreFields],
    ) -> ObjectStore:
        """Make a bucket, from fields of `ObjectStoreConfig` or a ready one. The same one again is no error.

        ``reads`` as of `object_store`. Raises `BucketExistsError` for another configuration under this name,
        `InvalidBucketError`, `TypeError` and `ValueError` for what cannot be.
        """
        from nats_proto._keyvalue.reading import check_reads
        from nats_proto._objectstore import buckets
        from nats_proto._objectstore.bucket import read_store

        wanted = read_store(config, bucket, fields)
        check_reads(reads)
        return self._store(
            await self._caller.run(buckets.create_store(self._caller.api, wanted, timeout=timeout)), reads
        )

    async def update_object_store(
        self,
        bucket: str | None = None,
        /,
        *,
        config: ObjectStoreConfig | None = None,
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[ObjectStoreFields],
    ) -> ObjectStore:
        """Change a bucket. What is not given gets its default: begin with the ``config`` of its status.

        Raises `BucketNotFoundError`, and as `create_object_store`.
        """
        from nats_proto._keyvalue.reading import check_reads
        from nats_proto._objectstore import buckets
        from nats_proto._objectstore.bucket import read_store

        wanted = read_store(config, bucket, fields)
        check_reads(reads)
        return self._store(
            await self._caller.run(buckets.update_store(self._caller.api, wanted, timeout=timeout)), reads
        )

    async def create_or_update_object_store(
        self,
        bucket: str | None = None,
        /,
        *,
        config: ObjectStoreConfig | None = None,
        reads: Reads = "any",
        timeout: float | None = None,
        **fields: Unpack[ObjectStoreFields],
    ) -> ObjectStore:
        """`update_object_store`, or `create_object_store` where there is none of this name."""
        from nats_proto._keyvalue.reading import check_reads
        from nats_proto._objectstore import buckets
        from nats_proto._objectstore.bucket import read_store

        wanted = read_store(config, bucket, fields)
        check_reads(reads)
        status = await self._caller.run(buckets.create_or_update_store(self._caller.api, wanted, timeout=timeout))
        return self._store(status, reads)

    async def object_store(self, bucket: str, *, reads: Reads = "any", timeout: float | None = None) -> ObjectStore:
        """A bucket that is there. It is asked for, since only the server knows how long it remembers messages.

        ``reads``: any replica answers what is known of an object, which is quick and may be a little behind, or
        ``"leader"``. Raises `BucketNotFoundError`, `InvalidBucketError`, `ValueError`.
        """
        from nats_proto._keyvalue.reading import check_reads
        from nats_proto._objectstore import buckets

        check_reads(reads)
        return self._store(
            await self._caller.run(buckets.store_status(self._caller.api, bucket, timeout=timeout)), reads
        )

    def object_store_names(self, *, timeout: float | None = None) -> AsyncIterator[str]:
        """The names of all buckets of objects; each page has ``timeout``."""
        from nats_proto._objectstore import buckets

        return Listing(self._caller, buckets.list_store_names(self._caller.api), timeout)

    def object_stores(self, *, timeout: float | None = None) -> AsyncIterator[ObjectStoreStatus]:
        """All buckets of objects, as `ObjectStore.status` tells of each; each page has ``timeout``."""
        from nats_proto._objectstore import buckets

        pages: Pages[ObjectStoreStatus] = buckets.list_stores(self._caller.api)
        return Listing(self._caller, pages, timeout)

    async def delete_object_store(self, bucket: str, *, timeout: float | None = None) -> None:
        """Delete a bucket with all its objects. Raises `BucketNotFoundError`."""
        from nats_proto._objectstore import buckets

        await self._caller.run(buckets.delete_store(self._caller.api, bucket, timeout=timeout))

    def _store(self, status: ObjectStoreStatus, reads: Reads) -> ObjectStore:
        from nats_proto._objectstore.store import store_of

        from .objectstore import ObjectStore

        store = store_of(self._caller.api, status.stream_info.config, reads)
        return ObjectStore(self._caller, store, lambda: self._sender.max_payload)
