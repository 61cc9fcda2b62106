"""How a user reads: at once, slowly, or by a callback that may call the session."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.client import Client
from tests.simulation.invariants import require
from tests.simulation.ledger import Subscription

__all__ = ["Readers"]


class Readers:
    """Of all subscriptions of one client. ``act`` is what callbacks do."""

    def __init__(self, client: Client, act: Callable[[float], None]) -> None:
        self.client = client
        self.world = client.world
        self.session = client.session
        self.ledger = client.ledger
        self.rng = client.world.rng
        self.stopped = False
        self._act = act
        self._manners: dict[int, str] = {}
        self._scheduled: set[int] = set()
        client.on_messages = self._notified

    def add(self, sid: int) -> None:
        """A new subscription."""
        read = self.client.knobs.read
        self._manners[sid] = self.rng.choice(("eager", "slow", "callback")) if read == "mixed" else read

    def _notified(self, sid: int) -> None:
        if sid in self._scheduled or sid not in self._manners:
            return
        reader = self._manners[sid]
        delay = {"eager": 0.0, "callback": 0.0}.get(reader, self.rng.choice((0.01, 0.5, 3.0)))
        self._scheduled.add(sid)
        self.world.after(delay, self._read, sid)

    def _read(self, sid: int) -> None:
        self._scheduled.discard(sid)
        if self.client.asleep:
            self._scheduled.add(sid)
            self.world.at(self.client.asleep_until, self._read, sid)
            return
        if self.stopped:
            return
        sub = self.ledger.subs[sid]
        reader = self._manners[sid]
        if reader == "eager":
            self.take(sub, 1 << 30)
            return
        if reader == "callback":
            self._call_back(sub)
        else:
            self.take(sub, 1)
        if sub.waiting:
            self._notified(sid)

    def take(self, sub: Subscription, count: int) -> None:
        """Take up to ``count`` messages, in one of the ways there are."""
        if self.client.knobs.share:  # as a thread without the lock
            messages = [sub.state.messages.popleft() for _ in range(min(count, len(sub.state.messages)))]
            if self.rng.random() < 0.3:
                sub.state.count_taken()
        elif self.rng.random() < 0.5:
            message = sub.state.pop()
            messages = [] if message is None else [message]
            if message is not None and self.rng.random() < 0.1:
                sub.state.put_back(message)
                require(sub.state.pop() is message, "put_back did not put it back")
            messages += sub.state.take(count - 1) if count > 1 else []
        else:
            messages = sub.state.take(count)
        for message in messages:
            self._check_message(sub, message.data, message.size)
        require(
            len(messages) >= min(count, 1) or not sub.waiting, f"sid {sub.sid} gave nothing, {len(sub.waiting)} wait"
        )
        self.client.checks.dirty = True
        self.progress()

    def _check_message(self, sub: Subscription, data: bytes, size: int) -> None:
        require(bool(sub.waiting), f"sid {sub.sid} gave {data!r}, and nothing was to come")
        expected = sub.waiting.popleft()
        require(data == expected, f"sid {sub.sid} gave {data!r}, where {expected!r} was next")
        sub.waiting_bytes -= size
        sub.delivered += 1

    def _call_back(self, sub: Subscription) -> None:
        """One message goes to a callback, which may call the session, and may take its time."""
        if not sub.state.messages:
            return
        message = sub.state.messages.popleft() if self.client.knobs.share else sub.state.pop()
        assert message is not None
        self._check_message(sub, message.data, message.size)
        sub.state.handler_started()
        choice = self.rng.random()
        self._act(choice)
        if choice > 0.8:
            self.world.after(self.rng.choice((0.01, 0.3)), self._handler_done, sub)
            return
        self._handler_done(sub)

    def _handler_done(self, sub: Subscription) -> None:
        sub.state.handler_finished()
        self.client.checks.dirty = True
        self.progress()
        if sub.waiting:
            self._notified(sub.sid)

    def progress(self) -> None:
        """Tell the session, or forget to: then the timer must be asked for."""
        if self.rng.random() < 0.7:
            self.session.subscription_progress(now=self.world.now)
        self.client.pump()
