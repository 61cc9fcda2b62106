"""The driver of machines in the simulated world: a machine that repairs what is lost gives everything, in order."""

from __future__ import annotations

import pytest

from nats_proto import ConnectOptions
from tests.machines import SERVICE, Numbers
from tests.simulation.knobs import Knobs
from tests.simulation.machine_driver import MachineDriver
from tests.simulation.machine_world import JetStreamCluster, MachineClient
from tests.simulation.server import Peer
from tests.simulation.world import World

END = 40


class NumbersCluster(JetStreamCluster):
    """There is a service that sends numbers, and loses some."""

    def route(
        self, subject: str, data: bytes, reply: str | None, block: bytes | None, origin: Peer | None = None
    ) -> None:
        super().route(subject, data, reply, block, origin)
        if subject == SERVICE and reply is not None and not self.world.chance(0.1):
            first, _, inbox = data.partition(b" ")
            self.deliver(reply, reply, first, None, None)
            for number in range(int(first), END):
                if not self.world.chance(0.05):
                    self.world.after(0.01 * (number - int(first)), self._send, inbox.decode(), number)

    def _send(self, inbox: str, number: int) -> None:
        self.deliver(inbox, inbox, b"%d" % number, None, None)


def run(seed: int) -> tuple[list[str], Numbers, MachineDriver[str]]:
    world = World(seed)
    knobs = Knobs(ConnectOptions(reconnect_wait=0.1, reconnect_jitter=0.0))
    cluster = NumbersCluster(world, knobs)
    client = MachineClient(world, cluster, knobs, 1)
    given: list[str] = []
    machine = Numbers(END, lambda: f"inbox.{world.rng.getrandbits(40)}", now=world.now)

    def give(item: str) -> None:
        given.append(item)
        if world.chance(0.5):
            driver.wait()
        else:
            world.after(0.05 * world.rng.random(), driver.wait)

    driver = MachineDriver(client, machine, give)
    client.drivers.append(driver)  # type: ignore[arg-type]
    client.connect()
    driver.wait()
    for _ in range(4):
        world.run(world.now + world.rng.random())
        if client.transport is not None:
            client.transport.reset()
    world.run(world.now + 120.0, lambda: driver.ended)
    return given, machine, driver


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_missing_and_nothing_comes_twice(seed: int) -> None:
    given, _, driver = run(seed)
    assert driver.ended
    assert driver.error is None
    assert given == [f"number {number}" for number in range(END)]


def test_much_is_lost() -> None:
    assert sum(run(seed)[1].begun for seed in range(20)) > 60


def test_a_seed_is_the_same_run_every_time() -> None:
    assert [run(seed)[1].begun for seed in range(5)] == [run(seed)[1].begun for seed in range(5)]
