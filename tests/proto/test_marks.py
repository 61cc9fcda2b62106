"""In-band marks: what a subscription's reader finds among its messages when it asked for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nats_proto import (
    CaughtUp,
    ConnectionReplaced,
    Disconnected,
    Message,
    MessagesAvailable,
    PublishDropped,
    PublishFrame,
    PublishRefused,
    ReplyReceived,
    RequestFailed,
    ServerErrorReceived,
    SubscriptionState,
)
from nats_proto._session.subscription_table import MAX_REFUSALS
from nats_proto._wire.headers import encode_status_block
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionLostError,
    HeadersNotSupportedError,
    MaxPayloadError,
    NoRespondersError,
    PermissionsError,
)
from tests.proto.driver import PONG, World, err, frames_of, info, msg

REPLACED = ConnectionReplaced()


def read(sub: SubscriptionState[Message]) -> list[object]:
    """What is in the queue: the payload of each message, and each mark."""
    return [message.data if message.subject else sub.take_mark() for message in sub.take(1000)]


def marked(world: World, **limits: int) -> SubscriptionState[Message]:
    sub = world.session.subscribe("s", marks=True, **limits)
    world.pump()
    return sub


def replace(world: World) -> None:
    """Another connection."""
    world.cut()
    world.wait(10.0)
    world.up()


def reply_of(world: World) -> str:
    """Where the answer to the request goes that was written last."""
    asked = [frame for frame in frames_of(world.wire()) if isinstance(frame, PublishFrame)]
    return str(asked[-1].reply)


# --- all has come that was sent before ---


def test_the_mark_lies_behind_all_that_was_sent_before() -> None:
    world = World().ready()
    sub = marked(world)
    world.words()
    world.feed(msg("s", sub.sid, b"unread"))
    world.session.catch_up(sub, 7)
    world.pump()
    assert world.words() == ["PING"]
    world.events()
    world.feed(msg("s", sub.sid, b"on its way") + PONG + msg("s", sub.sid, b"new"))
    assert read(sub) == [b"unread", b"on its way", CaughtUp(7), b"new"]
    world.session.catch_up(sub, 8)
    world.pump()
    world.events()
    world.feed(PONG)
    assert world.events() == [MessagesAvailable((sub.sid,))]  # it wakes as a message does
    assert read(sub) == [CaughtUp(8)]


@pytest.mark.parametrize("asked", ["before", "meanwhile"])
def test_another_connection_comes_in_place_of_the_mark(asked: str) -> None:
    world = World("nats://a, nats://b").ready()
    sub = marked(world)
    if asked == "before":
        world.session.catch_up(sub, 7)
        world.pump()
    world.cut()
    if asked == "meanwhile":
        world.session.catch_up(sub, 7)
    world.up()
    world.feed(PONG)
    assert read(sub) == [REPLACED]


def test_who_has_left_is_told_nothing() -> None:
    world = World().ready()
    sub = marked(world)
    world.session.catch_up(sub, 7)
    world.session.unsubscribe(sub)
    world.pump()
    world.feed(PONG)
    assert read(sub) == []


# --- the connection was replaced -------------------------------------------------------------------------------------


def test_the_mark_lies_between_the_messages_of_the_two_connections() -> None:
    world = World().ready()
    sub = marked(world)
    world.feed(msg("s", sub.sid, b"old"))
    replace(world)
    world.feed(msg("s", sub.sid, b"new"))
    assert read(sub) == [b"old", REPLACED, b"new"]


def test_the_first_connection_replaces_none() -> None:
    world = World(start=False)
    world.session.connect(now=world.now)
    sub = marked(world)
    world.pump()
    world.up()
    assert read(sub) == []


def test_who_did_not_ask_gets_no_mark() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    replace(world)
    assert not sub.messages
    world.feed(msg("s", sub.sid, b"new"))
    assert read(sub) == [b"new"]


def test_a_mark_wakes_who_waits_as_a_message_does() -> None:
    world = World().ready()
    sub = marked(world)
    replace(world)
    assert world.events_of(MessagesAvailable) == [MessagesAvailable((sub.sid,))]


def test_connections_without_a_message_between_them_leave_one_mark() -> None:
    world = World().ready()
    sub = marked(world)
    for _ in range(5):
        replace(world)
    world.feed(msg("s", sub.sid, b"1"))
    replace(world)
    replace(world)
    assert read(sub) == [REPLACED, b"1", REPLACED]
    replace(world)
    assert read(sub) == [REPLACED]


def test_a_server_cannot_make_a_mark() -> None:
    world = World().ready()
    sub = marked(world)
    world.feed(b"MSG  %d 0\r\n\r\n" % sub.sid)
    assert len(world.events_of(Disconnected)) == 1
    assert not sub.messages


def test_a_mark_is_no_message_in_any_count() -> None:
    world = World().ready()
    sub = marked(world)
    world.feed(msg("s", sub.sid, b"12"))
    replace(world)
    world.feed(msg("s", sub.sid, b"345"))
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered, sub.received) == (2, 5, 0, 2)
    assert read(sub) == [b"12", REPLACED, b"345"]
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered, sub.received) == (0, 0, 2, 2)
    assert world.session.stats.in_msgs == 2


def test_a_drain_does_not_speak_of_marks() -> None:
    world = World().ready()
    sub = marked(world)
    world.feed(msg("s", sub.sid, b"1"))
    replace(world)
    assert sub.left == "1 message unread"


@pytest.mark.parametrize("limits", [{"max_pending_msgs": 1}, {"max_pending_bytes": 3}])
@pytest.mark.parametrize("messages", [1, 5])
def test_marks_take_no_room_and_need_none(limits: dict[str, int], messages: int) -> None:
    world = World().ready()
    sub = marked(world, **limits)
    replace(world)
    world.feed(msg("s", sub.sid, b"one") * messages)
    replace(world)
    assert read(sub) == [REPLACED, b"one", REPLACED]
    assert sub.dropped == messages - 1


@pytest.mark.parametrize("way", ["all", "maximum"])
def test_what_is_dropped_at_the_end_counts_no_marks(way: str) -> None:
    world = World().ready()
    sub = marked(world)
    world.feed(msg("s", sub.sid, b"1") * 2)
    replace(world)
    world.feed(msg("s", sub.sid, b"2") * 3)
    replace(world)
    world.session.unsubscribe(sub, max_msgs=None if way == "all" else 1)
    assert read(sub) == ([] if way == "all" else [b"1"])
    assert sub.discarded == (5 if way == "all" else 4)
    assert (sub.received, sub.delivered, sub.pending_msgs) == (5, 0 if way == "all" else 1, 0)


def test_a_subscription_that_has_ended_gets_no_mark() -> None:
    world = World().ready()
    sub = marked(world)
    world.session.unsubscribe(sub)
    replace(world)
    assert not sub.messages


# --- publishes that were given up ------------------------------------------------------------------------------------


def dropped_in(sub: SubscriptionState[Message]) -> list[object]:
    """What is in the queue, a dropped publish as its reply subject and the type of its error."""
    return [(mark.reply, type(mark.error)) if isinstance(mark, PublishDropped) else mark for mark in read(sub)]


def test_what_the_next_server_would_refuse_is_told_before_its_connection() -> None:
    """Whoever hears of another connection may send again what has no answer: but not what was never sent."""
    world = World().ready()
    sub = world.session.subscribe("acks.*", marks=True)
    world.pump()
    world.cut()
    for number in range(3):
        world.session.publish("s", b"x" * 100 * number, reply=f"acks.{number}")
    world.wait(10.0)
    world.up(max_payload=150)
    assert dropped_in(sub) == [("acks.2", MaxPayloadError), REPLACED]
    assert [frame.reply for frame in frames_of(world.wire()) if isinstance(frame, PublishFrame)] == ["acks.0", "acks.1"]


@pytest.mark.parametrize("taken", [False, True])
def test_what_waits_when_less_is_allowed_is_told(taken: bool) -> None:
    world = World().ready()
    sub = world.session.subscribe("acks.*", marks=True)
    world.pump()
    world.room = 0
    world.session.publish("s", b"", reply="acks.1", headers={"A": "b"})
    world.session.publish("s", b"x" * 200, reply="acks.2")
    if taken:
        world.pump()
    world.feed(info(max_payload=150, headers=False))
    if taken:
        assert dropped_in(sub) == []  # it is on its way, and the session cannot tell how far
        world.cut()
    assert dropped_in(sub) == [("acks.1", HeadersNotSupportedError), ("acks.2", MaxPayloadError)]


@pytest.mark.parametrize(("subject", "marks"), [("acks.*", False), ("other.*", True)])
def test_who_did_not_ask_or_would_not_get_the_answer_is_not_told(subject: str, marks: bool) -> None:
    world = World().ready()
    sub = world.session.subscribe(subject, marks=marks)
    world.cut()
    world.session.publish("s", b"x" * 200, reply="acks.1")
    world.session.publish("s", b"x" * 200)
    world.wait(10.0)
    world.up(max_payload=150)
    assert dropped_in(sub) == ([REPLACED] if marks else [])


def test_a_request_that_was_given_up_is_told_as_a_request() -> None:
    world = World().ready()
    sub = marked(world)
    world.cut()
    token = world.session.request("service", b"x" * 200, into=sub)
    world.wait(10.0)
    world.up(max_payload=150)
    failed, replaced = read(sub)
    assert isinstance(failed, RequestFailed)
    assert (failed.token, type(failed.error), replaced) == (token, MaxPayloadError, REPLACED)


# --- publishes that the server refuses -------------------------------------------------------------------------------


def refuses(subject: str) -> bytes:
    return err(f'Permissions Violation for Publish to "{subject}"')


def refused_in(sub: SubscriptionState[Message]) -> list[object]:
    """What is in the queue, refusals as subject, count and number."""
    return [(mark.subject, mark.count, mark.until) if isinstance(mark, PublishRefused) else mark for mark in read(sub)]


def test_refusals_are_told_when_no_more_of_them_can_come() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", marks=True, asks="jobs")
    world.pump()
    world.feed(msg("s", sub.sid, b"1") + refuses("jobs") * 2)
    assert world.wire().endswith(b"PING\r\n")
    assert read(sub) == [b"1"]
    world.feed(refuses("jobs") + msg("s", sub.sid, b"2") + PONG + refuses("jobs") + msg("s", sub.sid, b"3"))
    assert refused_in(sub) == [b"2", ("jobs", 3, 0), b"3"]
    world.feed(PONG)
    assert refused_in(sub) == [("jobs", 1, 0)]
    assert (sub.received, sub.delivered, sub.pending_msgs) == (3, 3, 0)


def test_a_refusal_wakes_who_waits_and_is_an_event_as_well() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", marks=True, asks="jobs")
    world.feed(refuses("jobs"))
    [said] = world.events()
    assert isinstance(said, ServerErrorReceived)
    assert said.error.text == 'Permissions Violation for Publish to "jobs"'
    world.feed(PONG)
    assert world.events() == [MessagesAvailable((sub.sid,))]


@pytest.mark.parametrize("asks", ["jobs", "Jobs", "jobs.new", lambda subject: None, None])
def test_of_what_others_publish_nobody_is_told(asks: str | Callable[[str], int | None] | None) -> None:
    world = World().ready()
    sub = world.session.subscribe("s", marks=True, asks=asks)
    world.pump()
    world.wire()
    world.feed(refuses("other") + err("Permissions Violation"))
    world.feed(err('Permissions Violation for Subscription to "jobs"'))
    assert world.wire() == b""
    assert refused_in(sub) == []


def test_who_publishes_to_several_subjects_is_asked_and_tells_its_last_number() -> None:
    world = World().ready()
    numbers = {"a": 7, "c": 9}
    subs = [
        world.session.subscribe("s", marks=True, asks=numbers.get),
        world.session.subscribe("t", marks=True, asks="b"),
    ]
    world.feed(refuses("a") + refuses("b") + refuses("c"))
    numbers.update(a=20, b=20)
    world.feed(PONG * 3)
    assert [refused_in(sub) for sub in subs] == [[("a", 1, 7), ("c", 1, 9)], [("b", 1, 0)]]


def test_the_number_is_that_behind_the_ping() -> None:
    """With threads: what is counted as one before it, and was not, is told by the next PONG, as the others are."""
    world = World().ready()
    waits: list[int] = []

    def asks(subject: str) -> int:
        waits.append(world.session.pending_bytes)
        return len(waits)

    sub = world.session.subscribe("s", marks=True, asks=asks)
    world.pump()
    world.feed(refuses("a"))
    world.feed(PONG)
    assert waits == [0, len(b"PING\r\n")]
    assert refused_in(sub) == [("a", 1, 2)]


def test_a_subscription_that_has_ended_is_not_asked() -> None:
    world = World().ready()
    subs = [world.session.subscribe("s", marks=True, asks=asks) for asks in ("a", "a", {"a": 1}.get)]
    world.session.unsubscribe(subs[0])
    world.feed(refuses("a"))
    world.feed(PONG)
    assert [refused_in(sub) for sub in subs] == [[], [("a", 1, 0)], [("a", 1, 1)]]
    world.feed(refuses("a"))
    for sub in subs:
        world.session.unsubscribe(sub)
    world.feed(PONG + refuses("a"))
    world.feed(PONG)
    assert [refused_in(sub) for sub in subs] == [[], [], []]


def test_a_connection_that_ends_tells_no_more() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", marks=True, asks="a")
    world.feed(refuses("a") * 3)
    replace(world)
    world.feed(refuses("a"))
    world.feed(PONG)
    assert refused_in(sub) == [REPLACED, ("a", 1, 0)]


def test_requests_and_readers_are_told_of_one_refusal() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", marks=True, asks="jobs")
    token = world.session.request("jobs", b"")
    world.feed(refuses("jobs"))
    world.feed(PONG)
    [failed] = world.events_of(RequestFailed)
    [refused] = read(sub)
    assert isinstance(refused, PublishRefused)
    assert (failed.token, failed.error) == (token, refused.error)


def test_the_subject_is_named_as_it_was_published() -> None:
    world = World(user="me", password="jobs2024").ready()
    sub = world.session.subscribe("s", marks=True, asks="jobs2024.new")
    world.feed(refuses("jobs2024.new"))
    world.feed(PONG)
    [refused] = read(sub)
    assert isinstance(refused, PublishRefused)
    assert (refused.subject, refused.error.subject) == ("jobs2024.new", "jobs2024.new")
    assert "jobs2024" not in str(refused.error)


def test_a_server_cannot_fill_a_queue_with_refusals() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", marks=True, asks=lambda subject: 0)
    for _ in range(2 * MAX_REFUSALS // 1000):
        world.feed(b"".join(refuses(f"a.{number}") for number in range(1000)))
        world.feed(PONG * 1000)
    assert len(sub.messages) == MAX_REFUSALS
    assert [sub.pop() for _ in range(10)]
    sub.take_mark()
    for subject in ("a", "b"):
        world.feed(refuses(subject))
        world.feed(PONG)
    assert len(sub.messages) == MAX_REFUSALS - 9


# --- the end of a request --------------------------------------------------------------------------------------------


def test_an_answer_comes_in_its_place_among_the_messages_and_is_no_event() -> None:
    world = World().ready()
    sub = marked(world)
    token = world.session.request("service", b"q", into=sub)
    world.pump()
    reply = reply_of(world)
    world.feed(msg("s", sub.sid, b"before") + msg(reply, 2, b"answer") + msg("s", sub.sid, b"after"))
    before, answer, after = read(sub)
    assert (before, after) == (b"before", b"after")
    assert isinstance(answer, ReplyReceived)
    assert (answer.token, answer.message.data) == (token, b"answer")
    assert world.events_of(ReplyReceived) == []
    assert world.session.pending_requests == 0
    world.feed(msg(reply, 2, b"again"))
    assert read(sub) == []
    assert world.session.stats.dropped_replies == 1


def test_an_answer_alone_wakes_who_waits() -> None:
    world = World().ready()
    sub = marked(world)
    world.session.request("service", into=sub)
    world.pump()
    world.feed(msg(reply_of(world), 2, b"answer"))
    assert world.events_of(MessagesAvailable) == [MessagesAvailable((sub.sid,))]


def test_a_request_that_fails_is_told_in_the_queue() -> None:
    world = World().ready()
    sub = marked(world)
    tokens = [world.session.request(f"service.{n}", into=sub) for n in range(3)]
    world.pump()
    nobody = reply_of(world)
    world.feed(err('Permissions Violation for Publish to "service.0"'))
    world.feed(PONG)
    world.feed(msg(nobody, 2, b"", header_block=encode_status_block(503)))
    world.session.reconnect(now=world.now)
    world.pump()
    failures = read(sub)
    assert [type(failure) for failure in failures] == [RequestFailed] * 3
    errors = {failure.token: type(failure.error) for failure in failures if isinstance(failure, RequestFailed)}
    assert errors == dict(zip(tokens, (PermissionsError, ConnectionLostError, NoRespondersError), strict=True))
    kinds = [type(event) for event in world.events()]
    assert RequestFailed not in kinds
    assert kinds.count(MessagesAvailable) >= 3


def test_a_request_that_is_given_up_is_told_to_nobody() -> None:
    world = World().ready()
    sub = marked(world)
    token = world.session.request("service", into=sub)
    world.pump()
    world.session.cancel_request(token)
    world.feed(msg(reply_of(world), 2, b"late"))
    assert read(sub) == []
    assert world.events_of(ReplyReceived) == []
    assert world.session.stats.dropped_replies == 1


def test_an_answer_for_a_subscription_that_has_ended_is_dropped() -> None:
    world = World().ready()
    sub = marked(world)
    world.session.request("service", into=sub)
    world.pump()
    reply = reply_of(world)
    world.session.unsubscribe(sub)
    assert world.session.pending_requests == 0
    world.feed(msg(reply, 2, b"late"))
    assert read(sub) == []
    assert world.events_of(ReplyReceived) == []


def test_a_request_of_a_subscription_that_has_ended_is_not_kept_for_the_next_connection() -> None:
    world = World().ready()
    sub, other = marked(world), marked(world)
    world.cut()
    world.session.request("service", into=sub)
    kept = world.session.request("service", b"kept", into=other)
    world.session.unsubscribe(sub)
    assert world.session.pending_requests == 1
    world.wait(10.0)
    world.up()
    asked = [frame for frame in frames_of(world.wire()) if isinstance(frame, PublishFrame)]
    assert [frame.data for frame in asked] == [b"kept"]
    world.feed(msg(str(asked[0].reply), 3, b"answer"))
    answers = [mark for mark in read(other) if isinstance(mark, ReplyReceived)]
    assert [answer.token for answer in answers] == [kept]


def test_the_end_of_the_session_ends_requests_and_then_the_subscription() -> None:
    world = World().ready()
    sub = marked(world)
    world.session.request("service", into=sub)
    world.session.close(now=world.now)
    world.pump()
    (failed,) = read(sub)
    assert isinstance(failed, RequestFailed)
    assert isinstance(failed.error, ConnectionClosedError)
    assert isinstance(sub.ending(iterating=False), ConnectionClosedError)
    assert world.events_of(RequestFailed) == []
