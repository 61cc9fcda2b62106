"""What the model answers on ``$JS.API.STREAM`` and to direct gets."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from .direct import get_direct
from .stream import ModelStream, Stored, stream_config
from .wire import ApiFailure, parsed, time_text, virtual_time

if TYPE_CHECKING:
    from .account import JetStream

__all__ = ["NAMES_LIMIT", "StreamApi"]

NAMES_LIMIT, LIST_LIMIT, SUBJECTS_LIMIT = 1024, 256, 100_000
Answer = dict[str, object]


class StreamApi:
    """One method for each kind of request: the answer, without its type."""

    def __init__(self, account: JetStream) -> None:
        self.account = account
        self.streams = account.streams

    def stream(self, name: str) -> ModelStream:
        """By its name."""
        stream = self.streams.get(name)
        if stream is None:
            raise ApiFailure(10059)
        return stream

    def answer(self, tokens: list[str], data: bytes, now: float) -> tuple[str, Answer]:
        """The answer to ``STREAM.<tokens>``, and the kind of it."""
        match tokens:
            case ["CREATE", name]:
                return "stream_create", self._create(name, data, now)
            case ["UPDATE", name]:
                return "stream_update", self._update(name, data, now)
            case ["INFO", name]:
                return "stream_info", self._info(name, data, now)
            case ["DELETE", name]:
                self.account.forget_stream(self.stream(name))
                return "stream_delete", {"success": True}
            case ["PURGE", name]:
                return "stream_purge", self._purge(name, data)
            case ["NAMES"]:
                return "stream_names", self._page(data, NAMES_LIMIT, lambda stream: stream.name)
            case ["LIST"]:
                return "stream_list", self._page(data, LIST_LIMIT, lambda stream: stream.info(now))
            case ["MSG", "GET", name]:
                return "stream_msg_get", {"message": self._message(name, data)}
            case ["MSG", "DELETE", name]:
                return "stream_msg_delete", self._delete(name, data)
            case _:
                raise LookupError(tokens)

    def _create(self, name: str, data: bytes, now: float) -> Answer:
        asked = parsed(data)
        if asked.get("name") != name:
            raise ApiFailure(10056)
        config = stream_config(asked)
        if config["num_replicas"] > 1 and not self.account.clustered:
            raise ApiFailure(10074)
        there = self.streams.get(name)
        if there is not None:
            if there.config != config:
                raise ApiFailure(10058)
            return {**there.info(now), "did_create": True}
        if any(stream.overlaps(config["subjects"]) for stream in self.streams.values()):
            raise ApiFailure(10065)
        self.streams[name] = ModelStream(self.account, config, now)
        return {**self.streams[name].info(now), "did_create": True}

    def _update(self, name: str, data: bytes, now: float) -> Answer:
        asked = parsed(data)
        if asked.get("name") != name:
            raise ApiFailure(10056)
        stream, config = self.stream(name), stream_config(asked)
        if config["storage"] != stream.config["storage"]:
            raise ApiFailure(10052, "stream configuration update can not change storage type")
        if any(other.overlaps(config["subjects"]) for other in self.streams.values() if other is not stream):
            raise ApiFailure(10065)
        stream.config.clear()
        stream.config.update(config)
        stream.expire(now)
        return stream.info(now)

    def _info(self, name: str, data: bytes, now: float) -> Answer:
        asked = parsed(data)
        stream = self.stream(name)
        subjects = asked.get("subjects_filter")
        info = stream.info(now, details=bool(asked.get("deleted_details")), subjects=subjects)
        if subjects is None:
            return info
        found = {message.subject for message in stream.upward([subjects], 0)}
        return {**info, "total": len(found), "offset": 0, "limit": SUBJECTS_LIMIT}

    def _purge(self, name: str, data: bytes) -> Answer:
        asked = parsed(data)
        if asked.get("seq") and asked.get("keep"):
            raise ApiFailure(10003)
        stream = self.stream(name)
        if stream.config["deny_purge"]:
            raise ApiFailure(10110, "stream purge not permitted")
        purged = stream.purge(asked.get("filter") or None, asked.get("seq", 0), asked.get("keep", 0))
        return {"success": True, "purged": purged}

    def _page(self, data: bytes, limit: int, show: Any) -> Answer:
        asked = parsed(data)
        offset, subject = asked.get("offset", 0), asked.get("subject")
        found = [stream for _, stream in sorted(self.streams.items()) if not subject or stream.overlaps([subject])]
        shown = [show(stream) for stream in found[offset : offset + limit]]
        return {"total": len(found), "offset": offset, "limit": limit, "streams": shown or None}

    def _message(self, name: str, data: bytes) -> Answer:
        asked = parsed(data)
        seq, last, following = asked.get("seq", 0), asked.get("last_by_subj"), asked.get("next_by_subj")
        start = asked.get("start_time")
        wrong = (seq and last, not (seq or last or following or start), seq and start, start and last)
        if not asked or any(wrong) or (last and following) or asked.get("batch"):
            raise ApiFailure(10003)
        stream = self.stream(name)
        if start:
            seq = stream.seq_at(virtual_time(start))
        found: Stored | None
        if following:
            found = stream.next_of([following], seq)
        elif seq:
            found = stream.messages.get(seq)
        else:
            found = stream.last_of([last or ""])
        if found is None:
            raise ApiFailure(10037)
        message: Answer = {"subject": found.subject, "seq": found.seq}
        if found.block:
            message["hdrs"] = b64encode(found.block).decode()
        if found.data:
            message["data"] = b64encode(found.data).decode()
        return {**message, "time": time_text(found.at)}

    def _delete(self, name: str, data: bytes) -> Answer:
        asked = parsed(data)
        stream = self.stream(name)
        if stream.config["deny_delete"]:
            raise ApiFailure(10057, "message delete not permitted")
        if not stream.remove([asked.get("seq", 0)]):
            raise ApiFailure(10043, asked.get("seq", 0))
        return {"success": True}

    # --- direct gets -------------------------------------------------------------------------------------------------

    def direct(self, name: str, subject: str | None, data: bytes, reply: str) -> None:
        """Answer ``DIRECT.GET.<name>``, with a subject behind it or not."""
        stream = self.streams[name]
        if subject is not None:
            data = json.dumps({"last_by_subj": subject}).encode()
        get_direct(stream, data, reply)
