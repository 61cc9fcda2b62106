"""Many threads on one client, through the ends of many connections, switching threads as often as can be."""

from __future__ import annotations

import faulthandler
import random
import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

import nats_sync
from nats_proto import Closed, SessionStatus
from nats_proto.errors import ConnectionClosedError, ConnectionLostError, NATSTimeoutError, NoRespondersError
from nats_sync import Client
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually, threads_of
from tests.faults.peer import Peer, handshake, swallow
from tests.faults.record import FULL, TRACED, check_runs, numbered
from tests.transports import Transport

KILLS = 20
PUBLISHERS = 12
WATCHDOG = 40.0  # seconds after which all stacks are printed: somebody waits for somebody

REFUSALS = (ConnectionLostError, NATSTimeoutError, NoRespondersError)
"""What a call may end with while its server is being killed."""


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    faulthandler.dump_traceback_later(WATCHDOG, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()
    sys.setswitchinterval(interval)


class Stress:
    """The threads, and what they wrote down."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        self.serials = [0] * PUBLISHERS
        """The next serial of each publisher."""
        self.threads: list[threading.Thread] = []
        self.answered = 0

    def start(self, work: Callable[[int], None], count: int) -> None:
        for number in range(count):
            name = f"{work.__name__}-{number}"
            # Daemons: when the test fails they go on, and would else keep the interpreter from ending.
            thread = threading.Thread(target=self._run, args=(work, number), name=name, daemon=True)
            self.threads.append(thread)
            thread.start()

    def _run(self, work: Callable[[int], None], number: int) -> None:
        try:
            while not self.stop.is_set():
                work(number)
        except ConnectionClosedError:
            if not self.stop.is_set():
                self.failures.append(AssertionError("closed early"))
        except BaseException as error:
            self.failures.append(error)

    def goes_on(self) -> None:
        """Wait until every publisher has published, and requests were answered."""
        enough = [serial + 20 for serial in self.serials]
        answered = self.answered + 10
        eventually(lambda: self.failures or (all(map(int.__gt__, self.serials, enough)) and self.answered > answered))

    # --- what they do ------------------------------------------------------------------------------------------------

    def publish(self, number: int) -> None:
        for _ in range(20):
            serial = self.serials[number]
            self.client.publish(f"stress.{number}", numbered(f"p{number}", serial, 64))
            self.serials[number] = serial + 1
        try:
            self.client.flush(timeout=5.0)
        except REFUSALS:
            time.sleep(0.005)  # it would fill the buffer while there is no server

    def iterate(self, number: int) -> None:
        self._in_order(iter(self.client.subscribe("stress.>", max_pending_msgs=0)))

    def ask(self, number: int) -> None:
        sub = self.client.subscribe("stress.*", max_pending_msgs=0)

        def messages() -> Iterator[nats_sync.Message]:
            while not self.stop.is_set():
                yield from sub.next_batch(random.randint(1, 100), timeout=0.1)

        self._in_order(messages())

    def request(self, number: int) -> None:
        question = f"{number}:{random.random()}".encode()
        try:
            assert self.client.request("echo", question, timeout=0.5).data == question
            self.answered += 1
        except REFUSALS:
            time.sleep(0.001)

    def come_and_go(self, number: int) -> None:
        with self.client.subscribe(f"own.{number}") as sub:
            serial = 0
            for serial in range(3):
                self.client.publish(f"own.{number}", b"%d" % serial)
            try:
                previous = -1
                while previous < serial:
                    message = sub.next(timeout=0.5)
                    assert int(message.data) > previous
                    previous = int(message.data)
                sub.drain(timeout=2.0)
            except REFUSALS:
                pass

    def look(self, number: int) -> None:
        client = self.client
        published = sum(self.serials)  # read first: a publisher counts its message when `publish` has returned
        assert client.stats.out_msgs >= published
        assert client.servers
        assert client.status is not SessionStatus.DISCONNECTED
        try:
            client.rtt(timeout=0.5)
            answers = [message.data for message in client.request_many("echo", b"many", max_wait=0.2, max_msgs=1)]
            assert answers in ([], [b"many"])
        except REFUSALS:
            time.sleep(0.001)

    def _in_order(self, messages: Iterator[nats_sync.Message]) -> None:
        last: dict[bytes, int] = defaultdict(lambda: -1)
        for message in messages:
            publisher, serial, _ = message.data.split(b":", 2)
            assert int(serial) > last[publisher], f"{publisher!r}: {serial!r} after {last[publisher]}"
            last[publisher] = int(serial)


@pytest.mark.long
@pytest.mark.transports("tcp", "tls", "ws")
def test_thirty_two_threads_through_twenty_kills(transport: Transport) -> None:
    events: list[object] = []
    options = {"reconnect_wait": 0.01, "reconnect_jitter": 0.001, "reconnect_jitter_tls": 0.001, **transport.options}
    options |= {"connect_timeout": 5.0, "pending_size": 64 << 20}
    with transport.server(TRACED) as server:
        client = nats_sync.connect(server.url, name="stress", on_event=events.append, **options)
        stress = Stress(client)
        client.subscribe("echo", callback=lambda message: message.respond(message.data))
        handled: list[bytes] = []
        client.subscribe("stress.>", callback=lambda message: handled.append(message.data), max_pending_msgs=0)
        client.flush()
        stress.start(stress.publish, PUBLISHERS)
        stress.start(stress.iterate, 4)
        stress.start(stress.ask, 4)
        stress.start(stress.request, 6)
        stress.start(stress.come_and_go, 4)
        stress.start(stress.look, 2)
        assert len(stress.threads) == 32
        core = set(threads_of("stress")) - {name for name in threads_of("stress") if "callbacks" in name}

        buffered: list[list[range]] = []
        for kill in range(3 * KILLS if FULL else KILLS if transport.name == "tcp" else KILLS // 6):
            stress.goes_on()
            server.kill()
            eventually(lambda: client.status is SessionStatus.RECONNECTING)
            down = list(stress.serials)
            eventually(lambda down=down: stress.failures or all(map(int.__gt__, stress.serials, down)))
            # The publish that was under way at `down` may have been handed over before.
            assert client.stats.reconnects == kill
            buffered.append([range(a + 1, b) for a, b in zip(down, stress.serials, strict=True)])
            server.start()
            eventually(lambda kill=kill: client.stats.reconnects == kill + 1)
            assert not stress.failures, stress.failures
        stress.goes_on()

        stress.stop.set()
        published = [thread for thread in stress.threads if thread.name.startswith("publish")]
        for thread in published:
            thread.join()
        client.flush()
        totals = list(stress.serials)
        still = {name for name in threads_of("stress") if "callbacks" not in name}
        assert still == core
        client.close()
        for thread in stress.threads:
            thread.join()
        assert stress.failures == []
        assert threads_of("stress") == {}
        assert events[-1] == Closed(error=None)
        _check_ledger(server, totals, buffered)
        _check_order(handled)


def _check_ledger(server: LocalServer, totals: list[int], buffered: list[list[range]]) -> None:
    """By the record of the server itself: nothing doubled, nothing reordered, all that was buffered is there."""
    record = _record(server)
    for number, total in enumerate(totals):
        lost = check_runs(record[f"p{number}"], total)
        for outage in buffered:
            kept = outage[number]
            assert not [gap for gap in lost if gap.start < kept.stop and kept.start < gap.stop], (lost, kept)
        assert len(lost) <= len(buffered)


def _record(server: LocalServer) -> dict[str, list[list[int]]]:
    """For each publisher the serials that each connection brought, in one pass over a log of a hundred megabytes."""
    runs: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for line in server.log().splitlines():
        if "<<- MSG_PAYLOAD" in line and '["p' in line:
            publisher, serial, _ = line.partition('["')[2].split(":", 2)
            connection = f"{line.partition(']')[0]} {line.partition('id:')[2].partition(' ')[0]}"
            runs[publisher][connection].append(int(serial))
        assert "[ERR]" not in line, line
    return {publisher: sorted(of.values()) for publisher, of in runs.items()}


def _check_order(handled: list[bytes]) -> None:
    last: dict[bytes, int] = defaultdict(lambda: -1)
    assert handled
    for data in handled:
        publisher, serial, _ = data.split(b":", 2)
        assert int(serial) > last[publisher]
        last[publisher] = int(serial)


def test_eight_threads_at_full_speed_while_connections_come_and_go() -> None:
    """They publish without a lock. What connections brought, one behind the other, is all, once and in order."""
    each = 200_000 if FULL else 50_000

    with Peer([handshake(), swallow], again=True) as peer:
        with connect(peer.url, reconnect_wait=0.0, pending_size=1 << 30) as client:

            def publish(publisher: int) -> None:
                for number in range(each):
                    client.publish("x", b"%d %d" % (publisher, number))

            threads = [threading.Thread(target=publish, args=(publisher,)) for publisher in range(8)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                before = client.stats.reconnects
                client.reconnect()
                eventually(lambda before=before: client.stats.reconnects > before)
            client.flush()
            assert client.stats.out_msgs == 8 * each
            assert client.stats.reconnects >= 1
        for connection in peer.connections:
            assert connection.ended.wait(PATIENCE)
        numbers: list[list[int]] = [[] for _ in threads]
        for connection in peer.connections:
            for publisher, number in re.findall(rb"PUB x \d+\r\n(\d) (\d+)\r\n", connection.received):
                numbers[int(publisher)].append(int(number))
        for of in numbers:
            wrong = next((at for at, number in enumerate(of) if number != at), len(of))
            assert wrong == each, f"{of[wrong - 3 : wrong + 3]} at {wrong} of {len(of)}"
