"""Ordered readers in the simulated world: whatever happens to links, servers and consumers, no hole and no double.

Seeds of a world in virtual time, and rules of hypothesis: connections are cut, the consumer is deleted, JetStream says
nothing for a while, the consumer loses messages, the reader is slow. After each of them the promises hold; and when all
is well again, everything comes, soon.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nats_proto import ConnectOptions, Message
from nats_proto._consuming.ordered import Ordered
from nats_proto._consuming.ordered_calls import OrderedCalls, ordered_config, ordered_options
from nats_proto._jetstream.api import JetStreamApi
from tests.simulation.knobs import Knobs
from tests.simulation.machine_driver import MachineDriver
from tests.simulation.machine_world import JetStreamCluster, MachineClient
from tests.simulation.server import Peer
from tests.simulation.world import World

MOST = 2
"""Consumers of one reader at a time."""


class LossyCluster(JetStreamCluster):
    """Messages and answers to clients get lost with a chance, and requests to JetStream for a while."""

    loss = 0.0
    deaf = False

    def deliver(
        self,
        to: str,
        subject: str,
        data: bytes,
        reply: str | None,
        block: bytes | None,
        origin: Peer | None = None,
    ) -> bool:
        if self.loss and self.world.chance(self.loss):
            return True
        return super().deliver(to, subject, data, reply, block, origin)

    def _to_jetstream(
        self, subject: str, data: bytes, reply: str | None, block: bytes | None, heard: bool, origin: Peer | None
    ) -> None:
        if not self.deaf:
            super()._to_jetstream(subject, data, reply, block, heard, origin)


class Reader:
    """One reader of one stream, in a world of its own."""

    def __init__(self, seed: int, *, max_messages: int = 20) -> None:
        self.world = World(seed)
        knobs = Knobs(ConnectOptions(reconnect_wait=0.1, reconnect_jitter=0.0))
        self.cluster = LossyCluster(self.world, knobs)
        self.client = MachineClient(self.world, self.cluster, knobs, 1)
        self.stored = 0
        self.given: list[int] = []
        self.rng = Random(seed)
        self.most_alive = 0
        self.slow = False
        self._ask("$JS.API.STREAM.CREATE.S", b'{"name":"S","subjects":["a"]}')
        api = JetStreamApi(
            now=lambda: self.world.now,
            new_inbox=lambda: f"inbox.{self.rng.getrandbits(60):x}",
            server_version=lambda: "2.15.1",
        )
        options = ordered_options(
            max_messages=max_messages, max_bytes=None, threshold=None, expires=10.0, heartbeat=1.0
        )
        self.machine: Ordered[Message, int] = Ordered(
            OrderedCalls(api, "S", ordered_config()),
            options,
            make=lambda message, _: int(message.data),
            now=self.world.now,
        )
        self.driver: MachineDriver[int] = MachineDriver(self.client, self.machine, self._give)
        self.client.drivers.append(self.driver)  # type: ignore[arg-type]  # what it gives is nobody's concern there
        self.client.connect()
        self.driver.wait()
        self.run(1.0)  # the first consumer is made; without one the reader would give up
        assert self.machine.info is not None

    def _ask(self, subject: str, data: bytes = b"") -> None:
        self.cluster.jetstream.receive(subject, "nobody", None, data, self.world.now)
        self.cluster.changed()

    def _give(self, number: int) -> None:
        self.given.append(number)
        if self.slow:
            self.world.after(self.rng.random(), self.driver.wait)
        else:
            self.driver.wait()

    @property
    def alive(self) -> list[str]:
        stream: Any = self.cluster.jetstream.streams["S"]
        return list(stream.consumers)

    def store(self, count: int) -> None:
        for _ in range(count):
            self.stored += 1
            self.cluster.store("a", b"%d" % self.stored)

    def delete_consumers(self) -> None:
        for name in self.alive:
            self._ask(f"$JS.API.CONSUMER.DELETE.S.{name}")

    def cut(self) -> None:
        if self.client.transport is not None:
            self.client.transport.reset()

    def run(self, seconds: float) -> None:
        until = self.world.now + seconds
        while self.world.now < until:
            self.world.run(min(until, self.world.now + 0.05))
            self.check()

    def check(self) -> None:
        self.most_alive = max(self.most_alive, len(self.alive))
        assert len(self.alive) <= MOST, self.alive
        assert self.given == list(range(1, len(self.given) + 1))
        assert not self.driver.ended, self.driver.error

    def heal(self) -> None:
        """All is well again: everything comes. The longest pause, silence, and a call that is lost may come before."""
        self.cluster.loss, self.cluster.deaf, self.slow = 0.0, False, False
        self.store(3)
        self.run(60.0)
        assert len(self.given) == self.stored


@pytest.mark.parametrize("seed", range(25))
def test_no_hole_and_no_double(seed: int) -> None:
    reader = Reader(seed)
    for _ in range(12):
        reader.store(reader.rng.randrange(40))
        match reader.rng.randrange(6):
            case 0:
                reader.cut()
            case 1:
                reader.delete_consumers()
            case 2:
                reader.cluster.loss = reader.rng.choice([0.0, 0.02, 0.3])
            case 3:
                reader.cluster.deaf = not reader.cluster.deaf
            case 4:
                reader.slow = not reader.slow
            case _:
                pass
        reader.run(reader.rng.choice([0.1, 1.0, 5.0, 20.0]))
    reader.heal()


def test_the_world_is_bad_enough() -> None:
    reader = Reader(3)
    for _ in range(5):
        reader.store(30)
        reader.cluster.loss = 0.2
        reader.run(20.0)
    assert reader.machine.rebuilt >= 3


class OrderedRules(RuleBasedStateMachine):
    """Any order of faults."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = Reader(0, max_messages=5)

    @rule(count=st.integers(1, 20))
    def store(self, count: int) -> None:
        self.reader.store(count)

    @rule()
    def cut(self) -> None:
        self.reader.cut()

    @rule()
    def delete(self) -> None:
        self.reader.delete_consumers()

    @rule(loss=st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    def lose(self, loss: float) -> None:
        self.reader.cluster.loss = loss

    @rule(deaf=st.booleans())
    def deaf(self, deaf: bool) -> None:
        self.reader.cluster.deaf = deaf

    @rule(slow=st.booleans())
    def slow(self, slow: bool) -> None:
        self.reader.slow = slow

    @rule(seconds=st.sampled_from([0.05, 1.0, 4.0, 15.0]))
    def time(self, seconds: float) -> None:
        self.reader.run(seconds)

    @precondition(lambda self: self.reader.stored)
    @rule()
    def heal(self) -> None:
        self.reader.heal()

    @invariant()
    def promises(self) -> None:
        self.reader.check()


TestOrderedRules = OrderedRules.TestCase
