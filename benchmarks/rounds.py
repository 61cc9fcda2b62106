"""A B A B: the clients of a work in turn, each repetition in a process of its own, each checked."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from nats_proto.errors import NATSError
from nats_sync.testing import LocalServer, LocalServerError

from . import judge, order
from .places import Place
from .roster import Present
from .sides import Child, FailedError, OtherSide, Restarter
from .streams import KEYS, OBJECTS, streams_of
from .works import Case, Result, Work

__all__ = ["Row", "Settings", "measure", "repetition"]

IMPORTS = 5
"""Imports for one figure, each beside a bare interpreter."""

LEAST_EACH = 5
"""Messages or requests of each thread or task at least: starting them is not what is measured."""
LEAST_SPREAD = 10
"""Messages of each subscription at least, where traffic is spread: nor is the first message to each."""


NOT_MEASURED = (LocalServerError, NATSError, OSError, subprocess.SubprocessError, KeyError, ValueError, RuntimeError)
"""What goes wrong around a client, beside what `FailedError` says."""


@dataclass(frozen=True)
class Settings:
    """How long and how often."""

    repetitions: int = 5
    seconds: float = 0.6
    """What a repetition should take."""
    timeout: float = 60.0
    pilots: int = 3
    """Runs at most to find out how many messages that are."""
    fault: str = ""
    """Makes the other side of a subscriber lie, for the tests of the counting."""


@dataclass
class Row:
    """A client's figures at one case of a work."""

    work: str
    case: str
    client: str
    count: int = 0
    figures: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)
    failed: str | None = None
    """It crashed or took too long; nothing is known."""
    wrong: str | None = None
    """Messages were lost, doubled or out of order: its figures mean nothing."""
    excused: bool = False
    """Known of this client, so the run does not fail for it."""

    @property
    def valid(self) -> bool:
        return self.failed is None and self.wrong is None and bool(self.figures)

    def median(self, metric: str) -> float | None:
        """Of all repetitions; None when there is no figure to rely on."""
        return statistics.median(self.figures[metric]) if self.valid and metric in self.figures else None


class WrongError(Exception):
    """The counting found something."""


def measure(
    work: Work, case: Case, clients: Sequence[Present], place: Place, settings: Settings, tell: Callable[[str], None]
) -> list[Row]:
    """All repetitions of all clients at one case."""
    rows = [(client, Row(work.name, case.label, client.name, case.count)) for client in clients]
    for client, row in rows:
        with _recorded(row, client, work):
            if work.pilot and not case.count:
                row.count = _calibrated(work, case, client, place, settings, tell)
    for number in range(settings.repetitions):
        for client, row in rows:
            if row.failed is not None or row.wrong is not None:
                continue
            tell(f"{work.name}, {case.label}: {client.name}, {number + 1} of {settings.repetitions}")
            with _recorded(row, client, work):
                result = repetition(work, case, client, place, row.count, settings)
                for metric in work.metrics:
                    value = metric.read(result)
                    if value is not None:
                        row.figures.setdefault(metric.name, []).append(value)
                if "asyncio" in result:
                    row.notes["asyncio"] = result["asyncio"]
    return [row for _, row in rows]


@contextlib.contextmanager
def _recorded(row: Row, client: Present, work: Work) -> Iterator[None]:
    """What goes wrong is a line of the results, not the end of the run."""
    try:
        yield
    except FailedError as error:
        row.failed = str(error)
    except NOT_MEASURED as error:
        row.failed = f"{type(error).__name__}: {error}"
    except WrongError as error:
        row.wrong = str(error)
        row.excused = work.program in client.client.unordered


def _calibrated(
    work: Work, case: Case, client: Present, place: Place, settings: Settings, tell: Callable[[str], None]
) -> int:
    """How many messages fill the time. The first pilot run proves the order of a publisher as well.

    A short run says little of a client that is only warm after a while, so there may be longer ones.
    """
    count = _pilot(work, case)
    for number in range(settings.pilots):
        tell(f"{work.name}, {case.label}: {client.name}, pilot {number + 1}")
        result = repetition(work, case, client, place, count, settings, proof=number == 0)
        count = _count_for(work, case, result, settings)
        if cast(float, result["seconds"]) > settings.seconds * 0.4:
            break
    return count


