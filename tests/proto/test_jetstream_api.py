"""How the API of JetStream is asked: prefixes, time, what is not there yet, what an old server says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nats_proto import Message, Operation, Pause, Request
from nats_proto._jetstream import consumer_calls, stream_calls
from nats_proto._jetstream.api import GRACE, JetStreamApi
from nats_proto._jetstream.consumer_config import ConsumerConfig
from nats_proto._jetstream.errors import (
    ApiError,
    ApiLevelError,
    ConsumerExistsError,
    ConsumerNotFoundError,
    FeatureDroppedError,
    InvalidNameError,
    JetStreamDecodeError,
    JetStreamDomainNotFoundError,
    JetStreamNotEnabledError,
    MessageNotFoundError,
    StreamNameInUseError,
    StreamNotFoundError,
)
from nats_proto._jetstream.stream_config import StreamConfig
from nats_proto._json.durations import parse_time
from nats_proto._publishing.find_stored import stored_by
from nats_proto._wire.headers import encode_status_block
from nats_proto.errors import NATSTimeoutError, NoRespondersError, PermissionsError

STREAM = {"config": {"name": "S", "subjects": ["s"]}, "state": {"messages": 3}}
CONSUMER = {"stream_name": "S", "name": "c", "config": {"name": "c", "durable_name": "c", "ack_wait": 30_000_000_000}}


def failure(code: int, err_code: int, description: str) -> dict[str, Any]:
    return {"error": {"code": code, "err_code": err_code, "description": description}}


NO_STREAM = failure(404, 10059, "stream not found")
NO_CONSUMER = failure(404, 10014, "consumer not found")


class Servers:
    """Answers an operation's requests in turn: with JSON, with an error that is thrown in, or with a message."""

    def __init__(self, *answers: Any, version: str = "2.15.1", **options: Any) -> None:
        self.time = 100.0
        self.oversleeps = 0.0
        self.answers = list(answers)
        self.asked: list[tuple[str, Any]] = []
        self.headers: list[Any] = []
        self.timeouts: list[float | None] = []
        self.api = JetStreamApi(
            now=lambda: self.time, new_inbox=lambda: "_INBOX.unique", server_version=lambda: version, **options
        )

    def run(self, operation: Operation[Any]) -> Any:
        answer: Message | None = None
        error: Exception | None = None
        while True:
            try:
                effect = operation.send(answer) if error is None else operation.throw(error)
            except StopIteration as end:
                return end.value
            answer = error = None
            if isinstance(effect, Pause):
                self.time += effect.seconds + self.oversleeps
                continue
            assert isinstance(effect, Request)
            self.asked.append((effect.subject, json.loads(effect.data) if effect.data else None))
            self.headers.append(effect.headers)
            self.timeouts.append(effect.timeout)
            given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if given is NoRespondersError:
                error = NoRespondersError("nobody", effect.subject)
            elif isinstance(given, Exception):
                error = given
            elif isinstance(given, Message):
                answer = given
            else:
                answer = Message("_INBOX.x", 1, None, json.dumps(given).encode())


