"""What servers really got: read from their trace, which knows nothing of the clients' own counting.

A server started with `TRACED` writes down every operation it has parsed, at once, so that the record is complete even
when it is killed. Payloads begin with ``<publisher>:<serial>:``.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from nats_proto import Disconnected, LifecycleEvent, Reconnected
from nats_sync.testing import LocalServer

__all__ = [
    "FULL",
    "QUICK",
    "TRACED",
    "Gaps",
    "check_runs",
    "connections_of",
    "numbered",
    "parser_errors",
    "runs_of",
]

FULL: Final = os.environ.get("FAULTS") == "full"
"""``FAULTS=full pytest tests/faults --timeout 0``: each fault as often and as long as a release asks for, some for
minutes; otherwise as `make test` has time for."""

QUICK: Final[dict[str, Any]] = {
    "ping_interval": 0.2,
    "max_pings_out": 50,
    "reconnect_wait": 0.05,
    "reconnect_jitter": 0.01,
    "reconnect_jitter_tls": 0.01,
}
"""The options of a fault test, unless it says that it runs with the defaults. A server that stands still for a moment
is not left; a test of silence says how many PINGs may be unanswered."""

TRACED: Final[dict[str, Any]] = {"trace": True, "max_traced_msg_len": 64}
"""The configuration of a `LocalServer` that keeps a record."""

_PAYLOAD = re.compile(
    r'\[(\d+)\] .*? - [cw]id:(\d+) - .*?<<- MSG_PAYLOAD: \["?(?:NATS/1\.0.*?\\r\\n\\r\\n)?(\w+):(\d+):', re.MULTILINE
)
_ERRORS = re.compile(r"^.*(?:parser? error|unknown protocol|protocol error).*$", re.IGNORECASE | re.MULTILINE)


def numbered(publisher: str, serial: int, size: int = 0) -> bytes:
    """A payload that the record recognises, of ``size`` bytes or what it takes."""
    return f"{publisher}:{serial}:".encode().ljust(size, b".")


def runs_of(publisher: str, servers: Iterable[LocalServer]) -> list[list[int]]:
    """The serials that each connection of ``publisher`` brought, in the order of the connections' first serials."""
    runs: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for server in servers:
        for pid, cid, who, serial in _PAYLOAD.findall(server.log()):
            if who == publisher:
                runs[server.name, pid, cid].append(int(serial))
    return sorted(runs.values())


def check_runs(runs: Sequence[Sequence[int]], total: int) -> list[range]:
    """No double, no reorder, and what is lost are single runs right before a cut. Returns those runs."""
    lost: list[range] = []
    expected = 0
    for run in runs:
        assert list(run) == list(range(run[0], run[-1] + 1)), f"a connection that skips or repeats: {run}"
        assert run[0] >= expected, f"serials from {run[0]} on came twice (expected {expected})"
        if run[0] > expected:
            lost.append(range(expected, run[0]))
        expected = run[-1] + 1
    if expected < total:
        lost.append(range(expected, total))
    return lost


def connections_of(server: LocalServer, name: str) -> int:
    """How many connections with this client name the server has now."""
    connections: Any = server.connz()["connections"]
    return sum(1 for connection in connections if connection.get("name") == name)


def parser_errors(*servers: LocalServer) -> list[str]:
    """What the servers complained about."""
    return [line for server in servers for line in _ERRORS.findall(server.log())]


class Gaps:
    """An ``on_event`` that measures how long each time without a connection was."""

    def __init__(self) -> None:
        self._since: float | None = None
        self.seconds: list[float] = []

    def __call__(self, event: LifecycleEvent) -> None:
        if isinstance(event, Disconnected):
            self._since = time.monotonic()
        elif isinstance(event, Reconnected) and self._since is not None:
            self.seconds.append(time.monotonic() - self._since)

    def table(self, fault: str, leg: str, lost: Sequence[range]) -> str:
        """One line for people: what the fault cost."""
        ms = sorted(gap * 1000 for gap in self.seconds)
        p95 = ms[min(len(ms) - 1, int(len(ms) * 0.95))]
        return (
            f"{fault} {leg}: {len(ms)} cuts, {sum(map(len, lost))} handed-over messages lost, 0 doubled, "
            f"gap p50 {statistics.median(ms):.0f} ms, p95 {p95:.0f} ms, max {ms[-1]:.0f} ms"
        )
