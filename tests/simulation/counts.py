"""What a session counts, against its ledger: bytes, messages, subscriptions, and the time without a PONG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats_proto import PublishesDropped
from tests.simulation.knobs import limit
from tests.simulation.ledger import Subscription
from tests.simulation.transport import Transport
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.client import Client

__all__ = ["Counts"]

CONTROL_ALLOWANCE = 4000
"""Bytes of CONNECT, PINGs and PONGs that may wait beside publishes."""
CONTROL_LINE = 120
"""Bytes of a SUB or UNSUB of this world at most."""


class Counts:
    """Of one client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.session = client.session
        self.ledger = client.ledger
        self.options = client.options
        self.slow_reports = 0
        self.server_errors = 0
        high = limit(client.knobs, "high water") + 3 * limit(client.knobs, "chunk")
        self._most_bytes = max(client.options.pending_size, high)

    def check_bytes(self) -> None:
        """What waits to be written."""
        client, ledger = self.client, self.ledger
        pending, accepted = self.session.pending_bytes, ledger.unhanded_bytes
        if client.unreported:
            wrong = pending < accepted - ledger.largest
        elif client.transport is None:
            wrong = pending != accepted
        else:
            wrong = pending < 0 or (pending < accepted and not client.unwritten)
        if wrong:
            raise Violation(f"{pending} bytes pending, {accepted} accepted and not handed over")
        if not pending and ledger.waiting:
            raise Violation(f"nothing pending, and {len(ledger.waiting)} publishes unwritten")
        control = CONTROL_ALLOWANCE + CONTROL_LINE * (len(ledger.subs) + client.control_calls)
        if pending > self._most_bytes + ledger.largest + control:
            raise Violation(f"{pending} bytes pending, {self._most_bytes} are allowed")

    def check(self) -> None:
        """Statistics and subscriptions."""
        ledger = self.ledger
        stats = self.session.stats
        if stats != ledger.stats():
            raise Violation(f"the session counts {stats}, the ledger {ledger.stats()}")
        if self.slow_reports != ledger.slow_reports:
            raise Violation(f"{self.slow_reports} slow consumer reports, not {ledger.slow_reports}")
        if self.server_errors != ledger.server_errors:
            raise Violation(f"{self.server_errors} server errors, not {ledger.server_errors}")
        for sub in list(ledger.watched.values()):
            self._check_subscription(sub)
            if not (sub.alive or sub.waiting):
                del ledger.watched[sub.sid]

    def _check_subscription(self, sub: Subscription) -> None:
        state = sub.state
        if state.closed is sub.alive:
            raise Violation(f"sid {sub.sid} is {state.status.name}, alive: {sub.alive}")
        if not sub.alive and not sub.reported_closed:
            raise Violation(f"sid {sub.sid} has ended, and there was no event")
        has = (len(state.messages), state.received, state.dropped)
        wanted = (len(sub.waiting), sub.received, sub.dropped)
        if has != wanted:
            raise Violation(f"sid {sub.sid}: messages, received, dropped are {has}, not {wanted}")
        if (state.pending_bytes, state.delivered) != (sub.waiting_bytes, sub.delivered):
            raise Violation(
                f"sid {sub.sid}: {state.pending_bytes} bytes, {state.delivered} delivered, "
                f"not {sub.waiting_bytes}, {sub.delivered}"
            )

    def check_alive(self, transport: Transport) -> None:
        """A silent server is not believed in for longer than the options say."""
        options = self.options
        if options.ping_interval <= 0:
            return
        silent = self.client.world.now - max(transport.opened_at, transport.last_pong)
        most = (options.max_pings_out + 1) * options.ping_interval
        if silent <= most:
            return
        # Each tick may be as late as the adapter's timer, and nothing ticks in a suspended machine.
        most += (options.max_pings_out + 2) * self.client.knobs.lateness + 0.1 + self.client.asleep_since(transport)
        if silent > most:
            raise Violation(f"{silent:g} s without PONG, and still connected")

    def publishes_dropped(self, event: PublishesDropped, transport: Transport) -> None:
        """Exactly those that the server would refuse, but for what was in flight if the connection stays."""
        client, ledger = self.client, self.ledger
        allowed = transport.allowed
        while len(allowed) > 1 and not any(publish.refused_by(*allowed[0]) for publish in ledger.waiting):
            del allowed[0]
        refused = [publish for publish in ledger.waiting if publish.refused_by(*allowed[0])]
        if event.dropped_msgs < len(refused):
            refused = [each for each in refused if b"c%d.%d;" % (client.number, each.serial) not in client.unwritten]
            if event.dropped_msgs < len(refused) and refused[0] is ledger.waiting[0] and client.unwritten:
                del refused[0]  # in flight as well: its beginning was written
        more = event.dropped_msgs - len(refused)
        if more < 0 or (more and not client.unreported):
            raise Violation(f"{event!r}, and {len(refused)} that wait are refused")
        size = sum(publish.wire_bytes for publish in refused)
        if event.dropped_bytes != size and not more:
            raise Violation(f"{event!r}, and {size} bytes that wait are refused")
        ledger.drop(refused, more)