@pytest.mark.parametrize(
    ("options", "prefix"),
    [
        ({}, "$JS.API."),
        ({"domain": "hub"}, "$JS.hub.API."),
        ({"api_prefix": "from.hub"}, "from.hub."),
        ({"api_prefix": "from.hub."}, "from.hub."),
    ],
)
def test_where_the_api_is(options: dict[str, str], prefix: str) -> None:
    servers = Servers(STREAM, **options)
    servers.run(stream_calls.stream_info(servers.api, "S", timeout=None))
    assert servers.asked == [(f"{prefix}STREAM.INFO.S", None)]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"domain": "a", "api_prefix": "b"}, ValueError),
        ({"domain": "a.b"}, InvalidNameError),
        ({"domain": ""}, InvalidNameError),
        ({"api_prefix": "a..b"}, InvalidNameError),
        ({"api_prefix": "a.>"}, InvalidNameError),
        ({"api_prefix": 5}, TypeError),
        ({"timeout": "5"}, TypeError),
    ],
)
def test_where_no_api_is(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Servers(STREAM, **options)


CALLS: dict[str, Callable[[JetStreamApi], Operation[Any]]] = {
    "stream info": lambda api: stream_calls.stream_info(api, "S", timeout=None),
    "purge": lambda api: stream_calls.purge_stream(api, "S", timeout=None),
    "get": lambda api: stream_calls.get_msg(api, "S", 1, direct=False, timeout=None),
    "consumer info": lambda api: consumer_calls.consumer_info(api, "S", "c", timeout=None),
    "delete consumer": lambda api: consumer_calls.delete_consumer(api, "S", "c", timeout=None),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "options", "error"),
    [
        (NoRespondersError, {}, JetStreamNotEnabledError),
        (NoRespondersError, {"domain": "hub"}, JetStreamDomainNotFoundError),
        (NO_STREAM, {}, StreamNotFoundError),
        (NO_CONSUMER, {}, ConsumerNotFoundError),
        (NATSTimeoutError("late"), {}, NATSTimeoutError),
        ([], {}, JetStreamDecodeError),
        (failure(500, 12345, "new"), {}, ApiError),
    ],
)
def test_what_a_call_raises(call: str, answer: Any, options: dict[str, str], error: type[Exception]) -> None:
    servers = Servers(answer, **options)
    with pytest.raises(error) as raised:
        servers.run(CALLS[call](servers.api))
    assert type(raised.value) is error
    assert len(servers.asked) == 1  # nothing of it is asked again


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", [NO_STREAM, NoRespondersError])
def test_what_we_have_made_may_not_be_known_yet(call: str, answer: Any) -> None:
    servers = Servers(STREAM, answer, answer, NO_CONSUMER)
    servers.run(stream_calls.create_stream(servers.api, StreamConfig(name="S", subjects=["s"]), timeout=None))
    servers.asked.clear()
    began = servers.time
    with pytest.raises(ConsumerNotFoundError):
        servers.run(CALLS[call](servers.api))
    assert len(servers.asked) == 3  # a server that knows the stream, but no such consumer, is believed
    assert servers.time - began <= servers.api.timeout


@pytest.mark.parametrize(("oversleeps", "asked"), [(0.0, 3), (0.115, 1), (0.09, 2), (5.0, 1)])
def test_nothing_is_asked_again_for_which_there_is_no_time(oversleeps: float, asked: int) -> None:
    """What was said is raised, and not that the last question, which had a moment, was not answered."""
    servers = Servers(STREAM, NO_STREAM)
    servers.run(stream_calls.create_stream(servers.api, StreamConfig(name="S", subjects=["s"]), timeout=None))
    servers.asked.clear()
    servers.timeouts.clear()
    servers.oversleeps = oversleeps
    with pytest.raises(StreamNotFoundError):
        servers.run(stream_calls.purge_stream(servers.api, "S", timeout=0.15))
    assert len(servers.asked) == asked
    assert all(timeout is not None and timeout >= 0.01 for timeout in servers.timeouts)


def test_after_a_while_not_found_is_the_truth() -> None:
    servers = Servers(STREAM, NO_STREAM)
    servers.run(stream_calls.create_stream(servers.api, StreamConfig(name="S", subjects=["s"]), timeout=None))
    servers.time += GRACE
    servers.asked.clear()
    with pytest.raises(StreamNotFoundError):
        servers.run(CALLS["purge"](servers.api))
    assert len(servers.asked) == 1


def test_after_a_deletion_of_our_own_not_found_is_the_truth() -> None:
    servers = Servers(STREAM, {"success": True}, NO_STREAM)
    servers.run(stream_calls.create_stream(servers.api, StreamConfig(name="S", subjects=["s"]), timeout=None))
    servers.run(stream_calls.delete_stream(servers.api, "S", timeout=None))
    servers.asked.clear()
    with pytest.raises(StreamNotFoundError):
        servers.run(CALLS["purge"](servers.api))
    assert len(servers.asked) == 1


def test_a_consumer_that_we_have_made_may_not_be_known_yet() -> None:
    servers = Servers(CONSUMER, NO_CONSUMER)
    servers.run(consumer_calls.put_consumer(servers.api, "S", ConsumerConfig(name="c"), "create", timeout=None))
    servers.asked.clear()
    with pytest.raises(ConsumerNotFoundError):
        servers.run(CALLS["consumer info"](servers.api))
    assert len(servers.asked) > 3


