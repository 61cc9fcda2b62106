"""`ObjectStore`: the objects of one bucket."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Unpack

import anyio

from nats_proto._callables import check_hook
from nats_proto._objectstore import buckets
from nats_proto._objectstore.garbage import OLDER_THAN, Garbage
from nats_proto._objectstore.writer import TIMEOUT

from .objectreading import ReadOnlyObjectStore
from .objectwriting import Progress, Source, Writing, now_written, pieces_of

if TYPE_CHECKING:
    from nats_proto._json.durations import DurationLike
    from nats_proto._objectstore.bucket import ObjectStoreStatus
    from nats_proto._objectstore.garbage import GarbageCollected
    from nats_proto._objectstore.info import ObjectFields, ObjectInfo
    from nats_proto._objectstore.store import Store, Written
    from nats_proto._permissions import Permissions

    from .caller import Caller

__all__ = ["ObjectStore"]

logger = logging.getLogger("nats_anyio.jetstream")


class ObjectStore(ReadOnlyObjectStore):
    """One bucket of objects of any size. Made by `JetStream`.

    An object's name is any text. What is put is read and stored in chunks, so neither side ever has a whole object in
    its memory. Calls that move bytes take ``timeout``, seconds without progress, and ``total_timeout``, seconds for the
    whole, which has no end by default; the others ``timeout``, by default that of ``jetstream()``. All raise what
    those of `JetStream` raise, `BucketNotFoundError` when the bucket is gone, and `InvalidObjectNameError` before
    anything is sent.
    """

    def __init__(self, caller: Caller, store: Store, max_payload: Callable[[], int | None]) -> None:
        super().__init__(caller, store)
        self._max_payload = max_payload

    def read_only(self) -> ReadOnlyObjectStore:
        """The same bucket without what writes, for a part of a program that is only to read."""
        return ReadOnlyObjectStore(self._caller, self._store)

    def permissions(self) -> Permissions:
        """The subjects that a program needs which opens the bucket, and does with it what this handle can do.

        All but `seal`. Printed, they are what a user of the server is given; those of `read_only` are for one that only
        reads. Nothing is asked.
        """
        from nats_proto._objectstore.permissions import to_write_objects

        return to_write_objects(self._store.api, self._store.subjects)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def put(
        self,
        name: str,
        data: Source,
        *,
        chunk_size: int | None = None,
        progress: Progress | None = None,
        timeout: float = TIMEOUT,
        total_timeout: float | None = None,
        **fields: Unpack[ObjectFields],
    ) -> ObjectInfo:
        """Store an object: bytes, a file that is open for reading (awaited or not), or an iterable of bytes. Its info.

        An object of this name can be read until the new one is complete, and is replaced then. A put that fails or is
        interrupted leaves nothing behind; when that could not be done, a note on the exception says so. Its error has
        the outcome ``failed``, unless the answer to its very last step was lost.

        A put that is cancelled clears away what it has stored before it ends, for some seconds at most; one that has
        only its last step before it does that first.

        ``chunk_size``: bytes of a message, 128 KiB by default. ``progress`` is called with the bytes that are stored
        and those that there are (None when that is not known). ``timeout``: it has failed when no chunk was stored for
        so many seconds. ``description``, ``headers`` and ``metadata`` are kept in its info. Raises `StreamFullError`,
        `StreamSealedError` and others of `ApiError`, `PermissionsError`, `NATSTimeoutError`; what ``data`` and
        ``progress`` raise; `TypeError` and `ValueError` for what cannot be used.
        """
        return await self._put(name, data, None, chunk_size, progress, timeout, total_timeout, fields)

    async def put_file(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        *,
        chunk_size: int | None = None,
        progress: Progress | None = None,
        timeout: float = TIMEOUT,
        total_timeout: float | None = None,
        **fields: Unpack[ObjectFields],
    ) -> ObjectInfo:
        """Store a file, as `put` does. ``name``: by default that of the file, without its folders. Raises `OSError`."""
        place: str = os.fspath(path)  # no number, which `open` would take for an open file, and close
        async with await anyio.open_file(place, "rb") as file:
            size = os.fstat(file.wrapped.fileno()).st_size
            named = os.path.basename(place) if name is None else name
            return await self._put(named, file, size, chunk_size, progress, timeout, total_timeout, fields)

    async def _put(
        self,
        name: str,
        data: Source,
        size: int | None,
        chunk_size: int | None,
        progress: Progress | None,
        timeout: float,
        total_timeout: float | None,
        fields: ObjectFields,
    ) -> ObjectInfo:
        check_hook("put: progress", progress)
        put = self._store.put(
            name, fields, chunk_size=chunk_size, max_payload=self._max_payload() or 0, timeout=timeout
        )
        pieces, known = pieces_of(data, put.chunk_size)
        total = known if size is None else size
        writing = Writing(self._caller, self._store, put, progress, total, total_timeout)
        return self._told(await writing.run(pieces, None))

    async def delete(self, name: str, *, timeout: float | None = None) -> ObjectInfo:
        """Take an object or a link away: what is left of its info. A deleted one stays as it is.

        Raises `ObjectNotFoundError`.
        """
        return self._told(await self._caller.run(self._store.delete(name, timeout=timeout)))

    async def update_info(
        self, name: str, *, new_name: str | None = None, timeout: float | None = None, **fields: Unpack[ObjectFields]
    ) -> ObjectInfo:
        """Change the description, headers and metadata of an object, and its name: the new info.

        What is not given stays as it is. Under the old name of an object there is what a deletion leaves. Raises
        `ObjectNotFoundError`, `ObjectExistsError` when there is an object of the new name.
        """
        return self._told(await self._caller.run(self._store.update_info(name, new_name, fields, timeout=timeout)))

    async def add_link(self, name: str, to: ObjectInfo, *, timeout: float | None = None) -> ObjectInfo:
        """Make ``name`` a link to an object of this bucket or of another one. `get` reads the object there.

        Raises `ObjectLinkError` when that was deleted or is a link, `ObjectExistsError` when there is an object of this
        name that is no link.
        """
        return self._told(await self._caller.run(self._store.add_link(name, to, timeout=timeout)))

    async def add_bucket_link(
        self, name: str, bucket: str | ReadOnlyObjectStore, *, timeout: float | None = None
    ) -> ObjectInfo:
        """Make ``name`` a link to a whole bucket, for programs to follow.

        Raises `ObjectExistsError` as `add_link` does, `InvalidBucketError`.
        """
        named = bucket.bucket if isinstance(bucket, ReadOnlyObjectStore) else bucket
        return self._told(await self._caller.run(self._store.add_bucket_link(name, named, timeout=timeout)))

    async def seal(self, *, timeout: float | None = None) -> ObjectStoreStatus:
        """Have the server refuse every further change, for ever."""
        return await self._caller.run(buckets.seal_store(self._store.api, self.bucket, timeout=timeout))

    async def collect_garbage(
        self, *, older_than: DurationLike = OLDER_THAN, timeout: float | None = None
    ) -> GarbageCollected:
        """Remove chunks that belong to no object, as a put leaves them that was killed.

        Chunks of a put that is on its way look just so: what was written to in the last ``older_than`` seconds stays.
        ``timeout`` is for each put; a call that was cut off has done a part.
        """
        garbage = Garbage(self._store, older_than)
        await self._caller.run(garbage.look(timeout))
        async with self.list(show_deleted=True, timeout=timeout) as infos:
            async for info in infos:
                garbage.keep(info)
        await self._caller.run(garbage.collect(timeout))
        return garbage.result

    def _told(self, written: Written) -> ObjectInfo:
        if written.left is not None:
            logger.warning("chunks of an earlier version were left, see collect_garbage: %s", written.left)
        return now_written(written.info)
