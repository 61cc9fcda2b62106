"""The publish window against a network that loses, delays and doubles, and a stream that knows what it has stored."""

from __future__ import annotations

import json
import random
from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nats_proto import Headers, Message, Publish, Subscribe
from nats_proto._publishing.pending import Pending
from nats_proto._publishing.window import PublishWindow
from nats_proto._wire.headers import encode_status_block
from nats_proto.errors import ConnectionClosedError, NATSTimeoutError

MAX_PENDING = 6
NOBODY = encode_status_block(503)


@dataclass
class OnTheWay:
    """A message between the client and the stream."""

    number: int
    reply: str
    identity: str | None


def refused(err_code: int, text: str) -> bytes:
    return json.dumps(
        {"error": {"code": 400, "err_code": err_code, "description": text}, "stream": "S", "seq": 0}
    ).encode()


REFUSALS = {"busy": refused(10167, "too many requests"), "wrong": refused(10071, "wrong last sequence: 1")}


class WindowMachine(RuleBasedStateMachine):
    @initialize(
        in_order=st.booleans(), duplicate_window=st.sampled_from([3.0, 120.0]), own=st.sampled_from([0, 3, 1000])
    )
    def start(self, in_order: bool, duplicate_window: float, own: int) -> None:
        self.window: PublishWindow[Pending] = PublishWindow(
            "i",
            Pending,
            max_pending=MAX_PENDING,
            timeout=2.0,
            retry_for=5.0,
            duplicate_window=duplicate_window,
            in_order=in_order,
        )
        assert isinstance(self.window.wants.popleft(), Subscribe)
        self.window._flight.own = self.window._own_replies = own
        self.now = 1000.0
        self.pendings: list[Pending] = []
        self.ended: list[Pending] = []
        self.uncalled: list[Pending] = []
        """Those for which the client could not publish."""
        self.network: list[OnTheWay] = []
        self.answers: list[tuple[str, bytes, bytes | None]] = []
        self.given: list[tuple[str, bytes, bytes | None]] = []
        """Answers that were delivered, and may be once more."""
        self.stored: dict[int, int] = {}
        """Sequences by number."""
        self.elsewhere: dict[int, int] = {}
        """Those in another stream that takes the same subject, in another domain."""
        self.copies: dict[int, int] = {}
        self.sequence = 0
        self.first_tries: list[int] = []
        self.on_the_wire: set[int] = set()

    # --- the client --------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """What a driver does after each step."""
        for want in self.window.wants:
            assert isinstance(want, Publish)
            assert want.reply is not None
            if want.reply not in self.window._waiting:
                continue  # drivers ask before they send it: it has ended meanwhile
            self.send(int(want.data), want.reply, want.headers)
        self.window.wants.clear()
        self.ended += self.window.items
        self.window.items.clear()

    def send(self, number: int, reply: str, headers: object) -> None:
        identity = headers["Nats-Msg-Id"] if isinstance(headers, Headers) else None
        if number not in self.on_the_wire:
            self.on_the_wire.add(number)
            self.first_tries.append(number)
        else:
            pending = self.pendings[number]
            assert not pending.done
        self.network.append(OnTheWay(number, reply, identity))

    @precondition(lambda self: self.window.room > 0)
    @rule(named=st.booleans(), sent=st.integers(0, 9), subject=st.sampled_from("sst"))
    def publish(self, named: bool, sent: int, subject: str) -> None:
        number = len(self.pendings)
        headers = Headers({"Nats-Msg-Id": f"id-{number}"}) if named else None
        pending = self.window.begin(subject, b"%d" % number, headers, now=self.now)
        self.pendings.append(pending)
        if sent:
            self.send(number, pending.reply, headers)
        else:
            self.window.failed(pending, NATSTimeoutError("no room", outcome="failed"))
            self.uncalled.append(pending)
        self.drain()

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0]))
    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        looks = 0
        while (due := self.window.next_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.window.handle_timeout(now=self.now)
            self.drain()
            looks += 1
            assert looks < 1000
        self.now = end

    @rule(seconds=st.sampled_from([0.05, 1.0, 10.0]))
    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.window.handle_timeout(now=self.now)
        self.drain()

    @rule(lost=st.integers(0, 10))
    def replace_the_connection(self, lost: int) -> None:
        del self.network[:lost]
        self.answers = [answer for index, answer in enumerate(self.answers) if index % 2]
        self.window.connection_replaced(now=self.now)
        self.drain()

    # --- the stream --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.network)
    @rule(
        which=st.integers(0, 30),
        what=st.sampled_from(
            [
                "store",
                "store",
                "store",
                "both",
                "nobody",
                "nobody",
                "nobody",
                "swallow",
                "lose",
                "busy",
                "wrong",
                "foreign",
            ]
        ),
    )
    def serve(self, which: int, what: str) -> None:
        # Not only the oldest: a window may publish to several streams.
        message = self.network.pop(which % len(self.network))
        match what:
            case "store" | "swallow":
                answer = self.store(message)
                if what == "store":
                    self.answers.append((message.reply, answer, None))
            case "both":
                answer = self.store(message)
                number = message.number
                at = self.elsewhere[number] = (
                    self.elsewhere.get(number) or max(self.elsewhere.values(), default=1000) + 1
                )
                self.answers.append((message.reply, answer, None))
                self.answers.append((message.reply, b'{"stream":"S","domain":"D","seq":%d}' % at, None))
            case "lose":
                pass
            case "nobody":
                self.answers.append((message.reply, b"", NOBODY))
            case "foreign":
                self.answers.append((message.reply, b"hi", None))
                self.network.append(message)  # the stream is there as well
            case _:
                self.answers.append((message.reply, REFUSALS[what], None))

    def store(self, message: OnTheWay) -> bytes:
        known = self.stored.get(message.number)
        if known is not None and message.identity is not None:
            return b'{"stream":"S","seq":%d,"duplicate": true}' % known
        self.sequence += 1
        self.stored[message.number] = self.sequence
        self.copies[message.number] = self.copies.get(message.number, 0) + 1
        return b'{"stream":"S","seq":%d}' % self.sequence

    @precondition(lambda self: self.network)
    @rule(count=st.integers(1, MAX_PENDING))
    def all_goes_well(self, count: int) -> None:
        messages, self.network = self.network[:count], self.network[count:]
        answers = [(message.reply, self.store(message), None) for message in messages]
        self.given += answers
        self.receive(*answers)

    @rule()
    def make_the_stream_anew(self) -> None:
        self.sequence = 0

    @precondition(lambda self: self.answers)
    @rule(which=st.integers(0, 30), count=st.sampled_from([1, 1, 2, 5]))
    def deliver(self, which: int, count: int) -> None:
        answers = [self.answers.pop(which % len(self.answers)) for _ in range(min(count, len(self.answers)))]
        self.given += answers
        self.receive(*answers)

    @precondition(lambda self: self.given)
    @rule(which=st.integers(0, 30))
    def deliver_once_more(self, which: int) -> None:
        # The one that came last is the most likely to meet a publish that has not ended.
        self.receive(self.given[-1 - which % len(self.given)])

    def receive(self, *answers: tuple[str, bytes, bytes | None]) -> None:
        arrived = deque(Message(reply, 1, None, data, block) for reply, data, block in answers)
        self.window.receive_all(arrived, lambda: None, now=self.now)
        self.drain()

    # --- what holds --------------------------------------------------------------------------------------------------

    @invariant()
    def the_accounts_are_right(self) -> None:
        if not hasattr(self, "window"):
            return
        window = self.window
        open_ones = [pending for pending in self.pendings if not pending.done]
        assert window.pending == len(open_ones) <= MAX_PENDING
        assert window.room <= MAX_PENDING - len(open_ones)
        assert window._resting == sum(pending.resting for pending in open_ones)
        assert set(window._waiting) == {pending.reply for pending in open_ones}
        assert len(set(window._waiting)) == len(open_ones)
        if open_ones:
            due = window.next_timeout()
            assert due is not None or window._in_order
            assert window._flight.look <= min(pending.deadline for pending in open_ones)

    @invariant()
    def each_ends_once_and_with_its_own_sequence(self) -> None:
        if not hasattr(self, "window"):
            return
        assert len(self.ended) == len(set(self.ended))
        assert {p.number for p in self.ended + self.uncalled} == {p.number for p in self.pendings if p.done}
        for pending in self.ended:
            assert (pending.pub_ack is None) != (pending.error is None)
            if pending.pub_ack is not None:
                stored = self.stored if pending.pub_ack.domain is None else self.elsewhere
                assert pending.pub_ack.sequence == stored[pending.number - 1]

    @invariant()
    def nothing_is_stored_twice_and_nothing_that_has_failed_for_certain(self) -> None:
        if not hasattr(self, "window"):
            return
        assert all(count == 1 for count in self.copies.values())
        for pending in self.pendings:
            if pending.error is not None and pending.error.outcome == "failed":
                assert pending.number - 1 not in self.stored

    @invariant()
    def the_order_of_the_calls_is_that_of_the_wire(self) -> None:
        if hasattr(self, "window"):
            assert self.first_tries == sorted(self.first_tries)

    def teardown(self) -> None:
        if not hasattr(self, "window"):
            return
        self.window.finish()
        assert self.window.room == 0
        if len(self.pendings) % 3 == 0:
            self.window.abandon(ConnectionClosedError("closed"))
            self.drain()
        # Nobody answers any more. Each may be sent again a few times, and then it ends.
        for _ in range(40):
            self.wait(2.0)
            # In order, those that rest are sent one by one, and each waits for its own time to be up.
            if self.window.done:
                break
        assert self.window.done
        assert self.window.next_timeout() is None
        # What is still on the way arrives.
        while self.network:
            self.store(self.network.pop(0))
        self.each_ends_once_and_with_its_own_sequence()
        self.nothing_is_stored_twice_and_nothing_that_has_failed_for_certain()
        failed = sum(pending.error is not None for pending in self.ended)
        failure = self.window.failure()
        assert (0 if failure is None else failure.count) == failed


TestWindow = WindowMachine.TestCase


@pytest.mark.parametrize("seed", range(5))
def test_late_acknowledgements(seed: int) -> None:
    """Every acknowledgement belongs to its publish, and 5 % of them come when their time is up."""
    rng = random.Random(seed)
    window: PublishWindow[Pending] = PublishWindow("i", Pending, max_pending=400, timeout=1.0)
    window.wants.clear()
    now, sequence = 1.0, 0
    on_the_way: list[tuple[float, str, bytes]] = []
    numbers: dict[int, int] = {}
    done = 0
    while done < 4000:
        while window.room and window._flight.number < 4000:
            pending = window.begin("s", b"x", None, now=now)
            sequence += 1
            numbers[pending.number] = sequence
            delay = 1.5 if rng.random() < 0.05 else rng.random() / 10
            on_the_way.append((now + delay, pending.reply, b'{"stream":"S","seq":%d}' % sequence))
        now += 0.05
        due = sorted(answer for answer in on_the_way if answer[0] <= now)
        on_the_way = [answer for answer in on_the_way if answer[0] > now]
        for _, reply, data in due:
            window.receive(Message(reply, 1, None, data), now=now)
        window.handle_timeout(now=now)
        for pending in window.items:
            done += 1
            if pending.pub_ack is not None:
                assert pending.pub_ack.sequence == numbers[pending.number]
            else:
                assert isinstance(pending.error, NATSTimeoutError)
        window.items.clear()
    assert window.pending == 0
    assert window.late > 50
