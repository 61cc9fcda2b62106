"""How a conversation is held, and how what comes back is written down.

A conversation is a function that calls the methods of a `Talk`. All that comes back is written into its `transcript`,
in which whatever is another each time is replaced: times, names that the server makes, order among different inboxes.
"""

from __future__ import annotations

import json
import re
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

import nats_sync
from nats_proto.errors import NATSTimeoutError, NoRespondersError
from tests.simulation.jetstream import JetStream, Sent, block_of, headers_of

__all__ = ["CONVERSATIONS", "ModelTalk", "RealTalk", "Talk", "conversation"]

CONVERSATIONS: Final[dict[str, Callable[[Talk], None]]] = {}
VOLATILE: Final = {
    "ts", "created", "time", "first_ts", "last_ts", "last_active", "cluster", "metadata", "pinned_ts", "pause_until",
    "pause_remaining", "memory", "storage_used", "persist_mode",
}  # fmt: skip
VOLATILE_HEADERS: Final = {"Nats-Time-Stamp"}
PATIENCE: Final = 5.0
LAG: Final = 2.0
"""Seconds until a server has counted all that came before."""


def conversation(function: Callable[[Talk], None]) -> Callable[[Talk], None]:
    """Put it into the table, under its name."""
    CONVERSATIONS[function.__name__] = function
    return function


