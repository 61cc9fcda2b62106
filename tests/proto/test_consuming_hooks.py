"""Hooks, and what a consumer's figures are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nats_proto import Headers, Message
from nats_proto._consuming.hooks import HookCalls, Hooks
from nats_proto._consuming.stats import Tally
from nats_proto._consuming.warning import ConsumerWarning
from nats_proto._jetstream.consumer_config import ConsumerConfig
from nats_proto._jetstream.consumer_info import ConsumerInfo


async def asynchronous(*_: object) -> None:
    """Nobody awaits this."""


def generator(*_: object) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("name", ["publish", "received", "settled", "warned"])
@pytest.mark.parametrize(
    ("wrong", "text"),
    [(7, "must be callable, not int"), (asynchronous, "nothing awaits it"), (generator, "generator function")],
)
def test_what_cannot_be_a_hook(name: str, wrong: Callable[..., object], text: str) -> None:
    with pytest.raises(TypeError, match=f"hooks: {name} cannot be used, .*{text}"):
        Hooks(**{name: wrong})  # type: ignore[arg-type]  # that is what is tested


@pytest.mark.parametrize("headers", [None, {"A": "b"}, [("A", "b")], Headers({"A": "b"})])
def test_headers_are_those_of_the_caller_without_a_hook(headers: object) -> None:
    assert Hooks().headers_for("a", headers) is headers  # type: ignore[arg-type, var-annotated]  # all that may be given


@pytest.mark.parametrize("headers", [None, {"A": "b"}, [("A", "b")], Headers({"A": "b"})])
def test_a_hook_gets_headers_of_its_own(headers: object) -> None:
    """What the caller passed is not changed by a hook that adds to what it gets."""
    given = Headers(headers)  # type: ignore[arg-type]  # all that may be given
    got: list[tuple[str, Headers | None]] = []

    def hook(subject: str, headers: Headers | None) -> Headers:
        got.append((subject, headers and Headers(headers)))
        headers = Headers() if headers is None else headers
        headers.add("Trace", "1")
        return headers

    made = Hooks(publish=hook).headers_for("a", headers)  # type: ignore[arg-type, var-annotated]  # as above
    assert got == [("a", None if headers is None else given)]
    assert made == Headers([*given.items(), ("Trace", "1")])
    assert headers is None or Headers(headers) == given  # type: ignore[arg-type]  # as above


def test_what_readers_are_told_is_counted_by_kind() -> None:
    info = ConsumerInfo(
        stream_name="S", name="c", config=ConsumerConfig(), num_pending=1, num_ack_pending=2, num_redelivered=3,
        num_waiting=4,
    )  # fmt: skip
    tally = Tally()
    before = tally.stats(info)
    assert (dict(before.warnings), before.last_warning, before.missed_heartbeats) == ({}, None, 0)
    for kind in ("no_heartbeat", "gap", "no_heartbeat"):
        tally.add(ConsumerWarning(kind, "text"))  # type: ignore[arg-type]  # each is one
    after = tally.stats(info)
    assert dict(after.warnings) == {"no_heartbeat": 2, "gap": 1}
    assert after.last_warning == ConsumerWarning("no_heartbeat", "text")
    assert (after.pending, after.ack_pending, after.redelivered, after.waiting) == (1, 2, 3, 4)
    assert after.missed_heartbeats == 2
    assert not before.warnings  # it is what it was


MESSAGE = Message("a", 1, None, b"")
WARNING = ConsumerWarning("gap", "a gap")
TOLD = [
    ("received", lambda calls: calls.received(MESSAGE), (MESSAGE,)),
    ("settled", lambda calls: calls.settled(MESSAGE, "nak"), (MESSAGE, "nak")),
    ("warned", lambda calls: calls.warned(WARNING), (WARNING,)),
]


@pytest.mark.parametrize(("name", "tell", "told"), TOLD, ids=[row[0] for row in TOLD])
def test_a_hook_is_told_and_what_it_raises_is_logged(
    name: str, tell: Callable[[HookCalls[Message]], None], told: tuple[object, ...]
) -> None:
    seen: list[tuple[object, ...]] = []
    logged: list[tuple[str, Exception]] = []
    wrong = RuntimeError("wrong")

    def hook(*what: object) -> None:
        seen.append(what)
        if len(seen) > 1:
            raise wrong

    calls: HookCalls[Message] = HookCalls(Hooks(**{name: hook}), lambda text, error: logged.append((text, error)))
    tell(calls)
    assert (seen, logged) == ([told], [])
    tell(calls)
    assert logged == [(f"the hook {name!r} raised", wrong)]
    for other, tell_other, _ in TOLD:
        if other != name:
            tell_other(calls)  # for which there is no hook
    assert len(seen) == 2
