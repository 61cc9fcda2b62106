"""What is drawn once for each seed: options of the session, limits of the code, manners of network and user."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from nats_proto import ConnectOptions
from nats_proto._session import lame_duck as _lame_duck
from nats_proto._session import life_cycle as _life_cycle
from nats_proto._session import outbox as _outbox
from nats_proto._session import session as _session
from nats_proto._wire import encoder as _encoder
from tests.simulation.links import SPLITS, Profile

__all__ = ["Knobs", "draw", "limits"]


@dataclass(frozen=True, slots=True)
class Delay:
    """A user's ``reconnect_delay``, which is called ``late`` seconds after it was asked for, or never (None)."""

    seconds: float
    growth: int
    late: tuple[float | None, ...]
    """One of them each time."""
    mistakes: float
    """The share of calls that come to nothing."""

    def __call__(self, rounds: int) -> float:
        return self.seconds * (1 + self.growth * rounds)

    def answer(self, rounds: int, rng: random.Random) -> object:
        """What comes of a call: an exception stands for one that was raised."""
        if rng.random() >= self.mistakes:
            return self(rounds)
        return rng.choice((RuntimeError("a user's mistake"), KeyboardInterrupt(), None, "soon", -1, math.nan, 10**400))


@dataclass(slots=True)
class Knobs:
    """One seed's settings."""

    options: ConnectOptions
    servers: int = 3
    explicit: int = 3
    clients: int = 1
    gossip: bool = True
    seconds: float = 20.0
    actions: int = 60
    outside: int = 40
    windows: int = 8
    late_bytes: bool = True
    lateness: float = 0.0
    report_delay: float = 0.0
    read: str = "eager"
    share: bool = False
    """Messages are taken as threads without the lock do."""
    largest: int = 64
    limits: dict[str, int] = field(default_factory=dict)
    latency: tuple[float, ...] = (0.001,)
    splits: tuple[str, ...] = ("whole",)
    capacities: tuple[int, ...] = (1 << 20,)
    server_ping: float = 0.0
    liars: bool = False
    action_weights: dict[str, int] = field(default_factory=dict)
    fault_weights: dict[str, int] = field(default_factory=dict)
    ending: str = "close"
    healthy: bool = False
    """Connections made from now on are good ones."""

    def profile(self, rng: random.Random) -> Profile:
        """One direction of one connection."""
        if self.healthy:
            return Profile()
        return Profile(rng.choice(self.latency), rng.choice(self.splits), rng.choice(self.capacities))


