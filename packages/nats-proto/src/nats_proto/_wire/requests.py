"""Requests whose replies are awaited, each found by the last word of its reply subject, its key.

A program that asks all the time opens requests and completes them, so these two are written with as little work as
Python allows. What is not as it nearly always is, a publish that the tail leaves or a reply that is not plain, is left
to whoever is given for that. Everything else about the replies of a session is the inbox's, which has the same dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

import msgspec

from .frames import Message, Payload
from .headers import HeadersLike
from .tail import Tail

__all__ = ["KEY_LENGTH", "Accept", "Requests", "Waiting"]

KEY_LENGTH: Final = 16
"""Hexadecimal digits of what tells one reply subject from another."""

Accept = Callable[[Message], bool]
"""Whether a message is the answer that is waited for. Called with the same one twice, maybe."""
Send = Callable[[str, Payload, str, HeadersLike | None], object]
CompletionT = TypeVar("CompletionT")


class Waiting(msgspec.Struct, gc=False):
    """A request: the number that its caller knows it by, and what it was sent to."""

    token: int
    subject: str
    accept: Accept | None


class Requests(Generic[CompletionT]):
    """The requests of one session that are waited for.

    ``base`` is a reply subject without its key, and ``draw`` gives the digits of many keys. What ``tail`` does not take
    is published by ``otherwise``, or refused by raising. ``completed`` makes what stands for a reply, of a token and
    the message.
    """

    __slots__ = (
        "_at",
        "_base",
        "_completed",
        "_draw",
        "_drawn",
        "_next_token",
        "_otherwise",
        "_start",
        "_tail",
        "subscribed",
        "tokens",
        "waiting",
    )

    def __init__(
        self,
        base: str,
        draw: Callable[[], str],
        tail: Tail,
        otherwise: Send,
        completed: Callable[[int, Message], CompletionT],
    ) -> None:
        self._base = base
        self._start = len(base)
        self._draw = draw
        self._drawn: str = ""
        self._at = 0
        """Digits of those drawn that have been used."""
        self._tail = tail
        self._otherwise = otherwise
        self._completed = completed
        self._next_token = 1
        self.subscribed = False
        """Replies will come. Else every request is published by ``otherwise``, which sees to that."""
        self.waiting: dict[str, Waiting] = {}
        """By their keys."""
        self.tokens: dict[int, str] = {}
        """The key of each, by its token. One may be gone without the other: a signal can end a caller in between."""

    def ask(self, subject: str, data: Payload, headers: HeadersLike | None, accept: Accept | None) -> int:
        """Publish a new request: its token. Nothing is remembered of one that is refused."""
        key = self._next_key()
        reply = self._base + key
        if not self.subscribed or not self._tail.publish(subject, data, reply, headers):
            self._otherwise(subject, data, reply, headers)
        return self._remember(key, subject, accept)

    def ask_quickly(self, subject: str, data: Payload, headers: HeadersLike | None, accept: Accept | None) -> int:
        """`ask`, where the tail takes the publish; 0 leaves it to `ask`, and nothing has changed. Raises nothing."""
        tail = self._tail
        if not self.subscribed or tail.size >= tail.limit:
            return 0
        key = self._next_key()
        if not tail.publish(subject, data, self._base + key, headers):
            return 0
        return self._remember(key, subject, accept)

    def _next_key(self) -> str:
        """One that nobody has had, and that nobody can guess."""
        if self._at == len(self._drawn):
            self._drawn = self._draw()
            self._at = 0
        at = self._at
        self._at = at + KEY_LENGTH
        return self._drawn[at : at + KEY_LENGTH]

    def _remember(self, key: str, subject: str, accept: Accept | None) -> int:
        token = self._next_token
        self._next_token = token + 1
        self.waiting[key] = Waiting(token, subject, accept)
        self.tokens[token] = key
        return token

    def answer(self, message: Message, token: int = 0) -> CompletionT | None:
        """What stands for this reply, if it is a plain one (to the request with this token, if there is one).

        None: nothing has changed.
        """
        key = message.subject[self._start :]
        waiting = self.waiting.get(key)
        if waiting is None or waiting.accept is not None or message.header_block is not None:
            return None
        if token and token != waiting.token:
            return None
        del self.waiting[key]
        self.tokens.pop(waiting.token, None)
        return self._completed(waiting.token, message)

    def complete(
        self, messages: Iterable[Message], otherwise: Callable[[Message], CompletionT | None]
    ) -> list[CompletionT]:
        """What stands for these replies, in order; ``otherwise`` says it of each that is not plain, None: nothing."""
        completions: list[CompletionT] = []
        for message in messages:
            completion = self.answer(message)
            if completion is None:
                completion = otherwise(message)
            if completion is not None:
                completions.append(completion)
        return completions
