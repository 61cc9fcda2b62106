"""Handing a consumer's messages to handlers that run beside the reader: how many are held, and kept alive.

Theory of operation
-------------------
    the server ──▶ asked for ──▶ given ──▶ begun ──▶ ended
                   └─ Consume ─┘ └────── held ──────┘

Whoever drives the machine (the coordinator, a thread or a task) takes its items and gives them to handlers, which run
in others. A message is *held* from the moment in which the machine has given it until its handler has ended, whatever
that came to. Held ones and those that are asked for are together never more than the *prefetch*: so a reader holds back
no message from others that they could handle sooner. It is twice the concurrency at first, so that there is one message
in reserve for each handler. Handlers that need less time than a request for messages does would wait for those; so the
prefetch grows, to twice itself at most with each request, up to what was handled in `AHEAD` seconds. It shrinks as soon
as handlers get slower. More are asked for when half of the reserve is used up.

Threads
-------
The machine belongs to the coordinator. Others have these, each of which is atomic by itself:

    begun     the handler's thread puts a message's ``id`` in with the time, and takes it out when the handler is over
    ended     it appends the message when all is done that is to be done for it
    late      before that, when the message was not begun, since somebody else has it
    call_at   how many of those the coordinator wants to learn of at once: then it is called, by `Driver.poke`, once
              for all of them (``called``)

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
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from .._calls.operation import ApiCall, Publish
from .._jetstream.acknowledge import IN_PROGRESS, Acknowledgeable
from .._session.subscription import MessageT
from .consume import Consume
from .options import ConsumeOptions
from .pulls import PullRequest
from .statuses import PullStatus
from .warning import ConsumerWarning

__all__ = ["Work"]

ItemT = TypeVar("ItemT", bound=Acknowledgeable)

AHEAD: Final = 0.05
"""Seconds of work that are asked for ahead: several times what a request for messages takes."""
MAX_PREFETCH: Final = 1000
"""Messages. As many may wait for their acknowledgement at a consumer, when its configuration says nothing."""
DEFAULT_ACK_WAIT: Final = 30.0
"""Seconds, what servers take. For a consumer of which nothing could be learnt."""
PARTS: Final = 3
"""Of the time that the server waits; with each of them over it is told once."""
SHORTEST_LOOK: Final = 0.005
"""Seconds between two looks at what is held, however short the server waits."""
NEVER: Final = float("inf")


class Work(Consume[MessageT, ItemT]):
    """A `Machine` that gives messages to be handled, and keeps them alive meanwhile.

    ``options``: as of `Consume`, with ``max_messages`` None for a prefetch that follows the handlers.
    ``concurrency``: handlers at once. ``keep_alive``: seconds, 0: never. ``max_ack_pending``: of the consumer, 0 or
    less when it is not known or there is none.
    """

    __slots__ = (
        "_ahead_of",
        "_concurrency",
        "_held",
        "_keep_alive",
        "_look_at",
        "_most",
        "_since",
        "_since_ended",
        "begun",
        "call_at",
        "called",
        "ended",
        "held",
        "late",
        "prefetch",
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
    ) -> None:
        self._concurrency = concurrency
        self._keep_alive = keep_alive
        self._most = prefetch or max(MAX_PREFETCH, 2 * concurrency)
        if max_ack_pending > 0:
            self._most = min(self._most, max_ack_pending)  # more are not delivered anyway
        self.prefetch = min(self._most, prefetch or 2 * concurrency)
        """Messages that are asked for or held, at most."""
        self._held: dict[int, tuple[ItemT, float]] = {}
        """Those that were given and have not ended, and when the server is to be told next that they are alive. By
        ``id``, here and below: a message that changes has no hash."""
        self.held = 0
        """How many they are, as far as the coordinator has looked."""
        self._look_at = NEVER
        """When the first of them is due, at the earliest."""
        self._since = now
        self._since_ended = 0
        """How many have ended since then: how quick the handlers are."""
        self.begun: dict[int, float] = {}
        self.ended: deque[ItemT] = deque()
        self.late: deque[ItemT] = deque()
        self.call_at = 1
        self.called = False
        super().__init__(
            subject, options, what=what, new_inbox=new_inbox, make=make, now=now, info=info, create=create, ages=False
        )
        if 0 < max_ack_pending < concurrency:
            text = (
                f"{self.what}: concurrency={concurrency}, but the consumer delivers no more than "
                f"max_ack_pending={max_ack_pending} messages at a time: the other handlers will have nothing to do"
            )
            self.warnings.append(ConsumerWarning("ack_limit", text))

    # --- the machine -------------------------------------------------------------------------------------------------

    def receive(self, message: MessageT, *, now: float) -> None:
        """A message of the consumer, or a status."""
        if self.ended:
            self._take_ended(now)
        if message.reply is None:
            super().receive(message, now=now)
            return
        items = self.items
        before = len(items)
        self.held += 1  # before it is counted off by what was asked for: the sum must not fall in between
        super().receive(message, now=now)
        if len(items) == before:
            self.held -= 1
            if not self.done:
                self._refill(now)  # its place is free, and nothing else may ever come that sees it
            return
        item = items[-1]
        due = now + self._part(item) if self._keep_alive else NEVER
        self._held[id(item)] = item, due
        if due < self._look_at:
            self._look_at = due

    def next_timeout(self) -> float | None:
        """When something is overdue, or messages have ended that nobody has looked at."""
        if len(self.ended) >= self.call_at:
            return 0.0
        due = super().next_timeout()
        look_at = self._look_at
        if due is None or look_at < due:
            return None if look_at == NEVER else look_at
        return due

    def handle_timeout(self, *, now: float) -> None:
        """Learn what has ended, keep alive what has not; and as of `Consume`."""
        self._take_ended(now)
        for item in self.overdue(now):
            self.wants.append(Publish(item.ack_subject(), IN_PROGRESS))
        super().handle_timeout(now=now)

    # --- what is held ------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When `overdue` has something, at the earliest."""
        return self._look_at

    def is_fresh(self, item: ItemT, now: float) -> bool:
        """Whether it may begin: the server has not given it to anybody else by now. By any thread."""
        part = self._part(item)
        if now < item.received + part:
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

    def _part(self, item: ItemT) -> float:
        delivery = item.delivery
        if not delivery.acknowledged:
            return NEVER
        wait = delivery.wait(item.metadata.num_delivered) if delivery.backoff else delivery.ack_wait
        return (DEFAULT_ACK_WAIT if wait is None else wait) / PARTS

    # --- how many are asked for --------------------------------------------------------------------------------------

    @property
    def _reserve(self) -> int:
        """Of these half may be used up before more are asked for."""
        return max(1, self.prefetch - self._concurrency)

    def _take_ended(self, now: float) -> None:
        self.called = False  # before it looks: what ends from now on calls again
        ended, held = self.ended, self._held
        while self.late:
            self.late.popleft()
            self._too_old()
        count = len(ended)
        for _ in range(count):
            held.pop(id(ended.popleft()), None)
        self.held -= count
        self._since_ended += count
        self.call_at = 1
        if not self.done:
            self._refill(now)

    def _refill(self, now: float) -> None:
        """Ask for what is missing, once that is half of the reserve."""
        if self._pulls.messages <= 0:
            self._pulls.write_off()  # all that was asked for has come: there is nothing to hear of it any more
        missing = self.prefetch - self.held - self._pulls.messages
        enough = (self._reserve + 1) // 2
        if missing >= enough:
            if self._since_ended:
                self._adapt(now)
            self._max_messages = self.prefetch - self.held
            self._threshold = max(0, self._max_messages)
            super()._refill(now)
            missing = self.prefetch - self.held - self._pulls.messages
            enough = (self._reserve + 1) // 2
        self._low = min(self._low, 0)  # only handlers that end make more room
        self.call_at = max(1, enough - missing)

    def _adapt(self, now: float) -> None:
        """As many as were handled in `AHEAD` seconds, lately."""
        elapsed = now - self._since
        handled = int(min(self._since_ended * AHEAD / elapsed, 1e9)) if elapsed > 0.0 else 2 * self.prefetch
        self._since, self._since_ended = now, 0
        wanted = max(2 * self._concurrency, min(handled, 2 * self.prefetch))
        self.prefetch = min(wanted, self._most)

    def _lower(self, request: PullRequest, status: PullStatus, now: float) -> None:
        """The consumer does not allow that much in one request."""
        if status.limit_name == "max_batch" and 1 <= (status.limit or 0) < request.batch:
            self._most = int(status.limit or 0)
            self.prefetch = min(self.prefetch, self._most)
        super()._lower(request, status, now)
