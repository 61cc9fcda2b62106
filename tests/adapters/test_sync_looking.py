"""The driver of threads gives in what has come, and does meanwhile what is wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from nats_proto import Message, Publish, Subscribe
from nats_sync._engine.driver import Driver

ONE_MORE = Publish("more")


class Inbox:
    """Four messages have come."""

    def __init__(self) -> None:
        self.unread = [Message(f"m{number}", 1, None, b"") for number in range(4)]

    def take_all(self, into: Callable[[Any], object]) -> None:
        into(self.unread)
        self.unread = []

    def arrivals(self) -> tuple[int, int]:
        return 0, 0


class Host:
    """What was published, between what was taken. ``room``: for what is published."""

    def __init__(self, done: list[str], *, room: bool) -> None:
        self.done = done
        self.room = room

    def open_inbox(self, subscribe: Subscribe) -> Inbox:
        return Inbox()

    def publish_now(self, subject: str, data: object, **given: object) -> bool:
        if self.room:
            self.done.append(subject)
        return self.room


class Taking:
    """A machine that takes two at a time, and wants one more message for them."""

    what = "take"
    done = False

    def __init__(self, taken: list[str]) -> None:
        self._taken = taken
        self.items: deque[object] = deque()
        self.wants: deque[object] = deque([Subscribe("in", 0, 0)])

    def receive_all(self, arrived: deque[Message], marked: Callable[[], None], *, now: float) -> None:
        self._taken.extend(arrived.popleft().subject for _ in range(2))
        self.wants.append(ONE_MORE)

    def next_timeout(self) -> None:
        return None

    def handle_timeout(self, *, now: float) -> None:
        pass


@pytest.mark.parametrize(
    ("do", "room", "order", "wanted"),
    [
        (True, True, ["m0", "m1", "more", "m2", "m3", "more"], 0),
        (False, True, ["m0", "m1", "m2", "m3"], 2),
        (True, False, ["m0", "m1", "m2", "m3"], 2),
    ],
)
def test_what_is_wanted_is_done_meanwhile(do: bool, room: bool, order: list[str], wanted: int) -> None:
    done: list[str] = []
    machine: Any = Taking(done)
    host: Any = Host(done, room=room)
    driver: Driver[Message, object] = Driver(host, machine)
    driver._do(None)
    driver.look(machine.receive_all, do=do)
    assert done == order
    assert len(machine.wants) == wanted
