"""Putting one object: bytes from wherever they are, through the machine that stores them."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol, TypeGuard

import anyio
import anyio.to_thread

from nats_proto import Payload, check_timeout
from nats_proto._objectstore.info import with_time
from nats_proto._objectstore.pieces import as_piece, is_payload, parts_of
from nats_proto.errors import NATSError, NATSTimeoutError

from .._engine.driver import Driver

if TYPE_CHECKING:
    from nats_proto._objectstore.info import ObjectInfo
    from nats_proto._objectstore.store import Put, Store, Written

    from .._message import ReceivedMessage
    from .caller import Caller

__all__ = ["AsyncReadable", "Progress", "Readable", "Source", "Writing", "pieces_of"]

Progress = Callable[[int, int | None], object]
"""Called with the bytes that are done, and with those that there are (None: that is not known)."""
AT_ONCE: Final = 1024 * 1024
"""Bytes that are read from a file in another thread at a time."""


class Readable(Protocol):
    """A file that is open for reading, as bytes."""

    def read(self, size: int, /) -> Payload:
        """Up to so many bytes; none at the end."""
        ...


class AsyncReadable(Protocol):
    """The same, which is awaited, such as what ``anyio.open_file`` gives."""

    def read(self, size: int, /) -> Awaitable[Payload]:
        """Up to so many bytes; none at the end."""
        ...


Source = Payload | Readable | AsyncReadable | Iterable[Payload] | AsyncIterable[Payload]
"""Where the bytes of an object come from."""


def pieces_of(source: Source, size: int) -> tuple[AsyncGenerator[Payload, None], int | None]:
    """The bytes in pieces of at most ``size``, and how many there are if that is known. Raises `TypeError`."""
    if is_payload(source):
        view = memoryview(source).cast("B")
        return _of_bytes(view, size), len(view)
    if isinstance(source, str):
        raise TypeError("an object is bytes, not str: encode the text first")
    read: object = getattr(source, "read", None)
    if callable(read):
        return _of_file(read, size), None
    if _is_async_iterable(source):
        return _of_async_iterable(source, size), None
    if not _is_iterable(source):
        raise TypeError(f"an object is bytes, a file, or an iterable of bytes, not {type(source).__name__}")
    return _of_iterable(source, size), None


async def _of_bytes(view: memoryview, size: int) -> AsyncGenerator[Payload, None]:
    for part in parts_of(view, size):
        yield part


async def _of_file(read: Callable[[int], object], size: int) -> AsyncGenerator[Payload, None]:
    awaited = inspect.iscoroutinefunction(read)
    while True:
        given = read(max(size, AT_ONCE)) if awaited else await anyio.to_thread.run_sync(read, max(size, AT_ONCE))
        piece = as_piece(await given if inspect.isawaitable(given) else given)
        if not piece:
            return
        for part in parts_of(piece, size):
            yield part


async def _of_iterable(source: Iterable[object], size: int) -> AsyncGenerator[Payload, None]:
    for piece in source:
        for part in parts_of(as_piece(piece), size):
            yield part


async def _of_async_iterable(source: AsyncIterable[object], size: int) -> AsyncGenerator[Payload, None]:
    try:
        async for piece in source:
            for part in parts_of(as_piece(piece), size):
                yield part
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()  # one that nobody closes is closed later, wherever that may be


def _is_async_iterable(source: object) -> TypeGuard[AsyncIterable[object]]:
    return isinstance(source, AsyncIterable)


def _is_iterable(source: object) -> TypeGuard[Iterable[object]]:
    return isinstance(source, Iterable)


class Writing:
    """One put, driven by its caller."""

    def __init__(
        self,
        caller: Caller,
        store: Store,
        put: Put,
        progress: Progress | None,
        total: int | None,
        total_timeout: float | None,
    ) -> None:
        self._caller = caller
        self._store = store
        self._put = put
        self._progress = progress
        self._total = total
        self._now = caller.host.now
        self._driver: Driver[ReceivedMessage, int] = Driver(caller.host, put.writer)
        self._seconds = None if total_timeout is None else check_timeout("total_timeout", total_timeout)
        self._deadline = None if self._seconds is None else self._now() + self._seconds

    async def run(self, pieces: AsyncGenerator[Payload, None], timeout: float | None) -> Written:
        """Store the pieces, and make them the object.

        Whatever ends it early leaves nothing behind, if that is possible. What is to be said of it is noted on the
        exception.
        """
        try:
            await self._write(pieces)
        except BaseException as error:
            with anyio.CancelScope(shield=True):  # for the time of one try of a chunk and of one call, at most
                await self._give_up(error)
            raise
        written: Written | None = None
        try:
            # Whoever cancels this would not know whether it was done, and the chunks had to stay.
            with anyio.CancelScope(shield=True):
                written = await self._caller.run(self._store.commit(self._put, timeout=timeout))
        except BaseException as error:
            certain = isinstance(error, NATSError) and error.outcome == "failed"
            with anyio.CancelScope(shield=True):
                await self._note(error, certain=certain)
            raise
        assert written is not None  # a shield swallows nothing
        return written

    async def _write(self, pieces: AsyncGenerator[Payload, None]) -> None:
        writer = self._put.writer
        async with aclosing(pieces):
            async for piece in pieces:
                now = self._now()
                writer.resume(now=now)
                writer.write(piece, now=now)
                await self._wait(0.0)
                while not writer.room:
                    await self._wait(self._deadline)
        writer.finish(now=self._now())
        while await self._wait(self._deadline):
            pass

    async def _wait(self, deadline: float | None) -> bool:
        """Let the machine go on; False: it is done. Raises the error with which it has failed, and of ``progress``."""
        stored = await self._driver.next_until(deadline)
        if stored is not None:
            if self._progress is not None:
                self._progress(stored, self._total)
            return True
        if self._deadline is not None and self._now() >= self._deadline and not self._put.writer.done:
            raise NATSTimeoutError(
                f"{self._put.what}: it was not stored within {self._seconds:g} s (total_timeout)", outcome="failed"
            )
        return not self._put.writer.done

    async def _give_up(self, error: BaseException) -> None:
        self._put.writer.abandon(now=self._now())
        try:
            while await self._driver.next_until(None) is not None:
                pass
        except NATSError:
            pass  # it has failed by itself, or there is no connection to do it over
        await self._note(error, certain=True)

    async def _note(self, error: BaseException, *, certain: bool) -> None:
        await self._driver.close()
        said = await self._caller.run(self._store.undo(self._put, certain=certain))
        if said:
            error.add_note(said)


def now_written(info: ObjectInfo) -> ObjectInfo:
    """The info of what was just written. The server's time is not known, and near enough (ADR-20)."""
    return with_time(info, datetime.now(UTC))
