"""The pool: who is next, when, and who leaves."""

from __future__ import annotations

import gc
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from types import FunctionType, ModuleType

import pytest

from nats_proto._secret import Secret
from nats_proto._servers.pool import GROWTH, MAX_DISCOVERED, MAX_GROWTH, MAX_LISTED, Attempt, ServerPool
from nats_proto._servers.server import Server, parse_servers
from nats_proto.errors import (
    AuthenticationError,
    AuthenticationExpiredError,
    AuthenticationTimeoutError,
    AuthorizationError,
    ConfigurationError,
    ConnectionLostError,
    LocalProtocolError,
    MaxConnectionsError,
    NATSError,
    NATSTimeoutError,
    SecureConnectionRequiredError,
    ThrottledError,
    TransportError,
)

REFUSED = TransportError("connection refused")
WAIT = 2.0


def pool_of(
    servers: str | Iterable[str | Server] = "a,b,c",
    *,
    seed: int = 1,
    randomize: bool = False,
    max_reconnect_attempts: int = -1,
    reconnect_jitter: float = 0.0,
    reconnect_jitter_tls: float = 0.0,
    reconnect_delay: Callable[[int], float] | None = None,
    ignore_discovered: bool = False,
    retry_auth_errors: bool = False,
) -> ServerPool:
    """Without chance, unless a test asks for it."""
    return ServerPool(
        parse_servers(servers),
        rng=random.Random(seed),
        randomize=randomize,
        max_reconnect_attempts=max_reconnect_attempts,
        reconnect_wait=WAIT,
        reconnect_jitter=reconnect_jitter,
        reconnect_jitter_tls=reconnect_jitter_tls,
        reconnect_delay=reconnect_delay,
        ignore_discovered=ignore_discovered,
        retry_auth_errors=retry_auth_errors,
    )


def hosts(servers: Iterable[Server]) -> str:
    return " ".join(server.host for server in servers)


def fail(pool: ServerPool, now: float, error: NATSError = REFUSED) -> Attempt | None:
    """One attempt, made when it is due, and failed at once."""
    attempt = pool.next_attempt(now=now)
    if attempt is not None:
        pool.record_failure(error, now=attempt.at)
    return attempt


def fail_times(pool: ServerPool, times: int, now: float = 0.0) -> list[Attempt]:
    attempts: list[Attempt] = []
    for _ in range(times):
        attempt = fail(pool, now)
        if attempt is None:
            break
        attempts.append(attempt)
        now = attempt.at
    return attempts


def connect(pool: ServerPool, host: str, now: float = 0.0) -> Server:
    """Fail until it is the turn of ``host``, and succeed there."""
    pool.begin(now=now, rounds=1)
    while True:
        attempt = pool.next_attempt(now=now)
        assert attempt is not None
        if attempt.server.host == host:
            pool.record_success(now=now)
            return attempt.server
        pool.record_failure(REFUSED, now=now)


# --- the order -------------------------------------------------------------------------------------------------------


def test_three_servers_down_are_tried_a_b_c_a_b_c() -> None:
    pool = pool_of("a,b,c")
    pool.begin(now=0.0)
    attempts = fail_times(pool, 9)
    assert hosts(attempt.server for attempt in attempts) == "a b c a b c a b c"
    assert [attempt.number for attempt in attempts] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [attempt.round for attempt in attempts] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 10, 101])
def test_the_rotation_is_fair_for_any_number_of_servers(size: int) -> None:
    names = [f"h{i}" for i in range(size)]
    pool = pool_of(names)
    pool.begin(now=0.0)
    assert [attempt.server.host for attempt in fail_times(pool, 5 * size)] == names * 5


@pytest.mark.parametrize(("connected", "order"), [("a", "b c a b c a"), ("b", "c a b c a b"), ("c", "a b c a b c")])
def test_after_a_loss_the_rotation_goes_on_and_the_lost_server_comes_last(connected: str, order: str) -> None:
    pool = pool_of("a,b,c")
    connect(pool, connected)
    assert pool.current == Server.parse(connected)
    pool.begin(now=100.0)
    assert hosts(pool.servers) == order[:5]
    assert hosts(attempt.server for attempt in fail_times(pool, 6, 100.0)) == order


def test_the_rotation_goes_on_where_an_outage_was_broken_off() -> None:
    pool = pool_of("a,b,c,d")
    pool.begin(now=0.0)
    assert hosts(attempt.server for attempt in fail_times(pool, 2)) == "a b"
    pool.begin(now=10.0)
    assert hosts(attempt.server for attempt in fail_times(pool, 5, 10.0)) == "c d a b c"
    pool.begin(now=100.0)
    assert hosts(attempt.server for attempt in fail_times(pool, 5, 100.0)) == "d a b c d"


def test_the_first_walk_tries_every_server_once_at_once() -> None:
    pool = pool_of("a,b,c", reconnect_jitter=1.0)
    pool.begin(now=5.0, rounds=1)
    attempts = fail_times(pool, 9, 5.0)
    assert [(attempt.server.host, attempt.at) for attempt in attempts] == [("a", 5.0), ("b", 5.0), ("c", 5.0)]
    assert pool.next_attempt(now=9.0) is None
    assert hosts(pool.servers) == "a b c"


def test_a_walk_is_not_held_up_by_an_earlier_dial() -> None:
    pool = pool_of("a")
    for now in (0.0, 0.1):
        pool.begin(now=now, rounds=1)
        assert pool.next_attempt(now=now) == Attempt(Server.parse("a"), now, 1, 1)


