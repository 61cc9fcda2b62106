"""What the server does not let a user publish is told at once to who waits for what comes of it, whoever that is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest

from nats_proto.errors import PermissionsError
from nats_sync.testing import LocalServer
from tests.adapters.jetstream import jetstream
from tests.adapters.legs import PATIENCE, Flag, Leg, eventually, in_thread
from tests.jetstream.cluster import STRICT
from tests.server_version import needs_server
from tests.transports import Transport

pytestmark = pytest.mark.anyio

LONG: Final = 300.0
"""Seconds that every call may take: what is told at once is told long before."""
NEXT: Final = "$JS.API.CONSUMER.MSG.NEXT."


def users(*denied: str) -> dict[str, Any]:
    """A server's configuration with a user who may do anything, and one who may not publish to these subjects."""
    least = {"user": "least", "password": "least", "permissions": {"publish": {"deny": list(denied) or ["denied.*"]}}}
    return {"authorization": {"users": [{"user": "all", "password": "all"}, least]}}


@pytest.fixture
def server(transport: Transport) -> Iterator[LocalServer]:
    """One with JetStream that knows both users."""
    with transport.server(users(), jetstream=STRICT) as local:
        yield local


async def fill(server: LocalServer, leg: Leg) -> None:
    """What the rows of the table read and write."""
    async with leg.connect(server.url, user="all", password="all") as admin:
        js = jetstream(admin)
        stream = await js.create_stream("S", subjects=["s.>"], allow_direct=True)
        await stream.create_consumer("c")
        await js.publish("s.first", b"1")
        await (await js.create_key_value("KV", history=5)).put("k", b"1")
        await (await js.create_object_store("O")).put("old", b"12")


# --- who waits -------------------------------------------------------------------------------------------------------


async def publish(client: Any, js: Any) -> None:
    await js.publish("s.a", b"1")


async def publisher(client: Any, js: Any) -> None:
    async with js.publisher() as window:
        taken = await window.publish("s.b", b"1", msg_id="b")
        pendings = [await window.publish("s.a", b"%d" % number) for number in range(100)]
        for pending in pendings:
            with pytest.raises(PermissionsError) as caught:
                await pending.ack()
            assert (caught.value.subject, caught.value.outcome) == ("s.a", "failed")
        assert (await taken.ack()).stream == "S"
        await (await window.publish("s.a", b"again", msg_id="again")).ack()


async def publisher_in_order(client: Any, js: Any) -> None:
    async with js.publisher(in_order=True, max_pending=2) as window:
        for number in range(10):
            with pytest.raises(PermissionsError):
                await (await window.publish("s.a", b"%d" % number)).ack()
        assert (await (await window.publish("s.b", b"1")).ack()).stream == "S"
        await (await window.publish("s.a", b"1")).ack()


async def object_writer(client: Any, js: Any) -> None:
    await (await js.object_store("O")).put("new", b"12" * 100_000, chunk_size=1000, timeout=LONG)


async def object_of_one_chunk(client: Any, js: Any) -> None:
    await (await js.object_store("O")).put("new", b"1", timeout=LONG)


async def object_reader(client: Any, js: Any) -> None:
    await (await js.object_store("O")).get_bytes("old", timeout=LONG)


async def fetch(client: Any, js: Any) -> None:
    async with js.consumer("S", "c").fetch(10, timeout=LONG) as batch:
        async for _ in batch:
            pass


async def fetch_no_wait(client: Any, js: Any) -> None:
    async with js.consumer("S", "c").fetch(10, timeout=LONG, no_wait=True) as batch:
        async for _ in batch:
            pass


async def take_next(client: Any, js: Any) -> None:
    await js.consumer("S", "c").next(LONG)


async def messages(client: Any, js: Any) -> None:
    async with js.consumer("S", "c").messages(heartbeat=15) as reading:
        async for _ in reading:
            pass


async def nothing(message: Any) -> None:
    pass


async def consume(client: Any, js: Any) -> None:
    await js.consumer("S", "c").consume(nothing, heartbeat=15).wait(LONG)


async def work(client: Any, js: Any) -> None:
    await js.consumer("S", "c").work(nothing).wait(LONG)


async def ordered(client: Any, js: Any) -> None:
    reader = js.stream("S").ordered_consumer(heartbeat=15)
    async with reader:
        await reader.next(LONG)


async def watch(client: Any, js: Any) -> None:
    async with (await js.key_value("KV")).watch() as entries:
        async for _ in entries:
            pass


async def several_messages(client: Any, js: Any) -> None:
    async for _ in js.stream("S").get_msgs(timeout=LONG):
        pass


async def request(client: Any, js: Any) -> None:
    await client.request("service", b"", timeout=LONG)


async def request_many(client: Any, js: Any) -> None:
    async for _ in client.request_many("service", b"", max_wait=LONG):
        pass


async def key_value(client: Any, js: Any) -> None:
    await (await js.key_value("KV")).put("k", b"2")


async def confirmed(client: Any, js: Any) -> None:
    message = await js.consumer("S", "c").next(PATIENCE)
    await message.ack_sync(LONG)


