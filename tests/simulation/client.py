"""The adapter: one session, its dials and transports, moved by the pump's law. It obeys; what it sees is checked."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from nats_proto import (
    Call,
    CloseTransport,
    Command,
    MessagesAvailable,
    OpenTransport,
    Perform,
    Server,
    Session,
    SessionEvent,
    SessionStatus,
    SubscriptionClosed,
)
from tests.simulation.cluster import Cluster
from tests.simulation.hostile import Mark
from tests.simulation.invariants import Checks, require
from tests.simulation.knobs import Delay, Knobs
from tests.simulation.ledger import Ledger
from tests.simulation.transport import Transport
from tests.simulation.world import Timer, Violation, World

__all__ = ["Client", "Dial"]


@dataclass(slots=True, eq=False)
class Dial:
    """One `OpenTransport` as the adapter follows it."""

    client: Client
    server: Server
    at: float
    deadline: float
    begun: bool = False


class Client:
    """An adapter in virtual time."""

    two_transports = False

    def __init__(self, world: World, cluster: Cluster, knobs: Knobs, number: int) -> None:
        self.world = world
        self.cluster = cluster
        self.knobs = knobs
        self.number = number
        self.options = knobs.options
        self.named = [server.url for server in cluster.servers[: knobs.explicit]]
        """The servers that the user named."""
        rng = random.Random(world.rng.getrandbits(64))
        self.session = Session(self.options, self.named, rng=rng, two_transports=self.two_transports)
        self.ledger = Ledger(number)
        self.checks = Checks(self)
        self.transport: Transport | None = None
        self.dial: Dial | None = None
        self.question: Perform | None = None
        """What is asked of the user's ``reconnect_delay``, until the session goes on."""
        self.unwritten = b""
        self.unreported = 0
        """Bytes that the transport took, and the session was not told."""
        self.control_calls = 0
        """Calls of the user that may have added a control operation to what waits."""
        self.on_messages: Callable[[int], None] = lambda sid: None
        self.asleep_until = 0.0
        self._slept: list[tuple[float, float]] = []
        self._timer: Timer | None = None
        self._armed: float | None = None

    @property
    def status(self) -> str:
        """Of the session, for the table of faults."""
        return self.session.status.name

    @property
    def asleep(self) -> bool:
        """The machine is suspended: nothing happens on this side."""
        return self.world.now < self.asleep_until

    # --- the pump ----------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """After every call: events, commands, data; again while something was handed over; then the deadline."""
        session = self.session
        while True:
            for event in session.events_received():
                self._event(event)
            for command in session.commands_to_run():
                self._run(command)
            if not self._write():
                break
        self._arm()
        self.checks.step()
        if self.checks.order.migrating or self.world.chance(0.03):
            self.poke()

    def _event(self, event: SessionEvent) -> None:
        if self.world.recording:
            self.world.note(f"c{self.number}: {event!r}")
        self.checks.event(event)
        if isinstance(event, MessagesAvailable):
            for sid in event.sids:
                self.on_messages(sid)
        elif isinstance(event, SubscriptionClosed):
            self.on_messages(event.sid)

    def _run(self, command: Command) -> None:
        if self.world.recording:
            self.world.note(f"c{self.number}: {command!r}")
        match command:
            case OpenTransport(server=server, at=at, deadline=deadline):
                require(self.transport is None, "a dial was asked for while there is a transport")
                require(deadline > self.world.now, "a dial was asked for that is over")
                self.question = None
                self.dial = Dial(self, server, max(at, self.world.now), deadline)
                self.world.at(self.dial.at, self._begin_dial, self.dial)
            case CloseTransport():
                self.dial = self.question = None
                self.unwritten = b""
                if self.transport is not None:
                    transport, self.transport = self.transport, None
                    transport.close_by_client()

            case Perform(effect=Call(function=Delay() as delay, arguments=(int(rounds),)), before_dial=True):
                require(self.transport is None and self.dial is None, "a delay was asked for at the wrong time")
                require(self.question is None, "a delay was asked for twice")
                self.question = command
                late = self.world.rng.choice(delay.late)
                if late is not None:
                    self.world.after(late, self._answer, command, delay.answer(rounds, self.world.rng))
            case _:
                raise Violation(f"nothing of that kind was to be done: {command!r}")

    def _answer(self, question: Perform, said: object) -> None:
        """The user's function has returned, or raised, maybe when the session does not wait for it any more."""
        if self.asleep:
            self.world.at(self.asleep_until, self._answer, question, said)
            return
        if self.world.recording:
            self.world.note(f"c{self.number}: reconnect_delay says {said!r}")
        if isinstance(said, BaseException):
            self.session.perform_failed(question, said, now=self.world.now)
        else:
            self.session.performed(question, said, now=self.world.now)
        if question is self.question:
            self.pump()
            require(self.question is not question, "a delay was answered, and no dial asked for")
        else:
            self.expect_silence("an answer that came too late")

    def _write(self) -> bool:
        transport = self.transport
        if self.unreported:
            return False
        if not self.unwritten:
            pieces = self.session.data_to_send()
            if not pieces:
                return False
            require(transport is not None, f"there is no transport for {pieces!r}")
            require(all(pieces), "an empty piece was to be written")
            self.unwritten = b"".join(pieces)
        assert transport is not None
        taken = transport.up.write(self.unwritten)
        if not taken:
            return False
        written, self.unwritten = self.unwritten[:taken], self.unwritten[taken:]
        if self.world.recording:
            self.world.note(f"c{self.number} > {transport.number}: {written!r}")
        self.checks.wrote(transport, written)
        self.unreported = taken
        if self.knobs.report_delay:
            self.world.after(self.knobs.report_delay, self._report_later)
            return False
        self._report()
        return True

    def _report(self) -> None:
        taken, self.unreported = self.unreported, 0
        deadline = self.session.next_timeout()
        self.session.data_sent(taken)
        if self.session.only_written:
            self.expect_only_room(deadline)

    def _report_later(self) -> None:
        """A writer of its own tells what was taken, maybe when the transport is gone."""
        if self.asleep:
            self.world.at(self.asleep_until, self._report_later)
        elif self.unreported:
            self._report()
            self.pump()

    def room(self, transport: Transport) -> None:
        """The transport takes bytes again."""
        if transport is self.transport and not self.asleep:
            self.pump()

    # --- dials -------------------------------------------------------------------------------------------------------

    def _begin_dial(self, dial: Dial) -> None:
        if dial is not self.dial:
            return
        if self.asleep:
            self.world.at(self.asleep_until, self._begin_dial, dial)
            return
        dial.begun = True
        first_walk = not self.checks.order.was_up and self.session.status is SessionStatus.CONNECTING
        self.checks.dialled(dial.server.url, dial.at, first_walk=first_walk)
        self.cluster.dial(self, dial, dial.server)

    def dial_refused(self, dial: Dial) -> None:
        """Nobody listens there."""
        if dial is not self.dial:
            return
        if self.asleep:
            self.world.at(self.asleep_until, self.dial_refused, dial)
            return
        self.dial = None
        self.session.transport_failed(ConnectionRefusedError("refused"), now=self.world.now)
        self.pump()

    def dial_succeeded(self, dial: Dial, transport: Transport) -> None:
        """Connected, maybe too late for anybody to want it."""
        if dial is not self.dial:
            transport.tail = False
            transport.close_by_client()
        elif self.asleep:
            transport.down.hold()
            self.world.at(self.asleep_until, self._woke_with, dial, transport)
        else:
            self.dial = None
            if self.unreported:
                self._report()
            self.transport = transport
            transport.deadline = dial.deadline
            self.session.transport_connected(now=self.world.now)
            self.pump()

    def _woke_with(self, dial: Dial, transport: Transport) -> None:
        transport.down.release()
        self.dial_succeeded(dial, transport)

    # --- bytes in ----------------------------------------------------------------------------------------------------

    def arrived(self, transport: Transport, data: bytes) -> None:
        """Bytes came out of a transport's pipe."""
        if transport is not self.transport:
            if transport.tail and self.transport is None:
                self.session.receive_data(data, now=self.world.now)
                self.expect_silence("bytes of a dead link")
            return
        if self.world.recording:
            self.world.note(f"c{self.number} < {transport.number}: {data!r}")
        transport.fed += len(data)
        marks = transport.marks
        due: list[Mark] = []
        while marks and marks[0].offset <= transport.fed:
            due.append(marks.popleft())
        deadline = self.session.next_timeout()
        self.session.receive_data(data, now=self.world.now)
        self.checks.received(transport, due)
        if self.session.only_messages:
            self.expect_only_events(deadline)
        self.pump()
        self.checks.after_receive(transport)

    def ended(self, transport: Transport, error: Exception | None) -> None:
        """The stream has ended (error None), or the transport broke."""
        if transport is self.transport and self.asleep:
            self.world.at(self.asleep_until, self.ended, transport, error)
            return
        if transport is not self.transport and not (transport.tail and self.transport is None):
            return
        late = transport is not self.transport
        if self.world.recording:
            self.world.note(f"c{self.number} < {transport.number}: {'end' if error is None else repr(error)}")
        if error is None:
            self.session.receive_eof(now=self.world.now)
        else:
            self.session.transport_lost(error, now=self.world.now)
        if late:
            self.expect_silence("the end of a dead link")
        else:
            self.pump()
            require(self.transport is not transport, "the transport ended, and the session kept it")

    # --- time --------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        deadline = self.session.next_timeout()
        if deadline == self._armed:
            return
        if self._timer is not None:
            self.world.cancel(self._timer)
            self._timer = None
        self._armed = deadline
        if deadline is not None:
            late = self.knobs.lateness * self.world.rng.random() if self.knobs.lateness else 0.0
            self._timer = self.world.at(max(deadline, self.world.now) + late, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self.asleep:
            self._timer = self.world.at(self.asleep_until + 0.001 * self.world.rng.random(), self._tick)
            return
        self._armed = None
        now = self.world.now
        if self.world.recording:
            self.world.note(f"c{self.number}: timer")
        self.session.handle_timeout(now=now)
        self.pump()
        deadline = self.session.next_timeout()
        if deadline is not None and deadline <= now:
            raise Violation(f"next_timeout is {now - deadline:g} s in the past after handle_timeout")
        if self.world.chance(0.2):
            self.poke()

    def poke(self) -> None:
        """A timer call with nothing due."""
        now = self.world.now
        deadline = self.session.next_timeout()
        if self.asleep or (deadline is not None and deadline <= now):
            return
        self.session.handle_timeout(now=now)
        self.expect_silence("handle_timeout with nothing due")
        require(self.session.next_timeout() == deadline, "handle_timeout with nothing due moved the deadline")

    def expect_silence(self, what: str) -> None:
        """The last call must have changed nothing."""
        events = self.session.events_received()
        require(not events, f"{what} caused {events!r}")
        commands = self.session.commands_to_run()
        require(not commands, f"{what} caused {commands!r}")
        if not (self.unwritten or self.unreported):
            data = self.session.data_to_send()
            require(not data, f"{what} caused {data!r} to be written")

    def expect_only_events(self, deadline: float | None) -> None:
        """What was received must have changed nothing else; ``deadline``: the one before."""
        commands = self.session.commands_to_run()
        require(not commands, f"only messages were received, but that caused {commands!r}")
        require(self.session.next_timeout() == deadline, "only messages were received, but that moved the deadline")
        if not (self.unwritten or self.unreported):
            data = self.session.data_to_send()
            require(not data, f"only messages were received, but that caused {data!r} to be written")

    def expect_only_room(self, deadline: float | None) -> None:
        """What was written must have changed nothing but what waits; ``deadline``: the one before."""
        told = [*self.session.commands_to_run(), *self.session.events_received()]
        require(not told, f"it was only written, but that caused {told!r}")
        require(self.session.next_timeout() == deadline, "it was only written, but that moved the deadline")

    def sleep(self, seconds: float) -> None:
        """Suspend the machine: no timer, no byte, no call until it wakes."""
        self.asleep_until = max(self.asleep_until, self.world.now + seconds)
        self._slept.append((self.world.now, self.asleep_until))
        transport = self.transport
        if transport is not None:
            transport.down.hold()
            self.world.at(self.asleep_until, transport.down.release)
        self.world.at(self.asleep_until, self.pump)

    def asleep_since(self, transport: Transport) -> float:
        """Seconds it was suspended for during the life of ``transport``."""
        return sum(end - begin for begin, end in self._slept if end >= max(transport.began, transport.opened_at))
