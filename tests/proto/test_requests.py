"""Requests and their replies, as both twins keep them: tokens, keys, and what is left to others."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from nats_proto import Message
from tests.twins import COMPILED, PURE, Twin

BASE = "_INBOX.abc."
KEYS = [f"{number:016x}" for number in range(1, 9)]


class World:
    """A tail that takes what is right, and what the requests have asked others for."""

    def __init__(self, twin: Twin, *, subscribed: bool = True, at_once: int = 4) -> None:
        heads: dict[str, bytes] = {"a": b"PUB a "}
        self.tail = twin.tail(heads)
        self.tail.restrict(1000, 100)
        self.tail.limit = 10_000
        self.at_once = at_once
        self.drawn = 0
        self.while_drawing: Callable[[], object] = int
        self.sent: list[tuple[object, ...]] = []
        self.refusal: Exception | None = None
        self.requests = twin.requests(BASE, self.draw, self.tail, self.send, lambda token, message: (token, message))
        self.requests.subscribed = subscribed

    def draw(self) -> str:
        first = self.drawn + 1
        self.drawn += self.at_once
        self.while_drawing()
        return "".join(f"{number:016x}" for number in range(first, first + self.at_once))

    def send(self, *given: object) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.sent.append(given)

    def written(self) -> bytes:
        return b"".join(self.tail.take()[0])

    @property
    def state(self) -> tuple[object, ...]:
        waiting = {key: (each.token, each.subject, each.accept) for key, each in self.requests.waiting.items()}
        return list(waiting.items()), list(self.requests.tokens.items()), self.sent, self.tail.size

    def complete(self, *messages: Message) -> tuple[list[Any], list[Message]]:
        """What stands for them, and which of them were left."""
        left: list[Message] = []

        def otherwise(message: Message) -> str | None:
            left.append(message)
            return message.data.decode() or None

        return self.requests.complete(messages, otherwise), left


@pytest.fixture
def world(twin: Twin) -> World:
    return World(twin)


def reply(key: str, data: bytes = b"x", block: bytes | None = None) -> Message:
    return Message(BASE + key, 1, None, data, block)


@pytest.mark.parametrize("ask", ["ask", "ask_quickly"])
def test_a_request_is_published_with_a_reply_subject_of_its_own(world: World, ask: str) -> None:
    accept = bool
    tokens = [getattr(world.requests, ask)("a", b"hi", None, [None, accept][number % 2]) for number in range(6)]
    assert tokens == [1, 2, 3, 4, 5, 6]
    assert world.written() == b"".join(b"PUB a _INBOX.abc.%b 2\r\nhi\r\n" % key.encode() for key in KEYS[:6])
    assert world.state[:3] == (
        [(key, (number, "a", [accept, None][number % 2])) for number, key in enumerate(KEYS[:6], 1)],
        [(number, key) for number, key in enumerate(KEYS[:6], 1)],
        [],
    )


LEFT: list[tuple[str, tuple[Any, Any, Any]]] = [
    ("headers", ("a", b"", {"a": "b"})),
    ("no head", ("a b", b"", None)),
    ("no text", (b"a", b"", None)),
    ("no bytes", ("a", bytearray(b"x"), None)),
    ("too large", ("a", b"x" * 101, None)),
]


@pytest.mark.parametrize("publish", [publish for _, publish in LEFT], ids=[name for name, _ in LEFT])
def test_what_the_tail_leaves_is_left(world: World, publish: tuple[Any, Any, Any]) -> None:
    before = world.state
    assert world.requests.ask_quickly(*publish, None) == 0
    assert world.state == before
    assert world.requests.ask(*publish, None) == 1
    subject, data, headers = publish
    assert world.sent == [(subject, data, BASE + KEYS[1], headers)]
    assert list(world.requests.tokens.values()) == [KEYS[1]]
    assert world.requests.waiting[KEYS[1]].subject == subject


@pytest.mark.parametrize("why", ["not subscribed", "no room"])
def test_where_the_session_has_to_look_first_nothing_is_taken_quickly(world: World, why: str) -> None:
    if why == "no room":
        world.tail.limit = 0
    else:
        world.requests.subscribed = False
    before = world.state
    assert world.requests.ask_quickly("a", b"", None, None) == 0
    assert world.state == before
    assert world.drawn == 0
    assert world.requests.ask("a", b"", None, None) == 1
    assert world.sent == [("a", b"", BASE + KEYS[0], None)]
    assert world.tail.size == 0


def test_nothing_is_remembered_of_a_request_that_is_refused(world: World) -> None:
    world.requests.subscribed = False
    world.refusal = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        world.requests.ask("a", b"", None, None)
    assert world.state == ([], [], [], 0)
    world.refusal = None
    assert world.requests.ask("a", b"", None, None) == 1
    assert world.requests.tokens == {1: KEYS[1]}  # a key that may have been seen is not used again


@pytest.mark.parametrize("ask", ["ask", "ask_quickly"])
def test_no_key_is_used_twice_by_who_asks_while_keys_are_drawn(world: World, ask: str) -> None:
    def finalizer() -> None:
        world.while_drawing = int
        getattr(world.requests, ask)("a", b"", None, None)

    world.while_drawing = finalizer
    for _ in range(8):
        getattr(world.requests, ask)("a", b"", None, None)
    assert len(world.requests.waiting) == len(set(world.requests.tokens.values())) == 9


@pytest.mark.parametrize("ask", ["ask", "ask_quickly"])
def test_what_the_drawing_raises_comes_out_and_changes_nothing(world: World, ask: str) -> None:
    def fail() -> None:
        raise OSError("no random bits")

    world.while_drawing = fail
    before = world.state
    with pytest.raises(OSError, match="no random bits"):
        getattr(world.requests, ask)("a", b"", None, None)
    assert world.state == before
    world.while_drawing = int
    assert getattr(world.requests, ask)("a", b"", None, None) == 1


def test_plain_replies_are_completed_in_the_order_in_which_they_come(world: World) -> None:
    for _ in range(6):
        world.requests.ask("a", b"", None, None)
    order = [3, 0, 5, 1]
    messages = [reply(KEYS[number]) for number in order]
    completions, left = world.complete(*messages)
    assert completions == [(number + 1, message) for number, message in zip(order, messages, strict=True)]
    assert all(got is message for (_, got), message in zip(completions, messages, strict=True))
    assert left == []
    assert world.state[:2] == (
        [(KEYS[2], (3, "a", None)), (KEYS[4], (5, "a", None))],
        [(3, KEYS[2]), (5, KEYS[4])],
    )


def test_all_other_replies_are_left_where_they_stand(world: World) -> None:
    world.requests.ask("a", b"", None, None)
    world.requests.ask("a", b"", None, bool)
    world.requests.ask("a", b"", None, None)
    accepted = reply(KEYS[1], b"accept")
    block = reply(KEYS[0], b"block", b"NATS/1.0\r\n\r\n")
    plain = reply(KEYS[2], b"plain")
    again = reply(KEYS[2], b"")
    unknown = [reply(key, b"unknown") for key in ("", "zz", KEYS[3], KEYS[2].upper() + "0", KEYS[2][:-1])]
    before = world.state[:2]
    completions, left = world.complete(accepted, plain, block, again, *unknown)
    assert completions == ["accept", (3, plain), "block", *["unknown"] * 5]  # what stands for nothing is left out
    assert left == [accepted, block, again, *unknown]
    assert world.state[:2] == (before[0][:2], before[1][:2])  # type: ignore[index]


@pytest.mark.parametrize("token", [0, 2])
def test_one_plain_reply_is_completed_where_it_is_the_one(world: World, token: int) -> None:
    for accept in (None, None, bool):
        world.requests.ask("a", b"", None, accept)
    before = world.state
    left = [reply("zz"), reply(""), reply(KEYS[2]), reply(KEYS[1], block=b"NATS/1.0\r\n\r\n")]
    if token:
        left.append(reply(KEYS[0]))
    for message in left:
        assert world.requests.answer(message, token) is None
        assert world.state == before
    plain = reply(KEYS[1])
    answer = world.requests.answer(plain, token) if token else world.requests.answer(plain)
    assert answer == (2, plain)
    assert answer[1] is plain
    assert world.state[:2] == (
        [(KEYS[0], (1, "a", None)), (KEYS[2], (3, "a", bool))],
        [(1, KEYS[0]), (3, KEYS[2])],
    )
    assert world.requests.answer(plain, token) is None


def test_a_request_whose_token_is_gone_is_completed_all_the_same(world: World) -> None:
    world.requests.ask("a", b"", None, None)
    del world.requests.tokens[1]
    message = reply(KEYS[0])
    assert world.complete(message) == ([(1, message)], [])
    assert not world.requests.waiting


def test_what_the_others_raise_comes_out(world: World) -> None:
    def otherwise(message: Message) -> None:
        raise ValueError("no")

    world.requests.ask("a", b"", None, None)
    with pytest.raises(ValueError, match="no"):
        world.requests.complete([reply(KEYS[0]), reply("zz")], otherwise)
    assert not world.requests.waiting


@pytest.mark.parametrize("seed", range(20))
def test_both_do_the_same(seed: int) -> None:
    def played(twin: Twin) -> list[object]:
        rng = random.Random(seed)
        world = World(twin, subscribed=seed % 4 > 0, at_once=rng.randrange(1, 9))
        told: list[object] = []
        for _ in range(200):
            choice = rng.randrange(6)
            if choice < 3:
                subject, data, headers = rng.choice([("a", b"x", None), *(publish for _, publish in LEFT)])
                accept = rng.choice([None, None, bool])
                told.append(getattr(world.requests, ("ask", "ask_quickly")[choice % 2])(subject, data, headers, accept))
            elif choice == 3:
                world.requests.subscribed = rng.random() < 0.9
                world.tail.limit = rng.choice([0, 10_000, 100_000])
            elif choice == 4:
                key = rng.choice([*world.requests.waiting, "zz"])
                token = rng.choice([0, *world.requests.tokens])
                told.append(
                    world.requests.answer(reply(key, b"y", rng.choice([None, None, b"NATS/1.0\r\n\r\n"])), token)
                )
            else:
                keys = [rng.choice([*world.requests.waiting, "zz"]) for _ in range(rng.randrange(5))]
                block = rng.choice([None, None, b"NATS/1.0\r\n\r\n"])
                told.append(world.complete(*(reply(key, b"y", block) for key in keys)))
            told.append(world.state)
        return [*told, world.written()]

    if COMPILED is None:
        pytest.skip("the compiled module is not built")
    assert played(COMPILED) == played(PURE)
