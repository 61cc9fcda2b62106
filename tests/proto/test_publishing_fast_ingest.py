"""Fast ingest: reply subjects, room by acknowledgements, and what a loss, a refusal or silence means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest

from nats_proto import Message, Publish, PublishRefused, Subscribe
from nats_proto._jetstream.errors import (
    FastIngestError,
    JetStreamDecodeError,
    NoStreamResponseError,
    WrongLastSequenceError,
)
from nats_proto._publishing.fast_ingest import (
    MAX_REPORTS,
    FastIngest,
    FastIngestGapError,
    IngestGap,
    IngestProgress,
    IngestRefusal,
)
from nats_proto._wire.headers import encode_status_block
from nats_proto.errors import ConnectionClosedError, LocalProtocolError, NATSError, NATSTimeoutError, PermissionsError
from tests.proto.driver import World

NOW = 50.0
REFUSED = b'{"code":400,"err_code":10071,"description":"wrong last sequence: 3"}'


class Ingest:
    """A fast ingest, and what a client does with it."""

    def __init__(
        self, *, flow: int = 100, max_outstanding: int = 2, on_gap: Literal["fail", "ok"] = "fail", opened: bool = True
    ) -> None:
        self.machine = FastIngest("in.id", flow=flow, max_outstanding=max_outstanding, on_gap=on_gap, timeout=3.0)
        self.now = NOW
        assert self.machine.room == 0
        assert self.machine.wants.popleft() == Subscribe(
            "in.id.>", awaits=self.machine._awaits, asks=self.machine._asks
        )
        self.gap = on_gap
        if opened:
            self.publish()
            self.ack(0, 1)
            self.reports()

    def publish(self, count: int = 1, *, last: bool = False) -> list[str]:
        return [self.machine.begin("s", now=self.now, last=last) for _ in range(count)]

    def give(self, data: bytes, block: bytes | None = None) -> None:
        self.machine.receive(Message("in.id.any", 1, None, data, block), now=self.now)

    def ack(self, number: int, flow: int) -> None:
        self.give(b'{"type":"ack","seq":%d,"msgs":%d}' % (number, flow))

    def final(self, count: int, batch: bytes = b"id") -> None:
        self.give(b'{"stream":"S","seq":90,"batch":"%b","count":%d}' % (batch, count))

    def reports(self) -> list[object]:
        reports: list[object] = list(self.machine.items)
        self.machine.items.clear()
        return reports

    def sent(self) -> list[str | None]:
        """The reply subjects of what the machine itself publishes."""
        replies: list[str | None] = []
        for want in self.machine.wants:
            assert isinstance(want, Publish)
            assert (want.subject, want.data) == ("s", b"")
            replies.append(want.reply)
        self.machine.wants.clear()
        return replies

    def wait(self, seconds: float) -> list[str | None]:
        end = self.now + seconds
        replies: list[str | None] = []
        while (due := self.machine.next_timeout()) is not None and due <= end:
            self.now = due
            self.machine.handle_timeout(now=due)
            replies += self.sent()
        self.now = end
        return replies


@pytest.mark.parametrize("gap", ["fail", "ok"])
def test_the_reply_subjects(gap: Literal["fail", "ok"]) -> None:
    ingest = Ingest(flow=7, on_gap=gap, opened=False)
    assert ingest.publish() == [f"in.id.7.{gap}.1.0.$FI"]
    ingest.ack(0, 7)
    assert ingest.publish() == [f"in.id.7.{gap}.2.1.$FI"]
    assert ingest.publish(last=True) == [f"in.id.7.{gap}.3.2.$FI"]
    ingest.final(3)
    assert ingest.machine.done
    assert ingest.machine.error is None
    assert ingest.machine.pub_ack is not None
    assert (ingest.machine.pub_ack.sequence, ingest.machine.pub_ack.count) == (90, 3)


def test_a_single_message() -> None:
    ingest = Ingest(opened=False)
    assert ingest.publish(last=True) == ["in.id.100.fail.1.2.$FI"]
    ingest.final(1)
    assert (ingest.machine.done, ingest.machine.error) == (True, None)


def test_the_first_message_waits() -> None:
    ingest = Ingest(opened=False)
    assert ingest.machine.room == 1
    ingest.publish()
    assert ingest.machine.room == 0
    with pytest.raises(LocalProtocolError):
        ingest.publish()
    ingest.ack(0, 5)
    assert ingest.machine.room == 9
    assert ingest.reports() == [IngestProgress(0)]


def test_room_follows_the_acknowledgements() -> None:
    ingest = Ingest(flow=100)
    assert ingest.machine.room == 1
    ingest.publish()
    assert ingest.machine.room == 0
    ingest.ack(1, 2)
    assert ingest.machine.room == 3
    ingest.publish(3)
    ingest.ack(3, 4)
    assert ingest.machine.room == 6
    ingest.ack(2, 4)  # an older one, late
    assert ingest.machine.room == 6
    ingest.ack(5, 1)  # slower
    assert ingest.machine.room == 2
    assert [report.acknowledged for report in ingest.reports() if isinstance(report, IngestProgress)] == [1, 3, 3, 5]


@pytest.mark.parametrize(
    ("data", "room"),
    [
        (b'{"type":"ack","seq":999,"msgs":100}', 200),
        (b'{"type":"ack","seq":1,"msgs":65535}', 200),
        (b'{"type":"ack","seq":1,"msgs":0}', 2),
        (b'{"type":"ack","seq":-5,"msgs":-7}', 1),
        (b'{"type":"new","seq":1,"msgs":9}', 1),
        (b'{"type":7}', 1),
        (b"hi", 1),
        (b"", 1),
        (b"[" * 100_000, 1),
        (b'{"type":"ack","seq":1e400}', 1),
        (b'{"type":""}', 1),
    ],
)
def test_hostile_answers_change_nothing_but_within_bounds(data: bytes, room: int) -> None:
    ingest = Ingest(flow=100)
    ingest.give(data)
    assert ingest.machine.room == room
    assert not ingest.machine.done


def test_it_is_ended_without_another_message() -> None:
    ingest = Ingest()
    ingest.publish()
    ingest.machine.finish(now=NOW)
    ingest.machine.finish(now=NOW)
    assert ingest.sent() == ["in.id.100.fail.3.3.$FI"]
    assert ingest.machine.room == 0
    ingest.final(2)
    assert (ingest.machine.done, ingest.machine.error) == (True, None)
    with pytest.raises(LocalProtocolError):
        FastIngest("in.id").finish(now=NOW)


def test_a_lost_message_ends_it() -> None:
    ingest = Ingest()
    ingest.ack(1, 100)
    ingest.publish(9)
    ingest.give(b'{"type":"gap","last_seq":4,"seq":7}')
    assert ingest.machine.room == 0
    assert not ingest.machine.done
    ingest.final(3)
    error = ingest.machine.error
    assert isinstance(error, FastIngestGapError)
    assert (error.stored, error.first, error.outcome) == (3, 4, "unknown")
    assert "3 of 10 messages" in str(error)
    assert ingest.machine.pub_ack is not None


def test_losses_are_told_where_they_are_allowed() -> None:
    ingest = Ingest(on_gap="ok")
    ingest.ack(1, 100)
    ingest.publish(9)
    ingest.reports()
    ingest.give(b'{"type":"gap","last_seq":4,"seq":7}')
    ingest.give(b'{"type":"err","seq":8,"error":%b}' % REFUSED)
    gap, refused = ingest.reports()
    assert gap == IngestGap(4, 7)
    assert isinstance(refused, IngestRefusal)
    assert refused.number == 8
    assert isinstance(refused.error, WrongLastSequenceError)
    assert ingest.machine.room > 0
    ingest.publish(last=True)
    ingest.final(11)
    assert (ingest.machine.done, ingest.machine.error) == (True, None)


def test_reports_are_bounded() -> None:
    ingest = Ingest(on_gap="ok")
    for number in range(MAX_REPORTS + 10):
        ingest.give(b'{"type":"err","seq":%d,"error":%b}' % (number, REFUSED))
    assert len(ingest.machine.items) == MAX_REPORTS
    first = ingest.machine.items[0]
    assert isinstance(first, IngestRefusal)
    assert first.number == 10
    assert ingest.machine.refused == MAX_REPORTS + 10  # which counts what is no longer kept, too


@pytest.mark.parametrize(
    ("said", "reports", "lost"),
    [
        ([(4, 7)], [(4, 7)], 3),
        ([(4, 7), (4, 7)], [(4, 7)], 3),  # a ping has it told once more
        ([(4, 7), (2, 9)], [(4, 7), (7, 9)], 5),
        ([(4, 4), (7, 3)], [], 0),
        ([(-5, 2)], [(1, 2)], 1),
        ([(9, 2**64)], [(9, 11)], 2),  # no more than was sent
    ],
)
def test_each_loss_is_told_once(said: list[tuple[int, int]], reports: list[tuple[int, int]], lost: int) -> None:
    ingest = Ingest(on_gap="ok")
    ingest.ack(1, 100)
    ingest.publish(9)
    ingest.reports()
    for first, until in said:
        ingest.give(b'{"type":"gap","last_seq":%d,"seq":%d}' % (first, until))
    assert ingest.reports() == [IngestGap(first, until) for first, until in reports]
    assert ingest.machine.lost == lost


def test_it_is_given_up() -> None:
    ingest = Ingest()
    ingest.publish()
    ingest.machine.abandon("closed")
    assert (ingest.machine.done, ingest.machine.room) == (True, 0)
    error = ingest.machine.error
    assert isinstance(error, ConnectionClosedError)
    assert error.outcome == "unknown"
    ingest.machine.abandon("again")
    assert ingest.machine.error is error


@pytest.mark.parametrize("gap", ["fail", "ok"])
def test_the_server_ends_it_by_itself(gap: Literal["fail", "ok"]) -> None:
    ingest = Ingest(on_gap=gap)
    ingest.final(1)
    error = ingest.machine.error
    assert isinstance(error, FastIngestGapError)
    assert "the server has ended it" in str(error)
    assert (error.stored, error.first) == (1, 2)


def test_a_refused_message_ends_it() -> None:
    ingest = Ingest()
    ingest.ack(1, 100)
    ingest.publish(9)
    ingest.give(b'{"type":"err","seq":5,"error":%b}' % REFUSED)
    ingest.give(b'{"type":"gap","last_seq":6,"seq":7}')
    ingest.final(4)
    error = ingest.machine.error
    assert isinstance(error, WrongLastSequenceError)
    assert "message 5" in str(error)
    assert "4 messages are stored" in error.__notes__[0]
    assert error.outcome == "unknown"  # of the whole: who repeats it would have these four twice


@pytest.mark.parametrize("error", [b"7", b"null", b'{"code":"x"}'])
def test_a_refusal_that_cannot_be_read(error: bytes) -> None:
    ingest = Ingest(on_gap="ok")
    ingest.give(b'{"type":"err","seq":1,"error":%b}' % error)
    reports = ingest.reports()
    assert all(isinstance(report, IngestRefusal) for report in reports)
    assert not ingest.machine.done


def test_the_stream_takes_none() -> None:
    ingest = Ingest(opened=False)
    ingest.publish()
    ingest.give(b'{"error":{"code":400,"err_code":10205,"description":"batch publish is disabled"}}')
    assert isinstance(ingest.machine.error, FastIngestError)
    assert ingest.machine.error.outcome == "failed"


def test_a_server_that_has_forgotten_it() -> None:
    ingest = Ingest()
    ingest.publish()
    ingest.ack(1, 1)
    ingest.publish()
    ingest.give(b'{"error":{"code":400,"err_code":10208,"description":"batch publish ID unknown"}}')
    assert isinstance(ingest.machine.error, FastIngestError)
    assert ingest.machine.error.outcome == "unknown"
    assert "1 of 3 messages were acknowledged" in ingest.machine.error.__notes__[0]


def test_a_server_that_does_not_know_it() -> None:
    ingest = Ingest(opened=False)
    ingest.publish()
    ingest.give(b'{"stream":"S","seq":7}')
    assert isinstance(ingest.machine.error, JetStreamDecodeError)
    assert "2.14" in str(ingest.machine.error)
    assert ingest.machine.error.outcome == "unknown"


def test_that_nobody_takes_a_question_says_nothing_of_the_message() -> None:
    """The answer to the first message was lost, and then the leader: it may be stored."""
    ingest = Ingest(opened=False)
    ingest.publish()
    (question,) = ingest.wait(1.0)
    assert question is not None
    ingest.machine.receive(Message(question, 1, None, b"", encode_status_block(503)), now=ingest.now)
    assert not ingest.machine.done
    ingest.wait(2.0)
    assert isinstance(ingest.machine.error, NATSTimeoutError)
    assert ingest.machine.error.outcome == "unknown"


def test_a_refusal_makes_room_as_an_acknowledgement_does() -> None:
    """A server acknowledges what it has stored: of a window that is refused as a whole there comes nothing else."""
    ingest = Ingest(flow=3, max_outstanding=1, on_gap="ok")
    ingest.ack(1, 3)
    ingest.publish(3)
    assert ingest.machine.room == 0
    assert ingest.machine.next_timeout() is not None
    for number in (2, 3, 4):
        ingest.give(b'{"type":"err","seq":%d,"error":%b}' % (number, REFUSED))
    assert ingest.machine.room == 3
    assert ingest.machine.next_timeout() is None
    ingest.give(b'{"type":"err","seq":1000,"error":%b}' % REFUSED)  # more than was sent
    ingest.publish(3)
    assert (ingest.machine.room, ingest.machine.acknowledged) == (0, 1)


def test_a_server_that_ends_it_has_stored_what_it_has_not_lost_or_refused() -> None:
    ingest = Ingest(on_gap="ok")
    ingest.ack(1, 100)
    ingest.publish(10)
    ingest.give(b'{"type":"gap","last_seq":3,"seq":5}')
    ingest.give(b'{"type":"err","seq":6,"error":%b}' % REFUSED)
    ingest.final(9)
    error = ingest.machine.error
    assert isinstance(error, FastIngestGapError)
    assert (error.stored, ingest.machine.acknowledged) == (6, 9)


def test_nobody_listens() -> None:
    ingest = Ingest(opened=False)
    ingest.publish()
    ingest.give(b"", encode_status_block(503))
    assert isinstance(ingest.machine.error, NoStreamResponseError)
    assert ingest.machine.error.outcome == "failed"
    ingest = Ingest()
    ingest.publish()
    ingest.give(b"", encode_status_block(503))
    assert not ingest.machine.done


def test_a_silent_server_is_asked_and_then_given_up() -> None:
    ingest = Ingest()
    assert ingest.machine.next_timeout() is None  # nothing is waited for
    ingest.now += 60.0
    ingest.publish()
    assert ingest.wait(0.999) == []
    assert ingest.wait(1.001) == ["in.id.100.fail.2.4.$FI"] * 2
    assert not ingest.machine.done
    assert ingest.wait(1.0) == []
    assert isinstance(ingest.machine.error, NATSTimeoutError)
    assert ingest.machine.error.outcome == "unknown"
    assert "0 of 2 messages were acknowledged" in str(ingest.machine.error)
    ingest.ack(2, 1)
    assert ingest.machine.next_timeout() is None


def test_an_answer_to_a_ping_is_one_more_chance() -> None:
    ingest = Ingest()
    ingest.publish()
    for _ in range(5):
        assert len(ingest.wait(2.0)) == 2
        ingest.ack(0, 1)
    ingest.ack(2, 1)
    assert ingest.wait(60.0) == []
    assert not ingest.machine.done


def test_who_looks_late_gives_the_server_its_time() -> None:
    ingest = Ingest()
    ingest.publish()
    ingest.now += 60.0
    for _ in range(3):
        ingest.machine.handle_timeout(now=ingest.now)
    assert ingest.sent() == ["in.id.100.fail.2.4.$FI"]


def test_the_sign_of_the_end_is_given_again() -> None:
    ingest = Ingest()
    ingest.machine.finish(now=ingest.now)
    assert ingest.sent() == ["in.id.100.fail.2.3.$FI"]
    assert ingest.wait(1.0) == ["in.id.100.fail.2.3.$FI"]


def test_a_new_connection_is_asked_at_once() -> None:
    ingest = Ingest()
    ingest.machine.connection_replaced(now=NOW)
    assert ingest.sent() == []
    ingest.publish()
    ingest.machine.connection_replaced(now=NOW)
    assert ingest.sent() == ["in.id.100.fail.2.4.$FI"]


def test_what_could_not_be_published_has_no_number() -> None:
    ingest = Ingest()
    assert ingest.publish(last=True) == ["in.id.100.fail.2.2.$FI"]
    ingest.machine.failed()
    assert ingest.machine.room == 1
    assert ingest.publish() == ["in.id.100.fail.2.1.$FI"]


@pytest.mark.parametrize(
    ("end", "sent"),
    [
        (lambda ingest: None, ["PUB s [1]", "PUB t [1]"]),
        (lambda ingest: ingest.wait(3.0), ["PUB t [1]"]),
        (lambda ingest: ingest.machine.abandon("test"), ["PUB t [1]"]),
    ],
    ids=["awaited", "given up", "left"],
)
def test_what_waits_for_a_connection_is_not_sent_when_nobody_waits_for_it(
    end: Callable[[Ingest], object], sent: list[str]
) -> None:
    """The first message would begin another batch at a server that knows none, and be stored."""
    world = World("nats://a, nats://b").ready()
    ingest = Ingest(opened=False)
    world.session.subscribe("in.id.>", marks=True, awaits=ingest.machine._awaits)
    world.cut()
    [reply] = ingest.publish()
    world.session.publish("s", b"x", reply=reply)
    world.session.publish("t", b"x", reply="in.idle.1")
    end(ingest)
    world.up()
    assert [word for word in world.words() if word.startswith("PUB")] == sent
    assert world.session.stats.dropped_publishes == 2 - len(sent)


def test_after_the_end_nothing_counts() -> None:
    ingest = Ingest()
    ingest.machine.finish(now=NOW)
    ingest.sent()
    ingest.final(1)
    assert ingest.machine.done
    assert ingest.machine.error is None
    ingest.ack(1, 5)
    ingest.give(b'{"type":"gap","last_seq":4,"seq":7}')
    assert ingest.machine.room == 0
    assert ingest.reports() == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FastIngest("i.d", flow=0),
        lambda: FastIngest("i.d", flow=65536),
        lambda: FastIngest("i.d", max_outstanding=0),
        lambda: FastIngest("i.d", on_gap="no"),  # type: ignore[arg-type]
        lambda: FastIngest("i.d", timeout=0.0),
    ],
)
def test_arguments_that_cannot_be_used(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        wrong()


# --- without permission ----------------------------------------------------------------------------------------------


def refuse(ingest: Ingest, count: int = 1, subject: str = "s") -> NATSError | None:
    """The server refuses so many publishes. With what that ends it."""
    ingest.machine.publish_refused(
        PublishRefused(subject, PermissionsError("no", subject=subject), count), now=ingest.now
    )
    assert ingest.machine.done == (ingest.machine.error is not None)
    return ingest.machine.error


@pytest.mark.parametrize("gap", ["fail", "ok"])
def test_a_first_message_that_is_refused_ends_it_and_nothing_is_stored(gap: Literal["fail", "ok"]) -> None:
    ingest = Ingest(opened=False, on_gap=gap)
    ingest.publish()
    error = refuse(ingest)
    assert isinstance(error, PermissionsError)
    assert (str(error), error.outcome) == ("fast ingest to 's': no", "failed")
    assert error.__notes__ == ["0 of 1 messages were acknowledged."]


@pytest.mark.parametrize("counts", [(2,), (1, 1)])
def test_the_first_message_may_have_been_taken_and_the_end_refused(counts: tuple[int, ...]) -> None:
    ingest = Ingest(opened=False)
    ingest.publish()
    ingest.machine.finish(now=ingest.now)
    errors = [refuse(ingest, count) for count in counts]
    assert errors[:-1] == [None] * (len(counts) - 1)
    assert isinstance(errors[-1], PermissionsError)
    assert errors[-1].outcome == "failed"
    taken = Ingest(opened=False)
    taken.publish()
    taken.machine.finish(now=taken.now)
    assert refuse(taken) is None
    taken.ack(0, 1)
    taken.final(1)
    assert (taken.machine.done, taken.machine.error) == (True, None)


def test_the_cause_of_silence_is_named() -> None:
    ingest = Ingest(opened=False)
    ingest.publish()
    ingest.machine.finish(now=ingest.now)
    assert refuse(ingest) is None
    ingest.wait(10.0)
    assert isinstance(ingest.machine.error, NATSTimeoutError)
    assert isinstance(ingest.machine.error.__cause__, PermissionsError)


def test_a_message_that_is_refused_later_is_a_loss() -> None:
    ingest = Ingest()
    ingest.ack(1, 5)
    ingest.publish(2)
    error = refuse(ingest)
    assert isinstance(error, PermissionsError)
    assert error.outcome == "unknown"
    assert error.__notes__ == ["1 of 3 messages were acknowledged."]


def test_a_loss_that_may_be_is_told_by_the_stream_and_the_end_may_not() -> None:
    ingest = Ingest(on_gap="ok")
    ingest.ack(1, 5)
    ingest.publish(2)
    assert refuse(ingest) is None
    ingest.machine.finish(now=ingest.now)
    error = refuse(ingest)
    assert isinstance(error, PermissionsError)
    assert error.outcome == "unknown"


def test_on_another_connection_the_first_message_may_be_stored() -> None:
    ingest = Ingest(opened=False)
    ingest.publish()
    ingest.machine.connection_replaced(now=ingest.now)
    error = refuse(ingest)
    assert isinstance(error, PermissionsError)
    assert error.outcome == "unknown"


def test_a_connection_before_the_first_message_is_none() -> None:
    ingest = Ingest(opened=False)
    ingest.machine.connection_replaced(now=ingest.now)
    ingest.publish()
    error = refuse(ingest)
    assert error is not None
    assert error.outcome == "failed"


def test_what_was_acknowledged_or_is_of_others_is_not_meant() -> None:
    ingest = Ingest()
    ingest.ack(1, 5)
    assert refuse(ingest) is None
    assert refuse(ingest, subject="other") is None
    ingest.publish()
    assert refuse(ingest, subject="other") is None
    assert refuse(ingest) is not None
    error = ingest.machine.error
    assert refuse(ingest) is error


def test_the_subjects_that_are_remembered_are_bounded() -> None:
    machine = FastIngest("in.id", flow=10, max_outstanding=2, timeout=3.0)
    machine.wants.clear()
    machine.begin("0", now=NOW)
    for number in range(2, 500):
        machine.receive(Message("in", 1, None, b'{"type":"ack","seq":%d,"msgs":10}' % (number - 1), None), now=NOW)
        machine.begin(f"{number}", now=NOW)
        assert machine._asks(f"{number}") == number
        assert machine._asks(f"{number - 1}") is None
        assert len(machine._numbers) <= 42
