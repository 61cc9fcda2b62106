"""Requests: each reply to its own caller, once; everything else is counted and dropped."""

from __future__ import annotations

import random

import pytest

from nats_proto import Message, PublishFrame, ReplyReceived, RequestFailed, ServerErrorReceived, Session
from nats_proto._wire.headers import encode_status_block
from nats_proto.errors import (
    ConnectionLostError,
    InvalidSubjectError,
    MaxControlLineError,
    NoRespondersError,
    PermissionsError,
)
from tests.proto.driver import PONG, World, err, frames_of, info, msg
from tests.proto.test_session_misuse import snapshot


def requested(world: World, *subjects: str) -> list[tuple[int, str]]:
    """Requests and their reply subjects, as the server sees them."""
    tokens = [world.session.request(subject, b"q") for subject in subjects]
    world.pump()
    replies = [frame.reply for frame in frames_of(world.wire()) if getattr(frame, "subject", None) in subjects]
    assert len(replies) == len(tokens)
    return [(token, str(reply)) for token, reply in zip(tokens, replies, strict=True)]


def test_the_inbox_is_one_subscription_made_by_the_first_request() -> None:
    world = World().ready()
    world.session.request("r", b"1")
    world.session.request("r", b"22")
    world.pump()
    words = world.words()
    assert len(words) == 3
    assert words[0].startswith("SUB _INBOX.")
    assert words[0].endswith(".* 1")
    assert words[1:] == ["PUB r [1]", "PUB r [2]"]
    stats = world.session.stats
    assert (stats.out_msgs, stats.out_bytes) == (2, 3)


def test_replies_find_their_callers_in_any_order() -> None:
    world = World().ready()
    requests = requested(world, "a", "b", "c")
    for token, reply in reversed(requests):
        world.feed(msg(reply, 1, b"to %d" % token))
    events = world.events_of(ReplyReceived)
    assert [(event.token, event.message.data) for event in events] == [
        (token, b"to %d" % token) for token, _ in reversed(requests)
    ]
    stats = world.session.stats
    assert (stats.in_msgs, stats.in_bytes, stats.dropped_replies) == (3, 12, 0)
    assert world.session.pending_requests == 0


def test_headers_of_a_request_and_of_its_reply() -> None:
    world = World().ready()
    world.session.request("r", b"x", headers={"A": "1"})
    world.pump()
    frame = frames_of(world.wire())[1]
    assert frame.headers["A"] == "1"  # type: ignore[union-attr]
    world.feed(msg(frame.reply, 1, b"y", header_block=b"NATS/1.0\r\nB: 2\r\n\r\n"))  # type: ignore[union-attr]
    (event,) = world.events_of(ReplyReceived)
    assert event.message.headers is not None
    assert event.message.headers["B"] == "2"


def test_a_second_reply_is_dropped() -> None:  # H68
    world = World().ready()
    [(token, reply)] = requested(world, "r")
    world.feed(msg(reply, 1, b"first") + msg(reply, 1, b"second"))
    assert [(event.token, event.message.data) for event in world.events_of(ReplyReceived)] == [(token, b"first")]
    assert world.session.stats.dropped_replies == 1


def test_a_late_reply_is_dropped() -> None:  # H68
    world = World().ready()
    (first, first_reply), (second, second_reply) = requested(world, "r", "r")
    world.session.cancel_request(first)
    world.session.cancel_request(first)
    world.session.cancel_request(12345)
    assert world.session.pending_requests == 1
    world.feed(msg(first_reply, 1, b"late") + msg(second_reply, 1, b"x"))
    assert [event.token for event in world.events_of(ReplyReceived)] == [second]
    assert world.session.stats.dropped_replies == 1
    world.session.cancel_request(second)


