"""Pull requests: what they get, and what ends them."""

from __future__ import annotations

from .talk import Talk, conversation

SOON = 200_000_000
LATER = 3_000_000_000


@conversation
def all_that_was_asked_for(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.c")
    t.consumer()
    t.pull("a", 2)
    t.collect("a", 2)
    t.silence("a")
    t.info()


@conversation
def some_and_then_the_time_is_up(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b")
    t.consumer()
    t.pull("a", 5, expires=SOON)
    t.collect("a", 3)


@conversation
def some_later(t: Talk) -> None:
    t.counting = False
    t.stream()
    t.consumer()
    t.pull("a", 2, expires=LATER)
    t.store("s.a")
    t.collect("a", 1)
    t.store("s.b", "s.c")
    t.collect("a", 1)
    t.info()


@conversation
def a_number_is_a_request(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.c")
    t.consumer()
    t.listen("a")
    t.publish("$JS.API.CONSUMER.MSG.NEXT.S.c", b"2", "a")
    t.collect("a", 2)
    t.publish("$JS.API.CONSUMER.MSG.NEXT.S.c", b"", "a")
    t.collect("a", 1)


@conversation
def without_waiting(t: Talk) -> None:
    t.stream()
    t.consumer()
    t.pull("a", 3, no_wait=True)
    t.collect("a", 1)
    t.store("s.a", "s.b")
    t.pull("a", 3, no_wait=True)
    t.collect("a", 3)
    t.pull("b", 2, no_wait=True)
    t.collect("b", 1)


@conversation
def without_waiting_once_something_came(t: Talk) -> None:
    t.stream()
    t.consumer()
    t.pull("a", 3, no_wait=True, expires=LATER)
    t.silence("a")
    t.store("s.a")
    t.collect("a", 2)
    t.store("s.b")
    t.pull("b", 3, no_wait=True, expires=LATER)
    t.collect("b", 2)
    t.pull("c", 3, no_wait=True, expires=SOON)
    t.collect("c", 1)


@conversation
def without_waiting_behind_others(t: Talk) -> None:
    t.stream()
    t.consumer(max_ack_pending=1)
    t.store("s.a", "s.b", "s.c")
    t.pull("a", 1)
    t.collect("a", 1)
    t.pull("b", 5, expires=LATER)
    t.pull("c", 1, no_wait=True)
    t.collect("c", 1)


@conversation
def without_waiting_at_the_ack_limit(t: Talk) -> None:
    t.stream()
    t.consumer(max_ack_pending=1)
    t.store("s.a", "s.b")
    t.pull("a", 1)
    first = t.collect("a", 1)[0]
    t.pull("b", 1, no_wait=True)
    t.silence("b", 0.2)
    t.info()
    t.ack(first)
    t.collect("b", 1)


@conversation
def at_the_ack_limit(t: Talk) -> None:
    t.stream()
    t.consumer(max_ack_pending=2)
    t.store("s.a", "s.b", "s.c", "s.d")
    t.pull("a", 4, expires=LATER)
    first, _ = t.collect("a", 2)
    t.silence("a")
    t.info()
    t.ack(first)
    t.collect("a", 1)
    t.info()


@conversation
def turns_are_taken(t: Talk) -> None:
    t.counting = False
    t.stream()
    t.consumer()
    t.pull("a", 2, expires=LATER)
    t.pull("b", 2, expires=LATER)
    t.store("s.a", "s.b", "s.c", "s.d")
    t.collect("a", 2)
    t.collect("b", 2)
    t.info()


@conversation
def heart_beats(t: Talk) -> None:
    t.stream()
    t.store("s.a")
    t.consumer()
    t.pull("a", 2, expires=700_000_000, idle_heartbeat=300_000_000)
    t.collect("a", 4)


@conversation
def heart_beats_too_slow(t: Talk) -> None:
    t.stream()
    t.consumer()
    t.pull("a", 2, expires=500_000_000, idle_heartbeat=300_000_000)
    t.collect("a", 1)


@conversation
def so_many_bytes(t: Talk) -> None:
    t.stream()
    t.consumer(ack_policy="none")
    t.store("s.a", "s.b", "s.c", data=b"x" * 100)
    t.pull("a", 10, max_bytes=400, expires=LATER)
    t.collect("a", 3)
    t.info()


@conversation
def fewer_bytes_than_a_message(t: Talk) -> None:
    t.stream()
    t.consumer()
    t.store("s.a", data=b"x" * 100)
    t.pull("a", 10, max_bytes=50, expires=LATER)
    t.collect("a", 1)
    t.pull("a", 10, expires=LATER)
    t.collect("a", 1)
    t.info()


@conversation
def a_batch_with_bytes_left(t: Talk) -> None:
    t.stream()
    t.consumer(ack_policy="none")
    t.store("s.a", "s.b")
    t.pull("a", 1, max_bytes=10_000, expires=LATER)
    t.collect("a", 2)
    t.silence("a", 0.05)


@conversation
def more_than_the_consumer_allows(t: Talk) -> None:
    t.stream()
    t.consumer(max_batch=10, max_expires=1_500_000_000, max_bytes=1000)
    t.pull("a", 11, expires=SOON)
    t.pull("b", 10, expires=1_600_000_000)
    t.pull("c", 10, expires=SOON, max_bytes=1001)
    t.pull("d", 10, expires=SOON, max_bytes=1000)
    for inbox in "abcd":
        t.collect(inbox, 1)


@conversation
def more_minutes_than_the_consumer_allows(t: Talk) -> None:
    t.stream()
    t.consumer(max_expires=90_000_000_000)
    t.pull("a", 1, expires=91_000_000_000)
    t.collect("a", 1)
    t.consumer("d", max_expires=500_000_000)
    t.pull("b", 1, consumer="d", expires=600_000_000)
    t.collect("b", 1)


@conversation
def too_many_wait(t: Talk) -> None:
    t.stream()
    t.consumer(max_waiting=2)
    for inbox in "ab":
        t.pull(inbox, expires=LATER)
    t.pull("c", expires=LATER)
    t.collect("c", 1)
    t.pull("d", expires=LATER, idle_heartbeat=SOON)
    t.silence("d", 0.5)
    t.info()


@conversation
def who_has_left_is_forgotten(t: Talk) -> None:
    t.counting = False
    t.stream()
    t.consumer()
    t.pull("a", 5, expires=LATER)
    t.pull("b", 1, expires=LATER)
    t.leave("a")
    t.store("s.a", "s.b")
    t.collect("b", 1)
    t.info()


@conversation
def the_consumer_is_deleted(t: Talk) -> None:
    t.stream()
    t.consumer()
    for inbox in "ab":
        t.pull(inbox, expires=LATER)
    t.api("CONSUMER.DELETE.S.c")
    for inbox in "ab":
        t.collect(inbox, 1)
    t.ask("$JS.API.CONSUMER.MSG.NEXT.S.c", b"1")


@conversation
def a_push_consumer_is_pulled(t: Talk) -> None:
    t.stream()
    t.consumer(deliver_subject="to")
    t.pull("a", expires=LATER)
    t.collect("a", 1)


@conversation
def messages_that_were_taken_out(t: Talk) -> None:
    t.stream()
    t.consumer()
    t.store("s.a", "s.b", "s.c", "s.d")
    t.pull("a", 1)
    t.collect("a", 1)
    t.api("STREAM.MSG.DELETE.S", seq=2)
    t.api("STREAM.MSG.DELETE.S", seq=1)
    t.pull("a", 1)
    t.collect("a", 1)
    t.api("STREAM.PURGE.S")
    t.info()


@conversation
def a_filter_that_changes(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.a", "s.b")
    t.consumer(filter_subject="s.a")
    t.pull("a", 1)
    t.collect("a", 1)
    t.consumer(filter_subject="s.b")
    t.info()
    t.pull("a", 2, no_wait=True)
    t.collect("a", 2)
