"""What consumers deliver, counted and given by the quick way: both twins, and the machines that have it."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from typing import Any, Literal

import msgspec
import pytest

from nats_proto import Message
from nats_proto._consuming import consume as consume_module
from nats_proto._consuming import fetch as fetch_module
from nats_proto._consuming import ordered as ordered_module
from nats_proto._consuming.consume import Consume
from nats_proto._consuming.fetch import Fetch
from nats_proto._consuming.options import ConsumeOptions, Priority
from tests.proto.consuming import NOW, SUBJECT, Inboxes, delivered, requests, status
from tests.proto.test_consuming_ordered import Reading
from tests.twins import Twin


class Given(Message, eq=False):
    """A client's class of messages: what a message has, and what its maker adds."""

    client: object = None
    writing: object = None
    delivery: object = None
    received: float = 0.0


MARK = Message("", 1, None, b"")


def account(twin: Twin, *messages: Message, make: Any = None, **numbers: Any) -> Any:
    """One with these messages in its queue, from which all may be taken; ``numbers`` are what differs from that."""
    one = twin.deliveries(make or twin.message_maker(Given, "client", "writing", "delivery"), [], [])
    one.plain, one.messages, one.queue = True, 100, deque(messages)
    for name, value in numbers.items():
        setattr(one, name, value)
    return one


def test_the_maker_makes_what_a_client_gives(twin: Twin) -> None:
    make = twin.message_maker(Given, "client", "writing", "first")
    message = delivered(7, block=b"NATS/1.0\r\nA: 1\r\n\r\n")
    assert message.headers is not None  # parsed once
    given: Any = make(message, 5.0)
    assert type(given) is Given
    assert (given.subject, given.sid, given.reply, given.data) == ("orders.new", 1, message.reply, b"x")
    assert given.header_block is message.header_block
    assert given.parsed is message.parsed
    assert (given.client, given.writing, given.delivery, given.received) == ("client", "writing", "first", 5.0)
    assert make.delivery == "first"
    make.delivery = "second"
    changed: Any = make(message, 6.0)
    assert (changed.delivery, changed.received) == ("second", 6.0)


def test_a_message_that_is_taken_is_counted(twin: Twin) -> None:
    one = account(twin, delivered(1), delivered(2), delivered(3), left=50, budget=40)
    first: Any = one.take(NOW)
    assert type(first) is Given
    assert (first.reply, first.received) == (delivered(1).reply, NOW)
    assert (one.messages, one.left, one.budget, one.heard, one.newest) == (99, 49, 39, NOW, first.reply)
    second: Any = one.take(NOW + 1)
    assert (second.reply, one.heard, one.newest) == (delivered(2).reply, NOW + 1, second.reply)
    assert (one.messages, one.left, one.budget) == (98, 48, 38)
    assert list(one.queue) == [delivered(3)]


@pytest.mark.parametrize(
    "numbers",
    [
        {"plain": False},
        {"queue": None},
        {"queue": deque()},
        {"queue": deque([delivered(1)])},
        {"queue": deque([MARK, delivered(2)])},
        {"queue": deque([status("in.1.1", "100 Idle Heartbeat"), delivered(2)])},
        {"queue": deque([Message("", 1, "reply", b""), delivered(2)])},
        {"budget": 0},
        {"left": 1},
        {"left": 0},
        {"low": 99},
        {"messages": 0, "low": -1},
        {"look_at": NOW},
        {"look_at": NOW - 1},
    ],
    ids=lambda numbers: "-".join(f"{name} {value}"[:24] for name, value in numbers.items()),
)
def test_what_the_machine_has_to_see_is_left_to_it(twin: Twin, numbers: dict[str, Any]) -> None:
    one = account(twin, delivered(1), delivered(2), **numbers)
    names = ("messages", "left", "budget", "heard", "newest", "low", "look_at", "queue")
    before = [getattr(one, name) for name in names]
    queued = None if one.queue is None else list(one.queue)
    assert one.take(NOW) is None
    assert [getattr(one, name) for name in names] == before
    assert queued is None or list(one.queue) == queued


