"""Reading the keys of one bucket, and what a message of its stream means.

Any replica may answer a read, and may be a little behind. With ``reads="leader"`` the leader is asked, and always where
a read belongs to a write. A mirror has a leader of its own, which is behind the origin as well, so in a write the
origin's is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

from .._calls.operation import Operation, Pause, Request
from .._jetstream.decoders import check_sequence, decode_direct
from .._jetstream.errors import (
    JetStreamDecodeError,
    MessageNotFoundError,
    StreamNotFoundError,
)
from .._jetstream.stored_message import StoredMessage
from .._jetstream.stream_calls import get_last_msg, get_msg
from .._limits import shown
from .._publishing.retries import DUPLICATE_WINDOW
from .._wire.frames import Message
from .._wire.headers import Headers
from .._wire.twin import EntryMaker
from ..errors import NATSTimeoutError, NoRespondersError
from .codecs import KeyCodec, ValueType, encode_pattern
from .entry import TELLING, KeyValueEntry, operation_of
from .errors import BucketNotFoundError, KeyNotFoundError
from .names import check_key, check_pattern, check_text
from .subjects import BucketSubjects

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .._jetstream.stream_config import StreamConfig
    from .._json.durations import Timestamp

__all__ = ["BucketReader", "Reads", "check_reads"]

T = TypeVar("T")

Reads = Literal["any", "leader"]
"""Who answers reads: any replica, which is quick and may be a little behind, or the leader of the stream."""

SHORTEST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.05
"""Seconds to wait for another write that is on its way, a share of chance in it, so that rivals do not meet again."""


def check_reads(reads: Reads) -> Reads:
    """Raises `ValueError` for another choice."""
    if reads not in ("any", "leader"):
        raise ValueError(f"reads must be 'any' or 'leader': {shown(reads)}")
    return reads


class BucketReader(Generic[T]):
    """One bucket, as far as both clients have the same to do with it. ``timeout``: seconds for a whole operation."""

    __slots__ = (
        "_api",
        "_codec",
        "_direct",
        "_keys",
        "_plain",
        "_reads",
        "_rng",
        "_start",
        "_stream",
        "_window",
        "name",
        "subjects",
    )

    def __init__(
        self,
        api: JetStreamApi,
        stream: StreamConfig,
        reads: Reads,
        codec: ValueType[T],
        keys: KeyCodec | None,
        rng: Random | None = None,
    ) -> None:
        self._api = api
        self._stream = stream
        self._reads: Reads = reads
        self._codec = codec
        self._keys = keys
        self.subjects = BucketSubjects(api, stream)
        self.name = self.subjects.bucket
        self._direct = f"{api.prefix}DIRECT.GET.{self.subjects.stream}."
        """How questions for the last entry of a key begin that any replica may answer; the key's subject follows."""
        self._start = self._direct + self.subjects.read
        maker = self.entry_maker()
        self._plain = None if maker is None else maker.last
        """What an answer tells that is nothing but a value, as nearly all are. To read it at once takes a fraction of
        the time that the headers, a stored message and an entry of that take."""
        self._window = float(stream.duplicate_window or 0.0) or DUPLICATE_WINDOW
        # For pauses alone; it comes from the random numbers of the session.
        self._rng = Random(self._random()) if rng is None else rng  # noqa: S311

    def __repr__(self) -> str:
        return f"<Bucket {self.name!r}>"

    @property
    def api(self) -> JetStreamApi:
        """By which the bucket's own stream is asked."""
        return self._api

    @property
    def reads(self) -> Reads:
        """Who answers reads that say nothing else."""
        return self._reads

    @property
    def history(self) -> int:
        """How many revisions of a key are kept."""
        return self._stream.max_msgs_per_subject or 1

    # --- keys and entries

    def stored_key(self, key: str) -> str:
        """The key as the bucket has it. Raises `InvalidKeyError`, `TypeError`."""
        return check_key(key if self._keys is None else self._keys.encode(check_text("key", key)))

    def filter(self, pattern: str) -> str:
        """The subject that keys of this pattern are stored with.

        Raises as `stored_key`, and `WildcardNotSupportedError`.
        """
        if self._keys is not None:
            pattern = encode_pattern(self._keys, check_text("pattern of keys", pattern))
        return self.subjects.read + check_pattern(pattern)

    def filters(self, patterns: Iterable[str], *, exact: bool = False) -> list[str]:
        """The same for each of these patterns; for all keys when there are none.

        ``exact``: they are keys. Of one that a codec translates, ``*`` may be a part.
        """
        if exact:
            return [self.subjects.read + self.stored_key(key) for key in patterns]
        return [self.filter(pattern) for pattern in dict.fromkeys(patterns)] or [self.filter(">")]

    def entry(
        self,
        subject: str,
        data: bytes,
        headers: Headers | None,
        revision: int,
        stored: Timestamp | int | None,
        delta: int,
    ) -> KeyValueEntry[T] | None:
        """Of a message of the stream; None when its subject, or its key, is none of ours."""
        key = self.subjects.key_of(subject)
        if key is None:
            return None
        if self._keys is not None:
            try:
                key = self._keys.decode(key)
            except ValueError:
                return None  # somebody else has written it, without the codec
        return KeyValueEntry(
            bucket=self.name,
            key=key,
            data=data,
            revision=revision,
            stored=stored,
            delta=delta,
            operation=operation_of(headers),
            codec=self._codec,
        )

    def entry_maker(self) -> EntryMaker[KeyValueEntry[T]] | None:
        """What makes the same of most messages, with less work; None where each has to be looked at."""
        if self._keys is not None:
            return None
        return EntryMaker(KeyValueEntry, self.name, self.subjects.read, self._codec, TELLING)

    def entry_of(self, stored: StoredMessage) -> KeyValueEntry[T] | None:
        """Of a message that was read."""
        return self.entry(stored.subject, stored.data, stored.headers, stored.sequence, stored.time, 0)

    def _what(self, verb: str, key: str) -> str:
        return f"{verb} key {key!r} of bucket {self.name!r}"

    # --- reading

    def question(
        self, key: str, revision: int | None = None, min_revision: int | None = None, reads: Reads | None = None
    ) -> str | None:
        """Where an empty request asks for the last entry of a key; None where more is to be done: see `get`.

        The answer is for `answered`; `unanswered` goes on when nobody answers. Raises as `get`.
        """
        if revision is not None or min_revision is not None or self._leader(reads):
            return None
        return self._start + self.stored_key(key)

    def answered(self, key: str, question: str, answer: Message) -> KeyValueEntry[T]:
        """What the answer to a `question` tells. Raises as `get`."""
        subject = question[len(self._direct) :]
        entry = None if self._plain is None else self._plain(answer, subject)
        return self._value(key, self._look_at(key, subject, answer)) if entry is None else entry

    def unanswered(self, key: str, question: str, until: float) -> Operation[KeyValueEntry[T]]:
        """Nobody answers a `question`: goes on until that time. Raises as `get`."""
        return self._value(key, (yield from self._from_leader(key, question[len(self._direct) :], until)))

    def get(
        self,
        key: str,
        revision: int | None = None,
        *,
        min_revision: int | None = None,
        reads: Reads | None = None,
        timeout: float | None = None,
    ) -> Operation[KeyValueEntry[T]]:
        """The key's last entry, or the one of this ``revision``. ``min_revision``: it is to be at least so new.

        Raises `KeyNotFoundError`, for a marker `KeyDeletedError`; `NATSTimeoutError` when none so new comes.
        """
        entry = yield from self.last(
            key, revision, min_revision=min_revision, leader=self._leader(reads), timeout=timeout
        )
        return self._value(key, entry)

    def last(
        self,
        key: str,
        revision: int | None = None,
        *,
        min_revision: int | None = None,
        leader: bool,
        timeout: float | None = None,
    ) -> Operation[KeyValueEntry[T]]:
        """As `get`, markers as well."""
        subject = self.subjects.read + self.stored_key(key)
        if revision is not None:
            if min_revision is not None:
                raise ValueError("give either revision or min_revision, not both")
            return self._at(key, subject, check_sequence("revision", revision), leader, timeout)
        if min_revision is not None:
            return self._at_least(key, subject, check_sequence("min_revision", min_revision), leader, timeout)
        return self._last(key, subject, leader, timeout)

    def _leader(self, reads: Reads | None) -> bool:
        return (self._reads if reads is None else check_reads(reads)) == "leader"

    def _last(self, key: str, subject: str, leader: bool, timeout: float | None) -> Operation[KeyValueEntry[T]]:
        if not leader:
            return (yield from self._from_any(key, subject, timeout))
        asked = get_last_msg(self._api, self.subjects.stream, subject, direct=False, timeout=timeout)
        stored = yield from self._asked(key, asked)
        if stored is None:
            raise self._none(key)
        return self._read(key, subject, stored)

    def _from_any(self, key: str, subject: str, timeout: float | None) -> Operation[KeyValueEntry[T]]:
        """From any replica, by a question that is its subject alone, which is the quickest one for a server."""
        api = self._api
        seconds = api.seconds(timeout)
        until = api.clock() + seconds
        try:
            answer = yield Request(self._direct + subject, timeout=seconds)
        except NoRespondersError:
            return (yield from self._from_leader(key, subject, until))
        assert answer is not None  # a driver sends the answer of a request, or throws its error in
        entry = None if self._plain is None else self._plain(answer, subject)
        return self._look_at(key, subject, answer) if entry is None else entry

    def _from_leader(self, key: str, subject: str, until: float) -> Operation[KeyValueEntry[T]]:
        """No replica answers: the stream allows no direct access, or they are not there yet. The leader knows."""
        return self._last(key, subject, True, max(until - self._api.clock(), 0.0))

    def _look_at(self, key: str, subject: str, answer: Message) -> KeyValueEntry[T]:
        """What any answer tells."""
        what = f"get the last message on {subject!r} of stream {self.subjects.stream!r}"
        try:
            stored = decode_direct(what)(answer)
        except MessageNotFoundError:
            raise self._none(key) from None
        return self._read(key, subject, stored)

    def _at(
        self, key: str, subject: str, revision: int, leader: bool, timeout: float | None
    ) -> Operation[KeyValueEntry[T]]:
        asked = get_msg(self._api, self.subjects.stream, revision, direct=not leader, timeout=timeout)
        stored = yield from self._asked(key, asked)
        if stored is None:
            raise self._none(key, f", or not with revision {revision}")
        if stored.subject != subject:
            raise self._none(key, f" with revision {revision}, which is another key's")
        return self._read(key, subject, stored)

    def _at_least(
        self, key: str, subject: str, least: int, leader: bool, timeout: float | None
    ) -> Operation[KeyValueEntry[T]]:
        """The first answer may come from any replica, the others are the leader's."""
        seconds = self._api.seconds(timeout)
        until = self._api.clock() + seconds
        found = 0
        pauses = self._pauses()
        while True:
            left = max(until - self._api.clock(), 0.0)
            try:
                entry = yield from self._last(key, subject, leader, left)
            except KeyNotFoundError:
                if leader and not self.subjects.is_mirror:
                    raise  # it was there, and is gone: purged, or too old
            else:
                if entry.revision >= least:
                    return entry
                found = entry.revision
            if leader or self.subjects.is_mirror:
                pause = next(pauses)
                if self._api.clock() + pause >= until:
                    raise NATSTimeoutError(
                        f"{self._what('get', key)}: no revision from {least} on came within {seconds:g} s, the last is "
                        f"{found or 'none'}",
                        outcome="failed",
                    )
                yield Pause(pause)
            leader = True

    def _value(self, key: str, entry: KeyValueEntry[T]) -> KeyValueEntry[T]:
        """The entry, if it is one with a value."""
        if entry.deleted:
            raise entry.not_found(self._what("get", key))
        return entry

    def _none(self, key: str, more: str = "") -> KeyNotFoundError:
        return KeyNotFoundError(f"{self._what('get', key)}: there is no such key{more}", bucket=self.name, key=key)

    def _read(self, key: str, subject: str, stored: StoredMessage) -> KeyValueEntry[T]:
        entry = self.entry_of(stored) if stored.subject == subject else None
        if entry is None:
            raise JetStreamDecodeError(f"{self._what('get', key)}: the answer is about another subject")
        return entry

    def _at_origin(self, key: str, timeout: float) -> Operation[KeyValueEntry[T] | None]:
        """What decides about a write: the last entry as the leader of the origin has it; None when there is none."""
        subject = self.subjects.read + self.stored_key(key)
        asked = get_last_msg(
            self.subjects.origin_api, self.subjects.origin_stream, subject, direct=False, timeout=timeout
        )
        stored = yield from self._asked(key, asked)
        return None if stored is None else self._read(key, subject, stored)

    def _asked(self, key: str, asked: Operation[StoredMessage]) -> Operation[StoredMessage | None]:
        try:
            return (yield from asked)
        except MessageNotFoundError:
            return None
        except StreamNotFoundError as error:
            raise BucketNotFoundError(f"{self._what('get', key)}: there is no such bucket", bucket=self.name) from error

    def _random(self) -> str:
        return self._api.new_inbox().rpartition(".")[2]

    def _pauses(self) -> Iterator[float]:
        longest = SHORTEST_PAUSE
        while True:
            longest = min(2 * longest, LONGEST_PAUSE)
            yield SHORTEST_PAUSE + (longest - SHORTEST_PAUSE) * self._rng.random()