def test_a_consumer_that_we_have_deleted_is_gone_in_a_new_stream_too() -> None:
    servers = Servers(STREAM, CONSUMER, {"success": True}, NO_CONSUMER)
    servers.run(stream_calls.create_stream(servers.api, StreamConfig(name="S", subjects=["s"]), timeout=None))
    servers.run(consumer_calls.put_consumer(servers.api, "S", ConsumerConfig(name="c"), "create", timeout=None))
    servers.run(CALLS["delete consumer"](servers.api))
    servers.asked.clear()
    with pytest.raises(ConsumerNotFoundError):
        servers.run(CALLS["consumer info"](servers.api))
    assert len(servers.asked) == 1


def test_a_consumer_goes_with_its_stream() -> None:
    servers = Servers(CONSUMER, {"success": True}, NO_STREAM)
    servers.run(consumer_calls.put_consumer(servers.api, "S", ConsumerConfig(name="c"), "create", timeout=None))
    servers.run(stream_calls.delete_stream(servers.api, "S", timeout=None))
    servers.asked.clear()
    with pytest.raises(StreamNotFoundError):
        servers.run(CALLS["consumer info"](servers.api))
    assert len(servers.asked) == 1


def test_what_differs_is_told() -> None:
    servers = Servers(failure(400, 10148, "consumer already exists"), CONSUMER)
    config = ConsumerConfig(durable_name="c", ack_wait=10.0)
    with pytest.raises(ConsumerExistsError, match=r"ack_wait: 10\.0 asked for, 30\.0 there") as raised:
        servers.run(consumer_calls.put_consumer(servers.api, "S", config, "create", timeout=None))
    assert raised.value.differences == ("ack_wait: 10.0 asked for, 30.0 there",)
    servers = Servers(failure(400, 10058, "name in use"), STREAM)
    with pytest.raises(StreamNameInUseError, match="subjects: ") as told:
        servers.run(stream_calls.create_stream(servers.api, StreamConfig(name="S", subjects=["t"]), timeout=None))
    assert len(told.value.differences) == 1


@pytest.mark.parametrize("answer", [NoRespondersError, NATSTimeoutError("late"), NO_CONSUMER, []])
def test_what_differs_may_be_unknown(answer: Any) -> None:
    servers = Servers(failure(400, 10148, "consumer already exists"), answer)
    with pytest.raises(ConsumerExistsError) as raised:
        servers.run(consumer_calls.put_consumer(servers.api, "S", ConsumerConfig(name="c"), "create", timeout=None))
    assert raised.value.differences == ()


@pytest.mark.parametrize(
    ("filters", "subject"),
    [
        ({}, "CONSUMER.CREATE.S.c"),
        ({"filter_subject": "a.b"}, "CONSUMER.CREATE.S.c.a.b"),
        ({"filter_subject": "a.*"}, "CONSUMER.CREATE.S.c"),
        ({"filter_subject": "a.>"}, "CONSUMER.CREATE.S.c"),
        ({"filter_subjects": ["a", "b"]}, "CONSUMER.CREATE.S.c"),
    ],
)
def test_the_subject_of_a_creation(filters: dict[str, Any], subject: str) -> None:
    servers = Servers({**CONSUMER, "config": {**CONSUMER["config"], **filters}})  # type: ignore[dict-item]  # of JSON
    servers.run(
        consumer_calls.put_consumer(servers.api, "S", ConsumerConfig(name="c", **filters), "create", timeout=None)
    )
    [(asked, body)] = servers.asked
    assert asked == f"$JS.API.{subject}"
    assert body["config"] == {"ack_policy": "explicit", "name": "c", **filters}
    assert (body["stream_name"], body["action"]) == ("S", "create")


def test_a_consumer_without_a_name_gets_one() -> None:
    servers = Servers(CONSUMER)
    servers.run(consumer_calls.put_consumer(servers.api, "S", ConsumerConfig(), "create", timeout=None))
    assert servers.asked[0][0] == "$JS.API.CONSUMER.CREATE.S.anon-unique"


