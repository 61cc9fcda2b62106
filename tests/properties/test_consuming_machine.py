"""Continuous reading beside a model of the server's waiting requests, whatever is lost, late or taken by others.

What must hold: what the server may still deliver, and what lies unread, are together never more than was allowed, and
the reader's account is never below it. Everything that it receives is given, in order. And there is no stall: as soon
as the server has messages and answers, they flow within two heart-beats.
"""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nats_proto import ApiCall, Ask, Message, Publish, Subscribe
from nats_proto._consuming.condition import ConsumerCondition
from nats_proto._consuming.consume import Consume
from nats_proto._consuming.options import ConsumeOptions
from nats_proto._jetstream.errors import ConsumerNotFoundError
from nats_proto.errors import NATSTimeoutError
from tests.properties.consuming_model import ModelConsumer
from tests.proto.consuming import SUBJECT, Inboxes, requests, status

HEARTBEAT = 5.0
INFO: ApiCall[object] = ApiCall("info", "info", b"", lambda message: message)
MARK = Message("", 0, None, b"")

HOSTILE = [
    "100 Idle Heartbeat",
    "404 No Messages",
    "408 Request Timeout",
    "408 Requests Pending",
    "409 Batch Completed",
    "409 Leadership Change",
    "409 Consumer Deleted",
    "409 Server Shutdown",
    "409 Exceeded MaxWaiting",
    "409 What",
    "423 Nats-Wrong-Pin-Id",
    "503",
    "999",
]


