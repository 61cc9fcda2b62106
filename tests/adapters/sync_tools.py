"""What the tests of the threaded client alone share."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import nats_sync
from nats_sync import Client
from nats_sync.testing import LocalServer

__all__ = ["PATIENCE", "connect", "eventually", "log_handler", "open_fds", "threads_of"]

PATIENCE = 30.0  # seconds until a state that is waited for is given up: a busy machine stands still for some of them


def connect(server: LocalServer | str, **options: object) -> Client:
    quick: dict[str, object] = {"reconnect_wait": 0.05, "reconnect_jitter": 0.01, "connect_timeout": 10.0}
    return nats_sync.connect(server if isinstance(server, str) else server.url, **(quick | options))


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def threads_of(name: str) -> dict[str, int | None]:
    return {thread.name: thread.ident for thread in threading.enumerate() if thread.name.startswith(f"nats-{name}-")}


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def log_handler() -> Iterator[Callable[[Callable[..., object]], None]]:
    handlers: list[logging.Handler] = []
    logger = logging.getLogger("nats_sync")
    before = logger.level
    logger.setLevel(logging.INFO)

    def add(function: Callable[..., object]) -> None:
        handler = logging.Handler()
        handler.emit = function  # type: ignore[method-assign]
        handlers.append(handler)
        logger.addHandler(handler)

    yield add
    logger.setLevel(before)
    for handler in handlers:
        logger.removeHandler(handler)
