"""One request, several answers: when the collection ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nats_proto import Message, Publish, PublishRefused, RequestMany, Subscribe
from nats_proto._wire.headers import encode_status_block
from nats_proto.errors import NATSTimeoutError, NoRespondersError, PermissionsError

NOW = 50.0


def answer(data: bytes = b"x", *, block: bytes | None = None) -> Message:
    return Message("inbox", 1, None, data, block)


def status(code: int, data: bytes = b"") -> Message:
    return answer(data, block=encode_status_block(code))


def many(
    *,
    max_wait: float = 10.0,
    max_msgs: int | None = None,
    stall: float | None = None,
    sentinel: Callable[[Message], bool] | None = None,
) -> RequestMany[Message]:
    return RequestMany(
        "ping", inbox="inbox", now=NOW, max_wait=max_wait, max_msgs=max_msgs, stall=stall, sentinel=sentinel
    )


def given(collection: RequestMany[Message], message: Message, *, now: float = NOW) -> bool:
    """Whether a message that it receives is for the user."""
    before = len(collection.items)
    collection.receive(message, now=now)
    assert list(collection.items)[before:] in ([], [message])
    return len(collection.items) > before


def test_the_wait_is_the_only_end_unless_another_is_given() -> None:
    collection = many()
    for second in range(9):
        assert given(collection, answer(), now=NOW + second)
        assert collection.next_timeout() == NOW + 10.0
        assert not collection.done


def test_a_maximum_ends_with_its_last_answer() -> None:
    collection = many(max_msgs=3)
    seen = []
    for _ in range(3):
        assert not collection.done
        seen.append(given(collection, answer()))
    assert seen == [True, True, True]
    assert collection.done


def test_stall_counts_between_answers_and_not_before_the_first() -> None:
    collection = many(stall=1.0)
    assert collection.next_timeout() == NOW + 10.0
    assert given(collection, answer(), now=NOW + 5.0)
    assert collection.next_timeout() == NOW + 6.0
    assert given(collection, answer(), now=NOW + 5.5)
    assert collection.next_timeout() == NOW + 6.5


def test_stall_never_outlasts_the_wait() -> None:
    collection = many(stall=3.0)
    given(collection, answer(), now=NOW + 9.0)
    assert collection.next_timeout() == NOW + 10.0


def test_a_request_that_is_not_permitted_ends_it() -> None:
    collection = many()
    collection.publish_refused(PublishRefused("ping", PermissionsError("no", subject="ping"), 1), now=NOW)
    assert collection.done
    assert isinstance(collection.error, PermissionsError)
    assert str(collection.error) == "request_many to 'ping': no"


@pytest.mark.parametrize(("sent", "outcome"), [(True, "unknown"), (False, "failed")])
def test_a_request_that_went_over_the_connection_before_may_have_been_taken(sent: bool, outcome: str) -> None:
    collection = many()
    if sent:
        collection.wants.clear()
    collection.connection_replaced(now=NOW)
    collection.publish_refused(PublishRefused("ping", PermissionsError("no", subject="ping"), 1), now=NOW)
    assert isinstance(collection.error, PermissionsError)
    assert collection.error.outcome == outcome
    assert hasattr(collection.error, "__notes__") is sent


def test_a_request_that_was_answered_was_permitted() -> None:
    collection = many(max_msgs=2)
    assert given(collection, answer())
    collection.publish_refused(PublishRefused("ping", PermissionsError("no", subject="ping"), 1), now=NOW)
    assert (collection.done, collection.error) == (False, None)
    assert given(collection, answer())
    collection.publish_refused(PublishRefused("ping", PermissionsError("no", subject="ping"), 1), now=NOW)
    assert (collection.done, collection.error) == (True, None)


def test_the_sentinel_is_not_for_the_user_and_ends_it() -> None:
    collection = many(sentinel=lambda message: not message.data)
    assert given(collection, answer(b"1"))
    assert not given(collection, answer(b""))
    assert collection.done


def test_a_sentinel_that_raises_is_heard() -> None:
    def sentinel(message: Message) -> bool:
        raise KeyError(message.data)

    with pytest.raises(KeyError):
        many(sentinel=sentinel).receive(answer(), now=NOW)


def test_nobody_listens() -> None:
    collection = many(sentinel=lambda message: True)
    assert not given(collection, status(503))
    assert collection.done
    assert isinstance(collection.error, NoRespondersError)
    assert "'ping'" in str(collection.error)
    assert collection.error.subject == "ping"


@pytest.mark.parametrize(("code", "answers"), [(503, 1), (404, 0), (408, 2), (100, 0)])
def test_another_status_message_ends_it(code: int, answers: int) -> None:
    collection = many()
    for _ in range(answers):
        assert given(collection, answer())
    assert not given(collection, status(code))
    assert collection.done


def test_a_status_with_a_payload_is_an_answer() -> None:
    collection = many()
    assert given(collection, status(503, b"forged"))
    assert given(collection, answer(b"", block=b"NATS/1.0\r\nA: 1\r\n\r\n"))
    assert not collection.done


def test_after_the_end_nothing_is_for_the_user() -> None:
    collection = many(max_msgs=1)
    assert given(collection, answer())
    assert not given(collection, answer())
    assert not given(collection, status(503))


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_wait": 0.0},
        {"max_wait": -1.0},
        {"max_wait": float("nan")},
        {"stall": 0.0},
        {"stall": -1.0},
        {"stall": float("nan")},
        {"max_msgs": 0},
        {"max_msgs": -1},
    ],
)
def test_waits_and_maxima_that_are_none(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        many(**arguments)  # type: ignore[arg-type]


def test_it_subscribes_before_it_asks() -> None:
    collection: RequestMany[Message] = RequestMany(
        "ping", b"data", inbox="inbox", headers={"A": "1"}, now=NOW, max_wait=1.0
    )
    subscribe, asked = collection.wants
    assert isinstance(subscribe, Subscribe)
    assert (subscribe.subject, subscribe.asks) == ("inbox", "ping")
    assert isinstance(asked, Publish)
    assert (asked.subject, asked.data, asked.reply, asked.headers) == ("ping", b"data", "inbox", {"A": "1"})
    assert collection.what == "request_many to 'ping'"


def test_the_end_by_time_is_no_error() -> None:
    collection = many(max_wait=2.0)
    collection.handle_timeout(now=NOW + 1.9)
    assert (collection.done, collection.next_timeout()) == (False, NOW + 2.0)
    collection.handle_timeout(now=NOW + 2.0)
    assert (collection.done, collection.error, collection.next_timeout()) == (True, None, None)


@pytest.mark.parametrize(("ends", "until"), [("by time", 10.0), ("by the last", 5.0), ("by stall", 6.0)])
def test_the_request_is_awaited_until_the_end(ends: str, until: float) -> None:
    collection = many(max_msgs=1 if ends == "by the last" else None, stall=1.0)
    subscribe = collection.wants[0]
    assert isinstance(subscribe, Subscribe)
    assert subscribe.awaits is not None
    assert subscribe.awaits("inbox", NOW)
    if ends != "by time":
        given(collection, answer(), now=NOW + 5.0)
    assert subscribe.awaits("inbox", NOW + until + 0.9) is (ends != "by the last")
    assert not subscribe.awaits("inbox", NOW + until + 1.0)


@pytest.mark.parametrize("late", [0.5, 2.0])
def test_a_request_that_nobody_came_to_send_for_long_is_not_sent(late: float) -> None:
    collection = many(max_wait=2.0)
    collection.handle_timeout(now=NOW + 2.0 + late)
    assert collection.done
    if late < 1.0:
        assert collection.error is None  # there was no room for it, maybe: whoever drives it says so
        return
    assert isinstance(collection.error, NATSTimeoutError)
    assert "not sent, since nobody came to do it until 2 s after its time" in str(collection.error)
    assert collection.error.outcome == "failed"


def test_a_new_connection_changes_nothing() -> None:
    collection = many()
    collection.wants.clear()
    collection.connection_replaced(now=NOW)
    assert not collection.wants
    assert given(collection, answer())
