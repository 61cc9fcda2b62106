"""One batch of messages from a consumer: asked for once, and ended by the server, by the caller's limit, or by time.

Theory of operation
-------------------
A fetch is one request (`Pulls`), and what has become of it: messages, and a `reason` for the end. Being empty is no
error; the reason tells "the server says that there is nothing" apart from "nobody has answered".

    ASKING ──the request came to nothing, and there is time──▶ PAUSED ──its pause is over──▶ ASKING
       └─────────── limit, status, deadline ─────────────┴──▶ ENDED

* The server ends the request a moment before the fetch would end it (`_margin`), so that as a rule it is the server
  who says that nothing came. When the local deadline comes first, the reason is ``no_answer`` unless there were signs
  of life. Every fetch has such a deadline: a server leaves requests that will not wait without an answer when as many
  messages as the consumer allows wait for their acknowledgement. Then, and after a second "no responders", it is asked
  for the consumer's info, once.
* What passes by itself does not end a fetch: it asks for the rest, for the time that is left. That is a connection that
  was replaced, a change of leaders, a server that shuts down, silence, no responders.
* A long fetch is silent when nothing came for two heart-beats. A short one, which two of them would outlast, asks for
  none, unless its user does: the server ends the request as soon, and is silent when it has not.
* A consumer that takes no more requests says so to one without heart-beats, and is silent to one with them. Requests
  of others may end in time. So a fetch asks again after a pause, and ends empty; one that has no time for that fails.
* Whoever leaves a fetch early, or ends it by time, leaves no request behind: with the subscription the server loses
  sight of who asked, and what comes late is handed back (`Subscribe.hand_back`).

A fetch that was abandoned for a while by its reader still gives what has come meanwhile: messages that lie in the queue
are received before the deadline is looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Generic, Literal, TypeVar, assert_never

from .._calls.machine import Ask, Want
from .._calls.operation import ApiCall
from .._limits import check_count, check_seconds, shown
from .._session.marks import PublishRefused
from .._session.not_permitted import not_permitted
from .._session.subscription import MessageT
from .._wire.twin import Deliveries
from ..errors import NATSError
from .condition import ConsumerCondition
from .options import HEARTBEAT, Priority, renewing
from .pacing import Pacing
from .pulls import LATE, MIN_SPARE, PullRequest, Pulls
from .refusals import deleted, is_gone, missing, refusal, too_large
from .sizes import size_on_wire
from .statuses import Meaning, PullStatus, read_status

__all__ = ["Fetch", "FetchReason"]

ItemT = TypeVar("ItemT")

FetchReason = Literal["limit", "expired", "no_messages", "no_answer", "ack_limit", "max_waiting", "max_bytes", "linger"]
"""Why a fetch has ended. ``limit``: it has as many messages as it asked for. ``expired``: its time was up, and the
server was there. ``no_messages``: the server says that there are none, or none that others have not asked for.
``no_answer``: nobody has answered. ``ack_limit``: as many messages as the consumer allows wait for their
acknowledgement. ``max_waiting``: as many requests as it allows wait already. ``max_bytes``: the next message would be
more than the bytes asked for. ``linger``: that long after the first message."""

MAX_BATCH: Final = 1_000_000
"""Messages that are asked for when only bytes were given."""
MAX_EXPIRES: Final = 3600.0
"""Seconds that one request waits. A fetch that waits longer, or for ever, asks again."""
MIN_EXPIRES: Final = 0.001
"""Seconds. For less than this it is not worth to ask once more."""
MIN_WAIT_FOR_SILENCE: Final = 1.0
"""Seconds. Who waits for less has no time left to ask anew when the end of the request has not come."""
PATIENCE: Final = 0.5
"""Seconds after which a request that will not wait is overdue."""
INFO_TIMEOUT: Final = 5.0


class _State(Enum):
    ASKING = auto()
    PAUSED = auto()
    ENDED = auto()


class Fetch(Generic[MessageT, ItemT]):
    """A `Machine` that gives up to ``batch`` messages. Times are seconds, ``now`` is an absolute time.

    ``subject``: where requests to this consumer go. ``what`` names the fetch in the texts of errors, such as ``fetch
    from consumer 'w' of stream 'S'``. ``make`` makes an item of a message and the time. ``info``: the call whose result
    is the `ConsumerCondition`; without it nothing is asked.

    ``timeout``: how long it takes at most. ``no_wait``: only what is there at this moment. ``linger``: it ends so long
    after its first message. ``max_bytes``: bounds the bytes of all messages together, with subjects and headers;
    without ``batch`` the messages are not counted. ``priority_timeout``: of a consumer that pins clients; None: it is
    none, or not known.

    Nothing happens before `begin`: whoever was given a fetch may wait before it asks for the first message.

    Raises `TypeError` and `ValueError` for numbers that cannot be used.
    """

    __slots__ = (
        "_answered",
        "_asking",
        "_batch",
        "_bytes",
        "_deadline",
        "_first",
        "_heartbeat",
        "_info",
        "_linger",
        "_linger_until",
        "_longest",
        "_look_at",
        "_make",
        "_max_bytes",
        "_new_inbox",
        "_no_wait",
        "_pacing",
        "_priority",
        "_pulls",
        "_replaced_at",
        "_resume",
        "_seconds",
        "_sent",
        "_spared",
        "_state",
        "_suspicion",
        "account",
        "done",
        "error",
        "items",
        "reason",
        "single",
        "wants",
        "what",
    )

    def __init__(
        self,
        subject: str,
        *,
        what: str,
        new_inbox: Callable[[], str],
        make: Callable[[MessageT, float], ItemT],
        batch: int | None,
        timeout: float,
        max_bytes: int | None = None,
        no_wait: bool = False,
        heartbeat: float | None = None,
        linger: float | None = None,
        priority: Priority | None = None,
        priority_timeout: float | None = None,
        info: ApiCall[object] | None = None,
    ) -> None:
        if batch is None and max_bytes is None:
            raise TypeError("max_messages must be given, or max_bytes")
        self._batch = MAX_BATCH if batch is None else check_count("max_messages", batch)
        self._max_bytes = 0 if max_bytes is None else check_count("max_bytes", max_bytes)
        self._no_wait = no_wait
        self._seconds = seconds = check_seconds("timeout", timeout)
        self._heartbeat = _checked_heartbeat(heartbeat, seconds, no_wait=no_wait)
        self._linger = None if linger is None else check_seconds("linger", linger)
        self.what = what
        self._new_inbox = new_inbox
        self._make = make
        self._info: ApiCall[object] | None = info
        self._asking = False
        self._answered = False
        """The consumer's info has come."""
        self._priority = priority
        self.items: deque[ItemT] = deque()
        self.wants: deque[Want] = deque()
        self.account: Deliveries[MessageT, ItemT] = Deliveries(make, self.items, self.wants)
        """Whoever drives the machine may take messages there, past `receive`, which has to see what it leaves."""
        self._pulls: Pulls[MessageT, ItemT] = Pulls(subject, priority=priority, account=self.account)
        self._longest = renewing(MAX_EXPIRES, priority_timeout)
        """Seconds that one request waits at most."""
        self._pacing = Pacing()
        self.account.left = self._batch
        self._bytes = self._max_bytes
        """Bytes that may still come, when they are counted."""
        self.account.plain = self._linger is None and not self._max_bytes and priority is None
        self._first = True
        self._deadline = float("inf")
        self._linger_until = float("inf")
        self._look_at = float("inf")
        """When a request that will not wait is overdue."""
        self._resume = float("inf")
        self._replaced_at = float("inf")
        """When the connection was replaced, as long as messages that came before may be unread."""
        self._sent = float("-inf")
        self._spared = False
        self._state = _State.ASKING
        self._suspicion: FetchReason | None = None
        """What the consumer's info gave as a cause of silence."""
        self.done = False
        self.single = batch == 1
        """One message was asked for."""
        self.error: NATSError | None = None
        self.reason: FetchReason | None = None
        """Why it ended; None while it has not, and when it ended with an error."""

    def begin(self, pin: str | None = None, *, now: float) -> None:
        """Ask: before anything else, and once. ``pin``: the identity that the server gave this client before."""
        self._pulls.pin = pin
        self._deadline = now + self._seconds
        if self._no_wait and self._info is not None:
            self._look_at = now + min(PATIENCE, self._seconds / 2)
        self._renew(now, single=True)

    @property
    def pin(self) -> str | None:
        """The identity that the server gave this client as the pinned one (ADR-42): for the next request."""
        return self._pulls.pin

    def receive(self, message: MessageT, *, now: float) -> None:
        """A message of the consumer, or a status."""
        if message.reply is None:
            self._status(message, now)
            return
        account = self.account
        left = account.left - 1
        if left < 0 or self.done:
            return  # nobody asked for this one
        account.left = left
        account.messages -= 1
        account.heard = now
        self.items.append(self._make(message, now))
        if not account.plain:
            self._look_into(message, now)
        if not left:
            self._end("limit")

    def connection_replaced(self, *, now: float) -> None:
        """The request is lost with the connection, as far as anybody can know: it asks for the rest.

        Not before all was read that lies behind this: it was delivered, and acknowledgements count on any connection.
        """
        if not self.done:
            self._pulls.write_off()
            self.wants.clear()
            self._replaced_at = now

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """This user may not ask the consumer for messages, or not any more."""
        if not self.done and self._pulls.any_open:
            self._fail(not_permitted(self.what, refused.error))

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """What the consumer says of itself. Without an answer the fetch goes on without."""
        if self.done:
            return
        if is_gone(answer) and isinstance(answer, NATSError):
            self._fail(missing(self.what, answer, heard=bool(self.account.left < self._batch)))
            return
        self._asking = False
        if isinstance(answer, ConsumerCondition):
            self._answered = True
            if answer.at_ack_limit:
                self._suspicion = "ack_limit"
            elif answer.at_waiting_limit:
                self._suspicion = "max_waiting"
            elif not self._no_wait:
                self._suspicion = "expired"  # it is there, and has nothing
            # Who will not wait has the answer now. Who waits does so: acknowledgements may make room.
            if self._no_wait and self._suspicion is not None and self._pulls.any_open:
                self._end(self._suspicion)

    def next_timeout(self) -> float | None:
        """When it has to look again; the deadline at the latest."""
        if self.done:
            return None
        due = min(self._deadline, self._linger_until, self._look_at, self._replaced_at)
        if self._state is _State.PAUSED:
            due = min(due, self._resume)
        silence = self._pulls.next_timeout()
        return due if silence is None else min(due, silence)

    def handle_timeout(self, *, now: float) -> None:
        """Do what is due: end, look for the cause of silence, ask again."""
        if self.done:
            return
        if now >= self._linger_until:
            self._end("linger")
            return
        if now >= self._deadline:
            self._time_is_up(now)
            return
        if now >= self._replaced_at:
            self._renew(now)
            return
        if now >= self._look_at:
            self._look_at = float("inf")
            self._look(now)
        if self._state is _State.PAUSED and now >= self._resume:
            self._pull(now)
        silence = self._pulls.next_timeout()
        if silence is None or now < silence or self._pulls.spare(now=now):
            return
        if self._pulls.silent(now=now):
            self._renew(now)
            self._look(now)
        elif self._pulls.expire(now=now):
            self._pull(now)

    # --- what comes

    def _look_into(self, message: MessageT, now: float) -> None:
        if self._first:
            self._first = False
            if self._linger is not None:
                self._linger_until = now + self._linger
        if self._priority is not None:
            self._pulls.take_pin(message)
        if self._max_bytes:
            size = size_on_wire(message, self._pulls.pin)
            self._bytes -= size
            self._pulls.bytes -= size
            # A request whose bytes are used up is ended without a word.
            if self._bytes <= 0 and self.account.left:
                self._end("max_bytes")

    def _status(self, message: MessageT, now: float) -> None:
        request = self._pulls.find(message.subject)
        if request is None or self.done:
            return  # of a request that was written off
        status = read_status(message)
        if status is None:
            return  # somebody else answers here; the clock tells whether the server does
        match status.meaning:
            case Meaning.HEARTBEAT:
                self._pulls.heard = now
            case Meaning.FLOW_CONTROL:
                pass
            case Meaning.NO_MESSAGES | Meaning.REQUESTS_PENDING if self._no_wait:
                self._end("no_messages")
            case Meaning.EXPIRED | Meaning.COMPLETED | Meaning.NO_MESSAGES | Meaning.REQUESTS_PENDING:
                self._expired(request, status, now)
            case Meaning.MESSAGE_TOO_LARGE:
                if self.account.left < self._batch:
                    self._end("max_bytes")
                else:
                    self._fail(too_large(self.what, status, self._max_bytes))
            case Meaning.CONSUMER_DELETED:
                self._fail(deleted(self.what))
            case Meaning.MAX_WAITING if not self._no_wait and self._seconds >= MIN_WAIT_FOR_SILENCE:
                self._suspicion = "max_waiting"
                self._again(request, now, at_once=False)
            case Meaning.LIMIT | Meaning.MAX_WAITING | Meaning.BAD_REQUEST | Meaning.PUSH_BASED | Meaning.API_LEVEL:
                self._fail(refusal(self.what, status, request))
            case Meaning.LEADER_CHANGED | Meaning.SERVER_SHUTDOWN | Meaning.UNKNOWN:
                self._again(request, now)
            case Meaning.UNPINNED:
                self._pulls.pin = None
                self._again(request, now)
            case Meaning.NO_RESPONDERS:
                self._again(request, now, at_once=False)
                if self._pacing.failures > 1:
                    self._look(now)
            case _:
                assert_never(status.meaning)

    def _expired(self, request: PullRequest, status: PullStatus, now: float) -> None:
        """The server ended the request. That is the end, unless it was long before the time."""
        if now >= self._deadline - 2 * _margin(self._deadline - request.sent):
            self._end("expired")
        else:
            self._again(request, now)

    # --- what to do

    def _renew(self, now: float, *, single: bool = False) -> None:
        """Another inbox: what was asked for before finds nobody any more, and nothing that was to be done is right.

        ``single``: it is for one request, which nearly always is all there is to a fetch.
        """
        self.wants.clear()
        self._asking = False  # its answer would go to the inbox that is left
        self._replaced_at = float("inf")
        self.wants.append(self._pulls.subscribe(self._new_inbox(), single=single))
        self._pull(now)

    def _again(self, request: PullRequest, now: float, *, at_once: bool = True) -> None:
        self._pulls.write_off()
        pause = self._pacing.failed(now=now, sent=request.sent, heard=self._pulls.heard, at_once=at_once)
        if pause:
            self._state = _State.PAUSED
            self._resume = now + pause
        else:
            self._pull(now)

    def _pull(self, now: float) -> None:
        """Ask for what is missing, for the time that is left."""
        self._state = _State.ASKING
        if not self._pulls.may_ask:
            self._renew(now)
            return
        if self._no_wait:
            self.wants.append(
                self._pulls.ask(self.account.left, now=now, expires=0.0, max_bytes=self._bytes, no_wait=True)
            )
            self._sent = now
            return
        rest = self._deadline - now
        expires = min(rest - _margin(rest), self._longest)
        if expires < MIN_EXPIRES:
            return
        heartbeat = min(self._heartbeat, expires / 2) if expires >= MIN_WAIT_FOR_SILENCE / 2 else 0.0
        silence = expires + _margin(rest) / 2 if not heartbeat and rest >= MIN_WAIT_FOR_SILENCE else None
        self._sent = now
        self.wants.append(
            self._pulls.ask(
                self.account.left,
                now=now,
                expires=expires,
                heartbeat=heartbeat,
                max_bytes=self._bytes,
                silence=silence,
            )
        )

    def _look(self, now: float) -> None:
        """Ask what the consumer says of itself, until it has said it once."""
        if self._info is not None and not self._asking and not self._answered:
            self._asking = True
            self.wants.append(Ask(self._info, min(INFO_TIMEOUT, max(MIN_EXPIRES, self._deadline - now))))

    def _time_is_up(self, now: float) -> None:
        # Handled late: nobody has waited until now, and what has come may not have been read.
        if now - self._deadline > LATE and not self._spared:
            self._spared = True
            self._deadline = now + MIN_SPARE
            self._pulls.spare(now=now)
            return
        if self._pulls.any_open and self._pulls.heard >= self._sent:
            self._end("expired")
        else:
            self._end(self._suspicion or "no_answer")

    def _end(self, reason: FetchReason) -> None:
        self._state = _State.ENDED
        self.done = True
        self.reason = reason
        self.wants.clear()

    def _fail(self, error: NATSError) -> None:
        self._state = _State.ENDED
        self.done = True
        self.error = error
        self.wants.clear()


def _margin(seconds: float) -> float:
    """How much sooner than the caller the server gives up, so that its word of it is there in time."""
    return min(max(seconds / 10, 0.05), 0.5, seconds / 2)


def _checked_heartbeat(heartbeat: float | None, timeout: float, *, no_wait: bool) -> float:
    """Seconds between heart-beats; 0 for none."""
    if heartbeat is None:
        return 0.0 if no_wait or timeout <= 2 * HEARTBEAT else HEARTBEAT
    checked = check_seconds("heartbeat", heartbeat)
    if no_wait or 2 * checked > timeout:
        raise ValueError(f"heartbeat must be at most half of the timeout of a fetch that waits: {shown(heartbeat)}")
    return checked
