"""Reading in order: what it asks, when it makes another consumer, from where, and what ends it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest

from nats_proto import Ask, Message, Publish, PublishRefused, Subscribe
from nats_proto._consuming.options import ConsumeOptions, Priority
from nats_proto._consuming.ordered import Ordered
from nats_proto._consuming.ordered_calls import OrderedCalls, ordered_config, ordered_options
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.errors import ConsumerDeletedError, JetStreamNotEnabledError, api_error
from nats_proto._json.durations import Timestamp
from nats_proto.errors import NATSError, NATSTimeoutError, NoRespondersError, PermissionsError
from tests.proto.consuming import NOW, Inboxes, status

TIME = 1_700_000_000_000_000_000
OPTIONS = ordered_options(max_messages=10, max_bytes=None, threshold=None, expires=None, heartbeat=None)


def error(err_code: int, code: int = 404) -> NATSError:
    return api_error("create", {"code": code, "err_code": err_code, "description": "words"})


class Reading:
    """The machine, with the server's part played by the test."""

    def __init__(
        self,
        *,
        after: int | None = None,
        max_attempts: int | None = None,
        patience: float | None = None,
        timeout: float = 5.0,
        make: Callable[[Message, float], Any] = lambda message, _: bytes(message.data),
        **fields: Any,
    ) -> None:
        self.now = NOW
        self.api = JetStreamApi(
            timeout=timeout, now=lambda: self.now, new_inbox=Inboxes(), server_version=lambda: "2.15.1"
        )
        self.calls = OrderedCalls(self.api, "S", ordered_config(**fields), patience=patience)
        self.machine: Ordered[Message, Any] = Ordered(
            self.calls, OPTIONS, make=make, now=NOW, after=after, max_attempts=max_attempts
        )
        self.subscribed: list[Subscribe] = []
        self.asked: list[Ask] = []
        self.pulled: list[Publish] = []
        self.look()

    def look(self) -> None:
        """Do what the machine wants."""
        while self.machine.wants:
            want = self.machine.wants.popleft()
            if isinstance(want, Subscribe):
                self.subscribed.append(want)
            elif isinstance(want, Ask):
                self.asked.append(want)
            else:
                self.pulled.append(want)

    @property
    def created(self) -> list[tuple[str, dict[str, Any]]]:
        """Names and configurations of the creations that were asked for."""
        return [
            (ask.api.subject.split(".")[5], msgspec.json.decode(ask.api.payload)["config"])
            for ask in self.asked
            if ".CONSUMER.CREATE." in ask.api.subject
        ]

    @property
    def deleted(self) -> list[str]:
        return [ask.api.subject.split(".")[5] for ask in self.asked if ".CONSUMER.DELETE." in ask.api.subject]

    @property
    def name(self) -> str:
        """Of the newest consumer."""
        return self.created[-1][0]

    def answer(self, kind: str, answer: object = None, *, pending: int = 0, start: int = 0) -> None:
        """To the last call of this kind."""
        ask = [ask for ask in self.asked if f".CONSUMER.{kind}." in ask.api.subject][-1]
        if answer is None:
            body: dict[str, object] = {"success": True}
            if kind == "CREATE":
                body = {
                    "stream_name": "S",
                    "name": self.name,
                    "config": {},
                    "num_pending": pending,
                    "delivered": {"consumer_seq": 0, "stream_seq": start - 1 if start else 0},
                }
            answer = ask.api.decode(Message("in", 1, None, msgspec.json.encode(body), None))
        self.machine.answered(ask.api, answer, now=self.now)
        self.look()

    def give(self, consumer: int, stream: int, *, time: int = TIME, pending: int = 0, name: str = "") -> None:
        reply = f"$JS.ACK.S.{name or self.name}.1.{stream}.{consumer}.{time}.{pending}"
        self.machine.receive(Message("a", 1, reply, b"%d" % stream, None), now=self.now)
        self.look()

    def say(self, words: str) -> None:
        self.machine.receive(status(self.pulled[-1].reply, words), now=self.now)
        self.look()

    def beat(self, delivered: object) -> None:
        """A heart-beat, which says how many messages the consumer has delivered."""
        self.say(f"100 Idle Heartbeat\r\nNats-Last-Consumer: {delivered}\r\nNats-Last-Stream: 0")

    def wait(self) -> float:
        """Until something is due, and do it: for how long."""
        due = self.machine.next_timeout()
        assert due is not None
        waited = due - self.now
        self.now = due
        self.machine.handle_timeout(now=self.now)
        self.look()
        return waited

    def rebuild(self) -> None:
        """After a fault: the deletion is confirmed, and the next consumer made."""
        self.answer("DELETE")
        self.wait()
        self.answer("CREATE")

    @property
    def given(self) -> list[int]:
        numbers = [int(item) for item in self.machine.items]
        self.machine.items.clear()
        return numbers

    @property
    def warned(self) -> list[str]:
        kinds = [warning.kind for warning in self.machine.warnings]
        self.machine.warnings.clear()
        return list(kinds)


