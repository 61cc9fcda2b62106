"""The checker finds each lie that is planted, by its name, and none in an honest history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

import pytest

from nats_proto.errors import ConnectionLostError, NATSError, NATSTimeoutError, NoRespondersError
from tests.jetstream.checker import LISTED, Check, Final, check
from tests.jetstream.history import Entry, History, Kind, Stored


@dataclass
class World:
    """An honest run, whose parts a test bends: a pipelined and a plain publisher, a worker, an ordered reader."""

    history: History = field(default_factory=lambda: History(now=count(1.0).__next__))
    final: Final = field(default_factory=lambda: Final(consumer=True))

    def store(self, payload: str, *, subject: str = "", msg_id: str | None = None, time: float | None = None) -> int:
        stream = self.final.stream
        sequence = stream[-1].sequence + 1 if stream else 1
        when = float(sequence) if time is None else time
        one = Stored(sequence=sequence, payload=payload, subject=subject, msg_id=msg_id, time=when)
        self.final = replace(self.final, stream=(*stream, one))
        return sequence

    def write(self, payload: str, kind: Kind = "publish", *, subject: str = "s", expected: int | None = None) -> Entry:
        """One write that is done and acknowledged."""
        entry = self.history.invoke(
            kind, "one", payload=payload, subject=subject, expected_last_subject_sequence=expected
        )
        entry.ok(self.store(payload, subject=subject))
        return entry

    def remove(self, payload: str) -> None:
        self.final = replace(self.final, stream=[one for one in self.final.stream if one.payload != payload])

    def checks(self) -> set[Check]:
        return {violation.check for violation in check(self.history, self.final)}


def honest() -> World:
    world = World()
    history = world.history
    # Two at once, whose acknowledgements come in the other order.
    first = history.invoke("publish", "fast", payload="a", msg_id="a", pipelined=True)
    second = history.invoke("publish", "fast", payload="b", msg_id="b", pipelined=True)
    one, two = world.store("a", msg_id="a"), world.store("b", msg_id="b")
    second.ok(two)
    first.ok(one)
    for payload in "cd":
        world.write(payload)
    history.invoke("publish", "one", payload="refused").fails(NoRespondersError("nobody", "s"))
    history.invoke("publish", "one", payload="late").fails(NATSTimeoutError("late"))
    world.store("late")
    history.invoke("publish", "one", payload="vanished").fails(ConnectionLostError("cut"))
    # A second process publishes under an id that is taken.
    history.invoke("publish", "two", payload="a again", msg_id="a").ok(one, duplicate=True)
    on_top = history.invoke("publish", "two", payload="e", subject="s", expected_last_sequence=5)
    on_top.ok(world.store("e", subject="s"))
    history.invoke("publish", "two", payload="f", expected_last_sequence=5).fails(refusal())
    for stored in world.final.stream:
        history.delivered("worker", stored.sequence, stored.payload)
        history.delivered("reader", stored.sequence, stored.payload, ordered=True)
    history.delivered("worker", 1, "a")  # redelivered, which a server may do
    return world


def refusal() -> NATSError:
    error = NATSError("wrong last sequence")
    error.outcome = "failed"
    return error


def keys() -> World:
    world = World(final=Final(deletes=frozenset({"gone"})))
    first = world.write("1", "create", subject="k")
    world.write("2", "update", subject="k", expected=first.sequence)
    world.write("3", "put", subject="k")
    world.write("gone", "delete", subject="k")
    world.write("4", "create", subject="k")
    world.write("other", "create", subject="l")
    world.history.invoke("create", "two", payload="lost", subject="k").fails(refusal())
    get = world.history.invoke("get", "two", subject="k")
    get.ok(3, value="3")
    return world


def objects() -> World:
    world = World(final=Final())
    put = world.history.invoke("object_put", "one", payload="old", subject="o")
    put.ok()
    world.history.invoke("object_put", "one", payload="new", subject="o").fails(NATSTimeoutError("late"))
    world.history.invoke("object_get", "two", subject="o").ok(value="new")
    world.history.invoke("object_get", "two", subject="o").fails(NATSError("digest"))
    return world


@pytest.mark.parametrize("world", [honest, keys, objects])
def test_an_honest_history_has_no_violation(world: Callable[[], World]) -> None:
    made = world()
    assert check(made.history, made.final) == []


# --- planted --------------------------------------------------------------------------------------------------------


def unended(world: World) -> None:
    world.history.invoke("publish", "one", payload="g")


def acked_removed(world: World) -> None:
    world.remove("c")


def failed_stored(world: World) -> None:
    world.store("refused")


def from_nowhere(world: World) -> None:
    world.store("nobody's")


def doubled_with_id(world: World) -> None:
    world.store("a", msg_id="a")


def doubled_without_id(world: World) -> None:
    world.store("late", time=1e9)


def doubled_under_one_id(world: World) -> None:
    world.store("a again", msg_id="a")


def acked_elsewhere(world: World) -> None:
    entry_of(world, "d").sequence = 1


def acked_where_nothing_is(world: World) -> None:
    entry_of(world, "d").sequence = 99


def swapped(world: World) -> None:
    """The stream has "d" before "c", which was acknowledged before "d" was sent."""
    one, other = entry_of(world, "c"), entry_of(world, "d")
    one.sequence, other.sequence = other.sequence, one.sequence
    places = {"c": one.sequence, "d": other.sequence}
    moved = [replace(stored, sequence=places.get(stored.payload, stored.sequence)) for stored in world.final.stream]
    world.final = replace(world.final, stream=sorted(moved, key=lambda stored: stored.sequence))


def blindly_retried(world: World) -> None:
    """It was refused for its expectation, and stored by a second try with another one."""
    entry = world.history.invoke("publish", "two", payload="g", expected_last_sequence=4)
    entry.ok(world.store("g"))


def blindly_retried_on_its_subject(world: World) -> None:
    entry = world.history.invoke("publish", "two", payload="g", subject="s", expected_last_subject_sequence=2)
    entry.ok(world.store("g", subject="s"))


def blindly_retried_with_unknown_end(world: World) -> None:
    entry = world.history.invoke("publish", "two", payload="g", expected_last_sequence=4)
    entry.fails(NATSTimeoutError("late"))
    world.store("g")


def not_delivered(world: World) -> None:
    world.history.entries = [
        entry for entry in world.history.entries if (entry.kind, entry.payload) != ("deliver", "d")
    ]


def not_delivered_by_one_of_two(world: World) -> None:
    for stored in world.final.stream[1:]:
        world.history.delivered("another worker", stored.sequence, stored.payload)


def delivered_too_much(world: World) -> None:
    world.history.delivered("worker", 77, "invented")


def delivered_with_other_bytes(world: World) -> None:
    world.history.delivered("worker", 1, "b")


def hole_in_an_ordered_read(world: World) -> None:
    world.history.entries = [entry for entry in world.history.entries if (entry.kind, entry.payload) != ("read", "d")]


def read_twice(world: World) -> None:
    world.history.delivered("reader", 2, "b", ordered=True)


def read_out_of_order(world: World) -> None:
    reads = world.history.of("read")
    one, other = (world.history.entries.index(reads[place]) for place in (1, 2))
    entries = world.history.entries
    entries[one], entries[other] = entries[other], entries[one]


def entry_of(world: World, payload: str) -> Entry:
    return next(entry for entry in world.history.of("publish") if entry.payload == payload)


# The last message is not yet delivered when a planted one comes on top: so two checks speak of it.
UNREAD: set[Check] = {"never delivered"}


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (unended, {"never ended"}),
        (acked_removed, {"acked but lost", "delivered by nobody"}),
        (failed_stored, {"failed but stored", *UNREAD}),
        (from_nowhere, {"stored by nobody", *UNREAD}),
        (doubled_with_id, {"double", *UNREAD}),
        (doubled_without_id, {"double", *UNREAD}),
        (doubled_under_one_id, {"double", *UNREAD}),
        (acked_elsewhere, {"wrong position", "order"}),
        (acked_where_nothing_is, {"wrong position", "order"}),
        (swapped, {"order", "delivered by nobody"}),
        (blindly_retried, {"blind retry", *UNREAD}),
        (blindly_retried_on_its_subject, {"blind retry", *UNREAD}),
        (blindly_retried_with_unknown_end, {"blind retry", *UNREAD}),
        (not_delivered, {"never delivered"}),
        (not_delivered_by_one_of_two, {"never delivered"}),
        (delivered_too_much, {"delivered by nobody"}),
        (delivered_with_other_bytes, {"delivered by nobody"}),
        (hole_in_an_ordered_read, {"hole"}),
        (read_twice, {"ordered twice"}),
        (read_out_of_order, {"not ordered"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_violation_is_found(plant: Callable[[World], None], found: set[Check]) -> None:
    world = honest()
    plant(world)
    assert world.checks() == found


def created_twice(world: World) -> None:
    world.write("5", "create", subject="k")


def updated_over_another(world: World) -> None:
    world.write("5", "update", subject="k", expected=1)


def updated_from_nothing(world: World) -> None:
    world.write("5", "update", subject="m", expected=1)


def got_what_was_never_there(world: World) -> None:
    world.history.invoke("get", "two", subject="k").ok(3, value="2")


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (created_twice, {"create won twice"}),
        (updated_over_another, {"stale update"}),
        (updated_from_nothing, {"stale update"}),
        (got_what_was_never_there, {"wrong value"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_violation_of_keys_is_found(plant: Callable[[World], None], found: set[Check]) -> None:
    world = keys()
    plant(world)
    assert world.checks() == found


def test_a_wrong_object_is_found() -> None:
    world = objects()
    world.history.invoke("object_get", "two", subject="o").ok(value="half of each")
    assert world.checks() == {"wrong object"}


def test_an_id_may_come_again_outside_its_window() -> None:
    world = honest()
    again = world.history.invoke("publish", "two", payload="much later", msg_id="a")
    again.ok(world.store("much later", msg_id="a", time=1e6))
    world.history.delivered("worker", again.sequence, "much later")
    assert world.checks() == set()


def test_pending_messages_are_not_missing() -> None:
    world = honest()
    world.write("g")
    world.final = replace(world.final, pending=1)
    assert world.checks() == set()


def test_many_cases_of_one_kind_are_counted() -> None:
    world = honest()
    for number in range(LISTED + 3):
        world.history.invoke("publish", "one", payload=f"{number}")
    told = check(world.history, world.final)
    assert len(told) == LISTED + 1
    assert told[-1].text == "... and 3 more"


def test_an_operation_ends_once() -> None:
    entry = History().invoke("publish", "one", payload="a")
    entry.ok(1)
    with pytest.raises(AssertionError, match="a second time"):
        entry.fails(NATSTimeoutError("late"))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(NoRespondersError("nobody", "s"), "failed"), (NATSTimeoutError("late"), "unknown"), (RuntimeError(), "unknown")],
)
def test_the_class_of_the_error_says_what_it_means(error: Exception, outcome: str) -> None:
    entry = History().invoke("publish", "one", payload="a")
    entry.fails(error)
    assert entry.outcome == outcome


def test_counts() -> None:
    world = honest()
    assert world.history.counts() == {"ok": 6, "failed": 2, "unknown": 2, "never ended": 0}
