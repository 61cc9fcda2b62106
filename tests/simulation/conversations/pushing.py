"""Push consumers: who listens, flow control, heart-beats."""

from __future__ import annotations

from .talk import Talk, conversation


@conversation
def pushed(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b")
    t.listen("to")
    t.consumer(deliver_subject="to")
    first, _ = t.collect("to", 2)
    t.ack(first)
    t.store("s.c")
    t.collect("to", 1)
    t.info()


@conversation
def pushed_once_somebody_listens(t: Talk) -> None:
    t.stream()
    t.store("s.a")
    t.consumer(deliver_subject="to")
    t.info()
    t.listen("to")
    t.collect("to", 1)
    t.info()


@conversation
def pushed_to_a_group(t: Talk) -> None:
    t.stream()
    t.store("s.a")
    t.listen("to", queue="g")
    t.consumer(deliver_subject="to", deliver_group="g")
    t.collect("to", 1)
    t.info()


@conversation
def pushed_up_to_the_ack_limit(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.c")
    t.listen("to")
    t.consumer(deliver_subject="to", max_ack_pending=2)
    first, _ = t.collect("to", 2)
    t.silence("to")
    t.ack(first)
    t.collect("to", 1)


@conversation
def pushed_again(t: Talk) -> None:
    t.stream()
    t.store("s.a")
    t.listen("to")
    t.consumer(deliver_subject="to", ack_wait=300_000_000)
    t.collect("to", 1)
    second = t.collect("to", 1)[0]
    t.ack(second)
    t.silence("to", 0.5)
    t.info()


@conversation
def beats_of_a_push_consumer(t: Talk) -> None:
    t.stream()
    t.store("s.a")
    t.listen("to")
    t.consumer(deliver_subject="to", ack_policy="none", idle_heartbeat=200_000_000)
    t.collect("to", 3)


@conversation
def flow_control(t: Talk) -> None:
    t.counting = False
    t.stream()
    t.listen("to")
    t.consumer(deliver_subject="to", ack_policy="none", idle_heartbeat=400_000_000, flow_control=True)
    for number in range(5):
        t.store(f"s.{number}", data=b"x" * 500_000)
    found = t.collect("to", 6)
    asked = next(message for message in found if message.reply and ".FC." in message.reply)
    t.collect("to", 1)
    assert asked.reply is not None
    t.publish(asked.reply)
    t.store("s.9")
    t.collect("to", 1)


@conversation
def what_ordered_consumers_need(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.a")
    config = {
        "name": "o", "deliver_policy": "by_start_sequence", "opt_start_seq": 2, "ack_policy": "none", "max_deliver": 1,
        "mem_storage": True, "num_replicas": 1, "inactive_threshold": 5_000_000_000, "filter_subjects": ["s.>"],
    }  # fmt: skip
    t.api("CONSUMER.CREATE.S.o", {"stream_name": "S", "config": config, "action": "create"})
    t.pull("a", 5, consumer="o", expires=3_000_000_000, idle_heartbeat=1_000_000_000)
    t.collect("a", 2)
    t.info("o")
    t.api("CONSUMER.DELETE.S.o")
    t.collect("a", 1)
