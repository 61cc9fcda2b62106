"""What a test left behind: threads, file descriptors, running servers."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass

from nats_sync.testing import LocalServer
from nats_sync.testing import server as _local_server

__all__ = ["GRACE", "Snapshot"]

GRACE = 15.0
"""Seconds a thread that was told to end may take to end: only a leak takes them, or a machine that stands still."""
_FDS = "/proc/self/fd"


@dataclass(frozen=True)
class Snapshot:
    """What there is at one moment."""

    threads: frozenset[threading.Thread]
    fds: dict[int, str]
    servers: frozenset[LocalServer]

    @classmethod
    def take(cls) -> Snapshot:
        running = frozenset(server for server in list(_local_server._servers) if server.running)
        return cls(frozenset(filter(_counts, threading.enumerate())), _open_fds(), running)

    def leaks_until_gone(self, grace: float = GRACE) -> list[str]:
        """What is there now and was not then, once that is nothing or ``grace`` seconds have passed."""
        deadline = time.monotonic() + grace
        while (leaks := self._leaks()) and time.monotonic() < deadline:
            time.sleep(0.001)
        return leaks

    def _leaks(self) -> list[str]:
        now = Snapshot.take()
        return [
            *(_describe(thread) for thread in now.threads - self.threads),
            *(f"fd {fd}: {what}" for fd, what in now.fds.items() if self.fds.get(fd) != what),
            *(f"server {server!r}" for server in now.servers - self.servers),
        ]


def _counts(thread: threading.Thread) -> bool:
    # Trio keeps idle worker threads for ten seconds, under this name only while they are idle.
    return not thread.name.startswith("Trio thread")


def _open_fds() -> dict[int, str]:
    # Taken twice for each of many thousand tests: so a name is a text, and no `Path`.
    fds: dict[int, str] = {}
    try:
        entries = os.listdir(_FDS)
    except FileNotFoundError:  # not Linux: threads and servers are still compared
        return fds
    for entry in entries:
        try:
            fds[int(entry)] = os.readlink(f"{_FDS}/{entry}")
        except OSError:  # the one that the listing itself used
            continue
    return fds


def _describe(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    where = "".join(traceback.format_stack(frame)[-3:]) if frame is not None else ""
    return f"thread {thread.name!r} (daemon={thread.daemon})\n{where}"
