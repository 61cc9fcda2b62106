"""`Counter`: a number that a stream keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from nats_proto._publishing.counter import CounterEntry, counter_of
from nats_proto._publishing.retries import RETRY_FOR

if TYPE_CHECKING:
    from nats_proto._publishing.counter import Counter as Core

    from .caller import Caller
    from .stored import StoredMessages

__all__ = ["Counter", "Counters"]


class Counter:
    """A number of any size that a stream keeps for a subject (server 2.12, ADR-49).

    The stream must have ``allow_msg_counter``, and ``allow_direct`` to be read at any replica. All who add to it get
    the right total, and streams with sources sum up those of others. Made by `JetStream.counter`; it asks nothing.
    """

    def __init__(self, caller: Caller, counter: Core) -> None:
        self._caller = caller
        self._counter = counter

    def __repr__(self) -> str:
        return f"<nats_anyio.Counter {self.subject!r}>"

    @property
    def subject(self) -> str:
        """Whose number it is."""
        return self._counter.subject

    async def add(
        self, delta: int = 1, *, msg_id: str | None = None, timeout: float | None = None, retry_for: float = RETRY_FOR
    ) -> int:
        """Add to it, also a negative number: the total then.

        Each try waits ``timeout`` seconds, and tries are begun for ``retry_for`` seconds. What may have been added
        already is tried again only with a ``msg_id``, by which the stream knows it again; else the error's ``outcome``
        is "unknown". Raises `CounterError` when the stream has no counters, and as `JetStream.publish`.
        """
        return await self._caller.run(self._counter.add(delta, msg_id, timeout=timeout, retry_for=retry_for))

    async def value(self, *, direct: bool = True, timeout: float | None = None) -> int:
        """The total, 0 when nothing was added yet. ``direct=False`` asks the leader, who knows of every `add` that has
        returned; a replica may be behind. Raises as `entry`."""
        return (await self.entry(direct=direct, timeout=timeout)).value

    async def entry(self, *, direct: bool = True, timeout: float | None = None) -> CounterEntry:
        """The total, what was added last, and what each source has contributed.

        Raises `StreamNotFoundError`, `JetStreamDecodeError` when the subject holds messages of another kind, and what
        all calls raise.
        """
        return await self._caller.run(self._counter.entry(direct=direct, timeout=timeout))


class Counters:
    """The counters that `JetStream.counters` gives, each as it comes. Whoever leaves early costs nothing more.

    For one task at a time.
    """

    def __init__(self, messages: StoredMessages) -> None:
        self._messages = messages

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CounterEntry:
        """The next counter. Raises as `StoredMessages`, and `JetStreamDecodeError` for a message that is none."""
        return counter_of(await anext(self._messages))

    async def aclose(self) -> None:
        """Leave it early. Does nothing after its end."""
        await self._messages.aclose()