def test_a_walk_of_two_rounds_waits_in_between() -> None:
    pool = pool_of("a,b")
    pool.begin(now=0.0, rounds=2)
    assert [attempt.at for attempt in fail_times(pool, 9)] == [0.0, 0.0, WAIT, WAIT]


def test_a_server_given_twice_has_one_turn() -> None:
    pool = pool_of([Server.parse("u:p@a"), "b", "A", Server(scheme="nats", host="A", port=4222)])
    assert hosts(pool.servers) == "a b"
    assert pool.servers[0].user == Secret("u")
    assert len(pool) == 2


def test_the_order_is_shuffled_by_the_given_random() -> None:
    names = [f"h{i}" for i in range(50)]
    orders = {hosts(pool_of(names, seed=seed, randomize=True).servers) for seed in range(20)}
    assert len(orders) == 20
    assert all(sorted(order.split()) == sorted(names) for order in orders)
    again = hosts(pool_of(names, seed=3, randomize=True).servers)
    assert again == hosts(pool_of(names, seed=3, randomize=True).servers)
    assert hosts(pool_of(names).servers) == " ".join(names)


def test_shuffled_clients_spread_over_the_servers() -> None:
    first = Counter(pool_of("a,b,c", seed=seed, randomize=True).servers[0].host for seed in range(900))
    assert all(200 < count < 400 for count in first.values())


# --- the time --------------------------------------------------------------------------------------------------------


def test_one_wait_per_round_that_grows_by_half_up_to_eight_times() -> None:
    pool = pool_of("a,b,c")
    pool.begin(now=0.0)
    attempts = fail_times(pool, 3 * 9)
    for round_number in range(1, 10):
        assert len({attempt.at for attempt in attempts if attempt.round == round_number}) == 1
    starts = [attempt.at for attempt in attempts[::3]]
    waits = [later - earlier for earlier, later in pairwise(starts)]
    assert waits == pytest.approx([2.0, 3.0, 4.5, 6.75, 10.125, 15.1875, 16.0, 16.0])


def test_the_wait_stays_in_its_bounds_for_a_very_long_outage() -> None:
    pool = pool_of("a", reconnect_jitter=0.5)
    pool.begin(now=0.0)
    now = 0.0
    for number in range(1, 20_000):
        attempt = pool.next_attempt(now=now)
        assert attempt is not None
        if number > 10:
            assert MAX_GROWTH * WAIT <= attempt.at - now < MAX_GROWTH * WAIT + 0.5 + 1e-6
        now = attempt.at


def test_the_wait_of_a_round_begins_when_its_last_attempt_failed() -> None:
    pool = pool_of("a,b")
    pool.begin(now=0.0)
    for now, at in [(0.0, 0.0), (1.5, 1.5), (3.0, 5.0), (6.0, 6.0), (7.0, 10.0)]:
        attempt = pool.next_attempt(now=now)
        assert attempt is not None
        assert attempt.at == at
        pool.record_failure(REFUSED, now=at)


def test_an_attempt_asked_for_early_still_waits_for_its_round() -> None:
    pool = pool_of("a,b")
    pool.begin(now=0.0)
    fail_times(pool, 2)
    planned, skipped_to = pool.next_attempt(now=0.0), pool.next_attempt(now=0.0)
    assert planned is not None
    assert skipped_to is not None
    assert (planned.at, skipped_to.at) == (WAIT, WAIT)


def test_jitter_comes_before_the_first_attempt_and_with_each_wait() -> None:
    pool, rng = pool_of("a,b", seed=7, reconnect_jitter=0.5), random.Random(7)
    pool.begin(now=100.0)
    attempts = fail_times(pool, 6, 100.0)
    first = 100.0 + 0.5 * rng.random()
    second = first + WAIT + 0.5 * rng.random()
    third = second + WAIT * GROWTH + 0.5 * rng.random()
    assert [attempt.at for attempt in attempts] == [first, first, second, second, third, third]


@pytest.mark.parametrize(
    ("servers", "longest"), [("a,b", 0.1), ("tls://a,b", 1.0), ("ws://a", 0.1), ("wss://a,ws://b", 1.0)]
)
def test_secure_servers_have_their_own_jitter(servers: str, longest: float) -> None:
    firsts: list[float] = []
    for seed in range(200):
        pool = pool_of(servers, seed=seed, reconnect_jitter=0.1, reconnect_jitter_tls=1.0)
        pool.begin(now=0.0)
        attempt = pool.next_attempt(now=0.0)
        assert attempt is not None
        firsts.append(attempt.at)
    assert longest * 0.9 < max(firsts) < longest
    assert 0 <= min(firsts) < longest * 0.1


def test_one_secure_server_is_enough_for_their_jitter() -> None:
    servers = [Server.parse("tls://a"), Server.parse("nats://b")]
    pool = ServerPool(servers, rng=random.Random(1), randomize=False, reconnect_jitter=0.0, reconnect_jitter_tls=1.0)
    pool.begin(now=0.0)
    attempt = pool.next_attempt(now=0.0)
    assert attempt is not None
    assert attempt.at > 0.0


def test_an_immediate_attempt_comes_now_even_just_after_the_last() -> None:
    pool = pool_of("a", reconnect_jitter=0.5)
    connect(pool, "a", 100.0)
    pool.begin(now=100.5, immediate=True)
    first, second = fail_times(pool, 2, 100.5)
    assert first.at == 100.5
    assert 100.5 + WAIT <= second.at < 100.5 + WAIT + 0.5


