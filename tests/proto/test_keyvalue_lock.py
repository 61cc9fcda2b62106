"""A lock on a key: who has it, until when, and how its holder is told that it has it no more."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto import Request
from nats_proto._jetstream.stream_config import StreamConfig
from nats_proto._json.durations import Timestamp
from nats_proto._keyvalue.bucket import KeyValueConfig, stream_of
from nats_proto._keyvalue.entry import KeyValueEntry
from nats_proto._keyvalue.errors import InvalidKeyError, LockLostError
from nats_proto._keyvalue.lock import Lease
from nats_proto._keyvalue.watch import InitialValuesDone
from nats_proto._wire.headers import Headers
from nats_proto.errors import ConnectionClosedError, LocalProtocolError, NATSTimeoutError, PermissionsError
from tests.proto.keyvalue import Stream, refusal

CONFIG = stream_of(KeyValueConfig(bucket="B", limit_marker_ttl=60))
KEY = "$KV.B.k"
SILENCE = NATSTimeoutError("silence")


def world(config: StreamConfig = CONFIG) -> Stream:
    return Stream(config)


def lease(stream: Stream, holder: str = "me", ttl: float | timedelta = 9.0) -> Lease:
    return Lease(stream.bucket, "k", ttl, holder)


def held(stream: Stream | None = None) -> tuple[Stream, Lease]:
    stream = stream or world()
    one = lease(stream)
    assert stream.run(one.take(5.0)) is True
    return stream, one


def stored(stream: Stream) -> tuple[int, bytes, Headers]:
    number = stream._last(KEY)
    _, data, headers = stream.messages[number]
    return number, data, headers


def expire(stream: Stream) -> int:
    """As a server does it: the marker is the key's last message."""
    stream.messages = {number: one for number, one in stream.messages.items() if one[0] != KEY}
    return stream.write("k", b"", Nats_Marker_Reason="MaxAge")


def lose_answers(stream: Stream, count: int) -> None:
    """So many writes are stored, and their acknowledgements are lost."""
    real: Any = type(stream)._publish
    left = [count]

    def publish(subject: str, request: Any) -> Any:
        answer = real(stream, subject, request)
        if left[0]:
            left[0] -= 1
            raise NATSTimeoutError("silence")
        return answer

    stream._publish = publish  # type: ignore[method-assign]


def entry(stream: Stream) -> KeyValueEntry[bytes]:
    number, data, headers = stored(stream)
    made = stream.bucket.entry(KEY, data, headers, number, Timestamp.from_nanoseconds(0), 0)
    assert made is not None
    return made


def test_what_is_written() -> None:
    stream = world()
    one = lease(stream, "node-1", 1.5)
    assert one.over
    assert not one.held(stream.now)
    assert one.next_timeout() is None
    assert stream.run(one.take(5.0))
    number, data, headers = stored(stream)
    assert msgspec.json.decode(data)["holder"] == "node-1"
    assert headers.get("Nats-TTL") == "2"  # servers count whole seconds
    assert headers.get("Nats-Expected-Last-Subject-Sequence") == "0"
    assert (one.token, one.revision) == (number, number) == (1, 1)
    assert one.held(stream.now)
    stream.now += 0.5
    assert stream.run(one.renew()) is None
    number, again, headers = stored(stream)
    assert (again, headers.get("Nats-TTL")) == (data, "2")
    assert (one.token, one.revision) == (1, 2)


@pytest.mark.parametrize(
    ("key", "ttl", "holder", "error"),
    [
        ("a b", 5, "", InvalidKeyError),
        ("", 5, "", InvalidKeyError),
        ("k", 0.5, "", ValueError),
        ("k", 86_401, "", ValueError),
        ("k", "5", "", TypeError),
        ("k", 5, b"me", TypeError),
        ("k", 5, "x" * 257, ValueError),
    ],
)
def test_what_cannot_be(key: str, ttl: Any, holder: Any, error: type[Exception]) -> None:
    stream = world()
    with pytest.raises(error):
        Lease(stream.bucket, key, ttl, holder)
    assert stream.asked == []