class Talk(ABC):
    """One side of a conversation: the client's."""

    def __init__(self) -> None:
        self.transcript: list[str] = []
        self.last: dict[str, list[Sent]] = defaultdict(list)
        """What was collected from each inbox, as it came."""
        self.counting = True
        """Whether the number of messages that are pending is written down. While messages are stored and delivered at
        the same time a server may tell any of several."""
        self._pins: dict[str, str] = {}

    # --- what conversations say --------------------------------------------------------------------------------------

    def api(self, call: str, body: object = None, **fields: object) -> Any:
        """Ask the API: what it answers."""
        data = b"" if body is None and not fields else json.dumps(fields if body is None else body).encode()
        return self.ask("$JS.API." + call, data)

    def ask(self, subject: str, data: bytes = b"", headers: Mapping[str, object] | None = None) -> Any:
        """A request: its first answer, decoded when it is JSON."""
        answer = self.request(subject, data, None if headers is None else block_of(headers))
        self.transcript.append(f"{subject} -> {'no responders' if answer is None else self._shown(answer)}")
        if answer is None or not answer.data.startswith(b"{"):
            return answer
        return json.loads(answer.data)

    def stream(self, name: str = "S", **config: object) -> Any:
        """Make a stream in memory that takes all below its name in small letters."""
        return self.api(
            f"STREAM.CREATE.{name}",
            {"name": name, "storage": "memory", "subjects": [f"{name.lower()}.>"], **config},
        )

    def consumer(self, name: str = "c", stream: str = "S", action: str = "", **config: object) -> Any:
        """Make a durable consumer that wants acknowledgements."""
        config = {"durable_name": name, "ack_policy": "explicit", **config}
        body = {"stream_name": stream, "action": action, "config": config}
        return self.api(f"CONSUMER.CREATE.{stream}.{name}", body)

    def store(self, *subjects: str, data: bytes = b"data", **headers: object) -> None:
        """Publish, one after the other, and wait until each is stored."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()} or None
        for number, subject in enumerate(subjects, 1):
            self.ask(subject, data + b"%d" % number, fields)

    def pull(self, inbox: str, batch: int | None = 1, consumer: str = "c", stream: str = "S", **fields: object) -> None:
        """Send a pull request; what comes of it is collected from the inbox."""
        self.listen(inbox)
        request = fields if batch is None else {"batch": batch, **fields}
        self.send_pull(stream, consumer, inbox, json.dumps(request).encode())

    def collect(self, inbox: str, count: int) -> list[Sent]:
        """Wait until so many have come."""
        found = self.receive(inbox, count, PATIENCE)
        self._note(inbox, found)
        if len(found) < count:
            self.transcript.append(f"{inbox}: only {len(found)} of {count}")
        return found

    def silence(self, inbox: str, seconds: float = 0.1) -> None:
        """What comes within a while; mostly nothing."""
        self._note(inbox, self.receive(inbox, 1, seconds))

    def ack(self, message: Sent, data: bytes = b"+ACK") -> None:
        """Acknowledge, and wait for the confirmation."""
        assert message.reply is not None
        answer = self.request(message.reply, data, None, short=True)
        self.transcript.append(f"{data!r} -> {'nothing' if answer is None else self._shown(answer)}")

    def info(self, consumer: str = "c", stream: str = "S") -> Any:
        """Of a consumer."""
        return self.api(f"CONSUMER.INFO.{stream}.{consumer}")

    def pin(self, inbox: str) -> str:
        """The newest pin id that came to an inbox."""
        ids = [headers_of(message.block).get("Nats-Pin-Id") for message in self.last[inbox]]
        return next(pin for pin in reversed(ids) if pin)

    # --- what is written down ----------------------------------------------------------------------------------------

    def _note(self, inbox: str, found: list[Sent]) -> None:
        self.last[inbox] += found
        self.transcript += [f"{inbox} <- {self._shown(message)}" for message in found]

    def _shown(self, message: Sent) -> str:
        parts = [re.sub(r"_INBOX\..*", "reply", message.subject)]
        if message.reply is not None:
            parts.append(self._reply(message.reply))
        for name, value in headers_of(message.block).items():
            if name in VOLATILE_HEADERS:
                continue
            if name == "Nats-Pin-Id":
                value = self._pin_name(value)
            elif name == "Nats-Consumer-Stalled":
                value = self._reply(value)
            parts.append(f"{name}={value}")
        if message.data.startswith(b"{"):
            parts.append(json.dumps(self._plain(json.loads(message.data)), sort_keys=True))
        else:
            parts.append(repr(message.data))
        return " ".join(parts)

    def _reply(self, reply: str) -> str:
        tokens = reply.split(".")
        if tokens[1] == "ACK":
            tokens[-2] = "time"
            if not self.counting:
                tokens[-1] = "some"
        elif tokens[1] == "FC":
            tokens[-1] = "x"
        return ".".join(tokens)

    def _pin_name(self, pin: str) -> str:
        return self._pins.setdefault(pin, f"pin{len(self._pins) + 1}")

    def _plain(self, value: Any) -> Any:
        """Without what is another each time, and without what says nothing."""
        if isinstance(value, list):
            return [self._plain(one) for one in value]
        if not isinstance(value, dict):
            return value
        plain: dict[str, Any] = {}
        for name, one in value.items():
            shown = self._plain(one)
            if name == "pinned_client_id" and one:
                shown = self._pin_name(one)
            elif name == "description" and isinstance(one, str) and one.startswith("invalid JSON: invalid"):
                shown = "invalid JSON: ..."
            if name not in VOLATILE and shown not in (None, False, 0, "", [], {}):
                plain[name] = shown
        return plain

    # --- what the two sides do differently ---------------------------------------------------------------------------

    @abstractmethod
    def listen(self, inbox: str, queue: str | None = None) -> None:
        """Subscribe, if that was not done yet."""

    @abstractmethod
    def leave(self, inbox: str) -> None:
        """Unsubscribe."""

    @abstractmethod
    def publish(self, subject: str, data: bytes = b"", reply: str | None = None) -> None:
        """Send a message, and wait for nothing."""

    @abstractmethod
    def request(self, subject: str, data: bytes, block: bytes | None, *, short: bool = False) -> Sent | None:
        """The first answer; None: nobody listens. With ``short`` also: none came."""

    @abstractmethod
    def send_pull(self, stream: str, consumer: str, inbox: str, data: bytes) -> None:
        """Send a pull request, and wait until the server has looked at it."""

    @abstractmethod
    def receive(self, inbox: str, count: int, seconds: float) -> list[Sent]:
        """Up to so many messages."""


class ModelTalk(Talk):
    """With the model, in virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.jetstream = JetStream(lambda subject: subject in self._queues)
        self._queues: dict[str, list[Sent]] = {}

    def listen(self, inbox: str, queue: str | None = None) -> None:
        self._queues.setdefault(inbox, [])
        self._settle()

    def leave(self, inbox: str) -> None:
        self._queues.pop(inbox, None)

    def publish(self, subject: str, data: bytes = b"", reply: str | None = None) -> None:
        self._send(subject, reply, None, data)

    def request(self, subject: str, data: bytes, block: bytes | None, *, short: bool = False) -> Sent | None:
        self._queues["_INBOX.x"] = []
        heard = self._send(subject, "_INBOX.x", block, data)
        answers = self._queues.pop("_INBOX.x")
        assert answers or short or not heard
        return answers[0] if answers else None

    def send_pull(self, stream: str, consumer: str, inbox: str, data: bytes) -> None:
        if not self._send(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", inbox, None, data):
            self._queues[inbox].append(Sent(inbox, inbox, None, b"NATS/1.0 503\r\n\r\n", b""))

    def receive(self, inbox: str, count: int, seconds: float) -> list[Sent]:
        until, queue = self.now + seconds, self._queues[inbox]
        while len(queue) < count:
            due = self.jetstream.next_timeout()
            if due is None or due > until:
                self.now = until
                break
            self.now = max(self.now, due)
            self.jetstream.handle_timeout(self.now)
            self._sort()
        found, queue[:] = queue[:count], queue[count:]
        return found

    def _send(self, subject: str, reply: str | None, block: bytes | None, data: bytes) -> bool:
        self.now += 0.0001
        heard = self.jetstream.receive(subject, reply, block, data, self.now)
        self._sort()
        return heard

    def _settle(self) -> None:
        self.jetstream.settle(self.now)
        self._sort()

    def _sort(self) -> None:
        for message in self.jetstream.take():
            if message.to in self._queues:
                self._queues[message.to].append(message)


class RealTalk(Talk):
    """With a server. ``expected``: what the model has written down."""

    def __init__(self, client: nats_sync.Client, expected: list[str]) -> None:
        super().__init__()
        self._client = client
        self._expected = expected
        self._subs: dict[str, nats_sync.Subscription] = {}

    def ask(self, subject: str, data: bytes = b"", headers: Mapping[str, object] | None = None) -> Any:
        """How something stands is asked again until it is as expected: what came before may not be counted yet."""
        until, place = time.monotonic() + LAG, len(self.transcript)
        while True:
            answer = super().ask(subject, data, headers)
            told = self.transcript[place] == "".join(self._expected[place : place + 1])
            if told or ".INFO." not in subject or time.monotonic() > until:
                return answer
            self.transcript.pop()

    def listen(self, inbox: str, queue: str | None = None) -> None:
        if inbox not in self._subs:
            self._subs[inbox] = self._client.subscribe(inbox, queue=queue)
            self._client.flush()

    def leave(self, inbox: str) -> None:
        self._subs.pop(inbox).unsubscribe()
        self._client.flush()

    def publish(self, subject: str, data: bytes = b"", reply: str | None = None) -> None:
        self._client.publish(subject, data, reply=reply)
        self._client.flush()

    def request(self, subject: str, data: bytes, block: bytes | None, *, short: bool = False) -> Sent | None:
        headers = {name: value for name, value in headers_of(block).items() if name} or None
        try:
            answer = self._client.request(subject, data, headers=headers, timeout=0.3 if short else PATIENCE)
        except NoRespondersError:
            return None
        except NATSTimeoutError:
            if not short:
                raise
            return None
        return _sent(answer)

    def send_pull(self, stream: str, consumer: str, inbox: str, data: bytes) -> None:
        waiting, there = self._waiting(stream, consumer), self._subs[inbox].pending[0]
        self.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", data, inbox)
        until = time.monotonic() + 0.1
        # It has looked at the request once something has come of it; that may be nothing at all.
        while self._subs[inbox].pending[0] == there and time.monotonic() < until:
            if self._waiting(stream, consumer) != waiting:
                break

    def _waiting(self, stream: str, consumer: str) -> int:
        answer = self._client.request(f"$JS.API.CONSUMER.INFO.{stream}.{consumer}", timeout=PATIENCE)
        waiting: int = json.loads(answer.data).get("num_waiting", 0)
        return waiting

    def receive(self, inbox: str, count: int, seconds: float) -> list[Sent]:
        found: list[Sent] = []
        until = time.monotonic() + seconds
        while len(found) < count:
            message = self._subs[inbox].next_until(until)
            if message is None:
                break
            found.append(_sent(message))
        return found

    def end(self) -> None:
        """Take away all that was made."""
        for sub in self._subs.values():
            sub.unsubscribe()
        names = json.loads(self._client.request("$JS.API.STREAM.NAMES").data)["streams"] or []
        for name in names:
            self._client.request(f"$JS.API.STREAM.DELETE.{name}")


def _sent(message: nats_sync.Message) -> Sent:
    return Sent(message.subject, message.subject, message.reply, message.header_block, message.data)
