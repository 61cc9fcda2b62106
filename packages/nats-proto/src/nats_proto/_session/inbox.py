"""The request inbox: one wildcard subscription for all requests of a session, each reply found by its token.

The inbox has 22 random characters and every token 64 random bits, both from the session's random source, so that nobody
can answer, or listen to, another's request by guessing. A token is used once: the first reply resolves it, a second one
or a late one is counted and dropped. Answers are matched by token alone, never by being the only ones awaited. Who asks
may also say which replies count, where others may answer the same subject: what is not accepted is dropped like a late
one, and the wait goes on.

Of a request that the server refuses it names the subject alone: which ones those are is told in `refusals`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from .._interface.events import ReplyReceived, RequestFailed
from .._wire.frames import Message
from .._wire.requests import KEY_LENGTH, Accept, Send, Waiting
from .._wire.twin import Requests, Tail
from ..errors import NATSError, NoRespondersError
from .not_permitted import not_permitted
from .refusals import Refusals

if TYPE_CHECKING:
    import random

__all__ = ["Accept", "RequestInbox"]

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
INBOX_LENGTH: Final = 22
"""Characters of base 62: 131 bits, the length of a NUID, so inboxes look alike in all clients."""
KEYS_AT_ONCE: Final = 32
"""Drawn together: asking the system for random bits costs as much as all the rest of opening a request."""
NO_RESPONDERS: Final = 503


class RequestInbox:
    """The replies a session waits for."""

    __slots__ = (
        "_base",
        "_earlier",
        "_requests",
        "_rng",
        "_start",
        "_tokens",
        "_waiting",
        "ask",
        "ask_quickly",
        "dropped",
        "refusals",
        "sid",
        "subject",
    )

    def __init__(self, prefix: str, rng: random.Random, tail: Tail, otherwise: Send) -> None:
        self._rng = rng
        self.subject = f"{new_inbox(prefix, rng)}.*"
        self.sid: int | None = None
        """Of the wildcard subscription; None until the first request."""
        self._base = self.subject[:-1]
        """A reply subject without its key."""
        self._start = len(self._base)
        self._requests: Requests[ReplyReceived | RequestFailed] = Requests(
            self._base, self._draw_keys, tail, otherwise, ReplyReceived
        )
        self.ask = self._requests.ask
        self.ask_quickly = self._requests.ask_quickly
        self._waiting: dict[str, Waiting] = self._requests.waiting
        self._tokens: dict[int, str] = self._requests.tokens
        self.dropped = 0
        self.refusals: Refusals[Waiting] = Refusals(_number)
        """Of requests that are still waited for."""
        self._earlier = 0
        """The last request that may have gone over an earlier connection."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def subscribed(self) -> bool:
        """The server was asked for it, or will be with the next connection, and has not refused."""
        return self._requests.subscribed

    @subscribed.setter
    def subscribed(self, subscribed: bool) -> None:
        self._requests.subscribed = subscribed

    def _draw_keys(self) -> str:
        digits = KEY_LENGTH * KEYS_AT_ONCE
        # Padded with zeros: a small number would have fewer digits, and the last key would be short or empty.
        return f"{self._rng.getrandbits(4 * digits):0{digits}x}"

    def receive(self, message: Message) -> ReplyReceived | RequestFailed | None:
        """A message on the inbox: the completion it stands for, or None when nobody waits for it."""
        key = message.subject[self._start :]
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            self.dropped += 1
            return None
        # The server's own 503 has no payload (ADR-22). With one it is the answer of an application, given as it is.
        failed = message.header_block is not None and _nobody_responds(message)
        if waiting.accept is not None and not failed and not waiting.accept(message):
            self._waiting[key] = waiting
            self.dropped += 1
            return None
        self._tokens.pop(waiting.token, None)
        if failed:
            return RequestFailed(waiting.token, no_responders(waiting.subject))
        return ReplyReceived(waiting.token, message)

    def receive_all(self, messages: Iterable[Message]) -> list[ReplyReceived | RequestFailed]:
        """The completions that messages on the inbox stand for."""
        return self._requests.complete(messages, self.receive)

    def awaits(self, message: Message) -> bool:
        """Whether it is the reply to a request that is still waited for."""
        return message.subject[self._start :] in self._waiting

    def awaits_reply(self, reply: str, _now: float) -> bool:
        """Whether the request with this reply subject, which is one of the inbox, is still waited for."""
        return reply[self._start :] in self._waiting

    def take_reply(self, message: Message, token: int) -> ReplyReceived | RequestFailed | None:
        """`receive`, if that completes this request and no other; None: nothing has changed."""
        if self.refusals.subjects:
            return None  # an answer may tell that others were refused
        if message.sid != self.sid:
            return None
        plain = self._requests.answer(message, token)
        if plain is not None:
            return plain  # nearly always
        if message.subject[self._start :] != self._tokens.get(token):
            return None
        dropped = self.dropped
        completion = self.receive(message)
        if completion is None:
            self.dropped = dropped  # it is not taken, and will be received
        return completion

    def cancel(self, token: int) -> None:
        """The caller waits no longer; unknown tokens are ignored (the reply may just have come)."""
        key = self._tokens.pop(token, None)
        if key is None:
            return
        if self.refusals.subjects and key in self._waiting:
            self.refusals.take_possible(self._waiting[key])
        self._waiting.pop(key, None)

    def fail_all(self, error: NATSError) -> list[RequestFailed]:
        """Every request fails with ``error``."""
        failed = [RequestFailed(waiting.token, error) for waiting in self._waiting.values()]
        self._waiting.clear()
        self._tokens.clear()
        self.refusals.clear()
        return failed

    def fail_reply(self, reply: str, error: NATSError) -> RequestFailed | None:
        """The request with this reply subject fails, if it is one of ours and is still waited for."""
        waiting = self._waiting.get(self._key_of(reply))
        if waiting is None:
            return None
        self.cancel(waiting.token)
        return RequestFailed(waiting.token, error)

    def asked(self, subject: str) -> int:
        """The number of the newest request, if one to ``subject`` is waited for; else 0."""
        if any(waiting.subject == subject for waiting in list(self._waiting.values())):
            return self._newest
        return 0

    def fail_refused(self) -> list[RequestFailed]:
        """Those of which it is certain by now that the server has refused them."""
        failed: list[RequestFailed] = []
        for waiting, error in self.refusals.take_certain(list(self._waiting.values())):
            self.cancel(waiting.token)
            if waiting.token <= self._earlier:
                error = not_permitted(f"request to {waiting.subject!r}", error, replaced=True)
            failed.append(RequestFailed(waiting.token, error))
        return failed

    def connection_replaced(self) -> None:
        """What is waited for may have gone over the connection that was there."""
        self._earlier = self._newest

    @property
    def _newest(self) -> int:
        """The token of the newest request that is waited for."""
        tokens = list(self._tokens)
        return tokens[-1] if tokens else 0

    def _key_of(self, reply: str) -> str:
        """The key in a reply subject of the inbox; empty for any other."""
        return reply[self._start :] if reply.startswith(self._base) else ""


def _number(waiting: Waiting) -> int:
    return waiting.token


def new_inbox(prefix: str, rng: random.Random) -> str:
    """A subject nobody else has: ``<prefix>.<22 random characters>``."""
    # 132 bits cover all of 62**22 (131 bits), and one draw costs less than one for each character.
    number = rng.getrandbits(INBOX_LENGTH * 6)
    characters: list[str] = []
    for _ in range(INBOX_LENGTH):
        number, index = divmod(number, 62)
        characters.append(_ALPHABET[index])
    return f"{prefix}.{''.join(characters)}"


def _nobody_responds(message: Message) -> bool:
    if message.data or message.header_block is None:
        return False
    status = message.status
    return status is not None and status.code == NO_RESPONDERS


def no_responders(subject: str) -> NoRespondersError:
    """The error of a request that the server answered with status 503 and no payload (ADR-22)."""
    return NoRespondersError(f"no responders: nobody is subscribed to {subject!r}", subject)