@pytest.mark.parametrize(
    ("config", "level"),
    [
        ({}, None),
        ({"allow_msg_ttl": True}, "1"),
        ({"subject_delete_marker_ttl": 5.0}, "1"),
        ({"allow_msg_counter": True}, "2"),
        ({"allow_atomic": True}, "2"),
        ({"allow_msg_schedules": True}, "2"),
        ({"persist_mode": "async"}, "2"),
        ({"persist_mode": "default"}, None),
        ({"allow_batched": True}, "4"),
        ({"allow_msg_ttl": True, "allow_atomic": True}, "2"),
    ],
)
def test_the_level_that_a_stream_needs(config: dict[str, Any], level: str | None) -> None:
    servers = Servers({**STREAM, "config": {"name": "S", **config}})
    wire = {**config, **({"subject_delete_marker_ttl": 5_000_000_000} if "subject_delete_marker_ttl" in config else {})}
    servers.answers = [{**STREAM, "config": {"name": "S", **wire}}]
    servers.run(stream_calls.create_stream(servers.api, StreamConfig(name="S", **config), timeout=None))
    assert servers.headers == [None if level is None else {"Nats-Required-Api-Level": level}]


@pytest.mark.parametrize(
    ("config", "level"),
    [
        ({}, None),
        ({"pause_until": parse_time("2030-01-01T00:00:00Z")}, "1"),
        ({"priority_groups": ["g"], "priority_policy": "overflow"}, "1"),
        ({"priority_policy": "none"}, None),
        ({"ack_policy": "flow_control"}, "4"),
    ],
)
def test_the_level_that_a_consumer_needs(config: dict[str, Any], level: str | None) -> None:
    wire = {**config, **({"pause_until": "2030-01-01T00:00:00Z"} if "pause_until" in config else {})}
    servers = Servers({**CONSUMER, "config": {"name": "c", **wire}})
    servers.run(
        consumer_calls.put_consumer(servers.api, "S", ConsumerConfig(name="c", **config), "create", timeout=None)
    )
    assert servers.headers == [None if level is None else {"Nats-Required-Api-Level": level}]


def test_what_a_server_has_left_out_is_told() -> None:
    servers = Servers({**STREAM, "config": {"name": "S"}}, version="2.10.26")
    with pytest.raises(FeatureDroppedError, match=r"without allow_atomic.*2\.10\.26") as raised:
        servers.run(stream_calls.create_stream(servers.api, StreamConfig(name="S", allow_atomic=True), timeout=None))
    assert (raised.value.version, raised.value.fields) == ("2.10.26", ("allow_atomic",))


@pytest.mark.parametrize(
    "answer",
    [
        failure(412, 10185, "JetStream minimum api level required"),
        failure(400, 10025, 'invalid JSON: json: unknown field "allow_batched"'),
        failure(400, 10025, 'invalid JSON: unknown priority policy: "prioritized"'),
    ],
)
def test_a_server_that_is_too_old_is_named(answer: Any) -> None:
    servers = Servers(answer, version="2.11.11")
    with pytest.raises(ApiLevelError, match=r"its version is 2\.11\.11") as raised:
        servers.run(stream_calls.create_stream(servers.api, StreamConfig(name="S", allow_batched=True), timeout=None))
    assert raised.value.err_code == answer["error"]["err_code"]
    assert raised.value.outcome == "failed"


@pytest.mark.parametrize(
    ("call", "since"),
    [
        (lambda api: consumer_calls.pause_consumer(api, "S", "c", None, timeout=None), (2, 11)),
        (lambda api: consumer_calls.unpin_consumer(api, "S", "c", "g", timeout=None), (2, 11)),
        (lambda api: consumer_calls.reset_consumer(api, "S", "c", 1, timeout=None), (2, 14)),
    ],
)
def test_a_server_that_would_not_answer_is_not_asked(call: Any, since: tuple[int, int]) -> None:
    for version in ("2.10.26", "2.11.11", "2.12.8", "2.14.6", "2.15.1", "3.0.0", "", "dev"):
        numbers = tuple(map(int, version.split(".")[:2])) if "." in version else (9, 9)
        servers = Servers(CONSUMER, version=version)
        if numbers < since:
            with pytest.raises(ApiLevelError, match=version):
                servers.run(call(servers.api))
            assert servers.asked == []
        else:
            servers.run(call(servers.api))
            assert len(servers.asked) == 1
    servers = Servers(CONSUMER, version="2.10.26", domain="hub")
    servers.run(call(servers.api))
    assert len(servers.asked) == 1


