"""Reading a stream in order, without a hole and without a double, whatever becomes of the consumer (ADR-17).

Theory of operation
-------------------
The reader has a consumer of its own, in memory and without acknowledgements, and reads it as `Consume` does. The
consumer counts what it delivers. Each message has to have the next number; else something was lost on the way, and the
consumer is given up: another one is made that begins behind the last message that was *handed over*.

    BEGINNING ──the consumer was made──▶ READING ──a gap, silence, it is gone, nobody answers──▶ PAUSED
        ▲  ╰──it could not be made──────────────────────────────────────────────────────────────▶ │
        ╰────────────────────────────────── the pause is over ─────────────────────────────────────╯
    all ──the stream is gone, no permission, what the server never takes──▶ ENDED

A message counts when it is received, which is when the driver gives it: what lies unread in the queue was not counted.
So a reader that is slow makes no hole, whatever is dropped behind its back. It asks for less meanwhile, as `Consume`
does, and is no reason to make a new consumer.

One rebuild at a time. The old consumer is deleted first; only when that was not confirmed, and just one is left like
this, the next one is made all the same. So never more than two of a reader exist, however often it is disturbed. A
deletion is asked for again until it is confirmed, or until the server must have done it by itself. A creation whose
connection was lost is asked for again under the same name, which makes no second one. One that was not answered in time
is given up as a consumer is: a cluster may have assigned the name to a server that has just died, and then answers
nothing to this name until that server is back, while another name goes to a server that lives.

The first rebuild follows nearly at once. Each further one waits for twice as long, from 1 to 30 seconds, and no two
readers equally long. Only a minute of reading ends that: else a fleet of readers, all disturbed by the same thing,
would keep a server busy with nothing but the making of consumers.

A new connection makes no new consumer: the old one is asked for messages again. If it is gone, nobody answers; if
messages were lost with the old connection, the next one has not the next number.

Whoever may not ask for messages is told so by nothing that belongs to the consumer. So when one was given up without
any sign of life, the next is also asked something that has an answer (`probe`): a missing permission is told then.

What ends it: its stream does not exist, or is another one than before; no permission; a configuration that the server
refuses. The very first consumer has to be made within the time of a call, else the error is raised; later ones are
tried for ever, or ``max_attempts`` times in a row. Everything that is survived is told as a warning.

For who builds upon it: `initial_pending` are the messages that the first consumer had before it, `pending` those behind
the last message that was given; `sequence` is that message's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Generic, TypeVar

from .._calls.machine import Ask, Subscribe, Want
from .._calls.operation import ApiCall, Publish
from .._jetstream.consumer_info import ConsumerInfo
from .._jetstream.errors import (
    ConsumerDeletedError,
    ConsumerExistsError,
    ConsumerNotFoundError,
    NotJetStreamMessageError,
    StreamNotFoundError,
)
from .._jetstream.metadata import parse_ack_subject
from .._session.subscription import MessageT
from ..errors import NATSError, NATSTimeoutError, NoRespondersError, PermissionsError
from .consume import Consume
from .options import ConsumeOptions
from .ordered_backoff import Backoff, is_final, is_final_at_first
from .ordered_calls import OrderedCalls
from .warning import MAX_WARNINGS, ConsumerWarning, WarningKind

__all__ = ["Ordered"]

ItemT = TypeVar("ItemT")

SETTLING: Final = 2.0
"""Seconds after its creation in which the servers of a cluster may not know yet where the consumer is."""
DELETE_TIMEOUT: Final = 2.0
DELETE_PAUSE: Final = 5.0
"""Seconds between two attempts to delete, while the next consumer is being read."""
MAX_RETIRED: Final = 1
"""Consumers whose deletion was not confirmed, when the next one is made."""
MAX_SEQUENCE: Final = 2**63 - 1
SAME_TIME: Final = 1_000_000_000
"""Nanoseconds that the clocks of a cluster's servers may differ."""
NEVER: Final = float("inf")


class _State(Enum):
    BEGINNING = auto()
    READING = auto()
    PAUSED = auto()
    ENDED = auto()


