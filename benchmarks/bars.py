"""What we want to reach, as ratios within one run: each bar met, not met, or not measured, with both figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .roster import COMPILED, PURE, pure_of
from .rounds import Row
from .works import GROWTH, HUGE, MANY_SUBSCRIPTIONS

__all__ = ["BARS", "Bar", "Figure", "Verdict", "judged", "of_checkout"]

Status = Literal["met", "not met", "not measured"]


@dataclass(frozen=True)
class Figure:
    """The median of a row."""

    work: str
    case: str
    client: str
    metric: str

    def __str__(self) -> str:
        return f"{self.client} {self.work}"


@dataclass(frozen=True)
class Bar:
    """``ours`` divided by ``theirs`` is at least, or at most, a number; without ``theirs`` it is ``ours`` itself."""

    title: str
    ours: Figure
    limit: float
    theirs: Figure | None = None
    at_most: bool = False

    @property
    def wanted(self) -> str:
        sign = "<=" if self.at_most else ">="
        of = "" if self.theirs is None else f" x {self.theirs}"
        return f"{sign} {self.limit:,g}{of}"


@dataclass(frozen=True)
class Verdict:
    """A bar and the figures of a run."""

    bar: Bar
    status: Status
    ours: float | None
    theirs: float | None
    ratio: float | None
    reason: str = ""


def _bars() -> Iterable[Bar]:
    both = ("threads", "asyncio")
    for client in both:
        ours = Figure("subscribe", "16 B", client, "rate")
        for other, limit in (("nats.c", 1.05), ("raw", 0.65), ("nats-py", 20)):
            theirs = Figure("subscribe", "16 B", other, "rate")
            yield Bar("subscribe 16 B by iterator", ours, limit, theirs)
    for client in both:
        ours = Figure("callback", "16 B", client, "rate")
        for other, limit in (("nats.c", 0.9), ("nats-py", 5)):
            yield Bar("subscribe 16 B by callback", ours, limit, Figure("callback", "16 B", other, "rate"))
    natsc = Figure("publish", "16 B", "nats.c", "rate")
    yield Bar("publish 16 B", Figure("publish", "16 B", "asyncio", "rate"), 0.55, natsc)
    yield Bar("publish 16 B", Figure("publish", "16 B", "threads", "rate"), 0.3, natsc)
    for client in both:
        yield Bar("publish_many 16 B", Figure("publish-many", "16 B", client, "rate"), 0.8, natsc)
    for work, what in (
        ("publish", "publish 64 KiB"),
        ("subscribe", "subscribe 64 KiB by iterator"),
        ("callback", "subscribe 64 KiB by callback"),
    ):
        for client in both:
            theirs = Figure(work, "64 KiB", "nats.c", "rate")
            yield Bar(what, Figure(work, "64 KiB", client, "rate"), 0.85, theirs)
    for client, limit in zip(both, (1.2, 1.45), strict=True):
        raw = Figure("request", "16 B", "raw", "p50")
        yield Bar("request p50", Figure("request", "16 B", client, "p50"), limit, raw, at_most=True)
    for client, other in (("asyncio", "nats-py"), ("uvloop", "nats-py-uvloop")):
        theirs = Figure("concurrent", "16 B", other, "rate")
        yield Bar("100 concurrent requests", Figure("concurrent", "16 B", client, "rate"), 1.5, theirs)
    for work, what in (("tls-publish", "publish 1 KiB over TLS"), ("tls-subscribe", "subscribe 1 KiB over TLS")):
        for client in both:
            theirs = Figure(work, "tls, 1 KiB", "raw", "rate")
            yield Bar(what, Figure(work, "tls, 1 KiB", client, "rate"), 0.6, theirs)
    for client in both:
        each = Figure("subscriptions", f"{MANY_SUBSCRIPTIONS:,}", client, "bytes")
        yield Bar(f"{MANY_SUBSCRIPTIONS:,} subscriptions, bytes of each", each, 1000, at_most=True)
    yield Bar("import nats_sync, ms", Figure("import", "import", "threads", "import"), 40, at_most=True)
    yield Bar("import nats_sync without asyncio", Figure("import", "import", "threads", "asyncio"), 0, at_most=True)
    for client in map(pure_of, both):
        for work in ("subscribe", "callback"):
            theirs = Figure("callback", "16 B", "nats-py", "rate")
            yield Bar("pure: subscribe 16 B", Figure(work, "16 B", client, "rate"), 3, theirs)
        theirs = Figure("publish", "16 B", "nats-py-uvloop", "rate")
        yield Bar("pure: publish 16 B", Figure("publish", "16 B", client, "rate"), 1.2, theirs)


def _growth() -> Iterable[Bar]:
    """Linear cost: ten times the work costs each message what it cost before, give or take what a machine does."""
    for work, clients in (
        ("growth-publish", ("threads", "asyncio")),
        ("growth-subscribe", ("threads", "asyncio")),
        ("growth-request", ("threads", "asyncio")),
        ("growth-subscriptions", ("threads", "asyncio")),
        ("growth-parser", ("core",)),
        ("growth-bytes", ("core",)),
    ):
        for client in clients:
            small, large = (Figure(work, case, client, "each") for case in GROWTH)
            yield Bar("10 x the work, ns for each", large, 1.5, small, at_most=True)


def _collapse() -> Iterable[Bar]:
    """Many subscriptions, many threads, many tasks, and one message at a time: no client may fall far behind there."""
    for subs, limit in (("1", 1.0), ("10", 0.7), ("100", 0.7), ("1,000", 0.6), ("10,000", 0.4)):
        for client in ("threads", "asyncio", "trio"):
            ours, theirs = (Figure("spread", f"16 B over {subs}", name, "rate") for name in (client, "nats.go"))
            yield Bar(f"subscribe 16 B over {subs}", ours, limit, theirs)
    for size, limit in (("16 B", 0.6), ("1 KiB", 0.7)):
        many, one = (
            Figure("publish-threads", f"{size}, {count}", "threads", "rate") for count in ("64 threads", "1 thread")
        )
        yield Bar(f"publish {size}, 64 threads beside 1", many, limit, one)
    for count in (4, 16, 64):
        ours, theirs = (
            Figure("request-threads", f"16 B, {count} threads", name, "rate") for name in ("threads", "nats.c")
        )
        yield Bar(f"requests from {count} threads", ours, 1.1, theirs)
    for tasks, limit in (("100", 0.9), ("1,000", 0.85), ("10,000", 0.6)):
        case = f"16 B, {tasks} tasks"
        ours, theirs, trio = (Figure("request-tasks", case, name, "rate") for name in ("asyncio", "nats.go", "trio"))
        yield Bar(f"requests from {tasks} tasks", ours, limit, theirs)
        yield Bar(f"requests from {tasks} tasks", trio, 0.7, ours)
    for case, what in (("16 B", "one in flight, p50"), ("16 B, 64 idle", "one in flight, 64 idle, p50")):
        for client, other, limit in (
            ("asyncio", "nats-py", 1.0),
            ("uvloop", "nats-py-uvloop", 1.0),
            ("threads", "nats.go", 1.15),
            ("trio", "asyncio", 1.2),
        ):
            ours, theirs = (Figure("one-in-flight", case, name, "p50") for name in (client, other))
            yield Bar(what, ours, limit, theirs, at_most=True)
    for client in ("threads", "asyncio", "trio"):
        for size, other, limit in (("1 KiB", "nats.go", 0.9), ("64 KiB", "nats.c", 0.95)):
            ours, theirs = (Figure("publish", size, name, "rate") for name in (client, other))
            yield Bar(f"publish {size} per call", ours, limit, theirs)
    for client in ("threads", "asyncio"):
        ours, theirs = (Figure("huge", "64 MiB", name, "throughput") for name in (client, "nats.go"))
        yield Bar("subscribe 64 MiB", ours, 0.8, theirs)
        resident = Figure("huge", "64 MiB", client, "resident")
        yield Bar("subscribe 64 MiB, resident MB", resident, round(HUGE / 1e6 + 40), at_most=True)


def _jetstream() -> Iterable[Bar]:
    """Streams are why people choose NATS: ours are quick beside those of other languages, and memory is flat."""

    def figure(work: str, client: str, metric: str = "rate") -> Figure:
        return Figure(work, "128 B", client, metric)

    for client in COMPILED:
        for other, limit in (("nats.go", 1.1), ("nats.c", 0.9)):
            yield Bar(
                "publish to a stream, 1,000 under way", figure("js-window", client), limit, figure("js-window", other)
            )
        ours, theirs = (figure("js-publish", name, "p50") for name in (client, "nats.go"))
        yield Bar("publish to a stream, p50", ours, 1.1, theirs, at_most=True)
        yield Bar("fetch 500 and ack", figure("js-fetch", client), 1.1, figure("js-fetch", "nats.go"))
        yield Bar("messages and ack", figure("js-messages", client), 1.3, figure("js-messages", "nats.go"))
        yield Bar("work, 8 handlers", figure("js-work", client), 0.5, figure("js-messages", client))
        yield Bar("ordered consumer", figure("js-ordered", client), 1.5, figure("js-fetch", client))
    for client in ("threads", "asyncio"):
        yield Bar("first jetstream(), ms", Figure("js-first", "first", client, "first"), 25, at_most=True)
        for way in ("fetch", "messages", "work"):
            grown = Figure("js-memory", way, client, "grown")
            yield Bar(f"1,000,000 by {way}, MB grown", grown, 4, at_most=True)


def _buckets() -> Iterable[Bar]:
    """Buckets and services: as quick as nats.go's, large objects take little memory, and a service costs no request."""
    for client in COMPILED:
        for work, what in (("kv-put", "put a key, p50"), ("kv-get", "get a key, p50")):
            ours, theirs = (Figure(work, "128 B", name, "p50") for name in (client, "nats.go"))
            yield Bar(what, ours, 1.0, theirs, at_most=True)
        ours, theirs = (Figure("kv-watch", "100,000 keys", name, "rate") for name in (client, "nats.go"))
        yield Bar("watch 100,000 keys", ours, 1.0, theirs)
        for work, what in (("object-put", "put 1 GiB"), ("object-get", "get 1 GiB")):
            ours, theirs = (Figure(work, "1 GiB", name, "throughput") for name in (client, "nats.go"))
            yield Bar(what, ours, 0.9, theirs)
            yield Bar(f"{what}, MB grown", Figure(work, "1 GiB", client, "grown"), 33.5, at_most=True)
        ours, theirs = (Figure("service", case, client, "p50") for case in ("service", "plain"))
        yield Bar("request to a service, p50", ours, 1.05, theirs, at_most=True)