Call = Callable[[Any, Any], Awaitable[None]]
TABLE: Final[dict[str, tuple[Call, str]]] = {
    "publish": (publish, "s.a"),
    "publisher": (publisher, "s.a"),
    "publisher in order": (publisher_in_order, "s.a"),
    "object": (object_writer, "$O.O.C.>"),
    "object of one chunk": (object_of_one_chunk, "$O.O.C.>"),
    "object's info": (object_of_one_chunk, "$O.O.M.>"),
    "reading an object": (object_reader, NEXT + "OBJ_O.*"),
    "fetch": (fetch, NEXT + "S.c"),
    "fetch no_wait": (fetch_no_wait, NEXT + "S.c"),
    "next": (take_next, NEXT + "S.c"),
    "messages": (messages, NEXT + "S.c"),
    "consume": (consume, NEXT + "S.c"),
    "work": (work, NEXT + "S.c"),
    "ordered consumer": (ordered, NEXT + "S.*"),
    "watch": (watch, NEXT + "KV_KV.*"),
    "request": (request, "service"),
    "request_many": (request_many, "service"),
    "put": (key_value, "$KV.KV.k"),
    "ack_sync": (confirmed, "$JS.ACK.S.c.>"),
}


async def told(leg: Leg, server: LocalServer, call: Call, denied: str) -> PermissionsError:
    await fill(server, leg)
    await in_thread(partial(server.reload, users(denied)))
    async with leg.connect(server.url, user="least", password="least") as client:
        with anyio.fail_after(PATIENCE), pytest.raises(PermissionsError) as caught:
            await call(client, jetstream(client, timeout=LONG))
        assert client.stats.reconnects == 0
    error = caught.value
    assert error.operation == "publish"
    assert error.subject.startswith(denied.rstrip("*>"))
    assert f'"{error.subject}"' in str(error)
    return error


@pytest.mark.parametrize("row", TABLE)
async def test_a_refused_publish_is_told_at_once(leg: Leg, server: LocalServer, row: str) -> None:
    assert (await told(leg, server, *TABLE[row])).outcome == "failed"


@needs_server(2, 14, has="fast ingest")
@pytest.mark.parametrize("on_gap", ["fail", "ok"])
async def test_a_refused_fast_ingest_is_told_at_once(leg: Leg, server: LocalServer, on_gap: str) -> None:
    async with leg.connect(server.url, user="all", password="all") as admin:
        await jetstream(admin).create_stream("F", subjects=["f.>"], allow_batched=True)
    await in_thread(partial(server.reload, users("f.denied")))
    async with leg.connect(server.url, user="least", password="least") as client:
        js = jetstream(client, timeout=LONG)

        async def ingest(*subjects: str) -> None:
            async with js.fast_ingest(on_gap=on_gap) as ingest:
                for subject in subjects:
                    await ingest.publish(subject, b"1")

        with anyio.fail_after(PATIENCE), pytest.raises(PermissionsError) as caught:
            await ingest("f.denied")
        assert (caught.value.subject, caught.value.outcome) == ("f.denied", "failed")
        with anyio.fail_after(PATIENCE), pytest.raises(PermissionsError) as caught:
            await ingest("f.taken", "f.denied")
        assert (caught.value.subject, caught.value.outcome) == ("f.denied", "unknown")


@pytest.mark.parametrize("identified", [False, True])
async def test_what_is_in_flight_when_a_permission_goes(leg: Leg, server: LocalServer, identified: bool) -> None:
    """Refusals overtake the acknowledgements of what was taken before, and nothing of that is said to have failed."""
    await fill(server, leg)
    outcomes: dict[int, str] = {}
    async with (
        leg.connect(server.url, user="least", password="least") as client,
        jetstream(client, timeout=PATIENCE).publisher(retry_for=0.0) as window,
    ):
        pendings: list[Any] = []

        async def publish(count: int) -> None:
            for _ in range(count):
                options = {"msg_id": str(len(pendings))} if identified else {}
                pendings.append(await window.publish("s.a", b"%d" % len(pendings), **options))

        await publish(500)
        await pendings[0].ack()  # the server has begun to read them: some are stored
        reloaded = Flag()

        async def reload() -> None:
            await in_thread(partial(server.reload, users("s.a")))
            reloaded.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reload)
            while not reloaded.is_set and len(pendings) < 20_000:
                await publish(50)
                await anyio.lowlevel.checkpoint()
        await publish(500)
        for number, pending in enumerate(pendings):
            try:
                await pending.ack()
                outcomes[number] = "stored"
            except PermissionsError as error:
                outcomes[number] = error.outcome
    async with leg.connect(server.url, user="all", password="all") as admin:
        stored = [int(one.data) async for one in jetstream(admin).stream("S").get_msgs(subject="s.a", batch=1000)]
    assert stored == list(range(len(stored)))
    assert stored
    assert outcomes == {number: "stored" if number < len(stored) else "failed" for number in range(len(pendings))}


async def test_many_publishes_at_once_when_a_permission_goes(leg: Leg, server: LocalServer) -> None:
    """The same, of requests: each has its own outcome."""
    await fill(server, leg)
    outcomes: dict[str, str] = {}
    async with leg.connect(server.url, user="least", password="least") as client:
        js = jetstream(client, timeout=PATIENCE)

        async def publish_on(name: int) -> None:
            for number in range(2000):
                data = f"{name}-{number}"
                try:
                    await js.publish("s.a", data.encode(), retry_for=0.0)
                    outcomes[data] = "stored"
                except PermissionsError as error:
                    outcomes[data] = error.outcome
                    return

        async with anyio.create_task_group() as tasks:
            for name in range(300):
                tasks.start_soon(publish_on, name)
            await eventually(lambda: len(outcomes) > 1000)
            await in_thread(partial(server.reload, users("s.a")))
    async with leg.connect(server.url, user="all", password="all") as admin:
        stored = {one.data.decode() async for one in jetstream(admin).stream("S").get_msgs(subject="s.a", batch=1000)}
    assert len(stored) >= 1000
    assert {data for data, outcome in outcomes.items() if outcome == "stored"} == stored
    assert {outcome for data, outcome in outcomes.items() if data not in stored} == {"failed"}
