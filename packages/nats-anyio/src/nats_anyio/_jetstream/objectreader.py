"""`ObjectReader`: the bytes of one object, by numbers of bytes and chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio.lowlevel

from nats_proto import check_timeout
from nats_proto._objectstore.cursor import Cursor
from nats_proto._objectstore.reader import ObjectReader as Machine
from nats_proto._objectstore.reader import Start
from nats_proto._objectstore.seeking import find_chunk
from nats_proto.errors import NATSTimeoutError

from .._engine.driver import Driver
from .leaving import Leaving
from .telling import Telling

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from nats_proto._objectstore.info import ObjectInfo
    from nats_proto._objectstore.infos import StoreReader

    from .._message import ReceivedMessage
    from .caller import Caller

__all__ = ["ObjectReader"]


class ObjectReader:
    """The bytes of an object. Made by `ObjectStore.get`; iterating gives them chunk by chunk, as they come.

    `read` and `seek` are as those of a file. Whoever reads from the beginning to the end gets the last chunk only when
    the digest of all is right. There is no digest of a part: after a `seek` only the size of each chunk is looked at.

    Reading raises `ObjectReplacedError` when the object is replaced or deleted meanwhile, `DigestMismatchError`,
    `ObjectDamagedError`, `NATSTimeoutError` when nothing comes for ``timeout`` seconds while it is waited for,
    `BucketNotFoundError`, `PermissionsError`, `ConnectionClosedError`; `ValueError` after `aclose`. What passes by
    itself, as a server that restarts, is told in the log. For one task at a time.
    """

    def __init__(
        self, caller: Caller, store: StoreReader, info: ObjectInfo, timeout: float, total_timeout: float | None
    ) -> None:
        self._caller = caller
        self._store = store
        self._info = info
        self._timeout = timeout
        self._seconds = None if total_timeout is None else check_timeout("total_timeout", total_timeout)
        self._now = caller.host.now
        self._deadline = None if self._seconds is None else self._now() + self._seconds
        self._telling = Telling(caller.warned(None))
        self._machine: Machine[ReceivedMessage] | None = None
        self._driver: Driver[ReceivedMessage, bytes] | None = None
        self._cursor = Cursor(info.size)
        self._closed = False

    def __repr__(self) -> str:
        return f"<nats_anyio.ObjectReader of {self._info.name!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    @property
    def info(self) -> ObjectInfo:
        """What the bucket knew of the object when it was opened; where a link leads, of the object there."""
        return self._info

    async def __anext__(self) -> bytes:
        """The next chunk, or the rest of the one in which the position is."""
        if not await self._fill():
            raise StopAsyncIteration
        return self._cursor.take()

    async def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes, fewer only at the end; all that are left without a number.

        When it raises, or is cancelled, the next one begins where it began.
        """
        if size is None or size < 0:
            return await self._read_all()
        parts: list[bytes] = []
        try:
            while size > 0 and await self._fill():
                part = self._cursor.take(size)
                size -= len(part)
                parts.append(part)
        except BaseException:
            self._cursor.put_back(parts)
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_all(self) -> bytes:
        """All bytes that are left."""
        parts: list[bytes] = []
        try:
            while await self._fill():
                parts.append(self._cursor.take())
        except BaseException:
            self._cursor.put_back(parts)
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def readinto(self, buffer: Buffer, /) -> int:
        """Put bytes into ``buffer``: how many, 0 only at the end. It may be fewer than there is room for."""
        view = memoryview(buffer).cast("B")
        if not len(view) or not await self._fill():
            return 0
        return self._cursor.take_into(view)

    def tell(self) -> int:
        """The place of the next byte."""
        return self._cursor.position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go on at this byte, counted from the beginning (``whence`` 0), from here (1), or from the end (2).

        It asks nothing by itself. The next read asks the server where that byte is, and for no byte before its chunk.
        Raises `ValueError` for a place before the beginning.
        """
        self._check_open()
        return self._cursor.seek(offset, whence)

    async def aclose(self) -> None:
        """End it. The consumer on the server is deleted. May be called again."""
        self._closed = True
        self._cursor.drop()
        await self._stop()
        await anyio.lowlevel.cancel_shielded_checkpoint()

    # --- chunks

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the object is closed")

    async def _fill(self) -> bool:
        """Have the bytes at the position; False at the end."""
        self._check_open()
        cursor = self._cursor
        while cursor.needs_chunk:
            if cursor.jumped:
                await self._stop()
            driver = self._driver
            if driver is None:
                driver = await self._open()
            machine = self._machine
            assert machine is not None  # made with the driver
            machine.resume(now=self._now())
            try:
                chunk = await driver.next_until(self._deadline)
            except Exception:
                await self._stop()
                raise
            if chunk is None:
                await self._stop()
                raise NATSTimeoutError(
                    f"{machine.what}: it was not read within {self._seconds} s (total_timeout)", outcome="failed"
                )
            cursor.came(chunk)
        if not cursor.has_bytes:
            await self._stop()
        return cursor.has_bytes

    async def _open(self) -> Driver[ReceivedMessage, bytes]:
        store, info = self._store, self._info
        start = Start()
        if self._cursor.position:
            start = await self._caller.run(
                find_chunk(store.api, store.subjects, info, self._cursor.position, timeout=store.api.timeout)
            )
        machine: Machine[ReceivedMessage] = Machine(
            store.api, store.subjects, info, store.question(info), now=self._now(), timeout=self._timeout, start=start
        )
        self._machine = machine
        self._cursor.begin(start)
        telling = self._telling
        # As of `Reading`: the driver does not keep this object.
        self._driver = Driver(self._caller.host, machine, lambda: telling.tell(machine.warnings))
        return self._driver

    async def _stop(self) -> None:
        driver, self._driver = self._driver, None
        machine, self._machine = self._machine, None
        if driver is None or machine is None:
            return
        Leaving(self._caller.host).forget(machine.leave())
        await driver.close()
