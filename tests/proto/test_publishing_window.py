"""The publish window: what each answer, each silence and each new connection means for what is in flight."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from functools import partial

import pytest

from nats_proto import Conductor, Headers, Message, Publish, PublishRefused, Subscribe
from nats_proto._jetstream.errors import (
    ApiError,
    NoStreamResponseError,
    PublishWindowFullError,
    TooManyRequestsError,
    WrongLastSequenceError,
)
from nats_proto._publishing.failures import PublishesFailedError
from nats_proto._publishing.pending import Pending
from nats_proto._publishing.window import EXCUSE, LATE, OWN_REPLIES, PublishWindow
from nats_proto._wire.headers import encode_status_block
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionLostError,
    MaxPayloadError,
    NATSError,
    NATSTimeoutError,
    OutboundBufferLimitError,
    PermissionsError,
    SubscriptionClosedError,
)
from tests.proto.driver import CoreMessage, World

NOW = 100.0
NOBODY = b""
BUSY = b'{"error":{"code":429,"err_code":10167,"description":"too many requests"},"stream":"S","seq":0}'
WRONG = b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"},"stream":"S","seq":0}'


class Window:
    """A window, and what a client does with it."""

    def __init__(
        self,
        *,
        max_pending: int = 10,
        retry_for: float = 10.0,
        duplicate_window: float = 120.0,
        in_order: bool = False,
    ) -> None:
        self.window: PublishWindow[Pending] = PublishWindow(
            "inbox",
            Pending,
            max_pending=max_pending,
            timeout=5.0,
            retry_for=retry_for,
            duplicate_window=duplicate_window,
            in_order=in_order,
        )
        self.now = NOW
        self.wire: list[tuple[bytes, str]] = []
        """What was published: payload and reply subject."""
        assert self.window.room == 0
        assert self.window.wants.popleft() == Subscribe(
            "inbox.*", max_pending_msgs=max_pending + 1000, awaits=self.window._awaits, asks=self.window._asks
        )

    def publish(self, data: bytes = b"x", identity: str | None = None) -> Pending:
        headers = None if identity is None else Headers({"Nats-Msg-Id": identity})
        pending = self.window.begin("orders", data, headers, now=self.now)
        assert pending is not None
        self.wire.append((data, pending.reply))
        return pending

    def answer(self, pending: Pending | str, data: bytes = b'{"stream":"S","seq":1}') -> list[Pending]:
        """What an answer to it completes; ``NOBODY`` is the server's "no responders"."""
        reply = pending if isinstance(pending, str) else pending.reply
        block = encode_status_block(503) if data == NOBODY else None
        self.window.receive(Message(reply, 1, None, data, block), now=self.now)
        return self.drain()

    def wait(self, seconds: float) -> list[Pending]:
        """Somebody waits: each time-out is handled when it is due."""
        end = self.now + seconds
        before = -1.0
        while (due := self.window.next_timeout()) is not None and due <= end:
            assert due > before
            before = due
            self.now = max(self.now, due)
            self.window.handle_timeout(now=self.now)
            self._send()
        self.now = end
        self.window.handle_timeout(now=self.now)
        return self.drain()

    def sleep(self, seconds: float) -> list[Pending]:
        """Nobody waits; then somebody looks."""
        self.now += seconds
        self.window.handle_timeout(now=self.now)
        return self.drain()

    def replaced(self) -> list[Pending]:
        self.window.connection_replaced(now=self.now)
        return self.drain()

    def drain(self) -> list[Pending]:
        self._send()
        ended = list(self.window.items)
        self.window.items.clear()
        return ended

    def _send(self) -> None:
        for want in self.window.wants:
            assert isinstance(want, Publish)
            assert want.reply is not None
            self.wire.append((bytes(want.data), want.reply))
        self.window.wants.clear()

    def sent(self) -> list[bytes]:
        """The payloads that were published since the last call, in order."""
        sent = [data for data, _ in self.wire]
        self.wire.clear()
        return sent


def notes(pending: Pending) -> str:
    """What its error says besides its text."""
    return " ".join(getattr(pending.error, "__notes__", ()))


def outcome(pending: Pending) -> str:
    assert pending.error is not None
    return pending.error.outcome


def test_each_acknowledgement_completes_its_own_publish_in_order_of_arrival() -> None:
    window = Window()
    first, second, third = (window.publish(b"%d" % n) for n in range(3))
    assert len({first.reply, second.reply, third.reply}) == 3
    assert window.window.pending == 3
    assert window.answer(second, b'{"stream":"S","seq":8}') == [second]
    assert window.answer(first, b'{"stream":"S","seq":9,"duplicate": true}') == [first]
    assert second.pub_ack is not None
    assert first.pub_ack is not None
    assert (second.pub_ack.sequence, second.pub_ack.duplicate) == (8, False)
    assert (first.pub_ack.sequence, first.pub_ack.duplicate) == (9, True)
    assert [pending.done for pending in (first, second, third)] == [True, True, False]
    assert window.window.pending == 1
    assert window.sent() == [b"0", b"1", b"2"]


def test_a_message_of_its_id_that_is_being_stored_is_no_acknowledgement() -> None:
    """As servers before 2.11 say it: a duplicate, without a sequence."""
    window = Window()
    pending = window.publish(identity="1")
    assert window.answer(pending, b'{"stream":"S","seq":0,"duplicate": true}') == []
    assert not pending.done
    window.wait(1.0)
    assert window.answer(pending, b'{"stream":"S","seq":4,"duplicate": true}') == [pending]
    assert pending.pub_ack is not None
    assert (pending.pub_ack.sequence, pending.pub_ack.duplicate, pending.tries) == (4, True, 2)


@pytest.mark.parametrize("number", ["1", "2", "3-2", "", "x", "1.1"])
def test_what_nobody_waits_for_is_dropped(number: str) -> None:
    window = Window()
    pending = window.publish()
    window.answer(pending)
    assert window.answer(f"inbox.{number}") == []
    assert window.window.late == 1


def test_room() -> None:
    window = Window(max_pending=2)
    assert window.window.room == 2
    first = window.publish()
    window.now += 3.0
    second = window.publish()
    assert window.window.room == 0
    assert window.window.begin("orders", b"x", None, now=window.now) is None
    full = window.window.full_error("orders", now=window.now + 1.0)
    assert isinstance(full, PublishWindowFullError)
    assert isinstance(full, TimeoutError)
    assert (full.max_pending, full.oldest, full.outcome) == (2, 4.0, "failed")
    assert "'orders'" in str(full)
    window.answer(first)
    assert window.window.room == 1
    assert window.window.pending == 1
    window.window.failed(second, NATSTimeoutError("no room", outcome="failed"))
    assert window.window.room == 2
    assert second.done
    assert list(window.window.items) == []  # the caller has the error
    assert window.window.failure() is None