@pytest.mark.parametrize("guess", ["", "0", "1", "0" * 16, "*", "\u00e9", "x" * 5000])
def test_a_guessed_token_reaches_nobody(guess: str) -> None:  # H68
    world = World().ready()
    [(_, reply)] = requested(world, "r")
    inbox = reply.rpartition(".")[0]
    world.feed(b"MSG %b.%b 1 0\r\n\r\n" % (inbox.encode(), guess.encode()))
    world.feed(msg("short", 1) + msg("mapped.to.another.subject", 1, b"x"))
    assert world.events() == []
    assert world.session.pending_requests == 1
    assert world.session.stats.dropped_replies == 3


def test_tokens_and_inboxes_cannot_be_guessed_and_do_not_repeat() -> None:
    world = World(pending_size=1 << 30).ready()
    replies = [reply for _, reply in requested(world, *["r"] * 2000)]
    tokens = {reply.rpartition(".")[2] for reply in replies}
    assert len(tokens) == 2000
    assert {len(token) for token in tokens} == {16}
    inboxes = {world.session.new_inbox() for _ in range(2000)}
    assert len(inboxes) == 2000
    assert {len(inbox) for inbox in inboxes} == {len("_INBOX.") + 22}
    assert len({inbox[7] for inbox in inboxes}) > 40
    assert len({inbox[-1] for inbox in inboxes}) > 40


def test_the_prefix_is_the_users() -> None:
    world = World(inbox_prefix="_INBOX_me.x").ready()
    [(_, reply)] = requested(world, "r")
    assert reply.startswith("_INBOX_me.x.")
    assert world.session.new_inbox().startswith("_INBOX_me.x.")


def test_two_sessions_have_two_inboxes() -> None:
    options = World().options
    inboxes = {Session(options, "a", rng=random.Random(seed))._traffic.inbox.subject for seed in range(100)}
    assert len(inboxes) == 100


# --- no responders ---------------------------------------------------------------------------------------------------

NO_RESPONDERS = encode_status_block(503)


def test_nobody_listens() -> None:
    world = World().ready()
    [(token, reply)] = requested(world, "price")
    world.feed(msg(reply, 1, header_block=NO_RESPONDERS))
    (failed,) = world.events()
    assert isinstance(failed, RequestFailed)
    assert failed.token == token
    assert isinstance(failed.error, NoRespondersError)
    assert failed.error.subject == "price"
    assert str(failed.error) == "no responders: nobody is subscribed to 'price'"
    assert reply not in str(failed.error)
    assert world.session.pending_requests == 0


@pytest.mark.parametrize(
    ("block", "data"),
    [
        pytest.param(NO_RESPONDERS, b"with a payload", id="H55"),
        pytest.param(encode_status_block(404), b"", id="another status"),
        pytest.param(b"NATS/1.0\r\nStatus: 503\r\n\r\n", b"", id="a header that looks like it"),
        pytest.param(b"NATS/1.0 5035\r\n\r\n", b"", id="H54"),
    ],
)
def test_what_is_no_503_is_a_reply(block: bytes, data: bytes) -> None:
    world = World().ready()
    [(token, reply)] = requested(world, "r")
    world.feed(msg(reply, 1, data, header_block=block))
    assert [event.token for event in world.events_of(ReplyReceived)] == [token]


# --- a reply that is taken by the one who waits for it ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "data"),
    [(None, b""), (None, b"x" * 100), (b"NATS/1.0\r\nA: 1\r\n\r\n", b"x"), (NO_RESPONDERS, b""), (NO_RESPONDERS, b"x")],
    ids=["empty", "plain", "headers", "no responders", "503 with a payload"],
)
def test_taking_a_reply_is_receiving_it(block: bytes | None, data: bytes) -> None:
    received, taken = World().ready(), World().ready()
    [(token, reply)] = requested(received, "r")
    assert requested(taken, "r") == [(token, reply)]
    stream = msg(reply, 1, data, header_block=block)
    received.feed(stream)

    completion = taken.session.take_reply(stream, token)
    commands, deadline = taken.session.commands_to_run(), taken.session.next_timeout()

    assert [repr(completion)] == [repr(event) for event in received.events()]
    assert commands == []
    assert deadline == received.session.next_timeout()
    taken.pump()
    assert taken.events() == []
    assert taken.session.stats == received.session.stats
    assert taken.session.pending_requests == 0
    assert taken.session.take_reply(stream, token) is None
    taken.feed(stream)
    assert taken.session.stats.dropped_replies == 1