def test_only_the_first_attempt_of_an_immediate_outage_is_excused_from_the_rest() -> None:
    pool = pool_of("a,b")
    connect(pool, "b", 100.0)
    pool.begin(now=100.5, immediate=True)
    assert [(attempt.server.host, attempt.at) for attempt in fail_times(pool, 2, 100.5)] == [("a", 100.5), ("b", 102.0)]


def test_a_flapping_server_is_dialled_once_per_wait() -> None:
    pool = pool_of("a", reconnect_jitter=0.1)
    dials: list[float] = []
    now = 0.0
    for _ in range(600):
        pool.begin(now=now)
        attempt = pool.next_attempt(now=now)
        assert attempt is not None
        dials.append(attempt.at)
        pool.record_success(now=attempt.at)
        now = attempt.at + 0.05
        assert pool.attempts_of(attempt.server) == 0
    assert all(WAIT <= later - earlier <= WAIT + 0.1 + 1e-6 for earlier, later in pairwise(dials))


def test_a_flapping_server_does_not_hold_up_the_others() -> None:
    pool = pool_of("a,b,c")
    for now, host in [(0.0, "a"), (10.0, "b"), (20.0, "c")]:
        pool.begin(now=now)
        assert pool.next_attempt(now=now) == Attempt(Server.parse(host), now, 1, 1)
        pool.record_success(now=now)
    pool.begin(now=20.05)
    attempts = fail_times(pool, 3, 20.05)
    assert [(attempt.server.host, attempt.at) for attempt in attempts] == [("a", 20.05), ("b", 20.05), ("c", 22.0)]


def test_a_walk_that_failed_is_not_repeated_at_once_and_not_in_step() -> None:
    pool = pool_of("a,b", reconnect_jitter=0.5)
    pool.begin(now=0.0, rounds=1)
    fail_times(pool, 2)
    pool.begin(now=0.0)
    first, second = fail_times(pool, 2)
    assert WAIT < first.at < WAIT + 0.5
    assert WAIT < second.at < WAIT + 0.5


def test_a_dial_made_earlier_than_planned_counts_from_when_it_was_made() -> None:
    pool = pool_of("a")
    pool.begin(now=0.0)
    planned = fail_times(pool, 8)[-1].at
    attempt = pool.next_attempt(now=planned)
    assert attempt is not None
    assert attempt.at == planned + MAX_GROWTH * WAIT
    pool.record_success(now=planned + 1.0)  # the user was in a hurry, and it was dialled at once
    pool.begin(now=planned + 2.0)
    again = pool.next_attempt(now=planned + 2.0)
    assert again is not None
    assert again.at == planned + 1.0 + WAIT


def test_a_custom_delay_replaces_wait_and_jitter() -> None:
    asked: list[int] = []

    def delay(rounds: int) -> float:
        asked.append(rounds)
        return 10.0 * rounds

    pool = pool_of("a,b", reconnect_delay=delay)
    pool.begin(now=0.0)
    assert [attempt.at for attempt in fail_times(pool, 8)] == [0.0, 0.0, 10.0, 10.0, 30.0, 30.0, 60.0, 60.0]
    assert asked == [1, 2, 3]


def test_a_short_custom_delay_does_not_beat_the_rest_of_a_server() -> None:
    pool = pool_of("a", reconnect_delay=lambda rounds: 0)
    pool.begin(now=0.0)
    assert [attempt.at for attempt in fail_times(pool, 4)] == [0.0, 2.0, 4.0, 6.0]


def _raise(error: Exception) -> Callable[[int], float]:
    def delay(rounds: int) -> float:
        raise error

    return delay


@pytest.mark.parametrize(
    "delay",
    [
        _raise(ValueError("mine")),
        _raise(ZeroDivisionError()),
        lambda rounds: math.nan,
        lambda rounds: math.inf,
        lambda rounds: -1,
        lambda rounds: -math.inf,
        lambda rounds: None,
        lambda rounds: "soon",
        lambda rounds: "1",
        lambda rounds: True,
        lambda rounds: 10**400,
        lambda: 1.0,
    ],
    ids=[
        *("ValueError", "ZeroDivisionError", "nan", "inf", "-1", "-inf", "None", "text", "number as text", "bool"),
        *("huge", "no argument"),
    ],
)
def test_a_custom_delay_that_cannot_be_used_leaves_the_usual_wait(delay: Callable[[int], float]) -> None:
    pool = pool_of("a", reconnect_delay=delay)
    pool.begin(now=0.0)
    assert [attempt.at for attempt in fail_times(pool, 4)] == [0.0, 2.0, 5.0, 9.5]


def test_a_custom_delay_that_is_interrupted_changes_nothing() -> None:
    interrupts = 3

    def delay(rounds: int) -> float:
        nonlocal interrupts
        interrupts -= 1
        if interrupts >= 0:
            raise KeyboardInterrupt
        return 10.0 * rounds

    pool = pool_of("a,b", reconnect_delay=delay)
    pool.begin(now=0.0)
    fail_times(pool, 2)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            pool.next_attempt(now=0.0)
        assert hosts(pool.servers) == "a b"
        assert [pool.attempts_of(server) for server in pool.servers] == [1, 1]
    assert pool.next_attempt(now=0.0) == Attempt(Server.parse("a"), 10.0, 3, 2)


