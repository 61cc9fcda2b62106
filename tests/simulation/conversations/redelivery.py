"""Acknowledgements, and what comes again."""

from __future__ import annotations

from .talk import Talk, conversation

WAIT = 300_000_000
LATER = 3_000_000_000


def one(t: Talk, **config: object) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.c")
    t.consumer(**config)


@conversation
def acknowledged_in_any_order(t: Talk) -> None:
    one(t)
    t.pull("a", 3)
    first, second, third = t.collect("a", 3)
    t.ack(second)
    t.info()
    t.ack(first)
    t.info()
    t.ack(third, b"")
    t.info()
    t.ack(third)


@conversation
def acknowledged_all(t: Talk) -> None:
    one(t, ack_policy="all")
    t.pull("a", 3)
    _, second, third = t.collect("a", 3)
    t.ack(second)
    t.info()
    t.ack(second)
    t.ack(third)
    t.info()


@conversation
def acknowledged_where_nobody_wants_it(t: Talk) -> None:
    one(t, ack_policy="none")
    t.pull("a", 1)
    t.ack(t.collect("a", 1)[0])
    t.info()


@conversation
def handed_back(t: Talk) -> None:
    one(t)
    t.pull("a", 1)
    t.ack(t.collect("a", 1)[0], b"-NAK")
    t.info()
    t.pull("a", 2)
    t.collect("a", 2)
    t.info()


@conversation
def handed_back_for_a_while(t: Talk) -> None:
    one(t)
    t.pull("a", 1)
    t.ack(t.collect("a", 1)[0], b'-NAK {"delay": 300000000}')
    t.info()
    t.pull("a", 4, expires=LATER)
    t.collect("a", 3)
    t.info()


@conversation
def handed_back_at_the_ack_limit(t: Talk) -> None:
    one(t, max_ack_pending=1)
    t.pull("a", 1)
    t.ack(t.collect("a", 1)[0], b'-NAK {"delay": 400000000}')
    t.pull("a", 1, expires=100_000_000)
    t.collect("a", 1)
    t.pull("a", 1, expires=LATER)
    t.collect("a", 1)


@conversation
def nobody_answers(t: Talk) -> None:
    one(t, ack_wait=WAIT)
    t.pull("a", 3)
    _, second, _ = t.collect("a", 3)
    t.ack(second)
    t.pull("b", 3, expires=LATER)
    t.collect("b", 2)
    t.info()


@conversation
def in_progress(t: Talk) -> None:
    one(t, ack_wait=400_000_000)
    t.pull("a", 2)
    first, _ = t.collect("a", 2)
    t.silence("a", 0.2)
    t.ack(first, b"+WPI")
    t.pull("b", 1, expires=LATER)
    t.collect("b", 1)
    t.info()


@conversation
def terminated(t: Talk) -> None:
    one(t, ack_wait=WAIT)
    t.pull("a", 2)
    first, second = t.collect("a", 2)
    t.ack(first, b"+TERM")
    t.ack(second, b"+TERM for this reason")
    t.info()
    t.pull("b", 2, expires=600_000_000)
    t.collect("b", 2)


@conversation
def only_so_often(t: Talk) -> None:
    one(t, ack_wait=200_000_000, max_deliver=2)
    t.pull("a", 1)
    t.collect("a", 1)
    t.pull("b", 1, expires=LATER, max_bytes=0)
    t.collect("b", 1)
    t.pull("b", 1, expires=LATER)
    t.collect("b", 1)
    t.info()


@conversation
def handed_back_too_often(t: Talk) -> None:
    one(t, max_deliver=2)
    t.pull("a", 1)
    t.ack(t.collect("a", 1)[0], b"-NAK")
    t.pull("a", 1)
    t.ack(t.collect("a", 1)[0], b"-NAK")
    t.info()
    t.pull("a", 1)
    t.collect("a", 1)
    t.info()


@conversation
def longer_each_time(t: Talk) -> None:
    one(t, backoff=[200_000_000, 400_000_000], max_deliver=3)
    t.pull("a", 1)
    t.collect("a", 1)
    t.pull("b", 2, expires=600_000_000)
    t.collect("b", 2)
    t.pull("c", 2, expires=LATER)
    t.collect("c", 1)


@conversation
def what_comes_again_is_first(t: Talk) -> None:
    one(t)
    t.pull("a", 2)
    first, second = t.collect("a", 2)
    t.ack(second, b"-NAK")
    t.ack(first, b"-NAK")
    t.pull("a", 3)
    t.collect("a", 3)


@conversation
def acknowledged_after_it_came_again(t: Talk) -> None:
    one(t)
    t.pull("a", 1)
    first = t.collect("a", 1)[0]
    t.ack(first, b"-NAK")
    t.pull("a", 1)
    t.collect("a", 1)
    t.ack(first)
    t.info()


@conversation
def one_more_with_the_acknowledgement(t: Talk) -> None:
    one(t)
    t.pull("a", 1)
    first = t.collect("a", 1)[0]
    assert first.reply is not None
    t.publish(first.reply, b"+NXT 2", "a")
    t.collect("a", 2)
    t.info()


@conversation
def the_consumer_is_gone(t: Talk) -> None:
    one(t)
    t.pull("a", 1)
    first = t.collect("a", 1)[0]
    t.api("CONSUMER.DELETE.S.c")
    t.ack(first)
