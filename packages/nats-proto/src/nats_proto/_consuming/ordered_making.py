"""The consumers of an ordered reader: one after another is made, and those that were given up are deleted.

Theory of operation
-------------------
    BEGINNING ──the consumer was made──▶ MADE ──it is given up──▶ PAUSED
        ▲  ╰──it could not be made─────────────────────────────▶ │
        ╰──────────────────── the pause is over ─────────────────╯

One rebuild at a time. The old consumer is deleted first; only when that was not confirmed, and just one is left like
this, the next one is made all the same. So never more than two of a reader exist, however often it is disturbed. A
deletion is asked for again until it is confirmed, or until the server must have done it by itself. A creation whose
connection was lost is asked for again under the same name, which makes no second one. One that was not answered in time
is given up as a consumer is: a cluster may have assigned the name to a server that has just died, and then answers
nothing to this name until that server is back, while another name goes to a server that lives.

The first rebuild follows nearly at once, and so does each that a new connection asks for. Any other one waits for twice
as long, from 1 to 30 seconds, and no two readers equally long. Only a minute of reading ends that: else a fleet of
readers, all disturbed by the same thing, would keep a server busy with nothing but the making of consumers.

The very first consumer has to be made within the time of a call, or within the time that the user gives, else the
error is final. Its first attempt has half of that, so that there is time for one under another name. Later consumers
are tried for ever, or ``max_attempts`` times in a row. No attempt has more than five seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from .._calls.machine import Ask, Subscribe, Want
from .._calls.operation import ApiCall, Publish
from .._jetstream.consumer_info import ConsumerInfo
from .._jetstream.errors import ConsumerExistsError, ConsumerNotFoundError, StreamNotFoundError
from ..errors import NATSError, NATSTimeoutError, NoRespondersError
from .ordered_backoff import Backoff, is_final, is_final_at_first
from .ordered_calls import OrderedCalls

__all__ = ["NEVER", "Making"]

DELETE_TIMEOUT: Final = 2.0
DELETE_PAUSE: Final = 5.0
"""Seconds between two attempts to delete, while the next consumer is being read."""
SHORTEST: Final = 0.5
LONGEST: Final = 5.0
"""Seconds that an attempt to make a consumer has, at least and at most, however long a call may take: a server that has
just died does not answer, and another name is served by another one."""
MAX_RETIRED: Final = 1
"""Consumers whose deletion was not confirmed, when the next one is made."""
NEVER: Final = float("inf")


class _State(Enum):
    BEGINNING = auto()
    MADE = auto()
    PAUSED = auto()


class Making:
    """Of one reader, whose ``wants`` it adds to. Times are absolute seconds.

    ``start`` gives the sequence with which the next consumer begins, None for what its configuration says. ``expires``:
    seconds for which a request may keep a consumer alive. ``failed`` is told why one could not be made.
    """

    __slots__ = (
        *("_asked_at", "_attempts", "_backoff", "_began", "_calls", "_creating", "_delete_at", "_deleting", "_expires"),
        *("_failed", "_max_attempts", "_resume", "_retired", "_serial", "_start", "_state", "_wants"),
        *("created_at", "made", "name"),
    )

    def __init__(
        self,
        calls: OrderedCalls,
        wants: deque[Want],
        *,
        start: Callable[[], int | None],
        expires: float,
        max_attempts: int | None,
        failed: Callable[[NATSError], None],
        now: float,
    ) -> None:
        self._calls = calls
        self._wants = wants
        self._start = start
        self._expires = expires
        self._max_attempts = max_attempts
        self._failed = failed
        self._began = now
        self._state = _State.BEGINNING
        self._serial = 1
        self._retired: dict[str, float] = {}
        """Consumers that are to be deleted, and when the server will have done so by itself."""
        self._creating: ApiCall[object] | None = None
        self._asked_at = now
        """When the last attempt began."""
        self._deleting: tuple[str, ApiCall[object]] | None = None
        self._delete_at = NEVER
        self._resume = NEVER
        self._backoff = Backoff(calls.rng)
        self._attempts = 0
        self.name = calls.name(1)
        """Of the consumer that is read, or that is to be made."""
        self.created_at = -NEVER
        self.made = 0
        """How many were made."""
        self.listen()
        self._create(now)

    def leave(self, *, reading: bool) -> list[Publish]:
        """What deletes all that may be there. ``reading``: there is one that was made."""
        names = list(self._retired)
        if reading or self._creating is not None:
            names.append(self.name)
        return [self._calls.forget(name) for name in names]

    # --- what its reader tells

    def listen(self) -> None:
        """Another inbox, for the answers. What the old one has, nobody will read."""
        self._creating = self._deleting = None
        self._delete_at = NEVER
        self._wants.clear()
        self._wants.append(Subscribe(self._calls.new_inbox()))

    def resubscribed(self, now: float) -> None:
        """The reader has another inbox: answers would go to the one before."""
        self._deleting = None
        self._delete_later(now)

    def connection_replaced(self, now: float) -> None:
        """Nothing is read, and what was asked on the way is asked again."""
        self.listen()
        if self._state is _State.BEGINNING:
            self._begin(now)
        else:
            self._delete()

    def give_up(self, now: float, *, gone: bool, replaced: bool) -> None:
        """The consumer that is read is no good any more. ``gone``: it does not even exist. ``replaced``: only since the
        connection was replaced."""
        if not gone:
            self._retire(now)
        self._backoff.was_read_for(now - self.created_at)
        self._next_name()
        self.listen()
        self._delete()
        self._state = _State.PAUSED
        # How often there is a new connection is bounded by the pauses of whoever connects.
        self._resume = now + (self._backoff.first() if replaced else self._backoff.pause())

    def answered(self, api: ApiCall[object], answer: object, now: float) -> ConsumerInfo | NATSError | None:
        """What a creation came to: the consumer, or the error that is the end. None: it goes on."""
        if self._deleting is not None and api is self._deleting[1]:
            self._deleted(self._deleting[0], answer, now)
        elif api is self._creating:
            self._creating = None
            if isinstance(answer, ConsumerInfo):
                self._attempts = 0
                self.created_at = now
                self.made += 1
                self._state = _State.MADE
                return answer
            if isinstance(answer, NATSError):
                return self._not_created(answer, now)
        return None

    def next_timeout(self) -> float:
        """When something is to be done, or never."""
        return min(self._resume, self._delete_at)

    def handle_timeout(self, now: float) -> None:
        """Go on after a pause."""
        if now >= self._resume:
            self._resume = NEVER
            self._state = _State.BEGINNING
            self._begin(now)
        if now >= self._delete_at:
            self._delete_at = NEVER
            self._delete()

    # --- making

    def _next_name(self) -> None:
        self._serial += 1
        self.name = self._calls.name(self._serial)

    def _pause(self, now: float) -> None:
        """Before the next attempt. The time for which this one has waited in vain is a part of it: a cluster that has
        lost a server may not answer, and answers the next one at once."""
        self._state = _State.PAUSED
        self._resume = max(now, self._asked_at + self._backoff.pause())

    def _begin(self, now: float) -> None:
        """Delete what is to be deleted before the next consumer is made."""
        self._expire(now)
        if self._deleting is not None:
            return  # its answer goes on
        if len(self._retired) > MAX_RETIRED:
            self._delete()
        else:
            self._create(now)

    def _create(self, now: float) -> None:
        self._state = _State.BEGINNING
        self._asked_at = now
        self._creating = self._calls.create(self.name, self._start())
        self._wants.append(Ask(self._creating, self._seconds(now)))

    def _seconds(self, now: float) -> float:
        """How long an attempt to make a consumer may take."""
        seconds = min(self._calls.timeout, LONGEST)
        if self.made:
            return seconds
        left = self._began + self._calls.patience - now
        return min(seconds, max(left if self._attempts else left / 2, SHORTEST))

    def _not_created(self, error: NATSError, now: float) -> NATSError | None:
        """The attempt has failed: the error, if there is no other."""
        if isinstance(error, NoRespondersError):
            error = self._calls.nobody(error.subject)
        self._attempts += 1
        if self._is_final(error, now):
            return error
        if isinstance(error, (ConsumerExistsError, NATSTimeoutError)):
            self._retire(now)
            self._next_name()
        self._failed(error)
        self._pause(now)
        return None

    def _is_final(self, error: NATSError, now: float) -> bool:
        if self._max_attempts is not None and self._attempts >= self._max_attempts:
            return True
        if self.made:
            return is_final(error)
        if isinstance(error, StreamNotFoundError) and self._calls.stream_is_new:
            return False
        return now >= self._began + self._calls.patience or is_final_at_first(error)

    # --- consumers that are given up

    def _retire(self, now: float) -> None:
        threshold = self._calls.config.inactive_threshold or 0.0
        self._retired[self.name] = now + float(threshold) + self._expires

    def _expire(self, now: float) -> None:
        for name in [name for name, until in self._retired.items() if now >= until]:
            del self._retired[name]

    def _delete(self) -> None:
        """Ask for the deletion of the oldest one."""
        if self._retired and self._deleting is None:
            name = next(iter(self._retired))
            call = self._calls.delete(name)
            self._deleting = name, call
            self._wants.append(Ask(call, DELETE_TIMEOUT))

    def _deleted(self, name: str, answer: object, now: float) -> None:
        self._deleting = None
        if not isinstance(answer, NATSError) or isinstance(answer, (ConsumerNotFoundError, StreamNotFoundError)):
            self._retired.pop(name, None)
        if self._state is _State.MADE:
            self._delete_later(now)
        elif self._state is _State.BEGINNING:
            if len(self._retired) > MAX_RETIRED and isinstance(answer, NATSError):
                self._pause(now)  # more of them than there may be, and no word that one is gone
            else:
                self._begin(now)

    def _delete_later(self, now: float) -> None:
        self._expire(now)
        self._delete_at = now + DELETE_PAUSE if self._retired else NEVER
