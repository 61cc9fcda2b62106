"""Putting one object: bytes from wherever they are, through the machine that stores them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeGuard

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

__all__ = ["Progress", "Readable", "Source", "Writing", "pieces_of"]

Progress = Callable[[int, int | None], object]
"""Called with the bytes that are done, and with those that there are (None: that is not known)."""


class Readable(Protocol):
    """A file that is open for reading, as bytes."""

    def read(self, size: int, /) -> Payload:
        """Up to so many bytes; none at the end."""
        ...


Source = Payload | Readable | Iterable[Payload]
"""Where the bytes of an object come from."""


def pieces_of(source: Source, size: int) -> tuple[Iterator[Payload], int | None]:
    """The bytes in pieces of at most ``size``, and how many there are if that is known. Raises `TypeError`."""
    if is_payload(source):
        view = memoryview(source).cast("B")
        return parts_of(view, size), len(view)
    if isinstance(source, str):
        raise TypeError("an object is bytes, not str: encode the text first")
    read: object = getattr(source, "read", None)
    if callable(read):
        return _of_file(read, size), None
    if not _is_iterable(source):
        raise TypeError(f"an object is bytes, a file, or an iterable of bytes, not {type(source).__name__}")
    return _of_iterable(source, size), None


def _of_file(read: Callable[[int], object], size: int) -> Iterator[Payload]:
    while piece := as_piece(read(size)):
        yield piece


def _of_iterable(source: Iterable[object], size: int) -> Iterator[Payload]:
    for given in source:
        yield from parts_of(as_piece(given), size)


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
        self._driver: Driver[ReceivedMessage, int] = Driver(caller.host, put.writer)
        self._seconds = None if total_timeout is None else check_timeout("total_timeout", total_timeout)
        self._deadline = None if self._seconds is None else monotonic() + self._seconds

    def run(self, pieces: Iterator[Payload], timeout: float | None) -> Written:
        """Store the pieces, and make them the object.

        Whatever ends it early leaves nothing behind, if that is possible. What is to be said of it is noted on the
        exception.
        """
        try:
            self._write(pieces)
        except BaseException as error:
            self._give_up(error)
            raise
        try:
            return self._caller.run(self._store.commit(self._put, timeout=timeout))
        except BaseException as error:
            certain = isinstance(error, NATSError) and error.outcome == "failed"
            self._note(error, certain=certain)
            raise

    def _write(self, pieces: Iterator[Payload]) -> None:
        writer = self._put.writer
        for piece in pieces:
            now = monotonic()
            writer.resume(now=now)
            writer.write(piece, now=now)
            self._wait(0.0)
            while not writer.room:
                self._wait(self._deadline)
        writer.finish(now=monotonic())
        while self._wait(self._deadline):
            pass

    def _wait(self, deadline: float | None) -> bool:
        """Let the machine go on; False: it is done. Raises the error with which it has failed, and of ``progress``."""
        stored = self._driver.next_until(deadline)
        if stored is not None:
            if self._progress is not None:
                self._progress(stored, self._total)
            return True
        if self._deadline is not None and monotonic() >= self._deadline and not self._put.writer.done:
            raise NATSTimeoutError(
                f"{self._put.what}: it was not stored within {self._seconds:g} s (total_timeout)", outcome="failed"
            )
        return not self._put.writer.done

    def _give_up(self, error: BaseException) -> None:
        self._put.writer.abandon(now=monotonic())
        try:
            while self._driver.next_until(None) is not None:
                pass
        except NATSError:
            pass  # it has failed by itself, or there is no connection to do it over
        self._note(error, certain=True)

    def _note(self, error: BaseException, *, certain: bool) -> None:
        self._driver.close()
        said = self._caller.run(self._store.undo(self._put, certain=certain))
        if said:
            error.add_note(said)


def now_written(info: ObjectInfo) -> ObjectInfo:
    """The info of what was just written. The server's time is not known, and near enough (ADR-20)."""
    return with_time(info, datetime.now(UTC))