def reading(**given: Any) -> Reading:
    """Of which the first consumer was made."""
    made = Reading(**given)
    made.answer("CREATE")
    return made


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({}, {"deliver_policy": "all"}),
        ({"deliver_policy": "new"}, {"deliver_policy": "new"}),
        ({"deliver_policy": "last_per_subject"}, {"deliver_policy": "last_per_subject", "filter_subject": ">"}),
        ({"opt_start_seq": 7}, {"deliver_policy": "by_start_sequence", "opt_start_seq": 7}),
        (
            {"opt_start_time": Timestamp.from_nanoseconds(TIME)},
            {"deliver_policy": "by_start_time", "opt_start_time": "2023-11-14T22:13:20Z"},
        ),
        ({"filter_subjects": "a.*"}, {"deliver_policy": "all", "filter_subject": "a.*"}),
        ({"filter_subjects": ["a", "b"]}, {"deliver_policy": "all", "filter_subjects": ["a", "b"]}),
        ({"headers_only": True}, {"deliver_policy": "all", "headers_only": True}),
    ],
)
def test_the_first_creation_is_what_the_user_said_and_later_ones_a_sequence(  # row 28
    fields: dict[str, Any], config: dict[str, Any]
) -> None:
    read = reading(**fields)
    always = {
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 60_000_000_000,
        "name": read.name,
    }
    assert read.created[0][1] == {**always, **config}
    read.give(1, 12)
    read.give(3, 15)
    read.rebuild()
    name, again = read.created[1]
    kept = {key: value for key, value in config.items() if key in ("filter_subject", "filter_subjects", "headers_only")}
    assert again == {**always, **kept, "name": name, "deliver_policy": "by_start_sequence", "opt_start_seq": 13}


@pytest.mark.parametrize(
    ("policy", "pending", "start"),
    [("new", 0, 13), ("all", 7, 13), ("last", 1, 13), ("last_per_subject", 0, 13), ("last_per_subject", 7, None)],
)
def test_what_began_with_nothing_begins_there_again(policy: str, pending: int, start: int | None) -> None:
    read = Reading(deliver_policy=policy)
    read.answer("CREATE", pending=pending, start=13)
    read.give(2, 20)
    read.rebuild()
    assert read.created[1][1].get("opt_start_seq") == start
    assert read.created[1][1]["deliver_policy"] == ("by_start_sequence" if start else policy)


def test_it_reads_on_behind_a_sequence() -> None:
    assert reading(after=41).created[0][1]["opt_start_seq"] == 42


def test_names_have_a_prefix_and_a_number() -> None:  # row 26
    read = reading()
    first = read.name
    read.give(2, 2)
    read.rebuild()
    assert first.startswith("ordered-")
    assert (first.rpartition("_")[2], read.name.rpartition("_")[2]) == ("1", "2")
    assert first.rpartition("_")[0] == read.name.rpartition("_")[0]


def test_nothing_is_handed_back_and_the_queue_has_no_limit() -> None:
    read = reading()
    assert read.subscribed[-1].hand_back is None
    assert (read.subscribed[-1].max_pending_msgs, read.subscribed[-1].max_pending_bytes) == (0, 0)
    assert read.subscribed[-1].subject != read.subscribed[0].subject


