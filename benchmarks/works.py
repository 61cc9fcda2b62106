"""What is measured: each work with its cases, the figures it gives, and what stands on the other side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from . import parse_rate, pool_rotation

__all__ = ["GROWTH", "MANY_SUBSCRIPTIONS", "SIZES", "Case", "Metric", "Result", "Work", "all_works"]

Result = Mapping[str, object]
Side = Literal[
    "none",
    "count",
    "feed",
    "spread",
    "echo",
    "restart",
    "memory",
    "import",
    "stored",
    "consumer",
    "stream",
    "bucket",
    "keys",
    "objects",
    "object",
]

SIZES = {"16 B": 16, "128 B": 128, "1 KiB": 1024, "64 KiB": 65536}
MANY_SUBSCRIPTIONS = 10_000
FAN_OUT = 1000
SPREADS = (1, 10, 100, 1000, 10_000)
THREADS = (1, 4, 16, 64)
TASKS = (100, 1000, 10_000)
IDLE = 64
HUGE = 64 * 2**20
GROWTH = ("1 x", "10 x")
MILLION = 1_000_000
WATCHED = 100_000
CHUNK = 128 * 1024
"""Bytes of a chunk of an object, the usual size."""


def number(result: Result, name: str) -> float | None:
    value = result.get(name)
    return float(value) if isinstance(value, (int, float)) else None


def _ratio(over: str, under: str, scale: float = 1.0) -> Callable[[Result], float | None]:
    def read(result: Result) -> float | None:
        one, two = number(result, over), number(result, under)
        return one / two * scale if one is not None and two else None

    return read


def _scaled(name: str, scale: float = 1.0) -> Callable[[Result], float | None]:
    def read(result: Result) -> float | None:
        value = number(result, name)
        return None if value is None else value * scale

    return read


@dataclass(frozen=True)
class Metric:
    """One figure of a repetition."""

    name: str
    unit: str
    read: Callable[[Result], float | None]
    more_is_better: bool = False


RATE = Metric("rate", "k/s", _ratio("counted", "seconds", 1e-3), more_is_better=True)
CPU = Metric("cpu", "us", _ratio("cpu", "counted", 1e6))
P50 = Metric("p50", "us", _scaled("p50", 1e6))
P99 = Metric("p99", "us", _scaled("p99", 1e6))
ONE_IN_FLIGHT = (P50, P99, CPU)
MEMORY = (
    Metric("throughput", "MB/s", _ratio("counted", "seconds", HUGE / 1e6), more_is_better=True),
    Metric("resident", "MB", _scaled("resident", 1e-6)),
    Metric("peak", "MB", _scaled("peak", 1e-6)),
)
GROWN = Metric("grown", "MB", _scaled("grown", 1e-6))
EACH = Metric("each", "ns", _ratio("seconds", "counted", 1e9))


@dataclass(frozen=True)
class Case:
    """One variant of a work. A ``count`` is fixed; without one a pilot run finds how many messages fill the time."""

    label: str
    size: int = 16
    subs: int = 0
    workers: int = 0
    """Threads or tasks beside each other."""
    transport: str = "tcp"
    stream: str = ""
    count: int = 0
    quick: bool = True
    """Whether a quick run has it."""


@dataclass(frozen=True)
class Work:
    """A kind of work. The first metric is the one that is plotted."""

    name: str
    title: str
    program: str
    """What the child programs call it."""
    side: Side
    cases: Sequence[Case]
    metrics: Sequence[Metric]
    pilot: int = 0
    """Messages of the pilot run, few enough for the slowest client."""
    most: int = 4_000_000
    ability: str = ""
    """What a client must be able to do for it, if that is not the program's name."""

    @property
    def copies(self) -> bool:
        """Whether each subscription gets every message."""
        return self.program == "fan_out"

    @property
    def streams(self) -> bool:
        """Whether the server has JetStream."""
        return self.side in ("stored", "consumer", "stream", "bucket", "keys", "objects", "object")

    @property
    def needs(self) -> str:
        return self.ability or self.program


def sizes(quick: Sequence[str] = ("16 B", "64 KiB")) -> list[Case]:
    return [Case(label, size, quick=label in quick) for label, size in SIZES.items()]


def threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def from_threads(labels: Sequence[str]) -> list[Case]:
    """The same work by ever more threads on one client."""
    return [
        Case(f"{label}, {threads(workers)}", SIZES[label], workers=workers, quick=workers in (1, 64))
        for label in labels
        for workers in THREADS
    ]


