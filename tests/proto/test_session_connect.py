"""The first connect: the walk through the pool, what counts as whose failure, and who is given up on."""

from __future__ import annotations

import pytest

from nats_proto import (
    AuthenticationFailed,
    Closed,
    CloseTransport,
    Connected,
    Disconnected,
    LameDuckMode,
    OpenTransport,
    Reconnected,
    Reconnecting,
    Server,
    ServersDiscovered,
    SessionStatus,
)
from nats_proto.errors import (
    AuthenticationTimeoutError,
    AuthorizationError,
    ConnectionLostError,
    LocalProtocolError,
    MaxConnectionsError,
    NATSTimeoutError,
    NoServersError,
    RemoteProtocolError,
    ServerError,
    TransportError,
)
from tests.proto.driver import OK, PONG, START, World, err, info

UNAUTHORIZED = err("Authorization Violation")


def dialled(world: World) -> list[str]:
    return [command.server.host for command in world.commands if isinstance(command, OpenTransport)]


def test_the_way_to_the_first_connection() -> None:
    world = World("nats://a:1", connect_timeout=3.0)
    assert world.session.status is SessionStatus.CONNECTING
    assert world.commands == [OpenTransport(Server.parse("nats://a:1"), ("a", 1), START, START + 3.0)]
    assert world.session.next_timeout() == START + 3.0
    world.accept()
    assert world.wire() == b""
    world.feed(info())
    assert world.session.connected_url is None
    assert world.words() == ["CONNECT", "PING"]
    world.feed(PONG)
    assert world.session.status is SessionStatus.CONNECTED
    assert world.events() == [Connected(server="nats://a:1")]
    assert world.session.connected_url == "nats://a:1"
    assert world.session.server_info is not None
    assert world.session.server_info.server_id == "S"
    assert world.session.max_payload == 1048576
    assert world.session.last_error is None
    assert world.session.stats.reconnects == 0


def test_before_connect() -> None:
    session = World(start=False).session
    assert session.status is SessionStatus.DISCONNECTED
    assert (session.max_payload, session.server_info, session.connected_url) == (None, None, None)
    assert session.next_timeout() is None
    assert session.commands_to_run() == []
    assert session.data_to_send() == []
    session.handle_timeout(now=START)
    session.receive_data(b"noise", now=START)
    session.receive_eof(now=START)
    session.transport_lost(OSError(), now=START)
    assert session.events_received() == []


def test_connect_twice_is_misuse() -> None:
    world = World().ready()
    with pytest.raises(LocalProtocolError, match="CONNECTED"):
        world.session.connect(now=world.now)
    assert world.session.status is SessionStatus.CONNECTED


@pytest.mark.parametrize("call", ["transport_connected", "transport_failed"])
@pytest.mark.parametrize("moment", ["before", "handshake", "up", "closed"])
def test_an_answer_without_a_question_is_misuse(moment: str, call: str) -> None:
    world = World(start=moment != "before")
    if moment in ("handshake", "up"):
        world.accept()
    if moment == "up":
        world.shake()
    if moment == "closed":
        world.session.close(now=world.now)
    status = world.session.status
    arguments = [OSError()] if call == "transport_failed" else []
    with pytest.raises(LocalProtocolError, match=call):
        getattr(world.session, call)(*arguments, now=world.now)
    assert world.session.status is status


def test_the_pool_is_walked_once_without_waiting_and_without_events() -> None:
    world = World("nats://a, nats://b, nats://c")
    world.refuse()
    world.accept()
    world.eof()
    world.accept()
    world.feed(UNAUTHORIZED)
    assert world.now == START
    assert dialled(world) == ["a", "b", "c"]
    assert world.session.status is SessionStatus.CLOSED
    failed, closed = world.events()
    assert isinstance(failed, AuthenticationFailed)
    assert (failed.server, failed.dropped) == ("nats://c:4222", False)
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, NoServersError)
    assert [(server, type(error)) for server, error in closed.error.attempts] == [
        ("nats://a:4222", TransportError),
        ("nats://b:4222", ConnectionLostError),
        ("nats://c:4222", AuthorizationError),
    ]
    assert isinstance(closed.error.__cause__, AuthorizationError)
    assert str(closed.error) == (
        "no server could be used: cannot connect to server nats://a:4222: refused; "
        "server nats://b:4222 closed the connection during the handshake; "
        "server nats://c:4222 said: Authorization Violation"
    )
    assert world.session.next_timeout() is None


def test_many_failures_make_no_endless_text() -> None:
    world = World(",".join(f"nats://host{number}" for number in range(500)))
    while world.dial is not None:
        world.refuse()
    (closed,) = world.events_of(Closed)
    assert isinstance(closed.error, NoServersError)
    assert len(closed.error.attempts) == 500
    assert len(str(closed.error)) < 2000
    assert "490 more" in str(closed.error)


