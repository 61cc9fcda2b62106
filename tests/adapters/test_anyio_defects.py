"""A defect of the client itself, planted: everybody is told, with what was raised, and nobody waits for ever."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import pytest

import nats_anyio
from nats_anyio._engine.dispatch import Dispatcher
from nats_anyio._engine.manager import Manager
from nats_anyio._engine.timer import Timer
from nats_anyio._engine.writer import Writer
from nats_proto import Closed, Session, SessionStatus
from nats_proto.errors import ConnectionClosedError, DefectError
from nats_sync.testing import LocalServer
from tests.adapters.cancelling import NoTaskLeft
from tests.adapters.legs import PATIENCE, EventLog, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


PINGS: Final[dict[str, Any]] = {"ping_interval": 0.05, "max_pings_out": 1000}
"""So the timer has something to do soon, and a server that stands still for a moment is not left."""


class Planted(Exception):
    """What is raised where nothing should be."""


def fails(*_: object, **__: object) -> object:
    raise Planted("on purpose")


async def waiting(client: nats_anyio.Client, started: Callable[[], None]) -> dict[str, BaseException | None]:
    """What those are told who wait when the client ends."""
    told: dict[str, BaseException | None] = {}
    sub = client.subscribe("quiet")
    other = client.subscribe("quiet.too")
    silent = client.subscribe("silent")  # kept: one that nobody can reach ends, and nobody would be there to be asked

    async def wait(name: str, call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
            told[name] = None
        except Exception as error:
            told[name] = error

    async with anyio.create_task_group() as group:
        for name, call in {
            "next": lambda: sub.next(),
            "next with a timeout": lambda: sub.next(timeout=600),
            "iteration": lambda: anext(other),
            "request": lambda: client.request("silent", timeout=600),
        }.items():
            group.start_soon(wait, name, call)
        await eventually(lambda: client._hub.requests)
        started()
    del silent
    return told


PLANTS: dict[str, tuple[type, str]] = {
    "receive_data": (Session, "receive_data"),
    "handle_timeout": (Session, "handle_timeout"),
    "data_to_send": (Session, "data_to_send"),
    "events_received": (Session, "events_received"),
    "commands_to_run": (Session, "commands_to_run"),
    "next_timeout": (Session, "next_timeout"),
    "data_sent": (Session, "data_sent"),
    "receive_eof": (Session, "receive_eof"),
    "the writer": (Writer, "_send"),
    "the timer": (Timer, "set_session"),
}


@pytest.mark.parametrize(("owner", "method"), PLANTS.values(), ids=list(PLANTS))
async def test_everybody_is_told_of_a_defect(
    server: LocalServer,
    owner: type,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = EventLog()
    async with NoTaskLeft(), nats_anyio.connect(server.url, on_event=log, **PINGS) as nc:

        def plant() -> None:
            monkeypatch.setattr(owner, method, fails)
            if method == "receive_eof":
                monkeypatch.setattr(Session, "transport_lost", fails)  # a reset in place of an end
                server.kill()

        with anyio.fail_after(PATIENCE):
            told = await waiting(nc, plant)
            await log.wait(Closed)
        monkeypatch.undo()
        for name, error in told.items():
            assert isinstance(error, ConnectionClosedError), (name, error)
            assert isinstance(error.__cause__, DefectError), (name, error)
            assert isinstance(error.__cause__.__cause__, Planted), (name, error)
        for call in (lambda: nc.publish("a"), lambda: nc.publish_many("a", [b""]), nc.flush, lambda: nc.request("a")):
            with pytest.raises(ConnectionClosedError) as caught:
                await call()
            assert isinstance(caught.value.__cause__, DefectError)
        closed = log[-1]
        assert isinstance(closed, Closed)
        assert isinstance(closed.error, DefectError)
        assert isinstance(closed.error.__cause__, Planted)
        assert isinstance(nc.last_error, DefectError)
        assert nc.status is SessionStatus.CLOSED
    assert log.names.count("Closed") == 1
    told_in_log = [record for record in caplog.records if "this is a defect in it" in record.getMessage()]
    assert len(told_in_log) == 1
    assert told_in_log[0].exc_info is not None
    assert isinstance(told_in_log[0].exc_info[1], Planted)


@pytest.mark.parametrize("again", ["fail", "events_received"])
async def test_also_when_ending_fails_as_well(server: LocalServer, again: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog()
    async with NoTaskLeft(), nats_anyio.connect(server.url, on_event=log, **PINGS) as nc:
        handled: list[object] = []
        await nc.subscribe("callback", callback=handled.append)
        session = nc._hub.session

        def plant() -> None:
            monkeypatch.setattr(session, again, fails, raising=False)
            monkeypatch.setattr(session, "handle_timeout", fails, raising=False)

        with anyio.fail_after(PATIENCE):
            told = await waiting(nc, plant)
            closed = await log.wait(Closed)
            for name, error in told.items():
                assert isinstance(error, ConnectionClosedError), (name, error)
                assert isinstance(error.__cause__, DefectError), (name, error)
            assert isinstance(closed.error, DefectError)
            assert isinstance(nc.last_error, DefectError)
            for call in (lambda: nc.publish("a"), nc.flush, lambda: nc.request("a"), nc.drain):
                with pytest.raises(ConnectionClosedError):
                    await call()
            await nc.close()


@pytest.mark.parametrize("form", ["block", "open"])
@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (Session, "connect"),
        (Session, "events_received"),
        (Session, "commands_to_run"),
        (Session, "transport_connected"),
        (Session, "receive_data"),
        (Session, "data_to_send"),
        (Session, "next_timeout"),
        (Manager, "run"),
        (Dispatcher, "run"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_connecting_raises_what_has_happened(
    url: str, form: str, owner: type, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, method, fails)
    with anyio.fail_after(PATIENCE):
        async with NoTaskLeft(), anyio.create_task_group() as group:
            with pytest.raises(DefectError) as caught:
                await (connected(url) if form == "block" else nats_anyio.open(url, task_group=group))
    assert isinstance(caught.value.__cause__, Planted)


async def connected(url: str) -> None:
    async with nats_anyio.connect(url) as nc:
        raise AssertionError(f"there is a client: {nc!r}")


async def test_publishers_that_wait_for_room_are_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nats_anyio.connect(url) as nc:
        monkeypatch.setattr(Session, "writable", False)
        told: list[ConnectionClosedError] = []

        async def publish() -> None:
            with pytest.raises(ConnectionClosedError) as caught:
                await nc.publish("a", headers={"A": "1"})
            told.append(caught.value)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(publish)
                await eventually(lambda: len(nc._hub.publishers.waiting) == 3)
                monkeypatch.undo()
                nc._hub.fail(Planted("on purpose"))
        assert all(isinstance(error.__cause__, DefectError) for error in told)
        assert len(told) == 3


async def test_what_is_queued_can_still_be_read(url: str) -> None:
    async with nats_anyio.connect(url) as nc, nc.subscribe("a") as sub:
        await nc.publish("a", b"1")
        await nc.flush()
        nc._hub.fail(Planted("on purpose"))
        assert (await sub.next()).data == b"1"
        with pytest.raises(ConnectionClosedError) as caught:
            await sub.next()
        assert isinstance(caught.value.__cause__, DefectError)


async def test_a_defect_after_the_end_is_logged_alone(url: str, caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog()
    async with nats_anyio.connect(url, on_event=log) as nc:
        await nc.close()
        with caplog.at_level(logging.ERROR):
            nc._hub.fail(Planted("on purpose"))
    assert "this is a defect in it" in caplog.text
    assert log[-1] == Closed(error=None)
