"""The threaded client on a system without ``poll``: the behaviour suite, and a caller who sends in parts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = ("reconnect", "backpressure", "requests")


@pytest.mark.timeout(300)
def test_the_behaviour_suite_without_poll() -> None:
    """In a process of its own, in which what such a system does not have is taken away before anything is imported."""
    command = [
        *(
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.adapters.without_poll",
            "-p",
            "no:cacheprovider",
            "-q",
            "-n",
            "0",
        ),
        *("-k", "threads", "-m", "not matrix"),
        *(f"tests/adapters/test_behaviour_{name}.py" for name in SUITE),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=280)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert "without poll: True" in ran.stdout
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) > 30
