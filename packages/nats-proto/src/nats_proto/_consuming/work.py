"""Handing a consumer's messages to handlers that run beside the reader: what is held, and how it is kept alive.

Theory of operation
-------------------
    the server ──▶ asked for ──▶ given ──▶ begun ──▶ ended
                   └─ Consume ─┘ └────── held ──────┘

Whoever drives the machine (the coordinator, a thread or a task) takes its items and gives them to handlers, which run
in others. A message is *held* from the moment in which the machine has given it until its handler has ended, whatever
that came to. Messages are asked for by the `Consume` that the machine has; how many at a time, says `Prefetch`.

Threads
-------
The machine belongs to the coordinator. Others have these, each of which is atomic by itself:

    begun     the handler's thread puts a message's ``id`` in with the time, and takes it out when the handler is over
    ended     it appends the message when all is done that is to be done for it
    late      before that, when the message was not begun, since somebody else has it
    called    the coordinator wants to learn of so many of those at once (``prefetch.call_at``): then it is called, by
              `Driver.poke`, once for all of them

So a handler that has ended wakes nobody: the coordinator learns of it with the next message, or when it is called.
`next_timeout` looks at ``ended`` as well, so that a call which came before the coordinator waits is not missed.

Keep-alive
----------
The server gives a message to another reader when it was not acknowledged for ``ack_wait``, or for the entry of
``backoff`` that belongs to the attempt. A third of that time after the message was taken, and again after each further
third, the server is told that it is in progress: so two of these may be lost. What waits for its handler is kept alive
as what a handler has. It ends ``keep_alive`` seconds after the handler has begun, or after the message was taken when
no handler has got to it for so long. A message that could not be kept alive in time, since the process was stopped or
the connection was away, is not begun any more: somebody else has it (`is_fresh`).

Being away
----------
The time of a message is counted from when it was taken. That is right as long as somebody takes what comes. When the
process was stopped, or its event loop stood still, messages lie in the system meanwhile, and some of them twice: the
server has delivered them again, to the same reader. Nobody can see how old they are.

    the last look ─────────── nothing ran ────────────▶ the next look ──CatchUp──▶ the server ──▶ caught up
         └── what is taken until then may have come at any time since the last look ──────────────────┘

So as long as something is asked for, the machine looks a third of the server's wait after the last time; and when it
finds that half of it has passed, it was *away*. Then what it takes counts as received at the last look before, until it
has *caught up*: that is told by the answer to a `CatchUp`, behind all that the server had sent. A message that may be
as old as the wait is not begun, and comes again; of one that may be older than a third of it the server is told that it
is in progress. One whose last attempt this is is begun in any case, since nobody else gets it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from .._calls.machine import CatchUp, Subscribe, Want
from .._calls.operation import ApiCall, Publish
from .._jetstream.acknowledge import IN_PROGRESS, Acknowledgeable
from .._jetstream.errors import NotJetStreamMessageError
from .._session.marks import PublishRefused
from .._session.subscription import MessageT
from ..errors import NATSError
from .consume import Consume
from .options import ConsumeOptions
from .prefetch import Prefetch
from .warning import ConsumerWarning

__all__ = ["Work"]

ItemT = TypeVar("ItemT", bound=Acknowledgeable)

DEFAULT_ACK_WAIT: Final = 30.0
"""Seconds, what servers take. For a consumer of which nothing could be learnt."""
PARTS: Final = 3
"""Of the time that the server waits; with each of them over it is told once."""
AWAY: Final = 1.5
"""Of such a part: when nobody has looked for so much longer, or more, the process was stopped. A look that is a little
late on a busy machine is none."""
SHORTEST_LOOK: Final = 0.005
"""Seconds between two looks at what is held, however short the server waits."""
NEVER: Final = float("inf")


class Work(Generic[MessageT, ItemT]):
    """A `Machine` that gives messages to be handled, and keeps them alive meanwhile.

    ``options``, and what is not named here: as of `Consume`. ``concurrency``, ``prefetch``, ``max_ack_pending``: as of
    `Prefetch`. ``keep_alive``: seconds, 0: never. ``wait``: the shortest time for which the server waits for an
    acknowledgement (seconds), infinite where it expects none; None: not known.
    """

    __slots__ = (
        "_away_at",
        "_catching_up",
        "_held",
        "_keep_alive",
        "_look_at",
        "_max_deliver",
        "_patience",
        "_reader",
        "_since",
        "_slack",
        "begun",
        "called",
        "ended",
        "items",
        "late",
        "prefetch",
        "wants",
        "warnings",
        "what",
    )

    def __init__(
        self,
        subject: str,
        options: ConsumeOptions,
        *,
        concurrency: int,
        keep_alive: float,
        prefetch: int | None,
        max_ack_pending: int,
        what: str,
        new_inbox: Callable[[], str],
        make: Callable[[MessageT, float], ItemT],
        now: float,
        info: ApiCall[object] | None = None,
        create: ApiCall[object] | None = None,
        wait: float | None = None,
    ) -> None:
        self._keep_alive = keep_alive
        self.prefetch = Prefetch(concurrency, prefetch, max_ack_pending, now=now)
        self._held: dict[int, tuple[ItemT, float]] = {}
        """Those that were given and have not ended, and when the server is to be told next that they are alive. By
        ``id``, here and below: a message that changes has no hash."""
        self._look_at = NEVER
        """When the first of them is due, at the earliest."""
        looks = max((DEFAULT_ACK_WAIT if wait is None else wait) / PARTS, SHORTEST_LOOK)
        self._patience = AWAY * looks
        """Seconds without a look after which it was away."""
        self._slack = self._patience - looks if looks < NEVER else 0.0
        """So much sooner it looks, while something is asked for."""
        self._away_at = NEVER
        """Whoever looks then, or later, was away."""
        self._since = NEVER
        """It was away, and has not caught up: what is taken now may have come since then."""
        self._catching_up = 0
        """The number of the last `CatchUp`."""
        self._max_deliver = options.max_deliver
        self.begun: dict[int, float] = {}
        self.ended: deque[ItemT] = deque()
        self.late: deque[ItemT] = deque()
        self.called = False
        self._reader: Consume[MessageT, ItemT] = Consume(
            subject,
            options,
            what=what,
            new_inbox=new_inbox,
            make=make,
            now=now,
            info=info,
            create=create,
            ages=False,
            demand=self.prefetch,
        )
        self.what = what
        self.items: deque[ItemT] = self._reader.items
        self.wants: deque[Want] = self._reader.wants
        self.warnings: deque[ConsumerWarning] = self._reader.warnings
        """What it has survived, the newest last. Whoever shows them takes them out."""
        if 0 < max_ack_pending < concurrency:
            text = (
                f"{self.what}: concurrency={concurrency}, but the consumer delivers no more than "
                f"max_ack_pending={max_ack_pending} messages at a time: the other handlers will have nothing to do"
            )
            self.warnings.append(ConsumerWarning("ack_limit", text))

    # --- the machine -------------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """It has ended: no further item will come but those that are there."""
        return self._reader.done

    @property
    def error(self) -> NATSError | None:
        """Why it has ended."""
        return self._reader.error

    @property
    def outstanding(self) -> int:
        """Messages that were asked for and not taken yet."""
        return self._reader.outstanding

    @property
    def outlived(self) -> int:
        """Messages that were not handed out, since the server has given them to another reader."""
        return self._reader.outlived

    def receive(self, message: MessageT, *, now: float) -> None:
        """A message of the consumer, or a status."""
        if self.ended:
            self._take_ended(now)
        reader = self._reader
        if now >= self._away_at:
            self._was_away()
        self._away_at = now + self._patience  # something is asked for, or was
        if message.reply is None:
            reader.receive(message, now=now)
            return
        items = self.items
        before = len(items)
        self.prefetch.held += 1  # before it is counted off by what was asked for: the sum must not fall in between
        reader.receive(message, now=now)
        if len(items) == before:
            self.prefetch.held -= 1
            if not reader.done:
                reader.refill(now)  # its place is free, and nothing else may ever come that sees it
            return
        item = items[-1]
        if self._since < now:
            item.received = self._since
        due = item.received + self._part(item) if self._keep_alive else NEVER
        self._held[id(item)] = item, due
        if due < self._look_at:
            self._look_at = due

    def connection_replaced(self, *, now: float) -> None:
        """As of `Consume`; what is held stays what it is, since acknowledgements count on any connection."""
        self._reader.connection_replaced(now=now)
        self._since = NEVER
        self._looked(now)

    def caught_up(self, number: int, *, now: float) -> None:
        """What comes from now on was sent since the last time that it was away."""
        if number == self._catching_up:
            self._since = NEVER
        self._looked(now)

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """As of `Consume`."""
        self._reader.publish_refused(refused, now=now)

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """As of `Consume`."""
        self._reader.answered(api, answer, now=now)
        self._looked(now)

    def next_timeout(self) -> float | None:
        """When something is overdue, or messages have ended that nobody has looked at."""
        if len(self.ended) >= self.prefetch.call_at:
            return 0.0
        due = self._reader.next_timeout()
        look_at = min(self._look_at, self._away_at - self._slack)
        if due is None or look_at < due:
            return None if look_at == NEVER else look_at
        return due

    def handle_timeout(self, *, now: float) -> None:
        """Learn what has ended, keep alive what has not; and as of `Consume`."""
        self._take_ended(now)
        for item in self.overdue(now):
            self.wants.append(Publish(item.ack_subject(), IN_PROGRESS))
        self._reader.handle_timeout(now=now)
        self._looked(now)

    # --- what is held ------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When `overdue` has something, at the earliest."""
        return self._look_at

    def is_fresh(self, item: ItemT, now: float) -> bool:
        """Whether it may begin: the server has not given it to anybody else by now. By any thread."""
        part = self._part(item)
        if now < item.received + part or self._is_last_attempt(item):
            return True
        due = item.received + part
        if self._keep_alive:
            _, due = self._held.get(id(item), (item, NEVER))
        return now < due + (PARTS - 1) * part

    def overdue(self, now: float) -> Iterator[ItemT]:
        """Those of which the server is to be told that they are in progress."""
        if now < self._look_at:
            return
        held, begun = self._held, self.begun
        first = NEVER
        for place, (item, due) in held.items():
            if due <= now:
                part = self._part(item)
                since = begun.get(place, item.received)
                if item.settled or now - since >= self._keep_alive:
                    due = NEVER
                elif now >= due + (PARTS - 1) * part and place not in begun:
                    continue  # too late; it stays due, so that it is not begun
                else:
                    due = now + part
                    yield item
                held[place] = item, due
            if due < first:
                first = due
        self._look_at = first if first == NEVER else max(first, now + SHORTEST_LOOK)

    def look(self, now: float) -> None:
        """Learn what has ended, when nobody drives the machine any more."""
        while self.ended:
            self._held.pop(id(self.ended.popleft()), None)

    def _looked(self, now: float) -> None:
        """At the end of all that the driver calls, since it may begin another generation of requests."""
        if now >= self._away_at:
            self._was_away()
        wants = self.wants
        if wants and isinstance(wants[0], Subscribe):
            self._since = NEVER  # nothing of what was asked for before is taken any more
        self._away_at = now + self._patience if self._reader.outstanding else NEVER

    def _was_away(self) -> None:
        self._since = min(self._since, self._away_at - self._patience)
        self._catching_up += 1
        self.wants.append(CatchUp(self._catching_up))

    def _is_last_attempt(self, item: ItemT) -> bool:
        """Nobody else gets it any more."""
        try:
            return 0 < self._max_deliver <= item.metadata.num_delivered
        except NotJetStreamMessageError:
            return False

    def _part(self, item: ItemT) -> float:
        delivery = item.delivery
        if not delivery.acknowledged:
            return NEVER
        wait = delivery.wait(item.metadata.num_delivered) if delivery.backoff else delivery.ack_wait
        return (DEFAULT_ACK_WAIT if wait is None else wait) / PARTS

    def _take_ended(self, now: float) -> None:
        self.called = False  # before it looks: what ends from now on calls again
        ended, held, reader = self.ended, self._held, self._reader
        while self.late:
            self.late.popleft()
            reader.too_old()
        count = len(ended)
        for _ in range(count):
            held.pop(id(ended.popleft()), None)
        self.prefetch.ended(count)
        if not reader.done:
            reader.refill(now)
