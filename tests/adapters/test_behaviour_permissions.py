"""What `permissions` of a handle says is what its calls need: they are made by a user who may do nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

from nats_proto import ServerErrorReceived
from nats_proto.errors import PermissionsError
from nats_proto.jetstream import InitialValuesDone, Permissions
from nats_sync.testing import LocalServer
from tests.adapters.jetstream import jetstream
from tests.adapters.legs import PATIENCE, EventLog, Leg, eventually, in_thread
from tests.adapters.services import add_service, found_all, services
from tests.jetstream.cluster import STRICT
from tests.jetstream.versions import since
from tests.server_version import needs_server
from tests.transports import Transport

pytestmark = pytest.mark.anyio

NOT_SEEN = ".CONSUMER.INFO."
"""Asked when nothing is heard of a consumer, which is not to happen here."""


def users(permissions: object = 'permissions: {publish: {deny: ">"}, subscribe: {deny: ">"}}') -> str:
    """A server's configuration with a user who may do anything, and one who has these permissions."""
    return f"""
        authorization: {{users: [
          {{user: all, password: all}}
          {{user: least, password: least
            {permissions}
          }}
        ]}}
    """


@pytest.fixture
def server(transport: Transport) -> Iterator[LocalServer]:
    """One that knows both users."""
    with transport.server(users(), jetstream=STRICT) as local:
        yield local


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is meant by one with wildcards."""
    parts, given = pattern.split("."), subject.split(".")
    if parts[-1] == ">":
        parts = parts[:-1]
        if len(given) <= len(parts):
            return False
        given = given[: len(parts)]
    return len(parts) == len(given) and all(one in ("*", other) for one, other in zip(parts, given, strict=True))


class Seen:
    """What the users of a server have published."""

    def __init__(self) -> None:
        self.subjects: set[str] = set()

    async def add(self, message: Any) -> None:
        self.subjects.add(message.subject)

    def missing(self, permissions: Permissions) -> list[str]:
        """Permissions to publish that nobody has needed."""
        return [
            one.subject
            for one in permissions.publish
            if NOT_SEEN not in one.subject and not any(matches(one.subject, subject) for subject in self.subjects)
        ]


@asynccontextmanager
async def least(leg: Leg, server: LocalServer, permissions: Permissions) -> AsyncIterator[tuple[Any, Seen]]:
    """A client that has these permissions and no others. At the end each one was needed, and no other was missing."""
    await in_thread(partial(server.reload, users(permissions)))
    events, seen = EventLog(), Seen()
    async with (
        leg.connect(server.url, user="all", password="all") as admin,
        leg.connect(server.url, user="least", password="least", on_event=leg.hook(events)) as client,
    ):
        await admin.subscribe(">", callback=leg.handler(seen.add))
        await admin.flush()
        yield client, seen
        await client.flush()
        await eventually(lambda: not seen.missing(permissions))
    assert not [event for event in events if isinstance(event, ServerErrorReceived)]


async def initial(watch: Any) -> int:
    """How many initial values a watch has."""
    async with watch:
        with anyio.fail_after(PATIENCE):
            async for item in watch:
                if isinstance(item, InitialValuesDone):
                    return item.entries
    raise AssertionError("it has ended")


async def listed(items: Any) -> list[Any]:
    return [item async for item in items]


async def read_keys(kv: Any) -> None:
    """All that a handle that reads a bucket has."""
    assert (await kv.get("a")).value == b"1"
    assert (await kv.get("a", revision=1)).value == b"1"
    assert (await kv.get("a", reads="leader")).value == b"1"
    assert set(await kv.get_many(["a", "none"])) == {"a"}
    with since(2, 11):
        assert set(await kv.snapshot("a")) == {"a"}
    assert await listed(kv.keys()) == ["a"]
    assert await listed(kv.keys("a", "b.>")) == ["a"]
    assert len(await kv.history("a")) == 1
    assert await initial(kv.watch("a", "b")) == 1
    async with kv.mapping("a") as view:
        assert getattr(view, "thing", view)["a"] == b"1"
    assert (await kv.status()).values == 1


@needs_server(2, 11, has="a time to live of keys")
async def test_n21_the_permissions_of_a_bucket(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, user="all", password="all") as admin:
        js = jetstream(admin)
        kv = await js.create_key_value("B", limit_marker_ttl=60)
        await js.create_key_value("OTHER")
        await kv.put("a", b"1")
        reading, writing = kv.read_only().permissions(), kv.permissions()

    async with least(leg, server, reading) as (client, _):
        js = jetstream(client)
        kv = await js.key_value("B")
        await read_keys(kv)
        assert kv.read_only().permissions() == reading
    async with leg.connect(server.url, user="least", password="least") as client:
        js = jetstream(client)
        kv = await js.key_value("B")
        for call in (kv.put("a", b"2"), kv.delete("a"), js.key_value("OTHER"), js.delete_key_value("B")):
            with pytest.raises(PermissionsError):
                await call

    async with least(leg, server, writing) as (client, _):
        js = jetstream(client)
        kv = await js.key_value("B")
        assert kv.permissions() == writing
        await read_keys(kv)
        await kv.put("b", b"1")
        assert await kv.create("c", b"1", ttl=3600) == 3
        assert await kv.update("c", b"2", 3) == 4
        assert await kv.modify("c", lambda _: b"3") == 5
        await kv.delete("b")
        await kv.purge("c")
        assert (await kv.purge_deletes(older_than=0)).keys == 2
        async with kv.lock("lock", ttl=60) as lock:
            assert lock.held
    async with leg.connect(server.url, user="least", password="least") as client:
        js = jetstream(client)
        with pytest.raises(PermissionsError):
            await js.key_value("OTHER")
        with pytest.raises(PermissionsError):
            await js.delete_key_value("B")


async def read_objects(store: Any) -> None:
    """All that a handle that reads a bucket has."""
    assert await store.get_bytes("a") == b"12" * 1000
    async with await store.get("a") as reader:
        assert reader.seek(1500) == 1500
        assert await reader.read(2) == b"12"
    assert (await store.info("link")).link is not None
    assert {one.name for one in await listed(store.list())} == {"a", "link"}
    assert await initial(store.watch()) == 2
    assert not (await store.status()).sealed


async def test_n21_the_permissions_of_a_bucket_of_objects(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, user="all", password="all") as admin:
        js = jetstream(admin)
        store = await js.create_object_store("O")
        await store.put("a", b"12" * 1000, chunk_size=1000)
        await store.add_link("link", await store.info("a"))
        reading, writing = store.read_only().permissions(), store.permissions()

    async with least(leg, server, reading) as (client, _):
        store = await jetstream(client).object_store("O")
        await read_objects(store)
        with pytest.raises(Exception, match="there is no such object"):
            await store.info("none")
    async with leg.connect(server.url, user="least", password="least") as client:
        store = await jetstream(client).object_store("O")
        for call in (store.delete("a"), store.add_bucket_link("b", "O"), store.seal()):
            with pytest.raises(PermissionsError):
                await call

    async with least(leg, server, writing) as (client, _):
        store = await jetstream(client).object_store("O")
        await read_objects(store)
        await store.put("b", b"1")
        await store.put("b", b"2")
        await store.update_info("b", new_name="c")
        await store.add_bucket_link("all", "O")
        await store.delete("c")
        await client.request("$O.O.C.abandoned", b"1", timeout=PATIENCE)
        assert (await store.collect_garbage(older_than=0)).chunks == 1


@pytest.mark.parametrize("prefix", [None, "_MINE"])
async def test_n21_the_permissions_of_readers(leg: Leg, server: LocalServer, prefix: str | None) -> None:
    options = {} if prefix is None else {"inbox_prefix": prefix}
    async with leg.connect(server.url, user="all", password="all", **options) as admin:
        js = jetstream(admin)
        stream = await js.create_stream("S", subjects=["a"], allow_direct=True)
        consumer = await stream.create_consumer("C")
        for _ in range(3):
            await js.publish("a", b"1")
        reading, consuming = stream.permissions(), consumer.permissions()
    assert [str(one) for one in reading.subscribe] == [f"{prefix or '_INBOX'}.>"]

    await in_thread(partial(server.reload, users(consuming)))
    async with leg.connect(server.url, user="least", password="least", **options) as client:
        consumer = jetstream(client).consumer("S", "C")
        async with consumer.fetch(1, timeout=PATIENCE) as batch:
            async for message in batch:
                await message.ack_sync(PATIENCE)
        async with consumer.messages() as messages:
            async for message in messages:
                await message.ack_sync(PATIENCE)
                break
        assert (await consumer.refresh()).name == "C"
        await consumer.diagnose()
        with pytest.raises(PermissionsError):
            await jetstream(client).stream("S").get_msg(1)

    await in_thread(partial(server.reload, users(reading)))
    async with leg.connect(server.url, user="least", password="least", **options) as client:
        stream = jetstream(client).stream("S")
        assert (await stream.refresh()).state.messages == 3
        assert (await stream.get_msg(1)).data == b"1"
        assert (await stream.get_last_msg("a", direct=False)).sequence == 3
        assert (await stream.get_last_msg("a", direct=True)).sequence == 3
        async with stream.ordered_consumer().messages() as messages:
            async for message in messages:
                assert message.data == b"1"
                break
        with pytest.raises(PermissionsError):
            await stream.purge()


async def test_n21_the_permissions_of_a_service(leg: Leg, server: LocalServer) -> None:
    async def answer(request: Any) -> None:
        await request.respond(b"1")

    def offered(client: Any) -> Any:
        service = add_service(client)
        service.group("v1").endpoint("item", answer, subject="item.*")
        return service

    async with leg.connect(server.url, user="all", password="all") as admin, offered(admin) as service:
        permissions = service.permissions()
    assert not permissions.publish
    assert [str(one) for one in permissions.subscribe][-1] == "v1.item.*"
    await in_thread(partial(server.reload, users(permissions)))
    events = EventLog()
    async with (
        leg.connect(server.url, user="all", password="all") as admin,
        leg.connect(server.url, user="least", password="least", on_event=leg.hook(events)) as client,
        offered(client) as service,
    ):
        await client.flush()
        assert (await admin.request("v1.item.7", timeout=PATIENCE)).data == b"1"
        for sought in ((), ("orders",), ("orders", service.id)):
            assert await found_all(lambda sought=sought: services(admin, *sought).info(), {service.id})
        await client.publish("elsewhere", b"")
        await events.wait(ServerErrorReceived)
