"""The network: two independent directions between a client and a server, each with its own troubles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.world import Timer, World

__all__ = ["SPLITS", "Pipe", "Profile"]

SPLITS = ("whole", "whole", "mixed", "mixed", "halves", "tiny")
"""How a direction cuts the stream into pieces; those that stand twice are twice as likely."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a direction is like: seconds until bytes arrive, their pieces, bytes it takes ahead of the reader."""

    latency: float = 0.001
    split: str = "whole"
    capacity: int = 1 << 20


class Pipe:
    """One direction: bytes written come out at the other end, later and in other pieces, or not at all.

    ``held`` stops delivery until it is 0 again; a ``black_hole`` never delivers and keeps what it took; `finish` ends
    the stream behind what was written, `drop` ends it here and now.
    """

    __slots__ = (
        "_timer",
        "arrived",
        "black_hole",
        "blocked",
        "buffer",
        "capacity",
        "closed",
        "ended",
        "ending",
        "held",
        "profile",
        "room",
        "world",
    )

    def __init__(
        self, world: World, profile: Profile, arrived: Callable[[bytes], None], ended: Callable[[], None]
    ) -> None:
        self.world = world
        self.profile = profile
        self.capacity = profile.capacity
        self.arrived = arrived
        self.ended = ended
        self.room: Callable[[], None] | None = None
        """Called when bytes are taken again, after `write` refused some."""
        self.buffer = bytearray()
        self.held = 0
        self.black_hole = False
        self.blocked = False
        self.ending = False
        self.closed = False
        self._timer: Timer | None = None

    def write(self, data: bytes) -> int:
        """How many bytes were taken."""
        if self.closed or self.ending:
            return len(data)  # nobody reads any more, and the writer has not been told yet
        taken = max(0, min(len(data), self.capacity - len(self.buffer)))
        if taken < len(data):
            self.blocked = True
        if taken:
            self.buffer += data if taken == len(data) else data[:taken]
            self._schedule(self.profile.latency)
        return taken

    def finish(self) -> None:
        """The writer has said all: the reader gets what is on its way, then the end."""
        if not self.closed:
            self.ending = True
            self._schedule(self.profile.latency)

    def drop(self, keep: int = 0) -> None:
        """Nothing comes out any more, but for the next ``keep`` bytes of what is on its way."""
        if self.closed:
            return
        rest = bytes(self.buffer[:keep])
        self.buffer.clear()
        self.closed = True
        if rest and not self.black_hole:
            self.arrived(rest)

    def hold(self) -> None:
        """Stop delivering."""
        self.held += 1

    def release(self) -> None:
        """Deliver again, once every `hold` was released."""
        self.held = max(0, self.held - 1)
        if not self.held:
            self._schedule(self.profile.latency)

    def resize(self, capacity: int) -> None:
        """From now on so many bytes are taken ahead of the reader; 0: none."""
        self.capacity = capacity
        self._tell_room()

    @property
    def idle(self) -> bool:
        """Nothing is on its way, and whatever is written will arrive."""
        return not (self.buffer or self.held or self.black_hole or self.closed or self.ending)

    def _schedule(self, latency: float) -> None:
        if self._timer is None and not (self.held or self.black_hole or self.closed):
            self._timer = self.world.after(latency * (0.5 + self.world.rng.random()), self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        if self.held or self.black_hole or self.closed:
            return
        buffer = self.buffer
        if buffer:
            size = self._piece(len(buffer))
            piece = bytes(buffer) if size == len(buffer) else bytes(buffer[:size])
            del buffer[:size]
            self.arrived(piece)
        if buffer:
            self._schedule(self.profile.latency * 0.05)
        elif self.ending and not self.closed:
            self.closed = True
            self.ended()
        if self.blocked:
            self._tell_room()

    def _piece(self, size: int) -> int:
        split = self.profile.split
        if split == "whole" or size == 1:
            return size
        rng = self.world.rng
        if split == "tiny":
            return rng.randint(1, max(min(size, 3), size // 6))
        if split == "halves":
            return rng.randint(1, size)
        return size if rng.random() < 0.6 else rng.randint(1, size)

    def _tell_room(self) -> None:
        if self.blocked and self.room is not None and len(self.buffer) < self.capacity:
            self.blocked = False
            self.room()
