"""A worker in a process of its own, which a test may kill. It tells on its output what it begins and what it has done.

    python -m tests.jetstream.worker LEG URL CONCURRENCY SECONDS [JSON of the options of `work`]

Each handler takes so many seconds; a message ``poison`` kills the process as `kill -9` does. SIGTERM drains the client.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

import anyio

import nats_anyio
import nats_sync

__all__: list[str] = []

PATIENT: dict[str, Any] = {"connect_timeout": 10.0}


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # in one piece, whatever the other handlers say meanwhile


def told(what: str, message: Any) -> None:
    say(f"{what} {message.data.decode()} {message.metadata.num_delivered}")
    if message.data == b"poison":
        os.kill(os.getpid(), signal.SIGKILL)


def threads(url: str, seconds: float, options: dict[str, Any]) -> None:
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())

    def handle(message: nats_sync.jetstream.JetStreamMessage) -> None:
        told("begun", message)
        time.sleep(seconds)
        told("done", message)

    with (
        nats_sync.connect(url, **PATIENT) as nc,
        nc.jetstream(timeout=20.0).consumer("WORK", "worker").work(handle, **options),
    ):
        say("ready")
        over.wait()
        nc.drain()


async def tasks(url: str, seconds: float, options: dict[str, Any]) -> None:
    async def handle(message: nats_anyio.jetstream.JetStreamMessage) -> None:
        told("begun", message)
        await anyio.sleep(seconds)
        told("done", message)

    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with (
            nats_anyio.connect(url, **PATIENT) as nc,
            nc.jetstream(timeout=20.0).consumer("WORK", "worker").work(handle, **options),
        ):
            say("ready")
            async for _ in signals:
                break
            await nc.drain()


def end_with_the_test() -> None:
    """A test that is killed itself leaves nobody behind: its end of this process' input is closed with it."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_test, daemon=True).start()
    leg, url, concurrency, seconds, *rest = sys.argv[1:]
    options = {"concurrency": int(concurrency), **json.loads(rest[0] if rest else "{}")}
    if leg == "threads":
        threads(url, float(seconds), options)
    else:
        anyio.run(tasks, url, float(seconds), options, backend=leg)
