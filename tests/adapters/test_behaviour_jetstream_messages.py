"""Reading a consumer from a server that follows a script, on three legs."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from nats_proto._consuming.shares import SHARE
from tests.adapters.jetstream import jetstream
from tests.adapters.legs import PATIENCE, QUICK, Leg, eventually
from tests.faults.peer import PONGS, Connection, Peer, handshake, loop, reset

pytestmark = pytest.mark.anyio

ANSWER = re.compile(rb"PUB \$JS\.ACK\.S\.c\.1\.(\d+)\S+ 4\r\n(\S+)\r\n")
SUBSCRIBED = re.compile(rb"SUB (_INBOX\S+)\.[*1] (\d+)\r\n")
COUNT = 3


def _subscribed(connection: Connection) -> tuple[bytes, bytes]:
    """The inbox of the reader, and its sid."""
    match = SUBSCRIBED.fullmatch(connection.expect(SUBSCRIBED))
    assert match is not None
    return match[1], match[2]


def _message(sid: bytes, number: int) -> bytes:
    return b"MSG s %s $JS.ACK.S.c.1.%d.%d.1700000000000000000.0 1\r\nx\r\n" % (sid, number, number)


def _asked(connection: Connection) -> None:
    _subscribed(connection)
    connection.expect(b"MSG.NEXT.S.c ")


def _one_and_the_end(connection: Connection) -> None:
    _, sid = _subscribed(connection)
    connection.expect(b"MSG.NEXT.S.c ")
    connection.send(_message(sid, 100))
    connection.expect(b"$JS.ACK.S.c.1.100.100.")


def _all_the_others(connection: Connection) -> None:
    """Another server still has the request of before, and delivers what it asked for."""
    _, sid = _subscribed(connection)
    connection.send(b"".join(_message(sid, number) for number in range(1, COUNT + 1)))


def _acknowledged(connection: Connection) -> None:
    for number in range(1, COUNT + 1):
        match = ANSWER.fullmatch(connection.expect(ANSWER))
        assert match is not None
        assert match.groups() == (b"%d" % number, b"+ACK")


READS: dict[str, Callable[[Any], Any]] = {
    "messages": lambda consumer: consumer.messages(),
    "fetch": lambda consumer: consumer.fetch(10, timeout=PATIENCE),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_what_came_before_the_reader_saw_another_connection_is_his(leg: Leg, read: Callable[[Any], Any]) -> None:
    """Handed back, it would have had its only delivery where ``max_deliver`` is 1."""
    first = [handshake(), _one_and_the_end, reset()]
    second = [handshake(), _all_the_others, _acknowledged, _asked, loop(PONGS)]
    with Peer(first, second) as peer:
        async with (
            leg.connect(peer.url, **QUICK) as client,
            read(jetstream(client).stream("S").consumer("c")) as reader,
        ):
            await (await anext(reader)).ack()
            await eventually(lambda: client.stats.in_msgs == COUNT + 1)
            for _ in range(COUNT):
                await (await anext(reader)).ack()

            async def one_more() -> None:
                await anext(reader, None)

            async with anyio.create_task_group() as group:
                group.start_soon(one_more)
                await eventually(lambda: b"MSG.NEXT" in peer.connections[1].received)
                group.cancel_scope.cancel()


@pytest.mark.parametrize("later", [0, 5])
async def test_a_share_is_acknowledged_while_the_program_goes_on(leg: Leg, later: int) -> None:
    """Nobody has waited: else nothing would be written before the last message was handled. ``later``: messages that
    are still on their way."""
    written = threading.Event()
    there = 2 * SHARE
    count = there + later

    def deliver(connection: Connection) -> None:
        _, sid = _subscribed(connection)
        connection.expect(b"MSG.NEXT.S.c ")
        connection.send(_message(sid, 1))
        connection.expect(b"$JS.ACK.S.c.1.1.1.")
        connection.send(b"".join(_message(sid, number) for number in range(2, there + 1)))
        connection.expect(b"$JS.ACK.S.c.1.%d." % SHARE)
        written.set()
        connection.send(b"".join(_message(sid, number) for number in range(there + 1, count + 1)))
        connection.expect(b"$JS.ACK.S.c.1.%d." % count)

    with Peer([handshake(), deliver, loop(PONGS)]) as peer:
        async with leg.connect(peer.url, **QUICK) as client:
            taken = 0
            async for message in jetstream(client).stream("S").consumer("c").fetch(count, timeout=PATIENCE):
                await message.ack()
                taken += 1
                if taken == 1:
                    await eventually(lambda: client.stats.in_msgs == there)
                elif taken == SHARE + 2:
                    assert written.wait(PATIENCE)  # the event loop runs nothing else meanwhile
            assert taken == count
            await client.flush()
