"""Reading a push consumer: it delivers by itself, to the subject that its configuration says.

Theory of operation
-------------------
    ASKING ──what the consumer is──▶ READING ──silence for two heart-beats, another connection──▶ LOOKING ──┐
      ▲                                 ▲                                                                   │
      │                                 └──────────────────────── it exists ────────────────────────────────┤
      └── MISSING ◀── it is gone, and ``on_missing`` says to wait, or to create it again ───────────────────┘
    ──it is gone, it is no push consumer, somebody else reads it──▶ ENDED

First the consumer's info is asked for. It tells the subject and the queue group, so that no one can be wrong about
them, and whether somebody listens already. A consumer without a group delivers each message to all who listen, so a
second reader would get what the first one works on: that is an error. LOOKING: messages are read all the same.

Statuses come in the same queue as messages, with a code and no payload. Two matter. A flow-control request has a reply
subject, and is answered when it is received: that is when all before it was handed over, since the driver asks for the
next message only then. A server that waits for that answer says so in its heart-beats, for when it was lost. The
answers are what keeps the queue short. So where a server bounds by flow control what is on the way, the queue itself
has no limit, and no status can be dropped from it. Where it bounds what is not acknowledged, the queue takes twice as
many: a reader that is slower than ``ack_wait`` is sent each message again and again, without end. What is dropped then
comes once more. Without either the limits of the client hold.

A consumer that says that it sends heart-beats is silent when nothing has come for two of them. Then, and after each
new connection, its info is asked for: an ephemeral one may be gone with its server. Without heart-beats nothing tells
a quiet consumer from a missing one but the next connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Final, Generic, TypeVar

from .._calls.machine import Ask, Subscribe, Want
from .._calls.operation import ApiCall, Publish
from .._jetstream.consumer_info import ConsumerInfo
from .._jetstream.errors import ApiError, ConsumerInUseError, JetStreamError, NotJetStreamMessageError
from .._jetstream.metadata import parse_ack_subject
from .._session.subscription import MessageT
from .._wire.subjects import encode_subject
from ..errors import NATSError, PermissionsError
from .options import OnMissing
from .pacing import Pacing
from .pulls import HAND_BACK, LATE
from .refusals import is_gone, missing
from .warning import MAX_WARNINGS, ConsumerWarning, WarningKind

__all__ = ["Push"]

ItemT = TypeVar("ItemT")

NEVER: Final = float("inf")
STALLED: Final = "Nats-Consumer-Stalled"
FLOW_CONTROL_PREFIX: Final = "$JS.FC."
MAX_SUBJECT: Final = 1024
"""Characters of a subject that is believed to be one for flow control."""


class _State(Enum):
    ASKING = auto()
    READING = auto()
    LOOKING = auto()
    MISSING = auto()
    ENDED = auto()


class Push(Generic[MessageT, ItemT]):
    """A `Machine` that gives what a push consumer delivers. ``now`` is an absolute time (seconds).

    ``info``: the call whose result is the `ConsumerInfo`. ``create``: how to make the consumer again, from what was
    known of it and with which sequence to begin, for ``on_missing="recreate"``. ``found`` is told what the consumer is,
    before the first message.
    """

    __slots__ = (
        "_again_at",
        "_asking",
        "_create",
        "_deliver_subject",
        "_found",
        "_heard",
        "_heartbeat",
        "_info_call",
        "_last",
        "_make",
        "_new_inbox",
        "_on_missing",
        "_pacing",
        "_spared",
        "_state",
        "_timeout",
        "_told",
        "done",
        "error",
        "info",
        "items",
        "wants",
        "warnings",
        "what",
    )

    def __init__(
        self,
        *,
        what: str,
        info: ApiCall[object],
        create: Callable[[ConsumerInfo, int | None], ApiCall[object]],
        new_inbox: Callable[[], str],
        make: Callable[[MessageT, float], ItemT],
        now: float,
        timeout: float,
        on_missing: OnMissing = "raise",
        found: Callable[[ConsumerInfo], object] | None = None,
    ) -> None:
        if on_missing not in ("raise", "wait", "recreate"):
            raise ValueError(f"on_missing must be 'raise', 'wait' or 'recreate': {on_missing!r:.64}")
        self.what = what
        self._info_call = info
        self._create = create
        self._new_inbox = new_inbox
        self._make = make
        self._timeout = timeout
        self._on_missing = on_missing
        self._found = found
        self._pacing = Pacing()
        self._state = _State.ASKING
        self._asking: ApiCall[object] | None = None
        self._again_at = NEVER
        """When what failed is asked again."""
        self._deliver_subject = ""
        self._heartbeat = 0.0
        self._heard = now
        self._spared = False
        self._last: str | None = None
        """The reply subject of the last message."""
        self._told: WarningKind | None = None
        """What was told since the last sign of life."""
        self.info: ConsumerInfo | None = None
        """What the server said last."""
        self.items: deque[ItemT] = deque()
        self.wants: deque[Want] = deque((Subscribe(new_inbox()),))
        self.warnings: deque[ConsumerWarning] = deque(maxlen=MAX_WARNINGS)
        """What it has survived, the newest last. Whoever shows them takes them out."""
        self.done = False
        self.error: NATSError | None = None
        self._ask(info)

    def receive(self, message: MessageT, *, now: float) -> None:
        """A message of the consumer, or a status."""
        if not self._deliver_subject or self.done:
            return  # to the inbox in which answers were waited for
        self._heard = now
        self._told = None
        if message.header_block is not None and not message.data:
            status = message.status
            if status is not None:
                self._status(message, status.code)
                return
        self._last = message.reply
        self.items.append(self._make(message, now))

    def connection_replaced(self, *, now: float) -> None:
        """The subscription was made again. Whether the consumer still exists has to be asked."""
        if self.done:
            return
        self._heard = now
        self._again_at = NEVER
        if self._state in (_State.READING, _State.LOOKING):
            self._state = _State.LOOKING
        self._ask_again()

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """What the consumer is, or what became of its creation."""
        if self.done or api is not self._asking:
            return
        self._asking = None
        if isinstance(answer, ConsumerInfo):
            self._known(answer, now)
        elif isinstance(answer, NATSError):
            self._unknown(answer, now)

    def next_timeout(self) -> float | None:
        """When a sign of life is overdue, or something is asked again."""
        if self.done:
            return None
        due = self._again_at
        if self._heartbeat and self._state is _State.READING:
            due = min(due, self._heard + 2 * self._heartbeat)
        return None if due == NEVER else due

    def handle_timeout(self, *, now: float) -> None:
        """See whether the consumer lives."""
        if self.done:
            return
        if now >= self._again_at:
            self._again_at = NEVER
            self._ask_again()
        if not self._heartbeat or self._state is not _State.READING:
            return
        due = self._heard + 2 * self._heartbeat
        if now < due:
            return
        if now - due > LATE and not self._spared:
            # Nobody was there when it came due, and what has come may not have been read yet.
            self._spared = True
            self._heard = now - self._heartbeat
            return
        self._spared = False
        self._heard = now
        self._warn("no_heartbeat", f"no sign of life for {2 * self._heartbeat:g} s")
        self._state = _State.LOOKING
        self._ask(self._info_call)

    # --- what comes

    def _status(self, message: MessageT, code: int) -> None:
        if code != 100:
            self._warn("unknown_status", f"a status that is not known: {code}")
            return
        self._spared = False
        subject = message.reply
        if subject is None:
            headers = message.headers
            subject = None if headers is None else headers.get(STALLED)
        if subject is not None and _is_flow_control(subject):
            self.wants.append(Publish(subject))

    def _known(self, info: ConsumerInfo, now: float) -> None:
        self.info = info
        missed = self._state is _State.MISSING
        if missed:
            self._warn("consumer_recreated", "the consumer is there again")
        subject, group = info.config.deliver_subject, info.config.deliver_group
        if self._deliver_subject and subject == self._deliver_subject:
            # We listen there ourselves, which is why somebody does.
            self._go_on(now)
            return
        if not subject or not _is_subject(subject):
            self._end(JetStreamError(f"{self.what}: it delivers nothing by itself: it is read as a pull consumer"))
        elif info.push_bound and not group:
            text = "somebody listens to it already, and it has no deliver_group in which readers share its messages"
            self._end(ConsumerInUseError(f"{self.what}: {text}"))
        else:
            if self._found is not None:
                self._found(info)
            self._read(info, subject, group or None, now)

    def _go_on(self, now: float) -> None:
        self._state = _State.READING
        self._heard = now
        self._spared = False

    def _read(self, info: ConsumerInfo, subject: str, group: str | None, now: float) -> None:
        config = info.config
        acknowledged = config.ack_policy not in (None, "none")
        most, most_bytes = None, None
        if config.flow_control:
            most, most_bytes = 0, 0
        elif acknowledged and (unacknowledged := config.max_ack_pending or 0) > 0:
            most, most_bytes = 2 * unacknowledged, 0
        self._deliver_subject = subject
        self._heartbeat = max(0.0, float(config.idle_heartbeat or 0.0))
        self._go_on(now)
        self.wants.clear()
        self.wants.append(
            Subscribe(
                subject,
                max_pending_msgs=most,
                max_pending_bytes=most_bytes,
                queue=group,
                hand_back=HAND_BACK if acknowledged else None,
            )
        )

    def _unknown(self, error: NATSError, now: float) -> None:
        """The question, or the creation, has failed."""
        if isinstance(error, PermissionsError):
            self._end(error)
        elif is_gone(error):
            self._gone(error, now)
        elif self._state is _State.ASKING and self._on_missing == "raise":
            self._end(error)
        elif self._state is _State.MISSING and isinstance(error, ApiError) and 400 <= error.code < 500:
            self._end(error)  # it will never be created like this
        else:
            # Nobody could say. Where there are heart-beats, silence will be noticed again.
            if self._state is _State.LOOKING:
                self._go_on(now)
            if self._state is not _State.READING or not self._heartbeat:
                self._later(now)

    def _gone(self, error: NATSError, now: float) -> None:
        known = self.info is not None
        if self._on_missing == "raise" or (self._on_missing == "recreate" and not known):
            self._end(missing(self.what, error, heard=known))
            return
        first = self._state is not _State.MISSING
        self._state = _State.MISSING
        if first:
            self._pacing.reset()
            self._warn("consumer_missing", "the consumer is gone", error)
        if first and self._on_missing == "recreate":
            self._ask_again()
        else:
            self._later(now)

    def _later(self, now: float) -> None:
        self._again_at = now + self._pacing.failed(now=now, sent=now, heard=-NEVER, at_once=False)

    # --- what to do

    def _ask_again(self) -> None:
        info = self.info
        if self._state is not _State.MISSING or self._on_missing != "recreate" or info is None:
            self._ask(self._info_call)
            return
        sequence: int | None = None
        if info.config.ack_policy in (None, "none") and self._last is not None:
            # What was delivered counts as done. With acknowledgements nobody knows here what was not acknowledged.
            with suppress(NotJetStreamMessageError):  # somebody else may have published it
                sequence = parse_ack_subject(self._last).stream_sequence + 1
        self._ask(self._create(info, sequence))

    def _ask(self, call: ApiCall[object]) -> None:
        self._asking = call
        self.wants.append(Ask(call, self._timeout))

    def _warn(self, kind: WarningKind, text: str, error: NATSError | None = None) -> None:
        """Once in a row: not again before there was a sign of life."""
        if self._told != kind:
            self._told = kind
            self.warnings.append(ConsumerWarning(kind, f"{self.what}: {text}", error))

    def _end(self, error: NATSError | None) -> None:
        self._state = _State.ENDED
        self.done = True
        self.error = error
        self.wants.clear()


def _is_flow_control(subject: str) -> bool:
    """Whether an answer may be sent there: what a server names must not make us publish to any subject."""
    return subject.startswith(FLOW_CONTROL_PREFIX) and len(subject) <= MAX_SUBJECT and _is_subject(subject)


def _is_subject(subject: str) -> bool:
    try:
        encode_subject(subject, "subject")
    except (ValueError, TypeError, NATSError):
        return False
    return True