def test_a_delay_that_is_given_replaces_wait_and_jitter_between_rounds_alone() -> None:
    pool = pool_of("a,b", reconnect_jitter=1.0, reconnect_delay=_raise(AssertionError("not asked")))
    pool.begin(now=0.0, rounds=2)
    for delay, at in ((7.0, 0.0), (7.0, 0.0), (7.0, 7.0), (70.0, 7.0)):
        attempt = pool.next_attempt(now=0.0, delay=delay)
        assert attempt is not None
        assert attempt.at == at
    assert pool.next_attempt(now=0.0, delay=7.0) is None


def test_a_given_delay_of_nothing_does_not_beat_the_rest_of_a_server() -> None:
    pool = pool_of("a")
    pool.begin(now=0.0)
    assert fail(pool, 0.0) is not None
    again = pool.next_attempt(now=0.5, delay=0.0)
    assert again is not None
    assert again.at == WAIT


FINISHED: dict[str, tuple[Callable[[ServerPool], object], list[int | None]]] = {
    "without end": (lambda pool: pool.begin(now=0.0), [None, None, 1, None, 2, None, 3]),
    "two rounds": (lambda pool: pool.begin(now=0.0, rounds=2), [None, None, 1, None, None, None, None]),
    "no begin": (lambda pool: None, [None]),
    "success": (lambda pool: connect(pool, "b"), [None]),
    "begun anew": (lambda pool: (connect(pool, "a"), pool.begin(now=0.0)), [None, None, 1]),
}


@pytest.mark.parametrize("begun", FINISHED)
def test_a_finished_round(begun: str) -> None:
    begin, expected = FINISHED[begun]
    pool = pool_of("a,b")
    begin(pool)
    seen: list[int | None] = []
    for _ in expected:
        seen += [pool.finished_round]
        if len(seen) < len(expected):
            fail(pool, 0.0)
    assert seen == expected


def test_a_round_is_finished_when_only_those_are_left_that_are_not_tried() -> None:
    pool = pool_of("a,b,c", max_reconnect_attempts=2)
    pool.begin(now=0.0)
    fail_times(pool, 4)  # a has had its two
    pool.begin(now=0.0)  # b and c come next
    assert hosts(pool.servers) == "b c a"
    fail_times(pool, 2)
    assert pool.finished_round is None  # nobody is left at all
    assert fail(pool, 0.0) is None
    pool = pool_of("a,b,c")
    pool.begin(now=0.0)
    fail_times(pool, 1)
    refused = AuthorizationError("no", text="no")
    for host in ("b", "c"):
        for _ in range(2):
            pool.record_failure(refused, now=0.0, server=Server.parse(host))
    assert hosts(pool.servers) == "a"
    assert pool.finished_round == 1
    attempt = pool.next_attempt(now=0.0, delay=9.0)
    assert attempt is not None
    assert (attempt.at, attempt.round) == (9.0, 2)


def test_looking_whether_a_round_is_finished_changes_nothing() -> None:
    pool = pool_of("a,b", max_reconnect_attempts=1)
    pool.begin(now=0.0)
    fail_times(pool, 2)
    assert len(pool) == 2
    assert pool.finished_round is None
    assert len(pool) == 2


@pytest.mark.parametrize("connected_before", [True, False], ids=["lost", "never connected"])
def test_a_thousand_clients_come_spread_over_the_jitter(connected_before: bool) -> None:
    bins, firsts = Counter[int](), Counter[str]()
    for seed in range(1000):
        pool = pool_of("a,b,c", seed=seed, randomize=True, reconnect_jitter=1.0)
        now = 0.0
        if connected_before:
            connect(pool, "a")
            now = 100.0
        else:
            pool.begin(now=0.0, rounds=1)
            fail_times(pool, 3)
        pool.begin(now=now)
        attempt = pool.next_attempt(now=now)
        assert attempt is not None
        since = attempt.at - (now if connected_before else WAIT)
        assert 0 <= since < 1.0
        bins[int(since * 10)] += 1
        firsts[attempt.server.host] += 1
    assert all(50 <= bins[tenth] <= 200 for tenth in range(10)), bins
    if connected_before:
        assert set(firsts) == {"b", "c"}
        assert all(400 < count < 600 for count in firsts.values())


# --- attempts and their limit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "order"),
    [(1, "a b c"), (2, "a b c a b c"), (3, "a b c a b c a b c"), (0, "")],
)
def test_servers_leave_when_their_attempts_are_used_up(limit: int, order: str) -> None:
    pool = pool_of("a,b,c", max_reconnect_attempts=limit)
    pool.begin(now=0.0)
    assert hosts(attempt.server for attempt in fail_times(pool, 99)) == order
    assert pool.next_attempt(now=99.0) is None
    assert (len(pool), pool.servers, pool.current) == (0, (), None)
    assert len(pool.failures) == (3 if limit else 0)


def test_no_limit_means_for_ever() -> None:
    pool = pool_of("a,b")
    pool.begin(now=0.0)
    assert len(fail_times(pool, 5000)) == 5000
    assert [pool.attempts_of(server) for server in pool.servers] == [2500, 2500]


def test_a_limit_of_none_at_all_still_allows_the_first_walk() -> None:
    pool = pool_of("a,b", max_reconnect_attempts=0)
    connect(pool, "b")
    assert len(pool) == 2
    pool.begin(now=10.0)
    assert pool.next_attempt(now=10.0) is None
    assert len(pool) == 0