def test_the_end_waits_for_all() -> None:
    window = Window()
    pending = window.publish()
    window.window.finish()
    assert (window.window.done, window.window.room) == (False, 0)
    assert window.window.begin("orders", b"x", None, now=window.now) is None
    window.answer(pending)
    assert window.window.done
    assert window.window.next_timeout() is None
    assert window.window.failure() is None
    assert window.window.error is None


def test_silence_ends_with_an_unknown_outcome() -> None:
    window = Window()
    first = window.publish()
    window.now += 2.0
    second = window.publish()
    assert window.wait(2.999) == []
    assert window.wait(0.001) == [first]
    assert isinstance(first.error, NATSTimeoutError)
    assert "'orders'" in str(first.error)
    assert "within 5 s" in str(first.error)
    assert outcome(first) == "unknown"
    assert window.wait(2.0) == [second]
    assert window.answer(second, b'{"stream":"S","seq":1}') == []
    assert second.pub_ack is None
    assert window.window.pending == 0
    assert window.window.next_timeout() is None


def test_silence_with_an_id_is_answered_by_the_same_once_more() -> None:
    window = Window()
    pending = window.publish(b"x", "7")
    assert window.wait(5.0) == []
    assert window.wire == [(b"x", pending.reply)] * 2
    # The first try's acknowledgement, late.
    assert window.answer(pending) == [pending]
    assert window.answer(pending) == []
    other = window.publish(b"y", "8")
    assert window.wait(10.0) == [other]
    assert outcome(other) == "unknown"
    assert "in 2 tries" in str(other.error)


def test_an_id_that_the_stream_has_forgotten() -> None:
    window = Window(duplicate_window=5.0)
    pending = window.publish(b"x", "7")
    assert window.wait(5.0) == [pending]
    assert outcome(pending) == "unknown"
    assert window.sent() == [b"x"]
    assert notes(pending) == (
        "It was not tried again: the stream knows a message id for 5 s (duplicate_window), and would store the message "
        "a second time."
    )


def test_a_try_of_what_may_be_stored_ends_when_the_stream_forgets_it() -> None:
    window = Window(duplicate_window=7.0)
    pending = window.publish(b"x", "7")
    assert window.wait(6.9) == []
    assert window.sent() == [b"x", b"x"]
    assert window.wait(0.1) == [pending]
    assert outcome(pending) == "unknown"
    assert "duplicate_window" in notes(pending)


@pytest.mark.parametrize("begun", [100.0, 0.1, 0.3, 1.1, 1234.5678, 98765.4321])
def test_the_end_of_a_try_is_the_end_of_the_duplicate_window_to_the_last_bit(begun: float) -> None:
    for duplicate_window in (5.1, 5.3, 6.7, 7.9, 8.6):
        window = Window(duplicate_window=duplicate_window)
        window.now = begun
        pending = window.publish(b"x", "7")
        assert window.wait(9.0) == [pending]
        assert window.sent() == [b"x", b"x"]


def test_a_try_of_what_is_not_stored_has_all_its_time() -> None:
    window = Window(duplicate_window=1.0)
    pending = window.publish(b"x", "7")
    window.answer(pending, NOBODY)
    assert window.wait(4.9) == []
    assert window.sent() == [b"x", b"x"]
    assert window.wait(0.2) == [pending]


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("refusal", [NOBODY, BUSY], ids=["nobody", "busy"])
def test_what_may_be_stored_is_not_tried_once_the_stream_has_forgotten_it(refusal: bytes, in_order: bool) -> None:
    """A refusal of the second try says nothing of the first one."""
    window = Window(duplicate_window=7.0, retry_for=60.0, in_order=in_order)
    pending = window.publish(b"x", "7")
    window.wait(5.0)
    last = ended = NOW
    while not pending.done:
        if window.sent():
            last = window.now
            window.answer(pending, refusal)
        window.wait(0.05)
        ended = window.now
    assert NOW + 5.0 < last < NOW + 7.0
    assert ended < NOW + 8.1
    assert outcome(pending) == "unknown"
    assert "duplicate_window" in notes(pending)


def test_in_order_all_that_the_stream_has_forgotten_end_at_once() -> None:
    window = Window(max_pending=20, duplicate_window=7.0, retry_for=60.0, in_order=True)
    pending = [window.publish(b"x", f"{number}") for number in range(20)]
    window.wait(5.0)
    for one in pending:
        window.answer(one, BUSY)
    window.now += 10.0
    window.window.handle_timeout(now=window.now)
    assert window.drain() == pending
    assert window.window.next_timeout() is None


def test_a_try_that_waits_for_room_ends_when_the_stream_forgets_it() -> None:
    window = Window(duplicate_window=7.0, retry_for=60.0)
    pending = unsent(window, "7", answer=None)
    while not pending.done:
        window.now = max(window.now, window.window.next_timeout() or 0.0)
        window.window.handle_timeout(now=window.now)
    assert window.now == NOW + 7.0
    assert not window.window.wants
    assert outcome(pending) == "unknown"


def conducted(window: Window) -> Conductor[CoreMessage, Pending]:
    conductor: Conductor[CoreMessage, Pending] = Conductor(window.window)
    conductor.subscribed(Subscribe("inbox.*", awaits=window.window._awaits))
    return conductor


def test_a_try_that_nobody_has_sent_in_time_is_taken_back() -> None:
    """Nobody has run the window for minutes: its try has stood among the wants, and would be stored a second time."""
    window = Window(duplicate_window=7.0)
    pending = unsent(window, "7", answer=None)
    conductor = conducted(window)
    (want,) = window.window.wants
    assert not conductor.is_late(want, now=NOW + 6.9)
    assert conductor.is_late(want, now=NOW + 60.0)
    conductor.handle_timeout(now=NOW + 60.0)
    assert not window.window.wants
    # An acknowledgement of the first try may lie unread.
    assert not pending.done
    window.now = NOW + 60.0
    assert window.wait(EXCUSE) == [pending]
    assert outcome(pending) == "unknown"
    assert window.sent() == []


@pytest.mark.parametrize("at_once", [True, False])
def test_a_try_of_what_was_acknowledged_is_not_sent(at_once: bool) -> None:
    window = Window(duplicate_window=7.0)
    pending = unsent(window, "7", answer=None)
    conductor = conducted(window)
    (want,) = window.window.wants
    acknowledged = Message(pending.reply, 1, None, b'{"stream":"S","seq":1}')
    if at_once:
        window.window.receive_all(deque([acknowledged]), partial(next, iter(())), now=window.now)
    else:
        window.window.receive(acknowledged, now=window.now)
    assert conductor.is_late(want, now=window.now)
    conductor.handle_timeout(now=window.now)
    assert not window.window.wants
    assert window.drain() == [pending]
    assert window.window.room == 10


