"""The hostile inputs against a bare session: no sockets, no threads, no clock; whole, per byte, and cut anywhere."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from nats_proto import (
    AuthenticationFailed,
    CloseTransport,
    Connected,
    ConnectOptions,
    ContentErrorReceived,
    Disconnected,
    LameDuckMode,
    LifecycleEvent,
    Message,
    OpenTransport,
    Reconnected,
    ServerErrorReceived,
    ServersDiscovered,
    Session,
    SessionEvent,
    SessionStatus,
    SlowConsumer,
)
from nats_proto.errors import NATSTimeoutError, RemoteProtocolError, StaleConnectionError
from tests.faults.hostile_inputs import AFTER, ROWS, Moment, Row, greeting

HOSTILE = "nats://127.0.0.1:1"
HEALTHY = "nats://127.0.0.1:2"
REPORTS = (
    AuthenticationFailed,
    ContentErrorReceived,
    LameDuckMode,
    ServerErrorReceived,
    ServersDiscovered,
    SlowConsumer,
)

PER_BYTE_UP_TO = 40_000  # bytes: beyond, the calls alone would take longer than all other rows together
EVERY_SPLIT_UP_TO = 700
SPLITS = 200  # random ones for inputs that are longer …
SPLIT_BYTES = 8_000_000  # … as far as no more bytes than these are fed in all


class Driver:
    """A session and the least that an adapter does. The first server is hostile, the second healthy."""

    def __init__(self, **options: Any) -> None:
        fields = {"randomize_servers": False, "reconnect_jitter": 0.0, "ping_interval": 0.0} | options
        self.now = 0.0
        self.session = Session(ConnectOptions(**fields), [HOSTILE, HEALTHY], rng=random.Random(1))
        self.events: list[SessionEvent] = []
        self.dialled: list[str] = []
        self.closed = 0
        self.sent = b""  # on the current connection
        self.session.connect(now=self.now)
        self.pump()

    def pump(self) -> None:
        """What an adapter does after every call."""
        while True:
            self.events += self.session.events_received()
            commands = self.session.commands_to_run()
            for command in commands:
                match command:
                    case OpenTransport(server=server, at=at):
                        self.now = max(self.now, at)
                        self.dialled.append(server.url)
                        self.sent = b""
                        self.session.transport_connected(now=self.now)
                    case CloseTransport():
                        self.closed += 1
            pieces = self.session.data_to_send()
            for piece in pieces:
                self.sent += piece
                self.session.data_sent(len(piece))
            if not commands and not pieces:
                return

    def feed(self, data: bytes) -> None:
        self.session.receive_data(data, now=self.now)
        self.pump()

    def eof(self) -> None:
        self.session.receive_eof(now=self.now)
        self.pump()

    def shake_hands(self) -> None:
        self.feed(greeting())
        assert self.sent.startswith(b"CONNECT ")
        assert self.sent.endswith(b"PING\r\n")
        self.feed(b"PONG\r\n")
        assert self.session.status is SessionStatus.CONNECTED

    @property
    def ended(self) -> bool:
        """The hostile server was left."""
        return self.closed > 0

    def reports(self) -> list[LifecycleEvent]:
        return [event for event in self.events if isinstance(event, REPORTS)]


def attack(row: Row, pieces: Iterable[bytes]) -> None:
    """Feed a row's bytes in ``pieces`` and check all that the row says."""
    driver = Driver(**row.options)
    if row.moment is not Moment.GREETING:
        driver.feed(greeting())
    if row.moment is Moment.OPEN:
        driver.feed(b"PONG\r\n")
    subs = [driver.session.subscribe(f"s.{n}", max_msgs=1 if n == 3 else None) for n in (1, 2, 3)]
    driver.session.unsubscribe(subs[1])
    driver.pump()
    driver.events.clear()
    before = driver.sent
    for piece in pieces:
        driver.feed(piece)
        if driver.ended:
            break
    if row.eof:
        driver.eof()
    if row.ends is None:
        check_survived(row, driver)
    else:
        check_ended(row, driver, before)
    driver.feed(AFTER)
    assert driver.sent.endswith(b"PONG\r\n")
    *messages, good = subs[0].take(10_000_000)
    assert good.data == b"good"
    check_messages(row, messages)
    assert [message.data for message in subs[2].take(100)] == list(row.limited)
    check_reports(row, driver)
    if row.check_stats is not None:
        row.check_stats(driver.session.stats)