def test_the_first_walk_uses_up_no_attempts() -> None:
    pool = pool_of("a,b", max_reconnect_attempts=1)
    pool.begin(now=0.0, rounds=1)
    assert len(fail_times(pool, 9)) == 2
    assert [pool.attempts_of(server) for server in pool.servers] == [0, 0]
    pool.begin(now=0.0)
    assert len(fail_times(pool, 9)) == 2


def test_a_success_gives_all_attempts_back() -> None:
    pool = pool_of("a,b", max_reconnect_attempts=2)
    a, b = pool.servers
    pool.begin(now=0.0)
    assert hosts(attempt.server for attempt in fail_times(pool, 2)) == "a b"
    pool.next_attempt(now=50.0)
    assert (pool.attempts_of(a), pool.attempts_of(b)) == (2, 1)
    pool.record_success(now=50.0)
    assert (pool.attempts_of(a), pool.attempts_of(b)) == (0, 1)
    pool.begin(now=60.0)
    assert hosts(attempt.server for attempt in fail_times(pool, 9, 60.0)) == "b a a"


def test_a_server_with_attempts_left_goes_on_when_others_have_none() -> None:
    pool = pool_of("a,b,c", max_reconnect_attempts=2)
    for now in (0.0, 10.0):  # b succeeds, a and c do not
        pool.begin(now=now)
        while (attempt := pool.next_attempt(now=now)) is not None and attempt.server.host != "b":
            pool.record_failure(REFUSED, now=now)
        pool.record_success(now=now)
    pool.begin(now=20.0)
    assert [(server.host, pool.attempts_of(server)) for server in pool.servers] == [("c", 1), ("a", 2), ("b", 0)]
    assert hosts(attempt.server for attempt in fail_times(pool, 99, 20.0)) == "c b b"


def test_attempts_of_a_stranger_are_none() -> None:
    pool = pool_of("a")
    assert pool.attempts_of(Server.parse("x")) == 0
    assert not pool.is_lame_duck(Server.parse("x"))


# --- failures --------------------------------------------------------------------------------------------------------


def test_the_last_failure_of_each_server_is_kept_in_the_order_tried() -> None:
    pool = pool_of("a,u:p@b,c", max_reconnect_attempts=2)
    pool.begin(now=0.0)
    errors = [TransportError(f"error {i}") for i in range(5)]
    for error in errors:
        fail(pool, 0.0, error)
    assert pool.failures == (
        ("nats://a:4222", errors[3]),
        ("nats://b:4222", errors[4]),
        ("nats://c:4222", errors[2]),
    )
    assert len(fail_times(pool, 9)) == 1
    assert len(pool) == 0
    assert [url for url, _ in pool.failures] == ["nats://a:4222", "nats://b:4222", "nats://c:4222"]


def test_a_new_outage_begins_with_no_failures() -> None:
    pool = pool_of("a,b")
    connect(pool, "b")
    assert [url for url, _ in pool.failures] == ["nats://a:4222"]
    pool.begin(now=1.0)
    assert [url for url, _ in pool.failures] == []
    lost = ConnectionLostError("lost")
    assert pool.record_failure(lost, now=1.0) is False
    assert pool.failures == (("nats://b:4222", lost),)


def refusal(kind: type[AuthenticationError] = AuthorizationError, text: str = "Authorization Violation") -> NATSError:
    return kind(f"server said: {text}", text=text)


def test_the_same_authentication_error_twice_drops_the_server() -> None:
    pool = pool_of("a,b")
    pool.begin(now=0.0)
    dials: Counter[str] = Counter()
    for _ in range(2):
        for _ in range(2):
            attempt = pool.next_attempt(now=0.0)
            assert attempt is not None
            dials[attempt.server.host] += 1
            dropped = pool.record_failure(refusal(), now=attempt.at)
            assert dropped is (dials[attempt.server.host] == 2)
            assert pool.current == (None if dropped else attempt.server)
    assert pool.next_attempt(now=0.0) is None
    assert dials == {"a": 2, "b": 2}
    assert [url for url, _ in pool.failures] == ["nats://a:4222", "nats://b:4222"]


def test_the_rotation_goes_on_when_a_server_was_dropped_in_the_middle_of_a_round() -> None:
    pool = pool_of("a,b,c,d")
    pool.begin(now=0.0)
    order: list[str] = []
    for _ in range(12):
        attempt = pool.next_attempt(now=0.0)
        assert attempt is not None
        order.append(attempt.server.host)
        pool.record_failure(refusal() if attempt.server.host == "b" else REFUSED, now=attempt.at)
    assert " ".join(order) == "a b c d a b c d a c d a"


@pytest.mark.parametrize(
    "between",
    [
        [],
        [REFUSED],
        [NATSTimeoutError("slow"), MaxConnectionsError("full"), ThrottledError("later")],
        [AuthenticationTimeoutError("slow"), SecureConnectionRequiredError("tls"), ConnectionLostError("lost")],
    ],
)
def test_other_errors_in_between_do_not_matter(between: list[NATSError]) -> None:
    pool = pool_of("a")
    pool.begin(now=0.0)
    assert not fail_with(pool, refusal())
    for error in between:
        assert not fail_with(pool, error)
        assert not fail_with(pool, error)
    assert fail_with(pool, refusal())
    assert len(pool) == 0


def fail_with(pool: ServerPool, error: NATSError) -> bool:
    attempt = pool.next_attempt(now=0.0)
    assert attempt is not None
    return pool.record_failure(error, now=attempt.at)


