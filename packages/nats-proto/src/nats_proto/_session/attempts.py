"""Which server is dialled next, and when: what the link does while it has no transport.

    IDLE ─start, restart─▶ DIALLING ─transport_connected─▶ IDLE
                            ▲  │ failed, too late
                            │  ▼
                            the pool names the next server and the time            (no server left: IDLE, `LinkGaveUp`)
                            ▲  │ a round is over, and the user has a reconnect_delay
                            │  ▼ answered, too late
                            ASKING

DIALLING covers the wait before the dial: `OpenTransport` says when. Every attempt has one deadline, ``connect_timeout``
after it begins, for dial and handshake together, so a server that accepts and then says nothing costs no more than one
that does not answer.

ASKING is bounded by ``connect_timeout`` as well: the user has said with it how long one step towards a connection may
take, and there is no reason to wait longer for a function than for a server.

Somebody waits for the first walk through the pool, and hears of no attempt of it:

    FIRST_WALK ─nobody was reached, and by option it goes on─▶ IN_BACKGROUND ─handshake─▶ REACHED          (or at once)
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from .._interface.events import AuthenticationFailed, Command, OpenTransport, Perform, Reconnecting
from .._interface.options import ConnectOptions
from .._servers.pool import Attempt, ServerPool
from .._servers.proxy import Proxy
from .._servers.server import Server
from ..errors import AuthenticationError, LocalProtocolError, NATSError, NATSTimeoutError, NoServersError
from .delay import Delay, DelayQuestion
from .link_events import LinkEvent, LinkGaveUp
from .timers import Timers, due

__all__ = ["Attempts", "address_of"]

MAX_LISTED: Final = 10
MAX_FAILURE: Final = 300
"""Servers, and characters of what each said, in the text of "no server could be used": a line, not a book."""


class _State(Enum):
    IDLE = auto()
    ASKING = auto()
    DIALLING = auto()


class _FirstWalk(Enum):
    FIRST_WALK = auto()
    """It is under way, or has not begun."""
    IN_BACKGROUND = auto()
    """No server was reached, and it goes on all the same, as after a lost connection."""
    REACHED = auto()
    """There was a connection."""


class Attempts:
    """Of one link, whose ``commands`` and ``events`` they add to."""

    __slots__ = (
        "_attempt",
        "_commands",
        "_delay",
        "_events",
        "_failure",
        "_first_walk",
        "_options",
        "_pool",
        "_state",
        "_timers",
    )

    def __init__(
        self,
        pool: ServerPool,
        options: ConnectOptions,
        timers: Timers,
        commands: list[Command],
        events: list[LinkEvent],
    ) -> None:
        self._pool = pool
        self._options = options
        self._timers = timers
        self._commands = commands
        self._events = events
        self._state = _State.IDLE
        self._first_walk = _FirstWalk.FIRST_WALK
        self._attempt: Attempt | None = None
        self._delay = None if options.reconnect_delay is None else DelayQuestion(options.reconnect_delay)
        self._failure: NATSError | None = None
        """While ASKING: why the last attempt failed, for the `Reconnecting` to come."""

    @property
    def under_way(self) -> bool:
        """There may be something outside that belongs to an attempt."""
        return self._state is not _State.IDLE

    def start(self, *, now: float) -> None:
        """Walk the pool once, without waiting."""
        self._pool.begin(now=now, rounds=1)
        self._next(None, now)

    def restart(
        self, error: NATSError | None, last: Server | None, *, now: float, immediate: bool, last_is_behind: bool
    ) -> None:
        """The connection to ``last`` is lost: begin again, with the next server of the pool.

        ``last_is_behind``: others had their turn since it was connected, so they would come behind it.
        """
        self._pool.begin(now=now, immediate=immediate)
        if last_is_behind and last is not None and last in self._pool:
            self._pool.lame_duck(last)
        if isinstance(error, AuthenticationError):
            self._report_authentication(error, now, last)
        self._next(error, now)

    def hurry(self, *, now: float) -> None:
        """Stop waiting for the next attempt, if that is what is being done."""
        if self._state is _State.ASKING and self._delay is not None:
            self._delay.withdraw()
            self._plan(self._failure, now, delay=0.0, at_once=True)
        elif self._state is _State.DIALLING and self._attempt is not None and self._attempt.at > now:
            # Only an attempt that still waits is made anew: a dial that has begun cannot be any earlier.
            self._open(Attempt(self._attempt.server, now, self._attempt.number, self._attempt.round), None, now)

    def stop(self) -> None:
        """No more attempts."""
        self._state = _State.IDLE
        self._attempt = self._failure = None
        self._timers.answer = self._timers.dial = None

    # --- the next one ------------------------------------------------------------------------------------------------

    def _next(self, error: NATSError | None, now: float) -> None:
        rounds = None if self._delay is None else self._pool.finished_round
        if self._delay is None or rounds is None:
            self._plan(error, now)
            return
        self._state = _State.ASKING
        self._failure = error
        self._timers.answer = now + self._options.connect_timeout
        self._commands.append(self._delay.ask(rounds))

    def _delay_is(self, delay: Delay | None, now: float) -> None:
        if self._state is not _State.ASKING or delay is None:
            return  # it is the answer to an earlier question
        if delay.failed is not None:
            self._events.append(delay.failed)
        self._plan(self._failure, now, delay=delay.seconds)

    def _plan(self, error: NATSError | None, now: float, *, delay: float | None = None, at_once: bool = False) -> None:
        """Have the next server dialled: when the pool says, ``delay`` after a round, or at once."""
        self._failure = None
        self._timers.answer = None
        attempt = self._pool.next_attempt(now=now, delay=delay)
        first_walk = self._first_walk is _FirstWalk.FIRST_WALK
        if attempt is None and first_walk and self._options.retry_on_failed_connect and len(self._pool):
            self._first_walk = _FirstWalk.IN_BACKGROUND
            # Nobody waits for a walk any more, so from here on attempts are limited and spread as after a lost link.
            self._pool.begin(now=now)
            attempt = self._pool.next_attempt(now=now)
        if attempt is None:
            self._state = _State.IDLE
            self._events.append(LinkGaveUp(self._no_servers(error)))
        else:
            if at_once:
                attempt = Attempt(attempt.server, now, attempt.number, attempt.round)
            self._open(attempt, error, now)

    def _open(self, attempt: Attempt, error: NATSError | None, now: float) -> None:
        self._state = _State.DIALLING
        self._attempt = attempt
        # The wait before the dial is not part of the time for it: a long reconnect_wait would use up connect_timeout.
        self._timers.dial = give_up_at = max(attempt.at, now) + self._options.connect_timeout
        address = address_of(attempt.server, self._options)
        self._commands.append(OpenTransport(attempt.server, address, attempt.at, give_up_at))
        if self._first_walk is not _FirstWalk.FIRST_WALK:
            delay = max(0.0, attempt.at - now)
            self._events.append(
                Reconnecting(server=attempt.server.url, attempt=attempt.number, delay=delay, error=error)
            )

    # --- what comes of it --------------------------------------------------------------------------------------------

    def connected(self) -> tuple[Attempt, float]:
        """The dial succeeded: whose it was, and when its handshake has to be done."""
        attempt = self.dialled("transport_connected")
        # Read before `stop` clears the timer: the handshake gets what the dial has left of connect_timeout.
        deadline = self._timers.dial
        assert deadline is not None  # it runs while DIALLING
        self.stop()
        return attempt, deadline

    def dialled(self, call: str) -> Attempt:
        """The attempt that is being dialled. `LocalProtocolError` when none is."""
        if self._state is not _State.DIALLING or self._attempt is None:
            raise LocalProtocolError(f"{call}: no dial is under way")
        return self._attempt

    def failed(self, error: NATSError, *, now: float) -> None:
        """The dial failed, or the handshake: the next server is tried."""
        self.stop()
        self.record_failure(error, now=now)
        self._next(error, now)

    def reached(self) -> bool:
        """A handshake is done: whether it is the first one of all."""
        first = self._first_walk is not _FirstWalk.REACHED
        self._first_walk = _FirstWalk.REACHED
        return first

    def performed(self, command: Perform, result: object, *, now: float) -> None:
        """What the user's ``reconnect_delay`` returned."""
        if self._delay is not None:
            self._delay_is(self._delay.said(command, result), now)

    def perform_failed(self, command: Perform, error: BaseException, *, now: float) -> None:
        """What the user's ``reconnect_delay`` raised."""
        if self._delay is not None:
            self._delay_is(self._delay.raised(command, error), now)

    def handle_timeout(self, *, now: float) -> NATSTimeoutError | None:
        """Do what is due. The dial that took too long is given up over the error that is returned."""
        if self._delay is not None and due(self._timers.answer, now):
            self._delay_is(self._delay.unanswered(self._options.connect_timeout), now)
        if self._attempt is None or not due(self._timers.dial, now):
            return None
        seconds = self._options.connect_timeout
        return NATSTimeoutError(f"dialling server {self._attempt.server} took longer than {seconds:g} s")

    def record_failure(self, error: NATSError, *, now: float) -> None:
        """The attempt on the server that the pool has named last came to nothing."""
        if isinstance(error, AuthenticationError):
            self._report_authentication(error, now, self._pool.current)
        else:
            self._pool.record_failure(error, now=now)

    def _report_authentication(self, error: AuthenticationError, now: float, server: Server | None) -> None:
        if server is not None and server in self._pool:
            dropped = self._pool.record_failure(error, now=now, server=server)
            self._events.append(AuthenticationFailed(server=server.url, error=error, dropped=dropped))

    def _no_servers(self, error: NATSError | None) -> NoServersError:
        attempts = self._pool.failures
        listed = "; ".join(str(failure)[:MAX_FAILURE] for _, failure in attempts[:MAX_LISTED])
        if len(attempts) > MAX_LISTED:
            listed += f"; and {len(attempts) - MAX_LISTED} more"
        listed = listed or "the pool is empty"
        exhausted = NoServersError(f"no server could be used: {listed}", attempts)
        exhausted.__cause__ = error if error is not None else (attempts[-1][1] if attempts else None)
        return exhausted


def address_of(server: Server, options: ConnectOptions) -> tuple[str, int]:
    """What to dial for it."""
    return options.proxy.address if isinstance(options.proxy, Proxy) else server.address
