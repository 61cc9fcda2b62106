"""Many messages by direct get: pages, the moment, what ends it, and what no server should send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from nats_proto import Message, Publish, PublishRefused, Subscribe
from nats_proto._consuming.batch_get import BatchGet, get_last_msgs, get_msgs
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.errors import ApiError, FeatureDroppedError, JetStreamDecodeError, JetStreamError
from nats_proto.errors import InvalidSubjectError, NATSError, NATSTimeoutError, PermissionsError
from tests.proto.consuming import NOW, Inboxes

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ALL: dict[str, Any] = {
    "sequence": None, "start_time": None, "subject": None, "batch": 3, "max_bytes": None, "limit": None, "timeout": 5.0,
}  # fmt: skip
LAST: dict[str, Any] = {
    "up_to_seq": None,
    "up_to_time": None,
    "batch": 3,
    "max_bytes": None,
    "limit": None,
    "timeout": 5.0,
}


def api(version: str = "2.15.1") -> JetStreamApi:
    return JetStreamApi(now=lambda: NOW, new_inbox=Inboxes(), server_version=lambda: version)


def get(version: str = "2.15.1", **given: Any) -> BatchGet:
    made: BatchGet = get_msgs(api(version), "S", **{**ALL, **given})(NOW)
    return made


def get_last(**given: Any) -> BatchGet:
    made: BatchGet = get_last_msgs(api(), "S", ["a.*"], **{**LAST, **given})(NOW)
    return made


def asked(machine: BatchGet) -> dict[str, Any]:
    """The question that it wants to be sent, in an inbox of its own."""
    subscribe, publish = machine.wants
    assert isinstance(subscribe, Subscribe)
    assert isinstance(publish, Publish)
    assert publish.reply == subscribe.subject
    assert publish.subject == subscribe.asks
    assert publish.subject == "$JS.API.DIRECT.GET.S"
    machine.wants.clear()
    body: dict[str, Any] = msgspec.json.decode(bytes(publish.data))
    return body


def stored(sequence: int, pending: object = 0, **more: str) -> Message:
    lines = ["NATS/1.0", "Nats-Stream: S", "Nats-Subject: a.b", f"Nats-Sequence: {sequence}"]
    lines += [] if pending is None else [f"Nats-Num-Pending: {pending}"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in more.items()]
    return Message("in", 1, None, b"x", "\r\n".join([*lines, "", ""]).encode())


def said(words: str, **headers: object) -> Message:
    lines = [f"NATS/1.0 {words}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return Message("in", 1, None, b"", "\r\n".join([*lines, "", ""]).encode())


def end(left: object, **headers: object) -> Message:
    return said("204 EOB", Nats_Num_Pending=left, **headers)


def taken(machine: BatchGet) -> list[int]:
    found = [message.sequence for message in machine.items]
    machine.items.clear()
    return found


def test_pages_one_after_the_other() -> None:
    machine = get()
    assert asked(machine) == {"seq": 1, "next_by_subj": ">", "batch": 3}
    for sequence in (1, 2, 7):
        machine.receive(stored(sequence, 9), now=NOW)
    machine.receive(end(2), now=NOW)
    machine.handle_timeout(now=NOW)
    assert not machine.wants  # the reader has not had them yet
    assert taken(machine) == [1, 2, 7]
    assert machine.next_timeout() == NOW
    machine.handle_timeout(now=NOW)
    assert asked(machine) == {"seq": 8, "next_by_subj": ">", "batch": 3}
    machine.receive(stored(8), now=NOW)
    machine.receive(end(0), now=NOW)
    assert taken(machine) == [8]
    assert (machine.done, machine.error) == (True, None)


@pytest.mark.parametrize(
    ("machine", "with_messages", "at_end"), [(get_last(), [4, 3, 2, 1], [1, 0]), (get(), [5, 4, 3, 2], [2, 1])]
)
def test_servers_2_11_count_wrong_in_one_place_of_two(
    machine: BatchGet, with_messages: list[int], at_end: list[int]
) -> None:
    """Of four messages and one more."""
    asked(machine)
    for sequence in (1, 2, 3):
        machine.receive(stored(sequence, with_messages[sequence - 1]), now=NOW)
    machine.receive(end(at_end[0], Nats_UpTo_Sequence=40), now=NOW)
    taken(machine)
    machine.handle_timeout(now=NOW)
    asked(machine)
    machine.receive(stored(4, with_messages[3]), now=NOW)
    machine.receive(end(at_end[1], Nats_UpTo_Sequence=40), now=NOW)
    assert not machine.done
    taken(machine)
    machine.handle_timeout(now=NOW)
    assert asked(machine)["seq"] == 5


def test_a_limit_over_all_pages() -> None:
    machine = get(limit=4)
    assert asked(machine)["batch"] == 3
    for sequence in (1, 2, 3):
        machine.receive(stored(sequence, 9), now=NOW)
    machine.receive(end(7), now=NOW)
    taken(machine)
    machine.handle_timeout(now=NOW)
    assert asked(machine)["batch"] == 1
    machine.receive(stored(4, 9), now=NOW)
    assert machine.done


def test_one_moment_over_all_pages() -> None:
    machine = get_last(batch=2)
    assert asked(machine) == {"multi_last": ["a.*"], "batch": 2}
    machine.receive(stored(3, 2), now=NOW)
    machine.receive(stored(5, 1), now=NOW)
    machine.receive(end(1, Nats_UpTo_Sequence=40), now=NOW)
    taken(machine)
    machine.handle_timeout(now=NOW)
    assert asked(machine) == {"multi_last": ["a.*"], "batch": 2, "up_to_seq": 40, "seq": 6}


def test_a_new_connection_asks_for_the_rest() -> None:
    machine = get()
    asked(machine)
    machine.receive(stored(4, 9), now=NOW)
    machine.connection_replaced(now=NOW + 1)
    assert asked(machine)["seq"] == 5
    assert taken(machine) == [4]


def test_the_time_counts_from_one_answer_to_the_next() -> None:
    machine = get()
    assert machine.next_timeout() == NOW + 5.0
    machine.receive(stored(1, 9), now=NOW + 4.0)
    assert machine.next_timeout() == NOW + 9.0
    machine.handle_timeout(now=NOW + 9.0)
    assert isinstance(machine.error, NATSTimeoutError)


@pytest.mark.parametrize(
    ("message", "error", "text"),
    [
        (said("404 Message Not Found"), None, ""),
        (end(0), None, ""),
        (end(5), None, ""),  # nothing came, and something is left: it is not asked again for ever
        (said("503"), JetStreamError, "allow_direct"),
        (said("413 Too Many Results"), ApiError, "413"),
        (said("408 Bad Request"), ApiError, "408"),
        (said("412 Required Api Level"), ApiError, "412"),
        (stored(1, None), FeatureDroppedError, r"2\.11"),
        (stored(1, "x"), JetStreamDecodeError, "Nats-Num-Pending"),
        (Message("in", 1, None, b"x", None), JetStreamDecodeError, "where the message is stored"),
        (said("204 EOB"), JetStreamDecodeError, "how much is left"),
        (end("9" * 50), JetStreamDecodeError, "how much is left"),
        (said("500 " + "x" * 4000), ApiError, "500"),
        (said("500 \x07"), JetStreamDecodeError, "where the message is stored"),
    ],
)
def test_what_ends_it(message: Message, error: type[NATSError] | None, text: str) -> None:
    machine = get()
    machine.receive(message, now=NOW)
    assert machine.done
    if error is None:
        assert machine.error is None
    else:
        assert type(machine.error) is error
        with pytest.raises(error, match=text):
            raise machine.error
    assert len(str(machine.error)) < 400


def test_a_server_that_is_too_old_says_so() -> None:
    machine = get("2.10.26")
    machine.receive(said("408 Bad Request"), now=NOW)
    assert isinstance(machine.error, FeatureDroppedError)
    assert machine.error.version == "2.10.26"


def test_sequences_that_do_not_grow_are_refused() -> None:
    machine = get()
    machine.receive(stored(5, 3), now=NOW)
    machine.receive(stored(5, 3), now=NOW)
    assert isinstance(machine.error, JetStreamDecodeError)


def test_the_end_of_a_page_must_tell_its_moment() -> None:
    machine = get_last()
    machine.receive(stored(5, 3), now=NOW)
    machine.receive(end(3), now=NOW)
    assert isinstance(machine.error, JetStreamDecodeError)


def test_after_its_end_nothing_counts() -> None:
    machine = get()
    machine.receive(end(0), now=NOW)
    machine.wants.clear()
    machine.receive(stored(9), now=NOW)
    machine.connection_replaced(now=NOW)
    machine.handle_timeout(now=NOW + 60.0)
    assert machine.next_timeout() is None
    assert (list(machine.items), list(machine.wants), machine.error) == ([], [], None)


def test_too_early_is_not_too_late() -> None:
    machine = get()
    machine.handle_timeout(now=NOW + 4.9)
    assert not machine.done


def test_the_last_page_needs_no_moment() -> None:
    machine = get_last()
    machine.receive(stored(5), now=NOW)
    machine.receive(end(0), now=NOW)
    assert (machine.done, machine.error) == (True, None)


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({"start_time": TIME}, {"start_time": "2026-01-02T03:04:05Z", "next_by_subj": ">"}),
        ({"sequence": 7, "subject": "a.*"}, {"seq": 7, "next_by_subj": "a.*"}),
        ({"max_bytes": 100}, {"seq": 1, "next_by_subj": ">", "max_bytes": 100}),
    ],
)
def test_what_is_asked_for(given: dict[str, Any], body: dict[str, Any]) -> None:
    assert asked(get(**given)) == {**body, "batch": 3}


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({"up_to_seq": 7}, {"up_to_seq": 7}),
        ({"up_to_time": TIME}, {"up_to_time": "2026-01-02T03:04:05Z"}),
        ({"max_bytes": 100}, {"max_bytes": 100}),
    ],
)
def test_what_last_messages_are_asked_for(given: dict[str, Any], body: dict[str, Any]) -> None:
    assert asked(get_last(**given)) == {"multi_last": ["a.*"], **body, "batch": 3}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"sequence": 1, "start_time": TIME}, ValueError),
        ({"sequence": 0}, ValueError),
        ({"sequence": "1"}, TypeError),
        ({"start_time": TIME.replace(tzinfo=None)}, ValueError),
        ({"subject": "a b"}, InvalidSubjectError),
        ({"batch": 0}, ValueError),
        ({"max_bytes": 0}, ValueError),
        ({"limit": 0}, ValueError),
    ],
)
def test_what_cannot_be_asked_for(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        get(**given)


@pytest.mark.parametrize(
    ("subjects", "given", "error"),
    [
        ([], {}, ValueError),
        (["a"] * 1025, {}, ValueError),
        ("a b", {}, InvalidSubjectError),
        ("a", {"up_to_seq": 1, "up_to_time": TIME}, ValueError),
        ("a", {"up_to_seq": 0}, ValueError),
    ],
)
def test_what_last_messages_cannot_be_asked_for(subjects: Any, given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        get_last_msgs(api(), "S", subjects, **{**LAST, **given})


REFUSED = PermissionsError("no", subject="$JS.API.DIRECT.GET.S")


def test_who_is_not_permitted_to_ask_is_told_at_once() -> None:
    machine = get()
    machine.publish_refused(PublishRefused("$JS.API.DIRECT.GET.S", REFUSED, 1), now=NOW)
    assert machine.done
    assert isinstance(machine.error, PermissionsError)
    assert (str(machine.error), machine.error.subject) == (f"{machine.what}: no", "$JS.API.DIRECT.GET.S")


def test_a_page_that_is_coming_was_permitted_and_the_next_may_not_be() -> None:
    machine = get()
    asked(machine)
    machine.receive(stored(1, 5), now=NOW)
    machine.publish_refused(PublishRefused("$JS.API.DIRECT.GET.S", REFUSED, 1), now=NOW)
    assert not machine.done
    machine.receive(end(5), now=NOW)
    machine.publish_refused(PublishRefused("$JS.API.DIRECT.GET.S", REFUSED, 1), now=NOW)
    assert not machine.done
    assert taken(machine) == [1]
    machine.handle_timeout(now=NOW)
    machine.publish_refused(PublishRefused("$JS.API.DIRECT.GET.S", REFUSED, 1), now=NOW)
    assert isinstance(machine.error, PermissionsError)