def test_a_different_authentication_error_starts_anew() -> None:
    pool = pool_of("a")
    pool.begin(now=0.0)
    for error in [
        refusal(),
        refusal(AuthenticationExpiredError, "User Authentication Expired"),
        refusal(),
        refusal(text="Authorization Violation for Account"),
        refusal(AuthenticationError, "Authorization Violation for Account"),
    ]:
        assert not fail_with(pool, error)
    assert fail_with(pool, refusal(AuthenticationError, "Authorization Violation for Account"))


def test_a_success_forgets_the_authentication_error() -> None:
    pool = pool_of("a")
    for now in range(0, 100, 10):
        pool.begin(now=now)
        assert not fail_with(pool, refusal())
        pool.next_attempt(now=now)
        pool.record_success(now=now)
    assert len(pool) == 1


def test_an_authentication_error_counts_from_outage_to_outage() -> None:
    pool = pool_of("a,b")
    connect(pool, "a")
    pool.begin(now=10.0)
    assert not pool.record_failure(refusal(), now=10.0)  # the living connection was refused
    assert not fail_with(pool, REFUSED)
    pool.begin(now=20.0)
    assert fail_with(pool, refusal())
    assert hosts(pool.servers) == "b"


def test_by_option_authentication_errors_drop_nobody() -> None:
    pool = pool_of("a", retry_auth_errors=True)
    pool.begin(now=0.0)
    assert not any(fail_with(pool, refusal()) for _ in range(100))
    assert len(pool) == 1


def test_a_hundred_refusals_for_lack_of_room_drop_nobody() -> None:
    pool = pool_of("a")
    pool.begin(now=0.0)
    full = MaxConnectionsError("full", text="maximum connections exceeded")
    assert not any(fail_with(pool, full) for _ in range(100))
    assert len(pool) == 1


def test_a_failure_may_name_its_server() -> None:
    pool = pool_of("a,b,c")
    pool.begin(now=0.0)
    pool.next_attempt(now=0.0)
    c = pool.servers[1]
    assert c.host == "c"
    assert not pool.record_failure(refusal(), now=0.0, server=c)
    assert pool.record_failure(refusal(), now=0.0, server=c)
    assert hosts(pool.servers) == "b a"
    assert hosts([pool.current] if pool.current else []) == "a"
    assert [url for url, _ in pool.failures] == ["nats://c:4222"]


# --- lame duck -------------------------------------------------------------------------------------------------------


def test_a_lame_duck_is_tried_last() -> None:
    pool = pool_of("a,b,c")
    a = connect(pool, "a")
    pool.lame_duck(a)
    assert pool.is_lame_duck(a)
    assert pool.discover(["d:4222", "e:4222"], current=a) != ()
    pool.begin(now=10.0)
    order = [attempt.server.host for attempt in fail_times(pool, 10, 10.0)]
    assert order[:2] == ["b", "c"]
    assert order[4] == "a"
    assert order[5:] == order[:5]


def test_a_lame_duck_not_yet_tried_moves_behind_the_others() -> None:
    pool = pool_of("a,b,c,d")
    pool.begin(now=0.0)
    fail(pool, 0.0)
    pool.lame_duck(Server.parse("b"))
    assert hosts(pool.servers) == "c d b a"
    pool.discover(["e:4222"], current=Server.parse("a"))
    assert hosts(pool.servers) == "c d e b a"
    assert hosts(attempt.server for attempt in fail_times(pool, 5)) == "c d e b a"


def test_a_success_ends_the_mark() -> None:
    pool = pool_of("a,b")
    a = connect(pool, "a")
    pool.lame_duck(a)
    pool.begin(now=10.0)
    assert fail(pool, 10.0)
    assert pool.next_attempt(now=10.0)
    assert pool.is_lame_duck(a)
    pool.record_success(now=10.0)
    assert not pool.is_lame_duck(a)


def test_being_listed_by_another_server_ends_the_mark() -> None:
    pool = pool_of("a,b")
    a, b = pool.servers
    pool.lame_duck(a)
    pool.discover(["a:4222", "b:4222"], current=a)  # the list of the lame duck itself
    assert pool.is_lame_duck(a)
    pool.discover(["c:4222", "b:4222"], current=b)
    assert pool.is_lame_duck(a)
    pool.discover(["a:4222", "b:4222"], current=b)
    assert not pool.is_lame_duck(a)


def test_a_rolling_restart_always_finds_a_server_that_stays() -> None:
    pool = pool_of("a,b,c")
    current = connect(pool, "a")
    for now in (10.0, 20.0, 30.0, 40.0):
        pool.lame_duck(current)
        pool.begin(now=now, immediate=True)
        attempt = pool.next_attempt(now=now)
        assert attempt is not None
        assert attempt.server != current
        assert not pool.is_lame_duck(attempt.server)
        pool.record_success(now=now)
        pool.discover(["a:4222", "b:4222", "c:4222"], current=attempt.server)
        current = attempt.server


# --- discovery -------------------------------------------------------------------------------------------------------


def test_discovered_servers_come_behind_the_named_ones() -> None:
    pool = pool_of("a,b")
    a = connect(pool, "a")
    new = pool.discover(["a:4222", "b:4222", "c:4222", "d:4223"], current=a)
    assert [str(server) for server in new] == ["nats://c:4222", "nats://d:4223"]
    assert not any(server.explicit for server in new)
    assert hosts(pool.servers) == "b c d a"
    pool.begin(now=10.0)
    assert hosts(attempt.server for attempt in fail_times(pool, 8, 10.0)) == "b c d a b c d a"
    assert pool.discover(["c:4222", "d:4223"], current=a) == ()


