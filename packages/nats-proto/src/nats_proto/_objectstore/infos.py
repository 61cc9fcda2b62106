"""Reading what a bucket knows of its objects, and which object is meant by a name.

Any replica may answer, and may be a little behind. With ``reads="leader"`` the leader is asked, and always where a read
belongs to a write.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from .._calls.operation import ApiCall, Operation
from .._jetstream.decoders import decode_stored
from .._jetstream.errors import JetStreamDecodeError, MessageNotFoundError, StreamNotFoundError
from .._jetstream.stream_calls import get_last_msg
from .._keyvalue.errors import BucketNotFoundError
from .._keyvalue.reading import check_reads
from .._publishing.retries import DUPLICATE_WINDOW
from .errors import ObjectLinkError, ObjectNotFoundError
from .info import ObjectInfo, read_info
from .names import Subjects

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .._jetstream.stored_message import StoredMessage
    from .._keyvalue.reading import Reads
    from .._wire.frames import Message

__all__ = ["StoreReader"]


class StoreReader:
    """One bucket, as far as it is only read. ``timeout``: seconds for a whole operation."""

    __slots__ = ("_api", "_reads", "_rng", "_window", "subjects")

    def __init__(self, api: JetStreamApi, bucket: str, reads: Reads = "any", duplicate_window: float = 0.0) -> None:
        self._api = api
        self.subjects = Subjects(bucket)
        self._reads: Reads = check_reads(reads)
        self._window = duplicate_window or DUPLICATE_WINDOW
        # For pauses alone; it comes from the random numbers of the session.
        self._rng = Random(self._random())  # noqa: S311

    def __repr__(self) -> str:
        return f"<ObjectStore {self.name!r}>"

    @property
    def api(self) -> JetStreamApi:
        """By which the bucket is asked."""
        return self._api

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self.subjects.bucket

    def other(self, bucket: str) -> StoreReader:
        """Another bucket in the same place, as links lead there."""
        return StoreReader(self._api, bucket, self._reads)

    def _what(self, verb: str, name: str) -> str:
        return f"{verb} object {name!r} of bucket {self.name!r}"

    # --- infos -------------------------------------------------------------------------------------------------------

    def info(self, name: str, *, show_deleted: bool = False, timeout: float | None = None) -> Operation[ObjectInfo]:
        """What the bucket knows of an object. Raises `ObjectNotFoundError`, `JetStreamDecodeError`.

        Any replica may answer; that there is no such object is believed to the leader alone.
        """
        what = self._what("info of", name)
        until = self._api.clock() + self._api.seconds(timeout)
        stored = None
        if self._reads == "any":
            stored = yield from self._stored(name, direct=True, timeout=timeout)
        if stored is None:
            left = max(until - self._api.clock(), 0.0)
            stored = yield from self._stored(name, direct=False, timeout=left)
        if stored is None:
            raise self._not_found(what, name)
        info = self._read(what, name, stored)
        if info.deleted and not show_deleted:
            raise self._not_found(what, name, ", it was deleted")
        return info

    def target(self, name: str, *, timeout: float | None = None) -> Operation[tuple[StoreReader, ObjectInfo]]:
        """The object that is meant by a name, where a link leads: its bucket and its info.

        Raises `ObjectLinkError` for a link to a link, to a whole bucket, and to what is not there.
        """
        info = yield from self.info(name, timeout=timeout)
        link = info.link
        if link is None:
            return self, info
        what = self._what("get", name)
        if link.name is None:
            raise self._bad_link(what, name, f"it is a link to the bucket {link.bucket[:64]!r}, which has no bytes")
        try:
            there = self if link.bucket == self.name else self.other(link.bucket)
            found = yield from there.info(link.name, timeout=timeout)
        except (ObjectNotFoundError, BucketNotFoundError, ValueError) as error:
            raise self._bad_link(what, name, f"it is a link to an object that is not there: {error}") from error
        if found.link is not None:
            raise self._bad_link(what, name, f"it is a link to {link.name!r}, which is a link itself")
        return there, found

    def _read(self, what: str, name: str, stored: StoredMessage) -> ObjectInfo:
        return read_info(what, stored.data, name=name, bucket=self.name, mtime=stored.time)

    def _stored(self, name: str, *, direct: bool, timeout: float | None) -> Operation[StoredMessage | None]:
        subject = self.subjects.meta(name)
        try:
            stored = yield from get_last_msg(self._api, self.subjects.stream, subject, direct=direct, timeout=timeout)
        except MessageNotFoundError:
            return None
        except StreamNotFoundError as error:
            raise BucketNotFoundError(
                f"{self._what('info of', name)}: there is no such bucket", bucket=self.name
            ) from error
        if stored.subject != subject:
            raise JetStreamDecodeError(f"{self._what('info of', name)}: the answer is about another subject")
        return stored

    # --- reading -----------------------------------------------------------------------------------------------------

    def question(self, info: ObjectInfo) -> ApiCall[object]:
        """What tells an `ObjectReader` the present info of an object."""
        what = self._what("info of", info.name)
        stream = self.subjects.stream
        body = {"last_by_subj": self.subjects.meta(info.name)}
        call = self._api.request(what, f"STREAM.MSG.GET.{stream}", decode_stored(what, stream), body)

        def decode(message: Message) -> object:
            return self._read(what, info.name, call.decode(message))

        return ApiCall[object](what, call.subject, call.payload, decode, call.headers)

    # --- errors and the like -----------------------------------------------------------------------------------------

    def _not_found(self, what: str, name: str, more: str = "") -> ObjectNotFoundError:
        return ObjectNotFoundError(f"{what}: there is no such object{more}", bucket=self.name, name=name)

    def _bad_link(self, what: str, name: str, why: str) -> ObjectLinkError:
        return ObjectLinkError(f"{what}: {why}", bucket=self.name, name=name)

    def _random(self) -> str:
        return self._api.new_inbox().rpartition(".")[2]
