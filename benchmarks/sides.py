"""Processes around a measurement: the child under measurement, and the other side of the work."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from nats_sync.testing import LocalServer

from .other_side import GO, dial, wait_for

__all__ = ["Child", "FailedError", "OtherSide", "Restarter"]

ROOT = Path(__file__).parent.parent


class FailedError(Exception):
    """A process crashed, said nothing in time, or made no sense."""


class Child:
    """A process that answers with lines of JSON. Leaving the block ends it."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._command = command
        self._env = env
        self._patience = 2.0

    def __enter__(self) -> Self:
        self._stderr = tempfile.TemporaryFile()  # closed in __exit__
        try:
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
            )
        except OSError as error:
            self._stderr.close()
            raise FailedError(str(error)) from error
        self._buffer = b""
        return self

    def line(self, timeout: float) -> dict[str, object]:
        """The next line it says."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise FailedError(f"no answer within {timeout:g} s")
            data = os.read(output, 65536)
            if not data:
                raise FailedError(f"ended with code {self._process.wait()}: {self._last_words()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer: dict[str, object] = json.loads(line)
        except ValueError as error:
            raise FailedError(f"said {line[:200]!r}") from error
        return answer

    def dismiss(self) -> None:
        """Tell it that it may end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "without a word"

    def __exit__(self, *exc: object) -> None:
        self.dismiss()
        try:
            self._process.wait(self._patience if exc[0] is None else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._stderr.close()


class OtherSide(Child):
    """A role of `benchmarks.other_side`, ready when the block begins."""

    def __init__(self, role: str, *arguments: object) -> None:
        # Without the site module a process is there in a fifth of the time.
        super().__init__([sys.executable, "-S", "-m", "benchmarks.other_side", role, *map(str, arguments)])
        if role == "echo":  # it never ends by itself
            self._patience = 0.0

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.line(10.0)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self


class Restarter:
    """Restarts the server when somebody publishes to `GO`, and knows since when the new one takes connections."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._sock = dial(server.port)
        self._sock.sendall(b"SUB %b 1\r\nPING\r\n" % GO.encode())
        wait_for(self._sock, b"PONG\r\n")
        self._thread = threading.Thread(target=self._run)
        self.open_at = 0.0
        """`time.monotonic`, which is the machine's and so the same in every process."""

    def _run(self) -> None:
        try:
            wait_for(self._sock, b"MSG ")
        except (OSError, SystemExit):
            return
        self._server.kill()
        knocking = threading.Thread(target=self._knock)
        knocking.start()
        self._server.start()
        knocking.join()

    def _knock(self) -> None:
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._server.port)):
                self.open_at = time.monotonic()
                return
            time.sleep(0.0002)

    def wait(self, seconds: float) -> None:
        """Until the new server has started: its clients may be there before it has said where its monitoring is."""
        self._thread.join(seconds)

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        self._thread.start()
        try:
            yield self
        finally:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._sock.close()