def test_which_tries_a_new_connection_is_to_send() -> None:
    window = Window(duplicate_window=7.0)
    awaits = window.window._awaits
    first, named, plain = window.publish(), window.publish(b"y", "7"), window.publish(b"z")
    assert all(awaits(one.reply, NOW + 100.0) for one in (first, named, plain))  # nobody has looked: the first try
    window.answer(first)
    assert not awaits(first.reply, window.now)
    window.wait(5.0)
    assert not awaits(plain.reply, window.now)  # it has failed
    assert awaits(named.reply, NOW + 6.9)
    assert not awaits(named.reply, NOW + 7.0)
    assert not awaits("inbox.4", window.now)
    window.answer(named, NOBODY)
    answered = named.reply
    window.wait(1.0)
    assert [awaits(reply, window.now) for reply in (answered, named.reply)] == [False, True]


@pytest.mark.parametrize(
    ("away", "looks", "left", "sent"),
    [
        (7.0, [5.0], False, 1),
        (7.0, [5.0], True, 0),
        (13.0, [5.0, 10.0], False, 0),
        (119.0, [5.0], False, 1),
        (121.0, [5.0], False, 0),
        (121.0, [5.0, 10.0], True, 0),
    ],
    ids=["in time", "left", "ended", "nobody has looked", "nobody has looked, for too long", "ended and left"],
)
def test_what_was_tried_again_while_away_is_sent_as_long_as_it_is_of_use(
    away: float, looks: list[float], left: bool, sent: int
) -> None:
    """Window and session together: the first try is stored, its acknowledgement is lost with the connection."""
    world = World("nats://a, nats://b").ready()
    window: PublishWindow[Pending] = PublishWindow("acks", Pending)
    subscribe = window.wants.popleft()
    assert isinstance(subscribe, Subscribe)
    sub = world.session.subscribe(subscribe.subject, marks=True, awaits=subscribe.awaits)
    headers = Headers({"Nats-Msg-Id": "7"})
    pending = window.begin("orders", b"x", headers, now=world.now)
    assert pending is not None
    world.session.publish("orders", b"x", reply=pending.reply, headers=headers)
    world.pump()
    world.cut()
    world.words()
    began = world.now
    for seconds in looks:
        window.handle_timeout(now=began + seconds)
        while window.wants:
            want = window.wants.popleft()
            assert isinstance(want, Publish)
            world.session.publish(want.subject, want.data, reply=want.reply, headers=want.headers)
    assert pending.done == (10.0 in looks)
    if left:
        world.session.unsubscribe(sub)
    world.now += away
    world.up()
    assert world.words().count("PUB orders [1]") == sent


@pytest.mark.parametrize(
    ("identity", "duplicate_window", "retry_for", "waits"),
    [(None, 5.0, 10.0, 5.0), ("7", 120.0, 10.0, 10.0), ("7", 5.0, 5.0, 5.0)],
    ids=["no id", "tried as long as it may be", "no time to try again"],
)
def test_only_what_would_have_been_tried_again_says_why_it_was_not(
    identity: str | None, duplicate_window: float, retry_for: float, waits: float
) -> None:
    window = Window(duplicate_window=duplicate_window, retry_for=retry_for)
    pending = window.publish(b"x", identity)
    assert window.wait(waits) == [pending]
    assert (outcome(pending), notes(pending)) == ("unknown", "")


@pytest.mark.parametrize(("refusal", "error"), [(NOBODY, NoStreamResponseError), (BUSY, TooManyRequestsError)])
@pytest.mark.parametrize("identity", [None, "7"])
def test_what_was_not_stored_is_sent_again(refusal: bytes, error: type[NATSError], identity: str | None) -> None:
    window = Window()
    pending = window.publish(b"x", identity)
    replies = {pending.reply}
    while not window.answer(pending, refusal):
        assert window.answer(pending, refusal) == []  # the same answer twice means nothing
        assert window.window.pending == 1
        assert window.wait(1.0) == []
        assert pending.reply not in replies
        replies.add(pending.reply)
        for old in replies - {pending.reply}:
            window.answer(old, refusal)
    assert isinstance(pending.error, error)
    assert outcome(pending) == "failed"
    assert window.now - NOW == pytest.approx(10.0, abs=0.9)
    assert len(window.wire) == len(replies)
    again = window.publish(b"y", identity)
    window.answer(again, refusal)
    window.wait(1.0)
    assert window.answer(again) == [again]


def test_what_rests_is_acknowledged_all_the_same() -> None:
    window = Window()
    pending = window.publish()
    window.answer(pending, NOBODY)
    assert window.answer(pending) == [pending]
    assert window.wait(5.0) == []
    assert window.sent() == [b"x"]
    assert window.window.room == 10


def test_the_last_try_is_at_the_very_end() -> None:
    window = Window(retry_for=0.25)
    pending = window.publish()
    assert window.answer(pending, NOBODY) == []
    assert window.wait(0.125) == []
    assert window.answer(pending, NOBODY) == []
    assert window.wait(0.124) == []
    assert len(window.wire) == 2
    assert window.wait(0.001) == []
    assert len(window.wire) == 3
    assert window.answer(pending, NOBODY) == [pending]
    window = Window(retry_for=0.0)
    pending = window.publish()
    assert window.answer(pending, NOBODY) == [pending]


def test_refused_for_good() -> None:
    window = Window()
    pending = window.publish()
    assert window.answer(pending, WRONG) == [pending]
    assert isinstance(pending.error, WrongLastSequenceError)
    assert outcome(pending) == "failed"
    assert not hasattr(pending.error, "__notes__")


def test_a_conflict_after_silence_may_be_with_itself() -> None:
    window = Window()
    pending = window.publish(b"x", "7")
    window.wait(5.0)
    assert window.answer(pending, WRONG) == [pending]
    assert isinstance(pending.error, ApiError)
    assert outcome(pending) == "unknown"
    assert "earlier try" in pending.error.__notes__[0]


@pytest.mark.parametrize("foreign", [b"hi", b"{}", b'{"stream":1,"seq":2}', b'{"error":1}', b"[" * 100_000, b"\xff"])
def test_somebody_elses_answer_is_skipped_and_named(foreign: bytes) -> None:
    window = Window()
    pending, other = window.publish(), window.publish()
    assert window.answer(pending, foreign) == []
    assert window.answer(other, foreign) == []
    assert window.answer(pending) == [pending]
    assert window.wait(5.0) == [other]
    assert "somebody other than a stream" in str(other.error)
    assert len(str(other.error)) < 300


