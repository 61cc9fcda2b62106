"""Reading from a consumer for as long as the program likes: messages are asked for ahead, and asked for again.

Theory of operation
-------------------
    ASKING ──a request came to nothing──▶ PAUSED ──its pause is over──▶ ASKING
      │  ▲                                   │
      │  └──── the consumer was created ── RECREATING ◀── it is gone, and ``on_missing="recreate"`` ──┐
      └──────── limit, terminal error ───────┴──▶ ENDED                                     (from both)

ASKING: whenever less than the threshold is outstanding, the rest up to the maximum is asked for. A message is
outstanding until the reader takes it: what lies unread in the queue of the subscription counts. So what is outstanding
and what is unread are together never more than the maximum, and a reader who is slow asks for less, without a word.
PAUSED: nothing is asked for until the pause is over (`Pacing`); what is outstanding may still come. RECREATING: the
consumer is gone, and it is being created again; nothing is asked for. The accounts, their generations and the clock are
`Pulls`.

What ends it: its limit, a consumer that is gone (unless `on_missing` says otherwise), a request that the server
refuses for what it is, a missing permission to ask (`probe`). All else passes by itself, is told as a
`ConsumerWarning`, once for each time in a row, and is survived:

    another connection        what the old one has brought is read; then another inbox, and all is asked for anew
    silence                   the same, after two heart-beats; the consumer's info is asked for
    leadership change         that request and those before it are lost: asked for anew, at once
    no responders             asked again after a pause; from the second time on the consumer's info is asked for, since
                              a consumer that does not exist and one without a leader are alike
    a limit of the consumer   lowers what is asked for
    a status nobody knows     its request is over
    nothing but heart-beats   when the last message said that more are pending, the consumer's info is asked for, once:
                              as many messages as it allows may wait for their acknowledgement

A consumer that exists no more is recognised by its status (``Consumer Deleted``) or by the answer to the question for
its info. With ``on_missing="wait"`` the reader goes on asking, with pauses, for one of the same name. A status that
belongs to an earlier generation says nothing of the consumer that is read now, and is ignored.

Old messages
------------
The server gives a message to another reader when it was not acknowledged for ``ack_wait``. That time begins with the
delivery, not when the message is taken from the queue; and a message does not tell when it arrived. Two things are
known: the marks of the queue (`Ages`), where whoever drives the machine can count; and that a message is not delivered
later than when the last of all requests has expired. What has outlived ``ack_wait`` by one of them is not
handed out, only counted (`outlived`): the reader is slow, or the process was stopped. In the second case nothing new is
asked for until the ends of these requests were read, by which time the old messages are through. What may be older than
half of ``ack_wait`` is handed out, and the server told that it is in progress. A message that is only perhaps too old
is handed out, since to lose a fresh one is worse; and so is one whose last attempt this is, for nobody else gets it.

Pinned clients (ADR-42)
-----------------------
The server gives all messages of a group to one client, whose messages then have its identity. Each request with that
identity keeps it. So until the identity is known there is one request at a time (a second one would have none and wait
for nothing), and a request waits for half of ``priority_timeout`` at most. A reader that does not know this
time asks for the consumer's info before its first request, and goes on without when it may not know. Status 423 says
that the identity is void.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Generic, TypeVar, assert_never

from .._calls.machine import Ask, Want
from .._calls.operation import ApiCall, Publish
from .._jetstream.acknowledge import IN_PROGRESS
from .._jetstream.errors import ApiError, ClusterUnavailableError, NotJetStreamMessageError
from .._jetstream.metadata import ACK_PREFIX, parse_ack_subject
from .._session.subscription import MessageT
from ..errors import NATSError, PermissionsError
from .ages import Age, Ages
from .condition import ConsumerCondition
from .options import ConsumeOptions, half, renewing
from .pacing import Pacing
from .probe import probe
from .pulls import GRACE, PullRequest, Pulls
from .refusals import deleted, is_gone, missing, refusal, too_large
from .sizes import size_on_wire
from .statuses import Meaning, PullStatus, read_status
from .warning import MAX_WARNINGS, ConsumerWarning, WarningKind

__all__ = ["Consume"]

ItemT = TypeVar("ItemT")

INFO_TIMEOUT: Final = 5.0
CREATE_TIMEOUT: Final = 5.0


class _State(Enum):
    ASKING = auto()
    PAUSED = auto()
    RECREATING = auto()
    ENDED = auto()


class Consume(Generic[MessageT, ItemT]):
    """A `Machine` that gives messages without end. ``now`` is an absolute time (seconds).

    ``subject``, ``what``, ``make``, ``info``: as of `Fetch`. ``create``: how to create the consumer again, for
    ``on_missing="recreate"``; without it that raises `ValueError`.
    """

    __slots__ = (
        "_ack_wait",
        "_ages",
        "_asking",
        "_beats",
        "_beats_since",
        "_create",
        "_expires",
        "_fresh_until",
        "_heartbeat",
        "_info",
        "_leader_changed",
        "_look_at",
        "_low",
        "_low_bytes",
        "_make",
        "_max_bytes",
        "_max_messages",
        "_may_be_pinned",
        "_new_inbox",
        "_newest",
        "_options",
        "_outliving",
        "_pacing",
        "_plain",
        "_probe",
        "_probed",
        "_pulls",
        "_replaced_at",
        "_resume",
        "_state",
        "_threshold",
        "_told",
        "_unsure",
        "_wanted",
        "done",
        "error",
        "items",
        "outlived",
        "wants",
        "warnings",
        "what",
    )

    def __init__(
        self,
        subject: str,
        options: ConsumeOptions,
        *,
        what: str,
        new_inbox: Callable[[], str],
        make: Callable[[MessageT, float], ItemT],
        now: float,
        info: ApiCall[object] | None = None,
        create: ApiCall[object] | None = None,
        ages: bool = True,
    ) -> None:
        assert options.max_messages is not None  # the options have filled these in
        assert options.threshold is not None
        assert options.heartbeat is not None
        if options.on_missing == "recreate" and create is None:
            raise ValueError("on_missing='recreate' needs the configuration of the consumer")
        self._options = options
        self._outliving = False
        """Messages were too old lately."""
        self._max_messages = options.max_messages
        self._max_bytes = options.max_bytes or 0
        self._threshold = options.threshold
        self._expires = options.expires
        self._heartbeat = options.heartbeat
        self._wanted = options.limit
        """Messages that are still to be given; None: without end."""
        self._ack_wait = float("inf") if options.ack_wait is None else options.ack_wait
        self.what = what
        self._new_inbox = new_inbox
        self._make = make
        self._info = info
        self._create = create
        self._probe = probe(what, subject)
        self._probed = False
        """The last question was that."""
        self._asking: ApiCall[object] | None = None
        """The call that was made and not answered yet: one at a time."""
        self._pulls = Pulls(subject, priority=options.priority)
        self._pacing = Pacing()
        self._plain = options.limit is None and not self._max_bytes and options.priority is None
        """A message is nothing but one less: nothing else is looked at."""
        self._low = self._threshold - 1
        """With so few messages outstanding there may be something to do."""
        self._low_bytes = self._max_bytes // 2
        self._ages = Ages(self._ack_wait) if ages and self._ack_wait < float("inf") else None
        self._fresh_until = float("inf")
        """A message that is taken later has certainly outlived ``ack_wait``."""
        self._look_at = float("inf")
        """A message that is taken later may have, or may be about to."""
        self._resume = float("inf")
        self._unsure = options.priority is not None and options.priority_timeout is None and info is not None
        """How soon a pinned client has to ask again is not known yet."""
        self._may_be_pinned = options.priority is not None and options.priority_timeout != float("inf")
        self._replaced_at = float("inf")
        """When the connection was replaced, as long as messages that came before may be unread."""
        self._leader_changed = float("-inf")
        """When another leader has told so last."""
        self._state = _State.ASKING
        self._newest: str | None = None
        """The reply subject of the last message."""
        self._beats = 0
        """Heart-beats since then, as far as `_beats_since` is still that subject."""
        self._beats_since: str | None = None
        self._told: dict[WarningKind, float] = {}
        """The last sign of life when each kind of warning was told last."""
        self.items: deque[ItemT] = deque()
        self.wants: deque[Want] = deque()
        self.warnings: deque[ConsumerWarning] = deque(maxlen=MAX_WARNINGS)
        """What it has survived, the newest last. Whoever shows them takes them out."""
        self.outlived = 0
        """Messages that were not handed out, since the server has given them to another reader."""
        self.done = False
        self.error: NATSError | None = None
        self._renew(now)

    @property
    def outstanding(self) -> int:
        """Messages that were asked for and not taken yet."""
        return max(0, self._pulls.messages)

    def receive(self, message: MessageT, *, now: float) -> None:
        """A message of the consumer, or a status."""
        if message.reply is None:
            self._status(message, now)
            return
        pulls = self._pulls
        left = pulls.messages - 1
        pulls.messages = left
        pulls.heard = now
        self._newest = message.reply
        if self._plain and now < self._look_at:
            self.items.append(self._make(message, now))  # nearly always
        else:
            self._look_into(message, now)
        if left <= self._low:
            self._refill(now)

    def connection_replaced(self, *, now: float) -> None:
        """All requests are lost with the connection, as far as anybody can know.

        But what lies unread behind this was delivered, and acknowledgements count on any connection: it is not left
        with the inbox, so nothing is asked for before it was read. A time-out tells that: it comes when nothing else
        is there.
        """
        if self.done:
            return
        self._pacing.reset()
        if self._state is _State.PAUSED:
            self._state = _State.ASKING  # what was in the way may be gone with the server
            self._resume = float("inf")
        self._pulls.write_off()
        self.wants.clear()
        self._replaced_at = now

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """What the consumer says of itself, or what became of its creation."""
        if self.done or api is not self._asking:
            return
        self._asking = None
        if api is self._create:
            self._created(answer, now)
            return
        if api is self._probe:
            if isinstance(answer, PermissionsError):
                self._end(answer)
                return
        elif is_gone(answer) and isinstance(answer, NATSError):
            self._gone(missing(self.what, answer, heard=self._pulls.heard > float("-inf")), now)
        elif self._unsure:
            self._unsure = False
            if isinstance(answer, ConsumerCondition):
                self._may_be_pinned = answer.priority_timeout is not None
                self._expires = renewing(self._expires, answer.priority_timeout)
                self._heartbeat = min(self._heartbeat, self._expires / 2)
            self._refill(now)
        elif isinstance(answer, ConsumerCondition):
            self._explain(answer)
        # The consumer was seen to be gone while this question was on its way, and one is asked at a time.
        if self._state is _State.RECREATING:
            self._recreate()

    def next_timeout(self) -> float | None:
        """When something is overdue, or a pause is over."""
        if self.done:
            return None
        if self._replaced_at < float("inf"):
            return self._replaced_at
        due = self._pulls.next_timeout()
        if self._state is _State.ASKING or (due is not None and due < self._resume):
            return due
        return None if self._resume == float("inf") else self._resume

    def handle_timeout(self, *, now: float) -> None:
        """Ask again after a pause, give up what was lost."""
        if self.done:
            return
        if now >= self._replaced_at:
            self._renew(now)
            return
        if now >= self._resume:
            self._resume = float("inf")
            if self._state is _State.RECREATING:
                self._recreate()
            else:
                self._state = _State.ASKING
                self._refill(now)
        due = self._pulls.next_timeout()
        if due is None or now < due or self._pulls.spare(now=now):
            return
        if self._pulls.silent(now=now):
            before = self._told.get("no_heartbeat")
            self._warn("no_heartbeat", f"no sign of life for {2 * self._heartbeat:g} s: asking again")
            self._renew(now)
            # Silence once more, and no sign of life in between: maybe we are not permitted to ask. In turns.
            self._probed = before == self._pulls.heard and not self._probed
            self._look(self._probe if self._probed else self._info)
        elif self._pulls.expire(now=now):
            self._refill(now)

    # --- what comes

    def _look_into(self, message: MessageT, now: float) -> None:
        """A message for which there is more to do than to hand it out."""
        pulls = self._pulls
        if self._max_bytes:
            pulls.bytes -= size_on_wire(message, pulls.pin)
            if pulls.bytes <= 0:
                pulls.write_off()  # their bytes are used up: such requests are ended without a word
            if pulls.bytes <= self._low_bytes:
                self._low = self._max_messages  # the caller is to look
        if self._options.priority is not None and pulls.take_pin(message):
            self._warn("pinned", "this client is the pinned one now")
        if now >= self._look_at and self._has_outlived(message, now):
            self._too_old()
            return
        if self._wanted is not None:
            if not self._wanted:
                return
            self._wanted -= 1
        self.items.append(self._make(message, now))
        if self._wanted == 0:
            self._end(None)

    def _has_outlived(self, message: MessageT, now: float) -> bool:
        """Whether the server has given it to another reader, or will at once; one that is aged gets its whole time."""
        age = Age.OUTLIVED
        if now < self._fresh_until and self._ages is not None:
            age = self._ages.judge(now)
            self._look_at = min(self._fresh_until, self._ages.look_at)
        reply = message.reply or ""
        match age:
            case Age.YOUNG:
                self._outliving = False
                return False
            case Age.AGED:
                if reply.startswith(ACK_PREFIX):
                    self.wants.append(Publish(reply, IN_PROGRESS))
                return False
            case Age.OUTLIVED:
                return not self._is_last_attempt(reply)
            case _:
                assert_never(age)

    def _is_last_attempt(self, reply: str) -> bool:
        """Nobody else gets it any more."""
        last = self._options.max_deliver
        try:
            return last > 0 and parse_ack_subject(reply).num_delivered >= last
        except NotJetStreamMessageError:
            return False

    def _too_old(self) -> None:
        self.outlived += 1
        if self._outliving:
            return  # it was told, and since then no reader has kept up
        self._outliving = True
        self._warn(
            "outlived",
            f"messages were taken more than ack_wait={self._ack_wait:g} s after they came, and are not handed out: the "
            f"server has given them to another reader by now",
        )

    def _status(self, message: MessageT, now: float) -> None:
        pulls = self._pulls
        request = pulls.find(message.subject)
        if request is None or self.done:
            return  # of a request that was written off
        status = read_status(message)
        if status is None:
            return  # somebody else answers here; the clock tells whether the server does
        match status.meaning:
            case Meaning.HEARTBEAT:
                pulls.heard = now
                self._only_beats()
                if self._ages is not None:  # while a reader waits, these are what makes marks
                    self._ages.judge(now)
                    self._look_at = min(self._fresh_until, self._ages.look_at)
            case Meaning.FLOW_CONTROL:
                pass
            case Meaning.EXPIRED | Meaning.COMPLETED | Meaning.NO_MESSAGES | Meaning.REQUESTS_PENDING:
                self._ended(request, status, now)
            case Meaning.MESSAGE_TOO_LARGE:
                # Of a request for all the bytes that there may be nothing was used: so it will be with each other one.
                if self._max_bytes and status.unused_bytes == request.max_bytes == self._max_bytes:
                    self._end(too_large(self.what, status, self._max_bytes))
                else:
                    self._ended(request, status, now)
            case Meaning.LEADER_CHANGED:
                self._leader_has_changed(request, now)
            case Meaning.SERVER_SHUTDOWN:
                self._warn("server_shutdown", "the consumer's server shuts down")
                self._ended(request, status, now)
            case Meaning.UNPINNED:
                if pulls.pin is not None:
                    self._warn("unpinned", "this client is not the pinned one any more")
                pulls.pin = None
                pulls.write_off()
                self._again(request, now)
            case Meaning.NO_RESPONDERS:
                self._unanswered(request, now)
            case Meaning.MAX_WAITING:
                self._warn("max_waiting", refusal(self.what, status, request).args[0])
                self._ended(request, status, now, pause=2 * self._heartbeat)
            case Meaning.LIMIT:
                self._lower(request, status, now)
            case Meaning.CONSUMER_DELETED:
                self._gone(deleted(self.what), now)
            case Meaning.BAD_REQUEST | Meaning.PUSH_BASED | Meaning.API_LEVEL:
                self._end(refusal(self.what, status, request))
            case Meaning.UNKNOWN:
                self._warn("unknown_status", f"a status that is not known has ended a request: {status.text}")
                self._ended(request, status, now)
            case _:
                assert_never(status.meaning)

    def _only_beats(self) -> None:
        """A heart-beat: the second one in a row, with messages pending, has a cause that the user may not know of."""
        if self._beats_since is not self._newest:
            self._beats_since = self._newest
            self._beats = 0
        self._beats += 1
        if self._beats != 2 or self._newest is None:
            return
        try:
            pending = parse_ack_subject(self._newest).num_pending
        except NotJetStreamMessageError:
            return  # whoever has sent it
        if pending:
            self._look(self._info)

    def _ended(self, request: PullRequest, status: PullStatus, now: float, *, pause: float = 0.0) -> None:
        unused = request.batch if status.refused else status.unused_messages
        unused_bytes = request.max_bytes if status.refused else status.unused_bytes
        self._pulls.end(request, unused, unused_bytes)
        if status.meaning is Meaning.EXPIRED and now - request.sent >= self._expires * 0.9:
            self._refill(now)  # it has waited as long as it was to: nothing has failed, however short that is
        else:
            self._again(request, now, pause=pause)

    def _leader_has_changed(self, request: PullRequest, now: float) -> None:
        """A new leader tells each request that the one before it had. One that was sent later may be its own."""
        self._pulls.lose(request)
        if request.sent < self._leader_changed:
            self._refill(now)  # it belongs to the same change
            return
        self._leader_changed = now
        self._warn("leadership_change", "the consumer has another leader: asking anew")
        self._again(request, now)

    def _unanswered(self, request: PullRequest, now: float) -> None:
        self._warn("no_responders", "nobody answers: the consumer does not exist, or has no leader at the moment")
        self._pulls.end(request, request.batch, request.max_bytes)
        self._again(request, now, at_once=False)
        if self._pacing.failures > 1:
            self._look(self._info)

    def _lower(self, request: PullRequest, status: PullStatus, now: float) -> None:
        """The consumer does not allow that much in one request: no reason to give up, unless it makes no sense."""
        limit = status.limit or 0.0
        if status.limit_name == "max_batch" and 1 <= limit < request.batch:
            self._max_messages = int(limit)
            self._threshold = min(self._threshold, half(self._max_messages))
        elif status.limit_name == "max_bytes" and 1 <= limit < request.max_bytes:
            self._max_bytes = int(limit)
            self._low_bytes = self._max_bytes // 2
        elif status.limit_name == "max_expires" and 0.001 <= limit < self._expires:
            self._expires = limit
            self._heartbeat = min(self._heartbeat, limit / 2)
        else:
            self._end(refusal(self.what, status, request))
            return
        self._warn("limit_lowered", f"the consumer allows less in one request: {status.text}")
        self._pulls.end(request, request.batch, request.max_bytes)
        self._again(request, now)

    # --- what to do

    def _again(self, request: PullRequest, now: float, *, at_once: bool = True, pause: float = 0.0) -> None:
        """A request is over: the next one follows, at once or after a pause."""
        pause = max(pause, self._pacing.failed(now=now, sent=request.sent, heard=self._pulls.heard, at_once=at_once))
        if pause:
            self._state = _State.PAUSED
            self._resume = now + pause
        else:
            self._refill(now)

    def _renew(self, now: float) -> None:
        """Another inbox: what was asked for before finds nobody any more. Nothing that waits to be done is still right,
        and the answer to a call that was made would go to the inbox that is left."""
        self.wants.clear()
        self._asking = None
        self._replaced_at = float("inf")
        ages = self._ages
        if ages is not None:
            ages.renewed(now)
        self.wants.append(self._pulls.subscribe(self._new_inbox(), None if ages is None else ages.opened))
        if self._state is _State.RECREATING:
            self._recreate()
        else:
            self._refill(now)

    def _refill(self, now: float) -> None:
        """Ask for what is missing, when less than the threshold is outstanding, or too few bytes."""
        if self._state is not _State.ASKING or self._replaced_at < float("inf"):
            return
        if self._unsure:
            self._look(self._info)
            return
        pulls = self._pulls
        self._low = self._threshold - 1
        if pulls.messages <= 0:
            pulls.write_off()  # all that was asked for has come, and maybe more
        few = pulls.messages < self._threshold
        few_bytes = bool(self._max_bytes) and pulls.bytes <= self._low_bytes
        if not few and not few_bytes:
            return
        if pulls.any_open and (now >= self._fresh_until or self._waits_for_pin()):
            return
        batch = self._max_messages - pulls.messages
        if self._wanted is not None:
            batch = min(batch, self._wanted - pulls.messages)
        if batch < 1:
            return
        self._fresh_until = now + self._expires + GRACE + self._ack_wait
        if self._ages is None:
            self._look_at = self._fresh_until
            self._outliving = False
        else:
            self._look_at = min(self._fresh_until, self._ages.look_at)
        self.wants.append(
            pulls.ask(
                batch,
                now=now,
                expires=self._expires,
                heartbeat=self._heartbeat,
                max_bytes=self._max_bytes - pulls.bytes if self._max_bytes else 0,
            )
        )

    def _waits_for_pin(self) -> bool:
        """A second request without the identity of the pinned client would wait for nothing."""
        return self._may_be_pinned and self._pulls.pin is None

    def _look(self, call: ApiCall[object] | None) -> None:
        """Ask what the consumer says of itself, or whether we may ask it."""
        if call is not None and self._asking is None and not self.done:
            self._asking = call
            self.wants.append(Ask(call, INFO_TIMEOUT))

    def _explain(self, condition: ConsumerCondition) -> None:
        """It exists, and still there was no sign of life."""
        if condition.at_waiting_limit:
            text = f"{condition.waiting} of {condition.max_waiting} requests wait at the consumer: no more are taken"
            self._warn("max_waiting", text)
        elif condition.at_ack_limit:
            text = f"{condition.ack_pending} of {condition.max_ack_pending} messages wait for their acknowledgement"
            self._warn("ack_limit", text)

    def _gone(self, error: NATSError, now: float) -> None:
        """The consumer is gone."""
        if self._options.on_missing == "raise":
            self._end(error)
            return
        self._warn("consumer_missing", "the consumer is gone", error)
        self._pulls.write_off()
        if self._options.on_missing == "recreate":
            self._state = _State.RECREATING
            self._recreate()
        else:
            self._pause(now)

    def _pause(self, now: float) -> None:
        if self._state is _State.ASKING:
            self._state = _State.PAUSED
        if self._resume == float("inf") or self._resume <= now:
            pause = self._pacing.failed(now=now, sent=now, heard=self._pulls.heard, at_once=False)
            self._resume = now + pause

    def _recreate(self) -> None:
        if self._create is not None and self._asking is None:
            self._resume = float("inf")
            self._asking = self._create
            self.wants.append(Ask(self._create, CREATE_TIMEOUT))

    def _created(self, answer: object, now: float) -> None:
        if not isinstance(answer, NATSError):
            self._warn("consumer_recreated", "the consumer was created again")
            self._pacing.reset()
            self._state = _State.ASKING
            self._refill(now)
        elif isinstance(answer, PermissionsError) or (isinstance(answer, ApiError) and not _passes(answer)):
            self._end(answer)
        else:
            self._pause(now)

    def _warn(self, kind: WarningKind, text: str, error: NATSError | None = None) -> None:
        """Once in a row: not again before there was a sign of life."""
        heard = self._pulls.heard
        if self._told.get(kind) == heard and kind not in ("pinned", "unpinned", "limit_lowered"):
            return
        self._told[kind] = heard
        self.warnings.append(ConsumerWarning(kind, f"{self.what}: {text}", error))

    def _end(self, error: NATSError | None) -> None:
        self._state = _State.ENDED
        self.done = True
        self.error = error
        self.wants.clear()


def _passes(error: ApiError) -> bool:
    """Whether it may be another one later: the cluster has no leader, JetStream starts, the stream is made again."""
    return is_gone(error) or isinstance(error, ClusterUnavailableError) or error.code == 503
