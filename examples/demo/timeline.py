"""The live time line: what happened to whom, and when."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Final

from nats_proto import (
    AuthenticationFailed,
    Closed,
    Connected,
    ContentErrorReceived,
    Disconnected,
    LameDuckMode,
    LifecycleEvent,
    PublishesDropped,
    Reconnected,
    Reconnecting,
    ServerErrorReceived,
    ServersDiscovered,
    SlowConsumer,
)

_COLOURS: Final = {"threads": "36", "asyncio": "35", "servers": "33"}


class Timeline:
    """Prints one line for each thing that happens, in colour on a terminal."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        """What to call each server's URL."""
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def say(self, who: str, what: str) -> None:
        """One line."""
        for url, name in self._names.items():
            what = what.replace(f"server {url}", name).replace(url, name)
        label = f"{who:<8}"
        if self._colour:
            label = f"\x1b[{_COLOURS.get(who, '0')}m{label}\x1b[0m"
        with self._lock:
            print(f"{self.now():7.3f} s  {label}  {what}", flush=True)

    def event(self, who: str, event: LifecycleEvent) -> None:
        """A life-cycle event of a client."""
        self.say(who, _describe(event))


def _describe(event: LifecycleEvent) -> str:
    match event:
        case Connected(server=server):
            return f"connected to {server}"
        case Disconnected(server=server, error=error):
            return f"disconnected: {error}" if error is not None else f"left {server}"
        case Reconnecting(server=server, attempt=attempt, delay=delay):
            return f"attempt {attempt}: {server} in {delay * 1000:.0f} ms"
        case Reconnected(server=server, attempts=attempts):
            return f"reconnected to {server} ({attempts} attempt{'s' if attempts > 1 else ''})"
        case ServersDiscovered(servers=servers):
            return f"discovered {', '.join(servers)}"
        case LameDuckMode(server=server, migrating=migrating):
            return f"{server} is a lame duck{', moving away' if migrating else ''}"
        case SlowConsumer(subject=subject, dropped=dropped):
            return f"slow consumer on {subject}: {dropped} dropped"
        case ServerErrorReceived(error=error) | ContentErrorReceived(error=error):
            return f"{error}"
        case AuthenticationFailed(server=server, error=error):
            return f"{server} refused us: {error}"
        case PublishesDropped(error=error, dropped_msgs=dropped):
            return f"{dropped} publishes dropped: {error}"
        case Closed(unsent_msgs=unsent):
            return f"closed ({unsent} unsent)"