def test_all_pages_are_read_and_nothing_comes_twice() -> None:
    servers = Servers(
        {"total": 5, "offset": 0, "limit": 2, "streams": ["a", "b"]},
        {"total": 5, "offset": 2, "limit": 2, "streams": ["b", "c"]},
        {"total": 4, "offset": 4, "limit": 2, "streams": None},
    )
    pages = stream_calls.list_stream_names(servers.api, "s.>")
    names: list[str] = []
    while not pages.done:
        names += servers.run(pages.next_page(None))
    assert names == ["a", "b", "c"]
    bodies = [body for _, body in servers.asked]
    assert bodies == [{"subject": "s.>"}, {"subject": "s.>", "offset": 2}, {"subject": "s.>", "offset": 4}]


def test_a_list_that_never_ends_is_left() -> None:
    servers = Servers({"total": 2**60, "consumers": ["a"]})
    pages = consumer_calls.list_consumer_names(servers.api, "S")
    names: list[str] = []
    while not pages.done:
        names += servers.run(pages.next_page(None))
    assert names == ["a"]
    assert len(servers.asked) == 2


@pytest.mark.parametrize("answer", [{"streams": 5}, {"streams": [{"config": 5}]}, {"streams": [5]}, []])
def test_a_list_that_cannot_be_read(answer: Any) -> None:
    servers = Servers(answer)
    with pytest.raises(JetStreamDecodeError):
        servers.run(stream_calls.list_streams(servers.api).next_page(None))


def test_subjects_of_a_stream_come_in_pages() -> None:
    many = {f"s.{n}": 1 for n in range(stream_calls.SUBJECTS_OF_A_PAGE)}
    servers = Servers(
        {**STREAM, "total": len(many) + 1, "state": {"subjects": many}},
        {**STREAM, "total": len(many) + 1, "state": {"subjects": {"last": 2}}},
        {**STREAM, "total": len(many) + 1, "state": {"subjects": None}},
    )
    info = servers.run(stream_calls.stream_info(servers.api, "S", subjects_filter=">", timeout=None))
    assert len(info.state.subjects) == len(many) + 1
    assert servers.asked[1][1] == {"subjects_filter": ">", "offset": len(many)}


@pytest.mark.parametrize(("code", "error"), [(404, MessageNotFoundError), (408, ApiError), (412, ApiError)])
def test_a_status_in_place_of_a_message(code: int, error: type[Exception]) -> None:
    servers = Servers(Message("_INBOX.x", 1, None, b"", encode_status_block(code, "Why")))
    with pytest.raises(error):
        servers.run(stream_calls.get_last_msg(servers.api, "S", "s", direct=True, timeout=None))


@pytest.mark.parametrize("just_made", [False, True])
def test_without_direct_access_the_leader_is_asked(just_made: bool) -> None:
    stored = {"message": {"subject": "s", "seq": 7, "data": "aGk=", "time": "2026-01-02T03:04:05Z"}}
    servers = Servers(NoRespondersError, stored)
    if just_made:  # the time is not spent on waiting for a direct access that may never be there
        servers.api.created("S")
    message = servers.run(stream_calls.get_msg(servers.api, "S", 7, direct=True, timeout=None))
    assert (message.subject, message.sequence, message.data, message.stream) == ("s", 7, b"hi", "S")
    assert [subject for subject, _ in servers.asked] == ["$JS.API.DIRECT.GET.S", "$JS.API.STREAM.MSG.GET.S"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"up_to_sequence": 5, "keep": 5}, ValueError),
        ({"up_to_sequence": 0}, ValueError),
        ({"up_to_sequence": True}, TypeError),
        ({"keep": -1}, ValueError),
        ({"subject": "a b"}, ValueError),
    ],
)
def test_what_cannot_be_purged(arguments: dict[str, Any], error: type[Exception]) -> None:
    servers = Servers({"purged": 1})
    with pytest.raises(error):
        servers.run(stream_calls.purge_stream(servers.api, "S", **arguments, timeout=None))
    assert servers.asked == []


