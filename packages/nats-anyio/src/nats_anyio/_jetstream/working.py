"""`Work`: a consumer's messages, given to handlers beside one another and acknowledged by what comes of it.

One task, the reader, drives the machine and puts messages into a queue. The handlers' tasks take them out of it by
themselves, and acknowledge by themselves; so a message costs two steps of a queue, and wakes a task only when one
waits. What a task tells the machine is told there (`nats_proto._consuming.work`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from inspect import isawaitable
from typing import TYPE_CHECKING, Final, assert_never

import anyio

from nats_proto._consuming.dead_letter import PART, dead_letter_headers, left_text, unburied
from nats_proto._consuming.lanes import Lanes
from nats_proto._consuming.signals import Reject, Retry, Spent
from nats_proto._consuming.verdicts import Verdict, refuse_spent, verdict_on
from nats_proto._publishing.publish import publish_operation
from nats_proto.errors import ConnectionClosedError, NATSError

from .._engine.driver import Driver, run
from .background import LOOK, Background

if TYPE_CHECKING:
    from nats_proto._consuming.readers import Employment
    from nats_proto._consuming.work import Work as WorkMachine
    from nats_proto._consuming.work_options import WorkOptions

    from .._engine.crew import Employer
    from .._message import ReceivedMessage
    from .consuming import MessageHandler
    from .message import JetStreamMessage
    from .messages import OnWarning

__all__ = ["KeyFunction", "OnError", "Work"]

KeyFunction = Callable[["JetStreamMessage"], Hashable]
OnError = Callable[["JetStreamMessage", BaseException], object]

LINGERED: Final = 0.02
"""Seconds. A message that was begun sooner after it was taken is not asked whether it is still ours."""


class Work(Background["WorkMachine[ReceivedMessage, JetStreamMessage]", "JetStreamMessage"]):
    """Handlers that get the messages of a consumer, several at once. Made by `Consumer.work`; begins at once.

    A message is acknowledged when its handler has returned, and delivered again after a pause when it has raised; when
    it was cancelled, nothing is said, and the server delivers it again after ``ack_wait``. It ends as `Messages` does,
    and by `stop`, `drain` and the end of the ``async with`` block, which waits for the handlers to return. A drain of
    the client waits for them, too.
    """

    def __init__(
        self,
        host: Employer[ReceivedMessage],
        employ: Callable[[], Awaitable[Employment[ReceivedMessage, JetStreamMessage]]],
        handler: MessageHandler,
        options: WorkOptions,
        what: str,
        *,
        key: KeyFunction | None,
        on_error: OnError | None,
        on_warning: OnWarning | None,
    ) -> None:
        super().__init__(host, what, on_warning)
        self._employ = employ
        self._handler = handler
        self._options = options
        self._key = key
        self._on_error = on_error
        self._max_deliver = 0
        self._ready: deque[JetStreamMessage] = deque()
        """Those that may begin, in order."""
        self._lanes: Lanes[JetStreamMessage] = Lanes()
        self._keys: dict[int, Hashable] = {}
        """Of those that have one and have not ended, by the messages' ``id``."""
        self._crew = host.crew()
        self._idle: list[anyio.Event] = []
        """Tasks of handlers that have nothing to do."""
        self._start()

    def __repr__(self) -> str:
        return f"<nats_anyio.Work {self._what}>"

    # --- the reader --------------------------------------------------------------------------------------------------

    async def _make_machine(self) -> WorkMachine[ReceivedMessage, JetStreamMessage]:
        employment = await self._employ()
        self._max_deliver = employment.max_deliver
        return employment.machine(self._host.now())

    def _make_driver(
        self, machine: WorkMachine[ReceivedMessage, JetStreamMessage]
    ) -> Driver[ReceivedMessage, JetStreamMessage]:
        return Driver(self._holding, machine)

    async def _read(
        self,
        driver: Driver[ReceivedMessage, JetStreamMessage],
        machine: WorkMachine[ReceivedMessage, JetStreamMessage],
    ) -> None:
        ready, now = self._ready, self._host.now
        while True:
            message = await driver.next_until(now() + LOOK)
            if machine.warnings:
                self._warn()
            if message is None:
                if machine.done or self._stopping:
                    return
                continue
            if self._key is not None and not await self._may_begin(message):
                continue
            ready.append(message)
            self._call_handler()

    async def _wind_down(self) -> None:
        for idle in self._idle:
            idle.set()
        self._idle.clear()
        waiting = [*self._ready, *self._lanes.clear()]
        self._ready.clear()
        self._keys.clear()
        for message in waiting:
            await self._attempt(message, message.nak)
        machine, now = self._machine, self._host.now
        while machine is not None and self._crew.size:
            machine.look(now())
            for message in list(machine.overdue(now())):
                if id(message) in machine.begun:
                    await self._attempt(message, message.in_progress)
            with anyio.CancelScope(deadline=machine.due):
                await self._crew.wait_idle()

    def _is_own_task(self) -> bool:
        return self._crew.is_member() or super()._is_own_task()

    # --- keys --------------------------------------------------------------------------------------------------------

    async def _may_begin(self, message: JetStreamMessage) -> bool:
        """By the reader: whether no message with the same key is before it."""
        assert self._key is not None
        try:
            key = self._key(message)
            begins = self._lanes.enter(key, message)
        except Exception as error:
            await self._failed(message, error)
            if self._machine is not None:
                self._machine.ended.append(message)
            return False
        self._keys[id(message)] = key
        return begins

    def _leave_lane(self, message: JetStreamMessage) -> None:
        """The next with the same key may begin."""
        if id(message) in self._keys:
            follower = self._lanes.leave(self._keys.pop(id(message)))
            if follower is not None:
                self._ready.append(follower)
                self._call_handler()

    # --- the handlers ------------------------------------------------------------------------------------------------

    def _call_handler(self) -> None:
        """There is one more message that may begin."""
        if self._idle:
            self._idle.pop().set()
        elif self._crew.size < self._options.concurrency:
            self._crew.start(self._handle, name="handler")

    async def _handle(self) -> None:
        """A task of a handler."""
        machine, ready = self._machine, self._ready
        assert machine is not None  # it has given the messages
        while not self._stopping:
            if not ready:
                idle = anyio.Event()
                self._idle.append(idle)
                try:
                    await idle.wait()
                finally:
                    if idle in self._idle:  # it was cancelled
                        self._idle.remove(idle)
                continue
            message = ready.popleft()
            try:
                await self._begin(machine, message)
            finally:
                machine.begun.pop(id(message), None)
                self._leave_lane(message)
                machine.ended.append(message)
                if len(machine.ended) >= machine.prefetch.call_at and not machine.called and self._driver is not None:
                    machine.called = True
                    self._driver.poke()

    async def _begin(self, machine: WorkMachine[ReceivedMessage, JetStreamMessage], message: JetStreamMessage) -> None:
        now = self._host.now()
        machine.begun[id(message)] = now
        if now - message.received > LINGERED and not machine.is_fresh(message, now):
            machine.late.append(message)
            return
        try:
            if self._options.max_attempts is not None:
                refuse_spent(message, self._options)
            result = self._handler(message)
            if result is not None and isawaitable(result):
                await result
        except Exception as error:
            await self._failed(message, error)
            return
        if not message.settled:
            try:
                await (message.ack_sync() if self._options.confirmed else message.ack())
            except NATSError as error:
                self._not_told(message, error)

    # --- what becomes of a message -----------------------------------------------------------------------------------

    async def _failed(self, message: JetStreamMessage, error: Exception) -> None:
        """The handler has raised."""
        if isinstance(error, Spent):
            self._host.log_failure(f"{self._what}: {message.subject} is not handled", error)
        elif not isinstance(error, (Retry, Reject)):
            self._host.log_failure(f"{self._what}: the handler raised for {message.subject}", error)
        if self._on_error is not None:
            try:
                self._on_error(message, error)
            except (Retry, Reject) as wish:
                error = wish
            except Exception as failure:
                self._host.log_failure(f"{self._what}: on_error raised", failure)
        if message.settled:
            return
        try:
            verdict = verdict_on(message, error, self._options, max_deliver=self._max_deliver)
        except NATSError as failure:  # not a message of a consumer, whoever has sent it
            self._not_told(message, failure)
            return
        await self._attempt(message, lambda: self._carry_out(message, verdict))

    async def _carry_out(self, message: JetStreamMessage, verdict: Verdict) -> None:
        match verdict.kind:
            case "again":
                await message.nak(verdict.delay)
            case "term":
                await message.term(verdict.reason)
            case "dead_letter":
                await self._bury(message, verdict.reason)
            case _:
                assert_never(verdict.kind)

    async def _bury(self, message: JetStreamMessage, reason: str) -> None:
        """Store it among the dead letters; only then it is never delivered again."""
        subject = self._options.dead_letter
        assert subject is not None  # else the verdict is another one
        headers = dead_letter_headers(message.headers, message.subject, message.metadata, reason)
        began, tries = self._host.now(), 0
        while True:
            try:
                await run(
                    self._host, publish_operation(subject, message.data, headers, now=self._host.now), timeout=5.0
                )
            except NATSError as error:
                tries += 1
                self._host.log_failure(f"{self._what}: the dead letter for {subject!r} was not stored", error)
                if isinstance(error, ConnectionClosedError) or await self._is_settled_unburied(
                    message, error, tries, self._host.now() - began
                ):
                    return
            else:
                await message.term(reason)
                return

    async def _is_settled_unburied(
        self, message: JetStreamMessage, error: NATSError, tries: int, seconds: float
    ) -> bool:
        """Whether nothing more is done for a message whose dead letter was not stored; else the letter is sent again,
        now that its pause is over."""
        fate = unburied(message, error, self._options, max_deliver=self._max_deliver, tries=tries, seconds=seconds)
        # By the reader itself, for a message whose key could not be made, nothing is waited for.
        waits = self._machine is not None and id(message) in self._machine.begun
        match fate.kind:
            case "again":
                await message.nak(fate.delay)
                return True
            case "wait":
                until = self._host.now() + fate.delay
                while waits and not self._stopping and (left := until - self._host.now()) > 0:
                    await self._host.pause(min(left, PART))
            case "left":
                pass
            case _:
                assert_never(fate.kind)
        if fate.kind == "left" or self._stopping or not waits:
            self._host.log_failure(left_text(self._what, self._options.dead_letter or "", message.metadata), error)
            return True
        return False

    async def _attempt(self, message: JetStreamMessage, tell: Callable[[], Awaitable[object]]) -> None:
        """Tell the server something about a message. When that fails, it delivers the message again."""
        try:
            await tell()
        except NATSError as error:
            self._not_told(message, error)

    def _not_told(self, message: JetStreamMessage, error: NATSError) -> None:
        if not isinstance(error, ConnectionClosedError):  # who closes the client knows that
            self._host.log_failure(f"{self._what}: a message of {message.subject} was not acknowledged", error)
