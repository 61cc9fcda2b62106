"""The errors of what a server says to who asks a consumer for messages."""

from __future__ import annotations

from .._jetstream.errors import (
    ConsumerDeletedError,
    ConsumerNotFoundError,
    PullLimitError,
    PullRefusedError,
    StreamNotFoundError,
)
from ..errors import NATSError
from .pulls import PullRequest
from .statuses import LimitName, Meaning, PullStatus

__all__ = ["deleted", "is_gone", "missing", "refusal", "too_large"]


def is_gone(answer: object) -> bool:
    """Whether the answer to a question for the consumer's info is that there is no such consumer, or stream."""
    return isinstance(answer, (ConsumerNotFoundError, StreamNotFoundError))


def deleted(what: str) -> ConsumerDeletedError:
    """The server has told that the consumer was deleted."""
    return ConsumerDeletedError(f"{what}: the consumer was deleted")


def missing(what: str, answer: NATSError, *, heard: bool) -> NATSError:
    """The server was asked, and has no such consumer. ``heard``: messages came from it before, so it was deleted."""
    if not heard:
        return answer
    error = ConsumerDeletedError(f"{what}: the consumer does not exist any more")
    error.__cause__ = answer
    return error


def refusal(what: str, status: PullStatus, request: PullRequest) -> PullRefusedError:
    """A request was refused for what it is."""
    if status.meaning is Meaning.LIMIT and status.limit_name is not None:
        text = f"{what}: asked for {_asked(status.limit_name, request)}, the consumer allows {_allowed(status)}"
        limit = int(status.limit) if status.limit is not None and status.limit_name != "max_expires" else None
        return PullLimitError(text, code=status.code, description=status.description, limit=limit)
    if status.meaning is Meaning.MAX_WAITING:
        text = f"{what}: as many requests wait as the consumer allows (its max_waiting): {status.text}"
        return PullLimitError(text, code=status.code, description=status.description)
    return PullRefusedError(
        f"{what}: the server refused it: {status.text}", code=status.code, description=status.description
    )


def too_large(what: str, status: PullStatus, max_bytes: int) -> PullRefusedError:
    """The next message will never come while no more than so many bytes are asked for."""
    return PullRefusedError(
        f"{what}: the next message has more than max_bytes={max_bytes} bytes, with its subjects and headers",
        code=status.code,
        description=status.description,
    )


def _asked(name: LimitName, request: PullRequest) -> str:
    if name == "max_batch":
        return f"{request.batch} messages at once"
    if name == "max_bytes":
        return f"{request.max_bytes} bytes at once"
    return "messages for a longer time"


def _allowed(status: PullStatus) -> str:
    if status.limit is None:
        return f"less: {status.text}"
    unit = " s" if status.limit_name == "max_expires" else ""
    return f"{status.limit:g}{unit} (its {status.limit_name})"