def test_a_bucket_whose_keys_cannot_expire() -> None:
    stream = world(stream_of(KeyValueConfig(bucket="B")))
    with pytest.raises(ValueError, match=r"lock key 'k' of bucket 'B': the bucket needs a limit_marker_ttl"):
        lease(stream)


@pytest.mark.parametrize(
    ("history", "markers", "ttl", "refused"),
    [(1, 60, 1.0, False), (1, 60, 59.0, False), (2, 60, 59.9, True), (2, 60, 60.0, False), (64, 1, 1.0, False)],
)
def test_a_bucket_whose_keys_live_longer_than_said(history: int, markers: float, ttl: float, refused: bool) -> None:
    """Servers raise a time to live to that of the markers where more than one value of a key is kept."""
    stream = world(stream_of(KeyValueConfig(bucket="B", history=history, limit_marker_ttl=markers)))
    with pytest.raises(ValueError, match="limit_marker_ttl of 60 s") if refused else contextlib.nullcontext():
        assert lease(stream, ttl=ttl).ttl == ttl


def test_one_holder_at_a_time() -> None:
    stream, first = held()
    second = lease(stream, "other")
    assert stream.run(second.take(5.0)) is False
    assert not second.held(stream.now)
    assert second.retry_at > stream.now + 9
    with pytest.raises(LocalProtocolError, match="held already"):
        stream.run(first.take(5.0))
    with pytest.raises(LocalProtocolError, match="not held"):
        stream.run(second.release(5.0))
    assert stream.run(first.release(5.0)) is None
    assert not first.held(stream.now)
    assert not first.lost(stream.now)
    assert stream.run(second.take(5.0)) is True
    assert second.token > first.token
    expire(stream)
    third = lease(stream)
    assert stream.run(third.take(5.0)) is True
    assert third.token > second.token


def test_what_a_watch_tells_of_a_lock() -> None:
    stream, one = held()
    other = lease(stream)
    assert not other.may_take(entry(stream))
    assert not other.may_take(InitialValuesDone(1))
    stream.run(one.release(5.0))
    assert other.may_take(entry(stream))
    assert lease(stream).may_take(InitialValuesDone(0))


def test_times() -> None:
    """Renewed three times in its time; it counts on nine tenths, from when it began to send."""
    stream = world()
    stream.faults.append(lambda stream: setattr(stream, "now", stream.now + 2.0))  # the answer takes long
    began = stream.now
    _, one = held(stream)
    assert one.next_timeout() == began + 3.0
    assert not one.look(began + 2.9)
    assert one.look(began + 3.0)
    assert one.held(began + 8.0)
    assert not one.held(began + 8.1)
    assert one.lost(began + 8.1)
    assert not one.over  # nobody has looked
    assert not one.look(began + 8.1)
    assert one.over
    assert one.next_timeout() is None
    with pytest.raises(LockLostError, match="could not be renewed in time") as raised:
        stream.run(one.release(5.0))
    assert (raised.value.bucket, raised.value.key, raised.value.token) == ("B", "k", 1)


def test_what_fails_by_itself_is_tried_again_until_it_is_too_late() -> None:
    stream, one = held()
    began = stream.now
    stream.now = began + 3.0
    tries = 0
    while not one.over:
        stream.faults.append(NATSTimeoutError("silence", outcome="unknown"))
        stream.run(one.renew())
        tries += 1
        due = one.next_timeout()
        if due is not None:
            assert stream.now < due <= began + 8.2
            stream.now = due
            one.look(stream.now)
    assert tries >= 4
    assert isinstance(one.error, LockLostError)
    assert isinstance(one.error.__cause__, NATSTimeoutError)
    assert "no acknowledgement" in str(one.error)


def test_a_renewal_that_succeeds_after_one_that_failed() -> None:
    stream, one = held()
    stream.now += 3.0
    stream.faults.append(SILENCE)
    stream.run(one.renew())
    stream.now += 1.0
    stream.run(one.renew())
    assert one.held(stream.now + 8.0)