def test_servers_discovered_in_the_middle_of_a_round_have_their_turn_in_it() -> None:
    pool = pool_of("a,b,c")
    pool.begin(now=0.0)
    fail_times(pool, 2)
    pool.discover(["x:1", "y:1"], current=Server.parse("a"))
    attempts = fail_times(pool, 8)
    assert hosts(attempt.server for attempt in attempts) == "c x y a b c x y"
    assert [attempt.round for attempt in attempts] == [1, 1, 1, 2, 2, 2, 2, 2]


def test_discovered_servers_leave_with_the_list_unless_they_are_the_current_one() -> None:
    pool = pool_of("a")
    a = connect(pool, "a")
    steps = [
        (["a:4222", "b:4222", "c:4222"], "b c", "b c a"),
        (["a:4222"], "", "a"),
        (["a:4223"], "a", "a a"),
        (["b:4222"], "b", "b a"),
        (["c:4222", "b:4222"], "c", "b c a"),
    ]
    for listed, new, servers in steps:
        assert hosts(pool.discover(listed, current=a)) == new
        assert hosts(pool.servers) == servers
    pool.begin(now=10.0)
    attempt = pool.next_attempt(now=10.0)
    assert attempt is not None
    pool.record_success(now=10.0)
    assert attempt.server.host == "b"
    pool.discover(["d:4222"], current=attempt.server)
    assert hosts(pool.servers) == "a d b"
    assert pool.current == attempt.server


def test_a_server_that_left_and_came_back_is_new_again() -> None:
    pool = pool_of("a", max_reconnect_attempts=1)
    a = connect(pool, "a")
    pool.discover(["b:4222"], current=a)
    pool.begin(now=10.0)
    fail(pool, 10.0)
    b = Server.parse("b")
    assert pool.attempts_of(b) == 1
    pool.discover(["c:4222"], current=a)
    assert hosts(pool.discover(["b:4222"], current=a)) == "b"
    assert pool.attempts_of(b) == 0


@pytest.mark.parametrize("listed", [[], [""], ["::::", "null"]])
def test_a_list_with_nothing_usable_changes_nothing(listed: list[str]) -> None:
    pool = pool_of("a")
    a = connect(pool, "a")
    pool.discover(["b:4222"], current=a)
    assert pool.discover(listed, current=a) == ()
    assert hosts(pool.servers) == "b a"


def test_by_option_nothing_is_discovered() -> None:
    pool = pool_of("a", ignore_discovered=True)
    assert pool.discover(["b:4222"], current=pool.servers[0]) == ()
    assert hosts(pool.servers) == "a"


def test_discovered_servers_are_shuffled_among_themselves() -> None:
    listed = [f"h{i}:4222" for i in range(20)]
    orders: set[str] = set()
    for seed in range(20):
        pool = pool_of("a,b", seed=seed, randomize=True)
        named = hosts(pool.servers)
        new = hosts(pool.discover(listed, current=pool.servers[0]))
        assert hosts(pool.servers) == f"{named} {new}"
        orders.add(new)
    assert len(orders) == 20
    pool = pool_of("a")
    assert hosts(pool.discover(listed, current=pool.servers[0])) == " ".join(f"h{i}" for i in range(20))


def test_discovered_servers_inherit_from_the_one_that_told_of_them() -> None:
    pool = pool_of("tls://u:p@broker.example,tls://x:y@other.example")
    connect(pool, "broker.example")
    listed = ["10.0.0.1:4222", "third.example:1"]
    new = pool.discover(listed, current=Server.parse("tls://u:p@broker.example"))
    assert [f"{server.host}:{server.port}" for server in new] == listed
    for server in new:
        assert (server.scheme, server.user, server.password) == ("tls", Secret("u"), Secret("p"))
        assert server.tls_name == ("broker.example" if server.host == "10.0.0.1" else None)
    assert {server.user for server in pool.servers if server.host == "other.example"} == {Secret("x")}


JUNK = [
    "",
    "::::",
    "a b:99999",
    "[::1",
    "null",
    "http://u:p@h",
    "u:p@h:4222",
    "x" * 1024 * 1024,
    "x" * 1024 * 1024 + ":4222",
    "h\x00:4222",
    "h\r\nPUB a 1:4222",
    "h:0",
    "h:-1",
    "\ud800:4222",
]


@pytest.mark.parametrize("junk", JUNK, ids=[f"H14 {text[:20]!a}" for text in JUNK])
def test_junk_in_a_list_is_skipped(junk: str) -> None:
    pool = pool_of("t0ken@a")
    (a,) = pool.servers
    new = pool.discover([junk, "b:4222", junk, "[::2]:4222", junk], current=a)
    assert [str(server) for server in new] == ["nats://b:4222", "nats://[::2]:4222"]
    assert {(server.user, server.password, server.token) for server in new} == {(None, None, Secret("t0ken"))}


def test_h14_all_junk_at_once_is_skipped_one_by_one() -> None:
    pool = pool_of("a")
    mixed = [text for junk in JUNK for text in (junk, f"h{JUNK.index(junk)}:4222")]
    assert len(pool.discover(mixed, current=pool.servers[0])) == len(JUNK)