def test_what_is_no_reply_to_take() -> None:
    world = World().ready()
    (first, reply), (second, other) = requested(world, "r", "r")
    stream = msg(reply, 1, b"x")
    session = world.session
    before = snapshot(session)
    for data, token in (
        (stream, second),
        (msg(other, 1, b"x"), first),
        (stream, 12345),
        (msg(reply, 2, b"x"), first),
        (msg(reply[:-1], 1, b"x"), first),
        (msg(reply.upper(), 1, b"x"), first),
        (stream.replace(b"MSG", b"msg"), first),
        (msg(reply, 1, b"x", header_block=b"NATS/1.0\r\n\r\n").replace(b"NATS/1.0", b"NATS/2.0"), first),
        *((stream[:end], first) for end in range(len(stream))),
        *((stream + more, first) for more in (b"\r", b"PING\r\n", stream, msg("a", 5))),
        *((more + stream, first) for more in (b"\n", b"PING\r\n", msg("a", 5))),
    ):
        assert session.take_reply(data, token) is None, data
    assert snapshot(session) == before
    session.cancel_request(first)
    assert session.take_reply(stream, first) is None
    assert session.take_reply(msg(other, 1, b"x"), second) is not None


def test_no_reply_is_taken_in_the_midst_of_an_operation() -> None:
    world = World().ready()
    [(token, reply)] = requested(world, "r")
    stream = msg(reply, 1, b"x")
    around = msg("a", 5, stream + b"y")
    begin = around.index(stream)
    for cut in range(1, len(around)):
        world.feed(around[:cut])
        assert world.session.take_reply(stream, token) is None, cut
        assert world.session.take_reply(around[begin : begin + len(stream)], token) is None
        world.feed(around[cut:])
    assert world.session.take_reply(stream, token) is not None


def test_no_reply_is_taken_without_a_connection() -> None:
    world = World().ready()
    [(token, reply)] = requested(world, "r")
    stream = msg(reply, 1, b"x")
    world.cut()
    assert world.session.take_reply(stream, token) is None
    world.accept()
    assert world.session.take_reply(stream, token) is None
    world.shake()
    assert world.session.take_reply(stream, token) is not None


def test_no_reply_is_taken_while_a_lame_duck_is_left() -> None:
    """The last one lets it be left, which is more than its completion."""
    world = World("nats://a, nats://b").ready()
    [(token, reply)] = requested(world, "r")
    world.feed(info(ldm=True))
    assert world.session.take_reply(msg(reply, 1, b"x"), token) is None
    assert world.dial is None
    world.feed(msg(reply, 1, b"x"))
    assert world.dial is not None


# --- connections come and go -----------------------------------------------------------------------------------------


def test_a_request_outlives_its_connection() -> None:
    world = World().ready()
    [(token, reply)] = requested(world, "r")
    world.cut()
    assert world.session.pending_requests == 1
    world.up()
    assert world.words() == ["CONNECT", "PING", f"SUB {reply.rpartition('.')[0]}.* 1"]
    world.feed(msg(reply, 1, b"late but right"))
    assert [event.token for event in world.events_of(ReplyReceived)] == [token]


def test_a_request_made_while_away_is_sent_once_behind_its_subscription() -> None:
    world = World()
    token = world.session.request("r", b"x")
    world.up()
    words = world.words()
    assert [word.split()[0] for word in words] == ["CONNECT", "PING", "SUB", "PUB"]
    world.session.cancel_request(token)
    world.cut()
    world.up()
    assert [word.split()[0] for word in world.words()] == ["CONNECT", "PING", "SUB"]


