"""What CONTRIBUTING.md names is there: paths, targets of make, rooms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_rooms import GROUND, ROOMS, ROOTS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

SHORT = re.findall(r"\bnats_(?:proto|sync|anyio)/[\w./]*\w", PAGE)
"""Written from a package's folder on, as the page says."""
WHOLE = re.findall(r"(?<![\w./])(?:tests|docs|packages|examples|benchmarks)/[\w./-]*\w", PAGE)
IN_EACH_CLIENT = re.findall(r"`(_\w+(?:/\w+)?\.py)`", PAGE.partition("## The rooms")[2].partition("| room")[2])
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(SHORT)))
def test_a_path_in_a_package_exists(path: str) -> None:
    package, _, inside = path.partition("/")
    assert (ROOTS[package] / inside).exists()


@pytest.mark.parametrize("path", sorted(set(WHOLE)))
def test_a_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("module", sorted(set(IN_EACH_CLIENT)))
def test_a_module_named_without_its_package_exists(module: str) -> None:
    """It is one of the ground, or of each client."""
    if Path(module).stem in GROUND:
        assert (ROOTS["nats_proto"] / module).exists()
    else:
        assert all((ROOTS[client] / module).exists() for client in ("nats_sync", "nats_anyio"))


def test_every_target_exists() -> None:
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", PAGE, re.MULTILINE))
    assert {"dev", "test", "check"} <= named <= set(TARGETS)


def test_every_room_of_the_core_has_its_line() -> None:
    rooms = {room for room in ROOMS["nats_proto"] if (ROOTS["nats_proto"] / room).is_dir()}
    assert rooms
    assert rooms <= set(re.findall(r"`nats_proto/(_\w+)`", PAGE))


def test_much_is_named() -> None:
    """The patterns above find what they are meant to find."""
    assert len(set(SHORT)) > 20
    assert {"tests/test_rooms.py", "docs/embedding.md", "tests/proto"} <= set(WHOLE)
    assert {"_value.py", "_client.py", "_engine/dial.py"} <= set(IN_EACH_CLIENT)