def test_messages_in_order_are_given() -> None:
    read = reading()
    for number, sequence in enumerate([3, 4, 9], 1):
        read.give(number, sequence, pending=3 - number)
    assert read.given == [3, 4, 9]
    assert (read.machine.sequence, read.machine.pending) == (9, 0)


@pytest.mark.parametrize("missing", [1, 2, 5])
def test_a_gap_begins_anew_behind_the_last_message(missing: int) -> None:
    read = reading()
    for number in range(1, missing):
        read.give(number, 10 + number)
    read.give(missing + 1, 99)
    assert read.given == [10 + number for number in range(1, missing)]
    assert read.warned == ["gap"]
    old = read.name
    assert read.deleted == [old]
    read.give(missing + 2, 100)  # of the old one
    read.rebuild()
    assert read.warned == ["consumer_recreated"]
    read.give(1, 10 + missing, name=read.name)
    read.give(1, 10 + missing, name=old)
    assert read.given == [10 + missing]


@pytest.mark.parametrize("read_before", [0, 1, 4])
@pytest.mark.parametrize("reconnected", [False, True])
def test_a_heart_beat_tells_that_the_last_messages_were_lost(read_before: int, reconnected: bool) -> None:
    """Behind them comes none by which they would be missed, and the consumer lives and has nothing more to give."""
    read = reading()
    for number in range(1, read_before + 1):
        read.give(number, 10 + number)
    if reconnected:
        read.machine.connection_replaced(now=read.now)
        read.look()
    read.beat(read_before)
    assert (read.warned, read.deleted) == ([], [])
    read.beat(read_before + 2)
    assert read.warned == ["gap"]
    assert read.deleted == [read.name]
    read.beat(read_before + 2)  # of the old one
    read.rebuild()
    assert read.warned == ["consumer_recreated"]
    assert read.created[-1][1].get("opt_start_seq") == (11 + read_before if read_before else 1)
    read.beat(0)
    read.give(1, 11 + read_before)
    read.beat(1)
    assert read.given == [*range(11, 12 + read_before)]
    assert read.warned == []


@pytest.mark.parametrize("said", ["", "two", "-1", "1.5", "0", "9" * 40])
def test_a_heart_beat_that_says_nothing_of_use_is_a_sign_of_life(said: str) -> None:
    read = reading()
    read.give(1, 11)
    read.beat(said)
    assert (read.warned, read.deleted) == ([], [])
    read.give(2, 12)
    assert read.given == [11, 12]


def test_a_message_that_came_before_is_left_out() -> None:
    read = reading()
    read.give(1, 5)
    read.give(1, 5)  # the same once more
    read.give(2, 4)  # the server of the consumer is behind
    read.give(3, 6)
    assert read.given == [5, 6]
    assert read.warned == []
    assert not read.machine.done


@pytest.mark.parametrize("first", [6, 9, 30])
def test_a_consumer_that_a_server_has_made_anew_is_given_up(first: int) -> None:
    """It counts from 1 again, and would come to the expected number with what is behind a hole."""
    read = reading()
    for number in range(1, 5):
        read.give(number, 5 + number)
    read.give(1, first)
    assert read.warned == ["gap"]
    for number in range(2, 8):
        read.give(number, first + number)
    assert read.given == [6, 7, 8, 9]
    read.rebuild()
    assert read.created[1][1].get("opt_start_seq") == 10
    read.give(1, 10, name=read.name)
    assert read.given == [10]


def test_a_stream_that_was_made_anew_is_another_one() -> None:
    read = reading()
    read.give(1, 50)
    read.give(2, 1, time=TIME + 10_000_000_000)
    assert isinstance(read.machine.error, ConsumerDeletedError)
    assert "made anew" in str(read.machine.error)


@pytest.mark.parametrize(
    "reply",
    [
        "somewhere",
        "$JS.ACK.S.NAME.1.x.1.1.0",
        "$JS.ACK.S.NAME.1.2.",
        "$JS.ACK.S.NAME.",
        "$JS.ACK.S.other.1.5.1.1700000000000000000.0",
        "$JS.ACK.S.NAME.1." + "9" * 5000 + ".1.1.0",
        "$JS.ACK.S.NAME.1.99999999999999999999.1.1.0",
    ],
)
def test_what_no_consumer_has_delivered_is_dropped(reply: str) -> None:
    read = reading()
    read.machine.receive(Message("a", 1, reply.replace("NAME", read.name), b"x", None), now=NOW)
    assert read.given == []
    assert not read.machine.done


