"""The promises, checked after every step of one client against its ledger and its transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nats_proto import (
    AuthenticationFailed,
    Closed,
    Connected,
    ConnectFrame,
    Disconnected,
    FlushCompleted,
    FlushFailed,
    Frame,
    MessagesAvailable,
    PingFrame,
    PongFrame,
    PublishesDropped,
    PublishFrame,
    Reconnected,
    ReplyReceived,
    RequestFailed,
    ServerErrorReceived,
    ServersDiscovered,
    SessionEvent,
    SessionStatus,
    SlowConsumer,
    SubscribeFrame,
    SubscriptionClosed,
)
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionLostError,
    HeadersNotSupportedError,
    MaxPayloadError,
    NATSError,
    NoRespondersError,
    PermissionsError,
    StaleConnectionError,
)
from tests.simulation.counts import Counts
from tests.simulation.hostile import Mark
from tests.simulation.ledger import Publish, serial_of
from tests.simulation.order import CLOSED, UP, DialLog, EventOrder
from tests.simulation.server import Peer
from tests.simulation.transport import Transport
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.client import Client

__all__ = ["Checks"]

REFUSALS: Final = (MaxPayloadError, HeadersNotSupportedError)


def require(holds: bool, what: str) -> None:
    """Raise `Violation` unless it holds."""
    if not holds:
        raise Violation(what)


class Checks:
    """Of one client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.session = client.session
        self.ledger = client.ledger
        self.world = client.world
        self.options = client.options
        self.order = EventOrder(client.options)
        self.dials = DialLog(client.options)
        self.dirty = False
        self.counts = Counts(client)
        self.user_left = False
        """The user called reconnect() in this step."""
        self.draining = False
        """A drain began with a connection, which must not be left before its end."""
        self.refused_by_server = False
        """It has refused something in this step."""
        self.refused_publishes = 0
        """How many it has refused, without those that requests were told of: the others concern none, or not yet."""
        self.fatal = False
        """A server said that none like it will ever take us."""

    # --- events ------------------------------------------------------------------------------------------------------

    def event(self, event: SessionEvent) -> None:
        """One event of the session, in order."""
        self.order.follow(event)
        ledger, transport = self.ledger, self.client.transport
        match event:
            case MessagesAvailable(sids=sids):
                require(sids != (), "messages for nobody")
                for sid in sids:
                    require(sid in ledger.subs, f"messages for sid {sid}, which is none")
            case ReplyReceived() | RequestFailed():
                self._request_ended(event)
            case FlushCompleted(token=token):
                self._flushed(token)
            case FlushFailed(token=token):
                flush = ledger.flushes.pop(token, None)
                require(flush is not None, f"flush {token} failed, and nobody waited for it")
            case SubscriptionClosed(sid=sid, error=error):
                self._subscription_closed(sid, error)
            case Connected() | Reconnected():
                require(transport is not None, f"{event!r} without a transport")
                assert transport is not None
                require(transport.open, "connected before the PONG of the handshake came")
                ledger.reconnects += isinstance(event, Reconnected)
                self._opened(transport)
            case Disconnected(server=server, error=error):
                self.dials.outage(server, wished=error is None)
                self.draining &= error is None
                self._check_refused(transport)
                self._check_staleness(error)
                self.dirty = True
            case SlowConsumer():
                self.counts.slow_reports += 1
            case ServerErrorReceived(count=count):
                self.counts.server_errors += count
            case PublishesDropped():
                require(isinstance(event.error, REFUSALS), f"{event!r}: there was no reason for that")
                require(transport is not None and transport.open, f"{event!r} without a connection")
                assert transport is not None
                self.counts.publishes_dropped(event, transport)
            case ServersDiscovered(servers=servers):
                self.dials.joined(servers)
            case AuthenticationFailed(server=server, dropped=True):
                self.dials.left(server)
            case Closed():
                self._closed(event)
            case _:
                pass

    def _opened(self, transport: Transport) -> None:
        ledger = self.ledger
        ledger.drop_given_up()
        transport.opened_at = self.world.now
        for sub in ledger.subs.values():
            if sub.alive:
                sub.received_before = sub.received
                transport.to_restore.add(sub.sid)
        if ledger.inbox_sid is not None:
            transport.to_restore.add(ledger.inbox_sid)

    def _request_ended(self, event: ReplyReceived | RequestFailed) -> None:
        ledger = self.ledger
        token = event.token
        require(token in ledger.requests, f"{event!r}: nobody waits for that")
        if isinstance(event, ReplyReceived) or isinstance(event.error, NoRespondersError):
            expected = ledger.completions.popleft() if ledger.completions else None
            require(
                expected == (token, isinstance(event, ReplyReceived)), f"{event!r}, where {expected} was to come next"
            )
            if isinstance(event, ReplyReceived):
                serial = serial_of(event.message.data, ledger.client)
                require(serial == ledger.requests[token], f"request {token} got the answer of publish {serial}")
        else:
            error = event.error
            legal = (
                (isinstance(error, ConnectionClosedError) and self.session.status is SessionStatus.CLOSED)
                or (
                    isinstance(error, ConnectionLostError)
                    and (self.user_left or self.options.fail_requests_on_disconnect)
                )
                or (isinstance(error, PermissionsError) and self._was_refused(error))
                or (isinstance(error, REFUSALS) and (token in ledger.refused_tokens or self.client.unreported))
            )
            require(legal, f"{event!r}: there was no reason for that")
        ledger.close_request(token)

    def _was_refused(self, error: PermissionsError) -> bool:
        """Without the inbox all requests fail at once. Else there is a refusal for each."""
        if error.operation == "subscribe":
            return self.refused_by_server
        self.refused_publishes -= 1
        return self.refused_publishes >= 0

    def _flushed(self, token: int) -> None:
        ledger, transport = self.ledger, self.client.transport
        oldest = min(ledger.flushes, default=None)
        flush = ledger.flushes.pop(token, None)
        require(flush is not None, f"flush {token} completed, and nobody waited for it")
        require(token == oldest, f"flush {token} completed before flush {oldest}")
        assert flush is not None
        number = transport.number if transport is not None else 0
        require(flush.transport == number, f"flush {token} of transport {flush.transport} completed on {number}")
        assert transport is not None
        require(ledger.handed >= flush.accepted, f"flush {token} completed before what came before it was written")
        if not transport.lied:
            unread = [s for s in transport.serials[transport.parsed :] if s < flush.accepted]
            require(not unread, f"flush {token} completed, and the server has not read {unread[:3]}")

    def _subscription_closed(self, sid: int, error: NATSError | None) -> None:
        sub = self.ledger.subs.get(sid)
        require(sub is not None, f"sid {sid} closed, and is none")
        assert sub is not None
        require(not sub.reported_closed, f"sid {sid} closed twice")
        sub.reported_closed = True
        self.dirty = True
        if not sub.alive:
            return
        transport = self.client.transport
        closing = self.session.status is SessionStatus.CLOSED
        require(sub.draining or closing, f"sid {sid} closed by itself: {error!r}")
        still_up = transport is not None and self.session.connected_url is not None
        if sub.draining and still_up and error is None and not transport.lied:
            unread = [mark for mark in transport.marks if mark.kind == "msg" and mark.sid == sid]
            require(not unread, f"sid {sid} was drained, and {len(unread)} of its messages are still on their way")
        sub.end(self.world.now)

    def _check_staleness(self, error: NATSError | None) -> None:
        transport = self.client.transport
        by_us = isinstance(error, StaleConnectionError) and "PINGs unanswered" in str(error)
        if by_us and transport is not None and not transport.lied:
            silent = self.world.now - max(transport.opened_at, transport.last_pong)
            least = self.options.max_pings_out * self.options.ping_interval
            require(silent >= least - 1e-6, f"declared dead after {silent:g} s without PONG, {least:g} are allowed")

    def _check_refused(self, transport: Transport | None) -> None:
        """What was refused while it was written must not wait for the next connection."""
        if transport is not None and not self._closing:
            kept = [each for each in self.ledger.waiting if each.refused_by(*transport.allowed[-1])]
            require(not kept, f"{len(kept)} publishes wait that the server has refused")

    def _closed(self, event: Closed) -> None:
        ledger = self.ledger
        left = self.draining and isinstance(event.error, ConnectionLostError)
        require(not left, f"a drain left its connection, and ended with {event.error!r}")
        require(not ledger.requests, f"closed with requests {sorted(ledger.requests)} unanswered")
        require(not ledger.flushes, f"closed with flushes {sorted(ledger.flushes)} unanswered")
        unsent = len(ledger.waiting)
        if self.client.unreported:  # then the session has to think that more is left
            require(event.unsent_msgs >= unsent, f"{event!r}, and {unsent} publishes were not written")
        else:
            require(event.unsent_msgs == unsent, f"{event!r}, and {unsent} publishes were not written")
            require(event.unsent_bytes == ledger.unhanded_bytes, f"{event!r}, and {ledger.unhanded_bytes} bytes")

    # --- dials -------------------------------------------------------------------------------------------------------

    def dialled(self, server: str, at: float, *, first_walk: bool) -> None:
        """A dial begins."""
        pool = self.session.servers
        self.dials.dialled(server, at, pool, first_walk=first_walk)
        if self.options.max_reconnect_attempts < 0 and not self.order.drops:
            missing = set(self.client.named) - set(pool)
            require(not missing, f"{sorted(missing)} left the pool, and had refused nobody")

    # --- what was written --------------------------------------------------------------------------------------------

    def wrote(self, transport: Transport, data: bytes) -> None:
        """The transport accepted ``data``."""
        transport.accepted += len(data)
        transport.taken_before -= len(data)
        for frame in transport.shadow.receive_data(data):
            self._wrote_frame(transport, frame)
        if transport.shadow.error is not None:
            raise Violation(f"the session wrote what is no operation: {transport.shadow.error}")

    def _wrote_frame(self, transport: Transport, frame: Frame) -> None:
        ledger = self.ledger
        if not transport.connect_seen:
            require(isinstance(frame, ConnectFrame), f"before CONNECT the session wrote {frame!r}")
            require(transport.info_seen, "CONNECT was written before INFO came")
            transport.connect_seen = True
            return
        require(not isinstance(frame, ConnectFrame), "CONNECT was written twice")
        if not transport.open:
            require(isinstance(frame, PingFrame), f"before the handshake ended the session wrote {frame!r}")
        match frame:
            case PublishFrame(reply=reply, data=data, header_block=block):
                require(not transport.to_restore, f"a publish before sids {sorted(transport.to_restore)} were restored")
                publish = Publish(0, 0, len(data) + len(block or b""), block is not None)
                refused = transport.taken_before < 0 and publish.refused_by(*transport.allowed[-1])
                require(not refused, "a publish was written that the server refuses")
                serial = serial_of(data, ledger.client)
                require(serial is not None, f"a publish that nobody made: {frame!r}")
                assert serial is not None
                ledger.hand_over(serial)
                transport.serials.append(serial)
                token = ledger.token_of_serial.get(serial)
                if token is not None and reply is not None:
                    ledger.token_of_reply[reply] = token
            case SubscribeFrame(sid=sid):
                transport.to_restore.discard(sid)
                sub = ledger.subs.get(sid)
                require(sub is not None or sid == ledger.inbox_sid, f"SUB {sid}, which is none")
                if sub is not None and sub.ended_at < transport.opened_at:
                    raise Violation(f"sid {sid} had ended before this connection, and was restored")
            case PongFrame():
                transport.owes_pong = False
            case _:
                pass

    # --- what was read -----------------------------------------------------------------------------------------------

    def received(self, transport: Transport, marks: list[Mark]) -> None:
        """The session was given these: put them into the ledger."""
        ledger = self.ledger
        for mark in marks:
            if transport.over:
                return
            match mark.kind:
                case "msg" if transport.open:
                    ledger.receive(mark.sid, mark.subject, mark.data, mark.header_block, self.world.now)
                case "pong":
                    transport.open = True
                    transport.last_pong = self.world.now
                case "ping":
                    transport.owes_pong = True
                case "err":
                    ledger.server_errors += transport.open
                    transport.over |= not transport.open  # in the handshake every error ends the attempt
                    self.refused_by_server |= mark.subject.startswith("Permissions")
                    self.refused_publishes += mark.subject.startswith("Permissions Violation for Publish")
                    self.fatal |= mark.subject.startswith("invalid client")
                case "info":
                    transport.info_seen = True
                    if mark.allows is not None:
                        transport.allowed.append(mark.allows)
                        transport.taken_before = len(self.client.unwritten)
                case "end":
                    transport.over = True
                case _:
                    pass
        self.dirty = True

    def after_receive(self, transport: Transport) -> None:
        """The step is over: did the connection end if, and only if, it had to?"""
        gone = self.client.transport is not transport
        if transport.over:
            require(gone, "the server sent what ends a connection, and it was kept")
        elif not (gone or transport.open):
            late = (
                self.world.now - transport.deadline - self.client.knobs.lateness - self.client.asleep_since(transport)
            )
            require(late <= 1e-6, f"the handshake goes on {late:g} s after its deadline")
        elif (
            gone
            and self.order.state is not CLOSED
            and not (transport.lied or transport.odd_greeting or (transport.open and self.order.wished))
        ):
            raise Violation("the session left the connection, and the server had given no reason")

    def server_read(self, transport: Transport, peer: Peer) -> None:
        """A server has read all there was: does it know what the session knows?"""
        client = self.client
        if (
            transport is not client.transport
            or not (transport.open and transport.quiet and self.order.state is UP)
            or client.unwritten
            or client.unreported
            or transport.lied
            or self.session.pending_bytes
            or not peer.open
            or self.session.status is SessionStatus.CLOSED
        ):
            return
        for sid, sub in self.ledger.subs.items():
            if not sub.alive or sub.draining:
                require(sid not in peer.subs, f"sid {sid} has ended, and the server still has it")
                continue
            most = None if sub.max_msgs is None else sub.max_msgs - sub.received_before
            if sid in peer.finished:
                delivered = peer.finished[sid]
                if delivered is not None:
                    require(
                        most is not None and delivered >= most,
                        f"sid {sid} ended on the server with {delivered}, not {most}",
                    )
            else:
                there = peer.subs.get(sid)
                require(there is not None, f"sid {sid} is alive, and the server does not have it")
                assert there is not None
                require((there.subject, there.queue) == (sub.subject, sub.queue), f"sid {sid} is another on the server")
                require(there.max_msgs == most, f"sid {sid} has maximum {there.max_msgs} on the server, not {most}")
        inbox = self.ledger.inbox_sid
        if inbox is not None:
            require(inbox in peer.subs or inbox in peer.finished, "the server does not have the inbox")

    # --- after every step --------------------------------------------------------------------------------------------

    def step(self) -> None:
        """All events, commands and data of one call were handled."""
        self.user_left = self.refused_by_server = False
        if self.client.transport is not None:
            del self.client.transport.allowed[:-1]
        session, client, ledger = self.session, self.client, self.ledger
        state = self.order.state
        up = state is UP
        if (session.connected_url is not None) is not up:
            raise Violation(f"connected_url is {session.connected_url} while {state}")
        if session.pending_requests != len(ledger.requests):
            raise Violation(f"{session.pending_requests} request slots, {len(ledger.requests)} open")
        if ledger.completions and not self._closing:  # what stands behind the last PONG of a drain is not heard
            raise Violation(f"no event for {list(ledger.completions)}")
        if not ledger.refused_tokens.isdisjoint(ledger.requests):
            raise Violation("a request waits whose publish was dropped")
        if ledger.flushes and not up:
            raise Violation(f"flushes {sorted(ledger.flushes)} wait without a connection")
        if state is CLOSED:
            require(client.transport is None and client.dial is None, "closed, and the transport was not")
            require(session.next_timeout() is None, "closed, and a timer is set")
            return
        self.counts.check_bytes()
        if self.dirty:
            self.dirty = False
            self.counts.check()
        transport = client.transport
        if transport is not None and up:
            if transport.owes_pong and not (client.unwritten or client.unreported or self._closing):
                raise Violation("a PING was not answered")
            self.counts.check_alive(transport)

    @property
    def _closing(self) -> bool:
        return self.session.status is SessionStatus.CLOSED
