"""Operations in virtual time: each is run as the clients run theirs, by whoever waits for what it comes to.

Its requests go over one subscription, with a reply subject of their own each. What the session has no room for is an
error of the request; an answer that is lost is a time-out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

from nats_proto import Message, Pause, Publish, Request, SubscriptionState
from nats_proto._session.inbox import NO_RESPONDERS
from nats_proto.errors import NATSError, NATSTimeoutError, NoRespondersError
from tests.simulation.client import Client
from tests.simulation.world import Timer

__all__ = ["Operations"]

TIMEOUT = 5.0

Done = Callable[[Any, NATSError | None], None]


class _Running:
    def __init__(self, operation: Any, done: Done) -> None:
        self.operation = operation
        self.done = done
        self.request: Request | None = None
        self.timer: Timer | None = None


class Operations:
    """All that run at the moment, of one client."""

    def __init__(self, client: Client, inbox: str) -> None:
        self._client = client
        self._inbox = inbox
        self._state: SubscriptionState[Message] | None = None
        self._waiting: dict[str, _Running] = {}
        self._count = 0

    def start(self, operation: Any, done: Done) -> None:
        """Run it; ``done`` is called with its result, or with the error that it has raised."""
        self._step(_Running(operation, done), operation.send, None)

    def run(self) -> None:
        """Take the answers that have come. Called after every step of the client."""
        state, client = self._state, self._client
        while state is not None and not client.asleep and (message := state.pop()) is not None:
            running = self._waiting.get(message.subject)
            request = None if running is None else running.request
            if running is None or request is None:
                continue
            status = None if message.data or message.header_block is None else message.status
            if status is not None and status.code == NO_RESPONDERS:
                self._answered(
                    message.subject, running.operation.throw, NoRespondersError("nobody listens", request.subject)
                )
            elif request.accept is None or request.accept(message):
                self._answered(message.subject, running.operation.send, message)

    def _answered(self, reply: str, go_on: Callable[[Any], Any], value: object) -> None:
        running = self._waiting.pop(reply)
        if running.timer is not None:
            self._client.world.cancel(running.timer)
        self._step(running, go_on, value)

    def _step(self, running: _Running, go_on: Callable[[Any], Any], value: object) -> None:
        while True:
            try:
                effect = go_on(value)
            except StopIteration as end:
                running.done(end.value, None)
                return
            except NATSError as error:
                running.done(None, error)
                return
            try:
                match effect:
                    case Request():
                        self._ask(running, effect)
                        return
                    case Pause(seconds=seconds):
                        self._later(seconds, running)
                        return
                    case Publish(subject=subject, data=data, reply=reply, headers=headers):
                        self._client.session.publish(subject, data, reply=reply, headers=headers)
                        self._client.pump()
                        go_on, value = running.operation.send, None
                    case _:
                        assert_never(effect)
            except NATSError as error:
                go_on, value = running.operation.throw, error

    def _ask(self, running: _Running, request: Request) -> None:
        client = self._client
        if self._state is None:
            self._state = client.session.subscribe(f"{self._inbox}.*", max_pending_msgs=0, max_pending_bytes=0)
        self._count += 1
        reply = f"{self._inbox}.{self._count}"
        client.session.publish(request.subject, request.data, reply=reply, headers=request.headers)
        running.request = request
        self._waiting[reply] = running
        seconds = TIMEOUT if request.timeout is None else request.timeout
        running.timer = client.world.at(client.world.now + seconds, self._too_late, reply)
        client.pump()

    def _too_late(self, reply: str) -> None:
        client = self._client
        running = self._waiting.get(reply)
        if running is None:
            return
        if client.asleep:
            running.timer = client.world.at(client.asleep_until + 0.001, self._too_late, reply)
            return
        self.run()  # the answer may have come at this very moment
        if self._waiting.get(reply) is running:
            running.timer = None
            self._answered(reply, running.operation.throw, NATSTimeoutError("no answer in time"))

    def _later(self, seconds: float, running: _Running) -> None:
        client = self._client
        if client.asleep:
            client.world.at(client.asleep_until + 0.001, self._later, 0.0, running)
        elif seconds > 0.0:
            client.world.at(client.world.now + seconds, self._later, 0.0, running)
        else:
            self._step(running, running.operation.send, None)
