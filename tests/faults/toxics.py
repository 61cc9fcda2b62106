"""What the fault proxy does to one direction of a connection."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Eraser", "LimitReached", "Pipe", "Way"]

TICK = 0.001  # seconds between two looks at a switch that another thread may turn


@dataclass(kw_only=True)
class Way:
    """What happens to one direction. Every field may be changed at any time, from any thread; seconds and bytes."""

    latency: float = 0.0
    jitter: float = 0.0  # the delay is drawn from latency ± jitter; the order is kept
    bandwidth: float = 0.0  # bytes per second; 0: no limit
    slice_size: int = 0  # at most so many bytes per segment; 0: as they came
    slice_gap: float = 0.0  # between two segments
    limit: int | None = None  # after so many bytes of a connection both its sides are closed …
    limit_reset: bool = False  # … with RST instead of FIN
    black_hole: bool = False  # takes everything, the end of the stream too, and forgets it
    held: bool = False  # takes everything, and keeps it until this is False again
    stop_reading: bool = False  # takes nothing: the sender's buffers fill (see the proxy's `rcvbuf`)
    read_ahead: int = 256 * 1024  # so much waits in the proxy before a slow way is felt by the sender
    close_delay: float = 0.0  # between the end of the stream and passing it on
    drop: bytes = b""  # these bytes are cut out of the stream wherever they stand, split or not
    passed: int = 0  # bytes handed on so far, over all connections

    def pieces(self, data: bytes) -> Iterator[tuple[bytes, float]]:
        """The segments to write, and how long to wait after each."""
        size = self.slice_size or (max(1, int(self.bandwidth / 50)) if self.bandwidth else max(1, len(data)))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            yield piece, self.slice_gap + (len(piece) / self.bandwidth if self.bandwidth else 0.0)


class Eraser:
    """Cuts a pattern out of a stream that comes in any pieces, and counts how often."""

    def __init__(self) -> None:
        self.erased = 0
        self._kept = b""  # the end of what came, as far as it may be the start of the pattern

    def feed(self, data: bytes, pattern: bytes) -> bytes:
        """What can be passed on. Empty ``data`` is the end of the stream: nothing is kept back then."""
        whole = self._kept + data
        self._kept = b""
        if pattern:
            self.erased += whole.count(pattern)
            whole = whole.replace(pattern, b"")
            if data:
                longest = next((n for n in range(len(pattern) - 1, 0, -1) if whole.endswith(pattern[:n])), 0)
                self._kept = whole[len(whole) - longest :]
                whole = whole[: len(whole) - longest]
        return whole


class LimitReached(Exception):
    """The byte limit of a way; everything before it was written."""


class Pipe:
    """Carries the bytes of one direction of one connection, by two tasks, as its way says."""

    def __init__(
        self, way: Way, source: socket.socket, to: socket.socket, *, rng: random.Random, note: Callable[[str], None]
    ) -> None:
        self._way, self._source, self._to, self._rng, self._note = way, source, to, rng, note
        self._queue: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue()  # None: the limit, b"": the end
        self._queued = 0
        self._loop = asyncio.get_running_loop()

    async def read(self) -> None:
        """Take what comes until the end of the stream or the limit."""
        way, total, eraser = self._way, 0, Eraser()
        while True:
            data = await self._loop.sock_recv(self._source, 65536)
            while way.stop_reading or (self._queued > way.read_ahead and not way.held):
                await asyncio.sleep(TICK)
            if way.black_hole:
                self._note(f"{len(data)} bytes into the black hole")
                await (asyncio.sleep(0) if data else asyncio.Event().wait())
                continue
            room = None if way.limit is None else max(0, way.limit - total)
            chunk = eraser.feed(data, way.drop)[:room]
            total += len(chunk)
            delay = max(0.0, way.latency + self._rng.uniform(-way.jitter, way.jitter))
            due = self._loop.time() + delay
            self._note(f"{len(data)} bytes, {delay:.4f} s, {eraser.erased} erased, {total} in all")
            if chunk:
                self._queued += len(chunk)
                self._queue.put_nowait((due, chunk))
            full = way.limit is not None and total >= way.limit
            if full or not data:
                self._queue.put_nowait((due, None if full else b""))
                return

    async def write(self) -> None:
        """Hand on what was taken, when it is due; ends with the stream, or raises `LimitReached`."""
        way = self._way
        while True:
            due, chunk = await self._queue.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            while way.held:
                await asyncio.sleep(TICK)
            self._queued -= len(chunk or b"")
            if way.black_hole:
                self._note(f"{len(chunk or b'')} waiting bytes into the black hole")
            elif chunk is None:
                raise LimitReached
            elif chunk:
                await self._send(chunk)
            else:
                await asyncio.sleep(way.close_delay)
                self._to.shutdown(socket.SHUT_WR)
                return

    async def _send(self, chunk: bytes) -> None:
        for piece, pause in self._way.pieces(chunk):
            await self._loop.sock_sendall(self._to, piece)
            self._way.passed += len(piece)
            await asyncio.sleep(pause)
