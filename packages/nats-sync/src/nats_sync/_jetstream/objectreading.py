"""`ReadOnlyObjectStore`: what can be read of the objects of one bucket."""

from __future__ import annotations

import os
from contextlib import suppress
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from nats_proto._callables import check_hook
from nats_proto._keyvalue.watch import WatchOptions
from nats_proto._limits import check_seconds, check_timeout
from nats_proto._objectstore import buckets
from nats_proto._objectstore.metas import Metas, list_options
from nats_proto._objectstore.writer import TIMEOUT

from .objectreader import ObjectReader
from .objectwatch import Objects, ObjectWatch
from .objectwriting import Progress

if TYPE_CHECKING:
    from nats_proto._objectstore.bucket import ObjectStoreStatus
    from nats_proto._objectstore.info import ObjectInfo
    from nats_proto._objectstore.store import Store
    from nats_proto._permissions import Permissions

    from .caller import Caller
    from .telling import OnWarning

__all__ = ["ReadOnlyObjectStore"]


class ReadOnlyObjectStore:
    """One bucket of objects, to read. Made by `ObjectStore.read_only`, and the base of `ObjectStore`, whose words hold
    here as well.

    A program that needs no more may be given no more: nothing here writes to the bucket or changes the server, but for
    the consumers of readers and watches.
    """

    def __init__(self, caller: Caller, store: Store) -> None:
        self._caller = caller
        self._store = store

    def __repr__(self) -> str:
        return f"<nats_sync.{type(self).__name__} {self._store.name!r}>"

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._store.name

    def get(self, name: str, *, timeout: float = TIMEOUT, total_timeout: float | None = None) -> ObjectReader:
        """Open an object, or the one that a link leads to, to be read. Raises `ObjectNotFoundError`, `ObjectLinkError`.

        ``timeout``: reading fails when no chunk comes for so many seconds while it is waited for.
        """
        check_seconds("timeout", timeout)
        if total_timeout is not None:
            check_timeout("total_timeout", total_timeout)
        store, info = self._caller.run(self._store.target(name))
        return ObjectReader(self._caller, store, info, timeout, total_timeout)

    def get_bytes(
        self,
        name: str,
        *,
        progress: Progress | None = None,
        timeout: float = TIMEOUT,
        total_timeout: float | None = None,
    ) -> bytes:
        """The bytes of an object. Raises as `get` and as `ObjectReader` does."""
        check_hook("get_bytes: progress", progress)
        parts: list[bytes] = []
        with self.get(name, timeout=timeout, total_timeout=total_timeout) as reader:
            for chunk in reader:
                parts.append(chunk)
                if progress is not None:
                    progress(reader.tell(), reader.info.size)
        return b"".join(parts)

    def get_file(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        timeout: float = TIMEOUT,
        total_timeout: float | None = None,
    ) -> ObjectInfo:
        """Write the bytes of an object into a file: the object's info.

        The file appears when it is complete, in the place of one that is there, and a half one never. Raises as `get`
        and as `ObjectReader` does, and `OSError`.
        """
        check_hook("get_file: progress", progress)
        place: str = os.fspath(path)
        with self.get(name, timeout=timeout, total_timeout=total_timeout) as reader:
            folder, base = os.path.split(place)
            with NamedTemporaryFile(dir=folder or os.curdir, prefix=f".{base}.", delete=False) as file:
                try:
                    for chunk in reader:
                        file.write(chunk)
                        if progress is not None:
                            progress(reader.tell(), reader.info.size)
                    file.close()
                    os.replace(file.name, place)
                except BaseException:
                    file.close()
                    with suppress(OSError):
                        os.unlink(file.name)
                    raise
            return reader.info

    def info(self, name: str, *, show_deleted: bool = False, timeout: float | None = None) -> ObjectInfo:
        """What the bucket knows of an object or a link. Raises `ObjectNotFoundError`, also for a deleted one, unless
        ``show_deleted``."""
        return self._caller.run(self._store.info(name, show_deleted=show_deleted, timeout=timeout))

    def list(self, *, show_deleted: bool = False, timeout: float | None = None) -> Objects:
        """The infos of all objects and links, each as it comes. ``timeout``: seconds between two of them."""
        seconds = self._store.api.seconds(timeout)
        options = list_options(seconds, show_deleted=show_deleted)
        return Objects(
            lambda: ObjectWatch(self._caller, Metas(self._store.api, self._store.subjects), options),
            seconds,
        )

    def watch(
        self,
        *,
        updates_only: bool = False,
        ignore_deletes: bool = False,
        on_warning: OnWarning | None = None,
    ) -> ObjectWatch:
        """What happens to the objects, beginning with those that there are. Raises `ValueError`.

        ``updates_only``: from now on. ``ignore_deletes``: without the infos of what was deleted.
        """
        options = WatchOptions(updates_only=updates_only, ignore_deletes=ignore_deletes)
        return ObjectWatch(self._caller, Metas(self._store.api, self._store.subjects), options, on_warning)

    def status(self, *, timeout: float | None = None) -> ObjectStoreStatus:
        """The bucket's configuration and state."""
        return self._caller.run(buckets.store_status(self._store.api, self.bucket, timeout=timeout))

    def permissions(self) -> Permissions:
        """The subjects that a program needs which opens the bucket, and does with it what this handle can do.

        Printed, they are what a user of the server is given. Nothing is asked.
        """
        from nats_proto._objectstore.permissions import to_read_objects

        return to_read_objects(self._store.api, self._store.subjects)
