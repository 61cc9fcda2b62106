"""Reading from a consumer for as long as the program likes: messages are asked for ahead, and asked for again.

Theory of operation
-------------------
    ASKING ──a request came to nothing──▶ PAUSED ──its pause is over──▶ ASKING
      │  ▲                                   │
      │  └──── the consumer was created ── RECREATING ◀── it is gone, and ``on_missing="recreate"`` ──┐
      └──────── limit, terminal error ───────┴──▶ ENDED                                     (from both)

ASKING: what is missing is asked for (`Asking`). A message is outstanding until the reader takes it: what lies unread in
the queue of the subscription counts. So what is outstanding and what is unread are together never more than the
maximum, and a reader who is slow asks for less, without a word.
PAUSED: nothing is asked for until the pause is over (`Pacing`); what is outstanding may still come. RECREATING: the
consumer is gone, and it is being created again; nothing is asked for. The accounts, their generations and the clock are
`Pulls`.

What ends it: its limit, a consumer that is gone (unless `on_missing` says otherwise), a request that the server
refuses for what it is, or because this user may not ask. All else passes by itself, is told as a
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

Messages that lie unread for too long are not handed out (`Freshness`).

A consumer that exists no more is recognised by its status (``Consumer Deleted``) or by the answer to the question for
its info. With ``on_missing="wait"`` the reader goes on asking, with pauses, for one of the same name. A status that
belongs to an earlier generation says nothing of the consumer that is read now, and is ignored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Generic, TypeVar, assert_never

from .._calls.machine import Ask, CatchUp, Want
from .._calls.operation import ApiCall, Publish
from .._jetstream.acknowledge import IN_PROGRESS
from .._jetstream.errors import ApiError, ClusterUnavailableError, NotJetStreamMessageError
from .._jetstream.metadata import ACK_PREFIX, parse_ack_subject
from .._session.marks import PublishRefused
from .._session.not_permitted import not_permitted
from .._session.subscription import MessageT
from .._wire.twin import Deliveries
from ..errors import NATSError, PermissionsError
from .ages import Age
from .asking import Asking
from .condition import ConsumerCondition
from .demand import Demand
from .freshness import Freshness
from .options import ConsumeOptions
from .pacing import Pacing
from .pulls import PullRequest, Pulls
from .refusals import deleted, is_gone, missing, refusal, too_large
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
    ``on_missing="recreate"``; without it that raises `ValueError`. ``account``: of who reads in its place. ``demand``:
    how many messages are to be outstanding, in place of the numbers of the options.
    """

    __slots__ = (
        "_asking",
        "_beats",
        "_beats_since",
        "_create",
        "_freshness",
        "_info",
        "_leader_changed",
        "_make",
        "_new_inbox",
        "_options",
        "_pacing",
        "_pulls",
        "_question",
        "_replaced_at",
        "_resume",
        "_state",
        "_told",
        "_wanted",
        "account",
        "done",
        "error",
        "items",
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
        account: Deliveries[MessageT, ItemT] | None = None,
        demand: Demand | None = None,
    ) -> None:
        if options.on_missing == "recreate" and create is None:
            raise ValueError("on_missing='recreate' needs the configuration of the consumer")
        self._options = options
        self._wanted = options.limit
        """Messages that are still to be given; None: without end."""
        self.what = what
        self._new_inbox = new_inbox
        self._make = make
        self._info = info
        self._create = create
        self._question: ApiCall[object] | None = None
        """The call that was made and not answered yet: one at a time."""
        self.items: deque[ItemT] = deque()
        self.wants: deque[Want] = deque()
        if account is None:
            account = Deliveries(make, self.items, self.wants)
        account.heard, account.look_at = float("-inf"), float("inf")  # it may have served another consumer before
        account.newest = None
        self.account = account
        """Whoever drives the machine may take messages there, past `receive`, which has to see what it leaves."""
        self._pulls: Pulls[MessageT, ItemT] = Pulls(subject, priority=options.priority, account=self.account)
        self._pacing = Pacing()
        ack_wait = float("inf") if options.ack_wait is None else options.ack_wait
        self._freshness = Freshness(ack_wait, options.max_deliver, ages=ages)
        self._asking = Asking(options, self._pulls, self._freshness, demand, knows=info is not None)
        self.account.plain = options.limit is None and not options.max_bytes and options.priority is None
        self.account.low = self._asking.demand.low
        self._resume = float("inf")
        self._replaced_at = float("inf")
        """When the connection was replaced, as long as messages that came before may be unread."""
        self._leader_changed = float("-inf")
        """When another leader has told so last."""
        self._state = _State.ASKING
        self._beats = 0
        """Heart-beats since then, as far as `_beats_since` is still that subject."""
        self._beats_since: str | None = None
        self._told: dict[WarningKind, float] = {}
        """The last sign of life when each kind of warning was told last."""
        self.warnings: deque[ConsumerWarning] = deque(maxlen=MAX_WARNINGS)
        """What it has survived, the newest last. Whoever shows them takes them out."""
        self.done = False
        self.error: NATSError | None = None
        self._renew(now)

    @property
    def outstanding(self) -> int:
        """Messages that were asked for and not taken yet."""
        return max(0, self._pulls.messages)

    @property
    def outlived(self) -> int:
        """Messages that were not handed out, since the server has given them to others, or to this reader before."""
        return self._freshness.outlived

    def receive(self, message: MessageT, *, now: float) -> None:
        """A message of the consumer, or a status."""
        if message.reply is None:
            self._status(message, now)
            return
        account = self.account
        left = account.messages - 1
        account.messages = left
        account.heard = now
        account.newest = message.reply
        if account.plain and now < account.look_at:
            self.items.append(self._make(message, now))  # nearly always
        else:
            self._look_into(message, now)
        if left <= account.low:
            self.refill(now)

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

    def caught_up(self, number: int, *, now: float) -> None:
        """What comes from now on was sent since somebody has looked."""
        self._freshness.caught_up(number)
        self.account.look_at = self._freshness.look_at

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """This user may not ask the consumer for messages, or not any more. What has come before is given."""
        if not self.done and self._pulls.any_open:
            self._end(not_permitted(self.what, refused.error))

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """What the consumer says of itself, or what became of its creation."""
        if self.done or api is not self._question:
            return
        self._question = None
        if api is self._create:
            self._created(answer, now)
            return
        if is_gone(answer) and isinstance(answer, NATSError):
            self._gone(missing(self.what, answer, heard=self._pulls.heard > float("-inf")), now)
        elif self._asking.unsure:
            self._asking.learn(answer if isinstance(answer, ConsumerCondition) else None)
            self.refill(now)
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
                self.refill(now)
        due = self._pulls.next_timeout()
        if due is None or now < due or self._pulls.spare(now=now):
            return
        if self._pulls.silent(now=now):
            self._warn("no_heartbeat", f"no sign of life for {2 * self._asking.heartbeat:g} s: asking again")
            self._renew(now)
            self._look(self._info)
        elif self._pulls.expire(now=now):
            self.refill(now)

    def refill(self, now: float) -> None:
        """See whether to ask for more. Whoever has changed the demand calls this."""
        account, demand = self.account, self._asking.demand
        if account.messages <= 0:
            self._pulls.write_off()  # all that was asked for has come, and maybe more: there is nothing to hear of it
        if demand.reckon(account.messages, now):
            if self._state is _State.ASKING and self._replaced_at == float("inf"):
                self._ask(now)
            demand.asked(account.messages)

    def too_old(self) -> None:
        """A message was not handed out, since somebody else has it."""
        if self._freshness.count():
            self._warn(
                "outlived",
                f"messages were taken more than ack_wait={self._freshness.ack_wait:g} s after they came, and are not "
                f"handed out: the server has given them to another reader by now",
            )

    # --- what comes

    def _look_into(self, message: MessageT, now: float) -> None:
        """A message for which there is more to do than to hand it out."""
        if self._asking.max_bytes:
            self._asking.count_bytes(message)
        if self._options.priority is not None and self._pulls.take_pin(message):
            self._warn("pinned", "this client is the pinned one now")
        if now >= self.account.look_at:
            match self._age(message, now):
                case Age.OUTLIVED:
                    self.too_old()
                    return
                case Age.REPEATED:
                    self._freshness.outlived += 1
                    return
                case Age.YOUNG | Age.AGED:
                    pass
        if self._wanted is not None:
            if not self._wanted:
                return
            self._wanted -= 1
        self.items.append(self._make(message, now))
        if self._wanted == 0:
            self._end(None)

    def _age(self, message: MessageT, now: float) -> Age:
        """How old it is. One that is aged gets its whole time."""
        reply = message.reply or ""
        number = self._freshness.look(now)
        if number is not None:
            self.wants.append(CatchUp(number))
        age = self._freshness.judge(reply, now)
        self.account.look_at = self._freshness.look_at
        if age is Age.AGED and reply.startswith(ACK_PREFIX):
            self.wants.append(Publish(reply, IN_PROGRESS))
        return age

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
                self._freshness.beat(now)
                self.account.look_at = self._freshness.look_at
            case Meaning.FLOW_CONTROL:
                pass
            case Meaning.EXPIRED | Meaning.COMPLETED | Meaning.NO_MESSAGES | Meaning.REQUESTS_PENDING:
                self._ended(request, status, now)
            case Meaning.MESSAGE_TOO_LARGE:
                if self._asking.asked_for_all_bytes(request, status):  # so it will be with each other request
                    self._end(too_large(self.what, status, request.max_bytes))
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
                self._warn("max_waiting", f"as many requests wait as the consumer allows: {status.text}")
                self._ended(request, status, now, pause=2 * self._asking.heartbeat)
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
        if self._beats_since is not self.account.newest:
            self._beats_since = self.account.newest
            self._beats = 0
        self._beats += 1
        if self._beats != 2 or self.account.newest is None:
            return
        try:
            pending = parse_ack_subject(self.account.newest).num_pending
        except NotJetStreamMessageError:
            return  # whoever has sent it
        if pending:
            self._look(self._info)

    def _ended(self, request: PullRequest, status: PullStatus, now: float, *, pause: float = 0.0) -> None:
        unused = request.batch if status.refused else status.unused_messages
        unused_bytes = request.max_bytes if status.refused else status.unused_bytes
        self._pulls.end(request, unused, unused_bytes)
        if status.meaning is Meaning.EXPIRED and now - request.sent >= self._asking.expires * 0.9:
            self.refill(now)  # it has waited as long as it was to: nothing has failed, however short that is
        else:
            self._again(request, now, pause=pause)

    def _leader_has_changed(self, request: PullRequest, now: float) -> None:
        """A new leader tells each request that the one before it had. One that was sent later may be its own."""
        self._pulls.lose(request)
        if request.sent < self._leader_changed:
            self.refill(now)  # it belongs to the same change
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
        if not self._asking.lower(request, status):
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
            self.refill(now)

    def _renew(self, now: float) -> None:
        """Another inbox: what was asked for before finds nobody any more. Nothing that waits to be done is still right,
        and the answer to a call that was made would go to the inbox that is left."""
        self.wants.clear()
        self._question = None
        self._replaced_at = float("inf")
        ages = self._freshness.ages
        self._freshness.renewed(now)
        self.wants.append(self._pulls.subscribe(self._new_inbox(), None if ages is None else ages.opened))
        if self._state is _State.RECREATING:
            self._recreate()
        else:
            self.refill(now)

    def _ask(self, now: float) -> None:
        if self._asking.unsure:
            self._look(self._info)
            return
        request = self._asking.next_request(self._wanted, now=now)
        if request is not None:
            self.wants.append(request)

    def _look(self, call: ApiCall[object] | None) -> None:
        """Ask what the consumer says of itself."""
        if call is not None and self._question is None and not self.done:
            self._question = call
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
        if self._create is not None and self._question is None:
            self._resume = float("inf")
            self._question = self._create
            self.wants.append(Ask(self._create, CREATE_TIMEOUT))

    def _created(self, answer: object, now: float) -> None:
        if not isinstance(answer, NATSError):
            self._warn("consumer_recreated", "the consumer was created again")
            self._pacing.reset()
            self._state = _State.ASKING
            self.refill(now)
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