class Ordered(Generic[MessageT, ItemT]):
    """A `Machine` that gives a stream's messages in order. ``now`` is an absolute time (seconds).

    ``make`` makes an item of a message and the time. ``after``: begin behind this sequence, in place of the start that
    the configuration says. ``max_attempts``: so many creations in a row may fail.
    """

    __slots__ = (
        "_attempts",
        "_backoff",
        "_beaten",
        "_began",
        "_calls",
        "_created_at",
        "_creating",
        "_delete_at",
        "_deleting",
        "_doubt_at",
        "_expected",
        "_inner",
        "_make",
        "_max_attempts",
        "_mute",
        "_name",
        "_options",
        "_parts",
        "_prefix",
        "_probing",
        "_resume",
        "_retired",
        "_serial",
        "_start",
        "_state",
        "done",
        "error",
        "info",
        "initial_pending",
        "items",
        "rebuilt",
        "sequence",
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
    ) -> None:
        if options.limit is not None or options.on_missing != "raise" or options.priority is not None:
            raise ValueError("an ordered consumer has no limit, no priority group, and recreates what is missing")
        self._calls = calls
        self._options = options
        self._make = make
        self._max_attempts = max_attempts
        self.what = calls.what
        self._began = now
        self._state = _State.BEGINNING
        self._serial = 1
        self._name = calls.name(1)
        self._start: int | None = None
        """The first sequence of the first consumer, when it is known and means the same as what the user has said."""
        self._retired: dict[str, float] = {}
        """Consumers that are to be deleted, and when the server will have done so by itself."""
        self._creating: ApiCall[object] | None = None
        self._deleting: tuple[str, ApiCall[object]] | None = None
        self._delete_at = NEVER
        self._resume = NEVER
        self._doubt_at = NEVER
        """When the consumer is given up unless there is a sign of life."""
        self._backoff = Backoff(calls.rng)
        self._attempts = 0
        self._created_at = -NEVER
        self._inner: Consume[MessageT, ItemT] | None = None
        self._probing: ApiCall[object] | None = None
        self._beaten = False
        """The consumer has sent heart-beats."""
        self._mute = False
        """The consumer before this one was given up without any sign of life."""
        self._prefix = ""
        """How the reply subjects of the consumer's messages begin, up to the first number."""
        self._expected = 1
        self._parts: list[str] = []
        """What followed the prefix, of the last message."""
        self.sequence = 0 if after is None else after
        """Of the last message that was given; 0 before the first."""
        self.info: ConsumerInfo | None = None
        """Of the consumer, as it was made."""
        self.initial_pending: int | None = None
        """Messages that the first consumer had before it; None until it is made."""
        self.rebuilt = 0
        """How often the consumer was made anew."""
        self.items: deque[ItemT] = deque()
        self.wants: deque[Want] = deque()
        self.warnings: deque[ConsumerWarning] = deque(maxlen=MAX_WARNINGS)
        """What it has survived, the newest last. Whoever shows them takes them out."""
        self.done = False
        self.error: NATSError | None = None
        self._listen()
        self._create()

    @property
    def pending(self) -> int | None:
        """Messages that were behind the last one when it was delivered; None before the first message."""
        if not self._parts:
            return None
        text = self._parts[4]
        return int(text) if text.isdecimal() and len(text) <= 20 else None

    def leave(self) -> list[Publish]:
        """What deletes the consumers that may be there, when nobody reads any more: to be published, no answer comes.

        Changes nothing, and may be called at any time.
        """
        names = list(self._retired)
        if self._inner is not None or self._creating is not None:
            names.append(self._name)
        return [self._calls.forget(name) for name in names]

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
                self._beaten = True
            self._look_after(inner, now)
            return
        prefix = self._prefix
        if reply.startswith(prefix):
            parts = reply[len(prefix) :].split(".", 5)
            try:
                if int(parts[2]) == self._expected and self.sequence < (sequence := int(parts[1])) <= MAX_SEQUENCE:
                    self._expected += 1
                    self.sequence = sequence
                    self._parts = parts
                    inner.receive(message, now=now)
                    if inner.wants:
                        self._look_after(inner, now)
                    return
            except (ValueError, IndexError):
                return  # no consumer has delivered it
        self._out_of_order(message, reply, now)

    def connection_replaced(self, *, now: float) -> None:
        """The consumer may live on. What was asked on the way is asked again."""
        inner = self._inner
        if inner is not None:
            inner.connection_replaced(now=now)
            self._look_after(inner, now)
        elif self._state is not _State.ENDED:
            self._listen()
            if self._state is _State.BEGINNING:
                self._begin(now)
            else:
                self._delete()

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """What a creation, or a deletion, came to."""
        if self._state is _State.ENDED:
            return
        if self._deleting is not None and api is self._deleting[1]:
            self._deleted(self._deleting[0], answer, now)
        elif api is self._creating:
            self._creating = None
            if isinstance(answer, ConsumerInfo):
                self._created(answer, now)
            elif isinstance(answer, NATSError):
                self._not_created(answer, now)
        elif api is self._probing:
            self._probing = None
            if isinstance(answer, PermissionsError):
                self._end(answer)
        elif self._inner is not None:
            self._inner.answered(api, answer, now=now)
            self._look_after(self._inner, now)

    def next_timeout(self) -> float | None:
        """When something is overdue, or a pause is over."""
        if self.done:
            return None
        due = min(self._resume, self._delete_at, self._doubt_at)
        inner = None if self._inner is None else self._inner.next_timeout()
        if inner is not None and inner < due:
            due = inner
        return None if due == NEVER else due

    def handle_timeout(self, *, now: float) -> None:
        """Go on after a pause; see whether the consumer lives."""
        if self.done:
            return
        if now >= self._resume:
            self._resume = NEVER
            self._state = _State.BEGINNING
            self._begin(now)
        if now >= self._delete_at:
            self._delete_at = NEVER
            self._delete()
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

    def _out_of_order(self, message: MessageT, reply: str, now: float) -> None:
        """A message that is not the next one, or whose reply subject looks otherwise than was expected."""
        try:
            metadata = parse_ack_subject(reply)
        except NotJetStreamMessageError:
            return  # no consumer has delivered it
        if metadata.consumer != self._name:
            return
        prefix = _prefix_of(reply, second_form=not reply.startswith(f"$JS.ACK.{metadata.stream}.{metadata.consumer}."))
        if prefix != self._prefix:
            self._prefix = prefix
            self.receive(message, now=now)
            return
        number = metadata.consumer_sequence
        if number > self._expected:
            text = f"message {self._expected} of consumer {self._name!r} is missing, {number} came"
            self._warn("gap", f"{text}: reading again behind sequence {self.sequence}")
            self._reset(now)
        elif number == self._expected:
            self._again(message, metadata.timestamp.nanoseconds, now)

    def _again(self, message: MessageT, nanoseconds: int, now: float) -> None:
        """The consumer began too early: one whose server is behind the others can. What the user has is left out."""
        parts = self._parts
        if len(parts) > 3 and parts[3].isdecimal() and nanoseconds > int(parts[3][:20]) + SAME_TIME:
            self._end(
                ConsumerDeletedError(
                    f"{self.what}: the stream was deleted and made anew: its sequences begin again, and message "
                    f"{self.sequence} was given already"
                )
            )
            return
        self._expected += 1
        inner = self._inner
        if inner is not None:
            inner.receive(message, now=now)
            self.items.pop()
            self._look_after(inner, now)

    def _look_after(self, inner: Consume[MessageT, ItemT], now: float) -> None:
        """Take over what the reader of the consumer wants, and what it tells."""
        wants = inner.wants
        if wants and isinstance(wants[0], Subscribe):
            # What waits to be done belongs to the inbox that is left, and answers would go there.
            self.wants.clear()
            self._forget_calls(now)
        while wants:
            want = wants.popleft()
            if isinstance(want, Subscribe):
                # Nobody else waits for what is not read: it is handed back to nobody.
                want = Subscribe(want.subject, want.max_pending_msgs, want.max_pending_bytes)
            self.wants.append(want)
        lost = False
        while inner.warnings:
            warning = inner.warnings.popleft()
            self.warnings.append(warning)
            if warning.kind == "no_heartbeat":
                lost = True
            elif warning.kind == "no_responders":
                # A cluster may not know yet where the new consumer is. Else it is gone, or its server is.
                if self._expected > 1 or now >= self._created_at + SETTLING:
                    lost = True
                else:
                    self._doubt_at = self._created_at + SETTLING
        if inner.done:
            if isinstance(inner.error, (ConsumerDeletedError, ConsumerNotFoundError)):
                self._warn("consumer_missing", "the consumer is gone", inner.error)
                self._reset(now, gone=True)
            else:
                self._end(inner.error)
        elif lost:
            self._reset(now)

    # --- another consumer

    def _reset(self, now: float, *, gone: bool = False) -> None:
        """Give the consumer up."""
        if not gone:
            self._retire(now)
        self._mute = not gone and self._expected == 1 and not self._beaten
        self._backoff.was_read_for(now - self._created_at)
        self._serial += 1
        self._name = self._calls.name(self._serial)
        self._listen()
        self._delete()
        self._pause(now)

    def _retire(self, now: float) -> None:
        threshold = self._calls.config.inactive_threshold or 0.0
        self._retired[self._name] = now + float(threshold) + self._options.expires

    def _pause(self, now: float) -> None:
        """Before the next attempt."""
        self._state = _State.PAUSED
        self._resume = now + self._backoff.pause()

    def _listen(self) -> None:
        """Another inbox, for the answers. What the old one has, nobody will read."""
        self._inner = None
        self._creating = self._deleting = self._probing = None
        self._doubt_at = self._delete_at = NEVER
        self.wants.clear()
        self.wants.append(Subscribe(self._calls.new_inbox()))

    def _begin(self, now: float) -> None:
        """Delete what is to be deleted before the next consumer is made."""
        for name in [name for name, until in self._retired.items() if now >= until]:
            del self._retired[name]
        if self._deleting is not None:
            return  # its answer goes on
        if len(self._retired) > MAX_RETIRED:
            self._delete()
        else:
            self._create()

    def _create(self) -> None:
        self._state = _State.BEGINNING
        sequence = self.sequence + 1 if self.sequence else self._start
        self._creating = self._calls.create(self._name, sequence)
        self.wants.append(Ask(self._creating, self._calls.timeout))

    def _created(self, info: ConsumerInfo, now: float) -> None:
        first = self.initial_pending is None
        self._attempts = 0
        self.info = info
        self._created_at = now
        self._expected = 1
        self._prefix = f"$JS.ACK.{self._calls.stream}.{self._name}."
        if first:
            self.initial_pending = info.num_pending
            # Of what is last now another consumer would find another one. What the others mean is a place.
            if self._calls.config.deliver_policy != "last_per_subject" and info.delivered is not None:
                self._start = info.delivered.stream_seq + 1
        else:
            self.rebuilt += 1
            behind = f"behind sequence {self.sequence}" if self.sequence else "from the start"
            self._warn("consumer_recreated", f"consumer {self._name!r} was made, reading goes on {behind}")
        self._state = _State.READING
        inner: Consume[MessageT, ItemT] = Consume(
            self._calls.pull_subject(self._name),
            self._options,
            what=self.what,
            new_inbox=self._calls.new_inbox,
            make=self._make,
            now=now,
        )
        inner.items = self.items
        self._inner = inner
        self._beaten = False
        self._look_after(inner, now)
        if self._mute:
            self._probing = self._calls.probe(self._name)
            self.wants.append(Ask(self._probing, self._calls.timeout))

    def _not_created(self, error: NATSError, now: float) -> None:
        """The attempt has failed."""
        if isinstance(error, NoRespondersError):
            error = self._calls.nobody(error.subject)
        self._attempts += 1
        if self._is_final(error, now):
            self._end(error)
            return
        if isinstance(error, (ConsumerExistsError, NATSTimeoutError)):
            self._retire(now)
            self._serial += 1
            self._name = self._calls.name(self._serial)
        self._warn("not_created", f"the consumer could not be made: {error}", error)
        self._pause(now)

    def _is_final(self, error: NATSError, now: float) -> bool:
        if self._max_attempts is not None and self._attempts >= self._max_attempts:
            return True
        if self.initial_pending is not None:
            return is_final(error)
        if isinstance(error, StreamNotFoundError) and self._calls.stream_is_new:
            return False
        return now >= self._began + self._calls.timeout or is_final_at_first(error)

    # --- consumers that are given up

    def _delete(self) -> None:
        """Ask for the deletion of the oldest one."""
        if self._retired and self._deleting is None:
            name = next(iter(self._retired))
            call = self._calls.delete(name)
            self._deleting = name, call
            self.wants.append(Ask(call, DELETE_TIMEOUT))

    def _deleted(self, name: str, answer: object, now: float) -> None:
        self._deleting = None
        if not isinstance(answer, NATSError) or isinstance(answer, (ConsumerNotFoundError, StreamNotFoundError)):
            self._retired.pop(name, None)
        if self._state is _State.READING:
            self._delete_later(now)
        elif self._state is _State.BEGINNING:
            if len(self._retired) > MAX_RETIRED and isinstance(answer, NATSError):
                self._pause(now)  # more of them than there may be, and no word that one is gone
            else:
                self._begin(now)

    def _delete_later(self, now: float) -> None:
        for name in [name for name, until in self._retired.items() if now >= until]:
            del self._retired[name]
        self._delete_at = now + DELETE_PAUSE if self._retired else NEVER

    def _forget_calls(self, now: float) -> None:
        self._deleting = self._probing = None
        self._delete_later(now)

    # --- the end

    def _warn(self, kind: WarningKind, text: str, error: NATSError | None = None) -> None:
        self.warnings.append(ConsumerWarning(kind, f"{self.what}: {text}", error))

    def _end(self, error: NATSError | None) -> None:
        self._state = _State.ENDED
        self.done = True
        self.error = error
        self.wants.clear()


def _prefix_of(reply: str, *, second_form: bool) -> str:
    tokens = reply.split(".", 6 if second_form else 4)
    return ".".join([*tokens[:-1], ""])
