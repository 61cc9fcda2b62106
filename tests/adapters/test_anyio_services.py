"""Services of tasks: what a cancellation leaves behind, and what only functions and coroutines differ in."""

from __future__ import annotations

import anyio
import pytest

import nats_anyio
from nats_anyio.services import Request, Service
from nats_proto.errors import NoRespondersError
from tests.adapters.legs import PATIENCE

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def connect(url: str) -> nats_anyio.Connecting:
    """A client that waits for a machine that stands still."""
    return nats_anyio.connect(url, connect_timeout=PATIENCE)


async def is_gone(client: nats_anyio.Client, subject: str) -> bool:
    try:
        await client.request(subject, b"", timeout=PATIENCE)
    except NoRespondersError:
        return True
    return False


async def test_a_cancelled_block_leaves_nothing_subscribed(url: str) -> None:
    async with connect(url) as client:
        service: Service | None = None
        with anyio.CancelScope() as scope:
            async with client.add_service("cancelled", "1.0.0") as service:
                for name in ("cancelled_a", "cancelled_b"):
                    service.endpoint(name, lambda request: request.respond(b""))
                await client.flush()
                scope.cancel()
                await anyio.sleep(PATIENCE)
        assert service is not None
        assert service.stopped
        await client.flush()
        for subject in ("cancelled_a", "cancelled_b", "$SRV.PING.cancelled", f"$SRV.STATS.cancelled.{service.id}"):
            assert await is_gone(client, subject)


async def test_a_cancelled_stop_goes_on(url: str) -> None:
    begun, go_on = anyio.Event(), anyio.Event()

    async def slow(request: Request[bytes]) -> None:
        begun.set()
        await go_on.wait()
        await request.respond(b"late")

    async with connect(url) as client, connect(url) as other:
        service = await client.add_service("goes", "1.0.0")
        service.endpoint("stop_goes_on", slow)
        await client.flush()
        answers: list[bytes] = []

        async def ask() -> None:
            answers.append((await other.request("stop_goes_on", timeout=PATIENCE)).data)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await begun.wait()
            with anyio.move_on_after(0.01) as waiting:
                await service.stop()
            assert waiting.cancelled_caught
            assert not answers
            go_on.set()
        assert answers == [b"late"]
        assert await service.wait(PATIENCE)


async def test_the_wait_of_a_service_that_nobody_stops_can_be_cancelled(url: str) -> None:
    async with connect(url) as client, client.add_service("waits", "1.0.0") as service:
        with anyio.move_on_after(0.01) as waiting:
            await service.wait()
        assert waiting.cancelled_caught
        assert not service.stopped


async def test_functions_and_coroutines(url: str) -> None:
    async with connect(url) as client, client.add_service("kinds", "1.0.0") as service:

        @service.endpoint("function", response_type=bytes)
        def function(request: Request[bytes]) -> bytes:
            return request.value.upper()

        @service.endpoint("coroutine", response_type=bytes)
        async def coroutine(request: Request[bytes]) -> bytes:
            await anyio.lowlevel.checkpoint()
            return request.value.upper()

        service.endpoint("returns", lambda request: request.respond(request.value.upper()))
        await client.flush()
        for subject in ("function", "coroutine", "returns"):
            assert (await client.request(subject, b"abc", timeout=PATIENCE)).data == b"ABC"
        with pytest.raises(TypeError, match="handler"):

            @service.endpoint("generator")
            async def generator(request: Request[bytes]) -> object:
                yield request