@pytest.mark.parametrize("numbers", [{"low": 98}, {"left": 2}, {"budget": 1}, {"look_at": NOW + 0.001}])
def test_right_before_that_it_is_taken(twin: Twin, numbers: dict[str, Any]) -> None:
    one = account(twin, delivered(1), delivered(2), delivered(3), **numbers)
    assert one.take(NOW) is not None
    if "look_at" not in numbers:
        assert one.take(NOW) is None
    assert len(one.queue) == 2


@pytest.mark.parametrize("waiting", ["items", "wants"])
def test_while_the_machine_has_more_to_do_nothing_is_taken(twin: Twin, waiting: Literal["items", "wants"]) -> None:
    lists: dict[str, list[object]] = {"items": [], "wants": []}
    one: Any = twin.deliveries(twin.message_maker(Given, None, None, None), lists["items"], lists["wants"])
    one.plain, one.messages, one.queue = True, 100, deque([delivered(1), delivered(2), delivered(3)])
    lists[waiting].append("something")
    assert one.take(NOW) is None
    lists[waiting].clear()
    assert one.take(NOW) is not None


def test_what_a_user_may_have_written_is_not_called_on_the_quick_way(twin: Twin) -> None:
    called: list[Message] = []

    def make(message: Message, now: float) -> Message:
        called.append(message)
        return message

    one = account(twin, delivered(1), delivered(2), make=make)
    assert one.take(NOW) is None
    assert called == []
    assert twin.deliveries().take(NOW) is None


def test_what_cannot_be_made_is_not_taken(twin: Twin) -> None:
    class Refuses(msgspec.Struct):
        """Takes fewer arguments."""

    one = account(twin, delivered(1), delivered(2), make=twin.message_maker(Refuses, None, None, None))
    with pytest.raises(TypeError):
        one.take(NOW)
    assert len(one.queue) == 2
    assert one.messages == 100


def test_misuse_is_a_type_error(twin: Twin) -> None:
    one = account(twin, delivered(1), delivered(2))
    with pytest.raises(TypeError):
        one.take("now")


def test_what_it_holds_is_found_by_the_collector(twin: Twin) -> None:
    class Client:
        pass

    client: Any = Client()
    client.account = account(twin, make=twin.message_maker(Given, client, None, client))
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None


# --- the machines ----------------------------------------------------------------------------------------------------


def machines(twin: Twin, way: str, monkeypatch: pytest.MonkeyPatch, **given: Any) -> list[Any]:
    """Two that are alike."""
    monkeypatch.setattr(consume_module, "Deliveries", twin.deliveries)
    monkeypatch.setattr(fetch_module, "Deliveries", twin.deliveries)
    make = twin.message_maker(Given, None, None, None)
    common: dict[str, Any] = {"what": "reading", "make": make}
    if way == "fetch":
        fetches = [Fetch(SUBJECT, batch=20, timeout=5.0, new_inbox=Inboxes(), **common, **given) for _ in range(2)]
        for machine in fetches:
            machine.begin(now=NOW)
        return fetches
    options = ConsumeOptions(max_messages=20, **given)
    return [Consume(SUBJECT, options, new_inbox=Inboxes(), now=NOW, **common) for _ in range(2)]


def shown(machine: Any) -> tuple[object, ...]:
    items = [(item.subject, item.reply, item.data, item.received) for item in machine.items]
    one = machine.account
    return (
        *(items, requests(machine.wants), machine.done, repr(machine.error), machine.next_timeout()),
        *(one.messages, one.heard, one.left if one.left < 1000 else None, one.low, one.look_at),
    )


ORDINARY: dict[str, Any] = {}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("fetch", ORDINARY),
    ("fetch", {"linger": 1.0}),
    ("fetch", {"max_bytes": 100_000}),
    ("fetch", {"priority": Priority(group="g")}),
    ("consume", ORDINARY),
    ("consume", {"threshold": 20}),
    ("consume", {"threshold": 1}),
    ("consume", {"limit": 30}),
    ("consume", {"max_bytes": 100_000}),
    ("consume", {"ack_wait": 4.0}),
    ("consume", {"priority": Priority(group="g"), "priority_timeout": 10.0}),
]


