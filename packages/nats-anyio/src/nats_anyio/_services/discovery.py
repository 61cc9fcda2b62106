"""`Services`: which services there are, what they are, and what they have done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, Protocol, Self

from nats_proto._services.discovery import Question, Sought
from nats_proto._services.errors import ServiceDecodeError, ServiceError
from nats_proto._services.values import AnswerT, ServiceInfo, ServicePing, ServiceStats
from nats_proto.errors import NoRespondersError

from .._message import ReceivedMessage

__all__ = ["Found", "Services"]


class Answering(Protocol):
    """The answers to a request, as they come."""

    def __aiter__(self) -> AsyncIterator[ReceivedMessage]: ...

    async def aclose(self) -> None:
        """As of `Answers`."""


class Inquirer(Protocol):
    """A client, of which this is all that is needed here."""

    def request_many(
        self, subject: str, data: bytes = b"", *, max_wait: float, max_msgs: int | None, stall: float | None
    ) -> Answering:
        """As `Client.request_many`."""
        ...


class Found(Generic[AnswerT]):
    """The instances that have answered, each as its answer comes. They are asked when the first is asked for.

    Nobody there is the end, and no error. `aclose`, or the end of an ``async with`` block, ends it early.
    """

    def __init__(self, answers: Answering, question: Question[AnswerT]) -> None:
        self._answers = answers
        self._question = question

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnswerT:
        """The next instance. Raises as `Answers`, but for `NoRespondersError`."""
        try:
            async for message in self._answers:
                told = self._question.read(message)
                if told is not None:
                    return told
        except NoRespondersError:
            pass
        raise StopAsyncIteration

    @property
    def failures(self) -> list[ServiceDecodeError | ServiceError]:
        """Answers that could not be read, or that are errors: the first hundred. The others are given all the same."""
        return self._question.failures.copy()

    async def aclose(self) -> None:
        """End it early."""
        await self._answers.aclose()


class Services:
    """All services, those of a name, or one instance. Made by `Client.services`; asks nothing yet."""

    def __init__(self, client: Inquirer, sought: Sought) -> None:
        sought.check()
        self._client = client
        self._sought = sought

    def ping(self) -> Found[ServicePing]:
        """Who is there."""
        return self._ask(ServicePing)

    def info(self) -> Found[ServiceInfo]:
        """What they are, with their endpoints."""
        return self._ask(ServiceInfo)

    def stats(self) -> Found[ServiceStats]:
        """What their endpoints have done."""
        return self._ask(ServiceStats)

    def _ask(self, kind: type[AnswerT]) -> Found[AnswerT]:
        question = Question(self._sought, kind)
        answers = self._client.request_many(
            question.subject, max_wait=question.timeout, max_msgs=question.max_msgs, stall=question.stall
        )
        return Found(answers, question)
