"""The server pool: which server next, and when.

Theory of operation
-------------------
The pool is one rotation, cut in two. ``ahead`` holds the servers whose turn in this round is still to come, ``behind``
those that have had theirs, each in order:

                 ahead                behind
    begin        A B C                -             the first connect, or a connection was lost
    next: A      B C                  A
    next: B      C                    A B
    next: C      -                    A B C
    next: A      B C                  A             the round was over: behind became ahead, and there is one wait

A server that is handed out leaves ``ahead`` at its front and joins ``behind`` at its end, and no other server moves. So
the order is A B C A B C, none is skipped, and no server has its second turn before all have had their first. That also
holds when servers come and go in the middle of a round: a new one joins ``ahead``; one that is dropped is only marked,
and thrown away when it comes to the front. Each step costs the same for ten servers and for a hundred thousand: nothing
is searched, and what `begin` and `record_success` move was handed out one by one before.

    call                    what happens to the rotation
    begin                   behind joins ahead at its end: the rotation goes on where it stopped, why ever it did
    next_attempt            the front of ahead has its turn; one that has used up its attempts is dropped instead
    record_failure          nothing; the same authentication error twice in a row drops the server
    record_success          behind joins ahead, but for the connected server: when it is lost, it comes last
    lame_duck               the server goes to the end of its side, and new ones join in front of it
    discover                new servers join ahead at its end; discovered ones that left the list are dropped

    attempt                 not before
    in the first walk       now: somebody waits for it (``begin`` with ``rounds``)
    an immediate one        now: the user asked for it; it is always the first of an outage
    first of an outage      a random part of the jitter: a thousand clients that lost one server do not come at once
    later in the same round now: the next server may well be there
    first of round n + 1    reconnect_wait × 1.5 ** (n - 1), at most × 8, and jitter; or ``delay``; or what the pool's
                            own reconnect_delay(n) says

Whoever cannot call the user's function in the midst of a call asks it beforehand: ``finished_round`` is n as long as
the next attempt would begin round n + 1, and `next_attempt` takes the answer as ``delay``.

Except for the first two kinds, no attempt comes within ``reconnect_wait`` of the last dial of the same server: so a
server that accepts us and throws us out again cannot make us dial in a tight loop.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from .._limits import MAX_SECONDS
from .._value import Value
from ..errors import AuthenticationError, ConfigurationError, LocalProtocolError, NATSError
from .server import Server, parse_address, peer_of

if TYPE_CHECKING:
    import random

__all__ = ["MAX_DISCOVERED", "Attempt", "ServerPool", "usable_delay"]

MAX_DISCOVERED: Final = 1000
"""Servers taken from INFO. No cluster is larger; a list that is longer is a fault or an attack on our memory."""

MAX_LISTED: Final = 20_000
"""Entries of one list that are looked at. Unusable entries are cheap to send, and while a client reads them it answers
no PING."""

GROWTH: Final = 1.5
"""By this factor the wait grows from round to round."""

MAX_GROWTH: Final = 8.0
"""The longest wait, in units of ``reconnect_wait``: long enough to spare a dead cluster, short enough to come back."""

_Address = tuple[str, int]


class Attempt(Value, frozen=True):
    """Dial ``server`` at ``at`` (seconds on the caller's clock, maybe now). ``number`` and ``round`` count from 1."""

    server: Server
    at: float
    number: int
    round: int


class _Entry(msgspec.Struct, eq=False):
    server: Server
    attempts: int = 0
    last_dial: float = -math.inf
    failure: NATSError | None = None
    refusal: tuple[type[AuthenticationError], str] | None = None
    lame_duck: bool = False
    server_id: str = ""
    dropped: bool = False


class ServerPool:
    """The servers of one client, and their turns. Times are seconds on the caller's clock.

    ``rng`` is the only source of chance: order, jitter, order of discovered servers. ``max_reconnect_attempts`` is per
    server, -1 for no limit; attempts of the first walk do not count. ``reconnect_delay`` gets the number of rounds made
    (1, 2, ...), in the midst of `next_attempt`; when it raises or gives no finite number (int or float) from 0 up, the
    usual wait is used. Raises `ConfigurationError` for wrong values and for no servers.
    """

    __slots__ = (
        "_ahead",
        "_behind",
        "_counting",
        "_current",
        "_entries",
        "_failed",
        "_hurry",
        "_ignore_discovered",
        "_jitter",
        "_max_attempts",
        "_not_before",
        "_number",
        "_randomize",
        "_reconnect_delay",
        "_reconnect_wait",
        "_retry_auth_errors",
        "_rng",
        "_round",
        "_rounds",
    )

    def __init__(
        self,
        servers: Iterable[Server],
        *,
        rng: random.Random,
        randomize: bool = True,
        max_reconnect_attempts: int = -1,
        reconnect_wait: float = 2.0,
        reconnect_jitter: float = 0.1,
        reconnect_jitter_tls: float = 1.0,
        reconnect_delay: Callable[[int], float] | None = None,
        ignore_discovered: bool = False,
        retry_auth_errors: bool = False,
    ) -> None:
        given = list(servers)
        if not given:
            raise ConfigurationError("a pool needs at least one server")
        if max_reconnect_attempts < -1:
            raise ConfigurationError(f"max_reconnect_attempts must be -1 or more: {max_reconnect_attempts!r}")
        for seconds in (reconnect_wait, reconnect_jitter, reconnect_jitter_tls):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ConfigurationError(f"waits must be finite numbers of seconds, not negative: {seconds!r}")
        if randomize:
            # Most clients have the same list, and must not all connect to the first server of it.
            rng.shuffle(given)
        self._rng = rng
        self._randomize = randomize
        self._max_attempts = math.inf if max_reconnect_attempts < 0 else max_reconnect_attempts
        self._reconnect_wait = reconnect_wait
        self._jitter = reconnect_jitter_tls if any(server.secure for server in given) else reconnect_jitter
        self._reconnect_delay = reconnect_delay
        self._ignore_discovered = ignore_discovered
        self._retry_auth_errors = retry_auth_errors
        self._entries: dict[_Address, _Entry] = {}
        for server in given:
            # A server that is named twice has one turn in a round, and the first of its entries counts.
            self._entries.setdefault(_address(server), _Entry(server))
        self._ahead = deque(self._entries.values())
        self._behind: deque[_Entry] = deque()
        self._current: _Entry | None = None
        self._failed: list[_Entry] = []
        self._number = 0
        self._round = 0  # no outage
        self._rounds: int | None = None
        self._counting = True
        self._not_before = 0.0
        self._hurry = False

    # --- an outage ---------------------------------------------------------------------------------------------------

    def begin(self, *, now: float, rounds: int | None = None, immediate: bool = False, counting: bool = True) -> None:
        """The first connect, or a new outage: forget what was tried; the rotation goes on where it stopped.

        ``rounds`` makes it a walk for somebody who waits: so many rounds, no jitter in front, no limit of attempts.
        ``immediate``: the first attempt comes now. ``counting`` False: failed attempts do not count, there is still a
        connection. Raises `ConfigurationError` for less than one round.
        """
        if rounds is not None and rounds < 1:
            raise ConfigurationError(f"rounds must be 1 or more: {rounds!r}")
        self._ahead.extend(self._behind)
        self._behind.clear()
        for entry in self._failed:
            entry.failure = None
        self._failed.clear()
        self._number = 0
        self._round = 1
        self._rounds = rounds
        self._counting = counting and rounds is None
        self._hurry = immediate
        self._not_before = now if immediate or rounds is not None else now + self._some_jitter()

    def next_attempt(self, *, now: float, delay: float | None = None) -> Attempt | None:
        """The next server in turn, and when to dial it; None when no server is left or the rounds are made.

        ``delay`` (seconds) replaces wait and jitter where this attempt begins another round, and is ignored where it
        does not. Raises `LocalProtocolError` when there was no `begin`, or a success since.
        """
        if self._round == 0:
            raise LocalProtocolError("next_attempt: begin comes first")
        self._clear_front()
        if not self._ahead and not self._begin_round(now, delay):
            return None
        entry = self._ahead.popleft()
        self._behind.append(entry)
        self._current = entry
        self._number += 1
        if self._counting:
            entry.attempts += 1
        entry.last_dial = self._earliest(entry, now)
        self._hurry = False
        return Attempt(entry.server, entry.last_dial, self._number, self._round)

    def record_success(self, *, now: float, server_id: str = "") -> None:
        """The handshake with the current server is done: its attempts, refusal and lame duck mark are forgotten.

        The outage is over; the next one starts with `begin`. Raises `LocalProtocolError` without a current server.
        """
        entry = self._entry_of(None, "record_success")
        _dialled(entry, now)
        entry.attempts = 0
        entry.refusal = None
        entry.lame_duck = False
        entry.server_id = server_id
        self._ahead.extend(self._behind)
        _take_out(self._ahead, entry)
        self._behind = deque([entry])
        self._round = 0

    def record_failure(self, error: NATSError, *, now: float, server: Server | None = None) -> bool:
        """An attempt or a connection failed, of the current server unless another is given. True: that dropped it.

        Dropped is who gives the same authentication error (class and text) twice with no success in between; other
        errors in between do not matter. Raises `LocalProtocolError` when the server is not in the pool.
        """
        entry = self._entry_of(server, "record_failure")
        _dialled(entry, now)
        if entry.failure is None:
            self._failed.append(entry)
        entry.failure = error
        if not isinstance(error, AuthenticationError):
            return False
        refusal = (type(error), error.text)
        repeated = entry.refusal == refusal
        entry.refusal = refusal
        if not repeated or self._retry_auth_errors:
            return False
        self._drop(entry)
        return True

    # --- what servers say --------------------------------------------------------------------------------------------

    def lame_duck(self, server: Server) -> None:
        """Note that a server is about to leave: it is tried last in the coming rotation, until it is reached or listed
        again.

        Raises `LocalProtocolError` when it is not in the pool.
        """
        entry = self._entry_of(server, "lame_duck")
        entry.lame_duck = True
        side = self._ahead if entry in self._ahead else self._behind
        _take_out(side, entry)
        side.append(entry)

    def discover(
        self, connect_urls: Iterable[str], *, current: Server, keep: Server | None = None
    ) -> tuple[Server, ...]:
        """Take the list of an INFO of ``current``; returns the servers that are new to the pool.

        New ones come behind those still ahead, in random order among themselves, with scheme, user information and
        TLS name of ``current``. Discovered ones that are not listed leave, except ``current`` and ``keep``; those the
        user named stay. Entries that cannot be used are skipped one by one. A list with nothing usable changes nothing;
        of a long one the first 1,000 usable entries count, and nothing behind the first 20,000 entries.
        """
        listed = {} if self._ignore_discovered else _usable(connect_urls)
        if not listed:
            return ()
        here = _address(current)
        kept = {here} if keep is None else {here, _address(keep)}
        # A copy of the items, since `_drop` deletes from the dictionary. Servers leave before new ones are counted, so
        # that they make room.
        for address, entry in list(self._entries.items()):
            if not (entry.server.explicit or address in listed or address in kept):
                self._drop(entry)
            # That the current server lists itself does not take back what it said itself: it is leaving.
            elif address in listed and address != here:
                entry.lame_duck = False
        room = MAX_DISCOVERED - sum(1 for entry in self._entries.values() if not entry.server.explicit)
        new = [peer_of(current, address) for address in listed if address not in self._entries][:room]
        if self._randomize:
            # All clients of a cluster get the same list, and must not all go to the same server next.
            self._rng.shuffle(new)
        self._join(new)
        return tuple(new)

    # --- what others want to know ------------------------------------------------------------------------------------

    @property
    def servers(self) -> tuple[Server, ...]:
        """All servers, in the order of the rotation, the next one first."""
        return tuple(entry.server for entry in (*self._ahead, *self._behind) if not entry.dropped)

    @property
    def current(self) -> Server | None:
        """The server handed out last; None before the first, and after it was dropped."""
        return None if self._current is None else self._current.server

    @property
    def finished_round(self) -> int | None:
        """The round, from 1, that is over: the next attempt begins another one, after a wait.

        None: that attempt belongs to the round that there is, or there will be none. Looking costs what `next_attempt`
        costs, which throws away whom this has to skip.
        """
        if self._round in (0, self._rounds) or any(map(self._has_turns, self._ahead)):
            return None
        return self._round if any(map(self._has_turns, self._behind)) else None

    @property
    def failures(self) -> tuple[tuple[str, NATSError], ...]:
        """The last failure of each server since `begin`, in the order of their first; dropped servers included."""
        return tuple((entry.server.url, entry.failure) for entry in self._failed if entry.failure is not None)

    def attempts_of(self, server: Server) -> int:
        """Attempts on it since the last success, the first walk not counted; 0 when it is not in the pool."""
        entry = self._entries.get(_address(server))
        return 0 if entry is None else entry.attempts

    def is_lame_duck(self, server: Server) -> bool:
        """Whether the server has said that it is leaving, and was neither reached nor listed since."""
        entry = self._entries.get(_address(server))
        return entry is not None and entry.lame_duck

    def id_of(self, server: Server) -> str:
        """The ``server_id`` of whoever was reached at its address last; empty when nobody was."""
        entry = self._entries.get(_address(server))
        return "" if entry is None else entry.server_id

    def __contains__(self, server: Server) -> bool:
        return _address(server) in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    # --- the rotation ------------------------------------------------------------------------------------------------

    def _entry_of(self, server: Server | None, call: str) -> _Entry:
        entry = self._current if server is None else self._entries.get(_address(server))
        if entry is None:
            raise LocalProtocolError(f"{call}: {'there is no current server' if server is None else 'not in the pool'}")
        return entry

    def _drop(self, entry: _Entry) -> None:
        del self._entries[_address(entry.server)]
        entry.dropped = True
        if entry is self._current:
            self._current = None

    def _join(self, new: Iterable[Server]) -> None:
        """Put new servers ahead of the lame ducks. Who was dropped is thrown away here, too: a list follows a list."""
        joining = [_Entry(server) for server in new]
        self._entries.update((_address(entry.server), entry) for entry in joining)
        ahead = [entry for entry in (*self._ahead, *joining) if not entry.dropped]
        # `sorted` is stable, and False comes before True: nothing moves but the lame ducks.
        self._ahead = deque(sorted(ahead, key=lambda entry: entry.lame_duck))
        self._behind = deque(entry for entry in self._behind if not entry.dropped)

    def _clear_front(self) -> None:
        """Throw away servers that would be next but have no turns left.

        That happens to each server once, so that steps stay cheap in the long run, whatever a single one costs.
        """
        while side := self._ahead or self._behind:
            entry = side[0]
            if self._has_turns(entry):
                break
            if not entry.dropped:
                self._drop(entry)
            side.popleft()

    def _has_turns(self, entry: _Entry) -> bool:
        """Whether the server is in the pool, and has not used up its attempts."""
        return not entry.dropped and (not self._counting or entry.attempts < self._max_attempts)

    def _begin_round(self, now: float, delay: float | None) -> bool:
        if not self._behind or self._round == self._rounds:
            return False
        wait = self._wait_after(self._round) if delay is None else delay
        self._ahead, self._behind = self._behind, self._ahead
        self._round += 1
        self._not_before = now + wait
        return True

    # --- time --------------------------------------------------------------------------------------------------------

    def _earliest(self, entry: _Entry, now: float) -> float:
        at = max(now, self._not_before)
        if self._hurry or self._rounds is not None:
            return at
        rested = entry.last_dial + self._reconnect_wait
        return at if at >= rested else rested + self._some_jitter()  # clients started together must part here, too

    def _wait_after(self, rounds: int) -> float:
        chosen = self._chosen_wait(rounds)
        if chosen is not None:
            return chosen
        growth = min(MAX_GROWTH, GROWTH ** min(rounds - 1, 10))  # the exponent is bounded: no overflow in round 10,000
        return self._reconnect_wait * growth + self._some_jitter()

    def _chosen_wait(self, rounds: int) -> float | None:
        """The wait that the user's callback has chosen; None when it chose none, or one that cannot be used."""
        if self._reconnect_delay is None:
            return None
        try:
            said: object = self._reconnect_delay(rounds)
        except Exception:  # the user's code may raise anything, and reconnecting goes on
            return None
        return usable_delay(said)

    def _some_jitter(self) -> float:
        return self._jitter * self._rng.random()


def usable_delay(said: object) -> float | None:
    """What a ``reconnect_delay`` has said, if that is an int or a float from 0 up: seconds, `MAX_SECONDS` at most."""
    # True and False are ints in Python, but nobody means one second by True.
    if not isinstance(said, (int, float)) or isinstance(said, bool):
        return None
    try:
        seconds = float(said)
    except OverflowError:  # an int that no float can be
        return None
    return min(seconds, MAX_SECONDS) if math.isfinite(seconds) and seconds >= 0 else None


def _take_out(side: deque[_Entry], entry: _Entry) -> None:
    """Remove the entry from its side. Nearly always it is the last one there, where nothing has to be searched."""
    if side[-1] is entry:
        side.pop()
    else:
        side.remove(entry)


def _dialled(entry: _Entry, now: float) -> None:
    """Note that the dial of this server is over. It was planned for ``last_dial``, and was earlier if the user has cut
    the wait short; but it cannot have been later than ``now``."""
    entry.last_dial = min(entry.last_dial, now)


def _address(server: Server) -> _Address:
    return (server.host.lower(), server.port)


def _usable(connect_urls: Iterable[str]) -> dict[_Address, None]:
    """The first addresses that can be used, in order, each once."""
    usable: dict[_Address, None] = {}
    for text in islice(connect_urls, MAX_LISTED):
        address = parse_address(text)
        if address is not None:
            usable[address] = None
            if len(usable) == MAX_DISCOVERED:
                break
    return usable