def test_h13_of_forty_thousand_servers_a_thousand_are_taken() -> None:
    listed = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}:4222" for i in range(40_000)]
    pool = pool_of("a,b")
    a, _ = pool.servers
    assert len(pool.discover(listed, current=a)) == MAX_DISCOVERED
    assert len(pool) == MAX_DISCOVERED + 2
    assert pool.discover(listed, current=a) == ()
    pool.discover(reversed(listed), current=a)
    assert len(pool) == MAX_DISCOVERED + 2
    assert hosts(pool.servers).startswith("a b 10.0.156.63 ")


def test_h13_a_current_server_outside_the_list_counts_as_well() -> None:
    pool = pool_of("a")
    (current,) = pool.discover(["x:4222"], current=pool.servers[0])
    listed = [f"h{i}:4222" for i in range(2 * MAX_DISCOVERED)]
    assert len(pool.discover(listed, current=current)) == MAX_DISCOVERED - 1
    assert len(pool) == MAX_DISCOVERED + 1


def test_h13_a_long_list_is_read_no_further_than_needed() -> None:
    read = 0

    def listed() -> Iterable[str]:
        nonlocal read
        for read in range(40_000):
            yield f"h{read}:4222"

    pool = pool_of("a")
    pool.discover(listed(), current=pool.servers[0])
    assert read == MAX_DISCOVERED - 1


@pytest.mark.parametrize("tried", [False, True])
def test_lists_that_change_for_ever_leave_nothing_behind(tried: bool) -> None:
    pool = pool_of("a")
    a = connect(pool, "a")
    for number in range(50):
        if tried:
            pool.begin(now=0.0, rounds=1)
            fail_times(pool, 99)
        pool.discover([f"gone-{number}-{i}:4222" for i in range(20)], current=a)
    pool.begin(now=0.0)  # forgets the failures
    kept = [each for each in everything_in(pool) if isinstance(each, Server) and each.host.startswith("gone-")]
    assert len(kept) == 20


def everything_in(holder: object) -> list[object]:
    """What it holds, at any depth, but classes and modules."""
    found, ahead = {id(holder): holder}, [holder]
    while ahead:
        for each in gc.get_referents(ahead.pop()):
            if id(each) not in found and not isinstance(each, (type, ModuleType, FunctionType)):
                found[id(each)] = each
                ahead.append(each)
    return list(found.values())


def test_behind_too_much_junk_nothing_is_looked_at() -> None:
    pool = pool_of("a")
    (a,) = pool.servers
    assert pool.discover(["::::"] * MAX_LISTED + ["b:4222"], current=a) == ()
    assert hosts(pool.discover(["::::"] * (MAX_LISTED - 1) + ["b:4222"], current=a)) == "b"


# --- wrong use -------------------------------------------------------------------------------------------------------


def test_a_pool_has_servers() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        ServerPool([], rng=random.Random(1))


@pytest.mark.parametrize("name", ["reconnect_wait", "reconnect_jitter", "reconnect_jitter_tls"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_waits_are_finite_and_not_negative(name: str, value: float) -> None:
    waits = {"reconnect_wait": 2.0, "reconnect_jitter": 0.1, "reconnect_jitter_tls": 1.0, name: value}
    with pytest.raises(ConfigurationError, match="seconds"):
        ServerPool(
            parse_servers("a"),
            rng=random.Random(1),
            reconnect_wait=waits["reconnect_wait"],
            reconnect_jitter=waits["reconnect_jitter"],
            reconnect_jitter_tls=waits["reconnect_jitter_tls"],
        )


def test_the_limit_of_attempts_is_minus_one_or_more() -> None:
    with pytest.raises(ConfigurationError, match="max_reconnect_attempts"):
        pool_of("a", max_reconnect_attempts=-2)


def test_begin_comes_first() -> None:
    pool = pool_of("a")
    assert pool.current is None
    for call in (
        lambda: pool.next_attempt(now=0.0),
        lambda: pool.record_success(now=0.0),
        lambda: pool.record_failure(REFUSED, now=0.0),
    ):
        with pytest.raises(LocalProtocolError):
            call()
    assert pool.failures == ()


def test_after_a_success_an_outage_must_begin_before_the_next_attempt() -> None:
    pool = pool_of("a,b")
    connect(pool, "a")
    with pytest.raises(LocalProtocolError, match="begin"):
        pool.next_attempt(now=1.0)
    assert hosts(pool.servers) == "b a"


@pytest.mark.parametrize("rounds", [0, -1])
def test_a_walk_has_a_round(rounds: int) -> None:
    with pytest.raises(ConfigurationError, match="rounds"):
        pool_of("a").begin(now=0.0, rounds=rounds)


def test_strangers_are_no_servers_of_the_pool() -> None:
    pool, stranger = pool_of("a"), Server.parse("u:s3cret@x")
    pool.begin(now=0.0)
    for call in (lambda: pool.lame_duck(stranger), lambda: pool.record_failure(REFUSED, now=0.0, server=stranger)):
        with pytest.raises(LocalProtocolError, match="not in the pool") as raised:
            call()
        assert "s3cret" not in str(raised.value)


def test_a_dropped_server_has_no_outcome() -> None:
    pool = pool_of("a,b")
    pool.begin(now=0.0)
    for _ in range(3):
        fail_with(pool, refusal())
    assert pool.current is None
    with pytest.raises(LocalProtocolError, match="current"):
        pool.record_failure(REFUSED, now=0.0)
    with pytest.raises(LocalProtocolError, match="current"):
        pool.record_success(now=0.0)
