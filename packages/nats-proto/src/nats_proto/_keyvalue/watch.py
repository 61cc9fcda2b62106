"""`Watch`: what happens to the keys of a bucket, beginning with what they are.

Theory of operation
-------------------
A watch reads the bucket's stream by `Ordered`, so nothing is missed and nothing comes twice, whatever becomes of the
servers. What is its own is the end of the initial values: one item, exactly once, behind every entry that the bucket
had when the watch began.

    COUNTING ──`Initial` says that all have come──▶ LIVE

How that is seen, and what is promised when others write meanwhile, says `initial`. Entries that are not given, such as
deletions that nobody wants, count as well. When the consumer has to be made anew before the end, the counting goes on.
After the end nothing is counted, so there is no second one.

Values may go while they are counted, as when they expire. Then no message says that it was the last. So when nothing
comes for a moment, the consumer is asked how many are still before it; none is the end as well.

With ``coalesce`` there is one unread entry of each key at most, in the place of the oldest: a newer one takes it over.
So a reader that is slow has at most one entry for each key to read, and `skipped` says how many it was spared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from itertools import chain
from typing import Final, Generic, Literal, TypeVar

from .._calls.machine import Ask, Want
from .._calls.operation import ApiCall, Publish
from .._consuming.ahead import Ahead
from .._consuming.ordered import Ordered
from .._consuming.ordered_calls import OrderedCalls, ordered_config, ordered_options
from .._consuming.warning import ConsumerWarning
from .._jetstream.consumer_calls import info_call
from .._jetstream.consumer_config import DeliverPolicy
from .._jetstream.consumer_info import ConsumerInfo
from .._jetstream.decoders import check_sequence
from .._jetstream.errors import ConsumerDeletedError, StreamNotFoundError
from .._session.marks import PublishRefused
from .._session.subscription import MessageT
from .._value import Value
from .._wire.twin import EntryMaker
from ..errors import NATSError, NATSTimeoutError, PermissionsError
from .entry import KeyValueEntry
from .errors import BucketNotFoundError
from .initial import Initial
from .reading import BucketReader

__all__ = [
    "Begun",
    "InitialValuesDone",
    "Newest",
    "Watch",
    "WatchOptions",
    "WatchState",
    "WatchedItem",
    "history_options",
    "keys_options",
    "last_options",
]

T = TypeVar("T")

WatchState = Literal["beginning", "initial", "live", "rebuilding", "ended"]
"""What a watch is at: its consumer is made, the initial values come, changes come, its consumer is made anew, the end.

