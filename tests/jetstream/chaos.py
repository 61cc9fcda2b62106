"""Faults strike a replicated stream under publishers and a reader; a checker holds what they were told against it.

    make chaos-jetstream                    # 100,000 publishes and 51 kills, over three legs
    python -m tests.jetstream.chaos --publishes 3000 --kills 3 --legs asyncio
    python -m tests.jetstream.chaos --publishes 30000 --kills 6 --step-downs 30 --no-quorum 6 --seed 7

Theory of operation
-------------------
It goes round by round. Each round has a number of publishes to make; when half of them have begun the fault strikes,
and when all have ended the cluster is made whole again. So every fault meets publishes in flight. Five processes
publish: two one by one, with ids and without; one that expects the last sequence of its subject; two through a window,
with ids and without. The windows have most of the publishes, as many at once as ``WINDOW`` allows. One reads with a
consumer, over a connection of its own, and acknowledges.

`Chaos.run_stepping_down` has one long round instead, in which the leader steps down over and over.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, assert_never

import anyio
import anyio.abc

from nats_proto.errors import NATSError
from nats_proto.jetstream import MessageNotFoundError
from nats_sync.testing import LocalCluster, LocalServer
from tests.adapters.legs import AnyioLeg, Leg, ThreadsLeg, in_thread
from tests.faults.record import QUICK
from tests.jetstream.checker import Final as FinalRead
from tests.jetstream.checker import Violation, check
from tests.jetstream.cluster import STRICT, Replicas
from tests.jetstream.final_read import stored_in
from tests.jetstream.history import Entry, History
from tests.jetstream.legs import jetstream
from tests.transports import Transport

__all__ = ["Chaos", "Fault"]

Fault = Literal["kill", "step-down", "no quorum"]
"""The leader is killed with -9; it steps down in order; it and another server stand still for a while."""

WINDOW: Final = 1000
LONE: Final = 100
"""Publishes of a round by each process that makes them one by one, at most: these take long."""
ROOM: Final = 60.0
"""Seconds to wait for room in a window. It is full for as long as an election takes, and that may be repeated."""
ACK_WAIT: Final = 5 * 10**9
"""Nanoseconds until what a server has sent to a connection that was cut comes again, and the reader can end."""
READ_LIMIT: Final = 120.0  # seconds for the reader to get to the end, when all servers run again

Serials = Callable[[], AsyncIterator[int]]


class Chaos:
    """One run on one leg, which gives the violations; ``history`` has all that was done."""

    def __init__(self, leg: Leg, replicas: Replicas, *, frozen_for: float = 3.0) -> None:
        self.history = History()
        self.gaps: list[float] = []
        """Of each fault: the longest time without an acknowledgement after it, in seconds."""
        self.sent = 0
        """Publishes on the wire: those of the history, and all that were tried again."""
        self._leg = leg
        self._replicas = replicas
        self._frozen_for = frozen_for
        self._begun = 0
        self._js: Any = None

    async def run(self, faults: Sequence[Fault], *, publishes: int) -> list[Violation]:
        """A round for each fault, the final read, the check."""
        found: list[Violation] = []
        async with self._at_work(found):
            for number, fault in enumerate(faults):
                await self._round(number, fault, publishes // len(faults))
        return found

    async def run_stepping_down(self, *, every: float, times: int, pause: float) -> list[Violation]:
        """Publish meanwhile, each process with a ``pause`` in seconds after each publish. The check."""
        found: list[Violation] = []
        replicas = self._replicas
        async with self._at_work(found), anyio.create_task_group() as group:
            with replicas.stepping_down("S", every=every) as done:

                async def serials() -> AsyncIterator[int]:
                    for serial in itertools.count():
                        if len(done) >= times:
                            return
                        yield serial
                        await anyio.sleep(pause)

                self._start_publishers(group, "long", serials, serials)
                while len(done) < times:
                    await anyio.sleep(0.01)
            self.gaps = [self._gap_after(moment) for moment in done]
        return found

    @asynccontextmanager
    async def _at_work(self, found: list[Violation]) -> AsyncIterator[None]:
        """A stream with a consumer, who reads it, and at the end all that is wrong."""
        replicas = self._replicas
        await in_thread(lambda: replicas.create_stream("S", "s.>"))
        durable = {"durable_name": "c", "ack_policy": "explicit", "ack_wait": ACK_WAIT, "max_ack_pending": 5000}
        await in_thread(lambda: replicas.api("CONSUMER.CREATE.S.c", {"stream_name": "S", "config": durable}))
        async with (
            self._leg.connect(replicas.urls, **QUICK) as client,
            self._leg.connect(replicas.urls, **QUICK) as reader,
            anyio.create_task_group() as group,
        ):
            self._js = jetstream(client)
            group.start_soon(self._read, jetstream(reader))
            yield
            self.sent = client.stats.out_msgs
            await in_thread(lambda: replicas.wait_until_current("S"))
            stream = await in_thread(lambda: stored_in("S", replicas))
            await self._read_to_the_end({stored.sequence for stored in stream})
            group.cancel_scope.cancel()
        found += check(self.history, FinalRead(stream=stream, consumer=True))

    async def _round(self, number: int, fault: Fault, quota: int) -> None:
        self._begun = 0
        lone = min(LONE, quota // 5)
        leader = await in_thread(lambda: self._replicas.leader_of("S"))
        struck: list[float] = []
        async with anyio.create_task_group() as group:
            self._start_publishers(group, str(number), _up_to(lone), _up_to((quota - 3 * lone) // 2))
            while self._begun < quota // 2:
                await anyio.sleep(0.001)
            struck.append(time.monotonic())
            await self._strike(fault, leader)
        self.gaps.append(self._gap_after(struck[0]))
        await in_thread(self._replicas.heal)
        await in_thread(lambda: self._replicas.leader_of("S"))

    async def _strike(self, fault: Fault, leader: LocalServer) -> None:
        replicas = self._replicas
        match fault:
            case "kill":
                await in_thread(leader.kill)
            case "step-down":
                await in_thread(lambda: replicas.step_down("S"))
            case "no quorum":
                other = next(server for server in replicas.answering if server is not leader)
                replicas.freeze(leader, other)
                await anyio.sleep(self._frozen_for)
                replicas.thaw()
            case _:
                assert_never(fault)

    def _gap_after(self, struck: float) -> float:
        """The longest time without an acknowledgement that began after the fault, or was under way then."""
        ends = sorted(
            entry.completed for entry in self.history.of("publish") if entry.outcome == "ok" and entry.completed
        )
        after = [end for end in ends if end >= struck]
        return max((b - a for a, b in itertools.pairwise([struck, *after])), default=0.0)

    # --- publishers --------------------------------------------------------------------------------------------------

    def _start_publishers(self, group: anyio.abc.TaskGroup, name: str, lone: Serials, many: Serials) -> None:
        group.start_soon(self._one_by_one, f"ids-{name}", lone, True)
        group.start_soon(self._one_by_one, f"plain-{name}", lone, False)
        group.start_soon(self._expecting, f"expecting-{name}", lone)
        group.start_soon(self._windowed, f"window-ids-{name}", many, True)
        group.start_soon(self._windowed, f"window-{name}", many, False)

    def _invoke(self, process: str, serial: int, with_id: bool, **more: Any) -> Entry:
        self._begun += 1
        payload = f"{process}:{serial}"
        subject = f"s.{process}"
        msg_id = payload if with_id else None
        return self.history.invoke("publish", process, payload=payload, subject=subject, msg_id=msg_id, **more)

    async def _one_by_one(self, process: str, serials: Serials, with_id: bool) -> None:
        async for serial in serials():
            entry = self._invoke(process, serial, with_id)
            await self._publish(entry)

    async def _publish(self, entry: Entry, **options: Any) -> None:
        try:
            ack = await self._js.publish(
                entry.subject, entry.payload.encode(), **_id(entry), **options, timeout=2.0, retry_for=15.0
            )
        except NATSError as error:
            entry.fails(error)
        else:
            entry.ok(ack.sequence, duplicate=ack.duplicate)

    async def _expecting(self, process: str, serials: Serials) -> None:
        last = 0
        async for serial in serials():
            entry = self._invoke(process, serial, serial % 2 == 0, expected_last_subject_sequence=last)
            await self._publish(entry, expected_last_subject_sequence=last)
            last = entry.sequence if entry.outcome == "ok" else await self._last_of(entry.subject)

    async def _last_of(self, subject: str) -> int:
        """What is there, after an end that was none."""
        with anyio.fail_after(READ_LIMIT):
            while True:
                try:
                    found = await self._js.stream("S").get_last_msg(subject, timeout=2.0)
                except MessageNotFoundError:
                    return 0
                except NATSError:
                    await anyio.sleep(0.05)  # between two leaders
                else:
                    sequence: int = found.sequence
                    return sequence

    async def _windowed(self, process: str, serials: Serials, with_id: bool) -> None:
        pendings: list[tuple[Entry, Any]] = []
        async with self._js.publisher(max_pending=WINDOW, timeout=5.0, retry_for=ROOM) as publisher:
            async for serial in serials():
                entry = self._invoke(process, serial, with_id, pipelined=True)
                try:
                    pending = await publisher.publish(entry.subject, entry.payload.encode(), **_id(entry), timeout=ROOM)
                    pendings.append((entry, pending))
                except NATSError as error:
                    entry.fails(error)
            for entry, pending in pendings:
                try:
                    ack = await pending.ack()
                except NATSError as error:
                    entry.fails(error)
                else:
                    entry.ok(ack.sequence, duplicate=ack.duplicate)

    # --- the reader --------------------------------------------------------------------------------------------------

    async def _read(self, js: Any) -> None:
        async with js.consumer("S", "c").messages() as messages:
            async for message in messages:
                self.history.delivered("reader", message.metadata.stream_sequence, message.data.decode())
                await message.ack()

    async def _read_to_the_end(self, sequences: set[int]) -> None:
        with anyio.move_on_after(READ_LIMIT):  # what is missing then, the checker tells
            while sequences - {entry.sequence for entry in self.history.of("deliver")}:
                await anyio.sleep(0.5)


def _id(entry: Entry) -> dict[str, Any]:
    return {} if entry.msg_id is None else {"msg_id": entry.msg_id}


def _up_to(share: int) -> Serials:
    async def serials() -> AsyncIterator[int]:
        for serial in range(share):
            yield serial

    return serials


LEGS: Final[dict[str, Callable[[], Leg]]] = {
    "threads": lambda: ThreadsLeg(Transport()),
    "asyncio": lambda: AnyioLeg(Transport(), "asyncio"),
    "trio": lambda: AnyioLeg(Transport(), "trio"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--publishes", type=int, default=100_000, help="over all legs")
    parser.add_argument("--kills", type=int, default=51, help="over all legs, as the two that follow")
    parser.add_argument("--step-downs", type=int, default=0)
    parser.add_argument("--no-quorum", type=int, default=0, help="how often two of three servers stand still")
    parser.add_argument("--frozen-for", type=float, default=20.0, help="seconds for which they do")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the faults")
    parser.add_argument("--legs", default=",".join(LEGS))
    args = parser.parse_args()
    for name in ("nats_sync", "nats_anyio"):  # what they would log is what is done to them here
        logging.getLogger(name).addHandler(logging.NullHandler())
    legs = args.legs.split(",")
    each: dict[Fault, int] = {"kill": args.kills, "step-down": args.step_downs, "no quorum": args.no_quorum}
    found = 0
    for name in legs:
        faults = [fault for fault, times in each.items() for _ in range(times // len(legs))] or ["kill"]
        random.Random(args.seed).shuffle(faults)
        found += _run(name, faults, args.publishes // len(legs), args.frozen_for)
    return 1 if found else 0


def _run(name: str, faults: Sequence[Fault], publishes: int, frozen_for: float) -> int:
    began = time.monotonic()
    with LocalCluster(3, jetstream=STRICT) as cluster:
        leg = LEGS[name]()
        chaos = Chaos(leg, Replicas(cluster, {}), frozen_for=frozen_for)

        async def run() -> list[Violation]:
            return await chaos.run(faults, publishes=publishes)

        violations = anyio.run(run, backend=leg.backend)
    counts = ", ".join(f"{number} {how}" for how, number in chaos.history.counts().items())
    print(
        f"{name}: {len(faults)} faults, {counts}; {chaos.sent} messages sent; longest time without an acknowledgement "
        f"{max(chaos.gaps):.1f} s; {len(violations)} violations ({time.monotonic() - began:.0f} s)",
        flush=True,
    )
    for violation in violations:
        print(f"  {violation.check}: {violation.text}")
    return len(violations)


if __name__ == "__main__":
    raise SystemExit(main())
