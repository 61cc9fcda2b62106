"""One bucket of objects: operations, which the driver of a client runs.

Theory of operation
-------------------
What an object is stands in the last message of one subject, its info. So what happens to an object is decided by that
one message: before it is stored nothing has happened, and the old version is there to be read; behind it the chunks of
the old version go. Several may write the same object at once. Each writes its info on the condition that the last one
is the one that it has read, else it reads again: so each knows exactly which version it has replaced, and clears away
the chunks of that one, and no chunks are left that belong to nobody.

    put      the chunks, under a new nuid ─▶ the info ─▶ purge the chunks of the version before
    delete   the info that says so ───────▶ purge the chunks
    rename   the info under the new name ─▶ one under the old name that says "deleted" ─▶ purge that

A put whose info was refused, or that was interrupted before, purges its own chunks. When it is not known whether the
info is stored, the leader is asked; when nobody answers, the chunks stay, since an object without them would be worse
than chunks without an object, which `collect_garbage` finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from .._calls.operation import Operation, Pause
from .._jetstream.errors import (
    JetStreamDecodeError,
    WrongLastSequenceError,
)
from .._jetstream.pub_ack import PubAck
from .._jetstream.stream_calls import purge_stream
from .._limits import check_count, shown
from .._publishing.headers import PublishOptions, message_id, publish_headers
from .._publishing.publish import publish_operation
from .._value import Value
from ..errors import NATSError
from .errors import ObjectExistsError
from .info import ObjectFields, ObjectInfo, ObjectLink, ObjectOptions, check_target, write_info
from .infos import StoreReader
from .names import STREAM_PREFIX, check_bucket, check_object
from .writer import CHUNK_SIZE, TIMEOUT, ObjectWriter

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .._jetstream.stream_config import StreamConfig
    from .._keyvalue.reading import Reads

__all__ = ["Put", "Store", "Written", "store_of"]

SHORTEST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.1
"""Seconds to wait for another write of the same object, a share of chance in it, so that rivals do not meet again."""
HEADROOM: Final = 1024
"""Bytes of a message that are not its payload: the headers of a chunk, which count as well."""


class Written(Value, frozen=True, kw_only=True):
    """What a change of an object came to."""

    info: ObjectInfo
    left: NATSError | None = None
    """Why the chunks of the version before could not be cleared away. They are garbage, and harm nobody."""


class _Last(Value, frozen=True, kw_only=True):
    """What the leader has for a name: the sequence of the last info (0: none), and the info, if it can be read."""

    sequence: int = 0
    info: ObjectInfo | None = None


class Put:
    """One put: what the client writes the bytes to, and what becomes of them."""

    __slots__ = ("fields", "name", "nuid", "options", "what", "writer")

    def __init__(
        self, name: str, nuid: str, fields: ObjectFields, options: ObjectOptions, what: str, writer: ObjectWriter
    ) -> None:
        self.name = name
        self.nuid = nuid
        self.fields: ObjectFields = fields
        self.options = options
        self.what = what
        self.writer = writer

    @property
    def chunk_size(self) -> int:
        """Bytes of each chunk but the last."""
        assert self.options.max_chunk_size is not None  # it is always written
        return self.options.max_chunk_size


class Store(StoreReader):
    """One bucket of objects. ``timeout``: seconds for a whole operation, where nothing else is said."""

    __slots__ = ()

    def _last(self, name: str, timeout: float) -> Operation[_Last]:
        """As the leader has it: what decides about a write."""
        stored = yield from self._stored(name, direct=False, timeout=timeout)
        if stored is None:
            return _Last()
        try:
            return _Last(sequence=stored.sequence, info=self._read("", name, stored))
        except JetStreamDecodeError:
            # It may be overwritten. Whose chunks are whose cannot be told.
            return _Last(sequence=stored.sequence)

    def _write(
        self,
        what: str,
        name: str,
        make: Callable[[ObjectInfo | None], ObjectInfo | None],
        timeout: float | None,
    ) -> Operation[tuple[_Last, ObjectInfo, int]]:
        """Write the info that ``make`` makes of the last one, as often as others are quicker; None: nothing to write.

        What it has replaced, what was written, and the sequence (0: nothing was). Raises what ``make`` raises.
        """
        seconds = self._api.seconds(timeout)
        until = self._api.clock() + seconds
        pauses = self._pauses()
        subject = self.subjects.meta(name)
        while True:
            last = yield from self._last(name, max(until - self._api.clock(), 0.0))
            info = make(last.info)
            if info is None:
                assert last.info is not None  # only of an info nothing is to be made
                return last, last.info, 0
            data = write_info(info)
            options: PublishOptions = {
                "rollup": "sub",
                "msg_id": self._random(),
                "expected_last_subject_sequence": last.sequence,
            }
            try:
                ack = yield from publish_operation(
                    subject,
                    data,
                    publish_headers(subject, data, None, options),
                    now=self._api.clock,
                    timeout=seconds,
                    duplicate_window=self._window,
                    find_stored=lambda _, identity: self._find(name, identity),
                )
                return last, info, ack.sequence
            except WrongLastSequenceError as error:
                pause = next(pauses)
                if self._api.clock() + pause >= until:
                    error.add_note(f"{what}: others are writing it all the time")
                    raise
            yield Pause(pause)

    def _find(self, name: str, identity: str) -> Operation[PubAck | None]:
        """The acknowledgement of an earlier try of a write, if that is the last one."""
        stored = yield from self._stored(name, direct=False, timeout=None)
        if stored is None or message_id(stored.headers) != identity:
            return None
        return PubAck(stream=self.subjects.stream, sequence=stored.sequence, duplicate=True)

    def _clear(self, old: ObjectInfo | None, *, but: str = "") -> Operation[NATSError | None]:
        """Purge the chunks of a version that nobody can find any more; why that failed, if it did."""
        if old is None or not old.chunks or not old.nuid or old.nuid == but:
            return None
        try:
            yield from self._purge(self.subjects.chunks(old.nuid))
        except NATSError as error:
            return error
        return None

    def _purge(self, subject: str, up_to: int | None = None) -> Operation[int]:
        return purge_stream(
            self._api, self.subjects.stream, subject=subject, up_to_sequence=up_to, timeout=self._api.timeout
        )

    # --- put ---------------------------------------------------------------------------------------------------------

    def put(
        self,
        name: str,
        fields: ObjectFields,
        *,
        chunk_size: int | None,
        max_payload: int,
        timeout: float = TIMEOUT,
    ) -> Put:
        """Begin to put an object. ``max_payload``: bytes of a message that the server takes.

        Raises `InvalidObjectNameError`, `TypeError`, `ValueError`.
        """
        check_object(name)
        most = max(1, max_payload - HEADROOM) if max_payload > 0 else CHUNK_SIZE
        if chunk_size is not None and check_count("chunk_size", chunk_size) > most:
            raise ValueError(f"chunk_size must be at most {most} bytes, of what the server takes: {shown(chunk_size)}")
        size = min(CHUNK_SIZE, most) if chunk_size is None else chunk_size
        options = ObjectOptions(max_chunk_size=size)
        nuid = self._random()
        ObjectInfo(name=name, bucket=self.name, nuid=nuid, options=options, **fields)  # raises for what cannot be
        what = f"put object {name!r} into bucket {self.name!r}"
        writer = ObjectWriter(
            self._api,
            stream=self.subjects.stream,
            subject=self.subjects.chunks(nuid),
            what=what,
            chunk_size=size,
            duplicate_window=self._window,
            timeout=timeout,
        )
        return Put(name, nuid, fields, options, what, writer)

    def commit(self, put: Put, *, timeout: float | None = None) -> Operation[Written]:
        """The chunks are stored: make them the object."""
        writer = put.writer
        info = ObjectInfo(
            name=put.name,
            bucket=self.name,
            nuid=put.nuid,
            options=put.options,
            size=writer.total,
            chunks=writer.chunks,
            digest=writer.digest,
            **put.fields,
        )
        last, written, _ = yield from self._write(put.what, put.name, lambda _: info, timeout)
        left = yield from self._clear(last.info, but=put.nuid)
        return Written(info=written, left=left)

    def undo(self, put: Put, *, certain: bool) -> Operation[str]:
        """The put has failed: purge its chunks. What is to be said of that; empty when nothing is left.

        ``certain``: its info is certainly not stored. If not, the leader is asked, and an object that is there stays.
        """
        if not certain:
            try:
                last = yield from self._last(put.name, self._api.timeout)
            except NATSError as error:
                return f"It is not known whether the object was stored, so its chunks were left as they are: {error}"
            if last.info is not None and last.info.nuid == put.nuid:
                return "The object was stored all the same."
            # Its info may still be on its way.
            return "It may be stored yet, so its chunks were left as they are. collect_garbage() finds them."
        if put.writer.some_stored or put.writer.unsettled:
            try:
                yield from self._purge(self.subjects.chunks(put.nuid))
            except NATSError as error:
                return f"Its chunks could not be removed: {error}. collect_garbage() finds them."
        if put.writer.unsettled:
            return (
                f"Whether {put.writer.unsettled} of its chunks are still stored later is not known. collect_garbage() "
                f"finds them."
            )
        return ""

    # --- changes -----------------------------------------------------------------------------------------------------

    def delete(self, name: str, *, timeout: float | None = None) -> Operation[Written]:
        """Take an object, or a link, away. One that was deleted before is left as it is."""
        what = self._what("delete", name)

        def make(old: ObjectInfo | None) -> ObjectInfo | None:
            if old is None:
                raise self._not_found(what, name)
            return None if old.deleted else _deleted(old)

        last, written, _ = yield from self._write(what, name, make, timeout)
        left = yield from self._clear(last.info)
        return Written(info=written, left=left)

    def update_info(
        self, name: str, new_name: str | None, changes: ObjectFields, *, timeout: float | None = None
    ) -> Operation[Written]:
        """Change what programs have said of an object, and its name. What ``changes`` does not have stays."""
        what = self._what("update info of", name)
        if new_name is None or check_object(new_name) == name:
            _, written, _ = yield from self._write(
                what, name, lambda old: self._changed(what, name, old, changes), timeout
            )
            return Written(info=written)
        until = self._api.clock() + self._api.seconds(timeout)
        while True:
            left = max(until - self._api.clock(), 0.0)
            found = yield from self._last(name, left)
            wanted = self._changed(what, name, found.info, changes)
            written = replace(wanted, name=new_name)

            def make(there: ObjectInfo | None, written: ObjectInfo = written) -> ObjectInfo:
                if there is not None and not there.deleted:
                    raise ObjectExistsError(
                        f"{what}: there is an object {new_name!r} already", bucket=self.name, name=new_name or ""
                    )
                return written

            _, _, sequence = yield from self._write(what, new_name, make, timeout)
            if (yield from self._retire(what, name, found, left)):
                return Written(info=written)
            # It was replaced meanwhile, and the chunks of what has the new name now are gone, or go.
            yield from self._purge(self.subjects.meta(new_name), sequence + 1)
            if self._api.clock() >= until:
                raise ObjectExistsError(
                    f"{what}: it was replaced all the time while it was renamed", bucket=self.name, name=name
                )

    def _retire(self, what: str, name: str, found: _Last, timeout: float) -> Operation[bool]:
        """Take the old name of an object away, if it is still its.

        What says so stays, as that of a deletion: who watches would else miss it when the server has not sent it yet.
        """
        assert found.info is not None  # it was changed
        nuid = found.info.nuid
        gone = ObjectInfo(name=name, bucket=self.name, nuid=self._random(), deleted=True)

        def make(old: ObjectInfo | None) -> ObjectInfo | None:
            if old is None or old.deleted or old.nuid != nuid:
                raise _OtherError
            return gone

        try:
            yield from self._write(what, name, make, timeout)
        except _OtherError:
            return False
        return True

    def _changed(self, what: str, name: str, old: ObjectInfo | None, changes: ObjectFields) -> ObjectInfo:
        if old is None:
            raise self._not_found(what, name)
        if old.deleted:
            raise self._not_found(what, name, ", it was deleted")
        checked = ObjectInfo(name=name, **changes)
        return replace(old, **{field: getattr(checked, field) for field in changes})

    def add_link(self, name: str, to: ObjectInfo, *, timeout: float | None = None) -> Operation[Written]:
        """Make ``name`` a link to an object, of this bucket or another one."""
        what = f"add link {name!r} to bucket {self.name!r}"
        check_target(to)
        if to.deleted:
            raise self._bad_link(what, name, f"the object {to.name!r} was deleted")
        if to.link is not None:
            raise self._bad_link(what, name, f"{to.name!r} is a link itself")
        link = ObjectLink(bucket=check_bucket(to.bucket), name=check_object(to.name))
        return self._link(what, name, link, timeout)

    def add_bucket_link(self, name: str, bucket: str, *, timeout: float | None = None) -> Operation[Written]:
        """Make ``name`` a link to a whole bucket."""
        link = ObjectLink(bucket=check_bucket(bucket))
        return self._link(f"add link {name!r} to bucket {self.name!r}", name, link, timeout)

    def _link(self, what: str, name: str, link: ObjectLink, timeout: float | None) -> Operation[Written]:
        info = ObjectInfo(
            name=check_object(name), bucket=self.name, nuid=self._random(), options=ObjectOptions(link=link)
        )

        def make(old: ObjectInfo | None) -> ObjectInfo:
            if old is not None and not old.deleted and old.link is None:
                raise ObjectExistsError(
                    f"{what}: there is an object of this name, which is no link", bucket=self.name, name=name
                )
            return info

        _, written, _ = yield from self._write(what, name, make, timeout)
        return Written(info=written)

    def _pauses(self) -> Iterator[float]:
        longest = SHORTEST_PAUSE
        while True:
            longest = min(2 * longest, LONGEST_PAUSE)
            yield SHORTEST_PAUSE + (longest - SHORTEST_PAUSE) * self._rng.random()


class _OtherError(Exception):
    """The object is not the one any more that it was."""


def _deleted(old: ObjectInfo) -> ObjectInfo:
    return replace(old, deleted=True, size=0, chunks=0, digest=None, mtime=None)


def store_of(api: JetStreamApi, stream: StreamConfig, reads: Reads) -> Store:
    """The bucket that is this stream. Raises `ValueError` for another choice of ``reads``."""
    window = float(stream.duplicate_window or 0.0)
    return Store(api, (stream.name or "").removeprefix(STREAM_PREFIX), reads, window)
