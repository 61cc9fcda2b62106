"""A session whose bytes go through layers: set-up in order, who was handed what, the goodbye, errors of each."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Generator

import pytest

from nats_proto import (
    Closed,
    CloseTransport,
    Connected,
    Credentials,
    Disconnected,
    FlushCompleted,
    MessagesAvailable,
    OpenTransport,
    Parser,
    Perform,
    PublishFrame,
    Reconnecting,
    Role,
    SessionStatus,
)
from nats_proto._connection.handshake import Step, Wait
from nats_proto._effects import Call
from nats_proto._layers.layers import Layers
from nats_proto._session.life_cycle import CLOSE_GRACE
from nats_proto.errors import (
    ConnectionLostError,
    CredentialsError,
    LocalProtocolError,
    MaxConnectionsError,
    NATSError,
    NATSTimeoutError,
    RemoteProtocolError,
    TLSError,
)
from tests.proto.driver import PING, PONG, World, info, msg, words_of
from tests.proto.shift_layer import GOODBYE, HELLO, WELCOME, ShiftLayer, record, unwrap

Use = Callable[..., None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """``use(layer, ...)``: what each connection from now on is set up with, the lowest first. Without any: one."""

    def use(*makers: Callable[[], ShiftLayer]) -> None:
        def lower_layers(layers: Layers, *rest: object) -> Generator[Step, object, None]:
            for make in makers or (ShiftLayer,):
                layers.push(make())
                yield Wait.LAYER

        monkeypatch.setattr("nats_proto._connection.connection.lower_layers", lower_layers)

    return use


def plain(world: World) -> bytes:
    """What was written since the last call, without its one layer."""
    data, rest = unwrap(world.wire())
    assert rest == b""
    return data


def up(world: World) -> World:
    """Dial, the layer's greeting, and the handshake; all that was written is forgotten."""
    world.accept()
    assert world.wire() == HELLO
    world.feed(WELCOME)
    world.feed(record(info()))
    assert words_of(plain(world)) == ["CONNECT", "PING"]
    world.feed(record(PONG))
    return world


# --- the way up ------------------------------------------------------------------------------------------------------


def test_layers_come_before_info(use: Use) -> None:
    use()
    world = up(World())
    assert [type(event) for event in world.events()] == [Connected]
    sub = world.session.subscribe("a")
    world.session.publish("b", b"x")
    world.pump()
    assert words_of(plain(world)) == ["SUB a 1", "PUB b [1]"]
    world.feed(record(msg("a", 1, b"hello") + PING))
    assert [event for event in world.events() if isinstance(event, MessagesAvailable)]
    assert sub.pop() is not None
    assert words_of(plain(world)) == ["PONG"]


