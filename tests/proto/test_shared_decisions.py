"""What every adapter would decide alike, so that the core decides it: when a first connect is over, and the like."""

from __future__ import annotations

import random

import pytest

import nats_proto
from nats_proto import (
    ADDRESS_HEAD_START,
    CHUNK_SIZE,
    ConnectOptions,
    Message,
    SessionStatus,
    cannot_respond,
    check_callback,
    cut_pieces,
    ended_session,
    families_in_turn,
    join_small_pieces,
    no_answer_in_time,
    no_message_in_time,
    no_room_in_time,
    not_drained_in_time,
    not_reached,
)
from nats_proto._session.pieces import LARGE
from nats_proto.errors import (
    ConnectionClosedError,
    DefectError,
    NATSTimeoutError,
    NoReplySubjectError,
    SubscriptionClosedError,
)
from tests.proto.driver import World, msg

# --- the first connect ------------------------------------------------------------------------------------------------


def test_starting_until_there_is_a_connection() -> None:
    world = World("nats://a,nats://b", start=False)
    assert world.session.starting
    world.session.connect(now=world.now)
    assert world.session.starting
    world.pump()
    world.refuse()
    assert world.session.starting  # there is another server
    world.up()
    assert not world.session.starting
    world.cut()
    assert not world.session.starting


@pytest.mark.parametrize("options", [{}, {"retry_on_failed_connect": True}])
def test_starting_until_the_first_walk_has_failed(options: dict[str, object]) -> None:
    world = World("nats://a,nats://b", **options)
    world.refuse()
    assert world.session.starting
    world.refuse()
    assert not world.session.starting
    assert (world.session.status is SessionStatus.RECONNECTING) == bool(options)


@pytest.mark.parametrize("defect", [None, RuntimeError("planted")])
def test_starting_ends_with_the_session(defect: BaseException | None) -> None:
    world = World()
    if defect is None:
        world.session.close(now=world.now)
    else:
        world.session.fail(defect, now=world.now)
    assert not world.session.starting


# --- who writes -------------------------------------------------------------------------------------------------------


def test_a_chunk_waits_from_its_size_on_until_it_is_written() -> None:
    world = World().ready()
    world.room = 0
    session = world.session
    head = len("PUB a 90000\r\n\r\n")
    session.publish("a", b"x" * (90_000))
    session.publish("a", b"x" * (CHUNK_SIZE - 90_000 - 2 * head))
    assert session.pending_bytes == CHUNK_SIZE - 1
    assert not session.chunk_waits
    session.publish("a", b"")
    assert session.chunk_waits
    world.room = session.pending_bytes - CHUNK_SIZE
    world.pump()
    assert session.chunk_waits
    world.room = 1
    world.pump()
    assert not session.chunk_waits


# --- what is written --------------------------------------------------------------------------------------------------

A, B, C = b"a", b"bb", b"ccc"
L, M = b"L" * LARGE, b"M" * (LARGE + 1)
S = b"S" * (LARGE - 1)


@pytest.mark.parametrize(
    ("pieces", "parts"),
    [
        ([], []),
        ([A], [A]),
        ([L], [L]),
        ([A, B, C], [A + B + C]),
        ([S, S], [S + S]),
        ([A, L], [A, L]),
        ([L, A], [L, A]),
        ([L, M], [L, M]),
        ([A, B, L, C, A, M, B], [A + B, L, C + A, M, B]),
        ([L, M, A, B], [L, M, A + B]),
    ],
    ids=range(10),
)
def test_small_pieces_are_joined_and_large_ones_not_copied(pieces: list[bytes], parts: list[bytes]) -> None:
    given = list(pieces)
    joined = join_small_pieces(pieces)
    assert joined == parts
    assert pieces == given
    large = [id(each) for each in given if len(each) >= LARGE]
    assert [id(each) for each in joined if len(each) >= LARGE and len(each) != 2 * len(S)] == large


@pytest.mark.parametrize("nbytes", range(8))
def test_what_remains_of_pieces(nbytes: int) -> None:
    remaining = cut_pieces([b"ab", b"", b"cde", b"fg"], nbytes)
    assert b"".join(remaining) == b"abcdefg"[nbytes:]
    assert all(remaining) or nbytes <= 2


# --- the addresses of a server ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "order"),
    [
        ("", ""),
        ("6a", "6a"),
        ("6a 6b", "6a 6b"),
        ("6a 6b 4a 4b", "6a 4a 6b 4b"),
        ("4a 6a 6b 6c", "4a 6a 6b 6c"),
        ("4a 4b 4c 6a", "4a 6a 4b 4c"),
        ("6a 4a 6b 7a 4b", "6a 4a 6b 7a 4b"),
    ],
)
def test_the_families_of_addresses_take_turns(addresses: str, order: str) -> None:
    given = [(each[0], each[1]) for each in addresses.split()]
    assert families_in_turn(given) == [(each[0], each[1]) for each in order.split()]