def test_by_option_requests_fail_with_their_connection() -> None:
    world = World(fail_requests_on_disconnect=True).ready()
    requests = requested(world, "a", "b")
    world.cut()
    failed = world.events_of(RequestFailed)
    assert [event.token for event in failed] == [token for token, _ in requests]
    for event in failed:
        assert isinstance(event.error, ConnectionLostError)
        assert event.error.outcome == "unknown"
        assert event.error.__cause__ is world.session.last_error
    world.up()
    world.feed(msg(requests[0][1], 1, b"late"))
    assert world.session.stats.dropped_replies == 1


# --- refusals --------------------------------------------------------------------------------------------------------


NO_A = err('Permissions Violation for Publish to "a"')


def test_as_many_refusals_as_requests_to_their_subject_fail_them() -> None:
    world = World().ready()
    (a1, _), (_b, _), (a2, _) = requested(world, "a", "b", "a")
    world.feed(NO_A)
    [report] = world.events()
    assert isinstance(report, ServerErrorReceived)
    world.feed(NO_A)
    assert world.events_of(RequestFailed) == []
    world.feed(PONG)  # no more of what was sent before can be refused
    failed = world.events()
    assert failed == [RequestFailed(a1, report.error), RequestFailed(a2, report.error)]
    assert isinstance(report.error, PermissionsError)
    assert (report.error.subject, report.error.outcome) == ("a", "failed")
    assert world.session.pending_requests == 1


@pytest.mark.parametrize("together", [False, True])
def test_a_refusal_that_overtakes_answers_fails_what_is_left_behind_them(together: bool) -> None:
    """When a permission is withdrawn: what the server has taken before is answered later."""
    world = World().ready()
    (a1, reply1), (a2, reply2), (a3, _) = requested(world, "a", "a", "a")
    answers = [msg(reply1, 1, b"1"), msg(reply2, 1, b"2")]
    world.feed(NO_A)
    world.feed(PONG)
    for data in [b"".join(answers)] if together else answers:
        world.feed(data)
    _, first, second, failed = world.events()
    assert isinstance(first, ReplyReceived)
    assert isinstance(second, ReplyReceived)
    assert (first.token, second.token) == (a1, a2)
    assert isinstance(failed, RequestFailed)
    assert (failed.token, type(failed.error), failed.error.outcome) == (a3, PermissionsError, "failed")


def test_a_refusal_that_overtakes_the_answer_of_who_reads_by_itself() -> None:
    world = World().ready()
    (a1, reply), (a2, _) = requested(world, "a", "a")
    world.feed(NO_A)
    world.feed(PONG)
    world.events()
    assert world.session.take_reply(msg(reply, 1, b"1"), a1) is None  # it is for all to be received
    world.feed(msg(reply, 1, b"1"))
    answered, failed = world.events()
    assert isinstance(answered, ReplyReceived)
    assert isinstance(failed, RequestFailed)
    assert failed.token == a2
    [(a3, reply)] = requested(world, "a")
    assert isinstance(world.session.take_reply(msg(reply, 1, b"3"), a3), ReplyReceived)


def test_a_request_that_is_given_up_may_be_the_one_that_was_refused() -> None:
    world = World().ready()
    (a1, _), (a2, reply), (_, other) = requested(world, "a", "a", "b")
    world.feed(NO_A)
    world.feed(PONG)
    world.session.cancel_request(a1)
    world.feed(msg(other, 1, b"b"))
    assert world.events_of(RequestFailed) == []
    world.feed(msg(reply, 1, b"2"))
    assert [event.token for event in world.events_of(ReplyReceived)] == [a2]
    assert world.session._traffic.inbox.refusals.subjects == {}


