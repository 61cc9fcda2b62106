"""What the page on frameworks shows is run as it stands there, in the frameworks' own hooks."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import ClientSession, web

import nats_anyio
import nats_sync
from nats_proto import SessionStatus
from nats_sync.testing import LocalServer
from tests.adapters.cancelling import NoTaskLeft

PAGE = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LIFESPAN, HANDLERS, CLEANUP_CTX, ON_STARTUP, PLUGIN = BLOCKS

Send = Callable[[dict[str, Any]], Awaitable[None]]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A server, and somebody who knows prices."""
    with LocalServer() as local, nats_sync.connect(local.url) as nc:
        nc.subscribe("price", callback=lambda message: message.respond(b"42"))
        nc.flush()
        yield local


def names(block: str, server: LocalServer) -> dict[str, Any]:
    """What the block defines."""
    namespace: dict[str, Any] = {"__name__": "shop"}
    exec(block.replace("nats://127.0.0.1:4222", server.url), namespace)
    return namespace


class Lifespan:
    """As much of an ASGI server as starts an application, asks it once, and stops it."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> Lifespan:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self._task = asyncio.create_task(self._app(scope, self._to_app.get, self._from_app.put))
        try:
            await self._say("lifespan.startup")
        except AssertionError:
            await self._task  # what the application has failed with comes out here
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._say("lifespan.shutdown")
        await self._task

    async def _say(self, what: str) -> None:
        await self._to_app.put({"type": what})
        said = await self._from_app.get()
        assert said["type"] == f"{what}.complete", said

    async def get(self, path: str) -> Any:
        """What it answers, as a request's task of its own."""
        said: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": [],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        await asyncio.create_task(self._app(scope, receive, send))
        assert said[0]["status"] == 200, said
        return json.loads(b"".join(message.get("body", b"") for message in said[1:]))


@pytest.mark.parametrize("block", [LIFESPAN, HANDLERS], ids=["lifespan", "handlers"])
def test_fastapi(server: LocalServer, block: str) -> None:
    async def main() -> None:
        async with NoTaskLeft():
            app = names(block, server)["app"]
            async with Lifespan(app) as running:
                for _ in range(3):
                    assert await running.get("/price/book") == {"price": "42"}
            assert app.state.nats.status is SessionStatus.CLOSED

    asyncio.run(main())


def test_fastapi_with_a_server_that_is_away(free_port: int, caplog: pytest.LogCaptureFixture) -> None:
    """A startup that fails says why, and leaves nothing."""

    async def main() -> None:
        async with NoTaskLeft():
            namespace: dict[str, Any] = {"__name__": "shop"}
            exec(HANDLERS.replace("nats://127.0.0.1:4222", f"nats://127.0.0.1:{free_port}"), namespace)
            with pytest.raises(nats_anyio.errors.NoServersError, match="refused"):
                async with Lifespan(namespace["app"]):
                    pass

    asyncio.run(main())
    gc.collect()  # a task whose error nobody has seen says so when it is collected
    assert not [record.getMessage() for record in caplog.records if record.name == "asyncio"]


@pytest.mark.parametrize("block", [CLEANUP_CTX, ON_STARTUP], ids=["cleanup_ctx", "on_startup"])
def test_aiohttp(server: LocalServer, block: str) -> None:
    async def main() -> None:
        shop = names(block, server)
        runner = web.AppRunner(shop["app"])
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        (host, port) = runner.addresses[0][:2]
        async with ClientSession() as session:
            for _ in range(3):
                async with session.get(f"http://{host}:{port}/price/book") as answer:
                    assert await answer.json() == {"price": "42"}
        nc = shop["app"][shop["NATS"]]
        await asyncio.create_task(runner.cleanup())
        assert nc.status is SessionStatus.CLOSED

    asyncio.run(main())


def test_hooks_called_by_different_tasks(server: LocalServer) -> None:
    async def main() -> None:
        async with NoTaskLeft():
            plugins = [names(PLUGIN, server)["Prices"](server.url) for _ in range(3)]
            for plugin in plugins:
                await asyncio.create_task(plugin.startup())
            for plugin in plugins:
                assert await asyncio.create_task(plugin.price("book")) == "42"
            for plugin in plugins:
                await asyncio.create_task(plugin.shutdown())

    asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_with_a_task_group(server: LocalServer, backend: str) -> None:
    async def main() -> None:
        async with NoTaskLeft(), anyio.create_task_group() as group:
            first = await nats_anyio.open(server.url, task_group=group)
            second = await nats_anyio.open(server.url, task_group=group)
            assert (await first.request("price")).data == b"42"
            await first.drain()
            assert (await second.request("price")).data == b"42"
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
