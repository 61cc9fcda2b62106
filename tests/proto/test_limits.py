"""Numbers that users give, and what is made of them."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import copysign, inf, nan
from typing import Any

import pytest

from nats_proto import MAX_SECONDS, ConnectOptions, RequestMany, ServerPool, check_count, check_timeout, parse_servers
from nats_proto.errors import ConfigurationError
from tests.proto.driver import World

SECONDS = ["ping_interval", "reconnect_wait", "reconnect_jitter", "reconnect_jitter_tls", "drain_timeout"]
HUGE = [10**400, -(10**400), 10**5000, -(10**5000)]


def brief(value: object) -> str:
    """Python writes no number of five thousand digits."""
    return f"int{value.bit_length()}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        *((value, 0.0) for value in (0, 0.0, -0.0, -1, -1e300, -inf, -(10**400), -(10**5000))),
        *((value, float(value)) for value in (1, 1e-9, 0.5, 25 * 86400, MAX_SECONDS)),
        *((value, inf) for value in (MAX_SECONDS + 1, 1e10, 1e300, inf, 10**400, 10**5000)),
    ],
    ids=brief,
)
def test_a_timeout_is_usable(given: float, kept: float) -> None:
    checked = check_timeout("timeout", given)
    assert type(checked) is float
    assert checked == kept
    assert checked != 0.0 or copysign(1, checked) == 1 or given == 0.0


@pytest.mark.parametrize("wrong", [True, False, None, "1", b"1", Decimal(1), Fraction(1), [1], 1j])
def test_what_is_no_number_is_no_timeout(wrong: Any) -> None:
    with pytest.raises(TypeError, match=rf"^wait must be .* not {type(wrong).__name__}$"):
        check_timeout("wait", wrong)


def test_nan_is_no_timeout() -> None:
    with pytest.raises(ValueError, match=r"^wait must be a number of seconds, not nan$"):
        check_timeout("wait", nan)


@pytest.mark.parametrize("wrong", [True, None, "1", 1.0, nan, Decimal(1)])
def test_what_is_no_int_is_no_count(wrong: Any) -> None:
    with pytest.raises(TypeError, match=rf"^max must be int, not {type(wrong).__name__}$"):
        check_count("max", wrong)


@pytest.mark.parametrize("wrong", [0, -1, 2**63, *HUGE], ids=brief)
def test_a_count_has_bounds(wrong: int) -> None:
    with pytest.raises(ValueError, match=r"^max must be from 1 to 2\*\*63 - 1: "):
        check_count("max", wrong)
    assert check_count("max", 2**63 - 1) == 2**63 - 1


@pytest.mark.parametrize("name", ["connect_timeout", *SECONDS])
@pytest.mark.parametrize("value", [1e10, 1e300, MAX_SECONDS * 1.001, *HUGE], ids=brief)
def test_an_option_of_seconds_has_a_maximum(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} must be a number of seconds from 0 to 3155760000 "):
        ConnectOptions(**{name: value})
    assert getattr(ConnectOptions(**{name: MAX_SECONDS}), name) == MAX_SECONDS
    assert getattr(ConnectOptions(**{name: 25 * 86400}), name) == 25 * 86400


@pytest.mark.parametrize("name", ["pending_size", "max_pings_out", "max_reconnect_attempts", "max_message_size"])
@pytest.mark.parametrize("value", [2**63, *HUGE], ids=brief)
def test_an_option_that_counts_has_a_maximum(name: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} must be a whole number from -?[0-9]+ to "):
        ConnectOptions(**{name: value})


@pytest.mark.parametrize("seconds", [inf, 1e300, 10**400])
def test_a_drain_without_end_has_no_deadline(seconds: float) -> None:
    world = World(ping_interval=0).ready()
    world.session.subscribe("s")
    world.pump()
    world.session.drain(now=world.now, timeout=seconds)
    world.pump()
    assert world.session.next_timeout() is None


@pytest.mark.parametrize("wrong", [-1, -1e-9, nan, -inf])
def test_the_core_drains_for_no_negative_time(wrong: float) -> None:
    world = World().ready()
    with pytest.raises(ValueError, match=r"^timeout must be "):
        world.session.drain(now=world.now, timeout=wrong)


@pytest.mark.parametrize("seconds", [inf, 1e300, 10**400])
def test_answers_may_be_awaited_for_ever(seconds: float) -> None:
    many: RequestMany[Any] = RequestMany("s", inbox="i", now=5.0, max_wait=seconds, stall=seconds)
    assert many.next_timeout() == inf


@pytest.mark.parametrize("chosen", [1e300, MAX_SECONDS, 4e9])
def test_a_delay_chosen_by_the_user_has_the_same_maximum(chosen: float) -> None:
    import random

    pool = ServerPool(
        parse_servers("nats://a"),
        rng=random.Random(1),
        reconnect_delay=lambda _: chosen,
        max_reconnect_attempts=-1,
    )
    pool.begin(now=10.0)
    first = pool.next_attempt(now=10.0)
    assert first is not None
    second = pool.next_attempt(now=10.0)
    assert second is not None
    assert second.at <= 10.0 + MAX_SECONDS * 1.001