@pytest.mark.parametrize("code", [100, 404, 408])
def test_another_status_is_no_answer(code: int) -> None:
    window = Window()
    pending = window.publish()
    window.window.receive(Message(pending.reply, 1, None, b"", encode_status_block(code)), now=NOW)
    assert window.drain() == []
    assert window.answer(pending) == [pending]


def test_a_status_503_with_a_payload_was_made_by_somebody() -> None:
    window = Window()
    pending = window.publish()
    window.window.receive(Message(pending.reply, 1, None, b"no", encode_status_block(503)), now=NOW)
    assert window.drain() == []
    assert window.sent() == [b"x"]
    assert not pending.done


def test_a_new_connection_gets_again_what_has_an_id() -> None:
    window = Window()
    plain, named, resting, done = (window.publish(b"%d" % n, i) for n, i in enumerate((None, "1", "2", "3")))
    window.answer(done)
    window.answer(resting, NOBODY)
    window.sent()
    assert window.replaced() == []
    assert window.sent() == [b"1"]
    assert window.answer(named, b'{"stream":"S","seq":1,"duplicate": true}') == [named]
    window.wait(1.0)
    assert window.answer(resting) == [resting]
    assert window.wait(4.0) == [plain]
    assert isinstance(plain.error, ConnectionLostError)
    assert outcome(plain) == "unknown"


def test_after_a_new_connection_a_refusal_says_nothing_of_the_first_try() -> None:
    window = Window()
    plain, named = window.publish(), window.publish(b"y", "7")
    window.replaced()
    window.now += 10.0
    assert window.answer(plain, NOBODY) == [plain]
    assert window.answer(named, NOBODY) == [named]
    assert outcome(plain) == "failed"  # it was sent once, by the new connection
    assert outcome(named) == "unknown"


def test_many_connections_are_no_endless_life() -> None:
    window = Window()
    pending = window.publish(b"x", "7")
    ended: list[Pending] = []
    for _ in range(20):
        ended = window.wait(1.0)
        if ended:
            break
        window.replaced()
    assert ended == [pending]
    assert window.now <= NOW + 15.0


def test_what_is_published_after_the_new_connection_times_out_as_ever() -> None:
    window = Window()
    window.replaced()
    window.now += 0.1
    pending = window.publish()
    window.wait(5.0)
    assert isinstance(pending.error, NATSTimeoutError)


def test_a_time_out_that_is_found_late_is_excused_once() -> None:
    window = Window()
    pending = window.publish()
    assert window.sleep(60.0) == []
    assert window.answer(pending) == [pending]
    pending = window.publish()
    assert window.sleep(60.0) == []
    assert window.wait(EXCUSE - LATE) == []
    assert window.wait(LATE) == [pending]
    pending = window.publish()
    assert window.sleep(60.0) == []
    assert window.sleep(60.0) == [pending]


def test_what_rests_is_not_excused() -> None:
    window = Window()
    pending = window.publish()
    window.answer(pending, NOBODY)
    window.sleep(5.0)
    assert window.sent() == [b"x", b"x"]


@pytest.mark.parametrize("in_order", [False, True])
def test_several_are_sent_again_in_the_order_of_the_calls(in_order: bool) -> None:
    window = Window(in_order=in_order)
    pendings = [window.publish(b"%d" % n) for n in range(5)]
    window.sent()
    for pending in (pendings[3], pendings[1], pendings[4]):
        window.answer(pending, NOBODY)
    assert window.window.room == (0 if in_order else 5)
    window.wait(1.0)
    # In order: what is in flight may still be refused, and would have to come before.
    assert window.sent() == ([] if in_order else [b"1", b"3", b"4"])
    if not in_order:
        return
    window.answer(pendings[0])
    window.answer(pendings[2])
    assert window.sent() == [b"1", b"3", b"4"]
    assert window.window.room == 7


def test_in_order_the_oldest_is_sent_alone_to_see_whether_it_is_taken() -> None:
    window = Window(in_order=True)
    first, second, third = (window.publish(b"%d" % n) for n in range(3))
    for pending in (third, first, second):
        assert window.answer(pending, NOBODY) == []
    window.sent()
    window.wait(1.0)
    assert window.sent() == [b"0"]
    window.answer(first, NOBODY)
    window.wait(1.0)
    assert window.sent() == [b"0"]
    assert window.window.room == 0
    assert window.answer(first) == [first]
    assert window.sent() == [b"1", b"2"]
    assert window.window.room == 8
    window.answer(second)
    window.answer(third)
    assert window.window.next_timeout() is None or window.wait(60.0) == []


def test_in_order_all_end_when_nobody_ever_listens() -> None:
    window = Window(in_order=True)
    pendings = [window.publish(b"%d" % n) for n in range(4)]
    ended: list[Pending] = []
    for pending in pendings:
        ended += window.answer(pending, NOBODY)
    while window.window.pending:
        ended += window.wait(1.0)
        for pending in pendings:
            if not pending.resting and not pending.done:
                ended += window.answer(pending, NOBODY)
    assert ended == pendings
    assert [outcome(pending) for pending in pendings] == ["failed"] * 4


def test_in_order_what_is_sent_again_has_its_time_as_well() -> None:
    window = Window(in_order=True)
    first, second = window.publish(b"0"), window.publish(b"1")
    window.answer(first, NOBODY)
    window.answer(second, NOBODY)
    window.wait(1.0)
    assert window.answer(first) == [first]
    assert window.wait(5.0) == [second]


def test_in_order_a_doubled_refusal_stalls_once() -> None:
    window = Window(in_order=True)
    first, second = window.publish(b"0"), window.publish(b"1")
    for _ in range(3):
        window.answer(first, NOBODY)
    window.answer(second)
    assert window.answer(first) == [first]
    assert window.window.room == 10


def test_in_order_nothing_new_goes_before_what_is_sent_again() -> None:
    window = Window(in_order=True)
    first = window.publish(b"0")
    window.window.receive(Message(first.reply, 1, None, b"", encode_status_block(503)), now=NOW)
    window.window.handle_timeout(now=NOW + 1.0)
    assert len(window.window.wants) == 1  # not sent yet
    assert window.window.room == 0