def test_the_first_server_that_works_ends_the_walk() -> None:
    world = World("nats://a, nats://b")
    world.refuse(OSError("no route"))
    world.up()
    assert world.events() == [Connected(server="nats://b:4222")]
    assert isinstance(world.session.last_error, TransportError)
    assert isinstance(world.session.last_error.__cause__, OSError)


FAILED_HANDSHAKES = [
    pytest.param(b"", None, ConnectionLostError, id="H2-eof"),
    pytest.param(info()[:20], None, ConnectionLostError, id="H2-eof-in-info"),
    pytest.param(b"HTTP/1.1 400\r\n", RemoteProtocolError, RemoteProtocolError, id="H4"),
    pytest.param(err("maximum connections exceeded"), MaxConnectionsError, MaxConnectionsError, id="H21-connections"),
    pytest.param(info() + UNAUTHORIZED, AuthorizationError, AuthorizationError, id="H21-authorization"),
    pytest.param(info() + err("anything"), ServerError, ServerError, id="H21-anything"),
    pytest.param(err("Authentication Timeout"), AuthenticationTimeoutError, AuthenticationTimeoutError, id="H21-slow"),
]


@pytest.mark.parametrize(("data", "at_once", "error"), FAILED_HANDSHAKES)
def test_a_failed_handshake_closes_the_transport_and_goes_on(
    data: bytes, at_once: type[Exception] | None, error: type[Exception]
) -> None:
    world = World("nats://a, nats://b")
    world.accept()
    world.commands.clear()
    world.feed(data)
    if at_once is None:
        world.eof()
    assert [type(command) for command in world.commands] == [CloseTransport, OpenTransport]
    assert type(world.session.last_error) is error
    world.up()
    assert world.session.connected_url == "nats://b:4222"
    assert not world.events_of(Disconnected)


@pytest.mark.parametrize("stage", ["dial", "accepted", "info", "trickle"])
def test_an_attempt_has_one_deadline_for_everything(stage: str) -> None:  # H1, H6
    world = World("nats://a, nats://b", connect_timeout=2.0)
    world.wait(1.0)
    if stage != "dial":
        world.accept()
    if stage == "info":
        world.feed(info())
    if stage == "trickle":
        for byte in info()[:9]:
            world.feed(bytes([byte]))
            world.wait(0.1)
    world.commands.clear()
    assert world.session.next_timeout() == START + 2.0
    world.wait(START + 2.0 - world.now)
    assert [type(command) for command in world.commands] == [CloseTransport, OpenTransport]
    assert isinstance(world.session.last_error, NATSTimeoutError)
    assert "2 s" in str(world.session.last_error)
    world.up()
    assert world.session.connected_url == "nats://b:4222"


def test_an_error_of_ours_comes_through_as_it_is() -> None:
    world = World()
    error = TransportError("name does not exist")
    world.refuse(error)
    (closed,) = world.events_of(Closed)
    assert closed.error is not None
    assert closed.error.__cause__ is error


@pytest.mark.parametrize("text", ["invalid client protocol", "no responders requires headers support"])
@pytest.mark.parametrize("handshake", [True, False])
def test_what_no_server_will_ever_accept_closes_the_client(text: str, handshake: bool) -> None:
    world = World("nats://a, nats://b")
    world.accept()
    if not handshake:
        world.shake()
        world.session.publish("a", b"left")
        world.room = 0
        world.pump()
        world.events()
    world.feed(err(text))
    assert world.closed
    assert world.session.status is SessionStatus.CLOSED
    *before, closed = [event for event in world.events() if isinstance(event, (Disconnected, Closed))]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, ServerError)
    assert closed.unsent_msgs == (0 if handshake else 1)
    assert before == ([] if handshake else [Disconnected(server="nats://a:4222", error=closed.error)])
    assert world.session.next_timeout() is None


# --- retried in the background ---------------------------------------------------------------------------------------


def test_a_first_connect_may_go_on_in_the_background() -> None:
    world = World("nats://a, nats://b", retry_on_failed_connect=True, reconnect_jitter=0.0)
    world.session.publish("a", b"early")
    world.refuse()
    assert world.session.status is SessionStatus.CONNECTING
    world.refuse()
    assert world.session.status is SessionStatus.RECONNECTING
    (event,) = world.events()
    assert isinstance(event, Reconnecting)
    assert (event.server, event.attempt, event.delay) == ("nats://a:4222", 1, 2.0)
    assert isinstance(event.error, TransportError)
    sub = world.session.subscribe("s")
    world.refuse()
    world.up()
    assert world.words() == ["CONNECT", "PING", f"SUB s {sub.sid}", "PUB a [5]"]
    assert [type(event) for event in world.events()] == [Reconnecting, Connected]
    assert world.session.stats.reconnects == 0
    world.cut()
    world.up()
    assert isinstance(world.events()[-1], Reconnected)


def test_a_retried_first_connect_gives_up_when_the_pool_is_empty() -> None:
    world = World(retry_on_failed_connect=True, max_reconnect_attempts=2)
    for _ in range(3):
        world.refuse()
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, NoServersError)
    assert world.dial is None


