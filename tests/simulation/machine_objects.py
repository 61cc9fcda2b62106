"""Who puts, deletes and reads objects in the simulated world, and what it holds the object store to.

Several programs share one client: each puts, deletes or reads one object, and then another one. Objects are small and
of few names, so that one is replaced while others read it, and two programs put the same one at once. The books are
those of the model's stream itself:

- at every moment each object that has an info has all its chunks, and they are the bytes that were put under its nuid;
- a put that was told to have failed is no object, and one that was told to be done is, or was replaced;
- whoever reads gets the bytes of the version that he was told of, or is told that it was replaced;
- at the end no chunks are there but those of objects, and of puts of which it was told that chunks may be left; and
  `collect_garbage` removes these.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nats_proto import Message
from nats_proto._jetstream.stream_config import StreamConfig
from nats_proto._objectstore.errors import ObjectNotFoundError, ObjectReplacedError
from nats_proto._objectstore.garbage import Garbage
from nats_proto._objectstore.info import ObjectInfo, read_info
from nats_proto._objectstore.reader import ObjectReader
from nats_proto._objectstore.store import Put, Store, Written, store_of
from nats_proto.errors import NATSError, NATSTimeoutError
from tests.simulation.invariants import require
from tests.simulation.jetstream.stream import ModelStream, stream_config
from tests.simulation.machine_driver import MachineDriver
from tests.simulation.machine_operations import Operations
from tests.simulation.machine_readers import api_of
from tests.simulation.machine_users import MachineUser

if TYPE_CHECKING:
    from tests.simulation.machine_run import MachineSimulation

__all__ = ["BUCKET", "CALM", "OBJECT_STREAM", "READERS_BEGIN", "ObjectUser", "object_stream"]

BUCKET = "B"
OBJECT_STREAM = f"OBJ_{BUCKET}"
READERS_BEGIN = "object"
"""How the names of the readers' consumers begin."""
CHUNK = 10
NAMES = ("a", "b")
CALM = 15.0
"""Seconds in a healed world in which programs go on."""


def object_stream(sim: MachineSimulation) -> ModelStream:
    """The bucket, as the model has it."""
    config = {
        "name": OBJECT_STREAM,
        "subjects": [f"$O.{BUCKET}.C.>", f"$O.{BUCKET}.M.>"],
        "storage": "memory",
        "discard": "new",
        "num_replicas": sim.settings.replicas,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
    }
    return ModelStream(sim.cluster.jetstream, stream_config(config), sim.world.now)