def test_a_renewal_whose_answer_was_lost_is_known_again() -> None:
    stream, one = held()
    stream.now += 3.0
    lose_answers(stream, 1)
    stream.run(one.renew())
    assert one.held(stream.now)
    assert one.revision == 1
    assert not one.look(stream.now)
    stream.run(one.renew())
    assert one.revision == 2
    assert one.look(stream.now)  # at once, since it is not known when that was stored
    stream.run(one.renew())
    assert one.revision == 3
    assert one.held(stream.now + 8.0)
    assert stream.run(one.release(5.0)) is None


def test_a_release_after_a_renewal_whose_answer_was_lost() -> None:
    stream, one = held()
    lose_answers(stream, 1)
    stream.run(one.renew())
    assert stream.run(one.release(5.0)) is None
    assert entry(stream).deleted


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda stream: stream.run(stream.bucket.delete("k")), "its key was deleted"),
        (lambda stream: stream.run(stream.bucket.purge("k")), "its key was purged"),
        (expire, "its key has expired"),
        (lambda stream: stream.write("k", b"mine now"), "another one has it"),
    ],
)
@pytest.mark.parametrize("how", ["watch", "renew", "release"])
def test_it_is_lost_when_the_key_is_taken_away(change: Any, told: str, how: str) -> None:
    stream, one = held()
    change(stream)
    match how:
        case "watch":
            one.saw(entry(stream))
            assert told in str(one.error)
        case "renew":
            stream.run(one.renew())
            assert "taken away" in str(one.error)
        case _:
            with pytest.raises(LockLostError, match="taken away"):
                stream.run(one.release(5.0))
    assert not one.held(stream.now)
    assert one.lost(stream.now)
    before = len(stream.messages)
    stream.now += 3.0
    assert not one.look(stream.now)
    one.saw(entry(stream))
    with pytest.raises(LockLostError):
        stream.run(one.release(5.0))
    assert len(stream.messages) == before


def test_entries_of_its_own_hold() -> None:
    """They may come before the acknowledgement, after it, or in its place."""
    stream, one = held()
    one.saw(entry(stream))
    lose_answers(stream, 1)
    stream.run(one.renew())
    one.saw(entry(stream))
    assert (one.revision, one.over) == (2, False)
    stream.run(one.renew())
    assert one.revision == 3
    assert stream.run(one.release(5.0)) is None
    one.saw(entry(stream))
    assert not one.lost(stream.now)


def test_entries_from_before_its_own() -> None:
    stream, first = held()
    stream.run(first.release(5.0))
    marker = entry(stream)
    _, one = held(stream)
    one.saw(marker)
    assert one.held(stream.now)


def test_a_creation_that_was_not_answered() -> None:
    """The next try finds its own value, and writes it again, since it is not known when it was stored."""
    stream = world()
    one = lease(stream)
    lose_answers(stream, 1)
    with pytest.raises(NATSTimeoutError):
        stream.run(one.take(0.01))
    assert one.over
    assert stream.run(one.take(5.0)) is True
    assert (one.token, one.revision) == (1, 2)
    assert one.held(stream.now)


@pytest.mark.parametrize("end", ["other", "expired", "silence"])
def test_a_creation_that_was_not_answered_and_is_not_there(end: str) -> None:
    stream = world()
    one = lease(stream)
    lose_answers(stream, 1)
    with pytest.raises(NATSTimeoutError):
        stream.run(one.take(0.01))
    match end:
        case "other":
            stream.write("k", b"another one")
            assert stream.run(one.take(5.0)) is False
            expire(stream)
            assert stream.run(one.take(5.0)) is True
            assert one.token == one.revision == 4
        case "expired":
            # Between the look at it and the write.
            stream.faults.extend([None, None, None, lambda stream: expire(stream) and None])
            assert stream.run(one.take(5.0)) is False
        case _:
            stream.faults.extend([None, None, None, SILENCE])
            with pytest.raises(NATSTimeoutError):
                stream.run(one.take(5.0))
            assert stream.run(one.take(5.0)) is True