def _pilot(work: Work, case: Case) -> int:
    return max(100, work.pilot // 16) if case.size > 4096 else work.pilot


def _count_for(work: Work, case: Case, result: Result, settings: Settings) -> int:
    """As many messages as fill the time at the pilot's speed."""
    speed = float(cast(float, result["counted"])) / float(cast(float, result["seconds"]))
    copies = max(1, case.subs) if work.copies else 1
    count = int(speed * settings.seconds) // copies
    least = max(min(_pilot(work, case), 2000), case.workers * LEAST_EACH)
    if work.side == "spread":
        least = max(least, case.subs * LEAST_SPREAD)
    most = min(work.most, 2**31 // case.size)
    return max(5, min(count, most)) if work.copies else max(100, min(max(count, least), most) // 100 * 100)


def repetition(
    work: Work, case: Case, client: Present, place: Place, count: int, settings: Settings, *, proof: bool = False
) -> Result:
    """One, checked. With ``proof`` a subscriber looks at a publisher's order. Raises `FailedError`, `WrongError`."""
    if work.side == "import":
        return _imports(client, settings)
    target = place.target(case.transport)
    target.server.start()  # after a restart that failed
    order_given = {
        "work": work.program,
        "url": target.url,
        "port": target.server.port,
        "count": count,
        "size": case.size,
        "subs": case.subs,
        "workers": case.workers,
        "case": case.stream,
        "ca": target.ca,
    }
    command = [*client.client.command, *(f"{name}={value}" for name, value in order_given.items())]
    child = Child(command, client.client.environment())
    run = PROOFS[work.side] if proof and work.side in PROOFS else RUNS.get(work.side, _alone)
    return run(child, target.server, case, count, settings)


def _alone(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    with child:
        result = child.line(settings.timeout)
    _raise(judge.check_answers(result, count))
    return result


def _fed(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """The other side publishes."""
    with OtherSide("feed", server.port, count, case.size, 0, *filter(None, [settings.fault])) as other, child:
        result = child.line(settings.timeout)
        sent = other.line(settings.timeout)["sent"]
    _raise(judge.check_order(result, int(cast(int, sent)) * max(1, case.subs)))
    return result


def _spread(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """The other side publishes to one subscription after the other."""
    with OtherSide("feed", server.port, count, case.size, case.subs, *filter(None, [settings.fault])) as other, child:
        result = child.line(settings.timeout)
        sent = other.line(settings.timeout)["sent"]
    _raise(judge.check_order(result, int(cast(int, sent))))
    return result


def _answered(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """The other side answers."""
    with OtherSide("echo", server.port), child:
        result = child.line(settings.timeout)
    _raise(judge.check_answers(result, count))
    return result


def _counted(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """Nobody subscribes; the server counts."""
    before = _counters(server)
    with child:
        result = child.line(settings.timeout)
        expected = count + int(cast(int, result.get("published_besides", 0)))
        deadline = time.monotonic() + 2.0
        while (after := _counters(server))[0] - before[0] < expected and time.monotonic() < deadline:
            time.sleep(0.002)
    messages = after[0] - before[0] - (expected - count)
    _raise(judge.check_server(count, case.size, messages, after[1] - before[1]))
    return result


def _proved(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """A subscriber looks at the order of what is published."""
    sink = OtherSide("sink", server.port, count, case.size, order.ring_size(case.size), max(1, case.workers))
    with sink as other, child:
        result = child.line(settings.timeout)
        other.dismiss()
        found = other.line(settings.timeout)
    _raise(judge.check_order(found, count))
    return result


def _restarted(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """The server is restarted when the client says so."""
    with Restarter(server).running() as restarter, child:
        result = child.line(settings.timeout)
        restarter.wait(settings.timeout)
        connections = cast(list[Mapping[str, int]], server.connz()["connections"])
        found = max(connection["subscriptions"] for connection in connections)
    _raise(judge.check_subscriptions(case.subs + 1, found))
    restored_at = result.get("restored_at")
    if not isinstance(restored_at, float):
        return result
    return {**result, "restored": restored_at - restarter.open_at}


def _stored(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """A stream takes what is published."""
    with streams_of(server) as streams:
        streams.make()
        with child:
            result = child.line(settings.timeout)
        _raise(judge.check_stored(count, streams.stored(count)))
    if "received" in result:  # one after the other: each acknowledgement is of its own publish
        _raise(judge.check_answers(result, count))
    return result


def _stored_in_order(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """The same, and the stream is read."""
    result = _stored(child, server, case, count, settings)
    with streams_of(server) as streams:
        _raise(judge.check_order(streams.findings(count, case.size), count))
    return result


def _read(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """A stream is full of messages."""
    with streams_of(server) as streams:
        streams.make()
        streams.fill(count, case.size, settings.fault)
        with child:
            result = child.line(settings.timeout)
    _raise(judge.check_order(result, count))
    return result


def _acknowledged(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """The same, and its consumer waits for acknowledgements."""
    with streams_of(server) as streams:
        streams.make()
        streams.fill(count, case.size, settings.fault)
        streams.consume()
        with child:
            result = child.line(settings.timeout)
            floor = streams.acknowledged(count)
    _raise(judge.check_order(result, count))
    _raise(judge.check_acknowledged(count, floor))
    return result


def _written(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """A bucket takes values."""
    with streams_of(server, KEYS) as streams:
        streams.make()
        with child:
            result = child.line(settings.timeout)
        _raise(judge.check_stored(count, streams.written(count)))
    _raise(judge.check_answers(result, count))
    return result


def _looked_up(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """A bucket is full of values."""
    with streams_of(server, KEYS) as streams:
        streams.make()
        streams.fill_keys(count, case.size, settings.fault)
        with child:
            result = child.line(settings.timeout)
    _raise(judge.check_order(result, count) if "lost" in result else judge.check_answers(result, count))
    return result


def _put(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """A bucket takes one object: its chunks, and what is said about it."""
    with streams_of(server, OBJECTS) as streams:
        streams.make()
        with child:
            result = child.line(settings.timeout)
        _raise(judge.check_stored(count + 1, streams.stored(count + 1)))
        streams.make()
    return result


def _got(child: Child, server: LocalServer, case: Case, count: int, settings: Settings) -> Result:
    """A bucket has one object."""
    with streams_of(server, OBJECTS) as streams:
        streams.make()
        streams.fill_object(count)
        with child:
            result = child.line(settings.timeout)
        streams.make()
    _raise(judge.check_order(result, count))
    return result


Run = Callable[[Child, LocalServer, Case, int, Settings], Result]

RUNS: Mapping[str, Run] = {
    "feed": _fed,
    "spread": _spread,
    "echo": _answered,
    "count": _counted,
    "restart": _restarted,
    "stored": _stored,
    "stream": _read,
    "consumer": _acknowledged,
    "bucket": _written,
    "keys": _looked_up,
    "objects": _put,
    "object": _got,
}
PROOFS: Mapping[str, Run] = {"count": _proved, "stored": _stored_in_order}
"""Who publishes is looked at more closely in its first pilot run."""


def _counters(server: LocalServer) -> tuple[int, int]:
    varz = server.varz()
    return cast(int, varz["in_msgs"]), cast(int, varz["in_bytes"])


def _imports(client: Present, settings: Settings) -> Result:
    """Milliseconds of an interpreter that imports, beyond one that does not; and whether asyncio came along."""
    env = client.client.environment()
    module = client.client.module
    times: dict[str, list[float]] = {"pass": [], f"import {module}": []}
    for turn in range(IMPORTS + 1):
        for code, kept in times.items():
            start = time.perf_counter()
            answer = subprocess.run(
                [sys.executable, "-c", code], env=env, capture_output=True, timeout=settings.timeout
            )
            if turn:  # the first one leaves compiled files for the others
                kept.append(time.perf_counter() - start)
            if answer.returncode:
                raise FailedError(answer.stderr.decode(errors="replace").strip().splitlines()[-1])
    code = f"import sys, {module}; print('asyncio' in sys.modules)"
    seen = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=settings.timeout)
    bare, whole = (statistics.median(kept) for kept in times.values())
    return {"milliseconds": (whole - bare) * 1e3, "asyncio": seen.stdout.strip() == b"True"}


def _raise(problem: str | None) -> None:
    if problem is not None:
        raise WrongError(problem)
