"""The part of the session's machine that is no rule: its adapter, what it hears, and what always holds."""

from __future__ import annotations

import random

from hypothesis.stateful import RuleBasedStateMachine, invariant

from nats_proto import (
    Closed,
    Connected,
    ConnectOptions,
    Disconnected,
    Encoder,
    FlushCompleted,
    FlushFailed,
    Message,
    OpenTransport,
    Reconnected,
    ReplyReceived,
    RequestFailed,
    Session,
    SessionEvent,
    SessionStatus,
    SubscriptionClosed,
    SubscriptionState,
)
from tests.properties.session_model import Ledger, ModelServer, ModelSub

PENDING_SIZE = 2000


class SessionMachineBase(RuleBasedStateMachine):
    """One session, the transport it has, and everything its user waits for."""

    def begin(self, seed: int, servers: str, *, fail_requests_on_disconnect: bool, ping_interval: float) -> None:
        """A new session, not yet started."""
        self.options = ConnectOptions(
            pending_size=PENDING_SIZE,
            retry_on_failed_connect=True,
            fail_requests_on_disconnect=fail_requests_on_disconnect,
            ping_interval=ping_interval,
        )
        self.session: Session[Message] = Session(self.options, servers, rng=random.Random(seed))
        self.steps_before_the_end = 0
        self.now = 100.0
        self.encoder = Encoder()
        self.ledger = Ledger()
        self.server: ModelServer | None = None
        self.dial: OpenTransport | None = None
        self.unwritten = b""
        self.unreported = 0
        self.subs: dict[int, tuple[SubscriptionState[Message], ModelSub]] = {}
        self.requests: dict[int, int] = {}  # token: number
        self.flushes: list[int] = []
        self.order: list[
            int | None
        ] = []  # tokens of the PINGs since the handshake; None: not a flush anybody waits for
        self.life: list[SessionEvent] = []
        self.in_msgs = self.unknown_sid = self.lost_replies = self.out_bytes = self.reconnects = 0

    # --- the adapter -------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        for command in self.session.commands_to_run():
            self.dial = command if isinstance(command, OpenTransport) else None
            self.server = None
            self.unwritten = b""
        for event in self.session.events_received():
            self.heard(event)

    def heard(self, event: SessionEvent) -> None:
        assert not (self.life and isinstance(self.life[-1], Closed)), "an event after Closed"
        match event:
            case Connected() | Reconnected():
                assert not self.life or isinstance(self.life[-1], Disconnected)
                assert isinstance(event, Reconnected) is bool(self.life)
                self.reconnects += isinstance(event, Reconnected)
                self.ledger.connection_made(self.requests.values())
                self.life.append(event)
            case Disconnected():
                assert isinstance(self.life[-1], (Connected, Reconnected))
                assert not self.flushes, "a flush outlived its connection"
                self.order.clear()
                self.life.append(event)
            case Closed():
                unsent = len(self.ledger.to_be_sent) - len(self.ledger.handed_over)
                assert event.unsent_msgs == unsent or (self.unreported and event.unsent_msgs > unsent)
                assert not self.requests
                self.life.append(event)
            case SubscriptionClosed(sid=sid, error=error):
                sub, model = self.subs[sid]
                assert sub.error is error
                model.closed = True
            case ReplyReceived(token=token, message=message):
                assert message.data == b"re:%d" % self.requests.pop(token)
            case RequestFailed(token=token):
                del self.requests[token]
            case FlushCompleted(token=token):
                self.flushes.remove(token)
                if self.options.ping_interval == 0:
                    assert self.order.pop(0) == token
            case FlushFailed(token=token):
                self.flushes.remove(token)
                self.order[self.order.index(token)] = None
            case _:
                pass

    def feed(self, data: bytes) -> None:
        self.session.receive_data(data, now=self.now)
        self.pump()

    def lost(self) -> None:
        """A writer's last report comes after the end of its connection, but before the next one's beginning."""
        if self.unreported:
            self.session.data_sent(self.unreported)
        self.pump()
        self.unreported = 0

    @property
    def may_end(self) -> bool:
        return self.steps_before_the_end <= 0

    @property
    def up(self) -> bool:
        return self.server is not None and self.server.opened

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def ledger_is_right(self) -> None:
        self.steps_before_the_end -= 1
        self.ledger.check()
        if self.session.pending_bytes == 0 and not self.unreported and self.session.status is not SessionStatus.CLOSED:
            assert self.ledger.handed_over == self.ledger.to_be_sent
        if self.server is None and not self.unreported and self.ledger.handed_over == self.ledger.to_be_sent:
            assert self.session.pending_bytes == 0

    @invariant()
    def subscriptions_are_right(self) -> None:
        for sub, model in self.subs.values():
            assert [message.data for message in sub.messages] == model.queued
            assert (sub.received, sub.dropped, sub.closed) == (model.received, model.dropped, model.closed)
            assert sub.received == sub.delivered + sub.dropped + sub.discarded + sub.pending_msgs
        if self.session.status is not SessionStatus.CONNECTED or self.session.pending_bytes or self.server is None:
            return
        on_server = {sid: (sub.subject, sub.queue, sub.remaining) for sid, sub in self.server.subs.items()}
        expected = {
            sid: (model.subject, model.queue, model.remaining)
            for sid, (_, model) in self.subs.items()
            if not model.closed and not model.draining
        }
        assert {sid: sub for sid, sub in on_server.items() if sid in self.subs} == expected
        assert len(on_server) - len(expected) <= 1  # the inbox

    @invariant()
    def counters_add_up(self) -> None:
        stats = self.session.stats
        assert (stats.out_msgs, stats.out_bytes) == (len(self.ledger.accepted), self.out_bytes)
        assert stats.in_msgs == self.in_msgs
        assert stats.dropped_msgs == sum(model.dropped for _, model in self.subs.values())
        assert stats.dropped_unknown_sid == self.unknown_sid
        assert stats.dropped_replies == self.lost_replies
        assert stats.dropped_publishes == len(self.ledger.given_up)
        assert stats.reconnects == self.reconnects
        assert self.session.pending_requests == len(self.requests)
        assert self.session.pending_bytes >= 0