def test_a_creation_that_was_cancelled() -> None:
    """Nobody has waited for its answer: the next try knows it again all the same."""
    stream = world()
    one = lease(stream)
    effect = next(creation := one.take(5.0))
    assert isinstance(effect, Request)
    stream._answer(effect)
    creation.close()
    assert one.over
    assert stream.run(one.take(5.0)) is True
    assert (one.token, one.revision) == (1, 2)


def test_a_renewal_does_not_wait_for_longer_than_a_call() -> None:
    """Who leaves a block waits for it, however long the lock lives."""
    stream = world()
    one = lease(stream, ttl=3600)
    stream.run(one.take(5.0))
    effect = next(one.renew())
    assert isinstance(effect, Request)
    assert effect.timeout is not None
    assert 0 < effect.timeout <= 5.0


def test_a_creation_that_is_refused() -> None:
    stream = world()
    one = lease(stream)
    stream.faults.append(PermissionsError("no"))
    with pytest.raises(PermissionsError):
        stream.run(one.take(5.0))
    assert one.over


def test_another_write_is_on_its_way() -> None:
    """It may be refused: then the next renewal succeeds."""
    stream, one = held()
    stream.faults.append(refusal(10164, "wrong last sequence"))
    stream.run(one.renew())
    assert not one.over
    stream.now += 1.0
    stream.run(one.renew())
    assert one.held(stream.now + 8.0)
    stream.faults.extend([refusal(10164, "wrong last sequence"), SILENCE])
    stream.run(one.renew())
    assert not one.over


@pytest.mark.parametrize("faults", [[ConnectionClosedError("x")], [refusal(10071, "x"), ConnectionClosedError("x")]])
def test_a_client_that_is_closed(faults: list[Any]) -> None:
    stream, one = held()
    stream.faults.extend(faults)
    with pytest.raises(ConnectionClosedError):
        stream.run(one.renew())
    one.lose("the client is closed", None)
    assert one.lost(stream.now)


def test_a_release_that_was_not_answered() -> None:
    stream, one = held()
    stream.faults.extend([SILENCE] * 20)
    with pytest.raises(NATSTimeoutError):
        stream.run(one.release(0.01))
    assert one.over
    assert not one.lost(stream.now)


def test_a_release_that_finds_its_own_revision_refused() -> None:
    stream, one = held()
    stream.faults.extend([refusal(10164, "wrong last sequence"), None, refusal(10164, "wrong last sequence")])
    stream.run(one.release(5.0))
    assert entry(stream).deleted
    assert stream.pauses == [0.02, 0.02]
    stream, one = held()
    stream.faults.append(refusal(10164, "wrong last sequence"))
    with pytest.raises(LockLostError):
        stream.run(one.release(0.001))


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["take", "renew", "release", "lost answer", "silence", "wait", "steal"]), st.booleans()),
    max_size=30,
)


@given(ACTIONS)
def test_never_two_holders_and_tokens_grow(actions: list[tuple[str, bool]]) -> None:
    """Two rivals, a server that expires the key when its time is up, and everything that can get lost."""
    stream = world()
    rivals = lease(stream, "a"), lease(stream, "b")
    tokens: list[int] = []
    written: dict[int, float] = {}
    for action, which in actions:
        one = rivals[which]
        number = stream._last(KEY)
        if number and written.get(number, 0.0) + 9.0 <= stream.now and stream.messages[number][1]:
            expire(stream)
        match action:
            case "take" if one.over:
                try:
                    if stream.run(one.take(0.5)):
                        tokens.append(one.token)
                except NATSTimeoutError:
                    pass
            case "renew" if one.look(stream.now):
                stream.run(one.renew())
            case "release" if not one.over:
                with contextlib.suppress(LockLostError, NATSTimeoutError):
                    stream.run(one.release(0.5))
            case "lost answer":
                lose_answers(stream, 1)
            case "silence":
                stream.faults.append(SILENCE)
            case "steal":
                stream.write("k", b"mine")
            case _:
                stream.now += 2.5
        for number in stream.messages:
            written.setdefault(number, stream.now)
        holders = [rival for rival in rivals if rival.held(stream.now)]
        if action != "steal":
            assert len(holders) <= 1
    assert tokens == sorted(set(tokens))
