"""One publish: which failures are tried again, until when, and what is said at last."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nats_proto import Headers, Message, Operation, Pause, Request
from nats_proto._jetstream.errors import (
    ApiError,
    ClusterUnavailableError,
    JetStreamNotEnabledError,
    MaxMessageSizeError,
    NoStreamResponseError,
    WrongLastSequenceError,
    WrongStreamError,
)
from nats_proto._jetstream.pub_ack import PubAck
from nats_proto._publishing.publish import FirstTry, publish_operation
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionLostError,
    NATSError,
    NATSTimeoutError,
    NoRespondersError,
    PermissionsError,
)

ACK = b'{"stream":"ORDERS","seq":7}'
DUPLICATE = b'{"stream":"ORDERS","seq":7,"duplicate": true}'
STORED = PubAck(stream="ORDERS", sequence=7)
DOUBLE = PubAck(stream="ORDERS", sequence=7, duplicate=True)
ID = Headers({"Nats-Msg-Id": "id-1"})


def refusal(err_code: int, code: int = 400, text: str = "no") -> bytes:
    return b'{"error":{"code":%d,"err_code":%d,"description":"%b"},"stream":"ORDERS","seq":0}' % (
        code,
        err_code,
        text.encode(),
    )


class World:
    """Answers each request by the script, and keeps the time: a time-out takes it, a pause as well."""

    def __init__(self, *script: bytes | type[NATSError] | NATSError | tuple[bytes, ...]) -> None:
        self.script = list(script)
        self.now = 100.0
        self.sent: list[Request] = []
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def answer(self, request: Request) -> Message:
        """The first answer that counts; answers that do not are skipped, and then the time is up."""
        self.sent.append(request)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, NATSError):
            raise step
        if isinstance(step, type):
            raise self.failure(step, request)
        for data in step if isinstance(step, tuple) else (step,):
            message = Message("_INBOX.x", 1, None, data)
            assert request.accept is not None
            if request.accept(message):
                assert request.accept(message)  # both times
                return message
        raise self.failure(NATSTimeoutError, request)

    def failure(self, kind: type[NATSError], request: Request) -> NATSError:
        if kind is NoRespondersError:
            return NoRespondersError("nobody", request.subject)
        if kind is NATSTimeoutError:
            assert request.timeout is not None
            self.now += request.timeout
        return kind("as scripted")

    def run(self, operation: Operation[PubAck]) -> PubAck:
        try:
            effect = next(operation)
            while True:
                try:
                    if isinstance(effect, Pause):
                        assert effect.seconds > 0
                        self.pauses.append(effect.seconds)
                        self.now += effect.seconds
                        answer = None
                    else:
                        assert isinstance(effect, Request)
                        answer = self.answer(effect)
                except NATSError as error:
                    effect = operation.throw(error)
                else:
                    effect = operation.send(answer)
        except StopIteration as end:
            result: PubAck = end.value
            return result

    def publish(
        self,
        headers: Headers | None = None,
        *,
        timeout: float = 5.0,
        retry_for: float = 10.0,
        duplicate_window: float = 120.0,
        find_stored: Callable[[str, str], Operation[PubAck | None]] | None = None,
    ) -> PubAck:
        return self.run(
            publish_operation(
                "orders.new",
                b"x",
                headers,
                now=self.clock,
                timeout=timeout,
                retry_for=retry_for,
                duplicate_window=duplicate_window,
                find_stored=find_stored,
            )
        )

    def publish_at_first(self) -> PubAck:
        """As a client does it that makes the first try by itself."""
        first = FirstTry("orders.new", b"x", seconds=5.0, began=self.now)
        try:
            self.answer(Request(first.subject, first.data, timeout=first.seconds, accept=first))
        except NATSError as error:
            return self.run(first.go_on(error, now=self.clock))
        return first.ack or self.run(first.go_on(None, now=self.clock))


@pytest.mark.parametrize(
    ("script", "headers", "tries", "result"),
    [
        ([ACK], None, 1, STORED),
        ([DUPLICATE], ID, 1, DOUBLE),
        ([NoRespondersError, NoRespondersError, ACK], None, 3, STORED),
        ([refusal(10008, 503), ACK], None, 2, STORED),
        ([refusal(10009, 500), ACK], None, 2, STORED),
        ([refusal(10039, 503), refusal(10076, 503), ACK], None, 3, STORED),
        ([refusal(10163, 503), ACK], None, 2, STORED),
        ([refusal(0, 503, "raft: not leader"), ACK], None, 2, STORED),
        ([refusal(10167, 429), ACK], None, 2, STORED),
        ([refusal(10158, 409), refusal(10158, 409), DUPLICATE], ID, 3, DOUBLE),
        ([b'{"stream":"ORDERS","seq":0,"duplicate": true}', DUPLICATE], ID, 2, DOUBLE),  # before 2.11: being stored
        ([NATSTimeoutError, DUPLICATE], ID, 2, DOUBLE),
        ([ConnectionLostError, ACK], ID, 2, STORED),
        ([NATSTimeoutError, NoRespondersError, DUPLICATE], ID, 3, DOUBLE),
        ([(b"hi", b"", b"{}", ACK)], None, 1, STORED),
        ([NoRespondersError, (b"hi", ACK)], None, 2, STORED),
    ],
)
def test_it_is_stored_in_the_end(
    script: list[bytes | type[NATSError]], headers: Headers | None, tries: int, result: PubAck
) -> None:
    world = World(*script)
    assert world.publish(headers) == result
    assert len(world.sent) == tries
    assert all(
        (sent.subject, sent.data, sent.headers, sent.timeout) == ("orders.new", b"x", headers, 5.0)
        for sent in world.sent
    )


@pytest.mark.parametrize(
    ("script", "headers", "tries", "error", "outcome"),
    [
        # No answer, and nothing by which a stream would know the message again: once is enough.
        ([NATSTimeoutError], None, 1, NATSTimeoutError, "unknown"),
        ([ConnectionLostError], None, 1, ConnectionLostError, "unknown"),
        # It never left: the time was used up waiting for room.
        ([NATSTimeoutError("no room", outcome="failed")], ID, 1, NATSTimeoutError, "failed"),
        # Refused for good.
        ([refusal(10060)], ID, 1, WrongStreamError, "failed"),
        ([refusal(10071, text="wrong last sequence: 3")], ID, 1, WrongLastSequenceError, "failed"),
        ([refusal(10054)], ID, 1, MaxMessageSizeError, "failed"),
        ([refusal(10077, 503)], ID, 1, ApiError, "unknown"),
        # The same code without a number tells of a failed write as well.
        ([refusal(0, 503, "write failed: disk")], ID, 1, ApiError, "unknown"),
        ([PermissionsError("no")], ID, 1, PermissionsError, "failed"),
        ([ConnectionClosedError("closed")], ID, 1, ConnectionClosedError, "failed"),
        # A try without an answer before one that was refused: the first may be stored.
        ([NATSTimeoutError, refusal(10054)], ID, 2, MaxMessageSizeError, "unknown"),
        ([NATSTimeoutError, ConnectionClosedError("closed")], ID, 2, ConnectionClosedError, "unknown"),
        ([NoRespondersError, refusal(10054)], None, 2, MaxMessageSizeError, "failed"),
        ([NoRespondersError, NATSTimeoutError], None, 2, NATSTimeoutError, "unknown"),
    ],
)
def test_it_fails_at_once(
    script: list[bytes | type[NATSError]],
    headers: Headers | None,
    tries: int,
    error: type[NATSError],
    outcome: str,
) -> None:
    world = World(*script)
    with pytest.raises(error) as raised:
        world.publish(headers)
    assert raised.value.outcome == outcome
    assert len(world.sent) == tries


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (NoRespondersError, NoStreamResponseError),
        (refusal(10008, 503), ClusterUnavailableError),
        (refusal(10076, 503), JetStreamNotEnabledError),
    ],
)
@pytest.mark.parametrize("retry_for", [0.0, 0.25, 10.0])
def test_what_was_not_stored_is_tried_for_so_long(
    step: bytes | type[NATSError], error: type[NATSError], retry_for: float
) -> None:
    world = World(step)
    with pytest.raises(error) as raised:
        world.publish(retry_for=retry_for)
    assert raised.value.outcome == "failed"
    assert world.now == pytest.approx(100.0 + retry_for)  # the last try is at the very end
    assert len(world.sent) == len(world.pauses) + 1
    assert all(longer >= pause for pause, longer in zip(world.pauses, world.pauses[1:-1], strict=False))
    assert max(world.pauses, default=0.0) <= 1.0


@pytest.mark.parametrize(
    "script",
    [
        [ACK],
        [DUPLICATE],
        [b'{"stream":"ORDERS","seq":7,"more":"x"}'],
        [b'{"stream":"ORDERS","seq":18446744073709551616}'],
        [NoRespondersError],
        [NoRespondersError, ACK],
        [NoRespondersError, NATSTimeoutError],
        [NoRespondersError, refusal(10054)],
        [NATSTimeoutError],
        [NATSTimeoutError("no room", outcome="failed")],
        [ConnectionLostError],
        [ConnectionClosedError("closed")],
        [PermissionsError("no")],
        [refusal(10008, 503)],
        [refusal(10008, 503), ACK],
        [refusal(10158, 409), DUPLICATE],
        [refusal(10071, text="wrong last sequence: 3")],
        [(b"hi", b"", b"{}", ACK)],
        [(b"hi", refusal(10008, 503)), ACK],
        [(b"hi",)],
        [(b"hi", refusal(10060))],
    ],
    ids=repr,
)
def test_a_first_try_that_is_made_without_an_operation_comes_to_the_same(
    script: list[bytes | type[NATSError] | NATSError | tuple[bytes, ...]],
) -> None:
    def outcome(publish: Callable[[World], PubAck]) -> tuple[object, ...]:
        world = World(*script)
        result: object
        try:
            result = publish(world)
        except NATSError as error:
            result = type(error), str(error), error.outcome, getattr(error, "__notes__", [])
        sent = [(request.subject, request.data, request.headers, request.timeout) for request in world.sent]
        return result, sent, world.pauses, world.now

    assert outcome(World.publish_at_first) == outcome(World.publish)


def test_the_error_names_both_causes_and_the_subject() -> None:
    with pytest.raises(
        NoStreamResponseError, match=r"orders\.new.* in \d+ tries.*none has this subject.*no leader"
    ) as raised:
        World(NoRespondersError).publish()
    assert raised.value.subject == "orders.new"


def test_time_outs_are_tried_again_for_so_long() -> None:
    world = World(NATSTimeoutError)
    with pytest.raises(NATSTimeoutError, match="may be stored"):
        world.publish(ID)
    assert (len(world.sent), world.now, world.pauses) == (2, 110.0, [])


def test_an_id_is_worth_nothing_once_the_stream_has_forgotten_it() -> None:
    world = World(NATSTimeoutError)
    with pytest.raises(NATSTimeoutError) as raised:
        world.publish(ID, timeout=2.0, retry_for=60.0, duplicate_window=5.0)
    assert raised.value.outcome == "unknown"
    # Begun at 0, 2 and 4 seconds. The last one may wait for a connection, but no longer than the stream knows the id.
    assert [request.timeout for request in world.sent] == [2.0, 2.0, 1.0]
    assert raised.value.__notes__ == [
        "It was not tried again: the stream knows a message id for 5 s (duplicate_window), and would store the message "
        "a second time."
    ]


def test_the_first_try_has_all_its_time() -> None:
    """It can be no second one, whatever the stream has forgotten meanwhile."""
    world = World(NATSTimeoutError)
    with pytest.raises(NATSTimeoutError):
        world.publish(ID, timeout=5.0, duplicate_window=2.0)
    assert [request.timeout for request in world.sent] == [5.0]
    world = World(NoRespondersError, NoRespondersError, NoRespondersError, NoRespondersError, NATSTimeoutError)
    with pytest.raises(NATSTimeoutError):
        world.publish(ID, timeout=5.0, duplicate_window=0.5)
    assert [request.timeout for request in world.sent] == [5.0] * 5  # nothing was stored by those before


@pytest.mark.parametrize(
    "later", [NoRespondersError, refusal(10008, 503), refusal(10158, 409)], ids=["503", "10008", "10158"]
)
def test_what_may_be_stored_is_not_tried_once_the_stream_has_forgotten_it(
    later: bytes | type[NATSError],
) -> None:
    """A refusal of the second try says nothing of the first one."""
    world = World(NATSTimeoutError, later)
    begun: list[float] = []
    answer = world.answer

    def noted(request: Request) -> Message:
        begun.append(world.now - 100.0)
        return answer(request)

    world.answer = noted  # type: ignore[method-assign]  # to see when each is begun
    with pytest.raises(NATSError) as raised:
        world.publish(ID, timeout=1.0, retry_for=60.0, duplicate_window=3.0)
    assert raised.value.outcome == "unknown"
    assert len(begun) > 2
    assert max(begun) < 3.0
    assert "duplicate_window" in " ".join(raised.value.__notes__)


@pytest.mark.parametrize("answers", [(b"hi",), (b"", b"hi"), (b'{"stream":7}', b"hi"), (b'{"error":7}', b"hi" * 1000)])
def test_somebody_elses_answer_is_named(answers: tuple[bytes, ...]) -> None:
    world = World(answers)
    with pytest.raises(NATSTimeoutError, match=r"somebody other than a stream.*hi") as raised:
        world.publish()
    assert raised.value.outcome == "unknown"
    assert len(str(raised.value)) < 300


def found(result: PubAck | NATSError | None) -> Callable[[str, str], Operation[PubAck | None]]:
    def find(subject: str, identity: str) -> Operation[PubAck | None]:
        assert (subject, identity) == ("orders.new", "id-1")
        yield Pause(1.0)
        if isinstance(result, NATSError):
            raise result
        return result

    return find


CONFLICT = refusal(10071, text="wrong last sequence: 7")


def test_a_conflict_with_ones_own_earlier_try_is_none() -> None:
    for conflict in (CONFLICT, refusal(10164), refusal(10070)):
        world = World(NATSTimeoutError, conflict)
        assert world.publish(ID, find_stored=found(DOUBLE)) == DOUBLE


@pytest.mark.parametrize("result", [None, NATSTimeoutError("no"), WrongStreamError("no")])
def test_a_conflict_that_cannot_be_told_apart_is_reported(result: NATSError | None) -> None:
    with pytest.raises(WrongLastSequenceError) as raised:
        World(NATSTimeoutError, CONFLICT).publish(ID, find_stored=found(result))
    assert raised.value.outcome == "unknown"
    assert raised.value.last_sequence == 7
    assert "earlier try" in raised.value.__notes__[0]


@pytest.mark.parametrize("script", [(CONFLICT,), (NoRespondersError, CONFLICT)])
def test_a_conflict_at_the_first_try_is_believed(script: tuple[bytes | type[NATSError], ...]) -> None:
    with pytest.raises(WrongLastSequenceError) as raised:
        World(*script).publish(ID, find_stored=found(DOUBLE))
    assert raised.value.outcome == "failed"


def test_an_acknowledgement_that_came_with_the_time_out_counts() -> None:
    operation = publish_operation("orders.new", now=lambda: 1.0)
    request = next(operation)
    assert isinstance(request, Request)
    assert request.accept is not None
    assert request.accept(Message("_INBOX.x", 1, None, ACK))
    with pytest.raises(StopIteration) as end:
        operation.throw(NATSTimeoutError("too late"))
    assert end.value.value == STORED


def test_an_acknowledgement_that_came_with_the_time_out_of_a_first_try_counts() -> None:
    first = FirstTry("orders.new", b"x", seconds=5.0, began=1.0)
    assert first(Message("_INBOX.x", 1, None, ACK))
    operation = first.go_on(NATSTimeoutError("too late"), now=lambda: 6.0)
    with pytest.raises(StopIteration) as end:
        next(operation)
    assert end.value.value == first.ack == STORED


def test_every_try_sends_what_was_given_first() -> None:
    buffer = bytearray(b"first")
    operation = publish_operation("orders.new", buffer, now=lambda: 1.0)
    buffer[:] = b"other"
    first = next(operation)
    assert isinstance(operation.throw(NoRespondersError("nobody", "orders.new")), Pause)
    second = operation.send(None)
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.data == second.data == b"first"
    operation.close()


@pytest.mark.parametrize("wrong", ["timeout", "retry_for", "duplicate_window"])
def test_times_that_are_none(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        publish_operation("a", now=lambda: 1.0, **{wrong: float("nan")})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=wrong):
        publish_operation("a", now=lambda: 1.0, **{wrong: "5"})  # type: ignore[arg-type]
