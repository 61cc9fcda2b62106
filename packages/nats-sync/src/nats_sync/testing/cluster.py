"""Several nats-servers of `nats_sync.testing` in one cluster."""

from __future__ import annotations

import time
from collections.abc import Sized
from typing import Self

from .config import Config, ServerTLS
from .process import LocalServerError
from .server import POLL_INTERVAL, LocalServer, WebSocketChoice

__all__ = ["LocalCluster"]


class LocalCluster:
    """Several `LocalServer`s in one cluster, as a context manager: ``cluster[0].kill()``, ``cluster[0].start()``.

    ``config``, ``jetstream``, ``tls`` and ``websocket`` go to each server; they are named ``<name>-0``, ``<name>-1``, …
    With JetStream each has a store of its own. Leaving the block stops them all.
    """

    server_type: type[LocalServer] = LocalServer
    """The class of the servers; subclasses may have another one."""

    def __init__(
        self,
        size: int = 3,
        *,
        name: str = "local",
        config: Config | None = None,
        jetstream: bool = False,
        tls: ServerTLS | None = None,
        websocket: WebSocketChoice = False,
    ) -> None:
        if size < 1:
            raise ValueError(f"a cluster has at least one server, not {size}")
        self.servers: list[LocalServer] = [
            self.server_type(
                config, name=f"{name}-{number}", cluster_name=name, jetstream=jetstream, tls=tls, websocket=websocket
            )
            for number in range(size)
        ]
        for server in self.servers:
            server.routes = [other.route_url for other in self.servers if other is not server]

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getitem__(self, index: int) -> LocalServer:
        return self.servers[index]

    def __len__(self) -> int:
        return len(self.servers)

    @property
    def urls(self) -> list[str]:
        """The URL of each server, for ``connect(cluster.urls)``."""
        return [server.url for server in self.servers]

    @property
    def websocket_urls(self) -> list[str]:
        """The URL of each server for WebSocket clients."""
        return [server.websocket_url for server in self.servers]

    def start(self) -> Self:
        """Start every server that is down, and wait until all know each other."""
        for server in self.servers:
            server.start()  # one by one: each reaches at once those that are up, no dial has to be repeated
        self.wait_until_formed()
        return self

    def wait_until_formed(self, timeout: float = 10.0) -> None:
        """Wait until every running server has a route to every other one, and tells clients of it."""
        running = [server for server in self.servers if server.running]
        deadline = time.monotonic() + timeout
        while not all(_knows(server, len(running)) for server in running):
            if time.monotonic() > deadline:
                raise LocalServerError(f"no route between all of {running} after {timeout:g} s")
            time.sleep(POLL_INTERVAL * 5)

    def close(self) -> None:
        """Stop and remove every server."""
        for server in self.servers:
            server.close()


def _knows(server: LocalServer, size: int) -> bool:
    state = server.varz()
    urls = state.get("connect_urls")
    told = len(urls) if isinstance(urls, Sized) else 0
    return state.get("remotes") == size - 1 and (size == 1 or told == size)