class Reading(RuleBasedStateMachine):
    """One reader, driven as the clients' drivers do it."""

    @initialize(
        most=st.sampled_from([1, 2, 7, 100]),
        threshold=st.sampled_from([None, 1]),
        pending=st.integers(0, 300),
    )
    def start(self, most: int, threshold: int | None, pending: int) -> None:
        self.now = 1000.0
        self.server = ModelConsumer()
        self.server.pending = pending
        self.queue: deque[Message] = deque()
        self.most = most
        self.hostile = False
        self.lose_requests = 0
        self.received = self.given = self.asked = 0
        self.inbox = ""
        self.leaving = False
        """The connection was replaced, and the inbox not yet."""
        self.calm_since = self.now
        self.machine: Consume[Message, Message] = Consume(
            SUBJECT,
            ConsumeOptions(max_messages=most, threshold=threshold, heartbeat=HEARTBEAT, on_missing="wait"),
            what="messages",
            new_inbox=Inboxes(),
            make=lambda message, now: message,
            now=self.now,
            info=INFO,
        )
        self.do()

    # --- the driver

    def do(self) -> None:
        """What the machine wants; then what the server has sent arrives."""
        wants = self.machine.wants
        while wants:
            want = wants.popleft()
            if isinstance(want, Subscribe):
                self.inbox = want.subject.removesuffix(".*")
                self.leaving = False
                self.server.inboxes = {self.inbox}
                self.server.pending += sum(1 for message in self.queue if message.reply is not None)  # handed back
                self.queue.clear()
                self.arrive(into_a_new_queue=True)
            elif isinstance(want, Publish):
                [(reply, body)] = requests([want])
                self.asked += 1
                if self.lose_requests:
                    self.lose_requests -= 1
                    continue
                batch, expires, beat = (body[name] for name in ("batch", "expires", "idle_heartbeat"))
                assert isinstance(batch, int)
                assert isinstance(expires, int)
                assert isinstance(beat, int)
                self.server.ask(reply, batch, expires / 1e9, beat / 1e9, self.now)
            else:
                assert isinstance(want, Ask)
                self.answer()
        self.arrive()

    def answer(self) -> None:
        if not self.server.exists:
            self.machine.answered(INFO, ConsumerNotFoundError("not found", err_code=10014), now=self.now)
        elif not self.server.leader or self.server.silent:
            self.machine.answered(INFO, NATSTimeoutError("no answer"), now=self.now)
        else:
            self.machine.answered(INFO, ConsumerCondition(), now=self.now)

    def arrive(self, *, into_a_new_queue: bool = False) -> None:
        """What was sent reaches the queue; of an inbox that was left it is handed back."""
        while self.server.sent:
            message = self.server.sent.popleft()
            if message.reply is not None and into_a_new_queue:
                self.server.pending += 1
            elif message.reply is not None or message.subject.startswith(f"{self.inbox}."):
                self.queue.append(message)

    def take(self) -> None:
        """One message out of the queue."""
        message = self.queue.popleft()
        if not message.subject:
            self.machine.connection_replaced(now=self.now)
            self.leaving = True
        else:
            if message.reply is not None:
                self.received += 1
            self.machine.receive(message, now=self.now)
        self.do()
        while self.machine.items:
            item = self.machine.items.popleft()
            self.given += 1
            assert item is message

    def wait(self, until: float) -> None:
        """Read whatever comes, and let time pass."""
        for _ in range(10_000):
            if self.queue:
                self.take()
                continue
            due = self.machine.next_timeout()
            assert due is not None
            self.now = max(self.now, min(until, due, self.server.next_event()))
            self.server.tick(self.now)
            self.arrive()
            if not self.queue:
                self.machine.handle_timeout(now=self.now)
                self.do()
            if self.now >= until:
                return
        raise AssertionError("it goes round and round without time passing")

    # --- what happens

    @rule(count=st.integers(1, 200))
    def store(self, count: int) -> None:
        self.server.pending += count
        self.server.deliver(self.now)
        self.arrive()

    @rule(count=st.integers(1, 200))
    def others_take(self, count: int) -> None:
        self.server.pending = max(0, self.server.pending - count)

    @rule(count=st.integers(1, 150))
    def read(self, count: int) -> None:
        for _ in range(count):
            if self.queue:
                self.take()

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.9, 5.0, 10.0, 31.0, 100.0]))
    def read_for(self, seconds: float) -> None:
        self.wait(self.now + seconds)

    @rule(seconds=st.sampled_from([0.1, 5.0, 11.0, 40.0, 500.0]))
    def be_busy(self, seconds: float) -> None:
        """Time passes, and nobody reads."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, max(self.now + 0.01, self.server.next_event()))
            self.server.tick(self.now)
            self.arrive()

    @rule()
    def look_without_reading(self) -> None:
        """A driver looks although the queue is not empty, when there is no room for what the machine wants."""
        self.machine.handle_timeout(now=self.now)
        self.do()

    @rule(told=st.booleans())
    def another_leader(self, told: bool) -> None:
        self.server.lose_all("409 Leadership Change" if told else None)
        self.arrive()

    @rule()
    def shut_down(self) -> None:
        if self.server.leader:
            for request in self.server.waiting:
                self.server.end(request, "409 Server Shutdown")
            self.server.waiting.clear()
            self.arrive()

    @rule(survive=st.booleans())
    def reconnect(self, survive: bool) -> None:
        """``survive``: the consumer's server is another one than the client's, and has seen nothing of it."""
        if not survive:
            self.server.lose_all(None)
        self.queue.append(MARK)

    @rule(leader=st.booleans())
    def lose_leader(self, leader: bool) -> None:
        if not leader:
            self.server.lose_all(None)
        self.server.leader = leader

    @rule(exists=st.booleans(), told=st.booleans())
    def delete_or_create(self, exists: bool, told: bool) -> None:
        if self.server.exists and not exists:
            self.server.lose_all("409 Consumer Deleted" if told else None)
            self.arrive()
        self.server.exists = exists

    @rule(count=st.integers(1, 3))
    def lose_the_next_requests(self, count: int) -> None:
        self.lose_requests = count

    @rule(silent=st.booleans())
    def fall_silent(self, silent: bool) -> None:
        self.server.silent = silent
        self.server.deliver(self.now)
        self.arrive()

    @rule(remainder=st.booleans(), lost=st.booleans())
    def ends_of_requests(self, remainder: bool, lost: bool) -> None:
        self.server.says_remainder = remainder
        self.server.loses_ends = lost

    @precondition(lambda self: self.inbox)
    @rule(
        words=st.sampled_from(HOSTILE),
        token=st.integers(1, 60),
        unused=st.none() | st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
    )
    def lie(self, words: str, token: int, unused: tuple[int, int] | None) -> None:
        """A status that is not true. From then on only stalls and errors count."""
        self.hostile = True
        self.queue.append(status(f"{self.inbox}.{token}", words, unused))

    # --- what must hold

    @invariant()
    def never_more_than_was_allowed(self) -> None:
        if not self.inbox or self.hostile:
            return
        unread = sum(1 for message in self.queue if message.reply is not None)
        # What a silent server has let go by is served by nobody, and the reader counts it no more.
        alive = [request for request in self.server.waiting if self.now < request.until]
        waiting = sum(request.left for request in alive if request.inbox == self.inbox)
        assert unread + waiting <= self.most
        assert self.leaving or unread + waiting <= self.machine.outstanding

    @invariant()
    def all_is_given(self) -> None:
        if self.inbox:
            assert self.given == self.received
            assert not self.machine.done

    @invariant()
    def it_does_not_ask_in_a_loop(self) -> None:
        if self.inbox:
            assert self.asked <= 100 + 4 * (self.now - 1000.0) + self.received

    @rule()
    def it_flows_when_all_is_well(self) -> None:
        server = self.server
        server.leader = server.exists = server.says_remainder = True
        server.silent = server.loses_ends = False
        self.lose_requests = 0
        while self.queue:
            self.take()
        before = self.given
        server.pending = 1
        server.deliver(self.now)
        self.arrive()
        self.wait(self.now + 2 * HEARTBEAT)
        while self.queue:
            self.take()
        assert self.given > before

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            self.it_flows_when_all_is_well()


TestReading = Reading.TestCase
TestReading.settings = settings(stateful_step_count=60)