def from_tasks() -> list[Case]:
    return [Case(f"16 B, {workers:,} tasks", workers=workers, quick=workers != 1000) for workers in TASKS]


def over() -> list[Case]:
    chosen = ("16 B", "1 KiB", "64 KiB")
    return [
        Case(f"{transport}, {label}", SIZES[label], transport=transport, quick=label == "16 B" and transport != "tcp")
        for transport in ("tcp", "tls", "ws", "wss")
        for label in chosen
    ]


def grown(count: int, *, subs: int = 0) -> list[Case]:
    return [
        Case(label, subs=subs * factor, count=count * factor, stream=next(iter(parse_rate.STREAMS)), quick=False)
        for label, factor in zip(GROWTH, (1, 10), strict=True)
    ]


def jetstream() -> list[Work]:
    """One memory stream, messages of 128 bytes."""
    case, messages, pilot = [Case("128 B", 128)], (RATE, CPU), 5000
    ways = [Case(way, 128, count=MILLION, stream=way, quick=False) for way in ("fetch", "messages", "work")]
    first = Metric("first", "ms", _scaled("seconds", 1e3))
    return [
        Work("js-window", "JetStream: publish, 1,000 under way", "js_window", "stored", case, messages, pilot),
        Work("js-publish", "JetStream: publish, one after the other", "js_publish", "stored", case, ONE_IN_FLIGHT, 500),
        Work("js-fetch", "JetStream: fetch 500, and acknowledge", "js_fetch", "consumer", case, messages, pilot),
        Work("js-messages", "JetStream: messages, and acknowledge", "js_messages", "consumer", case, messages, pilot),
        Work("js-work", "JetStream: work by 8 empty handlers", "js_work", "consumer", case, messages, pilot),
        Work("js-ordered", "JetStream: ordered consumer", "js_ordered", "stream", case, messages, pilot),
        Work("js-memory", "JetStream: memory of 1,000,000 messages", "js_memory", "consumer", ways, (GROWN, RATE)),
        Work("js-first", "JetStream: first use in a process", "js_first", "none", [Case("first", count=1)], (first,)),
    ]


