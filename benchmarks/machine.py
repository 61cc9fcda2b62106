"""Where and with what a run was made: machine, system, versions, date. Nothing that names the machine's owner."""

from __future__ import annotations

import os
import platform
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nats_sync.testing import LocalServer

from .roster import Present

__all__ = ["busy_share", "describe", "versions"]


def describe() -> dict[str, Any]:
    """The machine, and how busy it is before the run."""
    busy = busy_share()
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": _value("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(int((_value("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
        "busy_before": None if busy is None else round(busy, 2),
    }


def busy_share(seconds: float = 0.5) -> float | None:
    """How much of all cores others use right now, 0 to 1: what a quiet machine has near 0. None where nobody says."""
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    if before is None or after is None or after[1] == before[1]:
        return None
    return 1.0 - (after[0] - before[0]) / (after[1] - before[1])


def _ticks() -> tuple[int, int] | None:
    """Idle, and all."""
    try:
        fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return None
    return fields[3] + fields[4], sum(fields)


def versions(present: Sequence[Present]) -> dict[str, Any]:
    """Everything that takes part."""
    with LocalServer() as server:
        nats_server = server.varz()["version"]
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
        "openssl": ssl.OPENSSL_VERSION,
        "nats-server": nats_server,
        "commit": _commit(),
        "clients": {
            found.name: {name: value for name, value in found.about.items() if name not in ("python", "lacks")}
            for found in present
        },
    }


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=here, capture_output=True, text=True
        )
    except OSError:
        return None
    return answer.stdout.strip() or None


def _value(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)