def test_less_is_received_at_once_where_it_has_to_be_unwrapped(use: Use) -> None:
    use()
    world = up(World())
    kib = 1024
    flood = record(b"+OK\r\n" * 1000) * 300
    sizes: list[int] = []
    for nbytes in (64 * kib, 120 * kib, 119 * kib, 64 * kib, *[64 * kib - 1] * 16):
        world.session.receive_data(flood[:nbytes], now=world.now)
        flood = flood[nbytes:]
        sizes.append(world.session.receive_size // kib)
    assert sizes == [*[120] * 19, 64]
    assert world.session.status is SessionStatus.CONNECTED


@pytest.mark.parametrize("secure", [False, True])
def test_large_payloads_are_told_where_nothing_is_encrypted(monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
    def lower_layers(layers: Layers, *rest: object) -> Generator[Step, object, None]:
        layers.push(ShiftLayer(), secure=secure)
        yield Wait.LAYER

    monkeypatch.setattr("nats_proto._connection.connection.lower_layers", lower_layers)
    session = up(World()).session
    told: list[bool] = []
    for size in 10, 100_000, 1000:
        session.publish("a", bytes(size))
        pieces = session.data_to_send()
        told.append(session.writes_large)
        session.data_sent(sum(map(len, pieces)))
    assert told == [False, not secure, False]


@pytest.mark.parametrize("at_a_time", [1, 2, 3, 1000])
def test_all_of_it_in_one_stream(use: Use, at_a_time: int) -> None:
    use()
    world = World()
    world.accept()
    stream = WELCOME + record(info()) + record(PONG + msg("a", 1, b"early")) + record(PONG)
    for start in range(0, len(stream), at_a_time):
        world.feed(stream[start : start + at_a_time])
    assert world.session.status is SessionStatus.CONNECTED


def test_layers_upon_layers(use: Use) -> None:
    use(ShiftLayer, ShiftLayer)
    world = World()
    world.accept()
    assert world.wire() == HELLO
    world.feed(WELCOME)
    assert unwrap(world.wire()) == (HELLO, b"")
    world.feed(record(WELCOME))
    world.feed(record(record(info())))
    outer, rest = unwrap(world.wire())
    inner, rest2 = unwrap(outer)
    assert (rest, rest2) == (b"", b"")
    assert words_of(inner) == ["CONNECT", "PING"]
    world.feed(record(record(PONG)))
    assert world.session.status is SessionStatus.CONNECTED


def test_what_comes_before_its_turn_is_no_part_of_the_next_layer(use: Use) -> None:
    use(ShiftLayer, ShiftLayer)
    world = World()
    world.accept()
    world.feed(WELCOME + record(WELCOME))
    assert isinstance(world.session.last_error, RemoteProtocolError)
    assert "before its turn" in str(world.session.last_error)
    assert world.wire() == HELLO


@pytest.mark.parametrize("how", ["nonsense", "eof", "silence", "lost"])
def test_a_layer_that_does_not_come_up_fails_the_attempt(use: Use, how: str) -> None:
    use()
    world = World("nats://a, nats://b", token="s3cret")
    world.accept()
    match how:
        case "nonsense":
            world.feed(b"INFO {}\r\n")
            assert isinstance(world.session.last_error, RemoteProtocolError)
        case "eof":
            world.eof()
            assert "before WELCOME" in str(world.session.last_error)
        case "silence":
            world.wait(world.options.connect_timeout)
            assert isinstance(world.session.last_error, NATSTimeoutError)
            assert "the handshake of Shift" in str(world.session.last_error)
        case _:
            world.cut()
            assert isinstance(world.session.last_error, ConnectionLostError)
    assert world.wire() == HELLO
    assert world.dial is not None
    assert world.dial.server.host == "b"
    use()
    up(world)


FULL = b"-ERR 'maximum connections exceeded'\r\n"


@pytest.mark.parametrize(
    "chunks",
    [[info(tls_required=True) + FULL], [info(tls_required=True), FULL], [info(tls_available=True), FULL + PING]],
    ids=["together", "behind", "with more"],
)
def test_a_server_that_will_not_have_us_says_so_in_clear_where_tls_was_to_begin(chunks: list[bytes]) -> None:
    world = World("tls://a, tls://b")
    world.accept()
    for chunk in chunks:
        world.feed(chunk)
    assert isinstance(world.session.last_error, MaxConnectionsError)
    assert world.dial is not None
    assert world.dial.server.host == "b"


@pytest.mark.parametrize("answered", [True, False])
def test_a_refusal_is_heard_while_a_context_is_asked_for_and_after(answered: bool) -> None:
    world = World("tls://a, tls://b", tls=lambda url: ssl.create_default_context())
    world.accept()
    world.feed(info(tls_required=True))
    command = asked(world)
    if answered:
        world.session.performed(command, ssl.create_default_context(), now=world.now)
        world.pump()
    world.feed(FULL)
    assert isinstance(world.session.last_error, MaxConnectionsError)


@pytest.mark.parametrize(
    ("chunks", "error"),
    [
        ([info(tls_required=True) + PING], RemoteProtocolError),
        ([info(tls_required=True) + PING + FULL], RemoteProtocolError),
        ([info(tls_required=True) + FULL + PING], RemoteProtocolError),
        ([info(tls_required=True) + FULL[:-1]], RemoteProtocolError),
        ([info(tls_required=True), PING], TLSError),
        ([info(tls_required=True), PING + FULL], TLSError),
        ([info(tls_required=True), b"\x16", FULL], TLSError),
    ],
)
def test_nothing_else_is_taken_in_clear_where_tls_was_to_begin(chunks: list[bytes], error: type[NATSError]) -> None:
    world = World("tls://a, tls://b", user="me", password="s3cret")
    world.accept()
    for chunk in chunks:
        world.feed(chunk)
    if world.dial is None:
        world.eof()
    assert type(world.session.last_error) is error
    assert b"s3cret" not in world.wire()


# --- what was handed over --------------------------------------------------------------------------------------------

SIZES = [0, 1, 900, 999, 1000, 1001, 5, 70_000, 3]


@pytest.mark.parametrize("whole", [True, False], ids=["records", "bytes"])
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("taken", [0, 1, 2, 3, 500, 1002, 1003, 2000, 3500, 4000, 5000, 60_000, 76_000, 200_000])
def test_at_a_cut_what_the_peer_can_read_is_gone_and_all_else_is_sent_again(
    use: Use, whole: bool, levels: int, taken: int
) -> None:
    use(*[lambda: ShiftLayer(whole=whole)] * levels)
    world = World(reconnect_jitter=0.0, reconnect_wait=0.0)

    def shake() -> None:
        world.accept()
        for level in range(levels):
            welcome = WELCOME
            for _ in range(level):
                welcome = record(welcome)
            world.feed(welcome)
        for data in (info(), PONG):
            for _ in range(levels):
                data = record(data)
            world.feed(data)

    def read(data: bytes) -> bytes:
        """What a peer can make of a part of the stream: of whole records, or of each byte as it comes."""
        for _ in range(levels):
            complete, rest = unwrap(data)
            data = complete if whole else complete + bytes((byte - 1) % 256 for byte in rest[2:])
        return data

    shake()
    world.wire()
    world.room = taken
    for number, size in enumerate(SIZES):
        world.session.publish(f"s.{number}", bytes([number]) * size)
    world.pump()
    seen = publishes(read(world.wire()))
    world.room = None
    world.cut()
    world.wait(0.0)
    use(*[lambda: ShiftLayer(whole=whole)] * levels)
    shake()
    data = world.wire()[len(HELLO) :]
    if levels == 2:
        outer, _ = unwrap(data)
        data = record(outer[len(HELLO) :])
    again = publishes(read(data))
    assert [*seen, *again] == [f"s.{number}" for number in range(len(SIZES))]


def publishes(stream: bytes) -> list[str]:
    """The subjects of the publishes that are complete in a stream."""
    frames = Parser(Role.SERVER).receive_data(stream)
    return [frame.subject for frame in frames if isinstance(frame, PublishFrame)]


def test_more_than_was_given_cannot_be_sent(use: Use) -> None:
    use()
    world = up(World())
    with pytest.raises(LocalProtocolError, match="1 bytes sent"):
        world.session.data_sent(1)


def test_a_flush_is_answered_through_a_layer(use: Use) -> None:
    use()
    world = up(World())
    token = world.session.flush()
    world.pump()
    assert words_of(plain(world)) == ["PING"]
    world.feed(record(PONG))
    assert FlushCompleted(token) in world.events()


# --- the way down ----------------------------------------------------------------------------------------------------


def test_the_goodbye_is_the_last_that_is_written(use: Use) -> None:
    use()
    world = up(World())
    world.session.publish("last", b"x")
    world.session.close(now=world.now)
    world.pump()
    data = world.wire()
    assert data.endswith(GOODBYE)
    assert words_of(unwrap(data[: -len(GOODBYE)])[0]) == ["PUB last [1]"]
    assert [type(event) for event in world.events()] == [Connected, Disconnected, Closed]
    assert world.closed


def test_the_goodbye_has_its_grace_and_not_more(use: Use) -> None:
    use()
    world = up(World())
    world.events()
    world.room = 1
    world.session.close(now=world.now)
    world.pump()
    assert not world.closed
    world.wait(CLOSE_GRACE - 0.01)
    assert not world.closed
    world.wait(0.01)
    assert world.closed
    assert world.events()[-1] == Closed(error=None)


@pytest.mark.parametrize("end", ["eof", "goodbye", "reset"])
def test_a_peer_that_is_faster_than_our_goodbye_is_no_loss(use: Use, end: str) -> None:
    use()
    world = up(World())
    world.events()
    world.room = 1
    world.session.close(now=world.now)
    world.pump()
    assert not world.closed
    end_by(world, end)
    assert world.events() == [Disconnected(server="nats://a:4222", error=None), Closed(error=None)]
    assert world.session.last_error is None


@pytest.mark.parametrize("end", ["eof", "goodbye", "reset"])
def test_what_was_not_written_at_the_end_is_a_loss(use: Use, end: str) -> None:
    use()
    world = up(World())
    world.events()
    world.room = 1
    world.session.publish("last", b"x")
    world.session.close(now=world.now)
    world.pump()
    end_by(world, end)
    lost, closed = world.events()
    assert isinstance(lost, Disconnected)
    assert isinstance(lost.error, ConnectionLostError)
    assert isinstance(closed, Closed)
    assert closed.unsent_msgs == 1
    assert world.session.last_error is lost.error


@pytest.mark.parametrize("end", ["written", "eof", "goodbye", "reset"])
def test_why_the_session_has_ended_is_said_however_the_connection_ends(use: Use, end: str) -> None:
    use()
    world = up(World())
    world.events()
    world.session.subscribe("a")
    world.pump()
    world.feed(record(msg("a", 1, b"never read")))
    world.session.drain(now=world.now, timeout=1.0)
    world.pump()
    world.feed(record(PONG))
    world.room = 1
    world.wait(1.0)
    if end == "written":
        world.room = None
        world.pump()
    else:
        end_by(world, end)
    lost, closed = world.events()[-2:]
    assert isinstance(lost, Disconnected)
    assert isinstance(closed, Closed)
    assert isinstance(lost.error, NATSTimeoutError)
    assert closed.error is lost.error


def end_by(world: World, end: str) -> None:
    match end:
        case "eof":
            world.eof()
        case "goodbye":
            world.feed(GOODBYE)
        case _:
            world.cut()


def test_goodbyes_of_layers_come_from_the_top(use: Use) -> None:
    use(ShiftLayer, ShiftLayer)
    world = World()
    world.accept()
    for data in (WELCOME, record(WELCOME), record(record(info())), record(record(PONG))):
        world.feed(data)
    world.wire()
    world.session.close(now=world.now)
    world.pump()
    assert world.wire() == record(GOODBYE) + GOODBYE


def test_the_goodbye_of_the_peer_is_a_loss(use: Use) -> None:
    use()
    world = up(World())
    world.events()
    world.feed(record(msg("a", 9, b"x")) + GOODBYE)
    (lost,) = world.events_of(Disconnected)
    assert isinstance(lost.error, ConnectionLostError)
    assert world.session.status is SessionStatus.RECONNECTING


def test_a_fault_of_a_layer_ends_the_connection_after_what_came_before_it(use: Use) -> None:
    use()
    world = up(World())
    sub = world.session.subscribe("a")
    world.pump()
    world.feed(record(msg("a", 1, b"good")) + b"\xff\xff")
    assert sub.pending_msgs == 1
    (lost,) = world.events_of(Disconnected)
    assert isinstance(lost.error, RemoteProtocolError)
    assert "65535" in str(lost.error)


def test_a_layer_that_cannot_wrap_ends_the_connection_with_the_next_look_at_the_clock(use: Use) -> None:
    use(lambda: ShiftLayer(deaf=True))
    world = World("nats://a, nats://b")
    world.accept()
    world.feed(WELCOME)
    world.feed(record(info()))
    world.wait(0.0)
    assert "nothing can be wrapped" in str(world.session.last_error)
    assert world.dial is not None
    assert world.dial.server.host == "b"


# --- what somebody is asked for --------------------------------------------------------------------------------------


def asked(world: World) -> Perform:
    performs = [command for command in world.commands if isinstance(command, Perform)]
    world.commands.clear()
    assert len(performs) == 1
    return performs[0]


def test_the_adapter_is_asked_and_answers() -> None:
    world = World(auth=lambda challenge: Credentials(token="t"))
    world.accept()
    world.feed(info(nonce="n"))
    command = asked(world)
    assert isinstance(command.effect, Call)
    world.session.performed(command, Credentials(token="t"), now=world.now)
    world.pump()
    assert b'"auth_token":"t"' in world.wire()
    world.feed(PONG)
    assert world.session.status is SessionStatus.CONNECTED


@pytest.mark.parametrize("fails", [False, True])
def test_an_answer_for_an_attempt_that_is_over_is_ignored(fails: bool) -> None:
    world = World("nats://a, nats://b", auth=lambda challenge: Credentials(token="t"))
    world.accept()
    world.feed(info())
    late = asked(world)
    world.wait(world.options.connect_timeout)
    assert isinstance(world.session.last_error, NATSTimeoutError)

    def answer(command: Perform, token: str) -> None:
        if fails and command is late:
            world.session.perform_failed(command, ValueError(), now=world.now)
        else:
            world.session.performed(command, Credentials(token=token), now=world.now)
        world.pump()

    answer(late, "late")
    assert world.dial is not None
    world.accept()
    world.feed(info())
    answer(late, "late")
    assert world.wire() == b""
    answer(asked(world), "fresh")
    assert b'"auth_token":"fresh"' in world.wire()
    world.feed(PONG)
    answer(late, "late")
    assert world.session.status is SessionStatus.CONNECTED


def test_a_failed_answer_fails_the_attempt_and_the_next_asks_anew() -> None:
    world = World("nats://a", auth=lambda challenge: Credentials(), retry_on_failed_connect=True)
    world.accept()
    world.feed(info())
    world.session.perform_failed(asked(world), ValueError("s3cret"), now=world.now)
    world.pump()
    assert isinstance(world.session.last_error, CredentialsError)
    (again,) = world.events_of(Reconnecting)
    assert again.error is world.session.last_error
    assert [type(command) for command in world.commands] in ([], [CloseTransport, OpenTransport])
    world.accept()
    world.feed(info())
    world.session.performed(asked(world), Credentials(token="t"), now=world.now)
    world.pump()
    world.feed(PONG)
    assert world.session.status is SessionStatus.CONNECTED
