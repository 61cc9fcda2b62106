"""The second chance of tests with servers: who gets one, and that a fault of the code does not pass by it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests import again

HERE: Final = Path(__file__).parents[1]
BY_CHANCE: Final = """
import pathlib

def test_it():
    been = pathlib.Path(__file__ + ".been")
    seen = been.exists()
    been.touch()
    assert seen
"""
ALWAYS: Final = "def test_it():\n    assert not 'a fault'\n"
NEVER: Final = "def test_it():\n    pass\n"
BROKEN: Final = "import nothing_of_this_name\n"


def _run(folder: Path, files: dict[str, str]) -> tuple[int, str]:
    """The status and the output of a run over these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    command = [sys.executable, "-P", HERE / "tests" / "again.py", "tests"]
    # These tests need no plugins, and to load all of them takes longer than all else.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    ran = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout


@pytest.mark.parametrize(
    ("files", "status", "named"),
    [
        pytest.param({"tests/adapters/test_a.py": NEVER}, 0, False, id="passed"),
        pytest.param({"tests/adapters/test_a.py": BY_CHANCE, "tests/proto/test_b.py": NEVER}, 0, True, id="by chance"),
        pytest.param({"tests/adapters/test_a.py": ALWAYS}, 1, False, id="always"),
        pytest.param({"tests/adapters/test_a.py": BY_CHANCE, "tests/faults/test_b.py": ALWAYS}, 1, False, id="both"),
        pytest.param({"tests/proto/test_a.py": BY_CHANCE}, 1, False, id="without servers"),
        pytest.param({"tests/adapters/test_a.py": BROKEN}, 2, False, id="cannot be imported"),
    ],
)
def test_what_failed_runs_again(tmp_path: Path, files: dict[str, str], status: int, named: bool) -> None:
    ended, shown = _run(tmp_path, files)
    assert ended == status, shown
    assert ("are to be mended:\n  tests/adapters/test_a.py::test_it" in shown) is named, shown


@pytest.mark.parametrize(
    ("failed", "may"),
    [
        ([], False),
        (["tests/faults/test_a.py::test_b"], True),
        (["tests/faults/test_a.py::test_b", "tests/properties/test_a.py::test_b"], False),
        ([f"tests/faults/test_a.py::test_{number}" for number in range(again.FEW)], True),
        ([f"tests/faults/test_a.py::test_{number}" for number in range(again.FEW + 1)], False),
    ],
)
def test_who_gets_a_second_chance(failed: list[str], may: bool) -> None:
    assert again.may_be_chance(failed) is may


def test_the_folders_with_servers_are_there() -> None:
    assert [folder for folder in again.WITH_SERVERS if not (HERE / folder).is_dir()] == []