@pytest.mark.parametrize(("way", "given"), CASES, ids=lambda case: str(case))
def test_the_quick_way_is_the_same_as_to_receive(
    twin: Twin, way: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taken, what is asked for, and the accounts: message by message, with statuses in between."""
    strict, quick = machines(twin, way, monkeypatch, **given)
    for machine in (strict, quick):
        machine.wants.clear()
    messages = [delivered(number, data=b"x" * number) for number in range(1, 61)]
    for at in (13, 27, 28):
        messages[at] = status("in.1.1", "100 Idle Heartbeat")
    queue = quick.account.queue = deque(messages)
    taken = 0
    for number, message in enumerate(messages):
        now = NOW + number / 10
        strict.receive(message, now=now)
        item = quick.account.take(now)
        if item is None:
            quick.receive(queue.popleft(), now=now)
        else:
            taken += 1
            quick.items.append(item)
        assert shown(quick) == shown(strict)
        for machine in (strict, quick):
            machine.items.clear()
            machine.wants.clear()
        assert len(queue) == len(messages) - number - 1
    # What is given is nothing but one less, or it is not taken so; else this test would test nothing.
    plain = given in (ORDINARY, {"threshold": 20}, {"threshold": 1}, {"ack_wait": 4.0})
    assert (taken > 5) == (plain and given != {"threshold": 20})


def test_a_fetch_that_has_ended_gives_nothing_more(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, _ = machines(twin, "fetch", monkeypatch)
    machine.wants.clear()
    messages = [delivered(number) for number in range(30)]
    queue = machine.account.queue = deque(messages)
    taken = 0
    while machine.account.take(NOW) is not None:
        taken += 1
    assert taken == 19  # the last one is the machine's
    machine.receive(queue.popleft(), now=NOW)
    assert (machine.done, machine.reason) == (True, "limit")
    machine.items.clear()
    assert machine.account.take(NOW) is None


# --- in order --------------------------------------------------------------------------------------------------------


def in_order(
    twin: Twin, reply: str | None, *, expected: int = 7, sequence: int = 40, prefix: Any = "$JS.ACK.S.C."
) -> Any:
    one = account(twin, Message("a", 1, reply, b"x"), delivered(2))
    one.prefix, one.expected, one.sequence = prefix, expected, sequence
    return one


@pytest.mark.parametrize(
    ("reply", "sequence"),
    [
        ("$JS.ACK.S.C.1.41.7.1700000000000000000.5", 41),
        ("$JS.ACK.S.C.1.41.7.", 41),
        ("$JS.ACK.S.C.3.99.7.x.y.z", 99),
        (f"$JS.ACK.S.C.1.{10**18 - 1}.7.1.0", 10**18 - 1),
        ("$JS.ACK.S.C.1.0041.07.1.0", 41),
    ],
)
def test_the_next_message_is_taken(twin: Twin, reply: str, sequence: int) -> None:
    one = in_order(twin, reply)
    taken = one.take(NOW)
    assert taken is not None
    assert (one.expected, one.sequence, one.newest) == (8, sequence, reply)


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.S.C.1.41.8.1.0",  # one is missing
        "$JS.ACK.S.C.1.41.6.1.0",  # it was given
        "$JS.ACK.S.C.1.40.7.1.0",  # as the last one
        "$JS.ACK.S.C.1.39.7.1.0",
        "$JS.ACK.S.C.1.0.7.1.0",
        "$JS.ACK.S.D.1.41.7.1.0",  # another consumer's
        "$JS.ACK.S.CC.1.41.7.1.0",
        "$JS.ACK.domain.hash.S.C.1.41.7.1.0.x",
        "$JS.ACK.S.C.1.41.7",
        "$JS.ACK.S.C.1.41.",
        "$JS.ACK.S.C.1.41",
        "$JS.ACK.S.C.",
        "$JS.ACK.S.C",
        "",
        "$JS.ACK.S.C.x.41.7.1.0",
        "$JS.ACK.S.C..41.7.1.0",
        "$JS.ACK.S.C.1.4x.7.1.0",
        "$JS.ACK.S.C.1.41.7x.1.0",
        "$JS.ACK.S.C.1.+41.7.1.0",
        "$JS.ACK.S.C.1.-41.7.1.0",
        "$JS.ACK.S.C.1.4_1.7.1.0",
        "$JS.ACK.S.C.1. 41.7.1.0",
        "$JS.ACK.S.C.1.\u0664\u0661.7.1.0",
        f"$JS.ACK.S.C.1.{10**18}.7.1.0",
        f"$JS.ACK.S.C.1.{2**63}.7.1.0",
        f"$JS.ACK.S.C.1.{2**64 + 41}.7.1.0",
        f"$JS.ACK.S.C.1.41.{2**64 + 7}.1.0",
        f"$JS.ACK.S.C.{'1' * 400}.41.7.1.0",
    ],
)
def test_what_is_not_plainly_the_next_one_is_left_to_the_machine(twin: Twin, reply: str) -> None:
    one = in_order(twin, reply)
    assert one.take(NOW) is None
    assert (one.expected, one.sequence, one.newest, one.messages, len(one.queue)) == (7, 40, None, 100, 2)


def test_what_cannot_be_compared_is_left_to_the_machine(twin: Twin) -> None:
    one = in_order(twin, "$JS.ACK.S.\u00fc.1.41.7.1.0", prefix="$JS.ACK.S.\u00fc.")
    assert one.prefix == "$JS.ACK.S.\u00fc."
    if twin.name == "compiled":
        assert one.take(NOW) is None
    else:
        assert one.take(NOW) is not None


def test_the_quick_way_in_order_is_the_same_as_to_receive(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hole, and a double behind the next consumer's beginning."""
    monkeypatch.setattr(ordered_module, "Deliveries", twin.deliveries)
    strict, quick = (Reading(make=twin.message_maker(Given, None, None, None)) for _ in range(2))
    for one in (strict, quick):
        one.answer("CREATE")

    def offer(consumer: int, stream: int) -> bool:
        """To both; whether it was taken quickly."""
        now = strict.now = quick.now = strict.now + 0.01
        reply = f"$JS.ACK.S.{quick.name}.1.{stream}.{consumer}.1700000000000000000.{100 - stream}"
        message = Message("a", 1, reply, b"%d" % stream)
        strict.machine.receive(message, now=now)
        quick.machine.account.queue = deque([message, message])
        item = quick.machine.account.take(now)
        if item is None:
            quick.machine.receive(message, now=now)
        else:
            quick.machine.items.append(item)
        for one in (strict, quick):
            one.look()
        states = [
            (
                *([(item.reply, item.received) for item in one.machine.items], one.machine.sequence, one.machine.told),
                *(
                    one.machine.pending,
                    one.machine.next_timeout(),
                    len(one.asked),
                    len(one.pulled),
                    one.machine.reading,
                ),
            )
            for one in (strict, quick)
        ]
        assert states[0] == states[1]
        for one in (strict, quick):
            one.machine.items.clear()
        return item is not None

    taken = [offer(number, number + 3) for number in range(1, 30)]
    assert taken.count(True) > 15
    assert not offer(31, 34)  # one is missing
    assert not quick.machine.reading
    quick.machine.account.messages = 10
    assert not offer(30, 33)  # nobody reads that consumer any more
    told = quick.machine.told
    assert told == (1_700_000_000_000_000_000, 100 - 32)
    for one in (strict, quick):
        one.answer("DELETE")
        one.wait()
        one.answer("CREATE")
    assert quick.machine.sequence == 32
    assert quick.machine.told == told  # of the last message that was given, whoever has delivered it
    assert not offer(1, 31)  # the consumer began too early
    assert quick.machine.told == told
    assert not offer(2, 32)
    assert quick.machine.told == told
    assert offer(3, 33)
    assert offer(4, 35)
    assert quick.machine.sequence == 35
