"""A session under any sequence of calls, cuts, partial writes and timers, beside simple models of what it promised."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from nats_proto import (
    Closed,
    SessionStatus,
)
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionLostError,
    OutboundBufferLimitError,
)
from tests.properties.session_machine_base import PENDING_SIZE, SessionMachineBase
from tests.properties.session_model import ModelServer, ModelSub

INFO: dict[str, object] = {"proto": 1, "headers": True, "max_payload": 1 << 20}
ENDING = (SessionStatus.DRAINING_SUBS, SessionStatus.DRAINING_PUBS, SessionStatus.CLOSED)

names = st.sampled_from(["a", "b.c", "d"])
maxima = st.none() | st.integers(1, 9)
sizes = st.sampled_from([0, 1, 30, 500]) | st.just(70_000)
few = st.integers(1, 4)
indexes = st.integers(0, 10**6)
rooms = st.integers(0, 60) | st.sampled_from([300, 5000, 10**7, 10**7, 10**7])
seldom = st.sampled_from([False, False, True])
waits = st.sampled_from([0.0, 0.05, 0.4, 2.0, 6.0, 40.0])


class SessionMachine(SessionMachineBase):
    """Every public call of a session, in any order the rules allow."""

    @initialize(
        seed=st.integers(0, 1000),
        servers=st.sampled_from(["nats://a", "nats://a, nats://b", "nats://a, nats://b, nats://c"]),
        fail_requests=st.booleans(),
        ping_interval=st.sampled_from([0.0, 0.0, 3.0]),
        end_after=st.sampled_from([10, 40, 1000]),
        up=st.sampled_from([True, True, True, False]),
    )
    def start(
        self, seed: int, servers: str, fail_requests: bool, ping_interval: float, end_after: int, up: bool
    ) -> None:
        self.begin(
            seed,
            servers,
            fail_requests_on_disconnect=fail_requests,
            ping_interval=ping_interval,
        )
        self.steps_before_the_end = end_after
        self.session.connect(now=self.now)
        self.pump()
        if up:
            self.come_up()

    # --- publishing --------------------------------------------------------------------------------------------------

    @rule(size=sizes, request=st.booleans())
    def publish(self, size: int, request: bool) -> None:
        payload = self.ledger.next_payload(size)
        before = self.session.pending_bytes
        try:
            if request:
                token = self.session.request("service", payload)
            else:
                self.session.publish("news", payload)
        except OutboundBufferLimitError:
            assert before >= PENDING_SIZE
            assert not self.up or not self.session.writable
        except ConnectionDrainingError:
            assert self.session.status is SessionStatus.DRAINING_PUBS or self.session.connected_url is None
        except ConnectionClosedError:
            assert self.session.status is SessionStatus.CLOSED
        else:
            number = self.ledger.accept()
            self.out_bytes += len(payload)
            if request:
                self.requests[token] = number
                self.ledger.requested.add(number)

    @precondition(lambda self: self.requests)
    @rule(index=indexes)
    def cancel_request(self, index: int) -> None:
        token = sorted(self.requests)[index % len(self.requests)]
        self.session.cancel_request(token)
        del self.requests[token]

    @precondition(lambda self: self.session.status is not SessionStatus.CLOSED)
    @rule()
    def flush(self) -> None:
        try:
            token = self.session.flush()
        except ConnectionLostError:
            assert not self.up
        else:
            self.flushes.append(token)
            self.order.append(token)

    @precondition(lambda self: self.flushes)
    @rule(index=indexes)
    def cancel_flush(self, index: int) -> None:
        token = self.flushes.pop(index % len(self.flushes))
        self.session.cancel_flush(token)
        self.order[self.order.index(token)] = None

    # --- subscriptions -----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.session.status not in ENDING)
    @rule(subject=names, queue=st.none() | st.just("q"), max_msgs=maxima, limit=st.sampled_from([0, 2]))
    def subscribe(self, subject: str, queue: str | None, max_msgs: int | None, limit: int) -> None:
        sub = self.session.subscribe(subject, queue=queue, max_msgs=max_msgs, max_pending_msgs=limit)
        self.subs[sub.sid] = (sub, ModelSub(subject, queue, max_msgs, limit))

    @precondition(lambda self: self.subs)
    @rule(index=indexes, max_msgs=maxima)
    def unsubscribe(self, index: int, max_msgs: int | None) -> None:
        sub, model = list(self.subs.values())[index % len(self.subs)]
        if max_msgs is not None and model.max_msgs is not None and max_msgs > model.max_msgs and not model.closed:
            with pytest.raises(ValueError, match="cannot be raised"):
                self.session.unsubscribe(sub, max_msgs=max_msgs)
            return
        self.session.unsubscribe(sub, max_msgs=max_msgs)
        if max_msgs is None:
            model.queued.clear()
        else:
            del model.queued[max(0, max_msgs - model.read) :]
        if max_msgs is not None and not model.closed and model.received < max_msgs:
            model.max_msgs = max_msgs
        self.pump()
        assert model.closed or (max_msgs is not None and model.received < max_msgs)

    @precondition(lambda self: self.subs)
    @rule(index=indexes)
    def drain_subscription(self, index: int) -> None:
        sub, model = list(self.subs.values())[index % len(self.subs)]
        self.session.drain_subscription(sub, now=self.now)
        if not model.closed and not model.draining and self.up:
            model.draining = True
            self.order.append(None)
        self.pump()
        assert model.closed or model.draining

    @precondition(lambda self: self.subs)
    @rule(index=indexes, count=few)
    def read(self, index: int, count: int) -> None:
        sub, model = list(self.subs.values())[index % len(self.subs)]
        assert [message.data for message in sub.take(count)] == model.queued[:count]
        model.read += len(model.queued[:count])
        del model.queued[:count]
        self.session.subscription_progress(now=self.now)
        self.pump()

    # --- the transport -----------------------------------------------------------------------------------------------

    @rule(room=rooms, report=st.booleans())
    def write(self, room: int, report: bool) -> None:
        if self.unreported:
            self.session.data_sent(self.unreported)
            self.unreported = 0
            self.pump()
        if not self.unwritten:
            self.unwritten = b"".join(self.session.data_to_send())
        if self.server is None:
            assert not self.unwritten
            return
        if self.up and not self.unwritten:
            assert self.session.pending_bytes == 0
        accepted, self.unwritten = self.unwritten[:room], self.unwritten[room:]
        self.server.read(accepted)
        self.unreported = len(accepted)
        if report:
            self.lost()

    @precondition(lambda self: self.dial is not None)
    @rule(works=st.sampled_from([True, True, True, False]))
    def answer_dial(self, works: bool) -> None:
        assert self.dial is not None
        self.now = max(self.now, self.dial.at)
        self.dial = None
        self.lost()
        if works:
            self.server = ModelServer(self.ledger)
            self.session.transport_connected(now=self.now)
        else:
            self.session.transport_failed(OSError("refused"), now=self.now)
        self.pump()

    @precondition(lambda self: self.server is not None and not self.server.opened)
    @rule()
    def shake_hands(self) -> None:
        assert self.server is not None
        if not self.server.greeted:
            self.server.greeted = True
            self.feed(self.encoder.info(INFO))
        elif self.server.pings:
            self.server.pings -= 1
            self.server.opened = True
            self.feed(b"PONG\r\n")

    @precondition(lambda self: not self.up and self.session.status not in ENDING)
    @rule()
    def come_up(self) -> None:
        while not self.up:
            if self.dial is not None:
                self.answer_dial(works=True)
            self.write(room=10**7, report=True)
            self.shake_hands()

    @precondition(lambda self: self.server is not None)
    @rule(how=st.sampled_from(["eof", "error", "garbage", "stale", "refused"]), really=seldom)
    def cut(self, how: str, really: bool) -> None:
        if not really:
            return
        if how == "eof":
            self.session.receive_eof(now=self.now)
        elif how == "error":
            self.session.transport_lost(OSError("reset"), now=self.now)
        elif how == "garbage":
            self.session.receive_data(b"garbage\r\n" * 8, now=self.now)
        elif how == "stale":
            self.session.receive_data(b"-ERR 'Stale Connection'\r\n", now=self.now)
        else:
            self.session.receive_data(b"-ERR 'maximum connections exceeded'\r\n", now=self.now)
        self.lost()
        assert self.server is None

    @precondition(lambda self: self.up and self.session.status not in ENDING)
    @rule(
        count=few,
        size=sizes,
        room=st.integers(0, 300),
        report=st.booleans(),
        away=st.integers(0, 2),
        at_an_edge=st.booleans(),
    )
    def cut_in_the_middle(self, count: int, size: int, room: int, report: bool, away: int, at_an_edge: bool) -> None:
        for _ in range(count):
            self.publish(size, request=False)
        self.write(room, report)
        if at_an_edge:  # between two operations
            self.write(self.unwritten.find(b"PUB ") % 10**7, report)
        self.cut("error", really=True)
        for _ in range(away):
            self.publish(1, request=False)
        self.come_up()

    # --- what the server says ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.up and self.subs)
    @rule(index=indexes, count=few, split=st.booleans())
    def deliver(self, index: int, count: int, split: bool) -> None:
        if not self.server.subs:
            self.write(room=10**7, report=True)
        sids = sorted(sid for sid in self.server.subs if sid in self.subs) if self.server is not None else []
        if self.server is None or not sids:
            return
        sid = sids[index % len(sids)]
        subject, chunks = self.server.subs[sid].subject, []
        for _ in range(self.server.deliver(sid, count)):
            self.in_msgs += 1
            data = b"%d" % self.in_msgs
            self.unknown_sid += not self.subs[sid][1].receive(data)
            chunks.append(self.encoder.message(subject, sid, data))
        data = b"".join(chunks)
        for chunk in (data[:7], data[7:]) if split else (data,):
            self.feed(chunk)

    @precondition(lambda self: self.up and (self.requests or self.ledger.reply_subjects))
    @rule(index=indexes, again=st.booleans())
    def reply(self, index: int, again: bool) -> None:
        self.write(room=10**7, report=True)
        if self.server is None or not self.ledger.reply_subjects:
            return
        number = sorted(self.ledger.reply_subjects)[index % len(self.ledger.reply_subjects)]
        subject = self.ledger.reply_subjects[number]
        inboxes = [sid for sid, sub in self.server.subs.items() if sub.subject.endswith(".*")]
        if not inboxes:
            return  # the restore is still on its way
        copies = 1 + again
        waited = number in self.requests.values()
        self.in_msgs += copies
        self.lost_replies += copies - waited
        self.feed(self.encoder.message(subject, inboxes[0], b"re:%d" % number) * copies)
        assert number not in self.requests.values()

    @precondition(lambda self: self.up and (self.server.pings or self.order))
    @rule(behind=seldom)
    def pong(self, behind: bool) -> None:
        if not self.server.pings:
            self.write(room=10**7, report=True)
        if self.server is None or not self.server.pings:
            return
        self.server.pings -= 1
        before = list(self.flushes)
        self.feed(b"PONG\r\n-ERR 'said behind it'\r\n" if behind else b"PONG\r\n")
        if self.options.ping_interval == 0 and self.flushes == before and self.order:
            assert self.order.pop(0) is None, "a PONG was not taken for its flush"

    @precondition(lambda self: self.up)
    @rule(
        what=st.sampled_from(
            [b"PING\r\n", b"+OK\r\n", b"-ERR 'Invalid Subject'\r\n", b"INFO {]\r\n", b"MSG x 999 0\r\n\r\n"]
        )
    )
    def chat(self, what: bytes) -> None:
        if what.startswith(b"MSG"):
            self.in_msgs += 1
            self.unknown_sid += 1
        self.feed(what)

    @precondition(lambda self: self.up)
    @rule(really=seldom)
    def refuse_requests(self, really: bool) -> None:
        if not really or not self.requests:
            return
        while self.up and self.session.pending_bytes:
            self.write(room=10**7, report=True)
        if not self.up:
            return
        self.feed(b"-ERR 'Permissions Violation for Publish to \"service\"'\r\n" * len(self.requests))
        self.order.append(None)  # each refused publish is known behind the PONG alone
        for _ in range(len(self.order) + 20):  # PINGs that keep the connection alive are answered before it
            if self.up and self.requests:
                self.pong(behind=False)
        assert not (self.up and self.requests)

    # --- time and ends -----------------------------------------------------------------------------------------------

    @rule(seconds=waits)
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.session.handle_timeout(now=self.now)
        self.lost() if self.session.connected_url is None else self.pump()
        deadline = self.session.next_timeout()
        assert deadline is None or deadline > self.now
        self.session.handle_timeout(now=self.now)
        assert self.session.events_received() == []
        assert self.session.commands_to_run() == []

    @precondition(lambda self: self.session.status not in ENDING)
    @rule(really=seldom)
    def reconnect(self, really: bool) -> None:
        if not really:
            return
        was_up = self.up
        self.session.reconnect(now=self.now)
        self.lost() if was_up else self.pump()
        assert not (was_up and (self.requests or self.flushes))

    @precondition(lambda self: self.may_end and self.session.status not in ENDING)
    @rule()
    def drain(self) -> None:
        if self.up:
            for _, model in self.subs.values():
                model.draining = model.draining or not model.closed
            self.order.append(None)
        self.session.drain(now=self.now, timeout=10.0)
        self.pump()

    @precondition(lambda self: self.may_end and self.up and self.session.status is SessionStatus.CONNECTED)
    @rule(behind=st.booleans())
    def drain_to_the_end(self, behind: bool) -> None:
        self.drain()
        for index in range(len(self.subs)):
            self.read(index, 10**6)
        while self.up:
            self.write(room=10**7, report=True)
            self.pong(behind)
            for index in range(len(self.subs)):
                self.read(index, 10**6)
        assert isinstance(self.life[-1], Closed)
        assert self.life[-1] == Closed(error=None)

    @precondition(lambda self: self.may_end and not (self.life and isinstance(self.life[-1], Closed)))
    @rule()
    def close(self) -> None:
        self.session.close(now=self.now)
        for _, model in self.subs.values():
            model.queued.clear()
        self.pump()
        assert self.session.status is SessionStatus.CLOSED

    def teardown(self) -> None:
        """Whatever happened: given a server that works, everything accepted arrives, and the end is the end."""
        if not hasattr(self, "session"):
            return
        for _ in range(20):
            if self.dial is not None:
                self.answer_dial(works=True)
            if self.server is not None and not self.server.opened:
                self.shake_hands()
            self.write(room=10**7, report=True)
        if self.session.status not in ENDING:
            assert self.up
            assert self.ledger.handed_over == self.ledger.to_be_sent
            self.subscriptions_are_right()
        self.close()
        self.wait(1.0)
        assert isinstance(self.life[-1], Closed)
        assert self.session.next_timeout() is None
        assert not self.flushes
        assert all(model.closed for _, model in self.subs.values())


TestSession = SessionMachine.TestCase
TestSession.settings = settings(stateful_step_count=80)
TestSession = pytest.mark.timeout(300)(TestSession)
