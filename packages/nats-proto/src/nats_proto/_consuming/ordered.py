"""Reading a stream in order, without a hole and without a double, whatever becomes of the consumer (ADR-17).

Theory of operation
-------------------
The reader has a consumer of its own, in memory and without acknowledgements, and reads it as `Consume` does. The
consumer counts what it delivers. Each message has to have the next number; else something was lost on the way, and the
consumer is given up: another one is made that begins behind the last message that was *handed over*.

    MAKING ──the consumer was made──▶ READING ──a gap, silence, it is gone, nobody answers──▶ MAKING
    both ──the stream is gone, no permission, what the server never takes──▶ ENDED

A message counts when it is received, which is when the driver gives it: what lies unread in the queue was not counted.
So a reader that is slow makes no hole, whatever is dropped behind its back. It asks for less meanwhile, as `Consume`
does, and is no reason to make a new consumer.

How consumers are made one after another, and deleted, is told in `ordered_making`.

With a new connection another consumer is made, as soon as all is read that the old connection has brought. What was on
its way then is lost, and not every loss can be told by the numbers: a server that was killed makes the consumer anew,
which counts from 1 again, and may come to the next number behind a hole.

Where the messages that were lost are the last ones, no other comes by which they are missed. Then the consumer's
heart-beats tell: each says the number of the last message that was delivered.

What ends it: its stream does not exist, or is another one than before; no permission; a configuration that the server
refuses. The very first consumer has to be made within the time of a call, else the error is raised; later ones are
tried for ever, or ``max_attempts`` times in a row. Everything that is survived is told as a warning.

For who builds upon it: `initial_pending` are the messages that the first consumer had before it, `pending` those behind
the last message that was given; `sequence` is that message's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from .._calls.machine import Subscribe, Want
from .._calls.operation import ApiCall, Publish
from .._jetstream.consumer_info import ConsumerInfo
from .._jetstream.errors import (
    ConsumerDeletedError,
    ConsumerNotFoundError,
    NotJetStreamMessageError,
)
from .._jetstream.metadata import parse_ack_subject
from .._session.marks import PublishRefused
from .._session.subscription import MessageT
from .._wire.twin import Deliveries
from ..errors import NATSError
from .consume import Consume
from .demand import Demand
from .options import ConsumeOptions
from .ordered_calls import OrderedCalls
from .ordered_making import NEVER, Making
from .statuses import last_delivered
from .warning import MAX_WARNINGS, ConsumerWarning, WarningKind

__all__ = ["Ordered"]

ItemT = TypeVar("ItemT")

SETTLING: Final = 2.0
"""Seconds after its creation in which the servers of a cluster may not know yet where the consumer is."""
MAX_SEQUENCE: Final = 2**63 - 1
SAME_TIME: Final = 1_000_000_000
"""Nanoseconds that the clocks of a cluster's servers may differ."""