class ObjectUser(MachineUser):
    """All programs of the client."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        self.operations = Operations(self.client, self.new_inbox())
        self.client.drivers.append(self.operations)  # type: ignore[arg-type]  # it has what is asked of it
        self.store: Store = store_of(
            api_of(self), StreamConfig(name=OBJECT_STREAM, duplicate_window=120.0), self.rng.choice(("any", "leader"))
        )
        self.timeout = self.rng.choice((2.0, 10.0, 30.0))
        self.contents: dict[str, bytes] = {}
        """What was put, by nuid."""
        self.names: dict[str, str] = {}
        self.failed: set[str] = set()
        """Puts that are certainly no objects."""
        self.may_be_left: set[str] = set()
        """Puts of which chunks may be left, as their programs were told."""
        self.unclean: set[str] = set()
        """Names of which the version before may be left."""
        self.active = 0
        self.count = 0
        self.counts: Counter[str] = Counter()
        self.last_reads: dict[str, bool] = {}
        """At the end each object is read; whether it has been."""
        self.garbage: Garbage | None = None
        self.cleared = False
        """And then what belongs to no object is cleared away."""
        self._seen = (0, 0)
        """The last sequence of the stream, and how many messages were removed from it."""
        self._current: set[str] = set()

    def start(self) -> None:
        for _ in range(self.rng.choice((1, 2, 4))):
            self._next()

    def _next(self) -> None:
        """A program begins with something."""
        if self.sim.over:
            return
        if self.client.asleep:
            self.world.at(self.client.asleep_until + 0.001, self._next)
            return
        self.active += 1
        name = self.rng.choice(NAMES)
        what = self.rng.random()
        if what < 0.5:
            Putting(self, name).start()
        elif what < 0.6:
            self.operations.start(self.store.delete(name, timeout=self.timeout), self._deleted(name))
        else:
            Reading(self, name, self.ended).start()

    def ended(self, what: str) -> None:
        """A program has done one thing."""
        self.sim.explain(f"objects: {what}")
        self.counts[what.split(":")[0]] += 1
        self.active -= 1
        self.world.after(2.0 * self.rng.random(), self._next)

    def pause_at(self, chunks: int) -> tuple[int, float]:
        """Where a program pauses among its chunks, and for how long."""
        return self.rng.randint(0, chunks), self.rng.choice((0.0, 0.0, 0.5, 8.0)) * self.rng.random()

    def _deleted(self, name: str) -> Callable[[Any, NATSError | None], None]:
        def done(written: Written | None, error: NATSError | None) -> None:
            if error is not None:
                if not isinstance(error, ObjectNotFoundError):
                    self.unclean.add(name)
            elif written is not None and written.left is not None:
                self.unclean.add(name)
            self.ended(f"deleted: {name} {error!r}")

        return done

    # --- what the model has ------------------------------------------------

    @property
    def stream(self) -> ModelStream:
        """The bucket's."""
        return self.jetstream.streams[OBJECT_STREAM]

    def last_info(self, name: str) -> dict[str, Any] | None:
        """As it is stored; None for no object."""
        stored = self.stream.last_of([self.store.subjects.meta(name)])
        info: dict[str, Any] | None = None if stored is None else json.loads(stored.data)
        return None if info is None or info.get("deleted") else info

    def chunks(self, nuid: str) -> list[bytes]:
        """As they are stored."""
        return [stored.data for stored in self.stream.upward([self.store.subjects.chunks(nuid)], 0)]

    def check(self) -> None:
        if self._may_have_changed():
            self.look()

    def _may_have_changed(self) -> bool:
        """Whether more has happened than that chunks were stored of puts that are no objects yet."""
        last, messages = self.stream.last, self.stream.messages
        before, removed = self._seen
        self._seen = last, last - len(messages)
        if self._seen[1] != removed:
            return True
        nuids = (self.store.subjects.nuid_of(messages[seq].subject) for seq in range(before + 1, last + 1))
        return any(nuid is None or nuid in self._current for nuid in nuids)

    def look(self) -> set[str]:
        """At each object: the nuids that they have."""
        self._current.clear()
        for name in NAMES:
            info = self.last_info(name)
            if info is None:
                continue
            nuid = info["nuid"]
            self._current.add(nuid)
            require(nuid not in self.failed, f"object {name!r} is a put that has certainly failed")
            chunks = self.chunks(nuid)
            wanted = self.contents[nuid]
            require(b"".join(chunks) == wanted, f"object {name!r} has the chunks {chunks}, {wanted!r} was put")
            require(len(chunks) == info.get("chunks", 0), f"object {name!r} has {len(chunks)} chunks: {info}")
        return self._current

    # --- the end -----------------------------------------------------------

    def settled(self) -> bool:
        if self.active:
            return False
        if not self.last_reads:
            for name in NAMES:
                self.last_reads[name] = False
                Reading(self, name, lambda what, name=name: self._read_last(name, what), last=True).start()
        if not all(self.last_reads.values()):
            return False
        if self.garbage is None:
            self._check_left()
            self.garbage = Garbage(self.store, 0.0)
            self.operations.start(self.garbage.look(None), self._looked)
        return self.cleared

    def _looked(self, _: None, error: NATSError | None) -> None:
        require(error is None, f"collect_garbage: {error!r}")
        assert self.garbage is not None
        for stored in self.stream.lasts_of([self.store.subjects.all_metas]):
            name = self.store.subjects.name_of(stored.subject)
            assert name is not None
            self.garbage.keep(read_info("", stored.data, name=name, bucket=BUCKET, mtime=None))
        self.operations.start(self.garbage.collect(None), self._collected)

    def _collected(self, _: None, error: NATSError | None) -> None:
        require(error is None, f"collect_garbage: {error!r}")
        self.cleared = True

    def _read_last(self, name: str, what: str) -> None:
        wanted = "not found" if self.last_info(name) is None else "read"
        require(what.startswith(wanted), f"the last object {name!r}: {what}")
        self.last_reads[name] = True

    def patience(self) -> float:
        return 2 * self.timeout + 120.0

    def why(self) -> str:
        return f"{self.active} programs have not come to an end; last reads {self.last_reads}; cleared {self.cleared}"

    def _check_left(self) -> None:
        """Nothing is under way any more."""
        current = self.look()
        for nuid in self._stored_nuids():
            told = nuid in self.may_be_left or self.names[nuid] in self.unclean
            require(nuid in current or told, f"chunks of put {nuid} of {self.names[nuid]!r} were left, nobody was told")

    def _stored_nuids(self) -> set[str]:
        found = (self.store.subjects.nuid_of(stored.subject) for stored in self.stream.messages.values())
        return {nuid for nuid in found if nuid is not None}

    def finish(self) -> None:
        """The garbage was collected."""
        left = self._stored_nuids() - self.look()
        require(not left, f"garbage is left: {left}")