def test_a_refusal_means_no_request_that_was_made_later() -> None:
    world = World().ready()
    (_, reply), (a2, _) = requested(world, "a", "a")
    world.feed(NO_A)
    [(a3, _)] = requested(world, "a")
    world.feed(PONG + msg(reply, 1, b"1"))
    assert [event.token for event in world.events_of(RequestFailed)] == [a2]
    world.feed(NO_A)
    world.feed(PONG)
    assert [event.token for event in world.events_of(RequestFailed)] == [a3]


def test_who_asks_without_a_pause_is_told() -> None:
    """There is always a request on its way that the server has not looked at."""
    world = World().ready()
    [(before, _)] = requested(world, "a")
    for _ in range(20):
        world.feed(NO_A)
        [(after, _)] = requested(world, "a")
        world.feed(PONG)
        assert [event.token for event in world.events_of(RequestFailed)] == [before]
        before = after


def test_what_an_earlier_connection_may_have_taken_is_not_known() -> None:
    world = World().ready()
    requested(world, "a", "a")
    world.feed(NO_A)  # one of both: but nothing is known any more when its connection is gone
    world.cut()
    later = world.session.request("a")
    world.wait(10.0)
    world.up()
    world.feed(NO_A + NO_A)
    world.feed(PONG)
    assert world.events_of(RequestFailed) == []
    world.feed(NO_A)
    world.feed(PONG)
    first, second, third = (event.error for event in world.events_of(RequestFailed))
    assert [first.outcome, second.outcome, third.outcome] == ["unknown", "unknown", "failed"]
    assert str(first).startswith("request to 'a': server")
    assert first.__notes__ == ["It was made before the connection was replaced, so somebody may have got it."]
    assert later
    assert world.session.pending_requests == 0


def test_refusals_of_what_nobody_waits_for_are_forgotten() -> None:
    world = World().ready()
    requested(world, "b")
    world.feed(NO_A * 3)
    assert world.wire() == b""
    [(a, _)] = requested(world, "a")
    world.feed(NO_A)
    world.session.cancel_request(a)
    world.feed(PONG)
    assert world.events_of(RequestFailed) == []
    assert world.session._traffic.inbox.refusals.subjects == {}


def test_a_refused_reply_subject_fails_its_request() -> None:
    world = World().ready()
    (_, _), (second, reply) = requested(world, "r", "r")
    world.feed(err(f'Permissions Violation for Publish with Reply of "{reply}"'))
    assert [event.token for event in world.events_of(RequestFailed)] == [second]
    world.feed(err('Permissions Violation for Publish with Reply of "something.else"'))
    assert world.session.pending_requests == 1


def refused_inbox(world: World) -> bytes:
    return err(f'Permissions Violation for Subscription to "{world.session._traffic.inbox.subject}"')


def test_a_refused_inbox_fails_all_requests() -> None:
    world = World().ready()
    requests = requested(world, "a", "b")
    world.feed(refused_inbox(world))
    report, *failed = world.events()
    assert isinstance(report, ServerErrorReceived)
    assert failed == [RequestFailed(token, report.error) for token, _ in requests]


def test_a_refused_inbox_is_asked_for_again_with_the_next_request() -> None:
    world = World().ready()
    session = world.session
    requested(world, "a")
    inbox = session._traffic.inbox.subject
    world.feed(refused_inbox(world))
    world.events()
    with pytest.raises(InvalidSubjectError):
        session.request("a b")  # changes nothing
    first, second = session.request("b"), session.request("c")
    world.pump()
    assert world.words() == [f"SUB {inbox} 1", "PUB b [0]", "PUB c [0]"]
    world.feed(refused_inbox(world))  # it is still refused
    assert [event.token for event in world.events_of(RequestFailed)] == [first, second]
    ((third, reply),) = requested(world, "d")
    world.feed(msg(reply, 1, b"yes"))  # the permission is back
    (answered,) = world.events_of(ReplyReceived)
    assert (answered.token, answered.message.data) == (third, b"yes")
    session.request("e")
    world.pump()
    assert world.words() == ["PUB e [0]"]


