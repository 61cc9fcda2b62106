"""One consumer of the model: what was delivered, what is acknowledged, what is to come again.

Theory of operation
-------------------
A delivered message is pending until it is acknowledged. It comes again when its time is up, or when it is handed back
(-NAK): then it waits in `again`, in front of all that is new, unless it was delivered as often as it may be. New
messages come in order, from `next_seq` on; none comes while as many are pending as may be. `run` delivers what can be
delivered, and when nothing can, looks after the requests that wait.

The numbers have the names of the server's answers: a message has a stream sequence, each delivery of it a consumer
sequence, and the ack floor is the last of both below which nothing is pending.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .pulls import PullQueue
from .push import PushState
from .stream import Stored
from .wire import Sent, added, nanoseconds, status, time_text, virtual_time, within

if TYPE_CHECKING:
    from .account import JetStream
    from .stream import ModelStream

__all__ = ["ModelConsumer", "Pending"]


@dataclass(slots=True)
class Pending:
    """A delivery that was not acknowledged: its consumer sequence, and when its time began."""

    consumer_seq: int
    since: float


class ModelConsumer:
    """What a consumer's leader knows."""

    def __init__(self, stream: ModelStream, name: str, config: dict[str, Any], now: float) -> None:
        self.stream = stream
        self.account: JetStream = stream.account
        self.name = name
        self.config = config
        self.created = now
        self.led = True
        """There is a leader."""
        self.pulls = PullQueue(self, now)
        self.push = PushState(self, now)
        self.asleep = False
        """It was resumed, and nothing has happened yet that makes it look: the server's own leaves it asleep."""
        self.pin = ""
        """Id of the client that has the messages of the priority group."""
        self.pinned_at = self.pin_until = 0.0
        self.begin()

    def begin(self) -> None:
        """Everything is to be delivered from the start on."""
        self.last_of_each: list[int] = []
        """Of deliver policy last_per_subject: what is to come before ``next_seq``."""
        self.resume = 0
        self.restart_at(self._first())

    def restart_at(self, seq: int) -> None:
        """Forget all deliveries; the next message is this one or the first one after it."""
        self.next_seq = seq
        self.next_consumer_seq = 1
        self.ack_floor = (0, seq - 1)
        """Consumer sequence, stream sequence."""
        self.shown_floor = self.ack_floor
        """The same as answers tell it: a message that was given up moves it only with the next acknowledgement."""
        self.delivered_seq = seq - 1
        self.pending: dict[int, Pending] = {}
        self.redelivered: dict[int, int] = {}
        """How often each was delivered again."""
        self.again: list[int] = []

    def _first(self) -> int:
        stream, config = self.stream, self.config
        seq: int = config.get("opt_start_seq") or 0
        if seq:
            return max(seq, stream.first)
        match config["deliver_policy"]:
            case "all":
                seq = stream.first
            case "last":
                last = stream.last_of(self.filters or [">"])
                seq = last.seq if last else 0
            case "last_per_subject":
                self.last_of_each = [message.seq for message in stream.lasts_of(self.filters)]
                self.resume = stream.last
                seq = self.last_of_each[0] if self.last_of_each else stream.last
            case "by_start_time":
                seq = stream.seq_at(virtual_time(config["opt_start_time"]))
            case _:
                seq = stream.last + 1
        return max(min(seq, stream.last + 1), stream.first, 1) if stream.last else 1

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def filters(self) -> list[str]:
        """Subjects that it is for; none: all."""
        one = self.config.get("filter_subject")
        return [one] if one else list(self.config.get("filter_subjects") or [])

    @property
    def pushes(self) -> bool:
        """Whether it delivers by itself."""
        return bool(self.config.get("deliver_subject"))

    @property
    def replicated(self) -> bool:
        """Whether it has several replicas."""
        own = self.config.get("num_replicas") or 0
        return bool((own or self.stream.config["num_replicas"]) > 1)

    @property
    def policy(self) -> str:
        """Of its priority groups."""
        return str(self.config.get("priority_policy") or "none")

    def wants(self, subject: str) -> bool:
        """Whether messages with this subject are for it."""
        return not self.filters or within(self.filters, subject)

    def paused(self, now: float) -> bool:
        """It is to deliver nothing yet."""
        return "pause_until" in self.config and now < virtual_time(self.config["pause_until"])

    @property
    def num_pending(self) -> int:
        """How many messages were not delivered yet."""
        if self.last_of_each:
            return len(self.last_of_each) + self.stream.count(self.filters, self.resume + 1)
        return self.stream.count(self.filters, self.next_seq)

    def delivered_times(self, seq: int) -> int:
        """How often a message was delivered."""
        return self.redelivered.get(seq, 0) + 1

    @property
    def most_deliveries(self) -> int:
        """How often a message is delivered at most; 0: as often as it takes."""
        return max(int(self.config["max_deliver"]), 0)

    # --- delivering --------------------------------------------------------------------------------------------------

    def run(self, now: float) -> None:
        """Deliver what can be delivered now."""
        if not self.led:
            return
        at_ack_limit = False
        while not (self.asleep or self.paused(now)):
            if not (self.push.ready() if self.pushes else self.pulls.waiting):
                break
            found = self._next()
            if found is None:
                at_ack_limit = self._at_ack_limit
                break
            message, times = found
            if not self._deliver(message, times, now):
                break
        if not self.pushes:
            self.pulls.look_after(now, end_of_stream=not (at_ack_limit or self.asleep))

    @property
    def _at_ack_limit(self) -> bool:
        limit = self.config.get("max_ack_pending") or 0
        return self.config["ack_policy"] != "none" and 0 < limit <= len(self.pending)

    def _next(self) -> tuple[Stored, int] | None:
        """The next message, and how often it was then delivered. It is as if it was delivered."""
        while self.again:
            seq = self.again.pop(0)
            times = self.delivered_times(seq) + 1
            if 0 < self.most_deliveries < times:
                self._give_up(seq)
                continue
            message = self.stream.messages.get(seq)
            if message is None:
                self._acknowledge(seq, 0)
                continue
            self.redelivered[seq] = times - 1
            return message, times
        if self._at_ack_limit:
            return None
        if self.last_of_each:
            seq = self.last_of_each.pop(0)
            self.next_seq = (seq if self.last_of_each else self.resume) + 1
            message = self.stream.messages.get(seq)
            return self._next() if message is None else (message, 1)
        message = self.stream.next_of(self.filters, self.next_seq)
        if message is None:
            self.next_seq = max(self.next_seq, self.stream.last + 1)
            return None
        self.next_seq = message.seq + 1
        return message, 1

    def _put_back(self, message: Stored, times: int) -> None:
        """It was not delivered."""
        if times > 1:
            self.redelivered[message.seq] -= 1
            self.again.append(message.seq)
        elif self.config["deliver_policy"] == "last_per_subject" and message.seq <= self.resume:
            self.last_of_each.insert(0, message.seq)
            self.next_seq = message.seq
        else:
            self.next_seq = message.seq

    def _deliver(self, message: Stored, times: int, now: float) -> bool:
        consumer_seq = self.next_consumer_seq
        reply = (
            f"$JS.ACK.{self.stream.name}.{self.name}.{times}.{message.seq}.{consumer_seq}."
            f"{nanoseconds(message.at)}.{self.num_pending}"
        )
        block, data = message.block, message.data
        if self.config.get("headers_only"):
            block, data = added(block, {"Nats-Msg-Size": len(data)}), b""
        size = len(message.subject) + len(reply) + len(block or b"") + len(data)
        if self.pushes:
            to, after = str(self.config["deliver_subject"]), None
        else:
            request = self.pulls.take(size, now)
            if request is None:
                self._put_back(message, times)
                return False
            to, after = request.reply, request
            if self.policy == "pinned_client":
                block = added(block, {"Nats-Pin-Id": self.pin})
        self.next_consumer_seq += 1
        self.delivered_seq = max(self.delivered_seq, message.seq)
        if self.config["ack_policy"] == "none":
            self.ack_floor = self.shown_floor = consumer_seq, message.seq
        elif message.seq in self.pending:
            self.pending[message.seq].since = now
        else:
            self.pending[message.seq] = Pending(consumer_seq, now)
        self.account.send(Sent(to, message.subject, reply, block, data))
        if after is None:
            self.push.delivered(size, now)
        else:
            self.pulls.delivered(after)
        if self.config["ack_policy"] == "none":
            self._lost_interest(message.seq)
        return True

    # --- acknowledgements --------------------------------------------------------------------------------------------

    def acknowledged(self, tokens: list[str], reply: str | None, data: bytes, now: float) -> None:
        """A message to an ack subject: ``tokens`` are those behind the consumer's name."""
        try:
            seq, consumer_seq = int(tokens[1]), int(tokens[2])
        except (IndexError, ValueError):
            return
        done, self.asleep = True, False
        if data in (b"", b"+ACK", b"+OK"):
            done = self._acknowledge(seq, consumer_seq)
        elif data.startswith(b"+NXT"):
            self._acknowledge(seq, consumer_seq)
            self.pulls.request(reply or "", data[4:], now)
            return
        elif data.startswith(b"-NAK"):
            self._hand_back(seq, consumer_seq, data[4:].strip(), now)
        elif data == b"+WPI":
            if seq in self.pending:
                self.pending[seq].since = now
        elif data.startswith(b"+TERM"):
            done = self._acknowledge(seq, consumer_seq)
        if reply and done:
            self.account.send(Sent(reply, reply, None, None, b""))

    def _acknowledge(self, seq: int, consumer_seq: int) -> bool:
        """This message, or all up to it, are done with. Whether that is confirmed."""
        if seq >= self.next_seq and not self.config.get("flow_control"):
            return False
        policy = self.config["ack_policy"]
        if policy == "none":
            return False
        if policy == "explicit":
            pending = self.pending.pop(seq, None)
            self._forget(seq)
            if pending is not None:
                self._move_floor(pending.consumer_seq, seq)
            self.shown_floor = self.ack_floor
            self._lost_interest(seq)
            return True
        if consumer_seq <= self.ack_floor[0] or seq <= self.ack_floor[1]:
            return True
        self.ack_floor = self.shown_floor = consumer_seq, seq
        for each in [each for each in self.pending if each <= seq]:
            del self.pending[each]
            self._forget(each)
            self._lost_interest(each)
        return True

    def _forget(self, seq: int) -> None:
        self.redelivered.pop(seq, None)
        if seq in self.again:
            self.again.remove(seq)

    def _hand_back(self, seq: int, consumer_seq: int, argument: bytes, now: float) -> None:
        """-NAK: again at once, or after the delay that was asked for."""
        if consumer_seq <= self.ack_floor[0] or consumer_seq > self.next_consumer_seq or seq not in self.pending:
            return
        if argument:
            try:
                delay = json.loads(argument)["delay"] / 1e9
            except (ValueError, KeyError, TypeError):
                delay = 0.0
            if seq in self.again:
                self.again.remove(seq)
            self.pending[seq].since = now - self.config["ack_wait"] / 1e9 + delay
        elif seq not in self.again:
            self.again.append(seq)

    def _move_floor(self, consumer_seq: int, seq: int) -> None:
        if not self.pending:
            self.ack_floor = self.next_consumer_seq - 1, self.next_seq - 1
        elif consumer_seq == self.ack_floor[0] + 1:
            above = [each for each in self.pending if each > seq]
            oldest = min(above, default=None)
            if oldest is None:
                self.ack_floor = consumer_seq, seq
            else:
                self.ack_floor = self.pending[oldest].consumer_seq - 1, oldest - 1

    def _give_up(self, seq: int) -> None:
        """It was delivered as often as it may be."""
        pending = self.pending.pop(seq, None)
        if pending is not None:
            self._move_floor(pending.consumer_seq, seq)

    def _lost_interest(self, seq: int) -> None:
        retention = self.stream.config["retention"]
        others = self.stream.consumers.values() if retention == "interest" else ()
        if retention != "limits" and not any(other.needs(seq) for other in others):
            self.stream.remove([seq])

    def needs(self, seq: int) -> bool:
        """Whether a message is still to be delivered, or acknowledged."""
        message = self.stream.messages.get(seq)
        return message is not None and self.wants(message.subject) and (seq >= self.next_seq or seq in self.pending)

    def removed(self, seqs: list[int]) -> None:
        """These messages are no longer in the stream."""
        self.next_seq = max(self.next_seq, self.stream.first)
        for seq in seqs:
            self._forget(seq)
            pending = self.pending.pop(seq, None)
            if pending is not None:
                self._move_floor(pending.consumer_seq, seq)
            if seq in self.last_of_each:
                self.last_of_each.remove(seq)
                if not self.last_of_each:
                    self.next_seq = self.resume + 1
        if not self.pending and self.ack_floor[1] < self.stream.first - 1:
            self.ack_floor = self.next_consumer_seq - 1, self.next_seq - 1
        self.shown_floor = self.ack_floor

    # --- time --------------------------------------------------------------------------------------------------------

    def _wait(self, seq: int) -> float:
        """Seconds until a message comes again."""
        backoff = self.config.get("backoff")
        if backoff:
            return float(backoff[min(self.redelivered.get(seq, 0), len(backoff) - 1)]) / 1e9
        return float(self.config["ack_wait"]) / 1e9

    def next_timeout(self) -> float | None:
        """When something is due by itself."""
        if not self.led:
            return None
        due = [self.pending[seq].since + self._wait(seq) for seq in self.pending if seq not in self.again]
        due += self.push.due() if self.pushes else self.pulls.due()
        if self.pin:
            due.append(self.pin_until)
        if self.config.get("pause_until"):
            due.append(virtual_time(self.config["pause_until"]))
        return min(due, default=None)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if not self.led:
            return
        late = [s for s, p in self.pending.items() if s not in self.again and now >= p.since + self._wait(s)]
        self.asleep &= not late
        for seq in sorted(late):
            if 0 < self.most_deliveries <= self.delivered_times(seq):
                self._give_up(seq)
            else:
                self.again.append(seq)
        if self.pin and now >= self.pin_until:
            self.pin = ""
        if self.config.get("pause_until") and not self.paused(now):
            del self.config["pause_until"]
            self.asleep = False
        self.push.handle_timeout(now)

    def idle_at(self) -> float | None:
        """When it goes because nobody wants anything of it, as it looks now."""
        threshold = (self.config.get("inactive_threshold") or 0) / 1e9
        if not threshold or not self.led or (self.pulls.waiting and not self.pushes):
            return None
        since = self.push.inactive_since if self.pushes else self.pulls.last_request
        return None if since is None else since + threshold

    def heartbeat(self, to: str) -> None:
        """Say that there is nothing to say."""
        fields: dict[str, object] = {
            "Nats-Last-Consumer": self.next_consumer_seq - 1,
            "Nats-Last-Stream": self.next_seq - 1,
        }
        if self.push.asked:
            fields["Nats-Consumer-Stalled"] = self.push.asked
        self.account.send_status(to, status(100, "Idle Heartbeat", fields))

    # --- leaders -----------------------------------------------------------------------------------------------------

    def lead_anew(self, now: float) -> None:
        """Another leader begins: what only a leader knows is forgotten."""
        self.again.clear()
        self.pin = ""
        self.push.forget(now)

    def info(self, now: float) -> dict[str, object]:
        """As in an answer."""
        info: dict[str, object] = {
            "stream_name": self.stream.name,
            "name": self.name,
            "created": time_text(self.created),
            "config": self.config,
            "delivered": {"consumer_seq": self.next_consumer_seq - 1, "stream_seq": self.delivered_seq},
            "ack_floor": {"consumer_seq": self.shown_floor[0], "stream_seq": self.shown_floor[1]},
            "num_ack_pending": len(self.pending),
            "num_redelivered": 0 if self.config["max_deliver"] == 1 else len(self.redelivered),
            "num_waiting": 0 if self.pushes else self.pulls.counted(now),
            "num_pending": self.num_pending,
            "ts": time_text(now),
        }
        if self.pushes and self.push.active:
            info["push_bound"] = True
        if self.paused(now):
            info["paused"] = True
            info["pause_remaining"] = round((virtual_time(self.config["pause_until"]) - now) * 1e9)
        groups = self.config.get("priority_groups")
        if groups:
            group: dict[str, object] = {"group": groups[0]}
            if self.pin:
                group |= {"pinned_client_id": self.pin, "pinned_ts": time_text(self.pinned_at)}
            info["priority_groups"] = [group]
        return info
