"""The order of things: which life-cycle event may follow which, and which server may be dialled when."""

from __future__ import annotations

from typing import Final

from nats_proto import (
    AuthenticationFailed,
    Closed,
    Connected,
    ConnectOptions,
    ContentErrorReceived,
    Disconnected,
    LameDuckMode,
    PublishesDropped,
    Reconnected,
    Reconnecting,
    ServerErrorReceived,
    ServersDiscovered,
    SessionEvent,
    SlowConsumer,
)
from tests.simulation.world import Violation

__all__ = ["DialLog", "EventOrder"]

NEW, CONNECTING, UP, DOWN, CLOSED = "new", "connecting", "up", "down", "closed"
_ONLY_UP: Final = (
    LameDuckMode,
    ServersDiscovered,
    ServerErrorReceived,
    ContentErrorReceived,
    SlowConsumer,
    PublishesDropped,
)


class EventOrder:
    """Follows the events of one session."""

    def __init__(self, options: ConnectOptions) -> None:
        self._options = options
        self.state = NEW
        self.was_up = False
        self.ups = 0
        self.attempt = 0
        self.lame_duck = False
        self.migrating = False
        """The server is a lame duck, and the session waits for the moment to leave it."""
        self.wished = False
        """The last Disconnected was somebody's wish."""
        self.closed: Closed | None = None
        self.refusals: dict[str, tuple[str, str]] = {}
        self.drops = 0
        """Servers that left the pool for refusing us."""

    def follow(self, event: SessionEvent) -> None:
        """The next event. Raises `Violation` when it may not come now."""
        state = self.state
        if state is CLOSED:
            raise Violation(f"after Closed came {event!r}")
        match event:
            case Connected():
                self._require(event, not self.was_up and state is CONNECTING)
                self._up(event.server)
            case Reconnected():
                self._require(event, self.was_up and state is DOWN and event.attempts >= 1)
                self._up(event.server)
            case Disconnected(error=error):
                self._require(event, state is UP)
                self.state = DOWN
                self.migrating = False
                self.attempt = 0
                self.wished = error is None
            case Reconnecting():
                retrying = state is CONNECTING and self._options.retry_on_failed_connect
                self._require(event, state is DOWN or retrying)
                self._require(event, event.attempt in (self.attempt, self.attempt + 1) and event.delay >= 0)
                self.attempt = event.attempt
            case Closed():
                self._require(event, state is not UP)
                self.closed = event
                self.state = CLOSED
            case AuthenticationFailed():
                self._refused(event)
            case _ if isinstance(event, _ONLY_UP):
                self._require(event, state is UP)
                if isinstance(event, ServersDiscovered):
                    for server in event.servers:  # it may have left the pool meanwhile, and is new
                        self.refusals.pop(server, None)
                if isinstance(event, LameDuckMode):
                    self._require(event, not self.lame_duck or (event.migrating and not self.migrating))
                    self.lame_duck = True
                    self.migrating = event.migrating
            case _:
                pass  # the end of something that somebody waits for: at any time before Closed

    def _require(self, event: SessionEvent, allowed: bool) -> None:
        if not allowed:
            raise Violation(f"while {self.state} came {event!r}")

    def _up(self, server: str) -> None:
        self.state = UP
        self.was_up = True
        self.ups += 1
        self.attempt = 0
        self.lame_duck = False
        self.refusals.pop(server, None)

    def _refused(self, event: AuthenticationFailed) -> None:
        said = (type(event.error).__name__, event.error.text)
        repeated = self.refusals.get(event.server) == said and not self._options.retry_auth_errors
        if event.dropped != repeated:
            raise Violation(f"{event!r} of a server whose last refusal was {self.refusals.get(event.server)}")
        self.refusals[event.server] = said
        if event.dropped:
            self.drops += 1
            del self.refusals[event.server]


class DialLog:
    """Follows the dials of one session."""

    def __init__(self, options: ConnectOptions) -> None:
        self._options = options
        self._outage: list[tuple[str, frozenset[str]]] = []
        self._last: dict[str, float] = {}
        self._lost: str | None = None
        self.hurried = False
        """The next dial is one that need not wait."""

    def outage(self, lost: str, *, wished: bool) -> None:
        """A connection was lost."""
        self._outage.clear()
        self._lost = lost
        self.hurried = wished

    def joined(self, servers: tuple[str, ...]) -> None:
        """They are new in the pool."""
        for server in servers:
            self._last.pop(server, None)

    def left(self, server: str) -> None:
        """It is in the pool no longer; it may come again by what the first server of all tells, without an event."""
        self._last.pop(server, None)

    def dialled(self, server: str, at: float, pool: tuple[str, ...], *, first_walk: bool) -> None:
        """A dial begins. Raises `Violation` when it is not this server's turn, or too soon."""
        members = frozenset(pool)
        self._check_turn(server, members, first_walk=first_walk)
        self._outage.append((server, members))
        rested = at - self._last.get(server, -1e9)
        if not (first_walk or self.hurried) and rested < self._options.reconnect_wait - 1e-6:
            raise Violation(
                f"{server} was dialled again after {rested:g} s, reconnect_wait is {self._options.reconnect_wait:g}"
            )
        self._last[server] = at
        self.hurried = False

    def _check_turn(self, server: str, members: frozenset[str], *, first_walk: bool) -> None:
        between: set[str] = set()
        stayed = members
        for earlier, then in reversed(self._outage):
            if earlier == server:
                if first_walk:
                    raise Violation(f"{server} was dialled twice in the first walk")
                missed = (stayed & then) - between - {server}
                if missed:
                    raise Violation(f"{server} was dialled again before {sorted(missed)}")
                return
            between.add(earlier)
            stayed &= then
        if server == self._lost and (missed := stayed - between - {server}):
            raise Violation(f"{server} was lost and dialled first, before {sorted(missed)}")
