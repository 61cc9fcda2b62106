"""What a push consumer has besides what every consumer has: who listens, flow control, heart-beats.

Theory of operation
-------------------
It delivers while somebody is subscribed to its subject. With flow control it counts the bytes that it has sent: at half
of its window it asks, by a status with a reply subject, and delivers no more when the window is full before that was
answered. Each answer doubles the window, up to a limit. A heart-beat comes when it has sent nothing for its time; while
an answer is outstanding it says which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .wire import Sent, status

if TYPE_CHECKING:
    from .consumer import ModelConsumer

__all__ = ["PushState"]


class PushState:
    """Of one consumer."""

    def __init__(self, consumer: ModelConsumer, now: float) -> None:
        self.consumer = consumer
        self.account = consumer.account
        self.asked = ""
        """The subject of the answer that is waited for."""
        self.inactive_since: float | None = None
        self.next_heartbeat = now
        self.forget(now)

    def forget(self, now: float) -> None:
        """As after a change of the leader."""
        self.unanswered = self._asked_for = 0
        self.window = self.account.flow_window // 16 if self.consumer.config.get("flow_control") else 0
        self.asked = ""
        self.next_heartbeat = now + self.beat
        self.look(now)

    @property
    def beat(self) -> float:
        """Seconds between heart-beats; 0: none."""
        return float(self.consumer.config.get("idle_heartbeat") or 0) / 1e9

    @property
    def active(self) -> bool:
        """Whether somebody listens."""
        return self.inactive_since is None

    def look(self, now: float) -> None:
        """See whether somebody listens."""
        if not self.consumer.pushes or self.account.interested(str(self.consumer.config["deliver_subject"])):
            self.inactive_since = None
        elif self.inactive_since is None:
            self.inactive_since = now

    def ready(self) -> bool:
        """Whether it may deliver."""
        self.look(self.account.now)
        return self.active and not (self.window and self.unanswered > self.window)

    def delivered(self, size: int, now: float) -> None:
        """So many bytes were sent."""
        self.next_heartbeat = now + self.beat
        if not self.window:
            return
        self.unanswered += size
        if not self.asked and self.unanswered > self.window // 2:
            consumer = self.consumer
            self.asked = f"$JS.FC.{consumer.stream.name}.{consumer.name}.{self.account.new_id()}"
            self._asked_for = self.unanswered
            to = str(consumer.config["deliver_subject"])
            self.account.send(Sent(to, to, self.asked, status(100, "FlowControl Request"), b""))
        elif self.asked and self.unanswered - self._asked_for >= self.window:
            self._asked_for += size

    def answered(self, subject: str) -> None:
        """The client has answered a request for flow control."""
        if subject == self.asked:
            self.window = min(2 * self.window, self.account.flow_window)
            self.unanswered = max(self.unanswered - self._asked_for, 0)
            self.asked, self._asked_for = "", 0

    def due(self) -> list[float]:
        """When something is due."""
        return [self.next_heartbeat] if self.beat else []

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self.look(now)
        if self.consumer.pushes and self.beat and now >= self.next_heartbeat:
            self.next_heartbeat = now + self.beat
            if self.active:
                self.consumer.heartbeat(str(self.consumer.config["deliver_subject"]))
