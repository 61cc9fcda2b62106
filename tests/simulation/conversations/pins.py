"""Priority groups: overflow, prioritized, pinned."""

from __future__ import annotations

from .talk import Talk, conversation

SOON = 200_000_000
LATER = 3_000_000_000


def grouped(t: Talk, policy: str, **config: object) -> None:
    t.stream()
    t.consumer(priority_policy=policy, priority_groups=["g"], **config)


@conversation
def the_group_is_missing(t: Talk) -> None:
    grouped(t, "overflow")
    t.pull("a", expires=SOON)
    t.collect("a", 1)
    t.pull("a", expires=SOON, group="h")
    t.collect("a", 1)
    t.pull("a", expires=SOON, group="g", id="x")
    t.collect("a", 1)
    t.pull("a", expires=SOON, group="g", priority=10)
    t.collect("a", 1)


@conversation
def what_only_overflow_has(t: Talk) -> None:
    t.stream()
    t.consumer()
    t.pull("a", expires=SOON, min_pending=2)
    t.collect("a", 1)
    t.pull("a", expires=SOON, group="g")
    t.collect("a", 1)


@conversation
def overflow(t: Talk) -> None:
    grouped(t, "overflow")
    t.pull("a", 5, expires=LATER, group="g", min_pending=2)
    t.store("s.a")
    t.silence("a")
    t.store("s.b")
    t.collect("a", 1)
    t.silence("a")
    t.pull("b", 5, expires=LATER, group="g")
    t.collect("b", 1)


@conversation
def overflow_of_acknowledgements(t: Talk) -> None:
    grouped(t, "overflow")
    t.pull("a", 5, expires=LATER, group="g", min_ack_pending=1)
    t.store("s.a")
    t.silence("a")
    t.pull("b", 1, expires=LATER, group="g")
    t.collect("b", 1)
    t.store("s.b")
    t.collect("a", 1)


@conversation
def some_before_others(t: Talk) -> None:
    t.counting = False
    grouped(t, "prioritized")
    t.pull("a", 2, expires=LATER, group="g", priority=5)
    t.pull("b", 1, expires=LATER, group="g", priority=1)
    t.pull("c", 1, expires=LATER, group="g", priority=5)
    t.store("s.a", "s.b", "s.c", "s.d")
    t.collect("b", 1)
    t.collect("a", 2)
    t.collect("c", 1)


@conversation
def one_is_pinned(t: Talk) -> None:
    t.counting = False
    grouped(t, "pinned_client", priority_timeout=LATER)
    t.pull("a", 2, expires=LATER, group="g")
    t.pull("b", 5, expires=LATER, group="g")
    t.store("s.a", "s.b", "s.c")
    t.collect("a", 2)
    t.silence("b")
    t.info()
    t.pull("a", 1, expires=LATER, group="g", id=t.pin("a"))
    t.collect("a", 1)


@conversation
def another_pin_is_refused(t: Talk) -> None:
    t.counting = False
    grouped(t, "pinned_client")
    t.pull("a", 1, expires=LATER, group="g")
    t.store("s.a", "s.b")
    t.collect("a", 1)
    t.pull("b", 1, expires=LATER, group="g", id="other")
    t.collect("b", 1)


@conversation
def the_pin_is_taken_away(t: Talk) -> None:
    grouped(t, "pinned_client")
    t.pull("a", 1, expires=LATER, group="g")
    t.store("s.a")
    t.collect("a", 1)
    t.pull("a", 5, expires=LATER, group="g", id=t.pin("a"))
    t.pull("b", 5, expires=LATER, group="g")
    t.api("CONSUMER.UNPIN.S.c", group="g")
    t.info()
    t.store("s.b")
    t.collect("a", 1)
    t.collect("b", 1)
    t.pull("a", 5, expires=LATER, group="g", id=t.pin("a"))
    t.collect("a", 1)


@conversation
def the_pin_is_lost_in_time(t: Talk) -> None:
    grouped(t, "pinned_client", priority_timeout=300_000_000)
    t.pull("a", 1, expires=LATER, group="g")
    t.store("s.a")
    t.collect("a", 1)
    t.pull("b", 1, expires=LATER, group="g")
    t.store("s.b")
    t.collect("b", 1)


@conversation
def wrong_ways_to_take_a_pin_away(t: Talk) -> None:
    grouped(t, "pinned_client")
    t.api("CONSUMER.UNPIN.S.c", group="h")
    t.api("CONSUMER.UNPIN.S.c", group="")
    t.api("CONSUMER.UNPIN.S.c", group="a b")
    t.api("CONSUMER.UNPIN.S.d", group="g")
    t.api("CONSUMER.UNPIN.S.c", group="g")
