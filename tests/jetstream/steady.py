"""Whether the machine has stood still: what depends on a short time is asserted only when it has not.

Some promises hold only as long as everybody gets some time of the machine: a message whose ``ack_wait`` is half a
second is delivered again when its reader stands still for a second, and that is right. A test of such a promise would
have to wait for long times. Instead it looks how long the machine stood still meanwhile:

    with steadily(url, **transport.options) as steady:
        ...
    assert info.num_redelivered == 0 or steady.stood_still > 0.2
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import nats_sync
from tests.jetstream.cluster import PATIENT

__all__ = ["Steadiness", "steadily"]

EVERY: Final = 0.01
"""Seconds between two signs of life, when all is well."""
PATIENCE: Final = 120.0


class Steadiness:
    """A thread of this process that asks the server for a sign of life over and over."""

    def __init__(self, nc: nats_sync.Client) -> None:
        self._nc = nc
        self._over = threading.Event()
        self._longest = 0.0
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="steady")

    @property
    def stood_still(self) -> float:
        """Seconds in which the server did not answer or this process did not run, the longest until now."""
        return max(self._longest, time.monotonic() - self._last)

    def start(self) -> None:
        self._last = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(EVERY):
            self._nc.flush(PATIENCE)
            now = time.monotonic()
            self._longest, self._last = max(self._longest, now - self._last), now


@contextlib.contextmanager
def steadily(url: str, **options: Any) -> Iterator[Steadiness]:
    """Meanwhile the server at ``url`` and this process are watched, over a connection of its own."""
    with nats_sync.connect(url, name="steady", **{**PATIENT, **options}) as nc:
        steady = Steadiness(nc)
        steady.start()
        try:
            yield steady
        finally:
            steady.stop()
