"""What a real server lets through and what it takes, where that is more, or odder, than usual."""

from __future__ import annotations

import socket
from collections.abc import Iterable

import anyio
import pytest

from nats_proto.errors import HeaderError, MaxControlLineError, MaxPayloadError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, EventLog, Leg, in_thread
from tests.transports import Transport

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp", "ws")]

MiB = 1024 * 1024
BLOCKS = (b"x", b"\r\n", b"\r\n\r\n", b"NATS/1.0", b"NATS/1.0\r\n", b"12345678901", b"\0" * 12, b"\xff" * 40)


def publish_raw(server: LocalServer, operations: Iterable[bytes]) -> None:
    """Write to the server's plain port what no client of ours would, and wait until it was read."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as raw, raw.makefile("rb") as lines:
        assert lines.readline().startswith(b"INFO ")
        connect = b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n'
        raw.sendall(connect + b"".join(operations) + b"PING\r\n")
        assert lines.readline() == b"PONG\r\n"


def hpub(block: bytes, payload: bytes) -> bytes:
    return b"HPUB h %d %d\r\n%b%b\r\n" % (len(block), len(block) + len(payload), block, payload)


async def test_a_header_block_of_any_bytes_is_delivered_and_the_connection_stays(
    leg: Leg, transport: Transport
) -> None:
    log = EventLog()
    with transport.server() as server:
        async with leg.connect(server.url, on_event=log) as client, client.subscribe("h") as sub:
            await client.flush()
            await in_thread(lambda: publish_raw(server, [hpub(block, b"hello") for block in BLOCKS]))
            for block in BLOCKS:
                message = await sub.next(timeout=PATIENCE)
                assert (message.data, message.header_block) == (b"hello", block)
                assert isinstance(message.header_error, HeaderError)
                assert message.headers is not None
                assert len(message.headers) == 0
            await client.flush()
        assert client.stats.reconnects == 0
        assert "Disconnected" not in log.names[:-2]


async def test_an_empty_header_block_is_none(leg: Leg, transport: Transport) -> None:
    with transport.server() as server:
        async with leg.connect(server.url) as client, client.subscribe("h") as sub:
            await client.flush()
            await in_thread(lambda: publish_raw(server, [hpub(b"", b"hello")]))
            message = await sub.next(timeout=PATIENCE)
            assert (message.data, message.headers, message.header_error) == (b"hello", None, None)


async def test_an_answer_with_an_odd_header_block_is_an_answer(leg: Leg, transport: Transport) -> None:
    with transport.server() as server:
        async with leg.connect(server.url) as client, client.subscribe("service") as service:

            async def answer() -> None:
                request = await service.next(timeout=PATIENCE)
                reply = str(request.reply).encode()
                await in_thread(lambda: publish_raw(server, [b"HPUB %b 1 3\r\n?ok\r\n" % reply]))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(answer)
                assert (await client.request("service", b"", timeout=PATIENCE)).data == b"ok"


async def test_headers_as_large_as_the_server_takes_come_back(leg: Leg, transport: Transport) -> None:
    with transport.server({"max_payload": 5 * MiB}) as server:
        async with leg.connect(server.url) as client, client.subscribe("h") as sub:
            for size in (2 * MiB, 2 * MiB + 100_000, 5 * MiB - 100):
                await client.publish("h", b"ok", headers={"L": "x" * size})
                message = await sub.next(timeout=PATIENCE)
                assert message.data == b"ok"
                assert message.headers is not None
                assert message.headers["L"] == "x" * size
            with pytest.raises(MaxPayloadError):
                await client.publish("h", b"ok", headers={"L": "x" * 5 * MiB})
            assert client.stats.reconnects == 0


async def test_a_server_without_a_limit_of_payloads(leg: Leg, transport: Transport) -> None:
    with transport.server({"max_payload": -1}) as server:
        async with leg.connect(server.url) as client, client.subscribe("big") as sub:
            assert client.server_info is not None
            assert (client.server_info.max_payload, client.max_payload) == (-1, 999_999_999)
            await client.publish("big", b"x" * 9 * MiB, headers={"A": "b"})
            message = await sub.next(timeout=PATIENCE)
            assert len(message.data) == 9 * MiB
            assert client.stats.reconnects == 0


async def test_an_account_that_allows_nothing_but_empty_messages(leg: Leg, transport: Transport) -> None:
    account = {"users": [{"user": "a", "password": "a"}], "limits": {"max_payload": 0}}
    with transport.server({"accounts": {"A": account}}) as server:
        async with leg.connect(server.url, user="a", password="a") as client, client.subscribe("s") as sub:
            await client.flush()  # the INFO with the limits of the account was sent before the answer
            assert client.max_payload == 0
            await client.publish("s", b"")
            assert (await sub.next(timeout=PATIENCE)).data == b""
            with pytest.raises(MaxPayloadError):
                await client.publish("s", b"x")
            await client.flush()
            assert client.stats.reconnects == 0


async def test_a_server_that_reads_longer_lines(leg: Leg, transport: Transport) -> None:
    subject = "y" * 65_000
    with transport.server({"max_control_line": 65536}) as server:
        async with leg.connect(server.url, max_control_line=65536) as client:
            async with client.subscribe(subject, queue="q") as sub:
                await client.publish(subject, b"x", headers={"A": "b"})
                assert (await sub.next(timeout=PATIENCE)).subject == subject
            with pytest.raises(MaxControlLineError, match="limit is 65536"):
                await client.subscribe("y" * 65536)
        async with leg.connect(server.url) as client:
            with pytest.raises(MaxControlLineError, match=r"limit is 4096 .*an option"):
                await client.publish(subject, b"x")
            assert client.stats.reconnects == 0
