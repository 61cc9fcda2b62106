"""Consumers: made, changed, listed, paused, begun anew."""

from __future__ import annotations

from .talk import Talk, conversation


@conversation
def a_consumer_is_made_twice(t: Talk) -> None:
    t.stream()
    t.consumer()
    t.consumer()
    t.consumer(action="create")
    t.consumer(action="create", max_deliver=3)
    t.consumer(max_deliver=3, description="now with a limit")
    t.consumer("d", action="update")
    t.info()


@conversation
def what_an_update_must_leave(t: Talk) -> None:
    t.stream()
    t.consumer()
    t.consumer(deliver_policy="new")
    t.consumer(ack_policy="all")
    t.consumer(max_waiting=5)
    t.consumer(deliver_subject="to")


@conversation
def configurations_that_are_refused(t: Talk) -> None:
    t.stream()
    for config in (
        {"max_deliver": 1, "backoff": [1, 2]},
        {"filter_subject": "s.a", "filter_subjects": ["s.b"]},
        {"filter_subjects": ["s.a", "s.>"]},
        {"filter_subjects": ["s.a", ""]},
        {"idle_heartbeat": 1_000_000_000},
        {"flow_control": True},
        {"rate_limit_bps": 1000},
        {"deliver_policy": "by_start_sequence"},
        {"deliver_policy": "by_start_time"},
        {"deliver_policy": "all", "opt_start_seq": 2},
        {"deliver_policy": "last_per_subject"},
        {"deliver_subject": "to", "idle_heartbeat": 1_000_000},
        {"deliver_subject": "to", "flow_control": True},
        {"priority_groups": ["a"]},
        {"priority_policy": "overflow"},
        {"priority_policy": "overflow", "priority_groups": [""]},
        {"priority_policy": "overflow", "priority_groups": ["a b"]},
        {"priority_policy": "overflow", "priority_groups": ["a"], "deliver_subject": "to"},
    ):
        t.consumer("c", **config)


@conversation
def the_filter_in_the_subject(t: Talk) -> None:
    t.stream()
    body = {"stream_name": "S", "config": {"name": "c", "filter_subject": "s.a", "ack_policy": "explicit"}}
    t.api("CONSUMER.CREATE.S.c.s.a", body)
    t.api("CONSUMER.CREATE.S.c.s.b", body)
    t.api("CONSUMER.CREATE.T.c.s.b", body)
    several = {"stream_name": "S", "config": {"name": "d", "filter_subjects": ["s.a", "s.b"]}}
    t.api("CONSUMER.CREATE.S.d.s.a", several)
    t.api("CONSUMER.CREATE.S.d", several)


@conversation
def consumers_are_listed(t: Talk) -> None:
    t.stream()
    t.api("CONSUMER.NAMES.S")
    t.api("CONSUMER.LIST.S")
    t.consumer("b")
    t.consumer("a", filter_subject="s.x")
    t.api("CONSUMER.NAMES.S")
    t.api("CONSUMER.NAMES.S", offset=1)
    t.api("CONSUMER.LIST.S")
    t.api("CONSUMER.DELETE.S.a")
    t.api("CONSUMER.DELETE.S.a")
    t.api("STREAM.INFO.S")


@conversation
def where_they_begin(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.a", "s.b", "s.c")
    for number, config in enumerate(
        (
            {"deliver_policy": "all"},
            {"deliver_policy": "new"},
            {"deliver_policy": "last"},
            {"deliver_policy": "last", "filter_subject": "s.a"},
            {"deliver_policy": "last_per_subject", "filter_subject": "s.>"},
            {"deliver_policy": "last_per_subject", "filter_subjects": ["s.a", "s.c"]},
            {"deliver_policy": "by_start_sequence", "opt_start_seq": 3},
            {"deliver_policy": "by_start_sequence", "opt_start_seq": 9},
            {"deliver_policy": "by_start_time", "opt_start_time": "2000-01-01T00:00:00Z"},
            {"deliver_policy": "all", "filter_subjects": ["s.b", "s.c"]},
        )
    ):
        name = f"c{number}"
        t.consumer(name, **config)
        t.pull(name, 9, name, no_wait=True)
        t.info(name)
        t.silence(name, 0.05)
    for number, count in enumerate((5, 0, 0, 0, 2, 1, 2, 0, 4, 2)):
        t.collect(f"c{number}", count)


@conversation
def the_last_of_each_subject_and_what_comes_then(t: Talk) -> None:
    t.counting = False
    t.stream()
    t.store("s.a", "s.b", "s.a")
    t.consumer(deliver_policy="last_per_subject", filter_subject="s.>", ack_policy="none")
    t.pull("a", 9, expires=2_000_000_000)
    t.collect("a", 2)
    t.info()
    t.store("s.b", "s.a")
    t.collect("a", 2)


@conversation
def headers_only(t: Talk) -> None:
    t.stream()
    t.store("s.a")
    t.store("s.b", With="headers")
    t.consumer(headers_only=True)
    t.pull("a", 2)
    t.collect("a", 2)


@conversation
def paused(t: Talk) -> None:
    t.stream()
    t.store("s.a")
    t.consumer()
    t.api("CONSUMER.PAUSE.S.c", pause_until="2100-01-01T00:00:00Z")
    t.info()
    t.pull("a", expires=200_000_000)
    t.pull("b", no_wait=True)
    t.collect("a", 1)
    t.collect("b", 1)
    t.pull("c", expires=2_000_000_000)
    t.api("CONSUMER.PAUSE.S.c")
    t.collect("c", 1)
    t.api("CONSUMER.PAUSE.S.d")


@conversation
def begun_anew(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.c")
    t.consumer()
    t.pull("a", 3)
    for message in t.collect("a", 3)[:1]:
        t.ack(message)
    t.api("CONSUMER.RESET.S.c")
    t.pull("b", 2)
    t.collect("b", 2)
    t.api("CONSUMER.RESET.S.c", seq=3)
    t.pull("c", 1)
    t.collect("c", 1)
    t.consumer("d", deliver_policy="by_start_sequence", opt_start_seq=2)
    t.api("CONSUMER.RESET.S.d", seq=1)
    t.consumer("e", deliver_policy="new")
    t.api("CONSUMER.RESET.S.e", seq=1)


@conversation
def nobody_wants_anything(t: Talk) -> None:
    t.stream()
    body = {"stream_name": "S", "config": {"name": "c", "inactive_threshold": 200_000_000}}
    t.api("CONSUMER.CREATE.S.c", body)
    t.pull("a", expires=100_000_000)
    t.collect("a", 1)
    t.silence("a", 1.5)
    t.info()


@conversation
def work_queues(t: Talk) -> None:
    t.stream(retention="workqueue")
    t.consumer("none", ack_policy="none")
    t.consumer("new", deliver_policy="new")
    t.consumer("a", filter_subject="s.a")
    t.consumer("all")
    t.consumer("aa", filter_subject="s.*")
    t.consumer("b", filter_subject="s.b")
    t.store("s.a", "s.b")
    t.pull("x", consumer="a")
    t.ack(t.collect("x", 1)[0])
    t.api("STREAM.INFO.S")


@conversation
def streams_of_interest(t: Talk) -> None:
    t.stream(retention="interest")
    t.store("s.a")
    t.consumer("a")
    t.consumer("b")
    t.store("s.a")
    t.pull("x", consumer="a")
    t.pull("y", consumer="b")
    t.ack(t.collect("x", 1)[0])
    t.api("STREAM.INFO.S")
    t.ack(t.collect("y", 1)[0])
    t.api("STREAM.INFO.S")
