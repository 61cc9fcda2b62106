"""The simulated world: 300 seeds, none may fail, and the same seed is the same run on every interpreter's hash."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.campaign import checked, replay_command
from tests.simulation.run import run_seed

SEEDS = 300
PART = 25


@pytest.mark.parametrize("start", range(0, SEEDS, PART))
def test_seeds(start: int) -> None:
    for seed in range(start, start + PART):
        result = checked(seed)
        assert result.failure is None, f"{result.failure}\nreplay it with: {replay_command(seed)}"
        assert result.steps > 0


def test_two_hash_seeds_make_one_trace() -> None:
    code = "from tests.simulation.run import run_seed; print(run_seed(7, recording=True).fingerprint)"
    prints = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for hash_seed in ("1", "4711")
    }
    assert prints == {run_seed(7, recording=True).fingerprint}