def test_the_time_is_for_all_that_is_asked() -> None:
    servers = Servers(NO_STREAM, STREAM)
    config = StreamConfig(name="S", subjects=["s"])
    servers.run(stream_calls.create_or_update_stream(servers.api, config, timeout=3.0))
    assert servers.timeouts == [3.0, 3.0]
    assert [subject for subject, _ in servers.asked] == ["$JS.API.STREAM.UPDATE.S", "$JS.API.STREAM.CREATE.S"]


# --- one by one ------------------------------------------------------------------------------------------------------

OK = {"success": True}


@pytest.mark.parametrize(
    ("operation", "answer", "asked", "result"),
    [
        (
            lambda api: stream_calls.account_info(api, timeout=None),
            {"limits": {}, "api": {"level": 5}, "streams": 2},
            ("INFO", None),
            lambda info: (info.api.level, info.streams) == (5, 2),
        ),
        (
            lambda api: stream_calls.delete_msg(api, "S", 7, timeout=None),
            OK,
            ("STREAM.MSG.DELETE.S", {"seq": 7, "no_erase": True}),
            None,
        ),
        (
            lambda api: stream_calls.delete_msg(api, "S", 7, secure=True, timeout=None),
            OK,
            ("STREAM.MSG.DELETE.S", {"seq": 7}),
            None,
        ),
        (
            lambda api: stream_calls.step_down_stream_leader(api, "S", timeout=None),
            OK,
            ("STREAM.LEADER.STEPDOWN.S", None),
            None,
        ),
        (
            lambda api: stream_calls.purge_stream(api, "S", subject="a.>", keep=3, timeout=None),
            {"success": True, "purged": 9},
            ("STREAM.PURGE.S", {"filter": "a.>", "keep": 3}),
            lambda purged: purged == 9,
        ),
        (
            lambda api: stream_calls.purge_stream(api, "S", up_to_sequence=3, timeout=None),
            {"purged": 0},
            ("STREAM.PURGE.S", {"seq": 3}),
            lambda purged: purged == 0,
        ),
        (
            lambda api: stream_calls.stream_info(api, "S", deleted_details=True, timeout=None),
            STREAM,
            ("STREAM.INFO.S", {"deleted_details": True}),
            lambda info: info.state.messages == 3,
        ),
        (
            lambda api: stream_calls.stream_name_by_subject(api, "s", timeout=None),
            {"total": 1, "streams": ["S"]},
            ("STREAM.NAMES", {"subject": "s"}),
            lambda name: name == "S",
        ),
        (
            lambda api: stream_calls.get_last_msg(api, "S", "s", direct=False, timeout=None),
            {"message": {"subject": "s", "seq": 1}},
            ("STREAM.MSG.GET.S", {"last_by_subj": "s"}),
            lambda message: message.sequence == 1,
        ),
        (
            lambda api: stream_calls.get_msg(api, "S", 5, subject="s", direct=False, timeout=None),
            {"message": {"subject": "s", "seq": 6}},
            ("STREAM.MSG.GET.S", {"seq": 5, "next_by_subj": "s"}),
            lambda message: message.sequence == 6,
        ),
        (
            lambda api: consumer_calls.delete_consumer(api, "S", "c", timeout=None),
            OK,
            ("CONSUMER.DELETE.S.c", None),
            None,
        ),
        (
            lambda api: consumer_calls.pause_consumer(api, "S", "c", parse_time("2030-01-01T00:00:00Z"), timeout=None),
            {"paused": True},
            ("CONSUMER.PAUSE.S.c", {"pause_until": "2030-01-01T00:00:00Z"}),
            lambda pause: pause.paused,
        ),
        (
            lambda api: consumer_calls.reset_consumer(api, "S", "c", 5, timeout=None),
            CONSUMER,
            ("CONSUMER.RESET.S.c", {"seq": 5}),
            lambda info: info.name == "c",
        ),
        (
            lambda api: consumer_calls.unpin_consumer(api, "S", "c", "g", timeout=None),
            OK,
            ("CONSUMER.UNPIN.S.c", {"group": "g"}),
            None,
        ),
        (
            lambda api: consumer_calls.list_consumers(api, "S").next_page(None),
            {"total": 1, "consumers": [CONSUMER]},
            ("CONSUMER.LIST.S", None),
            lambda infos: [info.name for info in infos] == ["c"],
        ),
        (
            lambda api: stream_calls.list_streams(api).next_page(None),
            {"total": 1, "streams": [STREAM]},
            ("STREAM.LIST", None),
            lambda infos: [info.config.name for info in infos] == ["S"],
        ),
    ],
)
def test_each_call(operation: Any, answer: Any, asked: tuple[str, Any], result: Any) -> None:
    servers = Servers(answer)
    came = servers.run(operation(servers.api))
    subject, body = asked
    assert servers.asked == [(f"$JS.API.{subject}", body)]
    assert came is None if result is None else result(came)


