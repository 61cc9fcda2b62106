"""A TCP proxy on loopback that does to connections what networks do. `up` is client to server, `down` the way back."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Self

from tests import evidence
from tests.faults.toxics import LimitReached, Pipe, Way


@dataclass(eq=False)
class _Link:
    number: int
    client: socket.socket
    server: socket.socket = field(default_factory=socket.socket)
    reset: bool = False
    task: asyncio.Task[None] | None = None


class Proxy:
    """``with Proxy(server.url) as proxy: connect(proxy.url); proxy.up.black_hole = True``. It is one thread.

    ``target`` is a URL, whose scheme `url` has then as well, or a port.
    """

    def __init__(self, target: str | int, *, seed: int = 0, rcvbuf: int | None = None) -> None:
        scheme, _, port = str(target).rpartition("://127.0.0.1:")
        self.target, self.seed, self.rcvbuf = int(port), seed, rcvbuf
        self.up, self.down = Way(), Way()
        self.refuse = False  # new connections are reset at once
        self.accepted = 0
        self.log: deque[tuple[float, str]] = deque(maxlen=20_000)
        self._began = time.monotonic()
        self._links: set[_Link] = set()
        self._listener = self._tuned(socket.create_server(("127.0.0.1", 0)))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{scheme or 'nats'}://127.0.0.1:{self.port}"
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name=f"proxy-{self.port}")

    def __enter__(self) -> Self:
        evidence.keep(f"proxy {self.port} -> {self.target}, seed {self.seed}", self.transcript)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        """Cut everything; the thread and all sockets are gone afterwards."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def cut(self, *, reset: bool = True) -> None:
        """End every connection there is, with RST or FIN. New ones are served."""
        asyncio.run_coroutine_threadsafe(self._cut(reset), self._loop).result()

    @property
    def connections(self) -> int:
        return len(self._links)

    def transcript(self) -> str:
        return "\n".join(f"{at:9.4f} {text}" for at, text in list(self.log))

    # --- in the proxy's thread ---------------------------------------------------------------------------------------

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        # Not `sock_accept`: whoever cancels that may lose a connection that has just been accepted.
        self._loop.add_reader(self._listener, self._accept)
        self._ready.set()
        await self._over.wait()
        self._loop.remove_reader(self._listener)
        await self._cut(reset=True)
        self._listener.close()

    async def _cut(self, reset: bool) -> None:
        links = [link for link in self._links if link.task is not None and link.task.cancel()]
        for link in links:
            link.reset = reset
            self._note(link, "cut")
        await asyncio.gather(*(link.task for link in links if link.task), return_exceptions=True)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # whoever came is gone again
        client.setblocking(False)
        self.accepted += 1
        link = _Link(self.accepted, client, reset=self.refuse)
        self._links.add(link)
        self._note(link, "refused" if link.reset else "accepted")
        link.task = self._loop.create_task(self._serve(link))
        link.task.add_done_callback(functools.partial(self._close, link))  # runs for one that never began, too

    async def _serve(self, link: _Link) -> None:
        if link.reset:
            return
        client, server = self._tuned(link.client), self._tuned(link.server)
        try:
            await self._loop.sock_connect(server, ("127.0.0.1", self.target))
            async with asyncio.TaskGroup() as group:
                for name, way, source, to in (("up", self.up, client, server), ("down", self.down, server, client)):
                    note = functools.partial(self._note, link, f"{name}: ")
                    pipe = Pipe(way, source, to, rng=random.Random(f"{self.seed}/{link.number}/{name}"), note=note)
                    group.create_task(pipe.read())
                    group.create_task(pipe.write())
        except* LimitReached:
            link.reset = self.up.limit_reset or self.down.limit_reset
        except* OSError as errors:
            link.reset = True  # what one side did, the other is told
            self._note(link, f"ended by {errors.exceptions[0]!r}")

    def _tuned(self, sock: socket.socket) -> socket.socket:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.rcvbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.rcvbuf)
        return sock

    def _close(self, link: _Link, task: asyncio.Task[None]) -> None:
        self._links.discard(link)
        self._note(link, f"closed with {'RST' if link.reset else 'FIN'}")
        for sock in (link.client, link.server):
            if link.reset:
                # What is unread stays so: a sender that goes on would have handed over what this link never took.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
                continue
            with contextlib.suppress(OSError):  # a close with unread bytes would be an RST, whatever was asked for
                while sock.recv(65536):
                    pass
            sock.close()

    def _note(self, link: _Link, *text: str) -> None:
        self.log.append((time.monotonic() - self._began, f"{link.number} {''.join(text)}"))
