"""A holder of a lock in a process of its own, which a test may kill or stop. It tells on its output what happens to it.

    python -m tests.jetstream.holder LEG URL TTL

It takes the lock ``k`` of the bucket ``LOCKS``. While it has it, it writes its token to the key ``thing`` again and
again. Once the lock is lost it waits for a line of input, and then does what a program does that has not noticed.

| line | what has happened |
|---|---|
| ``held TOKEN`` | it has the lock |
| ``wrote REVISION`` | it looked at the lock, and wrote |
| ``refused CLASS`` | what it wanted to write was refused |
| ``told TOKEN`` | ``on_lost`` was called |
| ``lost TOKEN`` | its block has ended with `LockLostError` |
| ``kept`` | it has written what it must not |
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import anyio

import nats_anyio
import nats_sync
from nats_proto.jetstream import LockLostError, RevisionMismatchError
from tests.jetstream.worker import PATIENT, say

__all__ = ["Outdated", "guarded"]

PAUSE: Final = 0.01


class Outdated(Exception):
    """A token that is less than one that was seen."""


def guarded(token: int) -> Callable[[bytes | None], bytes]:
    """What a store does that a lock protects: a change for ``modify``."""

    def change(stored: bytes | None) -> bytes:
        if stored is not None and int(stored) > token:
            raise Outdated
        return b"%d" % token

    return change


def told(error: LockLostError) -> None:
    say(f"told {error.token}")


def refused(error: Exception) -> None:
    say(f"refused {type(error).__name__}")


def threads(url: str, ttl: float, woken: threading.Event) -> None:
    with nats_sync.connect(url, **PATIENT) as nc:
        kv = nc.jetstream(timeout=20.0).key_value("LOCKS")
        lock = kv.lock("k", ttl=ttl, holder="child", on_lost=told)
        try:
            with lock:
                say(f"held {lock.token}")
                while True:
                    lock.check()
                    try:
                        say(f"wrote {kv.modify('thing', guarded(lock.token))}")
                    except Outdated as error:
                        refused(error)
                    time.sleep(PAUSE)
        except LockLostError as error:
            say(f"lost {error.token}")
        woken.wait()
        late: list[Callable[[], Any]] = [
            lambda: kv.modify("thing", guarded(lock.token)),
            lambda: kv.update("k", b"late", lock.token),
            lambda: kv.delete("k", revision=lock.token),
        ]
        for write in late:
            try:
                write()
                say("kept")
            except (Outdated, RevisionMismatchError) as error:
                refused(error)


async def tasks(url: str, ttl: float, woken: threading.Event) -> None:
    async with nats_anyio.connect(url, **PATIENT) as nc:
        kv = await nc.jetstream(timeout=20.0).key_value("LOCKS")
        lock = kv.lock("k", ttl=ttl, holder="child", on_lost=told)
        try:
            async with lock:
                say(f"held {lock.token}")
                while True:
                    lock.check()
                    try:
                        say(f"wrote {await kv.modify('thing', guarded(lock.token))}")
                    except Outdated as error:
                        refused(error)
                    await anyio.sleep(PAUSE)
        except LockLostError as error:
            say(f"lost {error.token}")
        await anyio.to_thread.run_sync(woken.wait)
        late: list[Callable[[], Any]] = [
            lambda: kv.modify("thing", guarded(lock.token)),
            lambda: kv.update("k", b"late", lock.token),
            lambda: kv.delete("k", revision=lock.token),
        ]
        for write in late:
            try:
                await write()
                say("kept")
            except (Outdated, RevisionMismatchError) as error:
                refused(error)


def listen(woken: threading.Event) -> None:
    """A test that is killed itself leaves nobody behind: its end of this process' input is closed with it."""
    for _ in sys.stdin:
        woken.set()
    os._exit(1)


if __name__ == "__main__":
    woken = threading.Event()
    threading.Thread(target=listen, args=(woken,), daemon=True).start()
    leg, url, ttl = sys.argv[1:]
    if leg == "threads":
        threads(url, float(ttl), woken)
    else:
        anyio.run(tasks, url, float(ttl), woken, backend=leg)
