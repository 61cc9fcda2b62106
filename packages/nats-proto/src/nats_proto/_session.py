"""Everything that survives a reconnect, and the life cycle around it.

Theory of operation
-------------------
A session composes five parts: the `Link` keeps one connection up (which server, when, the handshake, again after a
loss); the `Outbox` holds what is to be written; the subscription table and the request inbox hold what is to be
received; the round trips know which PONG belongs to which flush. It does no I/O. Its adapter

    runs commands (dial this server at that time, close the transport),
    answers them (connected, failed, lost),
    moves bytes (receive_data, data_to_send, data_sent) and tells the time (next_timeout, handle_timeout),

and after *every* call drains events, commands, data and deadline, in one place.

    DISCONNECTED ─connect─▶ CONNECTING ─handshake─▶ CONNECTED ◀─handshake─ RECONNECTING
                                │                     │   └──link lost, reconnect()──▲
                                │ pool walked once    │ drain
                                │ without success     ▼
                                │              DRAINING_SUBS ─queues read─▶ DRAINING_PUBS
                                ▼                     │ link lost, overrun       │ PONG
                             CLOSED ◀─────────────────┴──────────────────────────┘   (and close() from anywhere)

On a lost link: publishes not handed over whole stay, in order; flushes fail; requests wait on (or fail, by option);
subscriptions stay in the table and are sent first, in sid order and with what remains of their maximum, on the next
connection. CLOSED is final; what was accepted before it gets `CLOSE_GRACE` seconds to be written, then the transport
is closed and `Closed` is the last event.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final, Generic, overload

from ._connection import ConnectionEnded, ConnectionEvent, HandshakeCompleted, InfoReceived, PongReceived
from ._drain import Drain
from ._encoder import Encoder
from ._event_queue import EventQueue
from ._events import (
    Closed,
    Command,
    Connected,
    ContentErrorReceived,
    Disconnected,
    Reconnected,
    Reconnecting,
    ServerErrorReceived,
    SessionEvent,
)
from ._frames import Message
from ._headers import HeadersLike
from ._inbox import RequestInbox, new_inbox
from ._info import ServerInfo
from ._link import Link, LinkDown, LinkGaveUp, LinkUp
from ._options import ConnectOptions
from ._outbox import HIGH_WATER, Operation, Outbox, operation_size
from ._pool import ServerPool
from ._round_trips import RoundTrips
from ._server import Server, parse_servers
from ._stats import StatsSnapshot
from ._status import SessionStatus
from ._subjects import validate_queue, validate_subscription_subject
from ._subscription import MessageT, SubscriptionState
from ._subscription_table import SubscriptionTable
from .errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionLostError,
    LocalProtocolError,
    NATSError,
    OutboundBufferLimitError,
    PermissionsError,
)

__all__ = ["Session"]

CLOSE_GRACE: Final = 0.5
"""Seconds that the end waits for what was accepted before it to be written. A dead peer must not hold up an exit."""
BATCH_SIZE: Final = 256 * 1024
"""Bytes given by one `data_to_send`: large enough for one write to cost little, small enough to be written soon."""


class Session(Generic[MessageT]):
    """A NATS client without its I/O. ``servers``: one URL, several, or a comma-separated string.

    ``rng`` shuffles servers, spreads waits, and makes inboxes: give `random.SystemRandom()` unless a test wants to
    repeat itself. ``message_type``: the subclass of `Message` that subscriptions deliver.

    Not safe for use by several threads at once: the adapter brings a lock if it needs one.
    """

    @overload
    def __init__(
        self: Session[Message], options: ConnectOptions, servers: str | Iterable[str | Server], *, rng: random.Random
    ) -> None: ...
    @overload
    def __init__(
        self,
        options: ConnectOptions,
        servers: str | Iterable[str | Server],
        *,
        rng: random.Random,
        message_type: type[MessageT],
    ) -> None: ...
    def __init__(
        self,
        options: ConnectOptions,
        servers: str | Iterable[str | Server],
        *,
        rng: random.Random,
        message_type: type[MessageT] = Message,  # type: ignore[assignment]  # the first overload makes MessageT Message
    ) -> None:
        self._options = options
        self._rng = rng
        self._message_type = message_type
        self._pool = ServerPool(
            parse_servers(servers),
            rng=rng,
            randomize=options.randomize_servers,
            max_reconnect_attempts=options.max_reconnect_attempts,
            reconnect_wait=options.reconnect_wait,
            reconnect_jitter=options.reconnect_jitter,
            reconnect_jitter_tls=options.reconnect_jitter_tls,
            reconnect_delay=options.reconnect_delay,
            ignore_discovered=options.ignore_discovered_servers,
            retry_auth_errors=options.retry_auth_errors,
        )
        self._link = Link(self._pool, options, message_type=message_type)
        self._encoder = Encoder()
        self._outbox = Outbox()
        self._subs: SubscriptionTable[MessageT] = SubscriptionTable()
        self._inbox = RequestInbox(options.inbox_prefix, rng)
        self._round_trips = RoundTrips()
        self._status = SessionStatus.DISCONNECTED
        self._events: EventQueue[SessionEvent] = EventQueue()
        self._drain: Drain[MessageT] | None = None
        self._close_by: float | None = None
        self._close_error: NATSError | None = None
        self._reconnects = 0
        self._out_msgs = 0
        self._out_bytes = 0

    # --- the pump ----------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | bytearray | memoryview, *, now: float) -> None:
        """Bytes from the transport. Never raises for anything the peer did; without a connection they are ignored."""
        connection = self._link.connection
        if connection is not None:
            connection.receive_data(data, now=now)
            self._handle(connection.events_received(), now)
            for event in self._subs.ready():
                self._events.add(event)

    def receive_eof(self, *, now: float) -> None:
        """The transport's other side was closed."""
        connection = self._link.connection
        if connection is not None:
            connection.receive_eof(now=now)
            self._handle(connection.events_received(), now)

    def events_received(self) -> list[SessionEvent]:
        """What happened since the last call, in order."""
        return self._events.drain()

    def commands_to_run(self) -> list[Command]:
        """What the adapter has to do to the outside world, in order."""
        commands = self._link.commands
        self._link.commands = []
        return commands

    def data_to_send(self) -> list[bytes]:
        """What is to be written now, in order: about `BATCH_SIZE` bytes of whole operations; empty when there is none.

        Call it again when this was written. Large payloads are pieces of their own and are not copied.
        """
        connection = self._link.connection
        if connection is None:
            return []
        pieces, pings = self._outbox.take(BATCH_SIZE if self._link.up else 0, connection.data_to_send())
        if pings:
            connection.pings_taken(pings)
        return pieces

    def data_sent(self, nbytes: int) -> None:
        """The transport accepted the next ``nbytes`` of what `data_to_send` gave: they are handed over."""
        self._outbox.sent(nbytes)
        if self._close_by is not None and not self._outbox.pending_bytes:
            self._end()

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to do (absolute seconds), or None. No side effect."""
        drain_by = self._drain.deadline if self._drain is not None else None
        deadlines = (self._link.next_timeout(), drain_by, self._close_by)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timeout(self, *, now: float) -> None:
        """Do what is due. Early and repeated calls do nothing."""
        connection = self._link.connection
        if connection is not None:
            connection.handle_timeout(now=now)
            self._handle(connection.events_received(), now)
        self._link.handle_timeout(now=now)
        self._follow_link(now)
        if self._drain is not None and now >= self._drain.deadline:
            self._finish(self._drain.overrun(), now)
        if self._close_by is not None and now >= self._close_by:
            self._end()
        self._migrate(now)

    # --- answers to commands -----------------------------------------------------------------------------------------

    def transport_connected(self, *, now: float) -> None:
        """The dial that `OpenTransport` asked for succeeded. `LocalProtocolError` when none was asked for."""
        self._link.transport_connected(now=now)

    def transport_failed(self, error: Exception, *, now: float) -> None:
        """The dial failed. `LocalProtocolError` when none was asked for."""
        self._link.transport_failed(error, now=now)
        self._follow_link(now)

    def transport_lost(self, error: Exception, *, now: float) -> None:
        """Reading or writing failed. Without a connection (it was given up before) nothing happens."""
        self._link.transport_lost(error, now=now)
        self._follow_link(now)

    # --- life cycle --------------------------------------------------------------------------------------------------

    def connect(self, *, now: float) -> None:
        """Start: walk the pool once; by option, go on in the background as after a lost link. Once per session."""
        if self._status is not SessionStatus.DISCONNECTED:
            raise LocalProtocolError(f"connect: the session was started before and is {self._status.name}")
        self._status = SessionStatus.CONNECTING
        self._link.start(now=now)
        self._follow_link(now)

    def reconnect(self, *, now: float) -> None:
        """Leave the connection and make a new one at once; while waiting between attempts, stop waiting.

        Requests and flushes in flight fail with `ConnectionLostError`. Raises `ConnectionClosedError`,
        `ConnectionDrainingError`, or `LocalProtocolError` before `connect`.
        """
        self._check_not_ending("reconnect")
        if self._status is SessionStatus.DISCONNECTED:
            raise LocalProtocolError("reconnect: the session was not started")
        if self._link.up:
            self._fail_requests(self._lost("request", None))
            self._link.leave()
        else:
            self._link.hurry(now=now)
        self._follow_link(now)

    def drain(self, *, now: float, timeout: float | None = None) -> None:
        """Finish what there is, then close: the end is the `Closed` event. A second call does nothing.

        Subscriptions get what the server has sent, queues are read to the end, what was published is written. After
        ``timeout`` seconds (default: option ``drain_timeout``) the session closes with `NATSTimeoutError`; a link lost
        on the way ends it with `ConnectionLostError` once the queues are read. Raises `ConnectionClosedError`.
        """
        self._check_not_closed("drain")
        if self._drain is not None:
            return
        seconds = self._options.drain_timeout if timeout is None else timeout
        subs = [sub for sub in self._subs if sub.sid != self._inbox.sid]
        self._drain = Drain(subs, now=now, seconds=seconds)
        self._status = SessionStatus.DRAINING_SUBS
        if not self._link.up:
            self._link.stop()
            self._drain_without_link(None, now)
            return
        for sub in subs:
            if not sub.draining:
                sub.status = SubscriptionStatus.DRAINING
                self._outbox.append(self._encoder.unsubscribe(sub.sid))
        self._round_trip(self._subscriptions_drained)

    def close(self, *, now: float) -> None:
        """End: every waiter fails, queues are dropped, what was published gets `CLOSE_GRACE` seconds to be written.

        A second call does nothing. The last event is `Closed`.
        """
        for sub in (*self._subs, *(self._drain.subs if self._drain is not None else ())):
            sub.discard()
        self._finish(None, now)

    # --- work --------------------------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """False while connected with too much waiting to be written: a publisher should wait until it is True again."""
        return not (self._outbox.full and self._link.up)

    def publish(
        self, subject: str, data: bytes | bytearray | memoryview = b"", *, reply: str | None = None,
        headers: HeadersLike | None = None,
    ) -> None:
        """Take a message for sending, now or after the reconnect.

        Raises before anything is changed: `InvalidSubjectError`, `InvalidHeaderError`, `MaxPayloadError`,
        `MaxControlLineError`, `HeadersNotSupportedError`, `OutboundBufferLimitError` (more than ``pending_size`` bytes
        wait already), `ConnectionDrainingError`, `ConnectionClosedError`.
        """
        if self._status is not SessionStatus.CONNECTED or self._outbox.full:
            self._check_publish()
        self._append_publish(self._encoder.publish(subject, data, reply, headers), len(data))

    def subscribe(
        self,
        subject: str,
        *,
        queue: str | None = None,
        max_msgs: int | None = None,
        max_pending_msgs: int | None = None,
        max_pending_bytes: int | None = None,
    ) -> SubscriptionState[MessageT]:
        """A new subscription, sent now or after the reconnect. Limits default to the options', 0 means none.

        Raises before anything is changed: `InvalidSubjectError`, `ValueError`, `ConnectionDrainingError`,
        `ConnectionClosedError`.
        """
        self._check_not_ending(f"subscribe to {subject!r}")
        validate_subscription_subject(subject)
        if queue is not None:
            validate_queue(queue)
        if max_msgs is not None and max_msgs < 1:
            raise ValueError(f"max_msgs must be 1 or more: {max_msgs!r}")
        msgs = self._options.max_pending_msgs if max_pending_msgs is None else max_pending_msgs
        size = self._options.max_pending_bytes if max_pending_bytes is None else max_pending_bytes
        if msgs < 0 or size < 0:
            raise ValueError("max_pending_msgs and max_pending_bytes must not be negative")
        return self._add_subscription(subject, queue, max_msgs, msgs, size)

    def unsubscribe(self, sub: SubscriptionState[MessageT], *, max_msgs: int | None = None) -> None:
        """End the subscription now, dropping its queue; or after ``max_msgs`` deliveries in all.

        Does nothing when it has ended. Raises `ValueError` for a maximum below 1.
        """
        if max_msgs is not None and max_msgs < 1:
            raise ValueError(f"max_msgs must be 1 or more: {max_msgs!r}")
        if sub not in self._subs:
            if max_msgs is None:
                sub.discard()
            return
        if max_msgs is not None and sub.received < max_msgs:
            sub.max_msgs = max_msgs
            self._append_control(self._encoder.unsubscribe(sub.sid, sub.remaining))
            return
        if max_msgs is None:
            sub.discard()
        if not sub.draining:
            self._append_control(self._encoder.unsubscribe(sub.sid))
        self._close_subscription(sub)

    def drain_subscription(self, sub: SubscriptionState[MessageT], *, now: float) -> None:
        """No new messages, but all that the server sent before it knew. `SubscriptionClosed` when the last one came."""
        if sub not in self._subs or sub.draining:
            return
        if not self._link.up:
            self._close_subscription(sub)
            return
        sub.status = SubscriptionStatus.DRAINING
        self._outbox.append(self._encoder.unsubscribe(sub.sid))
        self._round_trip(lambda _now: self._close_subscription(sub))

    def subscription_progress(self, *, now: float) -> None:
        """Messages of a closed subscription were read, or a handler returned: a drain may go on."""
        self._drain_progress(now)

    def request(
        self, subject: str, data: bytes | bytearray | memoryview = b"", *, headers: HeadersLike | None = None
    ) -> int:
        """Publish with a reply subject of the inbox; the token of the `ReplyReceived` or `RequestFailed` to come.

        Raises what `publish` raises. The caller keeps the time, and calls `cancel_request` when it is up.
        """
        if self._status is not SessionStatus.CONNECTED or self._outbox.full:
            self._check_publish()
        token, reply = self._inbox.open()
        operation = self._encoder.publish(subject, data, reply, headers)
        if self._inbox.sid is None:
            self._inbox.sid = self._add_subscription(self._inbox.subject, None, None, 0, 0).sid
        self._append_publish(operation, len(data))
        self._inbox.wait(token, reply, subject)
        return token

    def cancel_request(self, token: int) -> None:
        """Nobody waits for this reply any more. Does nothing when it has come."""
        self._inbox.cancel(token)

    def flush(self) -> int:
        """Send a PING; the token of the `FlushCompleted` or `FlushFailed` to come.

        Raises `ConnectionLostError` while there is no connection, `ConnectionClosedError` at the end.
        """
        self._check_not_closed("flush")
        if not self._link.up:
            raise ConnectionLostError(f"flush: not connected, the session is {self._status.name}")
        token = self._round_trips.open_flush()
        self._outbox.append_ping(token)
        return token

    def cancel_flush(self, token: int) -> None:
        """Nobody waits for this flush any more; its PONG still counts as its own."""
        self._round_trips.cancel(token)

    def new_inbox(self) -> str:
        """A reply subject nobody else has, under the ``inbox_prefix``."""
        return new_inbox(self._options.inbox_prefix, self._rng)

    # --- state -------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> SessionStatus:
        """Where the session is in its life."""
        return self._status

    @property
    def stats(self) -> StatsSnapshot:
        """The counters now."""
        return StatsSnapshot(
            in_msgs=self._subs.in_msgs,
            in_bytes=self._subs.in_bytes,
            out_msgs=self._out_msgs,
            out_bytes=self._out_bytes,
            reconnects=self._reconnects,
            dropped_msgs=self._subs.dropped_msgs,
            dropped_unknown_sid=self._subs.dropped_unknown_sid,
            dropped_replies=self._inbox.dropped,
        )

    @property
    def server_info(self) -> ServerInfo | None:
        """The last INFO of the current, or else of the last, connection."""
        return self._link.info

    @property
    def connected_url(self) -> str | None:
        """The connected server's URL without user information, or None."""
        server = self._link.server
        return server.url if self._link.up and server is not None else None

    @property
    def servers(self) -> tuple[str, ...]:
        """The pool's URLs without user information, the next one to try first."""
        return tuple(server.url for server in self._pool.servers)

    @property
    def last_error(self) -> NATSError | None:
        """The last thing that went wrong on a connection or an attempt."""
        return self._link.last_error

    @property
    def max_payload(self) -> int | None:
        """Bytes of headers and payload together that the server takes; None before the first INFO."""
        return self._link.info.max_payload if self._link.info is not None else None

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed to the transport."""
        return self._outbox.pending_bytes

    @property
    def pending_requests(self) -> int:
        """Requests whose reply is awaited."""
        return len(self._inbox)

    # --- what the connection says ------------------------------------------------------------------------------------

    def _handle(self, events: list[ConnectionEvent], now: float) -> None:
        message_type = self._message_type
        deliver = self._subs.deliver
        inbox_sid = self._inbox.sid
        for event in events:
            if isinstance(event, message_type):
                if event.sid == inbox_sid:
                    self._receive_reply(event)
                else:
                    noteworthy = deliver(event)
                    if noteworthy is not None:
                        self._events.add(noteworthy)
            else:
                self._handle_control(event, now)
        self._migrate(now)

    def _handle_control(self, event: ConnectionEvent, now: float) -> None:
        match event:
            case PongReceived(token=token):
                completed = self._round_trips.pong(token, now)
                if completed is not None:
                    self._events.add(completed)
            case InfoReceived(info=info):
                self._encoder.server_allows(max_payload=info.max_payload, headers=info.headers)
                self._link.info_received(event, now=now)
                self._follow_link(now)
            case HandshakeCompleted():
                self._link.handshake_completed(event, now=now)
                self._follow_link(now)
            case ServerErrorReceived(error=error):
                self._events.add(event)
                if isinstance(error, PermissionsError):
                    self._refuse(error)
            case ContentErrorReceived():
                self._events.add(event)
            case ConnectionEnded():
                self._link.ended(event, now)
                self._follow_link(now)
            case _:
                # A message of another type than this session's: the parser makes none.
                pass

    def _receive_reply(self, message: MessageT) -> None:
        self._subs.count(message)
        completion = self._inbox.receive(message)
        if completion is not None:
            self._events.add(completion)

    def _refuse(self, error: PermissionsError) -> None:
        if error.operation == "subscribe":
            for event in self._subs.deny(error):
                self._events.add(event)
            if error.subject == self._inbox.subject:
                self._fail_requests(error)
        else:
            for failed in self._inbox.fail_subject(error.subject, error):
                self._events.add(failed)

    # --- what the link says ------------------------------------------------------------------------------------------

    def _follow_link(self, now: float) -> None:
        """After every call to the link: do what its events ask for, which may make more of them."""
        events = self._link.events
        while events:
            event = events.pop(0)
            match event:
                case LinkUp():
                    self._link_up(event)
                case LinkDown(error=error):
                    self._link_down(error, now)
                case LinkGaveUp(error=error):
                    self._finish(error, now)
                case Reconnecting():
                    if self._status is SessionStatus.CONNECTING:
                        self._status = SessionStatus.RECONNECTING
                    self._events.add(event)
                case _:
                    self._events.add(event)

    def _link_up(self, up: LinkUp) -> None:
        # Subscriptions go first, before anything that waits.
        self._status = SessionStatus.CONNECTED
        self._outbox.prepend(self._subs.restore(self._encoder))
        server = str(self._link.server)
        if up.first:
            self._events.add(Connected(server=server))
        else:
            self._reconnects += 1
            self._events.add(Reconnected(server=server, attempts=up.attempts))

    def _link_down(self, error: NATSError | None, now: float) -> None:
        self._fail_flushes(error)
        self._outbox.rewind()
        if self._options.fail_requests_on_disconnect:
            self._fail_requests(self._lost("request", error))
        for sub in self._subs:
            if sub.draining:
                self._close_subscription(sub)
        self._events.add(Disconnected(server=str(self._link.server), error=error))
        if self._close_by is not None:
            self._end()
        elif self._drain is not None:
            self._link.stop()
            self._drain_without_link(error, now)
        elif not self._options.allow_reconnect and error is not None:
            self._finish(error, now)
        else:
            self._status = SessionStatus.RECONNECTING
            self._link.retry(error, now=now, immediate=error is None)

    def _migrate(self, now: float) -> None:
        if self._link.migrating:
            quiet = not (self._outbox.pending_bytes or len(self._inbox) or len(self._round_trips))
            self._link.migrate(quiet=quiet, now=now)
            self._follow_link(now)

    # --- ends --------------------------------------------------------------------------------------------------------

    def _round_trip(self, completed: Callable[[float], None]) -> None:
        self._outbox.append_ping(self._round_trips.open_own(completed))

    def _subscriptions_drained(self, now: float) -> None:
        if self._drain is not None:
            for sub in self._drain.subs:
                self._close_subscription(sub)
            self._drain_progress(now)

    def _drain_without_link(self, cause: NATSError | None, now: float) -> None:
        if self._drain is not None:
            self._drain.lose_link(cause, unsent=sum(1 for _ in self._outbox.unsent_publishes()))
            self._subscriptions_drained(now)

    def _drain_progress(self, now: float) -> None:
        drain = self._drain
        if drain is None or self._status is SessionStatus.CLOSED or not drain.subscriptions_finished:
            return
        if not self._link.up:
            self._finish(drain.error, now)
        elif not drain.flushing:
            drain.start_final_flush(now=now)
            self._status = SessionStatus.DRAINING_PUBS
            self._round_trip(lambda when: self._finish(None, when))

    def _finish(self, error: NATSError | None, now: float) -> None:
        """Nothing new from here on; what was accepted gets its grace, if there is a connection to write it to."""
        if self._status is SessionStatus.CLOSED:
            return
        self._status = SessionStatus.CLOSED
        self._close_error = error
        closed = self._closed_error("the operation was under way")
        self._fail_requests(closed)
        for failed in self._round_trips.fail_all(closed):
            self._events.add(failed)
        for sub in self._subs:
            self._close_subscription(sub, self._closed_error(f"subscription to {sub.subject!r}"))
        if self._link.up and self._outbox.pending_bytes:
            self._close_by = now + CLOSE_GRACE
        else:
            self._end()

    def _end(self) -> None:
        self._close_by = None
        self._drain = None
        unsent = list(self._outbox.unsent_publishes())
        self._outbox.clear()
        if self._link.up:
            self._events.add(Disconnected(server=str(self._link.server), error=self._close_error))
        self._link.stop()
        self._link.events.clear()
        self._events.add(
            Closed(error=self._close_error, unsent_msgs=len(unsent), unsent_bytes=sum(map(operation_size, unsent)))
        )

    def _fail_flushes(self, cause: NATSError | None) -> None:
        for failed in self._round_trips.fail_all(self._lost("flush", cause)):
            self._events.add(failed)

    def _fail_requests(self, error: NATSError) -> None:
        for failed in self._inbox.fail_all(error):
            self._events.add(failed)

    def _lost(self, operation: str, cause: NATSError | None) -> ConnectionLostError:
        lost = ConnectionLostError(f"{operation}: the connection to server {self._link.server} ended on the way")
        lost.__cause__ = cause
        return lost

    # --- checks and small steps --------------------------------------------------------------------------------------

    def _check_publish(self) -> None:
        """For a status other than CONNECTED, or a full outbox."""
        self._check_not_closed("publish")
        if self._status is SessionStatus.DRAINING_PUBS:
            raise ConnectionDrainingError("publish: the client is draining and writes only what it has")
        limit = self._options.pending_size
        waiting = self._outbox.pending_bytes
        if self._link.up:
            limit = max(limit, HIGH_WATER)
        if waiting >= limit:
            raise OutboundBufferLimitError(
                f"publish: {waiting} bytes wait to be written and pending_size is {limit}; the session is "
                f"{self._status.name}"
            )

    def _check_not_closed(self, operation: str) -> None:
        if self._status is SessionStatus.CLOSED:
            raise self._closed_error(operation)

    def _check_not_ending(self, operation: str) -> None:
        self._check_not_closed(operation)
        if self._drain is not None:
            raise ConnectionDrainingError(f"{operation}: the client is draining")

    def _closed_error(self, operation: str) -> ConnectionClosedError:
        why = f" ({self._close_error})" if self._close_error is not None else ""
        closed = ConnectionClosedError(f"{operation}: the client is closed{why}")
        closed.__cause__ = self._close_error
        return closed

    def _append_publish(self, operation: Operation, nbytes: int) -> None:
        self._outbox.append(operation)
        self._out_msgs += 1
        self._out_bytes += nbytes

    def _append_control(self, operation: bytes) -> None:
        # Without a connection the table alone knows: the next connection is told from it.
        if self._link.up:
            self._outbox.append(operation)

    def _add_subscription(
        self, subject: str, queue: str | None, max_msgs: int | None, max_pending_msgs: int, max_pending_bytes: int
    ) -> SubscriptionState[MessageT]:
        sub = self._subs.add(
            subject,
            queue=queue,
            max_msgs=max_msgs,
            max_pending_msgs=max_pending_msgs,
            max_pending_bytes=max_pending_bytes,
        )
        self._append_control(self._encoder.subscribe(subject, queue, sub.sid))
        if max_msgs is not None:
            self._append_control(self._encoder.unsubscribe(sub.sid, max_msgs))
        return sub

    def _close_subscription(self, sub: SubscriptionState[MessageT], error: NATSError | None = None) -> None:
        closed = self._subs.close(sub, error)
        if closed is not None:
            self._events.add(closed)