A lost connection is not a state of a watch: it goes on with the next one.
"""

PREFIX: Final = "watch"
"""How the names of the consumers begin, so that who looks at a server knows what they are."""
PROBE_TIMEOUT: Final = 1.0
AT_HAND: Final = 1000
"""Messages that are asked for at most, unless they are small: then there are more, see `Ahead`. Up to as many that came
before may lie in `Watch.items`, unread."""
MAX_PATTERNS: Final = 256


class InitialValuesDone(Value, frozen=True):
    """All that the bucket had when the watch began was given; what follows is new. ``entries``: how many there were."""

    entries: int


class Begun(Value, frozen=True):
    """A watch without initial values has its consumer: what is written from now on will come. Not for users."""


class Newest(Generic[T]):
    """A place among the unread entries, for the newest one of its key."""

    __slots__ = ("entry", "first")

    def __init__(self, entry: KeyValueEntry[T]) -> None:
        self.entry = entry
        self.first = entry.revision
        """Of the oldest one that it stands for."""


WatchedItem = KeyValueEntry[T] | InitialValuesDone | Newest[T] | Begun


class WatchOptions(Value, frozen=True, kw_only=True):
    """What is watched, and what is given of it. Raises `ValueError` for options that exclude each other.

    ``patterns``: none stand for all keys.
    """

    patterns: Sequence[str] = ()
    exact: bool = False
    """These are keys, not patterns."""
    include_history: bool = False
    updates_only: bool = False
    ignore_deletes: bool = False
    meta_only: bool = False
    resume_from_revision: int | None = None
    coalesce: bool = False
    until_initial: bool = False
    """It ends with the initial values."""
    patience: float | None = None
    """Seconds in which the first consumer has to be made; None: those of a call."""
    distinct: bool = False
    """Each key is given once."""

    def __post_init__(self) -> None:
        if self.include_history and self.updates_only:
            raise ValueError("include_history and updates_only exclude each other")
        if self.resume_from_revision is not None:
            check_sequence("resume_from_revision", self.resume_from_revision)
            if self.include_history or self.updates_only:
                raise ValueError("resume_from_revision says where to begin: leave out include_history and updates_only")
        if len(self.patterns) > MAX_PATTERNS:
            raise ValueError(f"at most {MAX_PATTERNS} patterns can be watched, not {len(self.patterns)}")

    @property
    def start(self) -> DeliverPolicy:
        """Where the consumer begins."""
        if self.resume_from_revision is not None:
            return "by_start_sequence"
        if self.updates_only:
            return "new"
        return "all" if self.include_history else "last_per_subject"


def history_options(key: str, patience: float) -> WatchOptions:
    """All that there is of a key."""
    return WatchOptions(patterns=(key,), exact=True, include_history=True, until_initial=True, patience=patience)


def keys_options(patterns: Sequence[str], patience: float) -> WatchOptions:
    """Each key that has a value, once, without its value; of all patterns when there are none."""
    return WatchOptions(
        patterns=patterns,
        meta_only=True,
        ignore_deletes=True,
        until_initial=True,
        patience=patience,
        distinct=True,
    )


def last_options(patience: float) -> WatchOptions:
    """The last entry of each key, also of those that were deleted, without values."""
    return WatchOptions(meta_only=True, until_initial=True, patience=patience)


class _Passed(Value, frozen=True):
    """Stands for a message that is not given: it is of no key, or of one that the codec cannot have made."""

    subject: str
    pending: int
    written: int


class _State(Enum):
    COUNTING = auto()
    LIVE = auto()


class Watch(Generic[MessageT, T]):
    """A `Machine` that gives `WatchedItem`s. ``now`` is an absolute time (seconds).

    Raises `InvalidKeyError` for what is no pattern, `TypeError`.
    """

    __slots__ = (
        "_ahead",
        "_bucket",
        "_given",
        "_initial",
        "_made",
        "_maker",
        "_newest",
        "_options",
        "_ordered",
        "_probe",
        "_probe_at",
        "_rebuilt",
        "_seen",
        "_state",
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
        config = ordered_config(
            filter_subjects=bucket.filters(options.patterns, exact=options.exact),
            deliver_policy=options.start,
            opt_start_seq=options.resume_from_revision,
            headers_only=options.meta_only,
        )
        self._ahead = Ahead(AT_HAND)
        self._ordered: Ordered[MessageT, KeyValueEntry[T] | _Passed | None] = Ordered(
            OrderedCalls(bucket.api, bucket.subjects.stream, config, prefix=PREFIX, patience=options.patience),
            ordered_options(max_messages=AT_HAND, max_bytes=None, threshold=None, expires=None, heartbeat=None),
            make=self._entry,
            now=now,
            demand=self._ahead,
        )
        self._maker = None if options.coalesce or options.distinct else bucket.entry_maker()
        """What makes most entries with little work, where nothing but the next one is asked for."""
        self.what = f"watch bucket {bucket.name!r}"
        self._state = _State.LIVE if options.updates_only else _State.COUNTING
        self._initial = Initial(one_each=options.start == "last_per_subject")
        self._made: ConsumerInfo | None = None
        """The consumer that is counted."""
        self._rebuilt: int = 0
        self._given = 0
        self._seen: set[str] = set()
        self._newest: dict[str, Newest[T]] = {}
        self._probe: _Probe | None = None
        self._probe_at = now + self._initial.pause
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

    def revision(self, held: Iterable[WatchedItem[T]] = ()) -> int:
        """All up to this one was given, or was not to be given; 0 before the first. ``held``: taken, and not given."""
        for item in chain(held, self.items):
            if isinstance(item, Newest):
                return item.first - 1
            if isinstance(item, KeyValueEntry):
                return item.revision - 1
        return self._ordered.sequence

    @property
    def live(self) -> bool:
        """The initial values have come."""
        return self._state is _State.LIVE

    @property
    def ready(self) -> bool:
        """So they have, and what is written from now on will come."""
        return self._state is _State.LIVE and self._ordered.info is not None

    @property
    def begins_with_nothing(self) -> bool:
        """Only what is written from now on is given: so whoever writes next has to wait until it is `ready`."""
        return self._options.updates_only

    def not_ready(self, seconds: float) -> NATSTimeoutError:
        """For who has waited so long until it is `ready`."""
        missing = "the consumer was not made" if self.live else "the initial values did not come"
        return NATSTimeoutError(f"{self.what}: {missing} within {seconds:g} s", outcome="failed")

    @property
    def state(self) -> WatchState:
        """What it is at."""
        ordered = self._ordered
        if self.done:
            return "ended"
        if not ordered.reading:
            return "beginning" if ordered.info is None else "rebuilding"
        return "live" if self._state is _State.LIVE else "initial"

    def leave(self) -> list[Publish]:
        """What deletes the consumers that may be there, see `Ordered.leave`."""
        return self._ordered.leave()

    def taken(self, item: WatchedItem[T]) -> KeyValueEntry[T] | InitialValuesDone | None:
        """What an item comes to that the reader has taken out; None: nothing for the user."""
        if isinstance(item, Newest):
            self._newest.pop(item.entry.key, None)
            return item.entry
        return None if isinstance(item, Begun) else item

    # --- what comes

    def receive(self, message: MessageT, *, now: float) -> None:
        """A message of the consumer, or a status."""
        self._ordered.receive(message, now=now)
        self._look(now)

    def receive_all(self, arrived: deque[MessageT], marked: Callable[[], None], *, now: float) -> None:
        """`receive` each, in order, and take it out of the queue; ``marked`` is called for one without a subject.

        Ends early when something new is wanted, so that it can be done before the rest is taken.
        """
        receive, maker, wants = self._ordered.receive, self._maker, self.wants
        before = len(wants)
        while arrived and len(wants) <= before:
            if maker is not None:
                self._take_at_once(maker, arrived, now)
                if not arrived:
                    break
            message = arrived.popleft()
            if message.subject:
                receive(message, now=now)
            else:
                marked()
            if maker is not None:
                self._look(now)  # what is taken at once comes behind that
        self._look(now)

    def _take_at_once(self, maker: EntryMaker[KeyValueEntry[T]], arrived: deque[MessageT], now: float) -> None:
        """All that is the next entry and nothing else, and is certainly not the end of the initial values."""
        account, give = self._ordered.account, self.items.append
        before = maker.bytes
        initial = None if self._state is _State.LIVE else self._initial
        if initial is not None:
            taken = account.take_entries(maker, arrived, give, now, initial.certain, initial.latest, initial.keys)
        elif not self._options.until_initial:
            taken = account.take_entries(maker, arrived, give, now)
        else:
            taken = 0
        if not taken:
            return
        self._ahead.came(taken, maker.bytes - before)
        told = self._ordered.told
        if initial is not None and told is not None:
            self._given += taken
            initial.came_at_once(taken, told[0])
            self._probe_at = now + initial.pause

    def connection_replaced(self, *, now: float) -> None:
        """The consumer may live on."""
        self._probe = None
        self._ordered.connection_replaced(now=now)
        self._look(now)

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """As of `Ordered`."""
        self._ordered.publish_refused(refused, now=now)
        self._look(now)

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """What a call came to: its own question, or one of the reader's below it."""
        if isinstance(api, _Probe):
            # That of a consumer which was given up since, or of a connection, says nothing any more.
            if api is self._probe and self._state is _State.COUNTING:
                if isinstance(answer, ConsumerInfo):
                    self._initial.asked(answer)
                # It lives, or may not be asked. What was lost on the way says nothing, and is asked again.
                if isinstance(answer, (ConsumerInfo, PermissionsError)):
                    self._end_of_initial(now)
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

    def _entry(self, message: MessageT, now: float) -> KeyValueEntry[T] | _Passed | None:
        """Made of each message that is the next one."""
        self._ahead.came(1, len(message.data))
        ordered = self._ordered
        told = ordered.told
        if told is None:
            return None  # hostile: the reader below has looked at the parts that it needs, and no others
        stored, pending = told
        headers = None if message.header_block is None else message.headers
        entry = self._bucket.entry(message.subject, message.data, headers, ordered.sequence, stored, pending)
        return _Passed(message.subject, pending, stored) if entry is None else entry

    def _look(self, now: float) -> None:
        """Take what the reader below has, and see whether that is the end of the initial values."""
        ordered = self._ordered
        if ordered.items:
            self._take(ordered.items, now)
        # Behind that: what was taken is of the consumer that was there before.
        if self._state is _State.COUNTING:
            if ordered.info is not self._made or ordered.rebuilt != self._rebuilt:
                self._look_at_consumer(now)
        elif self._made is None and ordered.info is not None:
            self._made = ordered.info
            self.items.append(Begun())  # whoever waits for that is woken
        if ordered.done:
            self.error = self._told(ordered.error)

    def _look_at_consumer(self, now: float) -> None:
        ordered = self._ordered
        if ordered.rebuilt != self._rebuilt:
            self._rebuilt = ordered.rebuilt
            self._initial.begin_again()
            self._probe = None
            self._made = None
        if ordered.info is not self._made and ordered.info is not None:
            self._made = ordered.info
            self._initial.begin(ordered.info, now)
            self._end_of_initial(now)

    def _take(self, made: deque[KeyValueEntry[T] | _Passed | None], now: float) -> None:
        if self._options.until_initial and self._state is _State.LIVE:
            made.clear()
        while made:
            entry = made.popleft()
            if isinstance(entry, KeyValueEntry):
                self._give(entry)
            if self._state is _State.COUNTING:
                self._count(entry, now)
                if self.done:
                    made.clear()
        self._probe_at = now + self._initial.pause

    def _count(self, entry: KeyValueEntry[T] | _Passed | None, now: float) -> None:
        initial = self._initial
        if isinstance(entry, KeyValueEntry):
            assert isinstance(entry.stored, int)  # so is it made above
            over = initial.came(entry.key, entry.delta, entry.stored, now)
        elif entry is not None:
            over = initial.came(entry.subject, entry.pending, entry.written, now)
        else:
            over = initial.came(None, 0, 0, now)
        if over:
            self._end_of_initial(now)

    def _end_of_initial(self, now: float) -> None:
        if self._state is _State.COUNTING and self._initial.over(now):
            self._state = _State.LIVE
            self._initial = Initial(one_each=False)  # the keys are not kept
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

    def _may_ask(self) -> bool:
        return self._state is _State.COUNTING and self._initial.target is not None

    def _ask(self, now: float) -> None:
        info = self._ordered.info
        self._probe_at = now + PROBE_TIMEOUT
        if info is None:
            return
        call = info_call(self._bucket.api, self._bucket.subjects.stream, info.name)
        self._probe = _Probe(call.what, call.subject, call.payload, call.decode)
        self.wants.append(Ask(self._probe, PROBE_TIMEOUT))


class _Probe(ApiCall[object], frozen=True, eq=False):
    """The question how many messages the consumer has before it. One that got lost is asked again, as another one."""