def check_survived(row: Row, driver: Driver) -> None:
    if row.moment is Moment.GREETING:
        assert driver.sent.startswith(b"CONNECT ")
        driver.feed(b"PONG\r\n")
    assert not driver.ended
    assert driver.session.status is SessionStatus.CONNECTED
    assert driver.session.connected_url == HOSTILE
    assert len(driver.session.servers) <= 1002
    assert not any(isinstance(event, Disconnected | Reconnected) for event in driver.events)


def check_ended(row: Row, driver: Driver, before: bytes) -> None:
    assert row.ends is not None
    assert driver.closed == 1
    error = driver.session.last_error
    assert type(error) is row.ends
    assert row.text in str(error)
    assert str(error).isprintable()
    assert driver.dialled == [HOSTILE, HEALTHY]  # the pool moved on
    assert driver.session.next_timeout() is not None
    if row.moment is Moment.OPEN:
        assert [event.error for event in driver.events if isinstance(event, Disconnected)] == [error]
    else:
        assert driver.session.status is SessionStatus.CONNECTING
        assert not any(isinstance(event, Connected | Disconnected) for event in driver.events)
    if row.moment is Moment.GREETING and not row.bytes().startswith(b"INFO {"):
        assert before == b""  # nothing but the dial
    # Nothing of the hostile stream is left in what reads the next one.
    driver.shake_hands()
    assert driver.session.connected_url == HEALTHY
    assert driver.sent.count(b"SUB s.1 1\r\n") == 1


def check_messages(row: Row, messages: Sequence[Message]) -> None:
    if isinstance(row.delivered, int):
        assert len(messages) == row.delivered
    else:
        assert [message.data for message in messages] == list(row.delivered)
    if row.check_messages is not None:
        row.check_messages(messages)


def check_reports(row: Row, driver: Driver) -> None:
    reports = driver.reports()
    kinds = [kind for n, kind in enumerate(map(type, reports)) if n == 0 or kind is not type(reports[n - 1])]
    expected = list(row.reports)
    if row.ends is not None and row.moment is not Moment.OPEN:
        expected = [AuthenticationFailed] if AuthenticationFailed in kinds else []
    assert kinds == expected
    if row.reports and row.ends is None and row.text:
        assert row.text in str(getattr(reports[0], "error", ""))
    if row.check_events is not None and row.moment is Moment.OPEN:
        row.check_events(reports)


def every_split(data: bytes) -> Iterator[tuple[bytes, ...]]:
    for cut in range(1, len(data)):
        yield data[:cut], data[cut:]


