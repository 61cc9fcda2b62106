"""What a test's servers speak: TCP, TLS, WebSocket. Every test is written once, and knows nothing of it.

A test that has a `leg` and a real server (`server`, `cluster`, `url`, or one that it starts with `transport` itself)
runs on TCP, TLS and WebSocket. The marker ``transports(name, ...)`` names others instead, for tests without a leg as
well. A test whose peer is a script of plain bytes asks for no server, and so stays on TCP.

All but TCP is marked ``matrix``. Of that, a run without ``MATRIX=full`` takes a quarter: for each test and transport
the ids with the lowest checksums, the same ones on every machine and in every run. So it does over TCP where a test
waits long for the elections of a cluster, or for time to pass, and is marked ``clusters``.
"""

from __future__ import annotations

import os
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from nats_sync.testing import LocalCluster, LocalServer, ServerTLS
from tests.certificates import Certificates

__all__ = ["DEFAULT", "Transport", "parametrize", "thinned", "transport"]

DEFAULT: Final = ("tcp", "tls", "ws")
FULL: Final = os.environ.get("MATRIX") == "full"
"""``make test-all``."""
SHARE: Final = 4
"""One of so many is taken otherwise."""

_SCHEMES: Final = {"tcp": "nats", "tls": "tls", "ws": "ws", "wss": "wss"}


@dataclass(frozen=True, slots=True)
class Transport:
    """Makes servers, and says what a client needs to talk to them."""

    name: str = "tcp"
    tls: ServerTLS | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the client."""

    def url(self, port: int, host: str = "127.0.0.1") -> str:
        """The address of what listens on a port, or does not."""
        return f"{_SCHEMES[self.name]}://{host}:{port}"

    def server(self, config: Any = None, **options: Any) -> LocalServer:
        """A `LocalServer`, whose ``url`` is that for clients of this transport."""
        if self.name in ("ws", "wss"):
            return _WebSocketServer(config, tls=self.tls, websocket=_websocket(self.tls), **options)
        return LocalServer(config, tls=self.tls, **options)

    def cluster(self, size: int = 3, **options: Any) -> LocalCluster:
        """A `LocalCluster` of such servers."""
        if self.name in ("ws", "wss"):
            return _WebSocketCluster(size, tls=self.tls, websocket=_websocket(self.tls), **options)
        return LocalCluster(size, tls=self.tls, **options)


class _WebSocketServer(LocalServer):
    @property
    def url(self) -> str:
        return self.websocket_url


class _WebSocketCluster(LocalCluster):
    server_type = _WebSocketServer


def _websocket(tls: ServerTLS | None) -> Any:
    return True if tls is None else "compressed"  # where both are, all of it is


@pytest.fixture(scope="session")
def transport(request: pytest.FixtureRequest, certificates: Certificates) -> Transport:
    """What this test's servers speak."""
    name: str = getattr(request, "param", "tcp")
    options: dict[str, Any] = {}
    if name in ("tls", "wss"):
        options["tls"] = certificates.client_context()
    if name == "wss":
        options["websocket_compression"] = True
    return Transport(name, certificates.server_tls() if "tls" in options else None, options)


# --- for the hooks of conftest.py ------------------------------------------------------------------------------------


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Let a test run over its transports."""
    if "transport" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("transports")
    if marker is None and "leg" not in metafunc.fixturenames:
        return
    names: tuple[str, ...] = DEFAULT if marker is None else marker.args
    params = [pytest.param(name, marks=[] if name == "tcp" else [pytest.mark.matrix]) for name in names]
    metafunc.parametrize("transport", params, indirect=True, scope="session")


def thinned(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Those to leave out of a run that is not full."""
    alike: dict[tuple[str, str], list[pytest.Item]] = defaultdict(list)
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        test = item.nodeid.partition("[")[0]
        if item.get_closest_marker("matrix") is not None:
            name: str = item.callspec.params["transport"]
            alike[test, name].append(item)
        elif item.get_closest_marker("clusters") is not None:
            alike[test, ""].append(item)
    left_out: set[pytest.Item] = set()
    for group in alike.values():
        group.sort(key=lambda item: (zlib.crc32(item.nodeid.encode()), item.nodeid))
        left_out.update(group[-(-len(group) // SHARE) :])
    return left_out
