"""What the statuses mean that a server sends to who asks a consumer for messages.

Theory of operation
-------------------
A status is a message without a payload whose header block begins with a code and a text. It comes to the reply subject
of the request that it speaks of, and has no reply subject itself; a message of a stream keeps the subject that it was
stored with and always has one. Code and text together tell what is meant; `_TABLE` has every text that servers of
versions 2.10 to 2.15 send. Texts are compared without regard to case.

Of some requests the server says how much was left of them when they ended: `Nats-Pending-Messages` and
`Nats-Pending-Bytes`. Of those that it refused at once it does not, but there it is known: all was left. Where it should
say it and does not, or says nonsense, the remainder is None: unknown.

All of this comes from outside. Whatever it is, `read_status` raises nothing.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final, Literal

from .._value import Value
from .._wire.frames import Message

__all__ = ["LimitName", "Meaning", "PullStatus", "last_delivered", "read_status"]


class Meaning(Enum):
    """What a status says of its request, or of its consumer."""

    HEARTBEAT = auto()
    """The request is known and waits."""
    FLOW_CONTROL = auto()
    """Of push consumers: answer when all before it was read."""
    EXPIRED = auto()
    """The request's time is up, or the server saw nobody at its reply subject."""
    NO_MESSAGES = auto()
    """There is none at the moment; only for requests that will not wait, or not any longer."""
    REQUESTS_PENDING = auto()
    """Requests that came before take all that there is; only for requests that will not wait."""
    MESSAGE_TOO_LARGE = auto()
    """The next message is larger than what is left of the request's ``max_bytes``."""
    COMPLETED = auto()
    """All messages that were asked for have come, and bytes are left over."""
    CONSUMER_DELETED = auto()
    PUSH_BASED = auto()
    """The consumer is none that can be asked."""
    LEADER_CHANGED = auto()
    """The server that knew of all requests is no longer in charge; the one that is knows of none."""
    SERVER_SHUTDOWN = auto()
    LIMIT = auto()
    """More was asked for in one request than the consumer allows."""
    MAX_WAITING = auto()
    """As many requests as the consumer allows are waiting already."""
    BAD_REQUEST = auto()
    API_LEVEL = auto()
    """The server is too old for what the request says that it needs."""
    UNPINNED = auto()
    """The request has the identity of a pinned client, and another client is pinned, or none."""
    NO_RESPONDERS = auto()
    """Nobody listens where requests to this consumer go: it does not exist, or has no leader at the moment."""
    UNKNOWN = auto()
    """A status of a newer server."""


LimitName = Literal["max_batch", "max_expires", "max_bytes"]
"""Which setting of the consumer a request exceeded."""


class PullStatus(Value, frozen=True):
    """One status as it was read. ``unused_messages`` and ``unused_bytes``: what was left of the request; None: unknown.

    ``limit``: how much of ``limit_name`` the consumer allows (messages, seconds or bytes), None when it cannot be read.
    """

    meaning: Meaning
    code: int
    description: str
    unused_messages: int | None = None
    unused_bytes: int | None = None
    limit_name: LimitName | None = None
    limit: float | None = None

    @property
    def refused(self) -> bool:
        """The request was not accepted, so that nothing was delivered for it."""
        return self.meaning in _REFUSALS

    @property
    def text(self) -> str:
        """Code and description, fit to be printed."""
        words = self.description if self.description.isprintable() else ascii(self.description)[1:-1]
        return f"{self.code} {words}".rstrip()


_TABLE: Final[tuple[tuple[int, str, Meaning, LimitName | None], ...]] = (
    (100, "idle heartbeat", Meaning.HEARTBEAT, None),
    (100, "flowcontrol request", Meaning.FLOW_CONTROL, None),
    (400, "", Meaning.BAD_REQUEST, None),
    (404, "", Meaning.NO_MESSAGES, None),
    (408, "requests pending", Meaning.REQUESTS_PENDING, None),
    (408, "", Meaning.EXPIRED, None),  # Request Timeout, Interest Expired
    (409, "message size exceeds maxbytes", Meaning.MESSAGE_TOO_LARGE, None),
    (409, "batch completed", Meaning.COMPLETED, None),
    (409, "consumer deleted", Meaning.CONSUMER_DELETED, None),
    (409, "consumer is push based", Meaning.PUSH_BASED, None),
    (409, "leadership change", Meaning.LEADER_CHANGED, None),
    (409, "server shutdown", Meaning.SERVER_SHUTDOWN, None),
    (409, "exceeded maxrequestbatch", Meaning.LIMIT, "max_batch"),
    (409, "exceeded maxrequestexpires", Meaning.LIMIT, "max_expires"),
    (409, "exceeded maxrequestmaxbytes", Meaning.LIMIT, "max_bytes"),
    (409, "exceeded maxwaiting", Meaning.MAX_WAITING, None),
    (412, "", Meaning.API_LEVEL, None),
    (423, "nats-pin-id mismatch", Meaning.UNPINNED, None),
    (423, "nats-wrong-pin-id", Meaning.UNPINNED, None),
    (503, "", Meaning.NO_RESPONDERS, None),
)
"""Code, how the text begins, and what is meant. The first row that fits is the one."""

_REFUSALS: Final = frozenset(
    {
        Meaning.REQUESTS_PENDING,
        Meaning.PUSH_BASED,
        Meaning.LIMIT,
        Meaning.MAX_WAITING,
        Meaning.BAD_REQUEST,
        Meaning.API_LEVEL,
        Meaning.NO_RESPONDERS,
    }
)

MAX_DESCRIPTION: Final = 200
"""Characters of a text that are kept. Those that servers send have fewer than a hundred."""

# At most eighteen digits: enough for what a client may ask for, and never more than 63 bits.
_NUMBER: Final = re.compile("[0-9]{1,18}").fullmatch
_LAST_NUMBER: Final = re.compile("of ([0-9]{1,18})$").search
_DURATION: Final = re.compile(r"of ((?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:h|ms|m|s|us|µs|ns))+)$").search
_PART: Final = re.compile(r"([0-9.]+)(h|ms|m|s|us|µs|ns)").findall
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def read_status(message: Message) -> PullStatus | None:
    """What a message without a reply subject says; None when it is no status. Raises nothing."""
    status = message.status
    if status is None or message.data:
        return None
    description = status.description[:MAX_DESCRIPTION]
    lowered = description.lower()
    meaning, name = Meaning.UNKNOWN, None
    for code, start, means, limit_name in _TABLE:
        if code == status.code and lowered.startswith(start):
            meaning, name = means, limit_name
            break
    headers = message.headers
    return PullStatus(
        meaning,
        status.code,
        description,
        None if headers is None else _number(headers.get("Nats-Pending-Messages")),
        None if headers is None else _number(headers.get("Nats-Pending-Bytes")),
        name,
        None if name is None else _limit(name, description),
    )


def last_delivered(message: Message) -> int | None:
    """The number of the last message that the consumer has delivered, as a heart-beat says it; None when none does.
    Raises nothing."""
    status, headers = message.status, message.headers
    if status is None or status.code != 100 or headers is None:
        return None
    return _number(headers.get("Nats-Last-Consumer"))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _NUMBER(text) is not None else None


def _limit(name: LimitName, description: str) -> float | None:
    """The number at the end of the server's words; a duration is written as Go does it, such as ``1m30s``."""
    if name != "max_expires":
        found = _LAST_NUMBER(description)
        return None if found is None else int(found[1])
    found = _DURATION(description)
    if found is None:
        return None
    parts: list[tuple[str, str]] = _PART(found[1])
    return sum(float(count) * _UNITS[unit] for count, unit in parts)
