"""Every number a user gives, with every value that may be given for it: one answer in both clients."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import anyio
import pytest

from nats_proto import MAX_SECONDS
from nats_proto.errors import NATSTimeoutError
from tests.adapters.legs import PATIENCE, Leg

pytestmark = pytest.mark.anyio

DAYS_25: Final = 25 * 86400  # more milliseconds than 31 bits hold
NO_NUMBER: Final = [True, "1", Decimal(1), Fraction(1, 2), b"1", [1]]
NOT_USABLE: Final = [float("nan")]
OVER_AT_ONCE: Final = [0, 0.0, -0.0, -1, -1e300, -(10**400), float("-inf"), 1e-9]
LONG: Final = [DAYS_25, 1e10, 1e300, 10**400, float("inf"), MAX_SECONDS]

Call = Callable[[Any, Any, Any], Awaitable[object]]
"""With the client, a subscription, and the value. There is an answer to a request, but not to a silent one."""

TIMEOUTS: Final[dict[str, Call]] = {
    "request": lambda nc, _, value: nc.request("answered", timeout=value),
    "flush": lambda nc, _, value: nc.flush(value),
    "rtt": lambda nc, _, value: nc.rtt(value),
    "next": lambda _, sub, value: sub.next(value),
    "next_batch": lambda _, sub, value: sub.next_batch(1, value),
    "Subscription.drain": lambda _, sub, value: sub.drain(value),
    "Client.drain": lambda nc, _, value: nc.drain(value),
}
NONE_IS_FOR_EVER: Final = {"next", "next_batch"}
NONE_IS_THE_OPTION: Final = {"Subscription.drain", "Client.drain"}


async def many(nc: Any, **options: Any) -> list[bytes]:
    return [message.data async for message in nc.request_many("answered", **options)]


WAITS: Final[dict[str, Call]] = {
    "max_wait": lambda nc, _, value: many(nc, max_wait=value, max_msgs=1),
    "stall": lambda nc, _, value: many(nc, max_wait=30, stall=value, max_msgs=1),
}
COUNTS: Final[dict[str, tuple[int, Call]]] = {
    "request_many": (1, lambda nc, _, value: many(nc, max_wait=0.05, max_msgs=value)),
    "next_batch": (1, lambda _, sub, value: sub.next_batch(value, timeout=PATIENCE)),
    "unsubscribe": (1, lambda _, sub, value: sub.unsubscribe(value)),
    "max_msgs": (1, lambda nc, _, value: subscribed(nc, max_msgs=value)),
    "max_pending_msgs": (0, lambda nc, _, value: subscribed(nc, max_pending_msgs=value)),
    "max_pending_bytes": (0, lambda nc, _, value: subscribed(nc, max_pending_bytes=value)),
}


async def subscribed(nc: Any, **options: Any) -> None:
    await (await nc.subscribe("one.more", **options)).unsubscribe()


class Room:
    """A client, whose requests are answered, and a subscription with one message."""

    def __init__(self, leg: Leg, url: str) -> None:
        self._leg = leg
        self._url = url

    async def call(self, call: Call, value: object) -> object:
        """What it comes to: the result's or the error's type, and the error's text."""

        async def answer(message: Any) -> None:
            await message.respond(b"ok")

        async with self._leg.connect(self._url) as nc:
            ended = "Client.drain" if call is TIMEOUTS["Client.drain"] else ""
            if ended:
                answers = sub = None
            else:
                answers = await nc.subscribe("answered", callback=self._leg.handler(answer))
                sub = await nc.subscribe("there")
                await nc.publish("there")
                await nc.flush()
                if call is TIMEOUTS["Subscription.drain"]:
                    await sub.next(timeout=PATIENCE)
            try:
                with anyio.fail_after(60):
                    await call(nc, sub, value)
            except Exception as error:
                return type(error), str(error)
            finally:
                del answers
            return "done"


def refused(answer: object, error: type[Exception], name: str) -> None:
    assert isinstance(answer, tuple), answer
    assert answer[0] is error, answer
    assert re.match(rf"{name} must be ", answer[1]), answer


@pytest.mark.parametrize("name", TIMEOUTS)
async def test_timeouts(leg: Leg, url: str, name: str) -> None:
    call, room = TIMEOUTS[name], Room(leg, url)
    nones = [] if name in NONE_IS_FOR_EVER | NONE_IS_THE_OPTION else [None]
    for value in NO_NUMBER + nones:
        refused(await room.call(call, value), TypeError, "timeout")
    for value in NOT_USABLE:
        refused(await room.call(call, value), ValueError, "timeout")
    for value in OVER_AT_ONCE:  # what is there already is had all the same
        answer = await room.call(call, value)
        assert answer == "done" or answer[0] is NATSTimeoutError, (value, answer)
    for value in LONG + ([None] if not nones else []):
        assert await room.call(call, value) == "done", value


@pytest.mark.parametrize("name", WAITS)
async def test_waits(leg: Leg, url: str, name: str) -> None:
    call, room = WAITS[name], Room(leg, url)
    for value in NO_NUMBER + ([None] if name == "max_wait" else []):
        refused(await room.call(call, value), TypeError, name)
    for value in NOT_USABLE + OVER_AT_ONCE[:-1]:
        refused(await room.call(call, value), ValueError, name)
    for value in [1e-9, *LONG]:
        assert await room.call(call, value) == "done", value


@pytest.mark.parametrize("name", COUNTS)
async def test_counts(leg: Leg, url: str, name: str) -> None:
    (least, call), room = COUNTS[name], Room(leg, url)
    argument = "max_msgs" if name in ("request_many", "next_batch", "unsubscribe") else name
    nones = [None] if name == "next_batch" else []
    for value in [*NO_NUMBER, *nones, 1.0, float("nan"), float("inf")]:
        refused(await room.call(call, value), TypeError, argument)
    for value in (least - 1, -5, 2**63, 10**400, -(10**5000), 10**5000):
        refused(await room.call(call, value), ValueError, argument)
    for value in (least, 1, 2**31, 2**63 - 1):
        assert await room.call(call, value) == "done", value
