"""F42: the server's disk is full. What it has acknowledged stays, the rest of the server goes on, and it recovers."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nats_proto.errors import NATSTimeoutError
from nats_proto.jetstream import StoreFailedError
from tests.adapters.legs import PATIENCE, QUICK, Leg, eventually, in_thread
from tests.jetstream.cluster import STRICT
from tests.jetstream.legs import jetstream
from tests.transports import Transport

pytestmark = [pytest.mark.clusters, pytest.mark.anyio]

SIZE = 4 * 1024 * 1024  # bytes


class Disk:
    """A file system in memory, of a size that can be changed: who may not mount one skips the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)

    def mount(self) -> None:
        """Raises `OSError`."""
        if self._libc.mount(b"tmpfs", os.fsencode(self.path), b"tmpfs", 0, b"size=%d" % SIZE):
            raise OSError(ctypes.get_errno(), "mount")

    def fill(self) -> None:
        """There is no room for a single byte any more."""
        with open(self.path / "ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty(self) -> None:
        """There is room again."""
        (self.path / "ballast").unlink()

    def unmount(self) -> None:
        self._libc.umount2(os.fsencode(self.path), 2)  # MNT_DETACH: also while a server that was killed is going


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Of `SIZE` bytes."""
    if sys.platform != "linux":
        pytest.skip("a file system in memory is mounted as Linux does it")
    made = Disk(tmp_path)
    try:
        made.mount()
    except OSError as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    try:
        yield made
    finally:
        made.unmount()


async def echo(message: Any) -> None:
    await message.respond(message.data)


async def test_f42_the_disk_is_full(leg: Leg, transport: Transport, disk: Disk) -> None:
    """What the server cannot write it does not answer, or with the system's error, as servers of 2.11 and 2.12 do: the
    outcome is unknown. Reads and core traffic go on.
    """
    store = {**STRICT, "store_dir": str(disk.path), "max_file_store": 1 << 30, "max_memory_store": 1 << 20}
    with transport.server(jetstream=store) as server:
        async with leg.connect(server.url, **QUICK, max_reconnect_attempts=-1) as client:
            js = jetstream(client, timeout=PATIENCE)
            stream = await js.create_stream("S", subjects=["s"], storage="file")
            kv = await js.create_key_value("K")
            objects = await js.create_object_store("O")
            await kv.put("k", b"old")
            await objects.put("o", b"old")
            acked = {(await js.publish("s", b"%d" % number)).sequence for number in range(1, 11)}

            await in_thread(disk.fill)
            for write, outcome in (
                (lambda: js.publish("s", bytes(65536), timeout=1.0), "unknown"),
                (lambda: kv.put("k", bytes(65536), timeout=1.0), "unknown"),
                # Chunks may have been stored, but there is no object without its info, which was not even sent.
                (lambda: objects.put("o", bytes(1 << 20), timeout=1.0), "failed"),
            ):
                for _ in range(5):
                    with pytest.raises((NATSTimeoutError, StoreFailedError)) as raised:
                        await write()
                    if raised.value.outcome == outcome:  # else the machine stood still, and it was not even sent
                        break
                assert raised.value.outcome == outcome
            async with leg.connect(server.url) as service:
                await service.subscribe("echo", callback=leg.handler(echo))
                await service.flush()
                assert (await client.request("echo", b"x", timeout=PATIENCE)).data == b"x"
            assert (await kv.get("k")).value == b"old"
            assert await objects.get_bytes("o") == b"old"

            await in_thread(disk.empty)
            # A server that could not write to a stream gives that stream up until it is started again.
            await in_thread(server.restart)
            await eventually(lambda: client.stats.reconnects >= 1)
            acked.add((await js.publish("s", b"11")).sequence)
            revision = await kv.put("k", b"new")
            assert (await kv.get("k", min_revision=revision)).value == b"new"
            await objects.put("o", b"new")
            assert await objects.get_bytes("o") == b"new"
            stored = {number: bytes((await stream.get_msg(number)).data)[:2] for number in sorted(acked)}
            assert list(stored.values()) == [b"%d" % number for number in range(1, 12)]
