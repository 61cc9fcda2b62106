"""The driver of machines in virtual time: the same law as that of the drivers in both clients.

Theory of operation
-------------------
`Driver` of the clients waits in a call; here nothing waits. What its loop does is done whenever something may have
changed: after each call of the session, and when the time has come until which it would have waited. As there, a
machine runs only while somebody waits for its next item (`wait`); the item is given to ``give``, once, and then it
stands still until `wait` is called again. What it wants and has no room for yet stays in front of its wants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, assert_never

from nats_proto import Ask, CatchUp, Conductor, Machine, Message, Publish, Subscribe, SubscriptionState, Want
from nats_proto._wire.subjects import subject_matches
from nats_proto.errors import ConnectionClosedError, ConnectionDrainingError, NATSError, OutboundBufferLimitError
from tests.simulation.client import Client
from tests.simulation.invariants import require
from tests.simulation.world import Timer

__all__ = ["MachineDriver"]

ItemT = TypeVar("ItemT")

LOOKS = 10
"""Time-outs that may be due at one moment, one after the other."""
SPINS = 10_000
"""Rounds of one run after which a machine is busy for ever."""


class MachineDriver(Generic[ItemT]):
    """Runs one machine of one client."""

    def __init__(
        self,
        client: Client,
        machine: Machine[Message, ItemT],
        give: Callable[[ItemT], None],
        end: Callable[[], None] | None = None,
        *,
        counting: bool = False,
    ) -> None:
        self.client = client
        self.world = client.world
        self.machine = machine
        self.give = give
        self._counting = counting
        """It tells the machine what its queue has, as both clients do."""
        self._end = end
        """Called when it has ended by itself."""
        self.conductor: Conductor[Message, ItemT] = Conductor(machine)
        self.state: SubscriptionState[Message] | None = None
        self.waiting = False
        """Somebody waits for the next item."""
        self.ended = False
        self.error: NATSError | None = None
        """With what it has ended."""
        self.given = 0
        self._running = False
        self._looked = self._late = 0.0
        """When it handled a time-out last, and how often at that moment."""
        self._timer: Timer | None = None
        self._armed: float | None = None

    # --- what its user does -------------------------------------------------------------------------------------------

    def wait(self) -> None:
        """Wait for the next item."""
        self.waiting = True
        self.run()

    def leave(self) -> None:
        """Wait no longer: what comes meanwhile waits in the subscription."""
        self.waiting = False
        self._arm(None)

    def look(self) -> None:
        """Give in what has come, and wait for nothing: what the machine wants is left to who waits next."""
        if self._running or self.ended or self.client.asleep or self.state is None:
            return
        while (message := self.state.pop()) is not None:
            if message.subject:
                self.received(message, self.world.now)
            else:
                self.conductor.marked(self.state.take_mark(), now=self.world.now)

    def close(self, error: NATSError | None = None) -> None:
        """End the subscription. Items that were not given are dropped."""
        self.ended, self.error = True, error
        self.waiting = False
        self._arm(None)
        self._unsubscribe()
        self.machine.wants.clear()
        self.machine.items.clear()
        self.client.pump()

    # --- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All that can be done now, up to the next item."""
        if self._running or not self.waiting or self.ended:
            return
        if self.client.asleep:
            self._arm(self.client.asleep_until)
            return
        self._running = True
        try:
            for _ in range(SPINS):
                if not (self.waiting and self._round()):
                    break
            else:
                require(False, f"{self.machine.what} is busy for ever")
        finally:
            self._running = False
        if self.ended:
            end, self._end = self._end, None
            if end is not None:
                end()
        elif self.waiting:
            self._arm(self.conductor.next_timeout())

    def _round(self) -> bool:
        """One step; False when there is nothing to do before something happens."""
        machine, now = self.machine, self.world.now
        due = self.conductor.next_timeout()
        if machine.wants and self.conductor.is_late(machine.wants[0], now=now):
            self._take_back(machine.wants[0], now)
            return not self.ended
        if machine.wants and not self._want(machine.wants[0]):
            return self._timed_out(due, now)
        if machine.wants:
            return True
        if machine.items:
            self.waiting = False
            self.given += 1
            self.give(machine.items.popleft())
            return True
        if machine.done:
            self.close(machine.error)
            return False
        state = self.state
        if state is None:
            return False
        message = state.pop()
        if message is None:
            error = state.ending(iterating=False)
            if error is not None:
                self.close(error)
                return False
            return self._timed_out(due, now)
        if message.subject:
            self.received(message, now)
        else:
            self.conductor.marked(state.take_mark(), now=now)
        return True

    def received(self, message: Message, now: float) -> None:
        """The machine gets a message."""
        self.machine.receive(message, now=now)

    def _timed_out(self, due: float | None, now: float) -> bool:
        """Nothing else can be done: see whether its time is up."""
        if due is None or now < due:
            return False
        self.conductor.handle_timeout(now=now)
        self._cancel_expired()
        self._late = self._late + 1 if now == self._looked else 0
        self._looked = now
        require(self._late < LOOKS, f"{self.machine.what}: next_timeout stays in the past after handle_timeout")
        return True

    def _take_back(self, want: Want, now: float) -> None:
        """Nobody waits any more for what this was to bring."""
        machine = self.machine
        self.conductor.handle_timeout(now=now)
        self._cancel_expired()
        if machine.wants and machine.wants[0] is want:
            require(machine.done, f"{machine.what}: it leaves a want that is late")
            self.close(machine.error)

    def _want(self, want: Want) -> bool:
        """Do it; False when there is no room for it yet."""
        session = self.client.session
        try:
            match want:
                case Publish(subject=subject, data=data, reply=reply, headers=headers):
                    if reply is not None and self.state is not None:
                        heard = subject_matches(self.state.subject, reply)
                        require(heard, f"{self.machine.what}: the answer to {reply} would not reach it")
                    session.publish(subject, data, reply=reply, headers=headers)
                case Subscribe():
                    self._unsubscribe()
                    self.state = session.subscribe(
                        want.subject,
                        queue=want.queue,
                        max_pending_msgs=want.max_pending_msgs,
                        max_pending_bytes=want.max_pending_bytes,
                        marks=True,
                        hand_back=want.hand_back,
                        awaits=want.awaits,
                        asks=want.asks,
                    )
                    self.conductor.subscribed(want)
                    if self._counting and want.opened is not None:
                        want.opened(self._arrivals)
                case Ask(api=api):
                    require(self.state is not None, "a machine asks before it has subscribed")
                    token = session.request(api.subject, api.payload, headers=api.headers, into=self.state)
                    self.conductor.asked(token, want, now=self.world.now)
                case CatchUp(number=number):
                    require(self.state is not None, "a machine catches up before it has subscribed")
                    session.catch_up(self.state, number)
                case _:
                    assert_never(want)
        except OutboundBufferLimitError:
            return False
        except (ConnectionClosedError, ConnectionDrainingError) as error:
            self.close(error)
            return False
        self.machine.wants.popleft()
        self.client.pump()
        return True

    def _arrivals(self) -> tuple[int, int]:
        state = self.state
        assert state is not None
        taken = state.delivered
        return taken, taken + state.pending_msgs

    def _unsubscribe(self) -> None:
        state, self.state = self.state, None
        if state is not None:
            self.client.session.unsubscribe(state)
            self.conductor.resubscribed()
            self._cancel_expired()

    def _cancel_expired(self) -> None:
        while self.conductor.expired:
            self.client.session.cancel_request(self.conductor.expired.pop())

    # --- time ---------------------------------------------------------------------------------------------------------

    def _arm(self, when: float | None) -> None:
        if when == self._armed and self._timer is not None:
            return
        if self._timer is not None:
            self.world.cancel(self._timer)
        self._armed = when
        self._timer = None if when is None else self.world.at(max(when, self.world.now), self._tick)

    def _tick(self) -> None:
        self._timer = self._armed = None
        self.run()
