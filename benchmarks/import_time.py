"""What an import costs beyond a bare interpreter, in ms: ``python -m benchmarks.import_time``.

Interpreters are started in turn, bare and with each import, after a first round that compiles what was not compiled.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

BARE = "pass"
IMPORTS = ("import msgspec", "import nats_sync", "import anyio", "import nats_anyio")


def started(code: str) -> float:
    """How long an interpreter takes to start, run ``code`` and end, in ms."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return (time.perf_counter() - begin) * 1e3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=25)
    rounds = options.parse_args().rounds
    codes = (BARE, *IMPORTS)
    for code in codes:
        started(code)
    taken = [[started(code) for code in codes] for _ in range(rounds)]
    print(f"{platform.python_implementation()} {platform.python_version()}, median of {rounds} (least)")
    bare, *others = zip(*taken, strict=True)
    for code, figures in zip(IMPORTS, others, strict=True):
        beyond = statistics.median(figures) - statistics.median(bare)
        print(f"  {code:<20}{beyond:>7.1f} ms ({min(figures) - min(bare):.1f})")


if __name__ == "__main__":
    main()