class Ordered(Generic[MessageT, ItemT]):
    """A `Machine` that gives a stream's messages in order. ``now`` is an absolute time (seconds).

    ``make`` makes an item of a message and the time. ``after``: begin behind this sequence, in place of the start that
    the configuration says. ``max_attempts``: so many creations in a row may fail. ``demand``: as of `Consume`.
    """

    __slots__ = (
        "_before",
        "_calls",
        "_demand",
        "_doubt_at",
        "_inner",
        "_make",
        "_making",
        "_options",
        "_start",
        "account",
        "done",
        "error",
        "info",
        "initial_pending",
        "items",
        "rebuilt",
        "wants",
        "warnings",
        "what",
    )

    def __init__(
        self,
        calls: OrderedCalls,
        options: ConsumeOptions,
        *,
        make: Callable[[MessageT, float], ItemT],
        now: float,
        after: int | None = None,
        max_attempts: int | None = None,
        demand: Demand | None = None,
    ) -> None:
        if options.limit is not None or options.on_missing != "raise" or options.priority is not None:
            raise ValueError("an ordered consumer has no limit, no priority group, and recreates what is missing")
        self._calls = calls
        self._options = options
        self._make = make
        self._demand = demand
        self.what = calls.what
        self._start: int | None = None
        """The first sequence of the first consumer, when it is known and means the same as what the user has said."""
        self._doubt_at = NEVER
        """When the consumer is given up unless there is a sign of life."""
        self._inner: Consume[MessageT, ItemT] | None = None
        self._before: list[str] = []
        """What followed the prefix, of the last message of earlier consumers."""
        self.info: ConsumerInfo | None = None
        """Of the consumer, as it was made."""
        self.initial_pending: int | None = None
        """Messages that the first consumer had before it; None until it is made."""
        self.rebuilt = 0
        """How often the consumer was made anew."""
        self.items: deque[ItemT] = deque()
        self.wants: deque[Want] = deque()
        self.account: Deliveries[MessageT, ItemT] = Deliveries(make, self.items, self.wants)
        """Whoever drives the machine may take messages there, past `receive`, which has to see what it leaves. It knows
        how the reply subjects of the consumer's messages begin, and which message is the next one."""
        self.account.prefix = ""
        self.account.sequence = 0 if after is None else after
        self.warnings: deque[ConsumerWarning] = deque(maxlen=MAX_WARNINGS)
        """What it has survived, the newest last. Whoever shows them takes them out."""
        self.done = False
        self.error: NATSError | None = None
        self._making = Making(
            calls,
            self.wants,
            start=self._next_place,
            expires=options.expires,
            max_attempts=max_attempts,
            failed=lambda error: self._warn("not_created", f"the consumer could not be made: {error}", error),
            now=now,
        )

    @property
    def sequence(self) -> int:
        """Of the last message that was given; 0 before the first."""
        return self.account.sequence

    @property
    def _prefix(self) -> str:
        return self.account.prefix or ""

    @property
    def _expected(self) -> int:
        return self.account.expected

    @property
    def _parts(self) -> list[str]:
        """What followed the prefix, of the last message that was given."""
        newest = self.account.newest
        return self._before if newest is None else newest[len(self._prefix) :].split(".", 5)

    @property
    def pending(self) -> int | None:
        """Messages that were behind the last one when it was delivered; None before the first message."""
        told = self.told
        return None if told is None else told[1]

    @property
    def told(self) -> tuple[int, int] | None:
        """When the last message was stored, in nanoseconds since 1970, and how many were behind it; None before it."""
        try:
            _, _, _, stored, pending, *_ = self._parts
        except ValueError:
            return None
        if stored.isdecimal() and pending.isdecimal() and len(stored) <= 20 and len(pending) <= 20:
            return int(stored), int(pending)
        return None

    @property
    def reading(self) -> bool:
        """A consumer is there, as far as is known; else it is made, or will be."""
        return self._inner is not None

    def leave(self) -> list[Publish]:
        """What deletes the consumers that may be there, when nobody reads any more: to be published, no answer comes.

        Changes nothing, and may be called at any time.
        """
        return self._making.leave(reading=self._inner is not None)

    # --- what comes

    def receive(self, message: MessageT, *, now: float) -> None:
        """A message of the consumer, or a status."""
        inner = self._inner
        if inner is None:
            return  # of a consumer that was given up
        reply = message.reply
        if reply is None:
            inner.receive(message, now=now)
            status = message.status
            if status is not None and status.code == 100:
                self._doubt_at = NEVER
            self._look_after(inner, now)
            if self._inner is inner:
                self._compare(last_delivered(message), now)
            return
        account = self.account
        prefix = account.prefix or ""
        if reply.startswith(prefix):
            parts = reply[len(prefix) :].split(".", 5)
            try:
                if int(parts[2]) == account.expected and account.sequence < (sequence := int(parts[1])) <= MAX_SEQUENCE:
                    account.expected += 1
                    account.sequence = sequence
                    inner.receive(message, now=now)
                    if inner.wants:
                        self._look_after(inner, now)
                    return
            except (ValueError, IndexError):
                return  # no consumer has delivered it
        self._out_of_order(message, reply, now)

    def connection_replaced(self, *, now: float) -> None:
        """What was asked on the way is asked again; a consumer is given up once all is read that it has sent."""
        inner = self._inner
        if inner is not None:
            inner.connection_replaced(now=now)
            self._look_after(inner, now)
        elif not self.done:
            self._forget_inner()
            self._making.connection_replaced(now)

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """As of `Consume`."""
        if self._inner is not None:
            self._inner.publish_refused(refused, now=now)
            self._look_after(self._inner, now)

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """What a creation, or a deletion, came to."""
        if self.done:
            return
        made = self._making.answered(api, answer, now)
        if isinstance(made, ConsumerInfo):
            self._created(made, now)
        elif made is not None:
            self._end(made)
        elif self._inner is not None:
            self._inner.answered(api, answer, now=now)
            self._look_after(self._inner, now)

    def next_timeout(self) -> float | None:
        """When something is overdue, or a pause is over."""
        if self.done:
            return None
        due = min(self._making.next_timeout(), self._doubt_at)
        inner = None if self._inner is None else self._inner.next_timeout()
        if inner is not None and inner < due:
            due = inner
        return None if due == NEVER else due

    def handle_timeout(self, *, now: float) -> None:
        """Go on after a pause; see whether the consumer lives."""
        if self.done:
            return
        self._making.handle_timeout(now)
        inner = self._inner
        if inner is None:
            return
        if now >= self._doubt_at:
            self._doubt_at = NEVER
            if self._expected == 1:
                self._reset(now)
                return
        inner.handle_timeout(now=now)
        self._look_after(inner, now)

    # --- reading

    def _compare(self, last: int | None, now: float) -> None:
        """What a heart-beat says that was delivered. It comes behind all of that."""
        if last is not None and last >= self._expected:
            text = f"messages {self._expected} to {last} of consumer {self._making.name!r} were lost"
            self._warn("gap", f"{text}: reading again behind sequence {self.sequence}")
            self._reset(now)

    def _out_of_order(self, message: MessageT, reply: str, now: float) -> None:
        """A message that is not the next one, or whose reply subject looks otherwise than was expected."""
        try:
            metadata = parse_ack_subject(reply)
        except NotJetStreamMessageError:
            return  # no consumer has delivered it
        if metadata.consumer != self._making.name:
            return
        prefix = _prefix_of(reply, second_form=not reply.startswith(f"$JS.ACK.{metadata.stream}.{metadata.consumer}."))
        if prefix != self._prefix:
            self.account.prefix = prefix
            self.receive(message, now=now)
            return
        number = metadata.consumer_sequence
        if number > self._expected:
            text = f"message {self._expected} of consumer {self._making.name!r} is missing, {number} came"
            self._warn("gap", f"{text}: reading again behind sequence {self.sequence}")
            self._reset(now)
        elif number == self._expected:
            self._again(message, metadata.timestamp.nanoseconds, now)
        elif reply != self.account.newest:
            # A server that was killed makes the consumer anew, which knows nothing: it begins where it began at first,
            # with number 1, and would come to the number that is expected with what is behind a hole.
            text = f"message {number} of consumer {self._making.name!r} came again: a server has made it anew"
            self._warn("gap", f"{text}: reading again behind sequence {self.sequence}")
            self._reset(now)

    def _again(self, message: MessageT, nanoseconds: int, now: float) -> None:
        """The consumer began too early: one whose server is behind the others can. What the user has is left out."""
        told = self.told
        if told is not None and nanoseconds > told[0] + SAME_TIME:
            self._end(
                ConsumerDeletedError(
                    f"{self.what}: the stream was deleted and made anew: its sequences begin again, and message "
                    f"{self.sequence} was given already"
                )
            )
            return
        account = self.account
        account.expected += 1
        inner = self._inner
        if inner is not None:
            newest = account.newest
            inner.receive(message, now=now)
            account.newest = newest  # the last one that was given
            self.items.pop()
            self._look_after(inner, now)

    def _look_after(self, inner: Consume[MessageT, ItemT], now: float) -> None:
        """Take over what the reader of the consumer wants, and what it tells."""
        lost = False
        while inner.warnings:
            warning = inner.warnings.popleft()
            self.warnings.append(warning)
            if warning.kind == "no_heartbeat":
                lost = True
            elif warning.kind == "no_responders":
                # A cluster may not know yet where the new consumer is. Else it is gone, or its server is.
                if self._expected > 1 or now >= self._making.created_at + SETTLING:
                    lost = True
                else:
                    self._doubt_at = self._making.created_at + SETTLING
        if inner.done:
            if isinstance(inner.error, (ConsumerDeletedError, ConsumerNotFoundError)):
                self._warn("consumer_missing", "the consumer is gone", inner.error)
                self._reset(now, gone=True)
            else:
                self._end(inner.error)
        elif lost:
            self._reset(now)
        elif inner.wants and isinstance(inner.wants[0], Subscribe):
            self._reset(now, replaced=True)  # all is read that came before the new connection
        else:
            self._take_over(inner)

    def _take_over(self, inner: Consume[MessageT, ItemT]) -> None:
        wants = inner.wants
        while wants:
            want = wants.popleft()
            if isinstance(want, Subscribe):
                # Nobody else waits for what is not read: it is handed back to nobody.
                want = Subscribe(want.subject, want.max_pending_msgs, want.max_pending_bytes, asks=want.asks)
            self.wants.append(want)

    # --- another consumer

    def _reset(self, now: float, *, gone: bool = False, replaced: bool = False) -> None:
        """Give the consumer up. ``gone``: there is none. ``replaced``: it may be as good as ever, the connection is not
        the one that it was read on."""
        self._forget_inner()
        self._making.give_up(now, gone=gone, replaced=replaced)

    def _forget_inner(self) -> None:
        self._inner = None
        self.account.plain = False  # nothing is taken before there is another consumer
        self._doubt_at = NEVER

    def _next_place(self) -> int | None:
        """The sequence with which the next consumer begins."""
        return self.sequence + 1 if self.sequence else self._start

    def _created(self, info: ConsumerInfo, now: float) -> None:
        first = self.initial_pending is None
        self.info = info
        self._before = self._parts
        account = self.account
        account.expected = 1
        account.prefix = f"$JS.ACK.{self._calls.stream}.{self._making.name}."
        if first:
            self.initial_pending = info.num_pending
            # Of what is last now another consumer would find another one. What the others mean is a place. Where there
            # is nothing yet, the place is where the first message will come.
            last = self._calls.config.deliver_policy == "last_per_subject"
            if info.delivered is not None and not (last and info.num_pending):
                self._start = info.delivered.stream_seq + 1
        else:
            self.rebuilt += 1
            behind = f"behind sequence {self.sequence}" if self.sequence else "from the start"
            self._warn("consumer_recreated", f"consumer {self._making.name!r} was made, reading goes on {behind}")
        inner: Consume[MessageT, ItemT] = Consume(
            self._calls.pull_subject(self._making.name),
            self._options,
            what=self.what,
            new_inbox=self._calls.new_inbox,
            make=self._make,
            now=now,
            account=account,
            demand=self._demand,
        )
        inner.items = self.items
        self._inner = inner
        # What waits to be done belongs to the inbox that is left, and answers would go there.
        self.wants.clear()
        self._making.resubscribed(now)
        self._take_over(inner)

    # --- the end

    def _warn(self, kind: WarningKind, text: str, error: NATSError | None = None) -> None:
        self.warnings.append(ConsumerWarning(kind, f"{self.what}: {text}", error))

    def _end(self, error: NATSError | None) -> None:
        self.done = True
        self.error = error
        self.wants.clear()


def _prefix_of(reply: str, *, second_form: bool) -> str:
    tokens = reply.split(".", 6 if second_form else 4)
    return ".".join([*tokens[:-1], ""])
