"""Which of several publishes to one subject the server has refused, as far as that is certain.

Theory of operation
-------------------
A server refuses a publish without permission at once, and names its subject alone. What it has taken is answered later,
by whoever gets it. So when a permission is withdrawn while publishes to one subject are in flight, a refusal overtakes
the answers to those before it, and nothing tells which publish it means. But there is one for each publish, and a
server reads in order. So they are counted until the PONG of a PING that was sent behind the first of them:

    publishes ──────────────────▶ PING            the server has refused so many of the publishes before the PING,
    ◀── refusal, refusal, … ◀── PONG              and of these no more

    as many refusals as there are publishes in flight     all of these were refused
    fewer                                                 all wait on

An answer makes those in flight fewer, and leaves the refusals to the rest. One that ends without any may have been
refused, and takes a refusal with it. What is refused behind the PONG is counted anew: so those who publish without a
pause are told as well.

What is not seen: refusals of publishes for which nobody waits, to a subject to which others do. They count as well. For
that to be wrong a permission has to be withdrawn in the very moment in which one of the others is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from ..errors import PermissionsError
from .subscription import MessageT, SubscriptionState

__all__ = ["Refusals", "RefusalsTold"]


class RefusalsTold(Generic[MessageT]):
    """The refusals of one subject until the PONG. ``until``: the last request by now; ``readers`` who publish there,
    each with the number of its last publish by now."""

    __slots__ = ("count", "error", "readers", "until")

    def __init__(self, error: PermissionsError) -> None:
        self.error = error
        self.count = 0
        self.until = 0
        self.readers: list[tuple[SubscriptionState[MessageT], int]] = []


class Sent(Protocol):
    """A publish whose answer is waited for."""

    @property
    def subject(self) -> str:
        """To which it was published."""
        ...


SentT = TypeVar("SentT", bound=Sent)


class Refusals(Generic[SentT]):
    """Of one connection. ``number`` tells those of publishes in the order in which they are sent."""

    __slots__ = ("_number", "subjects")

    def __init__(self, number: Callable[[SentT], int]) -> None:
        self._number = number
        self.subjects: dict[str, _Refused] = {}
        """Of what was refused, and is not settled yet: nearly always empty, and looked at with each answer."""

    def add(self, subject: str, error: PermissionsError, count: int, *, until: int) -> None:
        """So many publishes to ``subject`` were refused, of those up to number ``until``, and no more of these."""
        refused = self.subjects.setdefault(subject, _Refused(error))
        refused.count += count
        refused.until = until

    def take_certain(self, flying: Iterable[SentT]) -> list[tuple[SentT, PermissionsError]]:
        """Those of the publishes in flight that were refused for certain, in order.

        What concerns none of them is forgotten.
        """
        meant: dict[str, list[SentT]] = {}
        for sent in flying:
            if self._meant(sent) is not None:
                meant.setdefault(sent.subject, []).append(sent)
        certain: list[tuple[SentT, PermissionsError]] = []
        for subject, refused in list(self.subjects.items()):
            those = meant.get(subject, [])
            if refused.count >= len(those):
                del self.subjects[subject]
                certain.extend((sent, refused.error) for sent in those)
        certain.sort(key=lambda one: self._number(one[0]))
        return certain

    def take_possible(self, sent: SentT) -> PermissionsError | None:
        """It ends without an answer: the refusal that may have meant it, if there is one."""
        refused = self._meant(sent)
        if refused is None or not refused.count:
            return None
        refused.count -= 1
        return refused.error

    def clear(self) -> None:
        """There is another connection."""
        self.subjects.clear()

    def _meant(self, sent: SentT) -> _Refused | None:
        refused = self.subjects.get(sent.subject)
        return refused if refused is not None and self._number(sent) <= refused.until else None


class _Refused:
    __slots__ = ("count", "error", "until")

    def __init__(self, error: PermissionsError) -> None:
        self.error = error
        self.count = 0
        self.until = 0