def test_given_up() -> None:
    window = Window()
    plain, named, resting, twice = (window.publish(b"%d" % n, i) for n, i in enumerate((None, "1", None, "3")))
    window.answer(resting, NOBODY)
    window.answer(twice, BUSY)
    window.now += 0.3
    window.window.handle_timeout(now=window.now)  # both are to be sent again, and are not any more
    window.window.abandon(ConnectionClosedError("the client is closed"))
    assert window.drain() == [plain, named, resting, twice]
    assert window.sent() == [b"0", b"1", b"2", b"3"]
    assert window.window.done
    assert all(isinstance(pending.error, ConnectionClosedError) for pending in (plain, named, resting, twice))
    assert all("the client is closed" in str(pending.error) for pending in (plain, named))
    assert [outcome(pending) for pending in (plain, named)] == ["unknown", "unknown"]


def test_given_up_while_resting_is_certain() -> None:
    window = Window()
    resting, unknown = window.publish(), window.publish(b"y", "7")
    window.wait(5.0 - 0.001)
    window.answer(resting, NOBODY)
    window.wait(0.001)
    window.answer(unknown, NOBODY)
    window.window.abandon(ConnectionClosedError("closed"))
    assert [outcome(pending) for pending in (resting, unknown)] == ["failed", "unknown"]


def failing(window: Window, count: int, answer: bytes = WRONG) -> list[Pending]:
    pendings = [window.publish() for _ in range(count)]
    for pending in pendings:
        window.answer(pending, answer)
    return pendings


def test_failures_that_nobody_has_seen_are_raised_at_the_end() -> None:
    window = Window()
    assert window.window.failure() is None
    first, second = failing(window, 2)
    failure = window.window.failure()
    assert isinstance(failure, PublishesFailedError)
    assert failure.count == 2
    assert failure.errors == (first.error, second.error)
    assert failure.outcome == "failed"
    assert "2 of 2 publishes failed; the first: publish" in str(failure)
    for _ in range(2):
        window.window.observe(first)
        failure = window.window.failure()
        assert failure is not None
        assert failure.errors == (second.error,)
    window.window.observe(second)
    window.window.observe(window.publish())
    assert window.window.failure() is None