class Putting:
    """One put, as a client drives it."""

    def __init__(self, user: ObjectUser, name: str) -> None:
        self.user, self.name = user, name
        rng = user.rng
        user.count += 1
        size = rng.choice((0, 5, 10, 10, 55, 55, 55, 200, 200, 300, 300, 1000))
        self.data = b"".join(b"%d.%d:" % (user.count, number) for number in range(size))[:size]
        self.put: Put = user.store.put(name, {}, chunk_size=CHUNK, max_payload=1 << 20, timeout=user.timeout)
        user.contents[self.put.nuid] = self.data
        user.names[self.put.nuid] = name
        self.at = self.told = 0
        self.pause = user.pause_at(10)
        self.stop_at = rng.randrange(size) if size and rng.random() < 0.25 else None
        """Where its program is interrupted."""
        self.driver = MachineDriver(user.client, self.put.writer, self._stored, self._written)

    def start(self) -> None:
        self.user.client.drivers.append(self.driver)  # type: ignore[arg-type]
        self.put.writer.resume(now=self.user.world.now)
        self._write()

    def _write(self) -> None:
        if self.driver.ended:
            return
        writer, now = self.put.writer, self.user.world.now
        if self.user.client.asleep:
            self.user.world.at(self.user.client.asleep_until + 0.001, self._write)
            return
        while writer.room and self.at < len(self.data):
            if self.stop_at is not None and self.at >= self.stop_at:
                writer.abandon(now=now)
                break
            writer.write(self.data[self.at : self.at + CHUNK], now=now)
            self.at += CHUNK
            if self.at >= len(self.data):
                writer.finish(now=now)
        if not self.data:
            writer.finish(now=now)
        self.driver.wait()

    def _stored(self, count: int) -> None:
        self.told += 1
        self.user.world.after(self.pause[1] if self.told == self.pause[0] else 0.0, self._more)

    def _more(self) -> None:
        if not self.driver.ended:
            self.put.writer.resume(now=self.user.world.now)
            self._write()

    def _written(self) -> None:
        self.user.client.drivers.remove(self.driver)  # type: ignore[arg-type]
        error, writer = self.driver.error, self.put.writer
        if error is None and self.at >= len(self.data) and self.stop_at is None:
            self.user.operations.start(self.user.store.commit(self.put, timeout=self.user.timeout), self._committed)
            return
        writer.abandon(now=self.user.world.now)
        self._undo(certain=True, why=error)

    def _committed(self, written: Written | None, error: NATSError | None) -> None:
        user, nuid = self.user, self.put.nuid
        if error is not None:
            self._undo(certain=error.outcome == "failed", why=error)
            return
        assert written is not None
        require(written.info.chunks == -(-len(self.data) // CHUNK), f"put {nuid} is {written.info}")
        if written.left is not None:
            user.unclean.add(self.name)
        user.look()
        user.ended(f"put: {self.name} {nuid}")

    def _undo(self, *, certain: bool, why: NATSError | None) -> None:
        user, nuid = self.user, self.put.nuid
        if certain:
            user.failed.add(nuid)
            user.look()
        else:
            user.unclean.add(self.name)  # it may have replaced another version, or do so yet

        def done(said: str | None, error: NATSError | None) -> None:
            require(error is None, f"undo raises {error!r}")
            if said:
                user.may_be_left.add(nuid)
            user.ended(f"failed: {self.name} {nuid} {why!r} {said}")

        user.operations.start(user.store.undo(self.put, certain=certain), done)


class Reading:
    """One read of an object, from its beginning to its end."""

    def __init__(self, user: ObjectUser, name: str, ended: Callable[[str], None], *, last: bool = False) -> None:
        self.user, self.name, self.ended, self.last = user, name, ended, last
        self.timeout = 30.0 if last else user.timeout
        self.parts: list[bytes] = []
        self.machine: ObjectReader[Message] | None = None
        self.driver: MachineDriver[bytes] | None = None
        self.info: ObjectInfo | None = None
        self.asked = 0.0
        self.pause = (0, 0.0)

    def start(self) -> None:
        self.user.operations.start(self.user.store.target(self.name), self._found)

    def _found(self, found: Any, error: NATSError | None) -> None:
        user = self.user
        if isinstance(error, ObjectNotFoundError):
            self.ended(f"not found: {self.name}")
        elif error is not None:
            self.ended(f"not asked: {self.name} {error!r}")
        else:
            store, info = found
            self.info = info
            self.pause = user.pause_at(info.chunks) if not self.last else self.pause
            if not info.chunks:
                self._compare()
                return
            self.machine = ObjectReader(
                store.api, store.subjects, info, store.question(info), now=user.world.now, timeout=self.timeout
            )
            self.driver = MachineDriver(user.client, self.machine, self._given, self._over)
            user.client.drivers.append(self.driver)  # type: ignore[arg-type]
            self._wait()

    def _wait(self) -> None:
        assert self.machine is not None
        assert self.driver is not None
        if self.user.client.asleep:
            self.user.world.at(self.user.client.asleep_until + 0.001, self._wait)
            return
        self.asked = self.user.world.now
        self.machine.resume(now=self.asked)
        self.driver.wait()

    def _given(self, chunk: bytes) -> None:
        self.parts.append(chunk)
        self.user.world.after(self.pause[1] if len(self.parts) == self.pause[0] else 0.0, self._wait)

    def _over(self) -> None:
        user, machine, driver = self.user, self.machine, self.driver
        assert machine is not None
        assert driver is not None
        assert self.info is not None
        user.client.drivers.remove(driver)  # type: ignore[arg-type]
        for deletion in machine.leave():
            user.publish(deletion.subject, deletion.data)
        error = driver.error
        if error is None:
            self._compare()
            return
        now = user.last_info(self.name)
        replaced = now is None or now["nuid"] != self.info.nuid
        if isinstance(error, ObjectReplacedError):
            require(replaced, f"object {self.name!r} is said to be replaced: {error}")
        else:
            require(isinstance(error, NATSTimeoutError), f"object {self.name!r} is as it was put: {error!r}")
            require(self.asked < user.sim.calm_from, f"in a world without faults: {error!r}")
        self.ended(f"not read: {self.name} {error!r}")

    def _compare(self) -> None:
        assert self.info is not None
        got, wanted = b"".join(self.parts), self.user.contents[self.info.nuid]
        require(got == wanted, f"object {self.name!r} is read as {got!r}, {wanted!r} was put")
        self.ended(f"read: {self.name} {self.info.nuid}")
