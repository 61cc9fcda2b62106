"""Everything that survives a reconnect, and the life cycle around it.

Theory of operation
-------------------
A session composes three parts: the `Link` keeps one connection up (which server, when, the handshake, again after a
loss); the `Traffic` is what flows over it and outlives it (outbox, subscriptions, requests, flushes); the `LifeCycle`
says what each end of the link means for the traffic. It does no I/O. Its adapter

    runs commands (dial this server at that time, close the transport),
    answers them (connected, failed, lost),
    moves bytes (receive_data, data_to_send, data_sent) and tells the time (next_timeout, handle_timeout),

and after *every* call drains events, commands, data and deadline, in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Generic, overload

from .._connection.handshake import load_default_context
from .._interface.events import (
    Command,
    Perform,
    ReplyReceived,
    RequestFailed,
    SessionEvent,
)
from .._interface.options import ConnectOptions
from .._interface.stats import StatsSnapshot
from .._interface.status import SessionStatus
from .._servers.pool import ServerPool
from .._servers.server import Server, read_servers
from .._wire.frames import Message, Payload
from .._wire.headers import HeadersLike
from .._wire.info import ServerInfo
from ..errors import ConnectionLostError, LocalProtocolError, NATSError
from .askers import Asks
from .awaited import Awaits
from .dispatch import dispatch, take_messages
from .event_queue import EventQueue
from .inbox import new_inbox
from .life_cycle import LifeCycle
from .link import Link
from .outbox import CHUNK_SIZE
from .subscription import MessageT, SubscriptionState
from .traffic import Traffic

if TYPE_CHECKING:
    import random

    from .successor import Successor

__all__ = ["Session"]

BATCH_SIZE: Final = 512 * 1024
"""Bytes given by one `data_to_send`: large enough for one write to cost little, small enough to be written soon."""
RECEIVE_SIZE: Final = 64 * 1024
"""Bytes to receive at once."""
MAX_RECEIVE_SIZE: Final = 256 * 1024
"""As many when much comes in: every chunk costs something by itself, as much as tens of messages."""
LARGE_PAYLOAD: Final = 32 * 1024
"""Bytes from which on a chunk of `MAX_RECEIVE_SIZE` holds few payloads."""
MAX_LARGE_SIZE: Final = 1024 * 1024
"""Bytes to receive at once when much comes in that is large payloads: such a chunk is no more than some messages, and
what it costs by itself is as much as all else that is done for one of them."""
MAX_WRAPPED_SIZE: Final = 120 * 1024
"""As many through TLS or WebSocket. What they unwrap is as long once more, and for two pieces of 128 KiB or more the C
library asks the system at every chunk."""
SMALL_CHUNKS: Final = 16
"""So many smaller chunks in a row, and not much comes in any more. What is asked for in batches comes in bursts: their
ends are small, and the next one is as large as the last."""

_STARTING: Final = (SessionStatus.DISCONNECTED, SessionStatus.CONNECTING)


class Session(Generic[MessageT]):
    """A NATS client without its I/O. ``servers``: one URL, several, or a comma-separated string.

    ``rng`` shuffles servers, spreads waits, and makes inboxes: give `random.SystemRandom()` unless a test wants to
    repeat itself. ``message_type``: the subclass of `Message` that subscriptions deliver. ``two_transports``: the
    adapter can keep a second transport beside the first for a moment, so a lame duck is left when there is another
    connection; else it is left first. Raises what `parse_servers` raises.

    Not safe for use by several threads at once: the adapter brings a lock if it needs one.
    """

    @overload
    def __init__(
        self: Session[Message],
        options: ConnectOptions,
        servers: str | Iterable[str | Server],
        *,
        rng: random.Random,
        two_transports: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self,
        options: ConnectOptions,
        servers: str | Iterable[str | Server],
        *,
        rng: random.Random,
        message_type: type[MessageT],
        two_transports: bool = False,
    ) -> None: ...
    def __init__(  # pyright: ignore[reportInconsistentOverload]  # the default belongs to the first overload
        self,
        options: ConnectOptions,
        servers: str | Iterable[str | Server],
        *,
        rng: random.Random,
        message_type: type[MessageT] = Message,  # type: ignore[assignment]  # the first overload makes MessageT Message
        two_transports: bool = False,
    ) -> None:
        found = read_servers(servers)
        del servers
        if not isinstance(found, tuple):
            raise found
        self._options = options
        self._rng = rng
        self._message_type = message_type
        known = _secured(found, options)
        if options.tls is None and any(server.secure for server in known):
            load_default_context()
        self._pool = ServerPool(
            known,
            rng=rng,
            randomize=options.randomize_servers,
            max_reconnect_attempts=options.max_reconnect_attempts,
            reconnect_wait=options.reconnect_wait,
            reconnect_jitter=options.reconnect_jitter,
            reconnect_jitter_tls=options.reconnect_jitter_tls,
            ignore_discovered=options.ignore_discovered_servers,
            retry_auth_errors=options.retry_auth_errors,
        )
        self.receive_size = RECEIVE_SIZE
        """For the adapter: how many bytes to receive at once, the next time (64 KiB to 1 MiB, by what came lately)."""
        self._small_chunks = 0
        """Received in a row, since a larger size was set."""
        self.only_messages = False
        """For the adapter: the last `receive_data` has brought messages, and nothing has followed from them but events.

        Then there is no command, nothing more to be written and no other deadline: only the events are to be drained.
        """
        self.only_written = False
        """For the adapter: from the last `data_sent` nothing has followed but room: there is nothing to be drained.

        Nor was there before it: no event, no command, and no deadline that was not told.
        """
        self._link = Link(self._pool, options, message_type=message_type, two_transports=two_transports)
        self._events: EventQueue[SessionEvent] = EventQueue()
        self._traffic: Traffic[MessageT] = Traffic(
            self._events,
            inbox_prefix=options.inbox_prefix,
            max_control_line=options.max_control_line,
            rng=rng,
            message_type=message_type,
        )
        self._outbox = self._traffic.outbox
        self.publish_quickly = self._outbox.tail.publish
        """`publish`, for what nearly all programs publish nearly always. It takes (subject, data, reply, headers).

        True: the message was taken. False: it was not, and `publish` decides what to do with it. Raises nothing.
        Compiled (`accelerated`) it is the one thing that a thread may call while another is in a method of the session.
        """
        self.request_quickly = self._traffic.inbox.ask_quickly
        """`request`, for what nearly all programs ask nearly always. It takes (subject, data, headers, accept).

        The token; or 0: nothing has changed, and `request` decides what to do with it. Raises nothing.
        """
        self._life = LifeCycle(
            self._link,
            self._traffic,
            self._events,
            options,
            message_type=message_type,
            two_transports=two_transports,
        )

    # --- the pump ----------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | bytearray | memoryview, *, now: float) -> None:
        """Bytes from the transport. Never raises for anything the peer did; without a connection they are ignored."""
        if len(data) >= self.receive_size:
            self.receive_size = self._much_to_receive()
            self._small_chunks = 0
        elif self.receive_size > RECEIVE_SIZE:
            self._small_chunks = self._small_chunks + 1 if len(data) < RECEIVE_SIZE else 0
            if self._small_chunks >= SMALL_CHUNKS:
                self.receive_size = RECEIVE_SIZE
        life, link, traffic = self._life, self._link, self._traffic
        if life.successor is None and link.timers.migrate is None:
            messages = link.receive_messages(data, now=now)
            if messages is None:
                only_messages = dispatch(life, now)
            else:
                take_messages(life, messages)
                only_messages = True
        else:
            link.receive_data(data, now=now)
            only_messages = dispatch(life, now)
        # A message that comes late for a subscription that was left is answered.
        self.only_messages = only_messages and link.calm and not traffic.subs.hand_back.left
        traffic.announce_messages()

    def _much_to_receive(self) -> int:
        """How much to receive at once where more comes than was received at once."""
        link = self._link
        if not link.plain:
            return MAX_WRAPPED_SIZE
        return MAX_LARGE_SIZE if link.payload_size >= LARGE_PAYLOAD else MAX_RECEIVE_SIZE

    def receive_eof(self, *, now: float) -> None:
        """The transport's other side was closed."""
        self._link.receive_eof(now=now)
        dispatch(self._life, now)

    def events_received(self) -> list[SessionEvent]:
        """What happened since the last call, in order."""
        return self._events.take_all()

    def commands_to_run(self) -> list[Command]:
        """What the adapter has to do to the outside world, in order."""
        link = self._link
        return link.commands_to_run() if link.commands else []

    def data_to_send(self) -> list[bytes]:
        """What is to be written now, in order: about `BATCH_SIZE` bytes of whole operations; empty when there is none.

        Call it again when this was written. Large payloads are pieces of their own and are not copied.
        """
        successor = self._life.successor
        takes = self._link.up and (successor is None or not successor.parting)
        return self._link.data_to_send(self._outbox, BATCH_SIZE if takes else 0)

    @property
    def writes_large(self) -> bool:
        """For the adapter, when its transport takes no more: what is on its way has large payloads, and none of it TLS.

        Large are those of 64 KiB and more; those with a reply subject do not count.
        """
        return self._outbox.large and not self._link.secure

    def data_sent(self, nbytes: int) -> None:
        """The transport accepted the next ``nbytes`` of what `data_to_send` gave: they are handed over.

        A report may come late: what a connection that has ended had accepted counts until `transport_connected`, so
        that it is not written again. `LocalProtocolError` when more is reported than was given.
        """
        link = self._link
        life = self._life
        self._outbox.sent(link.data_sent(nbytes))
        if life.successor is not None or link.timers.close is not None:
            life.written()
        self.only_written = link.calm and not (link.commands or self._events or life.successor is not None)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to do (absolute seconds), or None. No side effect.

        A time in the past, minus infinity maybe: now.
        """
        return self._life.next_timeout()

    def handle_timeout(self, *, now: float) -> None:
        """Do what is due. Early and repeated calls do nothing."""
        self._life.handle_timeout(now)

    # --- answers to commands -----------------------------------------------------------------------------------------

    def transport_connected(self, *, now: float) -> None:
        """The dial that `OpenTransport` asked for succeeded. `LocalProtocolError` when none was asked for."""
        self._link.transport_connected(now=now)
        self._outbox.begin()
        dispatch(self._life, now)

    def transport_failed(self, error: Exception, *, now: float) -> None:
        """The dial failed. `LocalProtocolError` when none was asked for."""
        self._link.transport_failed(error, now=now)
        dispatch(self._life, now)

    def transport_lost(self, error: Exception, *, now: float) -> None:
        """Reading or writing failed. Without a connection (it was given up before) nothing happens."""
        self._link.transport_lost(error)
        dispatch(self._life, now)

    @property
    def successor(self) -> Successor[MessageT] | None:
        """The connection that is made beside the one to a lame duck: its transport's calls go to it."""
        return self._life.successor

    def transport_adopted(self, *, now: float) -> None:
        """The successor's transport is the transport, as `AdoptSuccessor` wanted: its calls go to the session now.

        `LocalProtocolError` when that was not asked for, or when what the successor gave was not all written.
        """
        successor = self._life.successor
        if successor is None:
            raise LocalProtocolError("transport_adopted: there is no successor")
        self._life.adopt(successor, now)

    def performed(self, command: Perform, result: object, *, now: float) -> None:
        """The result of what a `Perform` asked for. One that comes too late is ignored."""
        if command.successor:
            if self._life.successor is not None:
                self._life.successor.performed(command, result, now)
            return
        self._link.performed(command, result, now=now)
        dispatch(self._life, now)

    def perform_failed(self, command: Perform, error: BaseException, *, now: float) -> None:
        """What a `Perform` asked for could not be had: that attempt fails, or the wait before it is the usual one.

        One that comes too late is ignored.
        """
        if command.successor:
            if self._life.successor is not None:
                self._life.successor.perform_failed(command, error, now)
            return
        self._link.perform_failed(command, error, now=now)
        dispatch(self._life, now)

    # --- life cycle --------------------------------------------------------------------------------------------------

    def connect(self, *, now: float) -> None:
        """Start: walk the pool once; by option, go on in the background as after a lost link. Once per session."""
        self._life.connect(now=now)

    def reconnect(self, *, now: float) -> None:
        """Leave the connection and make a new one at once; while waiting between attempts, stop waiting.

        Requests and flushes in flight fail with `ConnectionLostError`. Raises `ConnectionClosedError`,
        `ConnectionDrainingError`, or `LocalProtocolError` before `connect`.
        """
        self._life.reconnect(now=now)

    def drain(self, *, now: float, timeout: float | None = None) -> None:
        """Finish what there is, then close: the end is the `Closed` event. A second call does nothing.

        Subscriptions get what the server has sent, queues are read to the end, what was published is written. After
        ``timeout`` seconds (default: option ``drain_timeout``) the session closes with `NATSTimeoutError`; a link lost
        on the way ends it with `ConnectionLostError` once the queues are read. While a lame duck is left, and one of
        the two is lost, it goes on with the other, and ends so if something may have been lost. Raises
        `ConnectionClosedError`, and `ValueError` for a negative time.
        """
        self._life.drain(now=now, seconds=self._options.drain_timeout if timeout is None else timeout)

    def close(self, *, now: float) -> None:
        """End: every waiter fails, queues are dropped, what was published gets `CLOSE_GRACE` seconds to be written.

        A second call does nothing. The last event is `Closed`.
        """
        self._life.close(now=now)

    def fail(self, defect: BaseException, *, now: float) -> None:
        """For the adapter, when its own code or the session has raised what it must not: end at once, and say so.

        As `close`, but what is queued can still be read, nothing more is written, and every waiter, every iterator,
        ``Closed.error`` and `last_error` get a `DefectError` whose cause is ``defect``. Does nothing after `Closed`.
        """
        self._life.fail(defect, now)

    # --- work --------------------------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """False while connected with too much waiting to be written: a publisher should wait until it is True again.

        True at the end: there is nothing to wait for.
        """
        tail = self._outbox.tail
        if tail.size < tail.limit:
            return True  # nearly always
        return not self._outbox.full or not self._link.up or self._life.status is SessionStatus.CLOSED

    def publish(
        self,
        subject: str,
        data: Payload = b"",
        *,
        reply: str | None = None,
        headers: HeadersLike | None = None,
    ) -> None:
        """Take a message for sending, now or after the reconnect.

        Raises before anything is changed: `InvalidSubjectError`, `InvalidHeaderError`, `MaxPayloadError`,
        `MaxControlLineError`, `HeadersNotSupportedError`, `OutboundBufferLimitError` (more than ``pending_size`` bytes
        wait already), `ConnectionDrainingError`, `ConnectionClosedError`.
        """
        if self.publish_quickly(subject, data, reply, headers):
            return
        if self._life.status is not SessionStatus.CONNECTED or not self._outbox.make_room():
            self._life.check_publish()
        # Where a whole chunk was closed just now there is room again.
        elif not self._outbox.tail.size and self.publish_quickly(subject, data, reply, headers):
            return
        self._traffic.publish(subject, data, reply, headers)

    def publish_many(self, subject: str, payloads: tuple[Payload, ...], start: int = 0) -> int:
        """Publish ``payloads[start]`` and those behind it, as many as make about one chunk: the index of the next.

        Raises what `publish` raises for the first, and has taken none then. See `PublishMany`, which calls it.
        """
        self._outbox.make_room()
        position = self._outbox.tail.publish_many(subject, payloads, start)
        # The tail takes only what is certainly right. `publish` takes the rest, or raises and says why not.
        if position == start:
            self.publish(subject, payloads[start])
            position += 1
        return position

    def subscribe(
        self,
        subject: str,
        *,
        queue: str | None = None,
        max_msgs: int | None = None,
        max_pending_msgs: int | None = None,
        max_pending_bytes: int | None = None,
        marks: bool = False,
        hand_back: bytes | None = None,
        awaits: Awaits | None = None,
        asks: Asks | None = None,
    ) -> SubscriptionState[MessageT]:
        """A new subscription, sent now or after the reconnect. Limits default to the options', 0 means none.

        ``marks``: its reader wants to know when the connection was replaced, and finds a `ConnectionReplaced` among the
        messages: a message whose subject is empty stands for what `SubscriptionState.take_mark` gives.

        ``hand_back``: a payload with which messages are answered that nobody will read, because the subscription was
        ended with `unsubscribe`, or its client is drained or closed. A drain does not wait until they are read.

        ``awaits``, for a subject without wildcards but one ``.*`` or ``.>`` at its end: its reader publishes with reply
        subjects of it, and says of such a one, given the time as well, whether a publish that has it is still to be
        sent. It is asked when there is another connection, about what was not handed over to the one before; once the
        subscription is ended with `unsubscribe` all that is given up. It is called within calls of this session, and
        must not raise.

        ``asks``, with ``marks``: its reader publishes to this subject, and waits for what comes of it. Where that is
        not one subject, a function tells the number of the reader's last publish if something that was published to
        this one waits for an answer, else None. The reader finds a `PublishRefused` among the messages when the server
        refuses such publishes. The function is called within calls of this session, must be quick, and must not raise.

        Raises before anything is changed: `InvalidSubjectError`, `ValueError`, `ConnectionDrainingError`,
        `ConnectionClosedError`.
        """
        self._life.check_not_ending("subscribe")
        options = self._options
        return self._traffic.subscribe(
            subject,
            queue,
            max_msgs,
            options.max_pending_msgs if max_pending_msgs is None else max_pending_msgs,
            options.max_pending_bytes if max_pending_bytes is None else max_pending_bytes,
            marks,
            hand_back,
            awaits,
            asks,
        )

    def unsubscribe(self, sub: SubscriptionState[MessageT], *, max_msgs: int | None = None) -> None:
        """End the subscription now, dropping its queue; or after ``max_msgs`` deliveries in all, those so far included.

        What is queued beyond the maximum is dropped, also when the subscription has ended. Raises `ValueError` for a
        maximum below 1 or above the one it has, `TypeError` for one that is no int.
        """
        self._traffic.unsubscribe(sub, max_msgs)

    def drain_subscription(self, sub: SubscriptionState[MessageT], *, now: float) -> None:
        """No new messages, but all that the server sent before it knew: `SubscriptionClosed` says that they are here.

        Does nothing when it has ended or is draining. Without a connection it closes at once.
        """
        self._traffic.drain_subscription(sub)

    def subscription_progress(self, *, now: float) -> None:
        """Messages of a closed subscription were read, or a handler returned: a drain may go on.

        Nothing is lost by forgetting this call: the timer would be asked for at once.
        """
        self._life.drain_progress(now)

    def request(
        self,
        subject: str,
        data: Payload = b"",
        *,
        headers: HeadersLike | None = None,
        into: SubscriptionState[MessageT] | None = None,
        accept: Callable[[Message], bool] | None = None,
    ) -> int:
        """Publish with a reply subject of the inbox; the token of the `ReplyReceived` or `RequestFailed` to come.

        With ``into`` that comes as a mark in this subscription's queue, and not as an event: see ``marks`` of
        `subscribe`. If the subscription has ended by then, it is dropped.

        ``accept`` says whether a reply is the answer that is waited for; one for which it returns False is dropped, and
        the wait goes on. It is called within calls of this session, maybe twice with one reply, and must not raise.

        Raises what `publish` raises. While the server refuses the inbox, each request asks for it again, and fails with
        that refusal. The caller keeps the time, and calls `cancel_request` when it is up: a request that was given up
        is not sent any more by the next connection.
        """
        tail = self._outbox.tail
        if tail.size >= tail.limit and (
            self._life.status is not SessionStatus.CONNECTED or not self._outbox.make_room()
        ):
            self._life.check_publish()
        if into is None:
            return self._traffic.ask(subject, data, headers, accept)
        return self._traffic.request(subject, data, headers, into, accept)

    def catch_up(self, sub: SubscriptionState[MessageT], number: int) -> None:
        """Send a PING. A `CaughtUp` with this number comes with its PONG, as a mark in the queue of ``sub``.

        So its reader knows of each message whether the server may have sent it before. ``sub`` was made with ``marks``.
        Does nothing without a connection: the next one is told by a mark as well.
        """
        self._traffic.catch_up(sub, number)

    def take_reply(self, data: bytes, token: int) -> ReplyReceived | RequestFailed | None:
        """Receive ``data``, come next from the transport, if it is the reply to this request, whole and nothing else.

        The result is what `events_received` would have told, and nothing else follows from it: no command, no deadline.
        None: nothing has changed, and ``data`` is for `receive_data`. So is every reply while a lame duck is left.
        """
        link = self._link
        # The reply may be the last one that a lame duck is kept for, or one of two copies: `dispatch` has to see both.
        if link.migrating or self._life.successor is not None:
            return None
        message = link.whole_message(data)
        return self._traffic.take_reply(message, token) if isinstance(message, self._message_type) else None

    def cancel_request(self, token: int) -> None:
        """Nobody waits for this reply any more. Does nothing when it has come."""
        self._traffic.cancel_request(token)

    def flush(self) -> int:
        """Send a PING; the token of the `FlushCompleted` or `FlushFailed` to come.

        Raises `ConnectionLostError` while there is no connection, `ConnectionClosedError` at the end.
        """
        self._life.check_not_closed("flush")
        if not self._link.up:
            raise ConnectionLostError(f"flush: not connected, the session is {self._life.status.name}")
        return self._traffic.flush()

    def cancel_flush(self, token: int) -> None:
        """Nobody waits for this flush any more; its PONG still counts as its own."""
        self._traffic.round_trips.cancel(token)

    def new_inbox(self) -> str:
        """A reply subject nobody else has, under the ``inbox_prefix``."""
        return new_inbox(self._options.inbox_prefix, self._rng)

    # --- state -------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> SessionStatus:
        """Where the session is in its life."""
        return self._life.status

    @property
    def starting(self) -> bool:
        """The first connect is not over: whoever has called `connect` waits until this is False.

        It is, as soon as there is a connection, or none and it is made in the background, or there will be none.
        """
        return self._life.status in _STARTING

    @property
    def stats(self) -> StatsSnapshot:
        """The counters now."""
        return self._traffic.stats(self._life.reconnects)

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
        """Bytes of headers and payload together that can be published; None before the first INFO.

        999,999,999 for a server without a limit: a size has nine digits at most. Its ``server_info.max_payload`` is -1.
        """
        return self._link.info.payload_limit if self._link.info is not None else None

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed to the transport."""
        return self._outbox.pending_bytes

    @property
    def chunk_waits(self) -> bool:
        """A whole chunk waits to be written: whoever has published should write it, if nobody is writing.

        To have another task or thread write less than that costs less than to write each publish by itself. From a
        chunk on nothing is gained by waiting for more.
        """
        outbox = self._outbox
        return outbox.pending_bytes >= CHUNK_SIZE

    @property
    def pending_requests(self) -> int:
        """Requests whose reply is awaited."""
        return len(self._traffic.inbox)


def _secured(servers: tuple[Server, ...], options: ConnectOptions) -> tuple[Server, ...]:
    """Whoever brings a context for TLS, or wants it first, wants it for every server."""
    if options.tls is None and not options.tls_first:
        return servers
    return tuple(server.secured() for server in servers)
