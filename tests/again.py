"""Run the tests, and what failed beside the others once more by itself: ``python -m tests.again -n 8 tests/jetstream``.

Thousands of tests with servers, elections and faults share a machine of two cores, and now and then one of them meets
a moment that the machine stands still. Whether the test or the machine was at fault shows when it has the machine for
itself: what is wrong in the code is wrong there as well. So a few failed tests with servers run again, one after the
other and `ROUNDS` times, and all those runs have to pass. What passed only then is named at the end: it is to be
mended like any other fault, but it does not hold up a change that has nothing to do with it.

Tests without servers depend on nothing but the code and get no second chance, nor does a run with more than `FEW`
failures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["main", "may_be_chance"]

FEW: Final = 5
"""The most failed tests that may have failed by chance."""
ROUNDS: Final = 5
"""How often each of them has to pass by itself."""
WITH_SERVERS: Final = (
    "tests/adapters/",
    "tests/benchmarks/",
    "tests/examples/",
    "tests/faults/",
    "tests/interop/",
    "tests/jetstream/",
)
FAILED: Final = 1
"""What pytest returns when tests were run and some of them failed; other faults have other numbers."""


def main(arguments: list[str]) -> int:
    """Run pytest with these arguments, and once more by itself what failed; return the status to end with."""
    with tempfile.TemporaryDirectory() as folder:
        status = _pytest([*arguments, "-o", f"cache_dir={folder}"])
        failed = _failed(Path(folder))
    if status != FAILED or not may_be_chance(failed):
        return status
    print(f"\nBy themselves, {ROUNDS} times: {', '.join(failed)}", flush=True)
    for _ in range(ROUNDS):
        if again := _pytest(["-q", "-p", "no:cacheprovider", *failed]):
            return again
    print("\nFailed beside other tests, passed by themselves, and are to be mended:", *failed, sep="\n  ", flush=True)
    return 0


def may_be_chance(failed: list[str]) -> bool:
    """Whether these tests may run again: they are few, and each of them has servers."""
    return 0 < len(failed) <= FEW and all(test.startswith(WITH_SERVERS) for test in failed)


def _pytest(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


def _failed(cache: Path) -> list[str]:
    """What pytest has written down of the tests that failed."""
    written = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(written.read_text())) if written.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