@pytest.mark.parametrize(
    ("why", "raised"),
    [
        (NO_CONSUMER, ConsumerNotFoundError),
        (NO_STREAM, StreamNotFoundError),
        (CONSUMER, NATSTimeoutError),
        (NATSTimeoutError("info"), NATSTimeoutError),
        (PermissionsError("info"), NATSTimeoutError),
    ],
)
def test_a_reset_that_is_not_answered_asks_whether_there_is_the_consumer(why: Any, raised: type[Exception]) -> None:
    """No server answers for a consumer that is not there: 2.15.1 says nothing at all."""
    servers = Servers(NATSTimeoutError("reset"), why)
    with pytest.raises(raised, match="reset consumer" if raised is NATSTimeoutError else "not found"):
        servers.run(consumer_calls.reset_consumer(servers.api, "S", "c", None, timeout=7.0))
    assert servers.asked == [("$JS.API.CONSUMER.RESET.S.c", None), ("$JS.API.CONSUMER.INFO.S.c", None)]
    assert servers.timeouts == [7.0, consumer_calls.WHY]


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        (lambda api: stream_calls.delete_stream(api, "S", timeout=None), {"success": False}),
        (lambda api: stream_calls.purge_stream(api, "S", timeout=None), {"purged": "3"}),
        (lambda api: stream_calls.purge_stream(api, "S", timeout=None), {"purged": -1}),
        (lambda api: stream_calls.get_msg(api, "S", 1, direct=False, timeout=None), {"message": None}),
    ],
)
def test_an_answer_that_says_nothing(operation: Any, answer: Any) -> None:
    servers = Servers(answer)
    with pytest.raises(JetStreamDecodeError):
        servers.run(operation(servers.api))


def test_no_stream_has_the_subject() -> None:
    servers = Servers({"total": 0, "streams": None})
    with pytest.raises(StreamNotFoundError, match="no stream has the subject 's'"):
        servers.run(stream_calls.stream_name_by_subject(servers.api, "s", timeout=None))


@pytest.mark.parametrize(
    ("config", "durable", "fields", "durable_name"),
    [
        (None, "d", {"ack_wait": 3}, "d"),
        (None, None, {"name": "n"}, None),
        (ConsumerConfig(ack_wait=3.0), "d", {}, "d"),
        (ConsumerConfig(durable_name="d"), "d", {}, "d"),
        (ConsumerConfig(durable_name="d"), None, {}, "d"),
    ],
)
def test_the_durable_name(config: Any, durable: str | None, fields: dict[str, Any], durable_name: str | None) -> None:
    assert consumer_calls.read_consumer(config, durable, fields).durable_name == durable_name


def test_two_durable_names() -> None:
    with pytest.raises(ValueError, match="given twice"):
        consumer_calls.read_consumer(ConsumerConfig(durable_name="d"), "e", {})


@pytest.mark.parametrize(
    ("stored", "sequence"),
    [({"hdrs": "TkFUUy8xLjANCk5hdHMtTXNnLUlkOiA3DQoNCg=="}, 5), ({}, None)],
)
def test_a_publish_is_found_again_by_its_id(stored: dict[str, str], sequence: int | None) -> None:
    servers = Servers({"streams": ["S"], "total": 1}, {"message": {"subject": "s", "seq": 5, **stored}})
    found = servers.run(stored_by(servers.api)("s", "7"))
    assert (None if found is None else (found.stream, found.sequence, found.duplicate)) == (
        None if sequence is None else ("S", sequence, True)
    )