def test_the_same_refusal_again_ends_a_retried_first_connect() -> None:
    world = World(retry_on_failed_connect=True)
    for _ in range(2):
        world.accept()
        world.feed(UNAUTHORIZED)
    assert [event.dropped for event in world.events() if isinstance(event, AuthenticationFailed)] == [False, True]
    assert world.session.status is SessionStatus.CLOSED


# --- authentication --------------------------------------------------------------------------------------------------


def refuse_us(world: World, text: str = "Authorization Violation") -> None:
    world.accept()
    world.feed(info() + err(text))


def test_the_same_authentication_error_twice_in_a_row_drops_the_server() -> None:
    world = World("nats://a, nats://b").ready()
    world.cut()  # from here on it is b, a, b, …
    refuse_us(world)
    world.refuse()
    refuse_us(world)
    assert [(e.server, e.dropped) for e in world.events_of(AuthenticationFailed)] == [
        ("nats://b:4222", False),
        ("nats://b:4222", True),
    ]
    assert world.session.servers == ("nats://a:4222",)
    world.up()
    assert world.session.connected_url == "nats://a:4222"


@pytest.mark.parametrize(
    ("between", "dropped"),
    [
        pytest.param("success", False, id="a success in between"),
        pytest.param("other", False, id="another authentication error"),
        pytest.param("timeout", True, id="what is no authentication error does not count"),
    ],
)
def test_what_twice_in_a_row_means(between: str, dropped: bool) -> None:
    world = World(retry_on_failed_connect=True)
    refuse_us(world)
    if between == "success":
        world.up()
        world.cut()
    elif between == "other":
        refuse_us(world, "User Authentication Expired")
    else:
        refuse_us(world, "Authentication Timeout")
    refuse_us(world)
    assert world.events_of(AuthenticationFailed)[-1].dropped is dropped


def test_authentication_errors_may_be_retried_for_ever() -> None:
    world = World(retry_on_failed_connect=True, retry_auth_errors=True)
    for _ in range(10):
        refuse_us(world)
    assert [event.dropped for event in world.events_of(AuthenticationFailed)] == [False] * 10
    assert world.up().session.status is SessionStatus.CONNECTED


def test_an_expired_user_on_a_live_connection_counts() -> None:
    world = World().ready()
    world.feed(err("User Authentication Expired"))
    names = [type(event).__name__ for event in world.events()]
    assert names == ["ServerErrorReceived", "Disconnected", "AuthenticationFailed", "Reconnecting"]
    refuse_us(world, "User Authentication Expired")
    assert world.session.status is SessionStatus.CLOSED
    failed, closed = world.events()
    assert isinstance(failed, AuthenticationFailed)
    assert failed.dropped
    assert isinstance(closed, Closed)


def test_a_liar_that_refuses_once_costs_nothing() -> None:  # H61
    world = World().ready()
    for _ in range(5):
        world.feed(UNAUTHORIZED)
        world.up()
    assert world.session.status is SessionStatus.CONNECTED
    assert not any(event.dropped for event in world.events_of(AuthenticationFailed))


# --- what the first INFO says ----------------------------------------------------------------------------------------


def test_other_servers_are_believed_only_after_the_handshake() -> None:
    world = World()
    world.accept()
    world.feed(info(connect_urls=["evil:1", "a:4222"]))
    assert world.session.servers == ("nats://a:4222",)
    world.feed(UNAUTHORIZED)
    (closed,) = world.events_of(Closed)
    assert isinstance(closed.error, NoServersError)
    assert len(closed.error.attempts) == 1


def test_the_servers_of_the_first_info_are_no_news() -> None:
    world = World().up(connect_urls=["a:4222", "b:4222"])
    assert [type(event) for event in world.events()] == [Connected]
    assert world.session.servers == ("nats://b:4222", "nats://a:4222")
    world.feed(info(connect_urls=["a:4222", "b:4222", "c:1"]))
    assert world.events() == [ServersDiscovered(servers=("nats://c:1",))]
    world.feed(info(connect_urls=["a:4222", "b:4222", "c:1"], max_payload=9))
    assert world.events() == []
    assert world.session.max_payload == 9


def test_discovered_servers_may_be_ignored() -> None:
    world = World(ignore_discovered_servers=True).up(connect_urls=["b:1"])
    world.feed(info(connect_urls=["c:1"]))
    assert world.session.servers == ("nats://a:4222",)
    assert [type(event) for event in world.events()] == [Connected]


@pytest.mark.parametrize("first", [True, False])
def test_a_lame_duck_that_says_so_in_its_handshake(first: bool) -> None:  # H18
    world = World("nats://a, nats://b")
    world.accept()
    world.feed(info(ldm=first))
    world.feed(info(ldm=not first))
    world.feed(OK + PONG)
    assert LameDuckMode(server="nats://a:4222", migrating=True) in world.events()
    assert world.dial is not None
    assert world.dial.server.host == "b"
