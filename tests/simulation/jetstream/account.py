"""One account's JetStream: where its messages go, what is due, and what goes wrong when it is asked for.

Theory of operation
-------------------
Every call changes something, and then everything that can be delivered is. `receive` says whether anybody listens to a
subject at all: a subject of a stream or a consumer without a leader has no listener, and whoever asked is told "no
responders" by somebody else. What is lost on the way is counted in `lose`, by kind.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable
from typing import Final

from .consumer import ModelConsumer
from .consumer_api import ConsumerApi
from .stream import ModelStream
from .stream_api import StreamApi
from .wire import ApiFailure, Sent

__all__ = ["LOSSES", "JetStream"]

LOSSES: Final = ("ack", "pull", "request", "answer", "pub ack", "status", "delivery")
"""What may be lost: an acknowledgement, a pull request, another request; an answer to one, the acknowledgement of a
publish, a status, a message that is delivered."""

Task = tuple[float, int, Callable[[float], None]]


class JetStream:
    """The model. Times are virtual seconds; ``interested`` says whether a subject has a subscriber."""

    def __init__(
        self,
        interested: Callable[[str], bool],
        *,
        clustered: bool = False,
        commit: float = 0.0,
        flow_window: int = 32 << 20,
    ) -> None:
        self._interested = interested
        self.clustered = clustered
        self.commit = commit
        """Seconds that a replicated stream takes to store a message."""
        self.flow_window = flow_window
        """Bytes that a push consumer may have sent without an answer."""
        self.streams: dict[str, ModelStream] = {}
        self.sent: list[Sent] = []
        self.now = 0.0
        self.lose: Counter[str] = Counter()
        self.on_loss: Callable[[], None] = lambda: None
        """Called when something is lost."""
        self.garble: Callable[[Sent], Sent] | None = None
        """What becomes of the next status."""
        self.available = True
        """Requests to the API are heard."""
        self._ids = 0
        self._tasks: list[Task] = []
        self._api = StreamApi(self)
        self._consumer_api = ConsumerApi(self, self._api)

    # --- in ----------------------------------------------------------------------------------------------------------

    def receive(self, subject: str, reply: str | None, block: bytes | None, data: bytes, now: float) -> bool:
        """A message was published. Whether JetStream listens to its subject."""
        self.now = now
        if subject.startswith("$JS."):
            heard = self._receive_own(subject.split("."), subject, reply, data)
        else:
            takers = [stream for stream in self.streams.values() if stream.led and stream.takes(subject)]
            for stream in takers:
                stream.publish(subject, reply, block, data, now)
            heard = bool(takers)
        if heard:
            self.settle(now)
        return heard

    def _receive_own(self, tokens: list[str], subject: str, reply: str | None, data: bytes) -> bool:
        match tokens[1:]:
            case ["ACK", stream, name, *rest]:
                consumer = self._led(stream, name)
                if consumer is not None and not self.lost("ack"):
                    consumer.acknowledged(rest, reply, data, self.now)
                return consumer is not None
            case ["FC", stream, name, _]:
                consumer = self._led(stream, name)
                if consumer is not None and not self.lost("ack"):
                    consumer.push.answered(subject)
                return consumer is not None
            case ["API", *rest]:
                return self.available and self._request(rest, reply, data)
            case _:
                return False

    def _led(self, stream: str, name: str) -> ModelConsumer | None:
        there = self.streams.get(stream)
        consumer = there.consumers.get(name) if there is not None else None
        return consumer if consumer is not None and consumer.led else None

    def _request(self, tokens: list[str], reply: str | None, data: bytes) -> bool:
        match tokens:
            case ["CONSUMER", "MSG", "NEXT", stream, name]:
                consumer = self._led(stream, name)
                if consumer is not None and reply and not self.lost("pull"):
                    consumer.pulls.request(reply, data, self.now)
                return consumer is not None
            case ["DIRECT", "GET", stream, *rest]:
                there = self.streams.get(stream)
                if there is None or not there.config["allow_direct"]:
                    return False
                if reply and not self.lost("request"):
                    self._api.direct(stream, ".".join(rest) or None, data, reply)
                return True
            case ["CONSUMER", "RESET", stream, name] if self._led(stream, name) is None:
                pass  # only its leader would answer
            case _ if reply and not self.lost("request"):
                self._answer(tokens, reply, data)
        return True

    def _answer(self, tokens: list[str], reply: str, data: bytes) -> None:
        room, *rest = tokens
        try:
            try:
                if room == "INFO":
                    kind, answer = "account_info", self._account_info()
                else:
                    rooms: dict[str, StreamApi | ConsumerApi] = {"STREAM": self._api, "CONSUMER": self._consumer_api}
                    kind, answer = rooms[room].answer(rest, data, self.now)
            except ApiFailure as failure:
                kind, answer = self._kind(tokens), {"error": failure.fields}
        except LookupError:
            return  # nobody answers what no server knows
        if not self.lost("answer"):
            text = json.dumps({"type": f"io.nats.jetstream.api.v1.{kind}_response", **answer}, separators=(",", ":"))
            self.send(Sent(reply, reply, None, None, text.encode()))

    @staticmethod
    def _kind(tokens: list[str]) -> str:
        verbs = tokens[1:3] if tokens[1] in ("MSG", "DURABLE") else tokens[1:2]
        return "_".join([tokens[0], *verbs]).lower().replace("durable_", "")

    def _account_info(self) -> dict[str, object]:
        consumers = sum(len(stream.consumers) for stream in self.streams.values())
        return {"memory": 0, "storage": 0, "streams": len(self.streams), "consumers": consumers}

    # --- out ---------------------------------------------------------------------------------------------------------

    def take(self) -> list[Sent]:
        """What was sent since the last call, in order."""
        sent, self.sent = self.sent, []
        return sent

    def send(self, message: Sent) -> None:
        """For the parts of the model."""
        if message.reply is None or not self.lost("delivery"):
            self.sent.append(message)

    def send_status(self, to: str, block: bytes) -> None:
        """For the parts of the model: a message that is only its status."""
        if self.lost("status"):
            return
        message, garble = Sent(to, to, None, block, b""), self.garble
        if garble is not None:
            message, self.garble = garble(message), None
        self.sent.append(message)

    def acknowledge(self, reply: str, data: bytes) -> None:
        """For streams: a publish is stored, or refused."""
        if not self.lost("pub ack"):
            self.sent.append(Sent(reply, reply, None, None, data))

    def lost(self, kind: str) -> bool:
        """Whether this one is lost."""
        if not self.lose[kind]:
            return False
        self.lose[kind] -= 1
        self.on_loss()
        return True

    def interested(self, subject: str) -> bool:
        """Whether anybody is subscribed to it."""
        return self._interested(subject)

    def new_id(self) -> str:
        """A name that nothing else has."""
        self._ids += 1
        return f"id{self._ids:06}"

    # --- time --------------------------------------------------------------------------------------------------------

    def later(self, when: float, task: Callable[[float], None]) -> None:
        """Do something at a time."""
        self._ids += 1
        heapq.heappush(self._tasks, (when, self._ids, task))

    def next_timeout(self) -> float | None:
        """When something is due by itself, or None."""
        due: list[float | None] = [self._tasks[0][0]] if self._tasks else []
        for stream in self.streams.values():
            due.append(stream.next_timeout())
            for consumer in stream.consumers.values():
                due += (consumer.next_timeout(), consumer.idle_at())
        return min((when for when in due if when is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self.now = now
        while self._tasks and self._tasks[0][0] <= now:
            heapq.heappop(self._tasks)[2](now)
        for stream in self.streams.values():
            stream.expire(now)
            for consumer in list(stream.consumers.values()):
                consumer.handle_timeout(now)
        self.settle(now)

    def settle(self, now: float) -> None:
        """Deliver everything that can be delivered."""
        self.now = now
        for stream in list(self.streams.values()):
            for consumer in list(stream.consumers.values()):
                consumer.run(now)
                idle = consumer.idle_at()
                if idle is not None and now >= idle:
                    self.forget_consumer(consumer)

    # --- ends and faults ---------------------------------------------------------------------------------------------

    def forget_consumer(self, consumer: ModelConsumer) -> None:
        """It is deleted: requests that wait are told."""
        consumer.stream.consumers.pop(consumer.name, None)
        consumer.pulls.end_all(409, "Consumer Deleted")
        consumer.led = False

    def forget_stream(self, stream: ModelStream) -> None:
        """It is deleted with its consumers."""
        for consumer in list(stream.consumers.values()):
            self.forget_consumer(consumer)
        del self.streams[stream.name]

    def lose_leader(self, consumer: ModelConsumer, now: float, seconds: float, told: int | None = None) -> None:
        """Its leader is gone, and there is another one in ``seconds``.

        The new leader of a replicated consumer knows of the ``told`` oldest requests (None: of all), and tells them. Of
        one that is not replicated nobody hears.
        """
        consumer.led = False
        known = [request.reply for request in consumer.pulls.waiting][:told] if consumer.replicated else []
        consumer.pulls.end_all()

        def begin(then: float) -> None:
            if consumer.stream.consumers.get(consumer.name) is not consumer:
                return
            consumer.led = True
            consumer.lead_anew(then)
            for reply in known:
                self.send_status(reply, b"NATS/1.0 409 Leadership Change\r\n\r\n")

        self.later(now + seconds, begin)

    def lose_stream_leader(self, stream: ModelStream, now: float, seconds: float, *, kept: bool) -> None:
        """A stream is without leader for a while. ``kept``: what it was about to store is stored, unacknowledged."""
        stream.led = False
        stream.leave(now, kept=kept)
        if not stream.replicated:
            for consumer in list(stream.consumers.values()):
                if consumer.led:
                    self.lose_leader(consumer, now, seconds)

        def begin(then: float) -> None:
            stream.led = True
            stream.batches.lead()
            stream.tell_once_more()

        self.later(now + seconds, begin)

    def restart(self, now: float, *, orderly: bool) -> None:
        """All servers begin anew: requests are forgotten, and consumers that were kept in memory."""
        self.now = now
        for stream in self.streams.values():
            stream.leave(now, kept=True)
            if not self.clustered:
                stream.batches.forget()
            for consumer in list(stream.consumers.values()):
                if orderly and not consumer.replicated:
                    consumer.pulls.end_all(409, "Server Shutdown", remainder=True)
                consumer.pulls.end_all()
                consumer.lead_anew(now)
                if consumer.config.get("mem_storage"):
                    if self.clustered:
                        consumer.begin()
                    else:
                        self.forget_consumer(consumer)
        self.settle(now)
