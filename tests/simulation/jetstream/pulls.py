"""Pull requests that wait for messages: in which order they get them, and what ends them.

Theory of operation
-------------------
Requests wait in a queue. Each message goes to the first that may have it, which then stands behind the others (of its
priority). A request ends when it has got what it asked for; when its time is up (408); when it does not wait and there
is nothing (404); when a message is larger than what is left of its bytes (409); with a pin that is not the current one
(423). Whose inbox has no subscriber is dropped without a word. What a status leaves unused it says in two headers, but
only the statuses of requests that have waited do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .wire import duration_text, status

if TYPE_CHECKING:
    from .consumer import ModelConsumer

__all__ = ["PullQueue", "Request"]


@dataclass(slots=True, eq=False)
class Request:
    """One that waits."""

    reply: str
    left: int
    """Messages."""
    bytes_left: int
    expires: float | None
    no_wait: bool
    heartbeat: float
    next_heartbeat: float
    group: str = ""
    pin: str = ""
    min_pending: int = 0
    min_ack_pending: int = 0
    priority: int = 0
    delivered: int = 0

    @property
    def remainder(self) -> dict[str, object]:
        """What it did not use, as a status says it."""
        return {"Nats-Pending-Messages": self.left, "Nats-Pending-Bytes": self.bytes_left}


class PullQueue:
    """Of one consumer."""

    def __init__(self, consumer: ModelConsumer, now: float) -> None:
        self.consumer = consumer
        self.account = consumer.account
        self.waiting: list[Request] = []
        self.last_request = now
        """When somebody last wanted something."""

    # --- requests ----------------------------------------------------------------------------------------------------

    def request(self, reply: str, data: bytes, now: float) -> None:
        """Somebody asks for messages."""
        consumer, config = self.consumer, self.consumer.config
        if consumer.pushes:
            self._refuse(reply, 409, "Consumer is push based")
            return
        try:
            asked = self._parsed(data)
        except ValueError:
            self._refuse(reply, 400, "Bad Request - invalid JSON")
            return
        refusal = self._refusal(asked)
        if refusal is not None:
            self._refuse(reply, *refusal)
            return
        expires = now + asked["expires"] / 1e9 if asked.get("expires") else None
        heartbeat = asked.get("idle_heartbeat", 0) / 1e9
        request = Request(
            reply, asked.get("batch", 0), asked.get("max_bytes", 0), expires, bool(asked.get("no_wait")), heartbeat,
            now + heartbeat, asked.get("group", ""), asked.get("id", ""), asked.get("min_pending", 0),
            asked.get("min_ack_pending", 0), asked.get("priority", 0),
        )  # fmt: skip
        if consumer.pin and request.pin == consumer.pin:
            consumer.pin_until = now + config["priority_timeout"] / 1e9
        elif consumer.pin and request.pin:
            self._refuse(reply, 423, "Nats-Pin-Id mismatch")
            return
        if request.no_wait and self._refuse_no_wait(request, now):
            self.last_request = now
            return
        if len(self.waiting) >= config["max_waiting"]:
            self.look_after(now, end_of_stream=False)
        if len(self.waiting) >= config["max_waiting"]:
            if not heartbeat:
                self._refuse(reply, 409, "Exceeded MaxWaiting")
            return
        self.last_request = now
        consumer.asleep = False
        self._insert(request)

    @staticmethod
    def _parsed(data: bytes) -> dict[str, Any]:
        data = data.strip()
        if data.startswith(b"{"):
            asked: dict[str, Any] = json.loads(data)
            return asked
        return {"batch": int(data) if data.isdigit() else 1}

    def _refusal(self, asked: dict[str, Any]) -> tuple[int, str] | None:
        """Why a request is wrong in itself."""
        consumer, config = self.consumer, self.consumer.config
        expires, policy = asked.get("expires", 0), consumer.policy
        checks = (
            (2 * asked.get("idle_heartbeat", 0) > expires, 400, "Bad Request - heartbeat value too large"),
            *self._limits(asked, config),
            (
                bool(asked.get("min_pending") or asked.get("min_ack_pending")) and policy != "overflow",
                400,
                "Bad Request - Not a Overflow Priority consumer",
            ),
            (
                bool(asked.get("id")) and policy != "pinned_client",
                400,
                "Bad Request - Not a Pinned Client Priority consumer",
            ),
            (not 0 <= asked.get("priority", 0) <= 9, 400, "Bad Request - Priority must be between 0 and 9"),
            (policy != "none" and not asked.get("group"), 400, "Bad Request - Priority Group missing"),
            (
                policy != "none" and asked.get("group") not in config.get("priority_groups", ()),
                400,
                "Bad Request - Invalid Priority Group",
            ),
        )
        return next(((code, text) for wrong, code, text in checks if wrong), None)

    @staticmethod
    def _limits(asked: dict[str, Any], config: dict[str, Any]) -> list[tuple[bool, int, str]]:
        batch, expires, size = (config.get(name) or 0 for name in ("max_batch", "max_expires", "max_bytes"))
        return [
            (0 < batch < asked.get("batch", 0), 409, f"Exceeded MaxRequestBatch of {batch}"),
            (
                0 < expires < asked.get("expires", 0),
                409,
                f"Exceeded MaxRequestExpires of {duration_text(expires)}",
            ),
            (0 < size < asked.get("max_bytes", 0), 409, f"Exceeded MaxRequestMaxBytes of {size}"),
        ]

    def _refuse(self, reply: str, code: int, text: str) -> None:
        self.account.send_status(reply, status(code, text))

    def _refuse_no_wait(self, request: Request, now: float) -> bool:
        """There is nothing for it, or others were first."""
        pending = self.consumer.num_pending + len(self.consumer.again)
        if not pending:
            if request.expires is None:
                self._refuse(request.reply, 404, "No Messages")
            return request.expires is None
        self.look_after(now, end_of_stream=False)
        if pending < sum(other.left for other in self.waiting):
            self._refuse(request.reply, 408, "Requests Pending")
            return True
        return False

    def _insert(self, request: Request) -> None:
        """Behind all others of its priority."""
        at = len(self.waiting)
        if self.consumer.policy == "prioritized":
            at = next((i for i, other in enumerate(self.waiting) if other.priority > request.priority), at)
        self.waiting.insert(at, request)

    def counted(self, now: float) -> int:
        """How many wait, once those that are over are gone."""
        self.look_after(now, end_of_stream=False)
        return len(self.waiting)

    # --- messages ----------------------------------------------------------------------------------------------------

    def take(self, size: int, now: float) -> Request | None:
        """The request that gets a message of ``size`` bytes; it counts as delivered to it."""
        consumer = self.consumer
        cycled = 0
        new_pin = not consumer.pin and consumer.policy == "pinned_client"
        while self.waiting:
            request = self.waiting[0]
            if request.expires is not None and now >= request.expires:
                self._end(request, 408, "Request Timeout")
                continue
            pinned_now = False
            if new_pin:
                if request.pin:
                    self._end(request, 423, "Nats-Wrong-Pin-Id")
                    continue
                self._pin(request, now)
                pinned_now, new_pin = True, False
            elif consumer.pin and request.pin and request.pin != consumer.pin:
                self._end(request, 423, "Nats-Wrong-Pin-Id")
                continue
            if (consumer.pin and request.pin != consumer.pin) or self._not_enough(request):
                self.waiting.append(self.waiting.pop(0))
                cycled += 1
                if cycled >= len(self.waiting):
                    return None
                continue
            if request.bytes_left and size > request.bytes_left:
                self._end(request, 409, "Message Size Exceeds MaxBytes")
                if pinned_now:
                    consumer.pin, new_pin = "", True
                continue
            if not self.account.interested(request.reply):
                self.waiting.remove(request)
                continue
            self._count(request, size)
            return request
        return None

    def _pin(self, request: Request, now: float) -> None:
        consumer = self.consumer
        if request.group:
            consumer.pin = request.pin = self.account.new_id()
            consumer.pinned_at = now
            consumer.pin_until = now + consumer.config["priority_timeout"] / 1e9

    def _not_enough(self, request: Request) -> bool:
        """Of policy overflow: it wants a message only when many wait."""
        consumer = self.consumer
        if consumer.policy != "overflow" or not (request.min_pending or request.min_ack_pending):
            return False
        pending = 0 < request.min_pending <= consumer.num_pending + 1
        return not (pending or 0 < request.min_ack_pending <= len(consumer.pending))

    def _count(self, request: Request, size: int) -> None:
        if request.bytes_left:
            request.bytes_left -= size
            if not request.bytes_left:
                request.left = 1
        request.left -= 1
        request.delivered += 1
        self.waiting.remove(request)
        if request.left > 0:
            self._insert(request)

    def delivered(self, request: Request) -> None:
        """The message that was taken for it is sent."""
        now = self.account.now
        self.last_request = now
        if request.left > 0:
            request.next_heartbeat = now + request.heartbeat
        elif request.bytes_left > 0:
            self.account.send_status(request.reply, status(409, "Batch Completed", request.remainder))

    def _end(self, request: Request, code: int, text: str) -> None:
        self.waiting.remove(request)
        self.account.send_status(request.reply, status(code, text, request.remainder))

    # --- time --------------------------------------------------------------------------------------------------------

    def look_after(self, now: float, *, end_of_stream: bool) -> None:
        """End what is over, and let those that wait hear a heart-beat."""
        for request in list(self.waiting):
            if request.expires is not None and now >= request.expires:
                self._end(request, 408, "Request Timeout")
            elif end_of_stream and request.no_wait and (request.expires is None or request.delivered):
                self.waiting.remove(request)
                self._refuse(request.reply, 404, "No Messages")
            elif not self.account.interested(request.reply):
                self.waiting.remove(request)
            elif request.heartbeat and now >= request.next_heartbeat:
                self.consumer.heartbeat(request.reply)
                request.next_heartbeat = now + request.heartbeat

    def due(self) -> list[float]:
        """When something is due."""
        due = [request.expires for request in self.waiting if request.expires is not None]
        return due + [request.next_heartbeat for request in self.waiting if request.heartbeat]

    # --- ends --------------------------------------------------------------------------------------------------------

    def end_all(self, code: int = 0, text: str = "", *, remainder: bool = False) -> None:
        """All requests are gone; with a status, or without a word."""
        waiting, self.waiting = self.waiting, []
        for request in waiting if code else ():
            self.account.send_status(request.reply, status(code, text, request.remainder if remainder else None))