def random_splits(data: bytes) -> Iterator[list[bytes]]:
    rng = random.Random(len(data))
    for _ in range(max(1, min(SPLITS, SPLIT_BYTES // len(data)))):
        cuts = sorted(rng.sample(range(1, len(data)), rng.randint(1, 8)))
        yield [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_whole_and_per_byte_and_split(row: Row) -> None:
    data = row.bytes()
    attack(row, [data])
    if 1 < len(data) <= PER_BYTE_UP_TO:
        attack(row, (data[n : n + 1] for n in range(len(data))))
    for pieces in every_split(data) if len(data) <= EVERY_SPLIT_UP_TO else random_splits(data):
        attack(row, pieces)


# --- what bytes alone do not tell ------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"INFO {", greeting()], ids=["nothing", "half", "info-only"])
def test_h1_a_silent_server_is_left_at_the_connect_timeout(said: bytes) -> None:
    driver = Driver(connect_timeout=2.0)
    driver.feed(said)
    assert driver.session.next_timeout() == 2.0
    driver.now = 1.999
    driver.session.handle_timeout(now=driver.now)
    driver.pump()
    assert driver.dialled == [HOSTILE]
    driver.now = 2.0
    driver.session.handle_timeout(now=driver.now)
    driver.pump()
    assert driver.dialled == [HOSTILE, HEALTHY]
    assert type(driver.session.last_error) is NATSTimeoutError
    driver.shake_hands()


def test_h6_a_trickle_does_not_prolong_the_handshake() -> None:
    driver = Driver(connect_timeout=2.0)
    for byte in greeting():
        driver.now += 0.1
        driver.feed(bytes([byte]))
        driver.session.handle_timeout(now=driver.now)
        driver.pump()
        if driver.ended:
            break
    assert driver.now == pytest.approx(2.0)
    assert driver.dialled == [HOSTILE, HEALTHY]
    assert type(driver.session.last_error) is NATSTimeoutError


def test_h18_a_lame_duck_that_greets_is_left_for_another() -> None:
    driver = Driver()
    driver.feed(greeting(ldm=True))
    driver.feed(b"PONG\r\n")
    assert [event.migrating for event in driver.events if isinstance(event, LameDuckMode)] == [True]
    assert driver.dialled == [HOSTILE, HEALTHY]
    driver.shake_hands()
    assert [event.error for event in driver.events if isinstance(event, Disconnected)] == [None]


def test_h34_a_message_that_trickles_in_takes_memory_as_it_comes_and_ends_as_stale() -> None:
    limit = 8 * 1024 * 1024
    driver = Driver(max_message_size=limit, ping_interval=10.0, max_pings_out=2)
    driver.shake_hands()
    driver.session.subscribe("s.1")
    driver.pump()
    tracemalloc.start()
    try:
        driver.feed(b"MSG s.1 1 %d\r\n" % limit)
        received = 0
        while not driver.ended:
            driver.now += 1.0
            driver.feed(b"x" * 1024)
            received += 1024
            driver.session.handle_timeout(now=driver.now)
            driver.pump()
            assert driver.now < 100
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert driver.now == 30.0  # (max_pings_out + 1) × ping_interval
    assert type(driver.session.last_error) is StaleConnectionError
    assert peak < received + 256 * 1024


def test_h56_pongs_to_a_flood_of_pings_do_not_pile_up() -> None:
    driver = Driver()
    driver.shake_hands()
    before = driver.session.pending_bytes
    for _ in range(500):  # the transport takes nothing meanwhile
        driver.session.receive_data(b"PING\r\n" * 1000, now=driver.now)
        assert driver.session.pending_bytes <= before + 64 * 1024
    answer = b"".join(driver.session.data_to_send())
    assert 0 < answer.count(b"PONG\r\n") <= 64
    driver.session.data_sent(len(answer))
    driver.feed(AFTER)
    assert driver.sent.endswith(b"PONG\r\n")


def test_h57_pongs_nobody_asked_for_complete_no_flush() -> None:
    driver = Driver(ping_interval=10.0)
    driver.shake_hands()
    driver.feed(b"PONG\r\n" * 1000)
    token = driver.session.flush()
    assert not [event for event in driver.events if getattr(event, "token", None) == token]
    driver.pump()
    driver.feed(b"PONG\r\n")
    assert [event for event in driver.events if getattr(event, "token", None) == token]
    for tick in range(1, 4):  # and the unasked ones are not in hand for PINGs to come
        driver.session.handle_timeout(now=tick * 10.0)
        driver.pump()
    assert type(driver.session.last_error) is StaleConnectionError


@pytest.mark.parametrize("refusals", [1, 2])
def test_h61_only_the_same_refusal_twice_in_a_row_gives_up_on_a_server(refusals: int) -> None:
    driver = Driver()
    for _ in range(refusals):
        if driver.dialled[-1] == HEALTHY:  # back to the one that refuses
            driver.eof()
        driver.feed(greeting())
        driver.feed(b"-ERR 'Authorization Violation'\r\n")
        driver.shake_hands()
    failures = [event for event in driver.events if isinstance(event, AuthenticationFailed)]
    assert [failure.dropped for failure in failures] == [False, True][:refusals]
    assert (HOSTILE in driver.session.servers) == (refusals == 1)


def test_h63_a_flood_to_one_subscription_stays_within_its_limits() -> None:
    driver = Driver(max_pending_msgs=1000)
    driver.shake_hands()
    slow = driver.session.subscribe("s.1")
    other = driver.session.subscribe("s.2")
    driver.pump()
    flood = b"MSG s.1 1 0\r\n\r\n" * 10_000
    for _ in range(100):
        driver.feed(flood)
    driver.feed(b"MSG s.2 2 2\r\nhi\r\nPING\r\n")
    assert driver.sent.endswith(b"PONG\r\n")
    assert [message.data for message in other.take(10)] == [b"hi"]
    assert slow.pending_msgs == 1000
    assert slow.dropped == 999_000 == driver.session.stats.dropped_msgs
    assert [event.sid for event in driver.events if isinstance(event, SlowConsumer)] == [1]
    # Reading ends the episode; the next one is told again.
    assert len(slow.take(10)) == 10
    driver.feed(b"MSG s.1 1 0\r\n\r\n" * 11)
    assert [event.dropped for event in driver.events if isinstance(event, SlowConsumer)] == [1, 999_001]


def test_a_fault_gives_what_came_before_it() -> None:
    driver = Driver()
    driver.shake_hands()
    sub = driver.session.subscribe("s.1")
    driver.pump()
    driver.feed(b"MSG s.1 1 2\r\nhi\r\nNONSENSE\r\nMSG s.1 1 2\r\nno\r\n")
    assert [message.data for message in sub.take(10)] == [b"hi"]
    assert type(driver.session.last_error) is RemoteProtocolError
