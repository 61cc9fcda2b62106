"""Many publishes in flight, each with an acknowledgement of its own: the machine of a publisher.

Theory of operation
-------------------
One wildcard subscription takes all acknowledgements. Each publish has a reply subject of its own, made of the window's
inbox and a number that is used once, so an acknowledgement can complete no publish but its own, and a late one finds
nobody. Who publishes much spares the server work by using reply subjects again where the same holds, which
`nats_proto._wire.in_flight` tells. What comes to one of them and may be the answer to an earlier publish counts as
late, and none is used again for a while. At most ``max_pending`` publishes are in flight; whoever wants to publish more
waits until one has ended.

    client.publish:  room? ─▶ begin ─▶ publish (subject, data, reply, headers) ─▶ the Pending
                      no └──▶ the driver waits for an item, like everybody who waits for an acknowledgement

**What differs from other machines.** A machine says what to send by its `wants`, and the driver sends it. That is a
value made, queued, taken and matched for each message, which would cost as much as the publish itself. Here it is not
needed: who calls `begin` is at that moment in the client, and publishes with its quickest means what `begin` has
returned. When that raises, the message was not taken, and `failed` takes the publish out again. Only what is sent
another time goes through `wants`. What of that the client refuses is told by `refused`, and what it has no room for is
still among the wants: of both it is certain that they are not stored. So it is of what the session has
taken and gives up before it is handed over, because the next server would refuse it: `publish_dropped` tells of that.
Everything else is as for all machines: the first
want is the subscription, completed publishes are the items, in the order in which their acknowledgements came, and time
passes while somebody waits.
With several threads all calls belong under one lock, and so do `begin` and the publish together, since the order of the
calls shall be that of the wire. `publish` is both in one step. Where the core is compiled it needs no lock, so it may
come between any two lines here: it adds to what waits, counts on, and lowers the time of the next look, nothing else.

States of a publish
-------------------
    IN FLIGHT ──acknowledged─────────────────────────────▶ done
        │  ▲ └──refused for good, silence, no more tries──▶ failed
        │  └────its pause is over: sent again─┐
        └──nobody listens, refused for now────▶ RESTING ──acknowledged all the same──▶ done

Which failures are tried again is told in `retries`; tries are begun for ``retry_for`` seconds, each has ``timeout``
seconds. After a refusal the next try has another reply subject: the answer to the last one was had, and what comes
there once more says nothing of the new one. After silence the reply subject stays, so that a late acknowledgement of
the first try counts.

When the connection was replaced, some of what is in flight was read by the old server and its acknowledgements may be
lost, and the rest was kept by the session and is on its way to the new one; nobody can tell which. So what has a
message id is sent again at once, and the rest waits: acknowledged or, when its time is up, failed with an outcome that
is not known. What has ended meanwhile, and what the stream may have stored and forgotten, is not sent any more
(`_awaits`): neither by the session, on a new connection, nor by the driver, of what was left among the wants.

What the server refuses for want of a permission was not stored. It names the subject alone; which publishes end by that
is told in `nats_proto._session.refusals`.

A time-out that is found long after it was due (nobody waited meanwhile) gives the publish a moment more, once: its
acknowledgement may have come and not been read yet.

In order
--------
New messages are sent in the order of the calls. What is sent again comes behind those that were sent meanwhile. With
``in_order`` the window stalls instead: nothing new is begun until nothing rests. What rests is sent again when all that
was in flight has its answer, in the order of the calls, the oldest alone at first, to see whether the stream takes
messages again. Whoever waits for its turn until no try that was begun in time would still have time ends where it
rests, so that many that wait for one another wait no longer than one. Messages that were stored in between, after the
refused one, stay before it: only a window of one, or an expected last sequence, excludes that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from .._calls.machine import Subscribe, Want
from .._calls.operation import ApiCall, Publish
from .._jetstream.errors import PublishWindowFullError
from .._jetstream.pub_ack import PubAck, decode_pub_ack, read_plain
from .._limits import check_count, check_seconds, check_timeout
from .._session.inbox import NO_RESPONDERS, no_responders
from .._session.marks import PublishRefused
from .._session.not_permitted import not_permitted
from .._session.refusals import Refusals
from .._session.subscription import MessageT
from .._wire.frames import Message, Payload
from .._wire.headers import Headers
from .._wire.in_flight import QuickPublish, ReplySlot
from .._wire.twin import InFlight
from ..errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionLostError,
    NATSError,
    NATSTimeoutError,
    OutboundBufferLimitError,
    SubscriptionClosedError,
)
from .failures import Failures, PublishesFailedError
from .headers import message_id
from .pending import Pending
from .publish import SHOWN_OF_FOREIGN, steady
from .retries import (
    DUPLICATE_WINDOW,
    LONGEST_PAUSE,
    RETRY_FOR,
    final_error,
    mark_unknown,
    may_be_stored,
    note_of_forgotten,
    pause_before_retry,
)
from .unsent import take_back, unsent_replies

__all__ = ["LOOK", "MAX_PENDING", "OWN_REPLIES", "SOME_ROOM", "PublishWindow"]

OwnerT = TypeVar("OwnerT")
PendingT = TypeVar("PendingT", bound=Pending[Any])

MAX_PENDING: Final = 4000
"""Publishes in flight, unless the user says otherwise: a distance of 100 ms does not slow down 40,000 a second."""
MAX_FOREIGN: Final = 1000
"""Answers that the queue takes beyond one for each publish in flight: others may answer, too."""
LATE: Final = 0.1
"""Seconds after which a time-out was not found in time, as it is by somebody who waits."""
EXCUSE: Final = 1.0
"""Seconds more for what was found late."""
LOOK: Final = 0.05
"""Seconds after which a publish looks what has come, and whose time is up, although there is room."""
SOME_ROOM: Final = 0.005
"""Seconds, at most, for which a publisher that found the window full waits for a quarter of it to become free: to go on
at the first free place would be a wake-up for each publish."""
OWN_REPLIES: Final = 1000
"""Publishes that have a reply subject of their own before any is used again: at the beginning, and whenever an answer
has come for which nobody waits."""
_NEVER: Final = float("inf")
_OF_ALL: Final = (ConnectionClosedError, ConnectionDrainingError, SubscriptionClosedError)
"""What a client says when it publishes nothing any more."""


class PublishWindow(Generic[PendingT, OwnerT]):
    """A `Machine`. Its items are those `Pending` that have ended, except what was ended by `failed`.

    ``make``: the client's class of pending publishes. ``timeout`` (seconds) is for each try, ``retry_for`` says for how
    long tries are begun, ``duplicate_window`` for how long the stream remembers message ids. Raises `ValueError` and
    `TypeError` for numbers that cannot be used.
    """

    def __init__(
        self,
        inbox: str,
        make: Callable[
            [str, Payload, Headers | None, str, int, float, float, float, OwnerT | None, ReplySlot | None], PendingT
        ],
        *,
        max_pending: int = MAX_PENDING,
        timeout: float = 5.0,
        retry_for: float = RETRY_FOR,
        duplicate_window: float = DUPLICATE_WINDOW,
        in_order: bool = False,
    ) -> None:
        self._max = check_count("max_pending", max_pending)
        self._timeout = check_seconds("timeout", timeout)
        self._retry_for = check_timeout("retry_for", retry_for)
        self._duplicate_window = check_seconds("duplicate_window", duplicate_window)
        self._in_order = in_order
        self._prefix = inbox + "."
        # Bounded, since anybody may publish to the inbox: who floods it costs acknowledgements, no memory.
        limit = max_pending + MAX_FOREIGN
        self.wants: deque[Want] = deque(
            (Subscribe(f"{inbox}.*", max_pending_msgs=limit, awaits=self._awaits, asks=self._asks),)
        )
        self._flight: InFlight[PendingT, OwnerT] = InFlight(self._prefix, make, read_plain, self.wants, self._timeout)
        """It has the numbers, and ``look``, which is made exact only when it has come: to keep it so would cost each
        acknowledgement something, and nearly all come long before."""
        self._flight.limit = self._max
        self._own_replies = OWN_REPLIES
        self._flight.own = OWN_REPLIES
        self.publish: Callable[[QuickPublish, str, Payload, float], PendingT | None] = self._flight.publish
        """`begin`, and publish without headers by ``quickly``, which is ``Session.publish_quickly``: in one step.

        None, and nothing was begun, when there is no `room`, and for what has to go another way. Its arguments are
        ``quickly``, the subject, the payload and the time.
        """
        self._waiting = self._flight.waiting
        """All that have not ended, by their reply subjects."""
        self._resting = 0
        """How many of these wait for their next try."""
        self._stalled_until = 0.0
        """In order: when the oldest of those that rest may be sent again."""
        self._replaced = -_NEVER
        """When the connection was replaced last."""
        self._ending = False
        self._failures = Failures()
        self._refusals: Refusals[PendingT] = Refusals(_number)
        self.late = 0
        """Answers for which nobody waited: too late, or doubled."""
        self.items: deque[PendingT] = deque()
        self.error: NATSError | None = None
        """Always None: failures belong to single publishes; see `failure`."""

    # --- publishing --------------------------------------------------------------------------------------------------

    @property
    def owner(self) -> OwnerT | None:
        """Whose publishes they are: each of them is told."""
        return self._flight.owner

    @owner.setter
    def owner(self, owner: OwnerT) -> None:
        self._flight.owner = owner

    @property
    def room(self) -> int:
        """How many publishes may be begun now. None before the driver has done what the machine wants: the subscription
        comes before the first publish, and what is sent again before what is new."""
        if self.wants or self._ending or (self._in_order and self._resting):
            return 0
        return max(0, self._max - len(self._waiting))

    @property
    def some_room(self) -> int:
        """So much room is worth to wait a moment for: a quarter of the window."""
        return (self._max + 3) // 4

    @property
    def ending(self) -> bool:
        """No more will be begun."""
        return self._ending

    @property
    def pending(self) -> int:
        """Publishes that have not ended."""
        return len(self._waiting)

    def begin(self, subject: str, data: Payload, headers: Headers | None, *, now: float) -> PendingT | None:
        """Count on a publish that the caller sends now, with `Pending.reply` as its reply subject.

        None when there is no `room`. ``headers`` must not be changed any more.
        """
        return self._flight.begin(subject, data if type(data) is bytes else steady(data), headers, now)

    def failed(self, pending: PendingT, error: BaseException) -> None:
        """Its first try could not be published: the caller has the error, which counts as observed."""
        if pending.pub_ack is not None:
            return
        # While the client waited for room, its time may have passed: it has ended as not acknowledged, or was tried
        # again. A try that was not handed over is taken back; one that was makes the outcome unknown.
        handed_over = pending.tries > 1 and not take_back(self.wants, pending.reply)
        if self._waiting.pop(pending.reply, None) is None:
            self._failures.observe(pending)
        self._rest_no_more(pending)
        pending.observed = True
        pending.error = error if isinstance(error, NATSError) else NATSError(f"it could not be published: {error}")
        if handed_over:
            pending.error.outcome = "unknown"

    def refused(self, error: NATSError, *, now: float) -> bool:
        """The client has raised this for what the window wants first. Whether that was another try of one publish,
        and concerns no other one; else nothing is changed."""
        want = self.wants[0] if self.wants else None
        if not isinstance(want, Publish) or want.reply is None or isinstance(error, _OF_ALL):
            return False
        self.wants.popleft()
        pending = self._waiting.get(want.reply)
        if pending is not None:
            self._try_failed(pending, error, now)
        return True

    def publish_dropped(self, reply: str, error: NATSError, *, now: float) -> None:
        """The session has given up this try before it was handed over: it is certainly not stored."""
        pending = self._waiting.get(reply)
        if pending is not None:
            take_back(self.wants, reply)  # another try of it would be given up as well
            self._rest_no_more(pending)
            self._try_failed(pending, error, now)

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """These of them end that the server has refused for certain."""
        self._refusals.add(refused.subject, refused.error, refused.count, until=refused.until)
        self._look_at_refusals(now)

    def full_error(self, subject: str, *, now: float) -> PublishWindowFullError:
        """For who has waited for room as long as he may."""
        oldest = now - min((pending.begun for pending in list(self._waiting.values())), default=now)
        why = f", {self._resting} of them to be sent again in order" if self._in_order and self._resting else ""
        return PublishWindowFullError(
            f"publish to {subject!r}: not sent, since {len(self._waiting)} publishes of at most {self._max} wait for "
            f"their acknowledgements{why}, the oldest for {oldest:.3g} s",
            max_pending=self._max,
            oldest=oldest,
        )

    def finish(self) -> None:
        """No more will be begun: it is done when all have ended."""
        self._ending = True
        self._flight.limit = 0

    def abandon(self, cause: NATSError) -> None:
        """Nobody will wait any more: all that has not ended fails now, with an error that says why."""
        self.finish()
        unsent = unsent_replies(self.wants)
        self.wants.clear()
        for pending in sorted(self._waiting.values(), key=_number):
            error = ConnectionClosedError(f"publish to {pending.subject!r}: given up, {cause}")
            if pending.unknown or not (pending.resting or pending.reply in unsent):
                error.outcome = "unknown"
            self._end(pending, error)

    def observe(self, pending: PendingT) -> None:
        """Its error, if it has one, was told to somebody: `failure` says nothing of it any more."""
        self._failures.observe(pending)

    def failure(self) -> PublishesFailedError | None:
        """What to raise at the end, for those that have failed without that anybody was told of it."""
        return self._failures.error(self._flight.number)

    # --- the machine -------------------------------------------------------------------------------------------------

    @property
    def what(self) -> str:
        """For the texts of errors."""
        return "publish window"

    @property
    def done(self) -> bool:
        """No more will be begun, and all have ended."""
        return self._ending and not self._waiting

    def receive(self, message: Message, *, now: float) -> None:
        """An answer to one of them."""
        self._receive(message, now)
        if self._refusals.subjects:
            self._look_at_refusals(now)

    def _receive(self, message: Message, now: float) -> None:
        pending = self._waiting.get(message.subject)
        if pending is None:
            self._count_late()
            return
        pub_ack = decode_pub_ack("publish", message)
        if not isinstance(pub_ack, PubAck):
            self._not_acknowledged(pending, message, now)
            return
        if pending.slot is not None and not pending.slot.is_later(pub_ack):
            self._count_late()  # or its own, of a stream that was made anew meanwhile; then it ends as not answered
            return
        del self._waiting[message.subject]
        pending.pub_ack = pub_ack
        self.items.append(pending)
        if self._resting:
            self._taken(pending, now)

    def _count_late(self) -> None:
        self.late += 1
        self._flight.forget()
        self._flight.own = self._flight.number + self._own_replies

    def receive_all(self, arrived: deque[MessageT], marked: Callable[[], None], *, now: float) -> None:
        """`receive` each, in order, and take it out of the queue; ``marked`` is called for one without a subject.

        Acknowledgements come many at once, and nearly all are plain ones: these are taken without a call for each.
        """
        while arrived:
            if not self._resting:
                self._flight.complete(arrived, self.items)
                if not arrived:
                    break
            message = arrived.popleft()  # one by one: what an interrupt has left in the queue is received later
            if message.subject:
                self._receive(message, now)
            else:
                marked()
        if self._refusals.subjects:
            self._look_at_refusals(now)

    def connection_replaced(self, *, now: float) -> None:
        """Acknowledgements may be lost: what can be sent a second time is."""
        self._replaced = now
        self._flight.forget()
        self._refusals.clear()
        unsent = unsent_replies(self.wants)
        for pending in sorted(self._waiting.values(), key=_number):
            if pending.resting or pending.reply in unsent:
                continue  # its next try is for the new connection anyway
            if self._has_id(pending, now) and now - pending.begun < self._retry_for:
                pending.unknown = True
                self._send(pending, now)

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """It makes no calls."""

    def next_timeout(self) -> float | None:
        """When a try ends without an answer, or one is to be made again. It may be too early."""
        due = self._flight.look if self._waiting else _NEVER
        if self._stalled_idly:
            due = min(due, self._stalled_until)
        return None if due == _NEVER else due

    def handle_timeout(self, *, now: float) -> None:
        """End tries whose time is up, and begin those for which it has come."""
        if self.wants:
            self._take_back_needless()
        if self._waiting and now >= self._flight.look:
            unsent = unsent_replies(self.wants)
            for pending in sorted((one for one in list(self._waiting.values()) if one.deadline <= now), key=_number):
                late = now > pending.deadline + LATE and not pending.excused
                if pending.reply in unsent and not (late and self._forgotten(pending, now)):
                    self._not_sent(pending, now)
                elif pending.resting and not self._in_order:
                    self._send(pending, now)
                elif late:
                    if pending.reply in unsent:
                        take_back(self.wants, pending.reply)
                    pending.excused = True
                    pending.deadline = now + min(EXCUSE, self._timeout)
                else:
                    self._try_failed(pending, pending.last or self._silence(pending), now)
            # In this order: a publish that is begun meanwhile lowers it as well.
            self._flight.look = _NEVER
            self._flight.look_by(min((one.deadline for one in list(self._waiting.values())), default=_NEVER))
        # The oldest that is still to be tried: those that the stream has forgotten end instead.
        while self._stalled_idly and now >= self._stalled_until:
            self._send(min(list(self._waiting.values()), key=_number), now)

    # --- one try -----------------------------------------------------------------------------------------------------

    def _not_acknowledged(self, pending: PendingT, message: Message, now: float) -> None:
        # Read once more, now for the text of an error: to make one for each acknowledgement would cost as much as that.
        error: NATSError | PubAck | None = decode_pub_ack(f"publish to {pending.subject!r}", message)
        if not isinstance(error, NATSError):
            status = None if message.data or message.header_block is None else message.status
            if status is None or status.code != NO_RESPONDERS:
                pending.foreign = message.data[:SHOWN_OF_FOREIGN]
                return
            error = no_responders(pending.subject)
        # The next try of what rests will tell more. This is the answer to an earlier one.
        if not pending.resting:
            take_back(self.wants, pending.reply)
            pending.refused = True
            self._try_failed(pending, error, now)

    def _try_failed(self, pending: PendingT, error: NATSError, now: float) -> None:
        spent = now - pending.begun
        if isinstance(error, OutboundBufferLimitError):
            pause: float | None = LONGEST_PAUSE  # of this client, which has no connection
        else:
            pause = pause_before_retry(error, pending.tries, has_id=self._has_id(pending, now))
        pending.unknown = pending.unknown or may_be_stored(error)
        if pause is None or spent >= self._retry_for or self._forgotten(pending, now):
            error = final_error(
                error,
                pending.subject,
                tries=pending.tries,
                seconds=spent,
                unknown=pending.unknown,
                foreign=pending.foreign,
            )
            note_of_forgotten(
                error,
                has_id=message_id(pending.headers) is not None,
                seconds=spent,
                window=self._duplicate_window,
                retry_for=self._retry_for,
            )
            self._end(pending, error)
            return
        # The last try is at the very end, so that a leader who comes just then is met.
        pause = min(pause, self._retry_for - spent)
        pending.last = error
        if self._in_order:
            pending.resting, pending.deadline = True, self._end_of(pending)
            self._flight.look_by(pending.deadline)
            self._rests()
            self._stalled_until = max(self._stalled_until, now + pause)
        elif pause:
            pending.resting, pending.deadline = True, now + pause
            self._rests()
            self._flight.look_by(pending.deadline)
        else:
            self._send(pending, now)

    def _send(self, pending: PendingT, now: float) -> None:
        """Another try."""
        self._rest_no_more(pending)
        if self._forgotten(pending, now):
            self._try_failed(pending, pending.last or self._silence(pending), now)
            return
        pending.tries += 1
        if pending.refused:
            pending.refused = False
            pending.slot = None
            answered, pending.reply = pending.reply, f"{self._prefix}{pending.number}-{pending.tries}"
            self._waiting[pending.reply] = pending
            del self._waiting[answered]  # behind it: else there would be room for another one in between
        pending.last = None
        pending.sent, pending.excused = now, False
        self._wait_from(pending, now)
        self._flight.look_by(pending.deadline)
        self.wants.append(Publish(pending.subject, pending.data, pending.reply, pending.headers))

    def _wait_from(self, pending: PendingT, now: float) -> None:
        """Until when its present try waits, which is sent now."""
        # In order it may have waited for others beyond the time in which tries are begun. A little it always has.
        pending.deadline = min(now + self._timeout, max(self._end_of(pending), now + EXCUSE))
        if pending.unknown:
            pending.deadline = min(pending.deadline, pending.begun + self._duplicate_window)

    def _end_of(self, pending: PendingT) -> float:
        """When a try ends at the latest."""
        return pending.begun + self._retry_for + self._timeout

    def _not_sent(self, pending: PendingT, now: float) -> None:
        """The time of a try is up that the client had no room for: it is certain that this one is not stored."""
        spent = now - pending.begun
        if spent < self._retry_for and not self._forgotten(pending, now):
            self._wait_from(pending, now)
            return
        take_back(self.wants, pending.reply)
        error = NATSTimeoutError(
            f"publish to {pending.subject!r}: the outgoing buffer had no room for another try within {spent:.3g} s"
        )
        error.outcome = "failed"
        self._end(pending, mark_unknown(error) if pending.unknown else error)

    def _take_back_needless(self) -> None:
        """Tries of publishes that were acknowledged meanwhile."""
        for reply in unsent_replies(self.wants):
            if reply is not None and reply not in self._waiting:
                take_back(self.wants, reply)

    def _rests(self) -> None:
        self._resting += 1
        if self._in_order:
            self._flight.limit = 0  # nothing new is begun before it

    def _rest_no_more(self, pending: PendingT) -> None:
        if pending.resting:
            pending.resting = False
            self._resting -= 1
            if not (self._resting or self._ending):
                self._flight.limit = self._max

    def _end(self, pending: PendingT, error: NATSError) -> None:
        self._waiting.pop(pending.reply, None)
        self._rest_no_more(pending)
        pending.error = error
        self._failures.add(pending)
        self.items.append(pending)

    def _look_at_refusals(self, now: float) -> None:
        unsent = unsent_replies(self.wants)
        flying = [one for one in list(self._waiting.values()) if not (one.resting or one.reply in unsent)]
        for pending, error in self._refusals.take_certain(flying):
            # What was sent before may have been taken by the server before, and others publish to this subject now.
            replaced = pending.sent <= self._replaced
            refusal = not_permitted(f"publish to {pending.subject!r}", error, replaced=replaced)
            self._try_failed(pending, refusal, now)

    def _silence(self, pending: PendingT) -> NATSError:
        error: NATSError = NATSTimeoutError(f"publish to {pending.subject!r}: no acknowledgement")
        if pending.sent <= self._replaced:
            error = ConnectionLostError(
                f"publish to {pending.subject!r}: the connection was replaced before an acknowledgement came; it may "
                f"be stored"
            )
        error.__cause__ = self._refusals.take_possible(pending)
        return error

    def _has_id(self, pending: PendingT, now: float) -> bool:
        # Reckoned as the end of a try is (`_wait_from`), to the last bit: else one that ends then might begin again.
        return now < pending.begun + self._duplicate_window and message_id(pending.headers) is not None

    def _forgotten(self, pending: PendingT, now: float) -> bool:
        """The stream may have stored it, and would not know it again."""
        return pending.unknown and not self._has_id(pending, now)

    def _awaits(self, reply: str, now: float) -> bool:
        """Whether a try that no connection has taken yet is still to be sent."""
        pending = self._waiting.get(reply)
        return pending is not None and not self._forgotten(pending, now)

    def _asks(self, subject: str) -> int | None:
        """The number of the last publish, if one to this subject waits for its acknowledgement."""
        last = self._flight.number
        return last if any(pending.subject == subject for pending in list(self._waiting.values())) else None

    # --- in order ----------------------------------------------------------------------------------------------------

    @property
    def _stalled_idly(self) -> bool:
        """In order: some rest, and all others have their answer."""
        return self._in_order and 0 < self._resting == len(self._waiting)

    def _taken(self, pending: PendingT, now: float) -> None:
        """It was acknowledged while some rest: streams take messages again."""
        self._rest_no_more(pending)
        if self._stalled_idly:
            for one in sorted(self._waiting.values(), key=_number):
                self._send(one, now)


def _number(pending: Pending[Any]) -> int:
    return pending.number