def test_many_failures_are_counted_and_not_kept() -> None:
    window = Window(max_pending=250)
    pendings = failing(window, 250)
    failure = window.window.failure()
    assert failure is not None
    assert (failure.count, len(failure.errors), failure.outcome) == (250, 100, "unknown")
    again = pickle.loads(pickle.dumps(PublishesFailedError("text", count=2, errors=(NATSTimeoutError("t"),))))
    assert (str(again), again.count, again.outcome) == ("text", 2, "unknown")
    for pending in pendings[:100]:
        window.window.observe(pending)
    failure = window.window.failure()
    assert failure is not None
    assert (failure.count, failure.errors) == (150, ())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PublishWindow("i", Pending, max_pending=0),
        lambda: PublishWindow("i", Pending, max_pending=True),
        lambda: PublishWindow("i", Pending, timeout=0.0),
        lambda: PublishWindow("i", Pending, timeout=float("nan")),
        lambda: PublishWindow("i", Pending, retry_for="1"),  # type: ignore[arg-type]
        lambda: PublishWindow("i", Pending, duplicate_window=-1.0),
    ],
)
def test_numbers_that_cannot_be_used(wrong: Callable[[], object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        wrong()


def test_the_payload_is_the_one_of_the_call() -> None:
    window = Window()
    buffer = bytearray(b"first")
    pending = window.window.begin("orders", buffer, None, now=NOW)
    assert pending is not None
    buffer[:] = b"other"
    window.answer(pending, NOBODY)
    window.wait(1.0)
    assert window.sent() == [b"first"]


# --- in order, with many that wait for one another -------------------------------------------------------------------


@pytest.mark.parametrize("answers", [True, False], ids=["refused", "silent"])
@pytest.mark.parametrize("identity", [None, "1"])
def test_in_order_many_that_wait_for_one_another_end_as_soon_as_one(answers: bool, identity: str | None) -> None:
    window = Window(max_pending=50, retry_for=3.0, in_order=True)
    pendings = [window.publish(b"%d" % n, identity and f"{n}") for n in range(50)]
    ended: list[Pending] = []
    for pending in pendings:
        ended += window.answer(pending, NOBODY)
    window.sent()
    while window.window.pending:
        ended += window.wait(0.5)
        assert window.now <= NOW + 3.0 + 5.0 + EXCUSE
        for _, reply in window.wire if answers else ():
            ended += window.answer(reply, NOBODY)
        window.wire.clear()
    assert sorted(ended, key=lambda pending: pending.number) == pendings
    tried = [outcome(pending) for pending in pendings if pending.tries > 1]
    assert set(tried) == {"failed" if answers else "unknown"}
    assert {outcome(pending) for pending in pendings if pending.tries == 1} <= {"failed"}
    assert all(isinstance(pending.error, NoStreamResponseError) for pending in pendings if pending.tries == 1)


def test_in_order_what_waits_for_its_turn_is_excused_when_nobody_has_looked() -> None:
    window = Window(in_order=True)
    first, second = window.publish(b"0"), window.publish(b"1")
    window.answer(first, NOBODY)
    window.answer(second, NOBODY)
    assert window.sleep(60.0) == []
    assert window.sent() == [b"0", b"1", b"0"]
    assert window.answer(first) == [first]
    assert window.sent() == [b"1"]
    assert window.wait(EXCUSE - LATE) == []
    assert window.answer(second) == [second]


# --- reply subjects that are used again ------------------------------------------------------------------------------


class BusyWindow(Window):
    """The window of somebody who has published much: it uses reply subjects again."""

    def __init__(self) -> None:
        super().__init__()
        self.sequence = 0
        for _ in range(OWN_REPLIES):
            self.stored()
        self.used = self.publish().reply
        self.complete(self.used)

    def stored(self) -> Pending:
        """A publish that was acknowledged."""
        pending = self.publish()
        self.complete(pending.reply)
        assert pending.done
        return pending

    def complete(self, reply: str, sequence: int | None = None) -> list[Pending]:
        self.sequence += 1
        data = b'{"stream":"S","seq":%d}' % (self.sequence if sequence is None else sequence)
        self.window.receive_all(deque((Message(reply, 1, None, data),)), lambda: None, now=self.now)
        return self.drain()


def test_reply_subjects_are_used_again_by_who_publishes_much() -> None:
    window = Window()
    replies = set()
    for number in range(2 * OWN_REPLIES):
        pending = window.publish()
        replies.add(pending.reply)
        answer = deque((Message(pending.reply, 1, None, b'{"stream":"S","seq":%d}' % (number + 1)),))
        window.window.receive_all(answer, lambda: None, now=NOW)
        assert window.drain() == [pending]
    assert len(replies) == OWN_REPLIES + 1
    assert window.window.late == 0


@pytest.mark.parametrize("at_once", [False, True])
def test_an_answer_that_may_be_that_of_an_earlier_publish_completes_none(at_once: bool) -> None:
    window = BusyWindow()
    pending = window.publish()
    assert pending.reply == window.used
    for data in (
        b'{"stream":"S","seq":%d}' % window.sequence,
        b'{"stream":"S","seq":1}',
        b'{"stream":"T","seq":%d}' % (window.sequence + 1),
        b'{"stream":"S","domain":"D","seq":%d}' % (window.sequence + 1),
        b'{"stream":"S","seq":%d,"duplicate":true}' % (window.sequence + 1),
    ):
        if at_once:
            window.window.receive_all(deque((Message(pending.reply, 1, None, data),)), lambda: None, now=NOW)
            assert window.drain() == []
        else:
            assert window.answer(pending, data) == []
    assert window.window.late == 5
    assert window.complete(pending.reply) == [pending]
    assert pending.pub_ack is not None
    assert pending.pub_ack.sequence == window.sequence


def test_after_an_answer_for_nobody_none_is_used_again_for_a_while() -> None:
    window = BusyWindow()
    pending = window.publish()
    assert window.complete("inbox.1", 1) == []  # once more what has come before
    assert window.complete(pending.reply) == [pending]
    replies = [window.stored().reply for _ in range(OWN_REPLIES + 3)]
    assert len(set(replies)) == OWN_REPLIES + 1
    assert window.used not in replies


def test_of_a_stream_that_was_made_anew_the_outcome_is_not_known() -> None:
    window = BusyWindow()
    pending = window.publish()
    assert window.complete(pending.reply, 1) == []
    assert window.wait(5.0) == [pending]
    assert outcome(pending) == "unknown"
    assert isinstance(pending.error, NATSTimeoutError)
    window.sequence = 1
    assert window.stored().reply != window.used


def test_a_new_connection_gets_reply_subjects_that_were_not_used_before() -> None:
    window = BusyWindow()
    pending = window.publish()
    window.replaced()
    assert window.complete(pending.reply) == [pending]
    assert window.stored().reply != window.used


@pytest.mark.parametrize("refusal", [NOBODY, BUSY])
def test_a_reply_subject_that_has_refused_is_not_used_again(refusal: bytes) -> None:
    window = BusyWindow()
    pending = window.publish()
    assert pending.reply == window.used
    assert window.answer(pending, refusal) == []
    window.wait(0.2)
    assert pending.reply == f"inbox.{pending.number}-2"
    assert window.complete(pending.reply) == [pending]
    assert window.stored().reply not in (window.used, pending.reply)


def test_what_refuses_for_good_ends_what_has_a_used_reply_subject() -> None:
    window = BusyWindow()
    pending = window.publish()
    assert window.answer(pending, WRONG) == [pending]
    assert outcome(pending) == "failed"
    assert window.stored().reply != window.used


# --- what the client does not take -----------------------------------------------------------------------------------


def unsent(window: Window, identity: str | None = None, *, answer: bytes | None = NOBODY) -> Pending:
    """A publish whose second try is wanted, and was not taken by the client yet."""
    pending = window.publish(b"x", identity)
    if answer is not None:
        window.answer(pending, answer)
    window.sent()
    window.now = max(window.now, window.window.next_timeout() or 0.0)
    window.window.handle_timeout(now=window.now)
    assert [want.reply for want in window.window.wants if isinstance(want, Publish)] == [pending.reply]
    return pending


TOO_LARGE = MaxPayloadError("too large for this server")


@pytest.mark.parametrize("in_order", [False, True])
def test_another_try_that_the_client_refuses_fails_that_publish_alone(in_order: bool) -> None:
    window = Window(in_order=in_order)
    other = window.publish(b"other") if not in_order else None
    pending = unsent(window)
    assert window.window.refused(TOO_LARGE, now=window.now)
    assert window.drain() == [pending]
    assert pending.error is TOO_LARGE
    assert outcome(pending) == "failed"
    assert window.sent() == []
    assert window.window.room == (10 if other is None else 9)


def test_a_try_that_is_refused_says_nothing_of_the_one_before_it() -> None:
    window = Window()
    pending = unsent(window, "7", answer=None)
    assert window.window.refused(MaxPayloadError("too large for this server"), now=window.now)
    assert window.drain() == [pending]
    assert outcome(pending) == "unknown"


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("identity", [None, "7"])
def test_what_the_session_has_given_up_is_certainly_not_stored(identity: str | None, in_order: bool) -> None:
    window = Window(in_order=in_order)
    pending, other = window.publish(b"x", identity), window.publish(b"y")
    window.window.publish_dropped(pending.reply, TOO_LARGE, now=window.now)
    assert window.drain() == [pending]
    assert pending.error is TOO_LARGE
    assert outcome(pending) == "failed"
    window.window.publish_dropped(pending.reply, TOO_LARGE, now=window.now)  # both of two tries
    assert window.answer(other) == [other]
    assert window.window.room == 10


def test_another_try_that_the_session_has_given_up_says_nothing_of_the_one_before_it() -> None:
    window = Window()
    pending = window.publish(b"x", "7")
    window.replaced()
    window.window.publish_dropped(pending.reply, MaxPayloadError("too large"), now=window.now)
    assert window.drain() == [pending]
    assert outcome(pending) == "unknown"


def test_another_try_of_what_the_session_has_given_up_is_not_made() -> None:
    window = Window()
    pending = unsent(window, "7", answer=None)
    window.window.publish_dropped(pending.reply, MaxPayloadError("too large"), now=window.now)
    assert window.drain() == [pending]
    assert window.sent() == []


def test_a_session_gives_up_what_its_next_server_would_refuse() -> None:
    """Window and session together: what never left the client does not end as unknown."""
    world = World().ready()
    window: PublishWindow[Pending] = PublishWindow("acks", Pending)
    conductor: Conductor[CoreMessage, Pending] = Conductor(window)
    window.wants.clear()
    sub = world.session.subscribe("acks.*", marks=True)
    world.cut()
    pending = {}
    for size, identity in ((10, None), (200, None), (201, "7")):
        headers = None if identity is None else Headers({"Nats-Msg-Id": identity})
        pending[size] = one = window.begin("orders", b"x" * size, headers, now=world.now)
        assert one is not None
        world.session.publish("orders", one.data, reply=one.reply, headers=headers)
    world.wait(10.0)
    world.up(max_payload=150)
    while (message := sub.pop()) is not None:
        assert not message.subject
        conductor.marked(sub.take_mark(), now=world.now)
    assert list(window.items) == [pending[200], pending[201]]
    assert not window.wants
    for one in window.items:
        assert isinstance(one.error, MaxPayloadError)
        assert outcome(one) == "failed"


# --- without permission ----------------------------------------------------------------------------------------------


def refuse(window: Window, count: int = 1, subject: str = "orders", until: int | None = None) -> list[Pending]:
    """The server refuses so many publishes, of those until now or up to a number."""
    error = PermissionsError(f"no {subject}", text="no", subject=subject)
    until = window.window._flight.number if until is None else until
    window.window.publish_refused(PublishRefused(subject, error, count, until), now=window.now)
    return window.drain()


def refused(pending: Pending) -> bool:
    """It has ended so, and is certainly not stored."""
    error = pending.error
    return isinstance(error, PermissionsError) and (error.subject, error.outcome) == ("orders", "failed")


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("counts", [(3,), (1, 1, 1), (2, 1), (7,)])
def test_as_many_refusals_as_publishes_end_them(counts: tuple[int, ...], in_order: bool) -> None:
    window = Window(in_order=in_order)
    pendings = [window.publish(b"x", identity) for identity in (None, "7", None)]
    ended = [refuse(window, count) for count in counts]
    assert ended == [*([] for _ in counts[1:]), pendings]
    assert all(map(refused, pendings))
    assert len({id(pending.error) for pending in pendings}) == 3  # whoever changes one changes no other
    assert window.window.room == 10
    assert window.window.next_timeout() is None


def test_a_refusal_that_overtakes_acknowledgements_ends_what_is_left_behind_them() -> None:
    window = Window()
    first, second, third = (window.publish() for _ in range(3))
    assert refuse(window) == []
    assert window.answer(first) == [first]
    assert window.answer(second) == [second, third]
    assert refused(third)
    assert second.pub_ack is not None


def test_a_refusal_that_overtakes_many_acknowledgements_at_once() -> None:
    window = Window()
    pendings = [window.publish() for _ in range(5)]
    assert refuse(window, 2) == []
    arrived = deque(Message(one.reply, 1, None, b'{"stream":"S","seq":1}', None) for one in pendings[:3])
    window.window.receive_all(arrived, lambda: None, now=window.now)
    assert window.drain() == pendings
    assert [refused(one) for one in pendings] == [False] * 3 + [True] * 2


def test_nobody_knows_which_was_refused_so_silence_ends_them_and_the_refusal_is_the_cause() -> None:
    window = Window()
    pendings = [window.publish(), window.publish()]
    assert refuse(window) == []
    assert window.wait(5.0) == pendings
    assert [type(one.error) for one in pendings] == [NATSTimeoutError] * 2
    assert [outcome(one) for one in pendings] == ["unknown"] * 2
    assert [type(one.error.__cause__) for one in pendings if one.error] == [PermissionsError, type(None)]


def test_what_ends_without_an_answer_may_be_the_one_that_was_refused() -> None:
    window = Window()
    first = window.publish()
    window.wait(2.0)
    second = window.publish()
    assert refuse(window) == []
    assert window.wait(3.0) == [first]
    assert outcome(first) == "unknown"
    assert window.answer("inbox.1") == []
    assert second.error is None
    assert window.answer(second) == [second]


def test_a_refusal_means_nothing_that_was_sent_later() -> None:
    window = Window()
    pendings = [window.publish(), window.publish()]
    assert refuse(window) == []
    later = window.publish()
    assert window.answer(pendings[0]) == pendings
    assert refused(pendings[1])
    assert window.wait(1.0) == []
    assert refuse(window) == [later]


def test_who_publishes_without_a_pause_is_told() -> None:
    """There is always one in flight that the server has not looked at."""
    window = Window()
    before = window.publish()
    for _ in range(100):
        pending = window.publish()
        assert refuse(window, until=before.number) == [before]
        assert refused(before)
        before = pending


def test_a_refusal_means_nothing_that_was_answered_or_is_of_another_subject() -> None:
    window = Window()
    resting = window.publish()
    assert window.answer(resting, NOBODY) == []
    assert refuse(window) == []
    assert refuse(window, subject="Orders") == []
    other = window.window.begin("invoices", b"x", None, now=window.now)
    assert other is not None
    assert refuse(window) == []
    window.wait(1.0)
    assert window.answer(resting.reply) == [resting]
    assert refuse(window, subject="invoices") == [other]


def test_a_try_that_was_not_sent_yet_is_not_meant() -> None:
    window = Window()
    pending = unsent(window)
    window.window.publish_refused(PublishRefused("orders", PermissionsError("no"), 1, pending.number), now=window.now)
    assert not window.window.items
    window.drain()
    assert refuse(window) == [pending]
    assert outcome(pending) == "failed"


def test_a_refused_try_says_nothing_of_one_before_it() -> None:
    window = Window()
    pending = window.publish(b"x", "7")
    assert window.wait(5.0) == []
    assert window.sent() == [b"x"] * 2
    assert refuse(window) == [pending]
    assert isinstance(pending.error, PermissionsError)
    assert outcome(pending) == "unknown"
    assert "An earlier try" in notes(pending)


@pytest.mark.parametrize("identity", [None, "7"])
def test_what_an_earlier_connection_may_have_taken_is_not_known(identity: str | None) -> None:
    window = Window()
    pending = window.publish(b"x", identity)
    window.wait(1.0)
    window.replaced()
    assert refuse(window) == [pending]
    assert isinstance(pending.error, PermissionsError)
    assert outcome(pending) == "unknown"
    assert "before the connection was replaced" in notes(pending) or identity


def test_refusals_of_an_earlier_connection_are_forgotten() -> None:
    window = Window()
    pendings = [window.publish(), window.publish()]
    assert refuse(window) == []
    window.replaced()
    assert window.answer(pendings[0]) == [pendings[0]]
    assert refuse(window) == [pendings[1]]


def test_who_waits_for_a_subject_is_asked_by_the_session() -> None:
    window = Window()
    asks = window.window._asks
    assert asks("orders") is None
    first, second = window.publish(), window.publish()
    assert asks("orders") == 2
    assert asks("Orders") is None
    window.answer(second)
    assert asks("orders") == 2
    window.answer(first)
    assert asks("orders") is None


def test_a_try_for_which_there_is_no_room_without_a_connection_is_tried_later() -> None:
    window = Window()
    pending = unsent(window)
    assert window.window.refused(OutboundBufferLimitError("full"), now=window.now)
    assert window.drain() == []
    window.wait(1.0)
    assert window.sent() == [b"x"]
    assert window.answer(pending) == [pending]
    pending = unsent(window)
    while not pending.done:
        assert window.window.refused(OutboundBufferLimitError("full"), now=window.now)
        window.now = max(window.now, window.window.next_timeout() or 0.0)
        window.window.handle_timeout(now=window.now)
    assert window.now <= NOW + 30.0
    assert isinstance(pending.error, OutboundBufferLimitError)
    assert outcome(pending) == "failed"


@pytest.mark.parametrize(
    "error", [ConnectionClosedError("c"), ConnectionDrainingError("d"), SubscriptionClosedError("s")]
)
def test_what_concerns_all_is_not_the_refusal_of_one(error: NATSError) -> None:
    window = Window()
    unsent(window)
    assert not window.window.refused(error, now=window.now)
    assert len(window.window.wants) == 1


def test_a_refusal_of_the_subscription_is_none_of_a_publish() -> None:
    window: PublishWindow[Pending] = PublishWindow("inbox", Pending)
    assert not window.refused(TOO_LARGE, now=NOW)
    window.wants.clear()
    assert not window.refused(TOO_LARGE, now=NOW)


def test_a_try_that_found_no_room_in_time_is_certainly_not_stored() -> None:
    window = Window(retry_for=7.0)
    plain = unsent(window)
    again = 0
    while not plain.done:
        window.now = max(window.now, window.window.next_timeout() or 0.0)
        window.window.handle_timeout(now=window.now)
        again = max(again, len(window.window.wants))
    assert again == 1
    assert not window.window.wants
    assert (type(plain.error), outcome(plain)) == (NATSTimeoutError, "failed")
    assert window.now <= NOW + 7.0 + 5.0
    named = unsent(window, "7", answer=None)  # its first try may be stored
    while not named.done:
        window.now = max(window.now, window.window.next_timeout() or 0.0)
        window.window.handle_timeout(now=window.now)
    assert outcome(named) == "unknown"
    assert not window.window.wants


def test_what_waits_for_room_is_not_asked_for_twice() -> None:
    window = Window()
    named = unsent(window, "7", answer=None)
    window.window.connection_replaced(now=window.now)
    assert window.drain() == []
    assert window.sent() == [b"x"]
    assert window.answer(named) == [named]
    # A late answer to the first try makes another one necessary, and takes back the one that was not sent.
    other = unsent(window, "8", answer=None)
    window.window.receive(Message(other.reply, 1, None, b"", encode_status_block(503)), now=window.now)
    assert window.sent() == []
    window.wait(1.0)
    assert window.sent() == [b"x"]
    assert not other.done


def test_given_up_with_a_try_that_was_not_sent() -> None:
    window = Window()
    first = window.publish(b"y")
    plain = unsent(window)
    window.window.abandon(ConnectionClosedError("closed"))
    assert [outcome(pending) for pending in (first, plain)] == ["unknown", "failed"]


def test_the_first_try_waits_for_room_until_it_has_ended() -> None:
    """Tasks: others drive the window meanwhile."""
    window = Window()
    plain = window.publish()
    assert window.wait(5.0) == [plain]
    assert outcome(plain) == "unknown"
    error = OutboundBufferLimitError("full")
    window.window.failed(plain, error)
    assert (plain.error, outcome(plain), plain.observed) == (error, "failed", True)
    assert window.window.failure() is None
    window.window.failed(plain, error)  # changes nothing
    assert window.window.failure() is None


@pytest.mark.parametrize("taken", [False, True])
def test_the_first_try_waits_for_room_while_another_one_is_begun(taken: bool) -> None:
    window = Window()
    named = unsent(window, "7", answer=None)
    if taken:
        window.drain()
    window.window.failed(named, OutboundBufferLimitError("full"))
    assert outcome(named) == ("unknown" if taken else "failed")
    assert not window.window.wants
    assert window.window.pending == 0
    assert window.window.failure() is None


def test_what_was_acknowledged_has_not_failed() -> None:
    window = Window()
    pending = window.publish()
    window.answer(pending)
    window.window.failed(pending, KeyboardInterrupt())
    assert pending.error is None


PLAIN = b'{"stream":"S","seq":7}'
ANSWERS = [
    PLAIN,
    b'{"stream":"S","seq":7,"duplicate":true,"domain":"hub"}',
    b'{"stream":"S","seq":7,"val":"12"}',
    b'{"stream":"S","seq":7,"batch":"b","count":-1}',
    b'{"stream":"","seq":7}',
    b'{"stream":"S","seq":18446744073709551616}',
    b'{"stream":"S","seq":-1}',
    b"[" * 100_000,
    b"\xff",
    b"hello",
    BUSY,
    WRONG,
    NOBODY,
]


@pytest.mark.parametrize("data", ANSWERS)
def test_many_answers_at_once_mean_what_each_means(data: bytes) -> None:
    """The same by `receive_all` as by `receive`: before a mark, behind it, while one rests, and for nobody."""
    found: list[object] = []
    for at_once in (False, True):
        one = Window()
        sent = [one.publish() for _ in range(6)]
        one.answer(sent[0], NOBODY)  # it rests from now on
        block = encode_status_block(503) if data == NOBODY else None
        answers = [Message(pending.reply, 1, None, data, block) for pending in sent[1:3]]
        arrived = deque([*answers, Message("", 1, None, b""), *answers, Message(sent[0].reply, 1, None, PLAIN)])
        arrived += [Message(sent[3].reply, 1, None, PLAIN), Message("inbox.99", 1, None, PLAIN)]
        arrived += [Message(sent[4].reply, 1, None, data, block)]
        if at_once:
            one.window.receive_all(arrived, partial(one.window.connection_replaced, now=NOW), now=NOW)
            assert not arrived
        else:
            for message in arrived:
                if message.subject:
                    one.window.receive(message, now=NOW)
                else:
                    one.window.connection_replaced(now=NOW)
        ended = [(pending.number, pending.pub_ack, str(pending.error)) for pending in one.window.items]
        states = [(pending.resting, pending.tries, pending.foreign, pending.deadline) for pending in sent]
        found.append((ended, states, one.window.late, one.window.pending))
    assert found[0] == found[1]


def test_what_an_interrupt_has_left_is_received_later() -> None:
    one = Window()
    sent = [one.publish() for _ in range(3)]
    arrived = deque(Message(reply, 1, None, PLAIN) for reply in (sent[0].reply, "", sent[1].reply))

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.window.receive_all(arrived, interrupt, now=NOW)
    assert [message.subject for message in arrived] == [sent[1].reply]
    one.window.receive_all(arrived, interrupt, now=NOW)
    assert [pending.number for pending in one.window.items] == [1, 2]