BARS: Sequence[Bar] = (*_bars(), *_collapse(), *_jetstream(), *_buckets(), *_growth())


def of_checkout(name: str) -> list[Bar]:
    """The same bars for our clients of another checkout, held beside the same peers."""

    def there(figure: Figure) -> Figure:
        own = (*COMPILED, *PURE, "core", "core-pure")
        return replace(figure, client=f"{figure.client}@{name}") if figure.client in own else figure

    return [replace(bar, ours=there(bar.ours), theirs=bar.theirs and there(bar.theirs)) for bar in BARS]


def judged(rows: Sequence[Row], bars: Sequence[Bar] = BARS, missing: Mapping[str, str] | None = None) -> list[Verdict]:
    """Every bar, from the medians of one run. ``missing``: why clients are not there."""
    found = {(row.work, row.case, row.client): row for row in rows}

    def median(figure: Figure) -> float | None:
        row = found.get((figure.work, figure.case, figure.client))
        if row is None or not row.valid:
            return None
        if figure.metric in row.notes:
            return float(bool(row.notes[figure.metric]))
        return row.median(figure.metric)

    def why(bar: Bar, figure: Figure) -> str:
        row = found.get((figure.work, figure.case, figure.client))
        if row is not None:
            return f"{figure}: {row.failed or row.wrong or 'no figure'}"
        twin = _pure_twin(bar)
        if twin is not None and (verdict := _verdict(twin, median, why)).ratio is not None:
            return f"no compiled module; pure: {verdict.ratio:.4g}"
        return f"{figure}: {(missing or {}).get(figure.client, 'not part of this run')}"

    return [_verdict(bar, median, why) for bar in bars]


def _pure_twin(bar: Bar) -> Bar | None:
    """The same bar for the client without the compiled module: what is known when there is none."""
    if bar.ours.client not in (*COMPILED, "core"):
        return None
    ours = replace(bar.ours, client=pure_of(bar.ours.client))
    same = bar.theirs is not None and bar.theirs.client == bar.ours.client
    theirs = replace(bar.theirs, client=ours.client) if same and bar.theirs is not None else bar.theirs
    return replace(bar, ours=ours, theirs=theirs)


def _verdict(bar: Bar, median: Callable[[Figure], float | None], why: Callable[[Bar, Figure], str]) -> Verdict:
    ours: float | None = median(bar.ours)
    theirs: float | None = None if bar.theirs is None else median(bar.theirs)
    for figure, value in ((bar.ours, ours), (bar.theirs, theirs)):
        if figure is not None and value is None:
            return Verdict(bar, "not measured", ours, theirs, None, why(bar, figure))
    assert ours is not None
    ratio = ours if theirs is None else ours / theirs
    met = ratio <= bar.limit if bar.at_most else ratio >= bar.limit
    return Verdict(bar, "met" if met else "not met", ours, theirs, ratio)
