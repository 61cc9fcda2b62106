"""The server pool against a plain list that is searched, marked and rebuilt at every step."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nats_proto._servers.pool import ServerPool
from nats_proto._servers.server import Server, parse_servers
from nats_proto.errors import (
    AuthenticationExpiredError,
    AuthorizationError,
    ConfigurationError,
    LocalProtocolError,
    MaxConnectionsError,
    NATSError,
    TransportError,
)

WAIT = 2.0
HOSTS = "abcdefgh"
ERRORS: list[NATSError] = [
    TransportError("refused"),
    MaxConnectionsError("full", text="maximum connections exceeded"),
    AuthorizationError("no", text="Authorization Violation"),
    AuthorizationError("no", text="Authorization Violation for Account"),
    AuthenticationExpiredError("old", text="User Authentication Expired"),
]
AUTHENTICATION = ERRORS[2:]
JUNK = ["", "::::", "x", "u:p@a:4222", "a:0"]
DELAYS: list[Callable[[int], float] | None] = [None, lambda rounds: 0.5 * rounds, lambda rounds: math.nan]


@dataclass(eq=False)
class Turn:
    """One server as the model knows it."""

    host: str
    named: bool
    tried: bool = False
    lame: bool = False
    attempts: int = 0
    failure: NATSError | None = None
    refusal: NATSError | None = None
    last_dial: float = -math.inf


class PoolMachine(RuleBasedStateMachine):
    """Order and time without chance: no jitter, nothing shuffled. The model is the list and what is marked in it."""

    @initialize(
        names=st.lists(st.sampled_from(HOSTS), min_size=1, max_size=4, unique=True),
        limit=st.sampled_from([-1, -1, 0, 1, 3]),
        delay=st.integers(0, len(DELAYS) - 1),
        retry_auth_errors=st.booleans(),
    )
    def start(self, names: list[str], limit: int, delay: int, retry_auth_errors: bool) -> None:
        self.rng = random.Random(1)
        self.pool = ServerPool(
            parse_servers(names),
            rng=self.rng,
            randomize=False,
            max_reconnect_attempts=limit,
            reconnect_wait=WAIT,
            reconnect_jitter=0.0,
            reconnect_delay=DELAYS[delay],
            retry_auth_errors=retry_auth_errors,
        )
        self.limit = limit
        self.delay = delay
        self.retry_auth_errors = retry_auth_errors
        self.now = 1000.0
        self.turns = [Turn(name, named=True) for name in names]
        self.current: Turn | None = None
        self.failures: list[Turn] = []
        self.round = 0
        self.rounds: int | None = None
        self.number = 0
        self.not_before = 0.0
        self.hurry = False
        self.seen_this_round: set[str] = set()

    # --- the model's own means ---------------------------------------------------------------------------------------

    def untried(self) -> int:
        """How many at the front of the list have not had their turn; all behind them have."""
        count = sum(1 for turn in self.turns if not turn.tried)
        assert all(turn.tried for turn in self.turns[count:])
        return count

    def drop(self, turn: Turn) -> None:
        self.turns.remove(turn)
        if turn is self.current:
            self.current = None

    def wait(self, given: float | None) -> float:
        if given is not None:
            return given
        return 0.5 * self.round if self.delay == 1 else WAIT * min(8.0, 1.5 ** (self.round - 1))

    def expected(self, given: float | None) -> tuple[str, float, int, int] | None:
        """One step of the model."""
        while self.rounds is None and self.turns and self.limit >= 0 and self.turns[0].attempts >= self.limit:
            self.drop(self.turns[0])
        if not self.turns:
            return None
        turn = self.turns[0]
        if turn.tried:
            if self.round == self.rounds:
                return None
            self.not_before = self.now + self.wait(given)
            self.round += 1
            self.seen_this_round.clear()
            for other in self.turns:
                other.tried = False
        at = max(self.now, self.not_before)
        if self.rounds is None and not self.hurry:
            at = max(at, turn.last_dial + WAIT)
        if self.rounds is None:
            turn.attempts += 1
        self.turns = [*self.turns[1:], turn]
        turn.tried = True
        turn.last_dial = at
        self.current = turn
        self.number += 1
        self.hurry = False
        return (turn.host, at, self.number, self.round)

    # --- right use ---------------------------------------------------------------------------------------------------

    @rule(rounds=st.sampled_from([None, None, None, 1, 2]), immediate=st.booleans())
    def begin(self, rounds: int | None, immediate: bool) -> None:
        self.pool.begin(now=self.now, rounds=rounds, immediate=immediate)
        for turn in self.turns:
            turn.tried = False
        for turn in self.failures:
            turn.failure = None
        self.failures.clear()
        self.round, self.rounds, self.number = 1, rounds, 0
        self.not_before, self.hurry = self.now, immediate
        self.seen_this_round.clear()

    @precondition(lambda self: self.round > 0)
    @rule(wait_for_it=st.booleans(), given=st.sampled_from([None, None, 0.0, 3.0]))
    def next_attempt(self, wait_for_it: bool, given: float | None) -> None:
        rested = {turn.host: turn.last_dial + WAIT for turn in self.turns}
        excused = self.hurry or self.rounds is not None
        round_before, finished = self.round, self.pool.finished_round
        attempt = self.pool.next_attempt(now=self.now, delay=given)
        expected = self.expected(given)
        assert finished == (round_before if self.round > round_before else None)
        if attempt is None or expected is None:
            assert (attempt, expected) == (None, None)
            return
        host = attempt.server.host
        assert (host, attempt.at, attempt.number, attempt.round) == expected
        assert host not in self.seen_this_round
        assert excused or attempt.at >= rested[host]
        self.seen_this_round.add(host)
        if wait_for_it:
            self.now = attempt.at

    @precondition(lambda self: self.current is not None)
    @rule(error=st.sampled_from(ERRORS))
    def fail(self, error: NATSError) -> None:
        assert self.current is not None
        self.failed(self.current, error, self.pool.record_failure(error, now=self.now))

    @precondition(lambda self: self.turns)
    @rule(error=st.sampled_from(ERRORS), data=st.data())
    def fail_another(self, error: NATSError, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.turns))
        self.failed(turn, error, self.pool.record_failure(error, now=self.now, server=Server.parse(turn.host)))

    def failed(self, turn: Turn, error: NATSError, dropped: bool) -> None:
        turn.last_dial = min(turn.last_dial, self.now)
        if turn not in self.failures:
            self.failures.append(turn)
        turn.failure = error
        again = error in AUTHENTICATION and turn.refusal is error
        if error in AUTHENTICATION:
            turn.refusal = error
        assert dropped is (again and not self.retry_auth_errors)
        if dropped:
            self.drop(turn)

    @precondition(lambda self: self.current is not None)
    @rule()
    def succeed(self) -> None:
        self.pool.record_success(now=self.now)
        assert self.current is not None
        turn = self.current
        turn.attempts, turn.refusal, turn.lame = 0, None, False
        turn.last_dial = min(turn.last_dial, self.now)
        self.turns.remove(turn)
        for other in self.turns:
            other.tried = False
        turn.tried = True
        self.turns.append(turn)
        self.round = 0

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def lame_duck(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.turns))
        self.pool.lame_duck(Server.parse(turn.host))
        turn.lame = True
        self.turns.remove(turn)
        self.turns.insert(len(self.turns) if turn.tried else self.untried(), turn)

    @rule(
        hosts=st.lists(st.sampled_from(HOSTS), max_size=6),
        junk=st.lists(st.sampled_from(JUNK), max_size=3),
        teller=st.sampled_from(HOSTS),
    )
    def discover(self, hosts: list[str], junk: list[str], teller: str) -> None:
        listed = [*junk, *(f"{host}:4222" for host in hosts), *junk]
        new = self.pool.discover(listed, current=Server.parse(teller))
        if not hosts:
            assert new == ()
            return
        for turn in list(self.turns):
            if not (turn.named or turn.host in hosts or turn.host == teller):
                self.drop(turn)
            elif turn.host in hosts and turn.host != teller:
                turn.lame = False
        known = {turn.host for turn in self.turns}
        fresh = [host for host in dict.fromkeys(hosts) if host not in known]
        assert [server.host for server in new] == fresh
        cut = self.untried()
        ahead = self.turns[:cut] + [Turn(host, named=False) for host in fresh]
        ahead.sort(key=lambda turn: turn.lame)
        self.turns[:cut] = ahead

    @rule(seconds=st.sampled_from([0.0, 0.01, 1.0, 1.99, 2.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # --- wrong use: refused, and nothing changes ---------------------------------------------------------------------

    def refuses(self, error: type[NATSError], call: Callable[[], object]) -> None:
        before = self.everything()
        with pytest.raises(error):
            call()
        assert self.everything() == before

    def everything(self) -> tuple[object, ...]:
        state = [(name, repr(getattr(self.pool, name))) for name in ServerPool.__slots__ if name != "_rng"]
        return (*state, self.rng.getstate())

    @rule(rounds=st.sampled_from([0, -1]))
    def begin_without_rounds(self, rounds: int) -> None:
        self.refuses(ConfigurationError, lambda: self.pool.begin(now=self.now, rounds=rounds))

    @precondition(lambda self: self.round == 0)
    @rule()
    def next_attempt_without_begin(self) -> None:
        self.refuses(LocalProtocolError, lambda: self.pool.next_attempt(now=self.now))

    @precondition(lambda self: self.current is None)
    @rule()
    def outcome_without_current(self) -> None:
        self.refuses(LocalProtocolError, lambda: self.pool.record_success(now=self.now))
        self.refuses(LocalProtocolError, lambda: self.pool.record_failure(ERRORS[0], now=self.now))

    @rule(host=st.sampled_from(HOSTS))
    def stranger(self, host: str) -> None:
        if host not in {turn.host for turn in self.turns}:
            server = Server.parse(host)
            self.refuses(LocalProtocolError, lambda: self.pool.lame_duck(server))
            self.refuses(LocalProtocolError, lambda: self.pool.record_failure(ERRORS[2], now=self.now, server=server))

    # --- always ------------------------------------------------------------------------------------------------------

    @invariant()
    def the_pool_is_the_list(self) -> None:
        servers = self.pool.servers
        assert [server.host for server in servers] == [turn.host for turn in self.turns]
        assert len(self.pool) == len(self.turns)
        assert [server.explicit for server in servers] == [turn.named for turn in self.turns]
        assert [self.pool.attempts_of(server) for server in servers] == [turn.attempts for turn in self.turns]
        assert [self.pool.is_lame_duck(server) for server in servers] == [turn.lame for turn in self.turns]
        assert (self.pool.current.host if self.pool.current else None) == (self.current.host if self.current else None)
        assert self.pool.failures == tuple((f"nats://{turn.host}:4222", turn.failure) for turn in self.failures)


TestPoolMachine = PoolMachine.TestCase