def test_the_second_form_of_reply_subjects() -> None:
    read = reading()
    for number in (1, 2):
        reply = f"$JS.ACK.hub.ACCHASH.S.{read.name}.1.{number + 6}.{number}.{TIME}.4.random"
        read.machine.receive(Message("a", 1, reply, b"%d" % (number + 6), None), now=NOW)
    assert read.given == [7, 8]
    assert (read.machine.sequence, read.machine.pending) == (8, 4)
    reply = f"$JS.ACK.hub.ACCHASH.S.{read.name}.1.11.4.{TIME}.4.random"
    read.machine.receive(Message("a", 1, reply, b"", None), now=NOW)
    assert read.warned == ["gap"]


# --- when it makes another consumer


def deleted(read: Reading) -> None:
    read.say("409 Consumer Deleted")


def silence(read: Reading) -> None:
    assert read.wait() == 10.0


def nobody(read: Reading) -> None:
    read.now += 3.0
    read.say("503")


@pytest.mark.parametrize(
    ("fault", "warned", "gone"),
    [
        (deleted, ["consumer_missing"], True),
        (silence, ["no_heartbeat"], False),
        (nobody, ["no_responders"], False),
    ],
)
def test_every_loss_ends_in_another_consumer(  # row 25
    fault: Callable[[Reading], None], warned: list[str], gone: bool
) -> None:
    read = reading()
    read.give(1, 8)
    first = read.name
    fault(read)
    assert read.warned == warned
    assert read.deleted == ([] if gone else [first])
    if not gone:
        read.answer("DELETE")
    read.wait()
    read.answer("CREATE")
    assert read.created[-1][1]["opt_start_seq"] == 9
    read.give(1, 9)
    assert read.given == [8, 9]


def test_no_responders_right_after_the_creation_may_pass() -> None:
    read = reading()
    read.say("503")
    assert len(read.created) == 1
    read.wait()  # it asks again
    read.say("100 Idle Heartbeat")
    read.now += 5.0
    read.machine.handle_timeout(now=read.now)
    assert read.deleted == []


def test_no_responders_right_after_the_creation_and_no_sign_of_life() -> None:
    read = reading()
    while not read.deleted:
        read.say("503")
        read.wait()
        assert read.now <= NOW + 4.0


def test_who_is_not_permitted_to_ask_is_told_at_once() -> None:  # row 25
    read = reading()
    refused = PermissionsError("no", subject="asked")
    read.give(1, 1)
    read.machine.publish_refused(PublishRefused("asked", refused, 1), now=read.now)
    assert isinstance(read.machine.error, PermissionsError)
    assert (read.machine.done, read.machine.error.subject) == (True, "asked")


def test_what_is_refused_while_no_consumer_is_there_concerns_none() -> None:
    read = reading()
    while read.machine._inner is not None:
        read.wait()
    read.machine.publish_refused(PublishRefused("asked", PermissionsError("no"), 1), now=read.now)
    assert not read.machine.done


def test_a_new_connection_makes_another_consumer() -> None:
    """The old one may have been made anew by a server, and come to the next number behind a hole."""
    read = reading()
    read.give(1, 1)
    old = read.name
    read.machine.connection_replaced(now=NOW + 1)
    read.machine.handle_timeout(now=NOW + 1)  # nothing more was unread
    read.look()
    assert read.deleted == [old]
    read.give(2, 3, name=old)
    read.rebuild()
    assert read.warned == ["consumer_recreated"]
    assert read.created[-1][1]["opt_start_seq"] == 2
    read.give(1, 2)
    assert read.given == [1, 2]


def test_what_came_before_another_connection_is_read_first() -> None:
    read = reading()
    read.give(1, 1)
    read.machine.connection_replaced(now=NOW + 1)
    read.give(2, 2)
    read.give(3, 3)
    assert read.deleted == []
    read.machine.handle_timeout(now=NOW + 1)
    read.look()
    read.rebuild()
    assert read.created[-1][1]["opt_start_seq"] == 4
    read.give(1, 4)
    assert read.given == [1, 2, 3, 4]