def test_a_refused_inbox_is_restored_like_any_other_subscription() -> None:
    world = World().ready()
    requested(world, "a")
    inbox = world.session._traffic.inbox.subject
    world.feed(refused_inbox(world))
    world.cut()
    world.session.request("b")
    world.up()
    world.session.request("c")
    world.pump()
    assert world.words() == ["CONNECT", "PING", f"SUB {inbox} 1", "PUB b [0]", "PUB c [0]"]
    world.feed(refused_inbox(world))
    world.cut()
    world.up()
    world.session.request("d")
    world.pump()
    assert world.words() == ["CONNECT", "PING", f"SUB {inbox} 1", "PUB d [0]"]


def test_no_connection_and_no_request_yet_leaves_the_inbox_for_the_first() -> None:
    world = World().ready()
    world.cut()
    world.up()
    assert world.words() == ["CONNECT", "PING"]
    world.session.request("a")
    world.pump()
    assert [word.split()[0] for word in world.words()] == ["SUB", "PUB"]


# --- misuse ----------------------------------------------------------------------------------------------------------


def test_a_failed_call_leaves_no_inbox_and_no_token_behind() -> None:
    world = World().ready()
    with pytest.raises(InvalidSubjectError):
        world.session.request("a b")
    world.pump()
    assert world.words() == []
    first = world.session.request("r")
    with pytest.raises(TypeError):
        world.session.request("r", "text")  # type: ignore[arg-type]
    assert world.session.request("r") == first + 1


def test_an_inbox_too_long_for_a_line_is_refused_by_the_call() -> None:
    world = World(inbox_prefix="x" * 4090).ready()
    with pytest.raises(MaxControlLineError):
        world.session.request("r")
    assert world.session.stats.out_msgs == 0


# --- which replies count ---------------------------------------------------------------------------------------------


def from_a_stream(message: Message) -> bool:
    return message.data.startswith(b"{")


@pytest.mark.parametrize("together", [True, False])
def test_a_reply_that_is_not_accepted_is_skipped(together: bool) -> None:
    world = World().ready()
    token = world.session.request("orders", b"q", accept=from_a_stream)
    world.pump()
    reply = next(frame.reply for frame in frames_of(world.wire()) if isinstance(frame, PublishFrame))
    assert reply is not None
    replies = [msg(reply, 1, b"hi"), msg(reply, 1, b""), msg(reply, 1, b"{}"), msg(reply, 1, b"{late}")]
    for chunk in [b"".join(replies)] if together else replies:
        world.feed(chunk)
    assert [(event.token, event.message.data) for event in world.events_of(ReplyReceived)] == [(token, b"{}")]
    assert world.session.stats.dropped_replies == 3
    assert world.session.pending_requests == 0


def test_nobody_is_an_answer_whatever_is_accepted() -> None:
    world = World().ready()
    token = world.session.request("orders", b"q", accept=from_a_stream)
    world.pump()
    reply = next(frame.reply for frame in frames_of(world.wire()) if isinstance(frame, PublishFrame))
    assert reply is not None
    world.feed(msg(reply, 1, header_block=encode_status_block(503)))
    (failed,) = world.events_of(RequestFailed)
    assert (failed.token, type(failed.error)) == (token, NoRespondersError)


@pytest.mark.parametrize(("data", "taken"), [(b"{}", True), (b"hi", False)])
def test_a_reply_that_is_taken_early_is_accepted_as_well(data: bytes, taken: bool) -> None:
    world = World().ready()
    token = world.session.request("orders", b"q", accept=from_a_stream)
    world.pump()
    reply = next(frame.reply for frame in frames_of(world.wire()) if isinstance(frame, PublishFrame))
    assert reply is not None
    before = world.session.stats
    assert (world.session.take_reply(msg(reply, 1, data), token) is not None) == taken
    assert (world.session.stats == before) is not taken
    assert world.session.pending_requests == (0 if taken else 1)
