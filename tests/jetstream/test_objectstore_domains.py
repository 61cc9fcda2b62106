"""Objects in another domain, behind a leaf node. Chunks and infos go there without the domain's prefix."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import anyio
import pytest

from nats_proto.errors import NATSError
from nats_sync.testing import LocalServer
from tests.adapters.legs import Leg
from tests.jetstream.cluster import ELECTION
from tests.jetstream.legs import jetstream

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]


@pytest.fixture
def leaf(free_port: int) -> Iterator[LocalServer]:
    """A leaf node of a hub. Each has a JetStream of its own."""
    hub = {"leafnodes": {"listen": f"127.0.0.1:{free_port}"}}
    remote = {"leafnodes": {"remotes": [{"url": f"nats://127.0.0.1:{free_port}"}]}}
    with LocalServer(hub, jetstream={"domain": "hub"}), LocalServer(remote, jetstream={"domain": "leaf"}) as local:
        yield local


async def test_a_bucket_in_another_domain(leg: Leg, leaf: LocalServer) -> None:
    data = Random(1).randbytes(400_000)
    async with leg.connect(leaf.url) as client:
        far, near = jetstream(client, domain="hub"), jetstream(client)
        with anyio.fail_after(ELECTION):
            while True:
                try:
                    store = await far.create_object_store("far", timeout=2.0)
                    break
                except NATSError:  # the two servers have not met yet
                    await anyio.sleep(0.01)
        here = await near.create_object_store("near")
        assert (await store.put("a", data)).chunks == 4
        assert await store.get_bytes("a") == data
        async with await store.get("a") as reader:
            reader.seek(300_000)
            assert await reader.read() == data[300_000:]
        assert [info.name async for info in store.list()] == ["a"]
        await store.update_info("a", new_name="b")
        await here.put("a", b"another one")
        assert await store.get_bytes("b") == data
        await store.delete("b")
        assert [info.name async for info in store.list()] == []
        assert (await far.stream("OBJ_far").refresh(subjects_filter="$O.far.C.>")).state.subjects in (None, {})
        assert await here.get_bytes("a") == b"another one"