def buckets() -> list[Work]:
    """Key-Value with values of 128 bytes, and an object, each in a memory bucket of its own; and services."""
    case = [Case("128 B", 128)]
    many = [Case(f"{WATCHED:,} keys", 128, count=WATCHED, quick=False)]
    objects = [
        Case("64 MiB", CHUNK, count=64 * 2**20 // CHUNK),
        Case("1 GiB", CHUNK, count=2**30 // CHUNK, quick=False),
    ]
    whole = (
        Metric("throughput", "MB/s", _ratio("counted", "seconds", CHUNK / 1e6), more_is_better=True),
        GROWN,
        Metric("cpu", "us", _ratio("cpu", "counted", 1e6)),
    )
    asked = [Case(way, 16, stream=way) for way in ("plain", "service")]
    return [
        Work("kv-put", "Key-Value: put, one after the other", "kv_put", "bucket", case, ONE_IN_FLIGHT, 500),
        Work("kv-get", "Key-Value: get, one after the other", "kv_get", "keys", case, ONE_IN_FLIGHT, 500),
        Work("kv-watch", f"Key-Value: watch {WATCHED:,} keys", "kv_watch", "keys", many, (RATE, CPU)),
        Work("object-put", "Object store: put", "object_put", "objects", objects, whole),
        Work("object-get", "Object store: get", "object_get", "object", objects, whole),
        Work("service", "Request to a service, and to a plain callback", "service", "none", asked, ONE_IN_FLIGHT, 500),
    ]


def all_works() -> list[Work]:
    """In the order they are measured and shown."""
    streams = [Case(name, stream=name) for name in parse_rate.STREAMS]
    pools = [Case(f"{size:,} servers", size, count=200_000, quick=False) for size in pool_rotation.SIZES]
    many = Case(f"{MANY_SUBSCRIPTIONS:,}", subs=MANY_SUBSCRIPTIONS, count=MANY_SUBSCRIPTIONS)
    subscribing = (
        Metric("bytes", "B", _scaled("bytes_each")),
        Metric("subscribe", "ms", _scaled("seconds", 1e3)),
        Metric("restore", "ms", _scaled("restored", 1e3)),
    )
    messages = (RATE, CPU)
    tall = 20_000
    return [
        Work("publish", "Publish", "publish", "count", sizes(), messages, tall),
        Work("publish-many", "Publish many at once", "publish_many", "count", sizes(), messages, tall),
        Work("subscribe", "Subscribe by iterator", "subscribe_iterator", "feed", sizes(), messages, tall),
        Work("batch", "Subscribe by batch", "subscribe_batch", "feed", sizes(), messages, tall),
        Work("callback", "Subscribe by callback", "subscribe_callback", "feed", sizes(), messages, tall),
        Work("request", "Request, one after the other", "request", "echo", [Case("16 B")], (P50, P99, CPU), 500),
        Work("concurrent", "100 requests at once", "request_concurrent", "echo", [Case("16 B")], messages, 2000),
        Work(
            "fan-out",
            f"Fan-out to {FAN_OUT:,} subscriptions",
            "fan_out",
            "feed",
            [Case("16 B", subs=FAN_OUT)],
            messages,
            20,
        ),
        Work(
            "spread",
            "Subscribe by callback, spread over so many subscriptions",
            "spread",
            "spread",
            [Case(f"16 B over {subs:,}", subs=subs, quick=subs in (10, 1000)) for subs in SPREADS],
            messages,
            tall,
        ),
        Work(
            "publish-threads",
            "Publish from threads",
            "publish_threads",
            "count",
            from_threads(["16 B", "1 KiB"]),
            messages,
            tall,
        ),
        Work(
            "request-threads",
            "Requests from threads",
            "request_threads",
            "echo",
            from_threads(["16 B"]),
            messages,
            2000,
        ),
        Work(
            "request-tasks",
            "Requests from tasks",
            "request_tasks",
            "echo",
            from_tasks(),
            messages,
            20_000,
        ),
        Work(
            "one-in-flight",
            "Publish to callback, one message in flight",
            "one_in_flight",
            "none",
            [Case("16 B"), Case(f"16 B, {IDLE} idle", subs=IDLE)],
            ONE_IN_FLIGHT,
            500,
        ),
        Work(
            "huge",
            "Subscribe by callback, 64 MiB messages",
            "huge",
            "feed",
            [Case("64 MiB", HUGE, count=12)],
            MEMORY,
        ),
        Work("subscriptions", f"{MANY_SUBSCRIPTIONS:,} subscriptions", "subscriptions", "restart", [many], subscribing),
        Work("connect", "Connect", "connect", "none", [Case("tcp", count=100)], (P50, P99)),
        Work(
            "reconnect",
            "Reconnect to a restarted server, 10 ms between attempts",
            "subscriptions",
            "restart",
            [Case("tcp")],
            (Metric("restore", "ms", _scaled("restored", 1e3)),),
            ability="reconnect",
        ),
        Work(
            "import",
            "Import, beyond bare Python",
            "import",
            "import",
            [Case("import")],
            (Metric("import", "ms", _scaled("milliseconds")),),
        ),
        Work("tls-publish", "Publish over TLS and WebSocket", "publish", "count", over(), messages, tall),
        Work("tls-subscribe", "Subscribe over TLS and WebSocket", "subscribe_iterator", "feed", over(), messages, tall),
        *jetstream(),
        *buckets(),
        Work("parser", "Parser in memory, 64 KiB chunks", "parse", "memory", streams, (RATE,), tall),
        Work("encoder", "Encoder in memory", "encode", "memory", sizes()[:3], (RATE,), tall),
        Work("pool", "Next server of so many", "pool", "memory", pools, (EACH,)),
        Work("growth-publish", "Growth: publish", "publish", "count", grown(60_000), (EACH,)),
        Work("growth-subscribe", "Growth: subscribe", "subscribe_iterator", "feed", grown(60_000), (EACH,)),
        Work("growth-request", "Growth: requests", "request", "echo", grown(300), (EACH,)),
        Work("growth-parser", "Growth: parser", "parse", "memory", grown(60_000), (EACH,)),
        Work("growth-bytes", "Growth: a payload, byte by byte", "byte_by_byte", "memory", grown(2**20), (EACH,)),
        Work(
            "growth-subscriptions",
            "Growth: subscriptions",
            "subscriptions",
            "restart",
            grown(MANY_SUBSCRIPTIONS // 10, subs=MANY_SUBSCRIPTIONS // 10),
            (EACH, Metric("bytes", "B", _scaled("bytes_each"))),
        ),
    ]
