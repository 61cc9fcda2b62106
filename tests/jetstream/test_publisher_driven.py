"""The driver of a window is for one task at a time, whichever of those who publish looks after it."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

import nats_anyio
from nats_anyio._engine.driver import Driver
from tests.transports import Transport

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def test_one_task_at_a_time_does_what_is_due(
    url: str, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_it: list[int] = []
    most = 0
    do_due = Driver.do_due

    async def noted(self: Driver[object, object]) -> None:
        nonlocal most
        at_it.append(1)
        most = max(most, len(at_it))
        await anyio.lowlevel.checkpoint()  # as a wait for room in the outgoing buffer
        await do_due(self)  # type: ignore[arg-type]
        at_it.pop()

    monkeypatch.setattr(Driver, "do_due", noted)
    async with nats_anyio.connect(url, **transport.options) as nc:
        js = nc.jetstream()
        await js.create_stream("S", subjects=["S.>"], storage="memory")
        async with js.publisher(max_pending=4) as window:

            async def publish(number: int) -> None:
                for _ in range(20):
                    window._look_at = 0.0
                    await window.publish(f"S.{number}", b"x")

            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(publish, number)
        assert (await js.stream("S").refresh()).state.messages == 100
    assert most == 1
