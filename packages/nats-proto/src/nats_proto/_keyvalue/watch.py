"""`Watch`: what happens to the keys of a bucket, beginning with what they are.

Theory of operation
-------------------
A watch reads the bucket's stream by `Ordered`, so nothing is missed and nothing comes twice, whatever becomes of the
servers. What is its own is the end of the initial values: one item, exactly once, behind every entry that the bucket
had when the watch began.

    COUNTING ──as many entries as were pending, or a message with nothing behind it, or nothing pending──▶ LIVE

The consumer tells how many messages it has before it when it is made, and each message how many are behind it. While
others write, either number may move; what comes first counts. Where each key has one message before the consumer, the
keys are counted: a key that is written again must not count for one that is still to come. Entries that are not given,
such as deletions that nobody wants, count as well. When the consumer has to be made anew before the end, the new one's
number counts from zero: it tells of at least all that is missing. After the end nothing is counted, so there is no
second one.

Values may go while they are counted, as when they expire. Then no message says that it was the last. So when nothing
comes for a moment, the consumer is asked how many are still before it; none is the end as well.

With ``coalesce`` there is one unread entry of each key at most, in the place of the oldest: a newer one takes it over.
So a reader that is slow has at most one entry for each key to read, and `skipped` says how many it was spared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final, Generic, TypeVar

from .._calls.machine import Ask, Want
from .._calls.operation import ApiCall, Publish
from .._consuming.ordered import Ordered
from .._consuming.ordered_calls import OrderedCalls, ordered_config, ordered_options
from .._consuming.warning import ConsumerWarning
from .._jetstream.consumer_calls import info_call
from .._jetstream.consumer_config import DeliverPolicy
from .._jetstream.consumer_info import ConsumerInfo
from .._jetstream.decoders import check_sequence
from .._jetstream.errors import (
    ConsumerDeletedError,
    NotJetStreamMessageError,
    StreamNotFoundError,
)
from .._jetstream.metadata import parse_ack_subject
from .._session.subscription import MessageT
from .._value import Value
from ..errors import NATSError
from .entry import KeyValueEntry
from .errors import BucketNotFoundError
from .reading import BucketReader

__all__ = ["InitialValuesDone", "Newest", "Watch", "WatchOptions", "WatchedItem"]

T = TypeVar("T")

PREFIX: Final = "watch"
"""How the names of the consumers begin, so that who looks at a server knows what they are."""
QUIET: Final = 1.0
"""Seconds without a message, before the end of the initial values, after which the consumer is asked."""
MAX_PATTERNS: Final = 256


class InitialValuesDone(Value, frozen=True):
    """All that the bucket had when the watch began was given; what follows is new. ``entries``: how many there were."""

    entries: int


class Newest(Generic[T]):
    """A place among the unread entries, for the newest one of its key."""

    __slots__ = ("entry",)

    def __init__(self, entry: KeyValueEntry[T]) -> None:
        self.entry = entry


WatchedItem = KeyValueEntry[T] | InitialValuesDone | Newest[T]


class WatchOptions(Value, frozen=True, kw_only=True):
    """What is watched, and what is given of it. Raises `ValueError` for options that exclude each other."""

    patterns: Sequence[str] = (">",)
    include_history: bool = False
    updates_only: bool = False
    ignore_deletes: bool = False
    meta_only: bool = False
    resume_from_revision: int | None = None
    coalesce: bool = False
    until_initial: bool = False
    """It ends with the initial values."""
    distinct: bool = False
    """Each key is given once."""

    def __post_init__(self) -> None:
        if self.include_history and self.updates_only:
            raise ValueError("include_history and updates_only exclude each other")
        if self.resume_from_revision is not None:
            check_sequence("resume_from_revision", self.resume_from_revision)
            if self.include_history or self.updates_only:
                raise ValueError("resume_from_revision says where to begin: leave out include_history and updates_only")
        if not 1 <= len(self.patterns) <= MAX_PATTERNS:
            raise ValueError(f"1 to {MAX_PATTERNS} patterns can be watched, not {len(self.patterns)}")

    @property
    def start(self) -> DeliverPolicy:
        """Where the consumer begins."""
        if self.resume_from_revision is not None:
            return "by_start_sequence"
        if self.updates_only:
            return "new"
        return "all" if self.include_history else "last_per_subject"


class _State(Enum):
    COUNTING = auto()
    LIVE = auto()


class Watch(Generic[MessageT, T]):
    """A `Machine` that gives `WatchedItem`s. ``now`` is an absolute time (seconds).

    Raises `InvalidKeyError` for what is no pattern, `TypeError`.
    """

    __slots__ = (
        "_bucket",
        "_counted",
        "_given",
        "_keys",
        "_newest",
        "_options",
        "_ordered",
        "_probe",
        "_probe_at",
        "_rebuilt",
        "_seen",
        "_state",
        "_target",
        "error",
        "items",
        "skipped",
        "wants",
        "warnings",
        "what",
    )

    def __init__(self, bucket: BucketReader[T], options: WatchOptions, *, now: float) -> None:
        self._bucket = bucket
        self._options = options
        filters = [bucket.filter(pattern) for pattern in dict.fromkeys(options.patterns)]
        config = ordered_config(
            filter_subjects=filters,
            deliver_policy=options.start,
            opt_start_seq=options.resume_from_revision,
            headers_only=options.meta_only,
        )
        self._ordered: Ordered[MessageT, KeyValueEntry[T] | None] = Ordered(
            OrderedCalls(bucket.api, bucket.subjects.stream, config, prefix=PREFIX),
            ordered_options(max_messages=None, max_bytes=None, threshold=None, expires=None, heartbeat=None),
            make=self._entry,
            now=now,
        )
        self.what = f"watch bucket {bucket.name!r}"
        self._state = _State.LIVE if options.updates_only else _State.COUNTING
        self._target: int | None = None
        """How many messages the consumer had before it; None until it is made."""
        self._counted = 0
        """How many of them have come."""
        self._keys: set[str] = set()
        """Of which subjects, while the consumer has one message of each before it."""
        self._rebuilt: int = 0
        self._given = 0
        self._seen: set[str] = set()
        self._newest: dict[str, Newest[T]] = {}
        self._probe: _Probe | None = None
        self._probe_at = now + QUIET
        self.skipped = 0
        """Entries that were not given, since newer ones of their keys came before they were read."""
        self.items: deque[WatchedItem[T]] = deque()
        self.wants: deque[Want] = self._ordered.wants
        self.warnings: deque[ConsumerWarning] = self._ordered.warnings
        """What it has survived, the newest last. Whoever shows them takes them out."""
        self.error: NATSError | None = None

    @property
    def done(self) -> bool:
        """No further item will come but those that are there."""
        return self._ordered.done or (self._options.until_initial and self._state is _State.LIVE)

    @property
    def revision(self) -> int:
        """Of the last entry that has come; 0 before the first."""
        return self._ordered.sequence

    @property
    def live(self) -> bool:
        """The initial values have come."""
        return self._state is _State.LIVE

    def leave(self) -> list[Publish]:
        """What deletes the consumers that may be there, see `Ordered.leave`."""
        return self._ordered.leave()

    def taken(self, item: WatchedItem[T]) -> KeyValueEntry[T] | InitialValuesDone:
        """What an item comes to that the reader has taken out."""
        if isinstance(item, Newest):
            self._newest.pop(item.entry.key, None)
            return item.entry
        return item

    # --- what comes

    def receive(self, message: MessageT, *, now: float) -> None:
        """A message of the consumer, or a status."""
        self._ordered.receive(message, now=now)
        self._look(now)

    def receive_all(self, arrived: deque[MessageT], marked: Callable[[], None], *, now: float) -> None:
        """`receive` each, in order, and take it out of the queue; ``marked`` is called for one without a subject."""
        while arrived:
            message = arrived.popleft()
            if message.subject:
                self.receive(message, now=now)
            else:
                marked()

    def connection_replaced(self, *, now: float) -> None:
        """The consumer may live on."""
        self._probe = None
        self._ordered.connection_replaced(now=now)
        self._look(now)

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """What a call came to: its own question, or one of the reader's below it."""
        if isinstance(api, _Probe):
            # That of a consumer which was given up since, or of a connection, says nothing any more.
            if api is self._probe and isinstance(answer, ConsumerInfo):
                self._probed(answer)
            return
        self._ordered.answered(api, answer, now=now)
        self._look(now)

    def next_timeout(self) -> float | None:
        """When something is overdue."""
        if self.done:
            return None
        due = self._ordered.next_timeout()
        if self._may_ask() and (due is None or self._probe_at < due):
            return self._probe_at
        return due

    def handle_timeout(self, *, now: float) -> None:
        """See whether the consumer lives, and whether there is more to come."""
        if self.done:
            return
        self._ordered.handle_timeout(now=now)
        self._look(now)
        if self._may_ask() and now >= self._probe_at:
            self._ask(now)

    # --- entries

    def _entry(self, message: MessageT, now: float) -> KeyValueEntry[T] | None:
        """Made of each message that is the next one."""
        try:
            metadata = parse_ack_subject(message.reply)
        except NotJetStreamMessageError:
            return None  # hostile: the reader below has looked at the parts that it needs, and no others
        if self._state is _State.COUNTING and not metadata.num_pending:
            self._target = 0
        if self._one_each:
            self._keys.add(message.subject)
        return self._bucket.entry(
            message.subject,
            message.data,
            None if message.header_block is None else message.headers,
            metadata.stream_sequence,
            metadata.timestamp,
            metadata.num_pending,
        )

    def _look(self, now: float) -> None:
        """Take what the reader below has, and see whether that is the end of the initial values."""
        ordered = self._ordered
        counting = self._state is _State.COUNTING
        if counting and ordered.rebuilt != self._rebuilt:
            self._rebuilt = ordered.rebuilt
            self._target = None
            self._counted = 0
            self._probe = None
        if counting and self._target is None and ordered.info is not None:
            self._target = ordered.info.num_pending
        made = ordered.items
        while made:
            self._probe_at = now + QUIET
            entry = made.popleft()
            if entry is not None:
                self._give(entry)
            if self._state is _State.COUNTING:
                self._counted += 1
                self._end_of_initial()
                if self.done:
                    made.clear()
        self._end_of_initial()
        if ordered.done:
            self.error = self._told(ordered.error)

    def _end_of_initial(self) -> None:
        if self._state is not _State.COUNTING or self._target is None:
            return
        if (len(self._keys) if self._one_each else self._counted) >= self._target:
            self._state = _State.LIVE
            self._keys.clear()
            self._probe = None
            if self._options.until_initial:
                self.wants.clear()
            else:
                self.items.append(InitialValuesDone(self._given))

    def _give(self, entry: KeyValueEntry[T]) -> None:
        options = self._options
        if options.ignore_deletes and entry.deleted:
            return
        if options.distinct:
            if entry.key in self._seen:
                return
            self._seen.add(entry.key)
        self._given += self._state is _State.COUNTING
        if not options.coalesce:
            self.items.append(entry)
            return
        unread = self._newest.get(entry.key)
        if unread is not None:
            unread.entry = entry
            self.skipped += 1
            return
        unread = self._newest[entry.key] = Newest(entry)
        self.items.append(unread)

    def _told(self, error: NATSError | None) -> NATSError | None:
        if isinstance(error, (StreamNotFoundError, ConsumerDeletedError)):
            told = BucketNotFoundError(f"{self.what}: the bucket is gone: {error}", bucket=self._bucket.name)
            told.__cause__ = error
            return told
        return error

    # --- whether there is more to come

    @property
    def _one_each(self) -> bool:
        """The consumer had one message of each key before it; one that was made anew may have more."""
        return self._state is _State.COUNTING and not self._rebuilt and self._options.start == "last_per_subject"

    def _may_ask(self) -> bool:
        return self._state is _State.COUNTING and self._target is not None

    def _ask(self, now: float) -> None:
        info = self._ordered.info
        self._probe_at = now + QUIET
        if info is None:
            return
        call = info_call(self._bucket.api, self._bucket.subjects.stream, info.name)
        self._probe = _Probe(call.what, call.subject, call.payload, call.decode)
        self.wants.append(Ask(self._probe, QUIET))

    def _probed(self, info: ConsumerInfo) -> None:
        """The consumer has nothing more, and all that it has delivered has come."""
        delivered = 0 if info.delivered is None else info.delivered.consumer_seq
        if self._state is _State.COUNTING and not info.num_pending and delivered <= self._counted:
            self._target = 0
            self._end_of_initial()


class _Probe(ApiCall[object], frozen=True, eq=False):
    """The question how many messages the consumer has before it. One that got lost is asked again, as another one."""
