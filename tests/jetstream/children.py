"""Processes of tests, which may be killed, stopped, and told to end. They tell on their output what they do.

Each is a module of this folder that is run with the name of a leg and the URL of the server. It ends when its input
does: so a test that is killed itself leaves nobody behind.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio

from tests.adapters.legs import PATIENCE, Leg, in_thread

__all__ = ["STARTING", "Child", "child"]

ROOT: Final = Path(__file__).parents[2]
STARTING: Final = 60.0
"""Seconds for a process to do what it is waited for: first of all it has to load Python and the client."""


class Child:
    """One process, and what it has told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    async def wait_for(self, count: int, word: str) -> None:
        """Until it has told so many lines that begin with this word."""
        with anyio.fail_after(STARTING):
            while sum(line.startswith(word) for line in self.lines) < count:
                line = await anyio.to_thread.run_sync(self._readline, abandon_on_cancel=True)
                assert line, f"it has ended: {self.lines}"
                self.lines.append(line.strip())

    def say(self, line: str) -> None:
        """One line of its input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def _readline(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    async def end(self, how: signal.Signals) -> int:
        """What it returned, once it has ended. All that it told is there then."""
        self.process.send_signal(how)
        return await self.ended()

    async def ended(self) -> int:
        assert self.process.stdout is not None
        rest = await in_thread(self.process.stdout.read)
        self.lines += rest.splitlines()
        return await in_thread(lambda: self.process.wait(PATIENCE))

    async def wait_for_all(self, numbers: set[str], word: str) -> None:
        """Until it has told this of each of these messages."""
        while not numbers <= set(self.numbers(word)):
            await self.wait_for(1 + sum(line.startswith(word) for line in self.lines), word)

    def numbers(self, word: str) -> list[str]:
        """Which messages it has told this of."""
        return [line.split()[1] for line in self.lines if line.startswith(f"{word} ")]


@contextmanager
def child(module: str, leg: Leg, url: str, *args: str) -> Iterator[Child]:
    """``tests.jetstream.<module>`` in a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", f"tests.jetstream.{module}", leg.name, url, *args]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Child(process)
        finally:
            process.kill()