def draw(rng: random.Random, actions: tuple[str, ...], faults: tuple[str, ...]) -> Knobs:
    """The settings of one seed."""
    pick = rng.choice
    servers = pick((1, 2, 3, 3, 4, 5))
    explicit = rng.randint(1, servers)
    options = ConnectOptions(**_options(rng))
    slow = options.connect_timeout >= 2.0
    largest = pick((20, 64, 64, 500, 3000))
    narrow = ((3, 20, 200),) if largest <= 64 else ()
    return Knobs(
        options=options,
        servers=servers,
        explicit=explicit,
        clients=pick((1, 1, 1, 1, 1, 2, 3)),
        gossip=explicit < servers or rng.random() < 0.5,
        seconds=pick((5.0, 15.0, 15.0, 30.0, 60.0)),
        actions=pick((15, 40, 60, 60, 90)),
        outside=pick((0, 20, 40, 60)),
        windows=pick((4, 6, 8, 10)),
        late_bytes=rng.random() < 0.5,
        lateness=pick((0.0, 0.0, 0.001, 0.05)),
        report_delay=pick((0.0, 0.0, 0.0, 0.0005, 0.02)),
        read=pick(("eager", "eager", "slow", "mixed")),
        share=rng.random() < 0.2,
        largest=largest,
        limits=_limits(rng),
        latency=pick(((0.001,), (0.0002, 0.001, 0.02), (0.05, 0.15) if slow else (0.005, 0.02))),
        splits=tuple(rng.sample(SPLITS, 2)),
        capacities=pick(((1 << 20,), (1 << 20, 4096), (50 + largest // 4, 500, 4096), *narrow)),
        server_ping=pick((0.0, 0.0, 1.0, 5.0)),
        liars=rng.random() < 0.25,
        action_weights={name: pick((0, 1, 1, 2, 4)) for name in actions},
        fault_weights={name: pick((0, 1, 1, 2, 4)) for name in faults},
        ending=pick(("close", "drain", "drain", "drain with readers gone", "nothing")),
    )


def _options(rng: random.Random) -> dict[str, Any]:
    pick = rng.choice
    options: dict[str, Any] = {
        "pending_size": pick((8 << 20, 8 << 20, 64 << 10, 2000, 300, 0)),
        "max_pending_msgs": pick((65536, 65536, 10, 3, 1)),
        "max_pending_bytes": pick((64 << 20, 64 << 20, 1000, 100)),
        "ping_interval": pick((120.0, 20.0, 5.0, 2.0, 0.5, 0.0)),
        "max_pings_out": pick((1, 2, 2, 3)),
        "connect_timeout": pick((2.0, 2.0, 0.5, 0.2)),
        "reconnect_wait": pick((2.0, 2.0, 0.5, 0.1)),
        "reconnect_jitter": pick((0.1, 0.1, 0.0, 1.0)),
        "randomize_servers": rng.random() < 0.7,
        "ignore_discovered_servers": rng.random() < 0.15,
        "retry_on_failed_connect": rng.random() < 0.8,
        "fail_requests_on_disconnect": rng.random() < 0.25,
        "lame_duck_migration": rng.random() < 0.7,
        "verbose": rng.random() < 0.2,
        "echo": rng.random() < 0.8,
        "retry_auth_errors": rng.random() < 0.4,
        "allow_reconnect": rng.random() < 0.97,
        "max_reconnect_attempts": -1 if rng.random() < 0.9 else pick((0, 1, 5)),
        "drain_timeout": pick((30.0, 5.0, 0.5)),
    }
    if rng.random() < 0.1:
        late = pick(((0.0,), (0.0, 0.1, 1.0), (0.0, 0.3, 3.0, None), (None,)))
        options["reconnect_delay"] = Delay(pick((0.05, 1.0, 5.0)), pick((0, 1)), late, pick((0.0, 0.0, 0.3, 1.0)))
    return options


_LIMITS: dict[str, tuple[tuple[ModuleType, str], ...]] = {
    "chunk": ((_outbox, "CHUNK_SIZE"), (_life_cycle, "CHUNK_SIZE")),
    "high water": ((_outbox, "HIGH_WATER"), (_life_cycle, "HIGH_WATER")),
    "low water": ((_outbox, "LOW_WATER"),),
    "batch": ((_session, "BATCH_SIZE"),),
    "large payload": ((_encoder, "LARGE_PAYLOAD"),),
    "lame duck grace": ((_lame_duck, "LAME_DUCK_GRACE"),),
}
"""Constants of the code that a seed may make tiny, so that what is rare with large ones happens all the time."""


def _limits(rng: random.Random) -> dict[str, int]:
    if rng.random() < 0.4:
        return {}
    high = rng.choice((200, 1000, 5000))
    return {
        "chunk": rng.choice((1, 64, 300, 1000)),
        "high water": high,
        "low water": high // 2,
        "batch": rng.choice((1, 100, 1000)),
        "large payload": rng.choice((8, 64, 1000)),
        "lame duck grace": rng.choice((1, 5)),
    }


@contextmanager
def limits(chosen: dict[str, int]) -> Iterator[None]:
    """Put the chosen limits into the code, and take them out again."""
    before = [(module, name, getattr(module, name)) for name_ in chosen for module, name in _LIMITS[name_]]
    for limit, value in chosen.items():
        for module, name in _LIMITS[limit]:
            setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def limit(knobs: Knobs, name: str) -> int:
    """A limit as it is during this seed."""
    module, attribute = _LIMITS[name][0]
    return knobs.limits.get(name, getattr(module, attribute))
