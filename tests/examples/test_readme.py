"""What the README shows is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nats_sync.testing import LocalServer

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
THREADS, TASKS, JETSTREAM, PARSER = BLOCKS

ORDERS = """\
orders.new b'a book' Headers([('Trace', '1')])
orders.paid b'a book' None
b'42'
"""


def run(code: str, server: LocalServer) -> str:
    """Run it with another server's URL; what it prints."""
    command = [sys.executable, "-W", "error", "-c", code.replace("nats://127.0.0.1:4222", server.url)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr
    return done.stdout


def test_threads(server: LocalServer) -> None:
    assert run(THREADS, server) == ORDERS + "no responders: nobody is subscribed to 'nobody.listens'\n"


@pytest.mark.parametrize("last", ["anyio.run(main)", 'anyio.run(main, backend="trio")'])
def test_tasks(server: LocalServer, last: str) -> None:
    body, called, _ = TASKS.partition("anyio.run(main)")
    assert called
    assert run(body + last, server) == ORDERS


def test_jetstream() -> None:
    with LocalServer(jetstream=True) as server:
        first, second = run(JETSTREAM, server).splitlines()
    assert first.startswith("PubAck(stream='ORDERS', sequence=1, duplicate=False")
    assert second == "orders.new b'a book' 1"


def test_parser(server: LocalServer) -> None:
    first, second = run(PARSER, server).splitlines()
    assert first == "[]"
    assert second.startswith("[Message(subject='greet', sid=1, reply=None, data=b'hello'")
    assert second.endswith("PingFrame()]")


@pytest.mark.parametrize(("name", "block"), [("threads.py", THREADS), ("tasks.py", TASKS)])
def test_the_files_are_what_the_readme_shows(name: str, block: str) -> None:
    assert (ROOT / "examples" / name).read_text() == block


@pytest.mark.parametrize("block", [THREADS, TASKS])
def test_the_examples_stay_short(block: str) -> None:
    assert sum(1 for line in block.splitlines() if line.strip()) <= 16


def test_every_make_target_and_path_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", README))
    assert {"demo", "test"} <= named <= targets
    paths = re.findall(r"(?:tests|examples|docs)/[\w./]+", README)
    assert {path.partition("/")[0] for path in paths} == {"tests", "examples", "docs"}
    for path in paths:
        assert (ROOT / path.rstrip(".")).exists(), path