def test_new_connections_again_and_again_make_no_reader_wait() -> None:
    read = reading()
    for number in range(1, 20):
        read.give(1, number)
        read.machine.connection_replaced(now=read.now)
        read.machine.handle_timeout(now=read.now)
        read.look()
        read.answer("DELETE")
        assert read.wait() <= 0.1
        read.answer("CREATE")
    assert read.given == [*range(1, 20)]


def test_a_new_connection_on_the_way() -> None:
    read = Reading()
    read.machine.connection_replaced(now=NOW + 1)
    read.look()
    read.answer("CREATE")
    read.give(1, 1)
    assert read.given == [1]
    # It was asked again under the same name, which makes no second one.
    assert [name for name, _ in read.created] == [read.name] * 2


def test_a_new_connection_in_a_pause() -> None:
    read = Reading()
    first = read.name
    read.answer("CREATE", NATSTimeoutError("late"))
    read.machine.connection_replaced(now=NOW + 1)
    read.look()
    assert read.deleted == [first]
    read.answer("DELETE")
    read.wait()
    read.answer("CREATE")
    read.give(1, 1)
    assert read.given == [1]
    assert len(read.created) == 2


def test_a_name_for_which_a_creation_was_not_answered_is_given_up() -> None:
    """A cluster may have given the consumer to a server that has just died, and holds to that while it is away."""
    read = reading()
    read.give(2, 2)
    read.answer("DELETE", NATSTimeoutError("late"))
    names = [read.name]
    for _ in range(3):
        read.wait()
        if read.deleted[-1:] != names[-1:] and len(names) > 1:
            read.answer("DELETE", error(10014))
        names.append(read.name)
        read.answer("CREATE", NATSTimeoutError("late"))
    assert len({*names}) == 4
    read.wait()
    read.answer("DELETE", error(10014))
    read.answer("CREATE")
    read.give(1, 1)
    assert read.given == [1]
    assert set(read.deleted) == set(names[:3])  # of two that may be there, one had to be gone before each creation
    while read.deleted[-1] != names[3]:
        read.say("100 Idle Heartbeat")
        read.wait()
    assert len(read.created) == 5


# --- how often, and how many at once


def test_pauses_grow_and_end_after_a_healthy_minute() -> None:  # row 26
    read = reading()
    pauses = []
    for _ in range(9):
        read.give(5, 5)
        read.answer("DELETE")
        pauses.append(read.wait())
        read.answer("CREATE")
    assert pauses[0] <= 0.1
    bounds = [(1.0, 1.5), (2.0, 3.0), (4.0, 6.0), (8.0, 12.0), (16.0, 24.0), *[(22.5, 30.0)] * 3]
    for pause, (least, most) in zip(pauses[1:], bounds, strict=True):
        assert least <= pause <= most
    assert len({*pauses}) == len(pauses)
    read.now += 59.0
    read.give(5, 5)
    read.answer("DELETE")
    assert read.wait() > 20.0
    read.answer("CREATE")
    read.now += 60.0
    read.give(5, 5)
    read.answer("DELETE")
    assert read.wait() <= 0.1


def test_two_readers_do_not_wait_equally_long() -> None:
    pauses = set()
    for number in range(20):
        read = Reading()
        read.calls.rng.seed(number)
        read.answer("CREATE", NATSTimeoutError("late"))
        read.wait()
        read.answer("CREATE", NATSTimeoutError("late"))
        pauses.add(read.wait())
    assert len(pauses) == 20


@pytest.mark.parametrize("works", [0.0, 0.3, 1.0])
def test_of_consumers_that_cannot_be_deleted_few_are_left(works: float) -> None:  # row 26
    """All answers to deletions are lost. ``works``: how many of them are done all the same."""
    rng, read = Random(1), Reading()
    alive: dict[str, float] = {}
    seen = creations = 0
    while read.now < NOW + 600.0:
        if seen == len(read.asked):
            read.wait()
            continue
        ask = read.asked[seen]
        seen += 1
        alive = {name: until for name, until in alive.items() if read.now < until}  # the server does it in the end
        if ".CREATE." in ask.api.subject:
            creations += 1
            read.answer("CREATE")
            alive[read.name] = read.now + 60.0
            assert len(alive) <= 2
            read.give(7, 7)
        else:
            if rng.random() < works:
                alive.pop(ask.api.subject.rpartition(".")[2], None)
            read.now += 2.0
            read.answer("DELETE", NATSTimeoutError("lost"))
    assert creations > 5
    assert len(read.deleted) > 5


