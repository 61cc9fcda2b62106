"""`ObjectReader`: the chunks of one object in order, and whether they are what was put.

Theory of operation
-------------------
The chunks are read by `Ordered`, so none is missed and none comes twice, whatever becomes of the servers. What is its
own: an object is whole, or it is an error. Its info says how many chunks and bytes there are, and their digest.

    READING ──the last chunk, and size and digest are right──▶ done
       │ ╰─too many bytes, too many chunks, a wrong digest──────▶ failed
       ╰──fewer chunks are there than the info says, or none comes for a moment──▶ the leader is asked

The last chunk is given after the digest was compared, so nobody reaches the end of an object that is not the one that
was put.

Chunks go away when the object is replaced or deleted meanwhile, or when somebody has removed them. That is seen by the
number of messages that the consumer has before it, when it is made and with each message; and when nothing comes. But a
consumer may be on a replica that is behind. So the leader of the stream is asked how many chunks there are. When it has
too few, the object's info is asked for: another version, or none, and the object was replaced; the same one, and it is
damaged.

A range of an object is read from the chunk on in which it begins (`nats_proto._objectstore.seeking`). There is no
digest of a part; that each chunk has the size that its place says is looked at.

The time runs while somebody waits, from `resume` or from the last chunk on.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Generic

from .._calls.machine import Ask, Want
from .._calls.operation import ApiCall, Publish
from .._consuming.options import ConsumeOptions
from .._consuming.ordered import Ordered
from .._consuming.ordered_calls import OrderedCalls, ordered_config
from .._consuming.warning import ConsumerWarning
from .._jetstream.decoders import value_of
from .._jetstream.errors import ConsumerDeletedError, MessageNotFoundError, StreamNotFoundError
from .._jetstream.stream_info import StreamInfo
from .._keyvalue.errors import BucketNotFoundError
from .._limits import check_seconds
from .._session.marks import PublishRefused
from .._session.subscription import MessageT
from ..errors import NATSError, NATSTimeoutError
from .errors import DigestMismatchError, ObjectDamagedError, ObjectReplacedError
from .info import ObjectInfo
from .names import Subjects
from .pieces import Digest, read_digest

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi

__all__ = ["ObjectReader", "Start"]

PREFIX: Final = "object"
"""How the names of the consumers begin, so that who looks at a server knows what they are."""
READ_AHEAD: Final = 8 * 1024 * 1024
"""Bytes that are asked for ahead, by the size that the info says of chunks."""
MAX_AHEAD: Final = 64
"""Chunks that are asked for ahead, at most: an info may say that they are small, and they are not."""
HEARTBEAT: Final = 2.0
"""Seconds: a consumer whose server has died is given up after two of them, so that there is time for another one."""
QUIET: Final = 1.0
"""Seconds without a chunk after which it is asked why."""


class Start:
    """Where a reader begins. ``sequence``: of the chunk with number ``chunk``, counted from 0; ``chunk_size``: what
    each chunk but the last one has. Without them at the beginning, and chunks of any size."""

    __slots__ = ("chunk", "chunk_size", "sequence")

    def __init__(self, chunk: int = 0, sequence: int | None = None, chunk_size: int | None = None) -> None:
        self.chunk = chunk
        self.sequence = sequence
        self.chunk_size = chunk_size


class ObjectReader(Generic[MessageT]):
    """A `Machine` that gives the bytes of an object, chunk by chunk. ``now`` is an absolute time (seconds).

    ``ask_info`` gives the call that tells the object's present info. ``timeout``: seconds without a chunk. Raises
    `ObjectDamagedError` for an info that no object can have, `TypeError` and `ValueError` for a time that is none.
    """

    def __init__(
        self,
        api: JetStreamApi,
        subjects: Subjects,
        info: ObjectInfo,
        ask_info: ApiCall[object],
        *,
        now: float,
        timeout: float,
        start: Start | None = None,
    ) -> None:
        self._api = api
        self._subjects = subjects
        self._info = info
        self._start = Start() if start is None else start
        self._timeout = check_seconds("timeout", timeout)
        self.what = f"get object {info.name!r} of bucket {subjects.bucket!r}"
        self._expected = read_digest(info.digest)
        if self._expected is None:
            raise self._damaged("its info has no digest that can be read")
        if not info.chunks or self._start.chunk >= info.chunks:
            raise self._damaged(f"its info has {info.chunks} chunks for {info.size} bytes")
        config = ordered_config(
            filter_subjects=subjects.chunks(info.nuid), opt_start_seq=self._start.sequence, headers_only=False
        )
        ahead = max(2, min(MAX_AHEAD, READ_AHEAD // largest_chunk(info)))
        self._ordered: Ordered[MessageT, bytes] = Ordered(
            OrderedCalls(api, subjects.stream, config, prefix=PREFIX, patience=self._timeout),
            ConsumeOptions(max_messages=ahead, heartbeat=HEARTBEAT),
            make=lambda message, now: message.data,
            now=now,
        )
        self._ask_info = ask_info
        self._ask_count = _ask_count(api, subjects, info.nuid, self.what)
        self._digest = Digest()
        self._next = self._start.chunk
        """The number of the chunk that comes next, counted from 0."""
        self._left = info.size - self._start.chunk * (self._start.chunk_size or 0)
        """Bytes that are still to come."""
        self._counted = False
        self._missing = 0
        """Chunks that the leader does not have."""
        self._look_at = now + QUIET
        self._progress_at = now + self._timeout
        self._ended = False
        self.items: deque[bytes] = deque()
        self.wants: deque[Want] = self._ordered.wants
        self.warnings: deque[ConsumerWarning] = self._ordered.warnings
        """What it has survived, the newest last. Whoever shows them takes them out."""
        self.error: NATSError | None = None

    @property
    def done(self) -> bool:
        """All chunks have come, or it has failed."""
        return self._ended

    def resume(self, *, now: float) -> None:
        """Somebody waits again."""
        self._progress_at = now + self._timeout
        self._look_at = max(self._look_at, now + QUIET)

    def leave(self) -> list[Publish]:
        """What deletes the consumers that may be there, see `Ordered.leave`."""
        return self._ordered.leave()

    # --- what comes

    def receive(self, message: MessageT, *, now: float) -> None:
        """A message of the consumer, or a status."""
        self._ordered.receive(message, now=now)
        self._look(now)

    def connection_replaced(self, *, now: float) -> None:
        """The consumer may live on."""
        self._ordered.connection_replaced(now=now)
        self._look(now)

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """As of `Ordered`."""
        self._ordered.publish_refused(refused, now=now)
        self._look(now)

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """What a call came to: its own questions, or one of the reader's below it."""
        if self.done:
            return
        if api is self._ask_info:
            self._told_info(answer)
        elif api is self._ask_count:
            self._told_count(answer)
        else:
            self._ordered.answered(api, answer, now=now)
            self._look(now)

    def next_timeout(self) -> float | None:
        """When something is overdue."""
        if self.done:
            return None
        due = min(self._progress_at, self._look_at)
        below = self._ordered.next_timeout()
        return due if below is None else min(below, due)

    def handle_timeout(self, *, now: float) -> None:
        """See whether the consumer lives, and whether the object is still there."""
        if self.done:
            return
        self._ordered.handle_timeout(now=now)
        self._look(now)
        if now >= self._look_at:
            self._ask(now)
        if now >= self._progress_at and not self.done:
            self._fail(
                NATSTimeoutError(
                    f"{self.what}: nothing came for {self._timeout:g} s, {self._next} of {self._info.chunks} chunks "
                    f"were read",
                    outcome="failed",
                )
            )

    # --- chunks

    def _look(self, now: float) -> None:
        """Take what the reader below has."""
        ordered = self._ordered
        made = ordered.items
        while made and not self._ended:
            self._chunk(made.popleft(), now)
        if self._ended:
            return
        if ordered.done:
            self._fail(self._explained(ordered.error))
        elif not self._counted and ordered.initial_pending is not None:
            self._counted = True
            if ordered.initial_pending < self._info.chunks - self._start.chunk:
                self._ask(now)

    def _chunk(self, data: bytes, now: float) -> None:
        info, size = self._info, self._start.chunk_size
        self._next += 1
        self._left -= len(data)
        last = self._next == info.chunks
        if self._left < 0 or (last and self._left):
            self._fail(self._damaged(f"its chunks do not have the {info.size} bytes that its info says"))
            return
        if size is not None and len(data) != size and not last:
            self._fail(self._damaged(f"chunk {self._next} has {len(data)} bytes, not {size}"))
            return
        if not self._start.chunk:
            self._digest.add(data)
            if last and self._expected is not None and not self._digest.is_that(self._expected):
                self._fail(self._mismatch())
                return
        if last and self._ordered.pending:
            self._fail(self._damaged(f"there are more chunks than the {info.chunks} that its info says"))
            return
        self._progress_at, self._look_at = now + self._timeout, now + QUIET
        self.items.append(data)
        if last:
            self._ended = True
            self.wants.clear()
        elif self._ordered.pending == 0:
            self._ask(now)

    # --- whether it is still there

    def _ask(self, now: float) -> None:
        """Whether the leader has all chunks. What is not answered is asked again."""
        self._look_at = now + QUIET
        self.wants.append(Ask(self._ask_count, QUIET))

    def _told_count(self, answer: object) -> None:
        if isinstance(answer, StreamNotFoundError):
            self._fail(self._explained(answer))
        elif isinstance(answer, StreamInfo):
            there = (answer.state.subjects or {}).get(self._subjects.chunks(self._info.nuid), 0)
            if there < self._info.chunks:
                self._missing = self._info.chunks - there
                self.wants.append(Ask(self._ask_info, QUIET))

    def _told_info(self, answer: object) -> None:
        if isinstance(answer, MessageNotFoundError):
            self._fail(self._replaced("it was deleted"))
        elif isinstance(answer, ObjectInfo):
            if answer.deleted:
                self._fail(self._replaced("it was deleted"))
            elif answer.nuid != self._info.nuid:
                self._fail(self._replaced("it was replaced"))
            else:
                self._fail(self._damaged(f"{self._missing} of {self._info.chunks} chunks are missing"))

    # --- the end

    def _fail(self, error: NATSError | None) -> None:
        self.error = error
        self._ended = True
        self.wants.clear()

    def _explained(self, error: NATSError | None) -> NATSError | None:
        if isinstance(error, (StreamNotFoundError, ConsumerDeletedError)):
            told = BucketNotFoundError(f"{self.what}: the bucket is gone: {error}", bucket=self._subjects.bucket)
            told.__cause__ = error
            return told
        return error

    def _damaged(self, why: str) -> ObjectDamagedError:
        return ObjectDamagedError(f"{self.what}: {why}", bucket=self._subjects.bucket, name=self._info.name)

    def _replaced(self, why: str) -> ObjectReplacedError:
        return ObjectReplacedError(
            f"{self.what}: {why} while it was read", bucket=self._subjects.bucket, name=self._info.name
        )

    def _mismatch(self) -> DigestMismatchError:
        found = self._digest.text
        return DigestMismatchError(
            f"{self.what}: the digest of its bytes is {found}, its info says {self._info.digest}",
            bucket=self._subjects.bucket,
            name=self._info.name,
            expected=self._info.digest or "",
            found=found,
        )


def largest_chunk(info: ObjectInfo) -> int:
    """Bytes that a chunk of this object has, about, and at most by what its info says."""
    said = 0 if info.options is None else info.options.max_chunk_size or 0
    return max(1, said, -(-info.size // max(1, info.chunks)))


def _ask_count(api: JetStreamApi, subjects: Subjects, nuid: str, what: str) -> ApiCall[object]:
    """How many chunks the leader of the stream has."""
    call = api.request(
        what, f"STREAM.INFO.{subjects.stream}", value_of(what, StreamInfo), {"subjects_filter": subjects.chunks(nuid)}
    )
    return ApiCall(call.what, call.subject, call.payload, call.decode, call.headers)
