"""Leaders are killed under publishers and a reader, and the checker holds what they were told against the stream.

    make chaos-jetstream                    # 100,000 publishes and 51 kills, over three legs
    python -m tests.jetstream.chaos --publishes 3000 --kills 3 --legs asyncio

Theory of operation
-------------------
It goes round by round. Each round has a number of publishes to make; when half of them have begun, the leader of the
stream is killed, and when all have ended the cluster is made whole again. So every kill meets publishes in flight. Five
processes publish: two one by one, with ids and without; one that expects the last sequence of its subject; two through
a window, with ids and without. One reads with a consumer and acknowledges.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.abc

from nats_proto.errors import NATSError
from nats_proto.jetstream import MessageNotFoundError
from nats_sync.testing import LocalCluster
from tests.adapters.legs import AnyioLeg, Leg, ThreadsLeg, in_thread
from tests.faults.record import QUICK
from tests.jetstream.checker import Final as FinalRead
from tests.jetstream.checker import Violation, check
from tests.jetstream.cluster import STRICT, Replicas
from tests.jetstream.history import Entry, History
from tests.jetstream.legs import jetstream
from tests.jetstream.reading import stored_in
from tests.transports import Transport

__all__ = ["Chaos"]

WINDOW: Final = 500
READ_LIMIT: Final = 120.0  # seconds for the reader to get to the end, when all servers run again


class Chaos:
    """One run on one leg. ``run`` gives the violations; ``history`` has all that was done."""

    def __init__(self, leg: Leg, replicas: Replicas, *, publishes: int, kills: int) -> None:
        self.history = History()
        self.gaps: list[float] = []
        self._leg = leg
        self._replicas = replicas
        self._kills = kills
        self._quota = publishes // kills
        self._begun = 0
        self._js: Any = None

    async def run(self) -> list[Violation]:
        """All rounds, the final read, the check."""
        replicas = self._replicas
        await in_thread(lambda: replicas.create_stream("S", "s.>"))
        durable = {"durable_name": "c", "ack_policy": "explicit", "ack_wait": 30 * 10**9, "max_ack_pending": 5000}
        await in_thread(lambda: replicas.api("CONSUMER.CREATE.S.c", {"stream_name": "S", "config": durable}))
        async with self._leg.connect(replicas.urls, **QUICK) as client, anyio.create_task_group() as group:
            self._js = jetstream(client)
            group.start_soon(self._read)
            for number in range(self._kills):
                await self._round(number)
            await in_thread(lambda: replicas.wait_until_current("S"))
            stream = await in_thread(lambda: stored_in("S", replicas))
            await self._read_to_the_end({stored.sequence for stored in stream})
            group.cancel_scope.cancel()
        return check(self.history, FinalRead(stream=stream, consumer=True))

    async def _round(self, number: int) -> None:
        self._begun = 0
        share = self._quota // 5
        killed: list[float] = []
        async with anyio.create_task_group() as group:
            group.start_soon(self._one_by_one, f"ids-{number}", share, True)
            group.start_soon(self._one_by_one, f"plain-{number}", share, False)
            group.start_soon(self._expecting, f"expecting-{number}", share)
            group.start_soon(self._windowed, f"window-ids-{number}", share, True)
            group.start_soon(self._windowed, f"window-{number}", share, False)
            while self._begun < self._quota // 2:
                await anyio.sleep(0.001)
            await in_thread(lambda: self._replicas.kill_leader("S"))
            killed.append(time.monotonic())
        self._measure(killed[0])
        await in_thread(self._replicas.heal)
        await in_thread(lambda: self._replicas.leader_of("S"))

    def _measure(self, killed: float) -> None:
        """The longest time without an acknowledgement that began after the kill, or was under way then."""
        ends = sorted(
            entry.completed for entry in self.history.of("publish") if entry.outcome == "ok" and entry.completed
        )
        after = [end for end in ends if end >= killed]
        self.gaps.append(max((b - a for a, b in zip([killed, *after], after, strict=False)), default=0.0))

    # --- publishers --------------------------------------------------------------------------------------------------

    def _invoke(self, process: str, serial: int, with_id: bool, **more: Any) -> Entry:
        self._begun += 1
        payload = f"{process}:{serial}"
        subject = f"s.{process}"
        msg_id = payload if with_id else None
        return self.history.invoke("publish", process, payload=payload, subject=subject, msg_id=msg_id, **more)

    async def _one_by_one(self, process: str, share: int, with_id: bool) -> None:
        for serial in range(share):
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

    async def _expecting(self, process: str, share: int) -> None:
        last = 0
        for serial in range(share):
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

    async def _windowed(self, process: str, share: int, with_id: bool) -> None:
        pendings: list[tuple[Entry, Any]] = []
        async with self._js.publisher(max_pending=WINDOW, timeout=5.0, retry_for=15.0) as publisher:
            for serial in range(share):
                entry = self._invoke(process, serial, with_id, pipelined=True)
                try:
                    pendings.append(
                        (entry, await publisher.publish(entry.subject, entry.payload.encode(), **_id(entry)))
                    )
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

    async def _read(self) -> None:
        async with self._js.consumer("S", "c").messages() as messages:
            async for message in messages:
                self.history.delivered("reader", message.metadata.stream_sequence, message.data.decode())
                await message.ack()

    async def _read_to_the_end(self, sequences: set[int]) -> None:
        with anyio.move_on_after(READ_LIMIT):  # what is missing then, the checker tells
            while sequences - {entry.sequence for entry in self.history.of("deliver")}:
                await anyio.sleep(0.5)


def _id(entry: Entry) -> dict[str, Any]:
    return {} if entry.msg_id is None else {"msg_id": entry.msg_id}


LEGS: Final[dict[str, Callable[[], Leg]]] = {
    "threads": lambda: ThreadsLeg(Transport()),
    "asyncio": lambda: AnyioLeg(Transport(), "asyncio"),
    "trio": lambda: AnyioLeg(Transport(), "trio"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--publishes", type=int, default=100_000, help="over all legs")
    parser.add_argument("--kills", type=int, default=51, help="over all legs")
    parser.add_argument("--legs", default=",".join(LEGS))
    args = parser.parse_args()
    legs = args.legs.split(",")
    found = 0
    for name in legs:
        began = time.monotonic()
        with LocalCluster(3, jetstream=STRICT) as cluster:
            leg = LEGS[name]()
            chaos = Chaos(
                leg,
                Replicas(cluster, {}),
                publishes=args.publishes // len(legs),
                kills=max(1, args.kills // len(legs)),
            )
            violations = anyio.run(chaos.run, backend=leg.backend)
        counts = ", ".join(f"{number} {how}" for how, number in chaos.history.counts().items())
        print(
            f"{name}: {len(chaos.gaps)} kills, {counts}; longest time without an acknowledgement "
            f"{max(chaos.gaps):.1f} s; {len(violations)} violations ({time.monotonic() - began:.0f} s)",
            flush=True,
        )
        for violation in violations:
            print(f"  {violation.check}: {violation.text}")
        found += len(violations)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