def test_a_deletion_is_asked_for_while_the_next_consumer_is_read() -> None:
    read = reading()
    first = read.name
    read.give(2, 2)
    read.answer("DELETE", NATSTimeoutError("lost"))
    read.wait()
    read.answer("CREATE")
    assert read.deleted == [first]
    while len(read.deleted) == 1:
        read.say("100 Idle Heartbeat")
        read.wait()
    assert read.deleted == [first, first]
    read.answer("DELETE")
    for _ in range(5):
        read.now += 4.0
        read.say("100 Idle Heartbeat")
        read.machine.handle_timeout(now=read.now)
        read.look()
    assert read.deleted == [first, first]


def test_whoever_leaves_deletes_what_there_is() -> None:
    read = Reading()
    assert [want.subject for want in read.machine.leave()] == [f"$JS.API.CONSUMER.DELETE.S.{read.name}"]
    read.answer("CREATE")
    first = read.name
    read.give(2, 2)
    read.answer("DELETE", NATSTimeoutError("lost"))
    read.wait()
    read.answer("CREATE")
    names = [want.subject.rpartition(".")[2] for want in read.machine.leave()]
    assert names == [first, read.name]
    assert all(want.reply is None for want in read.machine.leave())


# --- what ends it


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("answer", "ends_first", "ends_later"),
    [
        (error(10059), True, True),  # no such stream
        (PermissionsError("no"), True, True),
        (error(10026, 400), True, False),  # too many consumers
        (error(10025, 400), True, True),  # a configuration that it does not take
        (error(10008, 503), False, False),  # no leader
        (NATSTimeoutError("late"), False, False),
        (NoRespondersError("nobody", subject="$JS.API.x"), False, False),
    ],
)
def test_what_is_for_good_is_raised(first: bool, answer: NATSError, ends_first: bool, ends_later: bool) -> None:
    read = Reading()
    if not first:
        read.answer("CREATE")
        read.give(2, 2)
        read.answer("DELETE")
        read.wait()
        read.warned  # noqa: B018
    read.answer("CREATE", answer)
    ends = ends_first if first else ends_later
    assert read.machine.done == ends
    assert (read.machine.error is not None) == ends
    assert read.warned == ([] if ends else ["not_created"])


def test_the_first_consumer_has_the_time_of_a_call() -> None:
    read = Reading()
    while not read.machine.done:
        read.answer("CREATE", NoRespondersError("nobody", subject="$JS.API.CONSUMER.CREATE"))
        if not read.machine.done:
            read.wait()
        assert read.now < NOW + 12.0
    assert isinstance(read.machine.error, JetStreamNotEnabledError)
    assert read.now >= NOW + 5.0


@pytest.mark.parametrize(
    ("patience", "seconds"),
    [
        (None, [2.5, 2.5]),
        (1.0, [0.5, 0.5]),
        (0.0, [0.5]),
        (20.0, [5.0, 5.0, 5.0]),
        (float("inf"), [5.0] * 20),
    ],
)
def test_a_first_consumer_that_was_not_answered_is_made_under_another_name(
    patience: float | None, seconds: list[float]
) -> None:
    """Its server may have died a moment ago: there is time for the next one, and all in all what the user gives."""
    read = Reading(patience=patience)
    for count, expected in enumerate(seconds, 1):
        assert len({name for name, _ in read.created}) == count
        ask = read.asked[-1]
        assert ask.timeout == pytest.approx(expected, abs=0.1)
        read.now += ask.timeout
        read.answer("CREATE", NATSTimeoutError("late"))
        if not read.machine.done:
            read.wait()
            if ".CONSUMER.DELETE." in read.asked[-1].api.subject:
                read.answer("DELETE", error(10014))
    assert read.machine.done == (patience is None or patience < 20.0)
    if not read.machine.done:
        read.answer("CREATE")
        read.give(1, 1)
        assert read.given == [1]
        assert read.calls.renewed().patience == patience


