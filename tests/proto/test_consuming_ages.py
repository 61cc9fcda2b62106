"""How old the messages are that a reader takes: what is certain, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from nats_proto import CatchUp, Message, Publish, Subscribe
from nats_proto._consuming.ages import Age, Ages
from nats_proto._consuming.consume import Consume
from nats_proto._consuming.options import ConsumeOptions
from tests.proto.consuming import NOW, SUBJECT, Inboxes, kinds, status

WAIT = 8.0


class Queue:
    """Messages come, and are taken."""

    def __init__(self) -> None:
        self.taken = self.come = 0

    def __call__(self) -> tuple[int, int]:
        return self.taken, self.come


def started(queue: Queue) -> Ages:
    ages = Ages(WAIT)
    ages.renewed(NOW)
    ages.opened(queue)
    return ages


def take(ages: Ages, queue: Queue, now: float) -> Age:
    """One message at that time; only when it is time to look somebody looks."""
    queue.taken += 1
    assert queue.taken <= queue.come
    return Age.YOUNG if NOW + now < ages.look_at else ages.judge(NOW + now)


def test_a_reader_that_keeps_up_looks_now_and_then() -> None:
    queue = Queue()
    ages = started(queue)
    looks = 0
    for step in range(1000):
        now = step * 0.1
        queue.come += 1
        looks += NOW + now >= ages.look_at
        assert take(ages, queue, now) is Age.YOUNG
    assert 90 <= looks <= 110  # each second, an eighth of the time


def test_a_slow_reader_of_what_came_at_once() -> None:
    queue = Queue()
    ages = started(queue)
    queue.come = 20
    found = [take(ages, queue, now * 1.0) for now in range(20)]
    assert found[:4] == [Age.YOUNG] * 4
    assert found[4:7] == [Age.AGED] * 3
    assert set(found[7:]) == {Age.OUTLIVED}
    queue.come += 1
    assert take(ages, queue, 19.5) is Age.YOUNG  # it came after the last mark


def test_what_came_while_the_reader_was_away_is_not_known() -> None:
    queue = Queue()
    ages = started(queue)
    queue.come = 1
    assert take(ages, queue, 0.5) is Age.YOUNG
    queue.come = 4
    assert take(ages, queue, 100.0) is Age.AGED  # perhaps it has come this moment
    assert take(ages, queue, 106.9) is Age.AGED
    assert take(ages, queue, 107.0) is Age.OUTLIVED


def test_another_queue_begins_anew() -> None:
    queue = Queue()
    ages = started(queue)
    queue.come = 2
    take(ages, queue, 2.0)
    assert take(ages, queue, 20.0) is Age.OUTLIVED
    ages.renewed(NOW + 21.0)
    fresh = Queue()
    ages.opened(fresh)
    fresh.come = 1
    assert take(ages, fresh, 22.0) is Age.YOUNG


def test_without_somebody_who_counts_nothing_is_known() -> None:
    ages = Ages(WAIT)
    ages.renewed(NOW)
    assert ages.judge(NOW + 100) is Age.YOUNG
    assert ages.look_at == float("inf")


# --- the reader


def reading(**options: Any) -> tuple[Consume[Message, Message], Queue]:
    given = {"ack_wait": WAIT, "max_messages": 50, **options}
    machine: Consume[Message, Message] = Consume(
        SUBJECT,
        ConsumeOptions(**given),
        what="messages of consumer 'C'",
        new_inbox=Inboxes(),
        make=lambda message, now: message,
        now=NOW,
    )
    queue = Queue()
    [subscribe, _] = machine.wants
    assert isinstance(subscribe, Subscribe)
    assert subscribe.opened is not None
    subscribe.opened(queue)
    machine.wants.clear()
    return machine, queue


def delivered(number: int, attempt: int = 1) -> Message:
    return Message("orders.new", 1, f"$JS.ACK.S.C.{attempt}.{number}.{number}.1700000000000000000.9", b"x", None)


def give(machine: Consume[Message, Message], queue: Queue, message: Message, now: float) -> list[object]:
    """What it hands out, and what it says to the server."""
    queue.taken += 1
    machine.receive(message, now=NOW + now)
    said = [*machine.items, *(want.data for want in machine.wants if isinstance(want, Publish) and want.reply is None)]
    machine.items.clear()
    machine.wants.clear()
    return said


def test_aged_messages_are_kept_and_outlived_ones_left_to_others() -> None:
    machine, queue = reading()
    queue.come = 20
    messages = [delivered(number) for number in range(20)]
    found = [give(machine, queue, message, now * 1.0) for now, message in enumerate(messages)]
    assert found[:4] == [[message] for message in messages[:4]]
    assert found[4:7] == [[message, b"+WPI"] for message in messages[4:7]]
    assert found[7:] == [[]] * 13
    assert machine.outlived == 13
    assert [warning.kind for warning in machine.warnings] == ["outlived"]


def test_a_reader_that_waits_for_long_has_marks_by_heart_beats() -> None:
    machine, queue = reading()
    for beat in range(20):
        queue.taken = queue.come = queue.come + 1
        machine.receive(status("in.1.1", "100 Idle Heartbeat"), now=NOW + beat * 1.5)
    queue.come += 1
    message = delivered(1)
    assert give(machine, queue, message, 30.0) == [message]  # a moment after the last of them: nothing more to say


@pytest.mark.parametrize(("attempt", "max_deliver", "kept"), [(1, 1, True), (2, 3, False), (3, 3, True), (1, 0, False)])
def test_the_last_attempt_is_handed_out_however_old_it_is(attempt: int, max_deliver: int, kept: bool) -> None:
    machine, queue = reading(max_deliver=max_deliver)
    queue.come = 3
    give(machine, queue, delivered(1, attempt), 1.0)
    message = delivered(2, attempt)
    assert give(machine, queue, message, 10.0) == ([message] if kept else [])
    strange = Message("a", 1, "not.an.ack.subject", b"x", None)
    assert give(machine, queue, strange, 10.0) == []  # whoever has sent it


def away(*, seconds: float = 10.0, **given: Any) -> tuple[Consume[Message, Message], Queue, int]:
    """A reader that has message 1 in its hands, and was away; the next two messages make it ask for a sign."""
    machine, queue = reading(**given)
    queue.come = 1
    first = delivered(1)
    assert give(machine, queue, first, 1.0) == [first]
    queue.come = 20
    for message in (delivered(1, 2), delivered(2)):  # of the first nobody knows what its reader has made of it
        queue.taken += 1
        machine.receive(message, now=NOW + 1.0 + seconds)
        assert machine.items.pop() is message
    [number] = [want.number for want in machine.wants if isinstance(want, CatchUp)]
    machine.wants.clear()
    return machine, queue, number


def test_what_lies_unread_twice_is_handed_out_once() -> None:
    machine, queue, number = away()
    third, again = delivered(3), delivered(4, 2)
    assert give(machine, queue, third, 11.0)[:1] == [third]
    assert give(machine, queue, delivered(2, 2), 11.0) == []
    assert give(machine, queue, delivered(1, 3), 11.0) == []
    assert give(machine, queue, again, 11.0)[:1] == [again]  # was not handed out before
    assert give(machine, queue, delivered(4, 3), 11.0) == []
    assert machine.outlived == 3
    assert not machine.warnings
    machine.caught_up(number, now=NOW + 11.0)
    late = delivered(2, 3)
    assert give(machine, queue, late, 11.0)[:1] == [late]  # it was delivered since then, maybe by our wish


def test_a_sign_of_an_earlier_time_is_none() -> None:
    machine, queue, number = away()
    queue.taken += 1
    machine.receive(delivered(3), now=NOW + 16.0)
    assert [want.number for want in machine.wants if isinstance(want, CatchUp)] == [number + 1]
    machine.items.clear()
    machine.caught_up(number, now=NOW + 16.0)
    assert give(machine, queue, delivered(2, 2), 16.0) in ([], [b"+WPI"])
    machine.caught_up(number + 1, now=NOW + 16.0)
    again = delivered(2, 3)
    assert give(machine, queue, again, 16.0)[:1] == [again]


def test_a_heart_beat_does_not_hide_that_it_was_away() -> None:
    machine, queue = reading()
    queue.come = 3
    give(machine, queue, delivered(1), 1.0)
    machine.receive(status("in.1.1", "100 Idle Heartbeat"), now=NOW + 11.0)
    assert not [want for want in machine.wants if isinstance(want, CatchUp)]
    queue.taken += 1
    machine.receive(delivered(2), now=NOW + 11.0)
    assert [want for want in machine.wants if isinstance(want, CatchUp)]


def test_a_reader_that_keeps_up_asks_for_no_sign() -> None:
    machine, queue = reading()
    for step in range(100):
        queue.come += 1
        queue.taken += 1
        machine.receive(delivered(step), now=NOW + 0.3 * step)
    assert not [want for want in machine.wants if isinstance(want, CatchUp)]


@pytest.mark.parametrize("attempt", [2, 3])
def test_a_last_attempt_is_handed_out_twice_as_well(attempt: int) -> None:
    machine, queue, _ = away(max_deliver=3)
    again = delivered(2, attempt)
    assert give(machine, queue, again, 11.0)[:1] == ([again] if attempt == 3 else [])


def test_a_stream_that_was_made_anew_counts_anew() -> None:
    machine, queue, _ = away()
    second = delivered(2)
    assert give(machine, queue, second, 11.0)[:1] == [second]


def test_another_queue_has_nothing_twice() -> None:
    machine, queue, _ = away()
    machine.connection_replaced(now=NOW + 11.0)
    machine.handle_timeout(now=NOW + 11.0)
    machine.wants.clear()
    again = delivered(2, 2)
    assert give(machine, queue, again, 11.5) == [again]


def test_strange_messages_are_told_nothing() -> None:
    machine, queue = reading()
    queue.come = 2
    give(machine, queue, delivered(1), 1.0)
    strange = Message("a", 1, "not.an.ack.subject", b"x", None)
    assert give(machine, queue, strange, 6.0) == [strange]


def test_without_acknowledgements_nothing_ages() -> None:
    machine: Consume[Message, Message] = Consume(
        SUBJECT, ConsumeOptions(), what="x", new_inbox=Inboxes(), make=lambda message, now: message, now=NOW
    )
    assert kinds(machine.wants) == ["subscribe", "pull"]
    assert machine.wants[0].opened is None  # type: ignore[union-attr]  # it is the subscription
