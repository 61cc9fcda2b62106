"""The cut in the threaded client: what was handed over when the connection ended while a thread was sending."""

from __future__ import annotations

import threading
import time

import pytest

from nats_proto import SessionStatus
from nats_sync._engine.transport import Chunk, Transport
from tests.adapters.sync_tools import PATIENCE, connect, eventually
from tests.faults.peer import Connection, Peer, close, expect, freeze, handshake, reset, send


@pytest.mark.parametrize("end", [close(), reset()], ids=["close", "reset"])
def test_what_the_system_took_just_before_the_cut_is_not_written_again(
    monkeypatch: pytest.MonkeyPatch, end: object
) -> None:
    """The sender comes back from its call when the reader has long seen the end of the connection."""
    real = Transport.send
    cut_off = threading.Event()

    def send_and_come_late(self: Transport, chunks: list[Chunk], accepted: list[int]) -> None:
        sent = b"".join(chunks)
        real(self, chunks, accepted)
        if b"PUB once" in sent and not cut_off.is_set():
            cut_off.set()
            eventually(lambda: client.status is SessionStatus.RECONNECTING)
            eventually(lambda: len(peer.connections) == 2)
            for _ in range(100):  # the time that the reader has to go on without us, which it must not
                if client._hub.transport is not None:
                    break
                time.sleep(0.001)

    monkeypatch.setattr(Transport, "send", send_and_come_late)
    first = [handshake(), expect(b"PUB once 1\r\nx\r\n"), end]
    second = [handshake(), expect(b"PING\r\n"), send(b"PONG\r\n")]
    with Peer(first, second) as peer, connect(peer.url) as client:
        client.publish("once", b"x")
        assert cut_off.wait(PATIENCE)
        eventually(lambda: client.stats.reconnects == 1)
        client.flush(timeout=PATIENCE)
        assert b"PUB" not in peer.connections[1].received


def test_what_was_left_of_a_batch_goes_whole_to_the_next_connection() -> None:
    payload = bytes(range(256)) * 1024  # no part of it looks like the beginning

    def take_all(connection: Connection) -> None:
        connection.expect(b"PING\r\n")
        connection.send(b"PONG\r\n")

    with Peer([handshake(), freeze()], [handshake(), take_all], rcvbuf=4096) as peer, connect(peer.url) as client:
        hub = client._hub
        transport = hub.transport
        assert transport is not None
        accepted: list[int] = []
        stop = threading.Event()

        def publish() -> None:
            while not stop.is_set():
                client.publish("large", payload)
                accepted.append(1)

        publisher = threading.Thread(target=publish)
        publisher.start()
        eventually(lambda: hub.publishers.waiting and transport._polled)  # both wait: the system takes nothing
        stop.set()
        client.reconnect()
        publisher.join()
        client.publish("last", b"x")
        eventually(lambda: client.stats.reconnects == 1)
        client.flush(timeout=PATIENCE)
        written = bytes(peer.connections[1].received).partition(b"PING\r\n")[2]
        whole = b"PUB large %d\r\n%b\r\n" % (len(payload), payload)
        count = written.count(b"PUB large")
        assert 4 <= count <= len(accepted)
        assert written == whole * count + b"PUB last 1\r\nx\r\n" + b"PING\r\n"