@pytest.mark.parametrize(
    ("failures", "text"),
    [
        ([], "'h' has no address"),
        ([OSError("x"), OSError("y")], "x; y"),
        ([OSError("x"), OSError("y"), OSError("x")], "x; y"),
        ([OSError("x"), OSError("x")], "x"),
    ],
)
def test_all_addresses_have_failed(failures: list[OSError], text: str) -> None:
    assert str(not_reached("h", failures)) == text


def test_the_only_failure_is_raised_as_it_is() -> None:
    failure = ConnectionRefusedError(111, "refused")
    assert not_reached("h", [failure]) is failure


def test_a_head_start_is_shorter_than_an_attempt() -> None:
    assert 0.1 <= ADDRESS_HEAD_START < ConnectOptions().connect_timeout  # RFC 8305 recommends 250 ms


# --- what those are told whose time is up -----------------------------------------------------------------------------

AWAY = SessionStatus.RECONNECTING


@pytest.mark.parametrize(
    ("error", "text", "outcome"),
    [
        (
            no_answer_in_time("request to 'a.b'", 0.5, AWAY),
            "request to 'a.b': no answer within 0.5 s; the client is RECONNECTING",
            "unknown",
        ),
        (
            no_room_in_time("request to 'a.b'", 5.0, AWAY),
            "request to 'a.b': it was not sent, the outgoing buffer was full for 5 s; the client is RECONNECTING",
            "failed",
        ),
        (
            no_message_in_time("a.b", 1e-3, AWAY),
            "next: no message on 'a.b' within 0.001 s; the client is RECONNECTING",
            "unknown",
        ),
        (
            not_drained_in_time("a.b", 30.0, "3 messages are unread", AWAY),
            "drain of the subscription to 'a.b' took longer than 30 s: 3 messages are unread; "
            "the client is RECONNECTING",
            "unknown",
        ),
    ],
)
def test_what_a_timeout_says(error: NATSTimeoutError, text: str, outcome: str) -> None:
    assert (str(error), error.outcome) == (text, outcome)


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (None, "respond: the message on 'a' came without a reply subject"),
        (
            "r",
            "respond: the message on 'a' has no client, since it was unpickled or made by hand: "
            "publish to its reply subject instead",
        ),
    ],
)
def test_why_a_message_cannot_be_answered(reply: str | None, text: str) -> None:
    error = cannot_respond(Message("a", 1, reply, b""))
    assert isinstance(error, NoReplySubjectError)
    assert str(error) == text


# --- callbacks --------------------------------------------------------------------------------------------------------


async def asynchronous(message: Message) -> None:
    """What threads cannot await."""


@pytest.mark.parametrize(
    ("callback", "awaits", "why"),
    [
        (print, False, None),
        (print, True, None),
        (asynchronous, True, None),
        (asynchronous, False, "it is an async function"),
        (7, True, "it must be callable, not int"),
    ],
)
def test_a_callback_of_a_subscription(callback: object, awaits: bool, why: str | None) -> None:
    if why is None:
        check_callback(callback, awaits=awaits)
        return
    with pytest.raises(TypeError, match=f"^subscribe: the callback cannot be used, {why}"):
        check_callback(callback, awaits=awaits)


# --- what stands for a session that must not be called any more -------------------------------------------------------


@pytest.mark.parametrize("defect", [None, RuntimeError("planted"), KeyboardInterrupt()])
def test_an_ended_session(defect: BaseException | None) -> None:
    options = ConnectOptions(inbox_prefix="_MINE")
    session = ended_session(options, rng=random.Random(1), message_type=Message, defect=defect)
    assert session.status is SessionStatus.CLOSED
    assert not session.events_received()
    assert not session.commands_to_run()
    assert not session.data_to_send()
    assert session.next_timeout() is None
    assert session.writable
    assert not session.publish_quickly("a", b"", None, None)
    assert session.new_inbox().startswith("_MINE.")
    for call in (lambda: session.publish("a"), lambda: session.request("a"), session.flush):
        with pytest.raises(ConnectionClosedError) as raised:
            call()
        cause = raised.value.__cause__
        assert (cause is None) == (defect is None)
        if defect is not None:
            assert isinstance(cause, DefectError)
            assert cause.__cause__ is defect


def test_an_ended_session_although_everything_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, *args: object, **named: object) -> None:
        raise KeyboardInterrupt

    for name in ("fail", "close", "events_received"):
        monkeypatch.setattr(nats_proto.Session, name, broken)
    ended_session(ConnectOptions(), rng=random.Random(1), message_type=Message, defect=RuntimeError("planted"))


def test_a_subscription_is_ended_although_its_session_is_not_asked() -> None:
    world = World().ready()
    sub = world.session.subscribe("a")
    world.feed(msg("a", sub.sid) * 3)
    error = ConnectionClosedError("the client is closed")
    sub.end_with(error)
    assert (len(sub.messages), sub.discarded, sub.closed, sub.finished) == (0, 3, True, True)
    assert sub.ending(iterating=False) is error
    assert isinstance(sub.ending(iterating=True), SubscriptionClosedError)