def test_the_time_of_an_attempt_that_was_not_answered_is_a_part_of_the_pause() -> None:
    """A cluster that has lost a server may leave several unanswered: each pause on top would make a reader wait for a
    minute."""
    read = reading()
    read.give(2, 2)  # a gap
    read.answer("DELETE")
    read.wait()
    pauses = []
    for _ in range(7):
        read.now += read.asked[-1].timeout
        read.answer("CREATE", NATSTimeoutError("late"))
        pauses.append(read.wait())
        read.answer("DELETE")
    assert pauses[:3] == [0.0, 0.0, pytest.approx(0.5, abs=0.5)]
    for pause, (least, most) in zip(pauses[3:], [(3.0, 7.0), (11.0, 19.0), (17.5, 25.0), (17.5, 25.0)], strict=True):
        assert least <= pause <= most


@pytest.mark.parametrize(("timeout", "seconds"), [(60.0, 5.0), (5.0, 5.0), (0.7, 0.7)])
def test_no_attempt_takes_longer_than_five_seconds(timeout: float, seconds: float) -> None:
    """However long a call may take: one that went to a server that has died is not answered."""
    read = reading(timeout=timeout)
    for _ in range(3):
        read.give(2, 2)
        read.answer("DELETE")
        read.wait()
        assert read.asked[-1].timeout == seconds
        read.answer("CREATE")
    first = Reading(timeout=timeout)
    assert first.asked[0].timeout == max(seconds / 2 if timeout < 10 else seconds, 0.5)


def test_later_ones_are_tried_for_ever_or_so_many_times() -> None:
    read = reading()
    read.give(2, 2)
    read.answer("DELETE")
    read.wait()
    for _ in range(50):
        read.answer("CREATE", NoRespondersError("nobody", subject="$JS.API.CONSUMER.CREATE"))
        read.wait()
    assert not read.machine.done
    read = reading(max_attempts=3)
    read.give(2, 2)
    read.answer("DELETE")
    for _ in range(3):
        assert not read.machine.done
        read.wait()
        read.answer("CREATE", NoRespondersError("nobody", subject="$JS.API.CONSUMER.CREATE"))
    assert isinstance(read.machine.error, JetStreamNotEnabledError)


def test_a_stream_of_our_own_may_not_be_known_yet() -> None:
    read = Reading()
    read.api.created("S")
    read.answer("CREATE", error(10059))
    assert not read.machine.done
    read.wait()
    read.answer("CREATE")
    read.give(2, 2)
    read.answer("DELETE")
    read.wait()
    read.answer("CREATE", error(10059))  # it was there, and is gone
    assert read.machine.done


def test_what_a_watch_needs() -> None:  # section 3.4
    read = Reading()
    assert read.machine.initial_pending is None
    read.answer("CREATE", pending=3)
    assert read.machine.initial_pending == 3
    assert read.machine.pending is None
    read.give(1, 1, pending=2)
    assert read.machine.pending == 2
    read.give(3, 3)
    read.answer("DELETE")
    read.wait()
    read.answer("CREATE", pending=77)
    assert read.machine.initial_pending == 3  # of the first one
    assert read.machine.rebuilt == 1


@pytest.mark.parametrize(
    "options",
    [
        ConsumeOptions(limit=1),
        ConsumeOptions(on_missing="wait"),
        ConsumeOptions(priority=Priority(group="g")),
    ],
)
def test_options_that_make_no_sense(options: ConsumeOptions) -> None:
    read = Reading()
    with pytest.raises(ValueError, match="ordered consumer"):
        Ordered(read.calls, options, make=lambda message, _: message, now=NOW)


@pytest.mark.parametrize(
    "fields",
    [
        {"deliver_policy": "by_start_sequence"},
        {"deliver_policy": "new", "opt_start_seq": 1},
        {"deliver_policy": "sometimes"},
        {"filter_subjects": ["a b"]},
        {"inactive_threshold": 0},
    ],
)
def test_configurations_that_make_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        ordered_config(**fields)
