"""A bucket in memory: what a mapping shows after what has happened, and when its server was last heard."""

from __future__ import annotations

from collections import deque

import pytest

from nats_proto import Message
from nats_proto._jetstream.errors import JetStreamDecodeError
from nats_proto._keyvalue.view import LiveMapping, ViewWatch
from nats_proto._keyvalue.watch import WatchOptions
from nats_proto._wire.headers import Headers
from tests.proto.keyvalue import Stream

REPLY = "$JS.ACK.KV_B.C.1.1.1.1.0"
BEAT = Message("in", 1, None, b"", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n")
OTHER = Message("in", 1, None, b"", b"NATS/1.0 408 Request Timeout\r\n\r\n")
MARK = Message("", 1, None, b"", None)


class Typed:
    """A mapping of numbers."""

    def __init__(self) -> None:
        self.bucket = Stream().bucket.typed(int)
        self.view: LiveMapping[int] = LiveMapping()
        self.revision = 0

    def put(self, key: str, data: bytes, **headers: str) -> None:
        self.revision += 1
        lines = Headers({name.replace("_", "-"): value for name, value in headers.items()})
        entry = self.bucket.entry(f"$KV.B.{key}", data, lines, self.revision, 0, 0)
        assert entry is not None
        self.view._put(entry)


def test_a_mapping() -> None:
    typed = Typed()
    view = typed.view
    assert dict(view) == {}
    typed.put("a", b"1")
    typed.put("b", b"2")
    assert view["a"] == view["a"] == 1
    assert (len(view), "a" in view, "c" in view, view.get("c")) == (2, True, False, None)
    typed.put("a", b"3")
    assert view["a"] == 3
    assert view.entry("a").revision == 3
    assert dict(view) == view.copy() == {"a": 3, "b": 2}
    typed.put("a", b"", KV_Operation="DEL")
    typed.put("a", b"", KV_Operation="PURGE")
    with pytest.raises(KeyError):
        view["a"]
    with pytest.raises(KeyError):
        view.entry("a")
    typed.put("b", b"", Nats_Marker_Reason="MaxAge")
    assert list(view) == []


def test_a_loop_goes_over_a_copy() -> None:
    typed = Typed()
    for key in "abc":
        typed.put(key, b"1")
    for loop in (typed.view, typed.view.items(), typed.view.values(), typed.view.keys()):
        for _ in loop:
            typed.put("z", b"2")
            typed.put("a", b"", KV_Operation="DEL")
            typed.put("y", b"2")
    assert sorted(typed.view) == ["b", "c", "y", "z"]


def test_a_value_that_cannot_be_read_is_told_when_it_is_asked_for() -> None:
    typed = Typed()
    typed.put("a", b"1")
    typed.put("bad", b"{")
    assert len(typed.view) == 2
    assert typed.view["a"] == 1
    for _ in range(2):
        with pytest.raises(JetStreamDecodeError, match="value of key 'bad' of bucket 'B'"):
            typed.view["bad"]


@pytest.mark.parametrize(
    ("message", "heard"), [(Message("$KV.B.a", 1, REPLY, b"", None), True), (BEAT, True), (OTHER, False)]
)
@pytest.mark.parametrize("at_once", [True, False])
def test_when_the_server_was_heard(message: Message, heard: bool, at_once: bool) -> None:
    watch: ViewWatch[Message, bytes] = ViewWatch(Stream().bucket, WatchOptions(), now=10.0)
    assert watch.heard == -float("inf")
    if at_once:
        watch.receive_all(deque([message]), lambda: None, now=20.0)
        watch.receive_all(deque(), lambda: None, now=30.0)
        watch.receive_all(deque([MARK]), lambda: None, now=30.0)
    else:
        watch.receive(message, now=20.0)
    assert watch.heard == (20.0 if heard else -float("inf"))
