"""`Work`: a consumer's messages, given to handlers beside one another and acknowledged by what comes of it.

One thread, the reader, drives the machine and puts messages into a queue. The handlers' threads take them out of it by
themselves, and acknowledge by themselves; so a message costs two steps of a queue, and wakes a thread only when one
sleeps. What a thread tells the machine is told there (`nats_proto._consuming.work`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from time import monotonic
from typing import TYPE_CHECKING, Final, assert_never

from nats_proto._consuming.dead_letter import PART, dead_letter_headers, left_text, unburied
from nats_proto._consuming.lanes import Lanes
from nats_proto._consuming.signals import Reject, Retry, Spent
from nats_proto._consuming.verdicts import Verdict, refuse_spent, verdict_on
from nats_proto._publishing.publish import publish_operation
from nats_proto.errors import ConnectionClosedError, NATSError

from .._engine.driver import Driver, run
from .._engine.handling import close_coroutine
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

    A message is acknowledged when its handler has returned, and delivered again after a pause when it has raised. It
    ends as `Messages` does, and by `stop`, `drain` and the end of the ``with`` block, which waits for the handlers to
    return. A drain of the client waits for them, too.
    """

    def __init__(
        self,
        host: Employer[ReceivedMessage],
        employ: Callable[[], Employment[ReceivedMessage, JetStreamMessage]],
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
        self._lock = threading.Lock()
        """Around these two, which the reader and the handlers' threads change."""
        self._crew = host.crew(options.concurrency, self._handle, lambda: self._ready and not self._stopping)
        self._start()

    def __repr__(self) -> str:
        return f"<nats_sync.Work {self._what}>"

    # --- the reader --------------------------------------------------------------------------------------------------

    def _make_machine(self) -> WorkMachine[ReceivedMessage, JetStreamMessage]:
        employment = self._employ()
        self._max_deliver = employment.max_deliver
        return employment.machine(monotonic())

    def _make_driver(
        self, machine: WorkMachine[ReceivedMessage, JetStreamMessage]
    ) -> Driver[ReceivedMessage, JetStreamMessage]:
        return Driver(self._holding, machine)

    def _read(
        self,
        driver: Driver[ReceivedMessage, JetStreamMessage],
        machine: WorkMachine[ReceivedMessage, JetStreamMessage],
    ) -> None:
        ready, crew = self._ready, self._crew
        free = crew.free
        by_key = self._key is not None
        while True:
            message = driver.next_until(monotonic() + LOOK)
            if machine.warnings:
                self._warn()
            if message is None:
                if machine.done or self._stopping:
                    return
                continue
            if by_key and not self._may_begin(message):
                continue
            ready.append(message)
            if free:
                crew.call()

    def _wind_down(self) -> None:
        while self._ready:
            try:
                self._hand_back(self._ready.popleft())
            except IndexError:  # a handler has taken it meanwhile
                break
        with self._lock:
            waiting = list(self._lanes.clear())
            self._keys.clear()
        for message in waiting:
            self._hand_back(message)
        machine = self._machine
        if machine is None:
            return
        while True:
            now = monotonic()
            machine.look(now)
            for message in list(machine.overdue(now)):
                if id(message) in machine.begun:
                    self._attempt(message, message.in_progress)
            if self._crew.wait_idle(None if machine.due == float("inf") else machine.due - now):
                return

    def _hand_back(self, message: JetStreamMessage) -> None:
        self._attempt(message, message.nak)
        if self._machine is not None:
            self._machine.ended.append(message)

    def _release(self) -> None:
        super()._release()
        self._crew.release()

    def _is_own_thread(self) -> bool:
        return self._crew.is_member() or super()._is_own_thread()

    # --- keys --------------------------------------------------------------------------------------------------------

    def _may_begin(self, message: JetStreamMessage) -> bool:
        """By the reader: whether no message with the same key is before it."""
        assert self._key is not None
        try:
            key = self._key(message)
            with self._lock:
                begins = self._lanes.enter(key, message)
                self._keys[id(message)] = key
        except BaseException as error:
            self._failed(message, error)
            self._end(message)
            return False
        return begins

    def _leave_lane(self, message: JetStreamMessage) -> None:
        """By a handler's thread: the next with the same key may begin."""
        with self._lock:
            if id(message) not in self._keys:
                return
            follower = self._lanes.leave(self._keys.pop(id(message)))
        if follower is not None:
            self._ready.append(follower)

    # --- the handlers ------------------------------------------------------------------------------------------------

    def _handle(self, limit: int) -> bool:
        """By a thread of the crew: up to so many messages."""
        machine = self._machine
        assert machine is not None  # it has given the messages
        ready, begun, ended = self._ready, machine.begun, machine.ended
        handler, confirmed = self._handler, self._options.confirmed
        limited = self._options.max_attempts is not None
        for _ in range(limit):
            if self._stopping:
                return False
            try:
                message = ready.popleft()
            except IndexError:
                return False
            now = monotonic()
            begun[id(message)] = now
            if now - message.received > LINGERED and not machine.is_fresh(message, now):
                machine.late.append(message)
            else:
                try:
                    if limited:
                        refuse_spent(message, self._options)
                    result = handler(message)
                    if result is not None and (unawaited := close_coroutine(result)) is not None:
                        raise unawaited
                except BaseException as error:
                    self._failed(message, error)
                else:
                    if not message.settled:
                        if confirmed:
                            self._attempt(message, message.ack_sync)
                        else:
                            try:
                                message.ack()
                            except NATSError as error:
                                self._not_told(message, error)
            del begun[id(message)]
            if self._key is not None:
                self._leave_lane(message)
            ended.append(message)
            if len(ended) >= machine.prefetch.call_at:
                self._call_reader(machine)
        return True

    def _end(self, message: JetStreamMessage) -> None:
        machine = self._machine
        if machine is not None:
            machine.ended.append(message)

    def _call_reader(self, machine: WorkMachine[ReceivedMessage, JetStreamMessage]) -> None:
        driver = self._driver
        if driver is not None and not machine.called:
            machine.called = True
            driver.poke()

    # --- what becomes of a message -----------------------------------------------------------------------------------

    def _failed(self, message: JetStreamMessage, error: BaseException) -> None:
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
            except BaseException as failure:
                self._host.log_failure(f"{self._what}: on_error raised", failure)
        if message.settled:
            return
        try:
            verdict = verdict_on(message, error, self._options, max_deliver=self._max_deliver)
        except NATSError as failure:  # not a message of a consumer, whoever has sent it
            self._not_told(message, failure)
            return
        self._attempt(message, lambda: self._carry_out(message, verdict))

    def _carry_out(self, message: JetStreamMessage, verdict: Verdict) -> None:
        match verdict.kind:
            case "again":
                message.nak(verdict.delay)
            case "term":
                message.term(verdict.reason)
            case "dead_letter":
                self._bury(message, verdict.reason)
            case _:
                assert_never(verdict.kind)

    def _bury(self, message: JetStreamMessage, reason: str) -> None:
        """Store it among the dead letters; only then it is never delivered again."""
        subject = self._options.dead_letter
        assert subject is not None  # else the verdict is another one
        headers = dead_letter_headers(message.headers, message.subject, message.metadata, reason)
        began, tries = monotonic(), 0
        while True:
            letter = publish_operation(subject, message.data, headers, now=monotonic)
            try:
                run(self._host, letter, timeout=5.0)
            except NATSError as error:
                tries += 1
                self._host.log_failure(f"{self._what}: the dead letter for {subject!r} was not stored", error)
                if isinstance(error, ConnectionClosedError) or self._is_settled_unburied(
                    message, error, tries, monotonic() - began
                ):
                    return
            else:
                message.term(reason)
                return

    def _is_settled_unburied(self, message: JetStreamMessage, error: NATSError, tries: int, seconds: float) -> bool:
        """Whether nothing more is done for a message whose dead letter was not stored; else the letter is sent again,
        now that its pause is over."""
        fate = unburied(message, error, self._options, max_deliver=self._max_deliver, tries=tries, seconds=seconds)
        # By the reader itself, for a message whose key could not be made, nothing is waited for.
        waits = self._machine is not None and id(message) in self._machine.begun
        match fate.kind:
            case "again":
                message.nak(fate.delay)
                return True
            case "wait":
                until = monotonic() + fate.delay
                while waits and not self._stopping and (left := until - monotonic()) > 0:
                    self._host.pause(min(left, PART))
            case "left":
                pass
            case _:
                assert_never(fate.kind)
        if fate.kind == "left" or self._stopping or not waits:
            self._host.log_failure(left_text(self._what, self._options.dead_letter or "", message.metadata), error)
            return True
        return False

    def _attempt(self, message: JetStreamMessage, tell: Callable[[], object]) -> None:
        """Tell the server something about a message. When that fails, it delivers the message again."""
        try:
            tell()
        except NATSError as error:
            self._not_told(message, error)

    def _not_told(self, message: JetStreamMessage, error: NATSError) -> None:
        if not isinstance(error, ConnectionClosedError):  # who closes the client knows that
            self._host.log_failure(f"{self._what}: a message of {message.subject} was not acknowledged", error)
