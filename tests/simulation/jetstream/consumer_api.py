"""What the model answers on ``$JS.API.CONSUMER``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .consumer import ModelConsumer
from .consumer_config import GROUP, check_consumer, check_update, consumer_config
from .stream import ModelStream
from .stream_api import LIST_LIMIT, NAMES_LIMIT, StreamApi
from .wire import ApiFailure, overlap, parsed, virtual_time

if TYPE_CHECKING:
    from .account import JetStream

__all__ = ["ConsumerApi"]

Answer = dict[str, object]


class ConsumerApi:
    """One method for each kind of request: the answer, without its type."""

    def __init__(self, account: JetStream, streams: StreamApi) -> None:
        self.account = account
        self.stream = streams.stream

    def consumer(self, stream: str, name: str) -> ModelConsumer:
        """By its name."""
        consumer = self.stream(stream).consumers.get(name)
        if consumer is None:
            raise ApiFailure(10014)
        return consumer

    def answer(self, tokens: list[str], data: bytes, now: float) -> tuple[str, Answer]:
        """The answer to ``CONSUMER.<tokens>``, and the kind of it."""
        match tokens:
            case ["CREATE", stream, *rest]:
                return "consumer_create", self._create(stream, rest, data, now)
            case ["DURABLE", "CREATE", stream, name]:
                return "consumer_create", self._create(stream, [name], data, now)
            case ["INFO", stream, name]:
                return "consumer_info", self.consumer(stream, name).info(now)
            case ["DELETE", stream, name]:
                self.account.forget_consumer(self.consumer(stream, name))
                return "consumer_delete", {"success": True}
            case ["NAMES", stream]:
                return "consumer_names", self._page(stream, data, NAMES_LIMIT, lambda consumer: consumer.name)
            case ["LIST", stream]:
                return "consumer_list", self._page(stream, data, LIST_LIMIT, lambda consumer: consumer.info(now))
            case ["PAUSE", stream, name]:
                return "consumer_pause", self._pause(self.consumer(stream, name), data, now)
            case ["UNPIN", stream, name]:
                return "consumer_unpin", self._unpin(stream, name, data)
            case ["RESET", stream, name]:
                return "consumer_reset", self._reset(self.consumer(stream, name), data, now)
            case _:
                raise LookupError(tokens)

    def _create(self, stream_name: str, rest: list[str], data: bytes, now: float) -> Answer:
        asked = parsed(data)
        if asked.get("stream_name") != stream_name:
            raise ApiFailure(10056)
        wanted: dict[str, Any] = dict(asked["config"])
        if rest[1:]:
            if wanted.get("filter_subjects"):
                raise ApiFailure(10137)
            if wanted.get("filter_subject") != ".".join(rest[1:]):
                raise ApiFailure(10131)
        stream = self.stream(stream_name)
        name = (rest[0] if rest else "") or wanted.get("durable_name") or wanted.get("name") or self.account.new_id()
        wanted["name"] = name
        config = consumer_config(wanted, stream.config)
        check_consumer(config, stream.config)
        there, action = stream.consumers.get(name), asked.get("action", "")
        if there is not None:
            self._change(there, config, action)
            return there.info(now)
        if action == "update":
            raise ApiFailure(10149)
        self._check_work_queue(stream, config)
        if (config["num_replicas"] or stream.config["num_replicas"]) > 1 and not self.account.clustered:
            raise ApiFailure(10074)
        consumer = stream.consumers[name] = ModelConsumer(stream, name, config, now)
        return consumer.info(now)

    def _change(self, consumer: ModelConsumer, config: dict[str, Any], action: str) -> None:
        before = consumer.config
        if before.get("pause_until"):
            config["pause_until"] = before["pause_until"]
        if action == "create" and before != config:
            raise ApiFailure(10148)
        check_update(before, config)
        if before.get("deliver_subject") != config.get("deliver_subject") and consumer.push.active:
            raise ApiFailure(10013)
        consumer.config = config

    @staticmethod
    def _check_work_queue(stream: ModelStream, config: dict[str, Any]) -> None:
        if stream.config["retention"] != "workqueue" or config.get("direct"):
            return
        if config["ack_policy"] != "explicit":
            raise ApiFailure(10098)
        if config["deliver_policy"] != "all":
            raise ApiFailure(10101)
        one = config.get("filter_subject")
        filters = [one] if one else config.get("filter_subjects", [])
        if stream.consumers and not filters:
            raise ApiFailure(10099)
        for other in stream.consumers.values():
            if not other.filters or any(overlap(a, b) for a in filters for b in other.filters):
                raise ApiFailure(10100)

    def _page(self, stream_name: str, data: bytes, limit: int, show: Any) -> Answer:
        offset = parsed(data).get("offset", 0)
        found = [consumer for _, consumer in sorted(self.stream(stream_name).consumers.items())]
        shown = [show(consumer) for consumer in found[offset : offset + limit]]
        return {"total": len(found), "offset": offset, "limit": limit, "consumers": shown}

    @staticmethod
    def _pause(consumer: ModelConsumer, data: bytes, now: float) -> Answer:
        config, until = consumer.config, parsed(data).get("pause_until")
        if until:
            config["pause_until"] = until
        else:
            consumer.asleep = consumer.paused(now)
            config.pop("pause_until", None)
        answer: Answer = {"paused": consumer.paused(now), "pause_until": until or "0001-01-01T00:00:00Z"}
        if consumer.paused(now):
            answer["pause_remaining"] = round((virtual_time(config["pause_until"]) - now) * 1e9)
        return answer

    def _unpin(self, stream: str, name: str, data: bytes) -> Answer:
        group = parsed(data).get("group", "")
        if not group:
            raise ApiFailure(10025, "consumer group not specified")
        if not GROUP.fullmatch(group):
            raise ApiFailure(10162)
        consumer = self.consumer(stream, name)
        if group not in consumer.config.get("priority_groups", ()):
            raise ApiFailure(10160)
        consumer.pin = ""
        return {}

    @staticmethod
    def _reset(consumer: ModelConsumer, data: bytes, now: float) -> Answer:
        seq: int = parsed(data).get("seq", 0)
        config = consumer.config
        if not seq:
            seq = consumer.ack_floor[1] + 1
        elif config["deliver_policy"] == "by_start_sequence":
            if seq < config["opt_start_seq"]:
                raise ApiFailure(10204, "below start seq")
        elif config["deliver_policy"] == "by_start_time":
            if seq < consumer.stream.seq_at(virtual_time(config["opt_start_time"])):
                raise ApiFailure(10204, "below start time")
        elif config["deliver_policy"] != "all":
            raise ApiFailure(10204, "not allowed")
        consumer.restart_at(seq)
        return {**consumer.info(now), "reset_seq": seq}
