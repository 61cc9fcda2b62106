"""What flows through a session: publishes and requests out, messages and replies in, and the round trips between.

All of it outlives connections. The session says when there is one (`link_up`, `link_lost`); until then publishes wait
in the outbox, and subscriptions are only written down: the next connection is told about them from the table.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol

from .._connection.events import PongReceived, RefusalReceived
from .._interface.events import PublishesDropped, ReplyReceived, RequestFailed, SessionEvent
from .._interface.stats import StatsSnapshot
from .._limits import check_count
from .._wire.encoder import Encoded, Encoder
from .._wire.frames import Message, Payload
from .._wire.headers import HeadersLike
from .._wire.subjects import validate_queue, validate_subscription_subject
from ..errors import ConnectionLostError, NATSError, PermissionsError
from .askers import Asks
from .awaited import AT_ANY_TIME, Awaited, Awaits
from .event_queue import EventQueue
from .inbox import Accept, RequestInbox
from .marks import CaughtUp, ConnectionReplaced, PublishRefused
from .outbox import Outbox
from .refusals import RefusalsTold
from .round_trips import RoundTrips
from .subscription import MessageT, SubscriptionState, SubscriptionStatus
from .subscription_table import SubscriptionTable

__all__ = ["Traffic"]


class Informed(Protocol[MessageT]):
    """Who has to hear of every subscription as well: the handover to a successor."""

    def subscribed(self, sub: SubscriptionState[MessageT]) -> None:
        """There is another subscription."""
        ...

    def unsubscribed(self, sid: int) -> None:
        """There is one less."""
        ...

    def limited(self, sub: SubscriptionState[MessageT]) -> bool:
        """One has got a maximum: whether a server is to be told now."""
        ...


class Traffic(Generic[MessageT]):
    """Outbox, subscriptions, inbox and round trips of one session. What is allowed when is for the session to say."""

    __slots__ = (
        "_awaited",
        "_connections",
        "_dropped_publishes",
        "_events",
        "_into",
        "_out_bytes",
        "_out_msgs",
        "_refused",
        "_up",
        "ask",
        "encoder",
        "handover",
        "inbox",
        "outbox",
        "round_trips",
        "subs",
    )

    def __init__(
        self,
        events: EventQueue[SessionEvent],
        *,
        inbox_prefix: str,
        max_control_line: int,
        rng: random.Random,
        message_type: type[MessageT],
    ) -> None:
        self._events = events
        self._into: dict[int, SubscriptionState[MessageT]] = {}
        """Where the ends of some requests go, by token: into the queue of a subscription, and not among the events."""
        self._refused: dict[str, RefusalsTold[MessageT]] = {}
        """What the server refuses, by subject, until the PONG behind it."""
        self._connections = 0
        self._up = False
        self._out_msgs = 0
        self._out_bytes = 0
        self._dropped_publishes = 0
        self.encoder = Encoder(max_control_line=max_control_line)
        self.outbox = Outbox(self.encoder.heads)
        self.subs: SubscriptionTable[MessageT] = SubscriptionTable(message_type("", 0, None, b""))
        self.inbox = RequestInbox(inbox_prefix, rng, self.outbox.tail, self._send_request)
        self._awaited = Awaited()
        self._awaited.add(self.inbox.subject, self.inbox.awaits_reply)
        self.ask = self.inbox.ask
        """Publish with a reply subject of the inbox; the request's token."""
        self.round_trips = RoundTrips()
        self.handover: Informed[MessageT] | None = None
        """Who hears of every subscription as well, while a lame duck is left. No drain ends before that does."""

    @property
    def quiet(self) -> bool:
        """Nothing waits to be written, no reply and no PONG is awaited."""
        return not (self.outbox.pending_bytes or len(self.inbox) or len(self.round_trips))

    @property
    def order_matters(self) -> bool:
        """A reply may have a place among the messages of another subscription, so they must be taken as they came."""
        return bool(self._into)

    @property
    def user_subscriptions(self) -> list[SubscriptionState[MessageT]]:
        """All but the inbox."""
        return [sub for sub in self.subs if sub.sid != self.inbox.sid]

    def stats(self, reconnects: int) -> StatsSnapshot:
        """The counters now."""
        return StatsSnapshot(
            in_msgs=self.subs.in_msgs,
            in_bytes=self.subs.in_bytes,
            out_msgs=self._out_msgs + self.outbox.tail.msgs,
            out_bytes=self._out_bytes + self.outbox.tail.payload_bytes,
            reconnects=reconnects,
            dropped_msgs=self.subs.dropped_msgs,
            dropped_unknown_sid=self.subs.dropped_unknown_sid,
            dropped_replies=self.inbox.dropped,
            dropped_publishes=self._dropped_publishes,
        )

    # --- out ---------------------------------------------------------------------------------------------------------

    def server_allows(self, *, max_payload: int, headers: bool) -> bool:
        """What the connected server's INFO says: whether that is less than before."""
        less = self.encoder.server_allows(max_payload=max_payload, headers=headers)
        self.outbox.tail.restrict(*self.encoder.certain)
        return less

    def publish(self, subject: str, data: Payload, reply: str | None, headers: HeadersLike | None) -> None:
        """Take a message for sending. Raises what the encoder raises, before anything is changed."""
        self._append(self.encoder.publish(subject, data, reply, headers), data)

    def request(
        self,
        subject: str,
        data: Payload,
        headers: HeadersLike | None,
        into: SubscriptionState[MessageT],
        accept: Accept | None,
    ) -> int:
        """`ask`, where the end of the request is told in this subscription's queue."""
        token = self.ask(subject, data, headers, accept)
        self._into[token] = into
        return token

    def _send_request(self, subject: str, data: Payload, reply: str, headers: HeadersLike | None) -> None:
        # Encoded before the inbox is subscribed: a request that is refused here must change nothing.
        operation = self.encoder.publish(subject, data, reply, headers)
        if not self.inbox.subscribed:
            self._subscribe_inbox()
        self._append(operation, data)

    def cancel_request(self, token: int) -> None:
        """Nobody waits for its reply any more."""
        self.inbox.cancel(token)
        self._into.pop(token, None)

    def _complete(self, completion: ReplyReceived | RequestFailed) -> None:
        """A request has ended: tell whoever made it."""
        into = self._into.pop(completion.token, None) if self._into else None
        if into is None:
            self._events.add(completion)
        else:
            self.subs.mark(into, completion)

    def _subscribe_inbox(self) -> None:
        """For the first request, and for the next one after a refusal: the permission may have come back meanwhile.

        If not, the server says so once more, and that fails all requests that wait, this one too.
        """
        inbox = self.inbox
        if inbox.sid is None:
            inbox.sid = self._add(inbox.subject, None, None, 0, 0).sid
        else:
            self._append_control(self.encoder.subscribe(inbox.subject, None, inbox.sid))
        inbox.subscribed = True

    def flush(self) -> int:
        """Send a PING; the flush's token."""
        token = self.round_trips.new_token()
        # In this order: an interrupt in between leaves a PONG that nobody waits for. The other way round it would leave
        # a wait for a PONG that never comes, and a lame duck is left early only when nothing is waited for.
        self.outbox.append_ping(token)
        self.round_trips.open_flush(token)
        return token

    def round_trip(self, completed: Callable[[float], None]) -> None:
        """Send a PING of our own; ``completed`` is called with the time of its PONG."""
        token = self.round_trips.new_token()
        self.outbox.append_ping(token)
        self.round_trips.open_own(token, completed)

    def catch_up(self, sub: SubscriptionState[MessageT], number: int) -> None:
        """Mark in the queue of ``sub`` what the server has sent before it reads this."""
        if self._up:
            self.round_trip(lambda _now: self.subs.mark(sub, CaughtUp(number)))

    def _append(self, operation: Encoded, data: Payload) -> None:
        self.outbox.append(operation)
        self._out_msgs += 1
        # The length of a memoryview is in elements, which may be longer than a byte.
        self._out_bytes += data.nbytes if isinstance(data, memoryview) else len(data)

    def _append_control(self, operation: bytes) -> None:
        # Without a connection nothing is kept here: `link_up` tells the next server everything from the table.
        if self._up:
            self.outbox.append(operation)

    # --- subscriptions -----------------------------------------------------------------------------------------------

    def subscribe(
        self,
        subject: str,
        queue: str | None,
        max_msgs: int | None,
        max_pending_msgs: int,
        max_pending_bytes: int,
        wants_marks: bool = False,
        hand_back: bytes | None = None,
        awaits: Awaits | None = None,
        asks: Asks | None = None,
    ) -> SubscriptionState[MessageT]:
        """A new subscription. Raises `InvalidSubjectError` or `ValueError` before anything is changed."""
        validate_subscription_subject(subject)
        if queue is not None:
            validate_queue(queue)
        if max_msgs is not None:
            check_count("max_msgs", max_msgs)
        check_count("max_pending_msgs", max_pending_msgs, least=0)
        check_count("max_pending_bytes", max_pending_bytes, least=0)
        sub = self._add(subject, queue, max_msgs, max_pending_msgs, max_pending_bytes, wants_marks, hand_back, asks)
        if awaits is not None:
            sub.awaits = True
            self._awaited.add(subject, awaits)
        return sub

    def _add(
        self,
        subject: str,
        queue: str | None,
        max_msgs: int | None,
        max_pending_msgs: int,
        max_pending_bytes: int,
        wants_marks: bool = False,
        hand_back: bytes | None = None,
        asks: Asks | None = None,
    ) -> SubscriptionState[MessageT]:
        operation = self.encoder.subscribe(subject, queue, self.subs.next_sid)  # raises before anything is changed
        sub = self.subs.add(
            subject,
            queue=queue,
            max_msgs=max_msgs,
            max_pending_msgs=max_pending_msgs,
            max_pending_bytes=max_pending_bytes,
            wants_marks=wants_marks,
            hand_back=hand_back,
            asks=asks,
        )
        self._append_control(operation)
        if self.handover is not None:
            self.handover.subscribed(sub)
        if max_msgs is not None:
            self.tell_maximum(sub)
        return sub

    def unsubscribe(self, sub: SubscriptionState[MessageT], max_msgs: int | None) -> None:
        """End a subscription now, dropping its queue, or after ``max_msgs`` in all, dropping what is more."""
        if max_msgs is not None:
            check_count("max_msgs", max_msgs)
        live = sub in self.subs
        if max_msgs is None:
            self.discard(sub)
        elif live and sub.max_msgs is not None and max_msgs > sub.max_msgs:
            raise ValueError(
                f"max_msgs is {sub.max_msgs} and cannot be raised: the server may have counted to it by now"
            )
        else:
            sub.keep(max_msgs)
        if not live:
            return
        if max_msgs is not None and sub.received < max_msgs:
            sub.max_msgs = max_msgs
            if self.handover is None or self.handover.limited(sub):
                self.tell_maximum(sub)
            return
        self.leave(sub)

    def tell_maximum(self, sub: SubscriptionState[MessageT]) -> None:
        """As the server of this connection counts it."""
        self._append_control(self.encoder.unsubscribe(sub.sid, sub.connection_max))

    def leave(self, sub: SubscriptionState[MessageT]) -> None:
        """End it now. What the server still sends is dropped, or handed back."""
        if sub.awaits:
            self._leave_awaited(sub.subject)
        # A draining subscription has sent its UNSUB before.
        if not sub.draining:
            self._end_interest(sub)
        if sub.hand_back is not None and self._up:
            sid, late = sub.sid, self.subs.hand_back
            late.leave(sid, sub.hand_back)
            self.round_trip(lambda _now: late.confirmed(sid))
        self.close_subscription(sub)

    def _leave_awaited(self, subject: str) -> None:
        awaited = self._awaited
        if not self.outbox.pending_bytes:
            awaited.forget(subject)
            return
        awaited.leave(subject)
        if self._up:
            self.round_trip(lambda _now: awaited.forget(subject))
        elif awaited.many_left:
            self._drop_late(AT_ANY_TIME)

    def discard(self, sub: SubscriptionState[MessageT]) -> None:
        """Drop what nobody has read of it, or hand it back."""
        unread = sub.discard()
        if sub.hand_back is not None:
            self.subs.hand_back.give(unread, sub.hand_back)
            self._return_messages()

    def _return_messages(self) -> None:
        for reply, payload in self.subs.hand_back.take():
            # Who has no room, or gave a reply subject that nobody can publish to, waits for the acknowledgement longer.
            if self.outbox.full:
                return
            with suppress(NATSError):
                self.publish(reply, payload, None, None)

    def drain_subscription(self, sub: SubscriptionState[MessageT]) -> None:
        """No new messages, but all that the server sent before it read the UNSUB."""
        if sub not in self.subs or sub.draining:
            return
        self.start_drain(sub)
        self.end_drains([sub])

    def start_drain(self, sub: SubscriptionState[MessageT]) -> None:
        """UNSUB leaves; `end_drains` closes it."""
        if not sub.draining:
            sub.status = SubscriptionStatus.DRAINING
            self._end_interest(sub)

    def end_drains(self, subs: Sequence[SubscriptionState[MessageT]]) -> None:
        """They close when a server has answered a PING behind their UNSUBs, in order; without a connection at once.

        While a lame duck is left there are two servers that may have something for them: then it is a PING to the one
        that is the only one afterwards.
        """
        if self.handover is not None:
            return
        if self._up:
            self.round_trip(lambda _now: self._close_drained(subs))
        else:
            self._close_drained(subs)

    def _close_drained(self, subs: Sequence[SubscriptionState[MessageT]]) -> None:
        for sub in subs:
            self.close_subscription(sub)

    def handover_ended(self) -> None:
        """The lame duck is left, or there was nowhere to go."""
        self.handover = None
        draining = [sub for sub in self.subs if sub.draining]
        if draining:
            self.end_drains(draining)

    def _end_interest(self, sub: SubscriptionState[MessageT]) -> None:
        self._append_control(self.encoder.unsubscribe(sub.sid))
        if self.handover is not None:
            self.handover.unsubscribed(sub.sid)

    def close_subscription(self, sub: SubscriptionState[MessageT], error: NATSError | None = None) -> None:
        """No more messages for it; those queued can still be read."""
        closed = self.subs.close(sub, error)
        if closed is not None:
            self._events.add(closed)
            if self._into:
                # Nobody waits for their answers, and nobody would give them up: without one they would stay for ever.
                for token in [token for token, into in self._into.items() if into is sub]:
                    self.cancel_request(token)

    # --- in ----------------------------------------------------------------------------------------------------------

    def receive_reply(self, message: MessageT) -> None:
        """A message on the inbox."""
        self.subs.count(message)
        self.take_counted_reply(message)

    def take_counted_reply(self, message: MessageT) -> None:
        """`receive_reply`, for a message that was counted with its batch."""
        completion = self.inbox.receive(message)
        if completion is None:
            return
        if self._into:
            self._complete(completion)
        else:
            self._events.extend((completion,))
        if self.inbox.refusals.subjects:
            self._fail_refused()

    def take_counted_replies(self, messages: Sequence[Message]) -> None:
        """The same for several, none of which belongs into the queue of a subscription."""
        self._events.extend(self.inbox.receive_all(messages))
        if self.inbox.refusals.subjects:
            self._fail_refused()

    def _fail_refused(self) -> None:
        for failed in self.inbox.fail_refused():
            self._complete(failed)

    def take_reply(self, message: MessageT, token: int) -> ReplyReceived | RequestFailed | None:
        """The completion of this request, if that is its reply."""
        completion = self.inbox.take_reply(message, token)
        if completion is not None:
            self.subs.count(message)
        return completion

    def receive_pong(self, pong: PongReceived, now: float) -> None:
        """The PONG of a flush, or of a round trip of our own."""
        completed = self.round_trips.pong(pong.token, now)
        if completed is not None:
            self._events.add(completed)

    def announce_messages(self) -> None:
        """Once per chunk: which subscriptions have something new."""
        if self.subs.hand_back.returned:
            self._return_messages()
        available = self.subs.ready()
        if available is not None:
            self._events.extend((available,))

    def refuse(self, refusal: RefusalReceived) -> None:
        """The server refused a publish or a subscription: tell whom it concerns.

        What is known to be the user's own is named in the error as the user wrote it, whatever is masked elsewhere.
        """
        error = refusal.error
        subject = refusal.subject
        if error.operation == "subscribe" and subject == self.inbox.subject:
            error.subject = subject
            self.inbox.subscribed = False
            self.fail_requests(error)
            return
        if error.operation == "publish":
            self._refuse_publish(subject, error)
            return
        denied = self.subs.deny(error, subject, refusal.queue)
        if denied is not None:
            error.subject, error.queue = subject, refusal.queue
            self._events.add(denied)

    def _refuse_publish(self, subject: str, error: PermissionsError) -> None:
        """Tell who waits for what comes of it, as soon as it is known how many of those before it were refused."""
        failed = self.inbox.fail_reply(subject, error)
        if failed is not None:
            error.subject = subject
            self._complete(failed)
            return
        refused = self._refused.get(subject)
        if refused is None:
            if not (self.inbox.asked(subject) or self.subs.askers(subject)):
                return
            told = refused = self._refused[subject] = RefusalsTold(error)
            self.round_trip(lambda _now: self._refusals_told(subject, told))
            # In this order: with threads others may publish between any two steps. What is counted as one that went
            # before the PING, and did not, is told by the next; the other way round its refusal would be another's.
            refused.until, refused.readers = self.inbox.asked(subject), self.subs.askers(subject)
        error.subject = subject
        refused.count += 1

    def _refusals_told(self, subject: str, refused: RefusalsTold[MessageT]) -> None:
        """No more of what was published to ``subject`` before is refused."""
        del self._refused[subject]
        if refused.until:
            self.inbox.refusals.add(subject, refused.error, refused.count, until=refused.until)
            self._fail_refused()
        for sub, until in refused.readers:
            self.subs.publish_refused(sub, PublishRefused(subject, refused.error, refused.count, until))
        self.announce_messages()

    # --- connections come and go -------------------------------------------------------------------------------------

    def link_up(self, now: float) -> None:
        """A connection takes operations: subscriptions go first, in sid order, before anything that waits."""
        self._up = True
        self.outbox.prepend(self.subs.restore(self.encoder))
        self._connection_made(now)

    def adopt(self, operations: list[bytes], now: float) -> None:
        """The successor's connection takes operations, first what it has to hear about subscriptions."""
        self._up = True
        self.inbox.connection_replaced()  # the old one has said all of what it refuses
        self.outbox.prepend(operations)
        self._connection_made(now)

    def _connection_made(self, now: float) -> None:
        # In this order: who hears of another connection may send something again, but not what was dropped.
        self._drop_late(now)
        self.drop_refused()
        self._connections += 1
        if self._connections > 1:
            self.subs.mark_all(ConnectionReplaced())
            self.announce_messages()

    def _drop_late(self, now: float) -> None:
        """Give up what waits and nobody waits for any more. Who has waited was told."""
        awaited = self._awaited
        dropped, _ = self.outbox.drop(lambda operation: awaited.late(operation, now), awaited.bases)
        self._dropped_publishes += len(dropped)
        awaited.forget_left()

    def drop_refused(self) -> None:
        """Give up what waits and the server would refuse: it would end this connection over it, and so would others."""
        outbox = self.outbox
        if not self.encoder.may_refuse(outbox.pending_bytes):
            return
        refusals, size = outbox.drop(self.encoder.refusal)
        if not refusals:
            return
        self._dropped_publishes += len(refusals)
        self._events.add(PublishesDropped(error=refusals[0].error, dropped_msgs=len(refusals), dropped_bytes=size))
        for refusal in refusals:
            if refusal.reply is None:
                continue
            failed = self.inbox.fail_reply(refusal.reply, refusal.error)
            if failed is not None:
                self._complete(failed)
            else:
                self.subs.publish_dropped(refusal.reply, refusal.error)
        self.announce_messages()

    def link_lost(self, lost: ConnectionLostError) -> None:
        """The connection is gone: flushes fail, publishes not handed over whole wait for the next."""
        self._up = False
        self._refused.clear()
        self.inbox.refusals.clear()
        self.inbox.connection_replaced()
        self.subs.hand_back.connection_ended()
        self.inbox.subscribed = self.inbox.sid is not None  # as the next connection is told
        self.fail_flushes(lost)
        self.outbox.cut()
        # Behind the cut, when what was in flight waits again: the connection may have ended over one of those, and so
        # would the next.
        self.drop_refused()
        for sub in self.subs:
            # Its last messages were lost with the connection, unless a successor has some. Closed now, it is not
            # subscribed again on the next one.
            if sub.draining and self.handover is None:
                self.close_subscription(sub)

    def fail_flushes(self, error: NATSError) -> None:
        """Every flush fails with ``error``."""
        for failed in self.round_trips.fail_all(error):
            self._events.add(failed)

    def fail_requests(self, error: NATSError) -> None:
        """Every request fails with ``error``."""
        for failed in self.inbox.fail_all(error):
            self._complete(failed)
        self.announce_messages()
