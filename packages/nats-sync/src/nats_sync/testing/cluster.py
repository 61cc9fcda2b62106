"""Several nats-servers of `nats_sync.testing` in one cluster."""

from __future__ import annotations

import time
from collections.abc import Sized
from typing import Any, Self

from .config import Config, ServerTLS
from .process import LocalServerError
from .server import POLL_INTERVAL, JetStreamChoice, LocalServer, WebSocketChoice

__all__ = ["LocalCluster"]


class LocalCluster:
    """Several `LocalServer`s in one cluster, as a context manager: ``cluster[0].kill()``, ``cluster[0].start()``.

    ``config``, ``jetstream``, ``tls`` and ``websocket`` go to each server; they are named ``<name>-0``, ``<name>-1``, …
    With JetStream each has a store of its own, and the cluster is up when it has a leader that can place replicated
    streams. Leaving the block stops them all.
    """

    server_type: type[LocalServer] = LocalServer
    """The class of the servers; subclasses may have another one."""

    def __init__(
        self,
        size: int = 3,
        *,
        name: str = "local",
        config: Config | None = None,
        jetstream: JetStreamChoice = False,
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
        self._has_jetstream = jetstream is not False
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
        """Start each server that is down; wait until all know each other and, with JetStream, until it has a leader."""
        for server in self.servers:
            server.start()  # one by one: each reaches at once those that are up, no dial has to be repeated
        self.wait_until_formed()
        if self._has_jetstream:
            self.wait_for_leader()
        return self

    def wait_until_formed(self, timeout: float = 30.0) -> None:
        """Wait until every running server has a route to every other one, and tells clients of it."""
        running = [server for server in self.servers if server.running]
        deadline = time.monotonic() + timeout
        while not all(_knows(server, len(running)) for server in running):
            if time.monotonic() > deadline:
                raise LocalServerError(f"no route between all of {running} after {timeout:g} s")
            time.sleep(POLL_INTERVAL * 5)

    def wait_for_leader(self, timeout: float = 30.0) -> LocalServer:
        """Wait until the running servers have a leader of JetStream that has heard from all of them: this server.

        A new cluster takes some tenths of a second. After the loss of a leader an election takes up to ten seconds,
        which no setting shortens. Raises `LocalServerError` after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while (leader := self._leader([server for server in self.servers if server.running])) is None:
            if time.monotonic() > deadline:
                raise LocalServerError(f"JetStream has no leader of all of {self.servers} after {timeout:g} s")
            time.sleep(POLL_INTERVAL * 5)
        return leader

    def _leader(self, running: list[LocalServer]) -> LocalServer | None:
        """The leader, once it can place streams on all that run: on those that it has heard from."""
        clusters = {server.name: _meta_cluster(server) for server in running}
        leaders = {cluster.get("leader") for cluster in clusters.values()}
        for server in running:
            if leaders == {server.name}:
                return server if _heard_from(clusters[server.name]) >= set(clusters) - {server.name} else None
        return None

    def close(self) -> None:
        """Stop and remove every server."""
        for server in self.servers:
            server.close()


def _meta_cluster(server: LocalServer) -> dict[str, Any]:
    told: Any = server.jsz().get("meta_cluster")
    return told or {}


def _heard_from(meta_cluster: dict[str, Any]) -> set[object]:
    return {replica.get("name") for replica in meta_cluster.get("replicas") or () if replica.get("current")}


def _knows(server: LocalServer, size: int) -> bool:
    state = server.varz()
    urls = state.get("connect_urls")
    told = len(urls) if isinstance(urls, Sized) else 0
    return state.get("remotes") == size - 1 and (size == 1 or told == size)
