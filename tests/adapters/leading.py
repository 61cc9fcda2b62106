"""What the tests of callers who lead share: a server to the letter, and a hand on each point of a lead."""

from __future__ import annotations

import contextlib
import re
import select
import threading
from collections.abc import Callable, Iterator

import pytest

from nats_proto import Session
from nats_sync import Client
from nats_sync._engine import turns as _turns
from nats_sync._engine.hub import Hub
from nats_sync._engine.turns import Lead, Turn, Turns
from tests.faults.peer import Connection, Step, loop

__all__ = [
    "ECHO",
    "MARK",
    "NO_RESPONDERS",
    "POINTS",
    "always",
    "answers",
    "at",
    "can_be_led",
    "in_background",
    "leads",
    "leads_of",
    "nothing_to_read",
    "replies",
    "silent",
    "tireless",
    "undisturbed",
]

MARK = pytest.mark.skipif(not hasattr(select, "epoll"), reason="without epoll nobody leads")

REQUEST = re.compile(rb"PUB (?P<subject>\S+) (?P<reply>_INBOX\S+) \d+\r\n[^\r]*\r\n")
NO_RESPONDERS = b"NATS/1.0 503\r\n\r\n"


@pytest.fixture
def tireless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leading is never left alone."""
    monkeypatch.setattr(_turns, "MAX_REST", 0)


@pytest.fixture
def undisturbed(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the manager does not take it away from a caller who has led for some time, as on a busy machine."""
    monkeypatch.setattr(_turns, "PATROL", 60.0)


@pytest.fixture
def always(tireless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it lasts until something ends it."""
    monkeypatch.setattr(_turns, "LEAD", 60.0)


def replies(connection: Connection) -> str:
    """Where the answer to the next request goes."""
    match = REQUEST.match(connection.expect(REQUEST))
    assert match is not None
    return match["reply"].decode()


def answers(*around: bytes) -> Step:
    """Answer one request with what is around the answer ``@``, each item in a segment of its own."""

    def step(connection: Connection) -> None:
        reply = replies(connection).encode()
        for item in around:
            connection.send(item.replace(b"@", b"MSG %b 1 2\r\nOK\r\n" % reply))

    return step


def silent(connection: Connection) -> None:
    """Take one request and say nothing."""
    replies(connection)


ECHO = loop(answers(b"@"))


def leads(client: Client) -> bool:
    return client._turns.turn in (Turn.LED, Turn.LED_AWAITED, Turn.LED_OWED)


def leads_of(client: Client) -> list[Lead]:
    """The leads that there have been from now on: a state that lasts a moment may be over before anybody looks."""
    found: list[Lead] = []
    turns = client._turns
    lead = turns.lead

    def remember() -> Lead | None:
        taken = lead()
        if taken is not None:
            found.append(taken)
        return taken

    turns.lead = remember  # type: ignore[method-assign]
    return found


def can_be_led(client: Client) -> bool:
    """The manager has taken what it was to take, and sleeps."""
    return client._turns.turn is Turn.FREE


def nothing_to_read(client: Client) -> bool:
    """The manager has taken all that has arrived, and given it to the session."""
    watched = client._turns.watched
    return watched is not None and not select.select([watched], [], [], 0)[0] and can_be_led(client)


def in_background(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A thread that calls, and what came of it."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


POINTS: dict[str, tuple[object, str]] = {
    "lead": (Turns, "lead"),
    "take_reply": (Turns, "take_reply"),
    "receive": (Lead, "receive"),
    "receive from the socket": (_turns, "permitted"),
    "take the reply": (Session, "take_reply"),
    "complete": (Hub, "complete"),
    "free": (Turns, "_end_lead"),
}


@contextlib.contextmanager
def at(monkeypatch: pytest.MonkeyPatch, point: str, when: str, handler: Callable[[], object]) -> Iterator[list[int]]:
    """Call ``handler`` once, in the main thread, before or after what is called at this point; how often it was."""
    holder, name = POINTS[point]
    real = getattr(holder, name)
    called: list[int] = []

    def call(*args: object, **kwargs: object) -> object:
        mine = threading.current_thread() is threading.main_thread() and not called
        if mine and when == "before":
            called.append(1)
            handler()
        result = real(*args, **kwargs)
        if mine and when == "after":
            called.append(1)
            handler()
        return result

    def iterate(*args: object) -> Iterator[bytes]:
        """In the midst of the C call. A worker who watches makes it as well, in a thread without signal handlers."""
        first = threading.current_thread() is threading.main_thread() and not called
        if first and when == "before":
            called.append(1)
            handler()
        yield from real(*args)
        if first and when == "after":
            called.append(1)
            handler()

    with monkeypatch.context() as patched:
        patched.setattr(holder, name, iterate if name == "permitted" else call)
        yield called
