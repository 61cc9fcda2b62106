"""From the first connect to the last event: what status a session has, and what each end of a link means for it.

    DISCONNECTED ─connect─▶ CONNECTING ─handshake─▶ CONNECTED ◀─handshake─ RECONNECTING
                                │                     │   └──link lost, reconnect()──▲
                                │ pool walked once    │ drain
                                │ without success     ▼
                                │              DRAINING_SUBS ─queues read─▶ DRAINING_PUBS
                                ▼                     │ link lost, overrun       │ PONG
                             CLOSED ◀─────────────────┴──────────────────────────┘   (and close() from anywhere)

A lame duck is left for a `Successor` when the adapter can keep two transports, and else at a quiet moment.

On a lost link: publishes not handed over whole stay, in order; flushes fail; requests wait on (or fail, by option);
subscriptions stay and are told to the next connection first. A link lost while draining is not made again: what is
queued can still be read, and the drain ends with an error that says what was left. A drain that begins without a link
does so, too, unless nothing is left. Only where there is a successor that has joined the drain goes on with that.

CLOSED is final. What was accepted before it gets `CLOSE_GRACE` seconds to be written; then the transport is closed and
`Closed` is the last event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic

from .._connection.events import AT_ONCE
from .._interface.events import Closed, Connected, Disconnected, LameDuckMode, Reconnected, Reconnecting, SessionEvent
from .._interface.options import ConnectOptions
from .._interface.status import SessionStatus
from .._wire.encoder import APART_ROOM
from ..errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionLostError,
    DefectError,
    LocalProtocolError,
    NATSError,
    OutboundBufferLimitError,
)
from .dispatch import dispatch
from .drain import Drain
from .event_queue import EventQueue
from .link import Link
from .link_events import LinkDown, LinkUp
from .outbox import CHUNK_SIZE, HIGH_WATER, encoded_size
from .subscription import MessageT
from .timers import due
from .traffic import Traffic

if TYPE_CHECKING:
    from .._wire.info import ServerInfo
    from .successor import Successor

__all__ = ["LifeCycle"]

CLOSE_GRACE: Final = 0.5
"""Seconds that the end waits for what was accepted before it to be written. A dead peer must not hold up an exit."""


class LifeCycle(Generic[MessageT]):
    """Drives a link for the traffic of one session."""

    __slots__ = (
        "_close_error",
        "_drain",
        "_options",
        "_status",
        "_to_be_left",
        "_two_transports",
        "events",
        "link",
        "message_type",
        "reconnects",
        "successor",
        "timers",
        "traffic",
    )

    def __init__(
        self,
        link: Link,
        traffic: Traffic[MessageT],
        events: EventQueue[SessionEvent],
        options: ConnectOptions,
        *,
        message_type: type[MessageT],
        two_transports: bool = False,
    ) -> None:
        self.link = link
        self.timers = link.timers
        self.traffic = traffic
        self.events = events
        self._options = options
        self._drain: Drain[MessageT] | None = None
        self._close_error: NATSError | None = None
        self.message_type = message_type
        self._two_transports = two_transports
        self.successor: Successor[MessageT] | None = None
        """The next connection, while the one to a lame duck is still up, and as long as late copies may come on it."""
        self._to_be_left = False
        """The server is a lame duck, and there is no successor of its connection yet."""
        self.status = SessionStatus.DISCONNECTED
        self.reconnects = 0

    @property
    def status(self) -> SessionStatus:
        """Where the session is in its life."""
        return self._status

    @status.setter
    def status(self, status: SessionStatus) -> None:
        self._status = status
        # In any other status a publish is for `check_publish` to look at.
        self.traffic.outbox.allow_quick(status is SessionStatus.CONNECTED)

    # --- what the user asks for --------------------------------------------------------------------------------------

    def connect(self, *, now: float) -> None:
        """Start: walk the pool once."""
        if self.status is not SessionStatus.DISCONNECTED:
            raise LocalProtocolError(f"connect: the session was started before and is {self.status.name}")
        self.status = SessionStatus.CONNECTING
        self.link.start(now=now)
        dispatch(self, now)

    def reconnect(self, *, now: float) -> None:
        """Leave the connection and make a new one at once, or stop waiting for the next attempt."""
        self.check_not_ending("reconnect")
        if self.status is SessionStatus.DISCONNECTED:
            raise LocalProtocolError("reconnect: the session was not started")
        if not self.link.up:
            self.link.hurry(now=now)
        elif self.successor is None or not self.successor.adoptable:  # else there is another connection at once
            self.traffic.fail_requests(self._lost("request", None))
            self.link.leave()
        dispatch(self, now)

    def drain(self, *, now: float, seconds: float) -> None:
        """Let subscriptions finish, write what was published, close."""
        self.check_not_closed("drain")
        if self._drain is not None:
            return
        subs = self.traffic.user_subscriptions
        self._drain = drain = Drain((*self.traffic.subs.unfinished(), *subs), now=now, seconds=seconds)
        self.timers.drain = drain.deadline
        self.status = SessionStatus.DRAINING_SUBS
        self._begin_end()
        if self.successor is not None:
            self.successor.session_drains(now)
        if not (self.link.up or self._taken_over):
            self.link.stop()
            self.traffic.outbox.abandon()
            drain.begin_without_link(unsent=self._unsent)
            self._subscriptions_drained(drain, now)
            return
        for sub in subs:
            if sub.hand_back is None:
                self.traffic.start_drain(sub)
            else:
                self.traffic.discard(sub)
                self.traffic.leave(sub)
        if subs:
            # One PING behind the UNSUBs of all: a server answers in order, so whatever it had to send is here before
            # the PONG.
            self.traffic.end_drains(subs)
        else:
            self.drain_progress(now)

    def close(self, *, now: float) -> None:
        """End, dropping what is queued for the user."""
        for sub in (*self.traffic.subs, *self.traffic.subs.unfinished()):
            self.traffic.discard(sub)
        self.finish(None, now)

    def fail(self, defect: BaseException, now: float) -> None:
        """End over a defect of the client itself. Nothing more is written: nobody knows what the stream is like."""
        if self.status is SessionStatus.CLOSED and not self._closing:
            return
        error = DefectError(
            f"the client has failed and is closed, by a defect in it ({type(defect).__name__}: {defect})"
        )
        error.__cause__ = defect
        self.link.last_error = error
        # An error over which the end has begun before stays the reason that the user is told.
        self._close_error = self._close_error or error
        self.finish(self._close_error, now)
        if self._closing:
            self._end()

    # --- what the link says ------------------------------------------------------------------------------------------

    def server_allows(self, info: ServerInfo) -> None:
        """There is a new INFO: what waits may be more than it allows."""
        less = self.traffic.server_allows(max_payload=info.payload_limit, headers=info.headers)
        if less and self.link.up:  # else it is not known yet who says so
            self.traffic.drop_refused()

    def reconnecting(self, event: Reconnecting) -> None:
        """Another attempt is planned. The first connect may go on in the background that way."""
        if self.status is SessionStatus.CONNECTING:
            self.status = SessionStatus.RECONNECTING
        self.events.add(event)

    def lame_duck(self, event: LameDuckMode, now: float) -> None:
        """The server is about to leave, and so are we, if there is another."""
        self.events.add(event)
        if event.migrating and self._two_transports:
            self._to_be_left = True
            self._begin_succession(now)

    def link_up(self, up: LinkUp, now: float) -> None:
        """A handshake is done."""
        self.status = SessionStatus.CONNECTED
        server = str(self.link.server)
        if up.first:
            self.events.add(Connected(server=server))
        else:
            self.reconnects += 1
            self.events.add(Reconnected(server=server, attempts=up.attempts))
        self.traffic.link_up(now)

    def link_down(self, down: LinkDown, now: float) -> None:
        """The connection is gone: that is the end, or another attempt."""
        error = down.error or self._close_error
        successor = self.successor
        succeeded = successor is not None and successor.joined and not self._closing
        self.traffic.link_lost(self._lost("flush", error))
        if self._options.fail_requests_on_disconnect:
            self.traffic.fail_requests(self._lost("request", error))
        self.events.add(Disconnected(server=str(self.link.server), error=error))
        self._to_be_left = False
        if successor is not None and succeeded:
            if self._drain is None:
                self.status = SessionStatus.RECONNECTING
            elif successor.old_owes:
                self._drain.lose_one_of_two(error)
            successor.old_lost()
            return
        if successor is not None:
            successor.cancel()
        if self._closing:
            self._end()
        elif self._drain is not None:
            self._drain_loses_link(self._drain, error, now)
        elif error is not None and (down.final or not self._options.allow_reconnect):
            self.finish(error, now)
        else:
            self.status = SessionStatus.RECONNECTING
            # Without an error the connection was left on purpose, so there is no failing server to be spared by a wait.
            self.link.retry(error, now=now, immediate=error is None)

    # --- from a lame duck to its successor ---------------------------------------------------------------------------

    def _begin_succession(self, now: float) -> None:
        if self.successor is not None:
            return  # it has taken over, and waits for late copies of messages: without it they would be given again
        from .successor import Successor  # only who meets a lame duck pays for loading it

        self._to_be_left = False
        successor = Successor(
            self, self.link, self.traffic, self.events, self._options, message_type=self.message_type, now=now
        )
        if not successor.over:
            self.successor = successor

    @property
    def _taken_over(self) -> bool:
        """The connection to a lame duck is lost, and its successor takes its place as soon as the adapter has it."""
        return self.successor is not None and self.successor.adoptable and not self.link.up

    def _begin_end(self) -> None:
        """The session is ending: no server is left for another any more, but for one that is being left."""
        self.link.session_ends()
        self._to_be_left = False

    def leave_link(self, now: float) -> None:
        """Give up the connection without waiting for anything."""
        self.link.leave()
        dispatch(self, now)

    def successor_lost(self, error: NATSError, now: float) -> None:
        """The old connection was given up or lost, and now the new one is lost before it was adopted."""
        if self.link.up:
            self.link.leave(error)
        elif self._drain is not None:
            self._drain_loses_link(self._drain, error, now)
        else:
            self.link.retry(error, now=now)
        dispatch(self, now)

    def member_lost(self, error: NATSError) -> None:
        """The new connection was lost, and may have had something for members of groups. The old one goes on."""
        if self._drain is not None:
            self._drain.lose_one_of_two(error)

    def forget_successor(self, successor: Successor[MessageT]) -> None:
        """The successor has come to its end: adopted, failed or cancelled."""
        if self.successor is successor:
            self.successor = None

    def adopt(self, successor: Successor[MessageT], now: float) -> None:
        """The successor's connection is the session's from now on. Where both were up, nothing was lost."""
        adopted = successor.adopted()
        attempt, info = adopted.attempt, adopted.info
        lost = not self.link.up
        if not lost:
            self.events.add(Disconnected(server=str(self.link.server), error=None))
        # Before `traffic.adopt`: both put bytes in front of all others, and what the server has to hear about
        # subscriptions must come before the publishes that were set aside.
        self.traffic.outbox.begin()
        self.traffic.server_allows(max_payload=info.payload_limit, headers=info.headers)
        self.traffic.adopt(successor.operations(), now)
        self.reconnects += 1
        self.events.add(Reconnected(server=str(attempt.server), attempts=attempt.number))
        drain = self._drain
        if lost and drain is None:
            self.status = SessionStatus.CONNECTED
        # Before `dispatch`: the messages held back are older than what the new connection says from here on.
        successor.linger(now)
        self.link.adopt(adopted, now=now)
        if lost and drain is not None and drain.flushing:
            self._flush_at_last(drain)  # the PING of the last flush was lost
        self.drain_progress(now)
        dispatch(self, now)

    # --- ends --------------------------------------------------------------------------------------------------------

    def _drain_loses_link(self, drain: Drain[MessageT], error: NATSError | None, now: float) -> None:
        self.link.stop()
        drain.lose_link(error, unsent=self._unsent)
        self._subscriptions_drained(drain, now)

    def _subscriptions_drained(self, drain: Drain[MessageT], now: float) -> None:
        for sub in drain.subs:
            self.traffic.close_subscription(sub)
        self.drain_progress(now)

    @property
    def _unsent(self) -> int:
        """Publishes that were not handed to a transport whole."""
        return sum(1 for _ in self.traffic.outbox.unsent_publishes())

    def drain_progress(self, now: float) -> None:
        """A message was read or a handler returned: a drain may have what it waited for."""
        drain = self._drain
        if drain is None or not self._drain_is_due:
            return
        if not self.link.up:
            self.finish(drain.error, now)
        else:
            drain.start_final_flush(now=now)
            self.timers.drain = drain.deadline
            self.status = SessionStatus.DRAINING_PUBS
            self._flush_at_last(drain)

    def _flush_at_last(self, drain: Drain[MessageT]) -> None:
        self.traffic.round_trip(lambda when: self.finish(drain.error, when))

    @property
    def _drain_is_due(self) -> bool:
        """The subscriptions have finished, by whatever call, and the next step was not made."""
        drain = self._drain
        if drain is None or self.status is SessionStatus.CLOSED or (drain.flushing and self.link.up):
            return False
        if self._taken_over:
            return False
        return drain.subscriptions_finished

    def written(self) -> None:
        """Bytes were handed over: an end that waited for that has come."""
        if self.successor is not None:
            self.successor.written()
        if self.timers.close is not None and not self._unwritten():
            self._end()

    def _unwritten(self) -> bool:
        """Something is still to be written before the connection may be closed; at last the goodbyes of its layers."""
        if self.link.up and self.traffic.outbox.pending_bytes:
            return True
        return self.link.say_goodbye()

    def finish(self, error: NATSError | None, now: float) -> None:
        """Nothing new from here on; what was accepted gets its grace, if there is a connection to write it to."""
        if self.status is SessionStatus.CLOSED:
            return
        self.status = SessionStatus.CLOSED
        self.timers.drain = None
        self._begin_end()
        if self.successor is not None:
            self.successor.session_ends()
        self._close_error = error
        asked = self._closed_error("request")
        asked.outcome = "unknown"  # unlike one that is refused for the end, it may have reached somebody
        self.traffic.fail_requests(asked)
        self.traffic.fail_flushes(self._closed_error("flush"))
        for sub in self.traffic.user_subscriptions:
            self.traffic.close_subscription(sub, self._closed_error(f"subscription to {sub.subject!r}"))
        if self._unwritten():
            self.timers.close = now + CLOSE_GRACE
        else:
            self._end()

    @property
    def _closing(self) -> bool:
        """The end has begun, and something is still to be written."""
        return self.timers.close is not None

    def _end(self) -> None:
        self.timers.close = None
        self._drain = None
        if self.successor is not None:
            self.successor.cancel()
        outbox = self.traffic.outbox
        # A list, made before `clear`: `Closed` has to say what is lost.
        unsent = list(outbox.unsent_publishes())
        outbox.clear()
        if self.link.up:
            self.events.add(Disconnected(server=str(self.link.server), error=self._close_error))
        self.link.stop()
        unsent_bytes = sum(map(encoded_size, unsent))
        self.events.add(Closed(error=self._close_error, unsent_msgs=len(unsent), unsent_bytes=unsent_bytes))

    # --- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to do."""
        timer = self.timers.first
        connection = None if self.link.connection is None else self.link.connection.next_timeout()
        if timer is None and self.successor is None and self._drain is None:
            return connection  # nearly always, and adapters ask after every call
        if self._wanted_now:
            return AT_ONCE
        successor = None if self.successor is None else self.successor.next_timeout()
        return min((at for at in (timer, connection, successor) if at is not None), default=None)

    @property
    def _wanted_now(self) -> bool:
        """There is something to do that no timer says: a call, or somebody who only read messages, has made it due."""
        return self._drain_is_due or (self.link.migrating and self.traffic.quiet)

    def handle_timeout(self, now: float) -> None:
        """Do what is due, and what `next_timeout` wanted to be done at once."""
        self.link.handle_timeout(now=now)
        dispatch(self, now)
        if self.successor is not None:
            self.successor.handle_timeout(now)
        if self._to_be_left:
            self._begin_succession(now)
        dispatch(self, now)
        self.drain_progress(now)
        if self._drain is not None and due(self.timers.drain, now):
            self.finish(self._drain.overrun(), now)
        if due(self.timers.close, now):
            self._end()
        dispatch(self, now)

    # --- checks ------------------------------------------------------------------------------------------------------

    def check_publish(self) -> None:
        """For a status other than CONNECTED, or a full outbox: whether a publish is taken all the same."""
        self.check_not_closed("publish")
        if self.status is SessionStatus.DRAINING_PUBS:
            raise ConnectionDrainingError("publish: the client is draining and writes only what it has")
        if self._drain is not None and not (self.link.up or self._taken_over):
            raise ConnectionDrainingError("publish: the client is draining, and there is no connection any more")
        limit = self._options.pending_size
        if self.link.up:
            # Who saw that there was room may find less: meanwhile other threads have filled the tail.
            limit = max(limit, HIGH_WATER + (1 + APART_ROOM) * CHUNK_SIZE)
        waiting = self.traffic.outbox.pending_bytes
        if waiting >= limit:
            raise OutboundBufferLimitError(
                f"publish: {waiting} bytes wait to be written, the limit is {limit} (pending_size); "
                f"the session is {self.status.name}"
            )

    def check_not_closed(self, operation: str) -> None:
        """Raises `ConnectionClosedError` at the end."""
        if self.status is SessionStatus.CLOSED:
            raise self._closed_error(operation)

    def check_not_ending(self, operation: str) -> None:
        """Raises `ConnectionClosedError` or `ConnectionDrainingError`."""
        self.check_not_closed(operation)
        if self._drain is not None:
            raise ConnectionDrainingError(f"{operation}: the client is draining")

    def _closed_error(self, operation: str) -> ConnectionClosedError:
        why = f" ({self._close_error})" if self._close_error is not None else ""
        closed = ConnectionClosedError(f"{operation}: the client is closed{why}")
        closed.__cause__ = self._close_error
        return closed

    def _lost(self, operation: str, cause: NATSError | None) -> ConnectionLostError:
        lost = ConnectionLostError(f"{operation}: the connection to server {self.link.server} ended on the way")
        lost.__cause__ = cause
        return lost
