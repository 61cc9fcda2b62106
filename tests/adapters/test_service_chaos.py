"""Services whose server is killed ten times, or is a lame duck, on three legs; and bugs that such a run must find."""

from __future__ import annotations

from typing import Final

import pytest

from tests.adapters.legs import Leg
from tests.adapters.service_chaos import Chaos, Violation
from tests.simulation.bugs import Bug, Change, planted
from tests.transports import Transport

pytestmark = pytest.mark.anyio

KILLS: Final = 10
IMPATIENT: Final = 3.0
"""Seconds in which nothing has come, where it is known that nothing will."""

DUCK: Final = {"lame_duck_duration": "30s", "lame_duck_grace_period": "10s"}
"""It stays for ten seconds, and is ended by the test long before."""


def in_both(name: str, seen: str, target: str, old: str, new: str, *, told: str) -> tuple[Bug, str]:
    """A bug that stands in both clients, and what is told of it. ``AWAIT `` is left out for threads."""
    changes = (
        Change(f"nats_sync.{target}", old.replace("AWAIT ", ""), new.replace("AWAIT ", "")),
        Change(f"nats_anyio.{target}", old.replace("AWAIT ", "await "), new.replace("AWAIT ", "await ")),
    )
    return Bug(name, seen, changes), told


BUGS: Final = [
    (
        Bug(
            "no group after a reconnect",
            "what a new connection is told has no queue group, so that each instance gets each request",
            (
                Change(
                    "_session.subscription_table:SubscriptionTable.restore",
                    "encoder.subscribe(sub.subject, sub.queue, sub.sid)",
                    "encoder.subscribe(sub.subject, None, sub.sid)",
                ),
            ),
        ),
        "was served twice",
    ),
    (
        Bug(
            "endpoints forgotten at a reconnect",
            "only plain subscriptions are told to a new connection",
            (
                Change(
                    "_session.subscription_table:SubscriptionTable.restore",
                    "operations.append(encoder.subscribe(sub.subject, sub.queue, sub.sid))",
                    "operations += [] if sub.queue else [encoder.subscribe(sub.subject, sub.queue, sub.sid)]",
                ),
            ),
        ),
        "no more answers",
    ),
    (
        Bug(
            "one error is like another",
            "the same error twice is counted once",
            (Change("_services.state:EndpointState.count_error", "+= 1", "+= text[:3] != self.last_error[:3]"),),
        ),
        "the statistics are wrong",
    ),
    in_both(
        "errors are no requests",
        "a request is not counted when its handler raises",
        "_services.endpoint:serve",
        "AWAIT _fail(owner, counters, request, error)",
        "AWAIT _fail(owner, counters, request, error)\n            return",
        told="the statistics are wrong",
    ),
    in_both(
        "answers twice",
        "an error that a handler has answered with is sent once more",
        "_services.request:Request.respond_error",
        "    if self.origin",
        "    AWAIT self.respond(data, headers=made)\n    if self.origin",
        told="was answered twice",
    ),
    in_both(
        "a stop does not wait",
        "it returns when the server has been told",
        "_services.running:Running._drain",
        "        return\n",
        "        pass\n    return\n",
        told="has left the handlers|was served after the end",
    ),
    (
        Bug(
            "a stop drops what waits",
            "as it was in clients that unsubscribe an endpoint at the stop of its service",
            (
                Change("nats_sync._services.running:_begin_drain", ".drain(0.0)", ".unsubscribe()"),
                Change("nats_anyio._services.running:Running._drain", ".begin_drain()", "._unsubscribe(None)"),
            ),
        ),
        "not answered though no server died|were served",
    ),
    (
        Bug(
            "a stop forgets an endpoint",
            "what was made last goes on",
            (
                Change("nats_sync._services.running:Running._begin_to_stop", ".copy()", "[:-1]"),
                Change("nats_anyio._services.running:Running.stop", ".copy()", "[:-1]"),
            ),
        ),
        "after the end of its instance|left the handlers|not answered",
    ),
    (
        Bug(
            "the wrong endpoint counts",
            "as it was in a client for C: numbers are credited to the first endpoint",
            (Change("_services.state:ServiceState.stats", "endpoint.stats(", "self.endpoints[0].stats("),),
        ),
        "the statistics are wrong",
    ),
]


async def test_services_go_on(leg: Leg, transport: Transport) -> None:
    with transport.server() as server:
        chaos = Chaos(leg, server)
        await chaos.run(KILLS)
        assert chaos.kills == KILLS


@pytest.mark.clusters
@pytest.mark.parametrize("held", [False, True])
async def test_a_lame_duck_loses_nothing(leg: Leg, transport: Transport, held: bool) -> None:
    with transport.cluster(2, config=DUCK) as cluster:
        await Chaos(leg, cluster[0], cluster[1]).run_lame_duck(held=held)


@pytest.mark.clusters
@pytest.mark.parametrize("drain", [False, True])
async def test_an_end_between_two_servers_loses_nothing(leg: Leg, transport: Transport, drain: bool) -> None:
    with transport.cluster(2, config=DUCK) as cluster:
        await Chaos(leg, cluster[0], cluster[1]).run_between(drain=drain)


@pytest.mark.transports("tcp")
@pytest.mark.parametrize(("bug", "told"), BUGS, ids=lambda one: one.name if isinstance(one, Bug) else "")
async def test_a_planted_bug_is_found(leg: Leg, transport: Transport, bug: Bug, told: str) -> None:
    with transport.server() as server, planted(bug), pytest.raises(Violation, match=told):
        await Chaos(leg, server, patience=IMPATIENT).run(KILLS)
