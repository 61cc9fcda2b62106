"""A bucket of objects, and what a stream does with what its machines and operations send, without a server."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from nats_proto import Ask, Message, Operation, Pause, Publish, Request, Subscribe
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._objectstore.info import ObjectInfo
from nats_proto._objectstore.names import Subjects
from nats_proto._objectstore.store import Store
from nats_proto._wire.headers import Headers
from nats_proto.errors import NATSError, NoRespondersError
from tests.proto.consuming import Inboxes

SUBJECTS = Subjects("B")

Fault = NATSError | bytes | Callable[["Stream"], None]
"""What comes in place of the next answer; or what is done before it."""


class Stream:
    """The stream of bucket ``B``, with one replica. ``faults``: for the next requests, None for one that goes well."""

    def __init__(self, **options: Any) -> None:
        self.now = 1000.0
        self.messages: dict[int, tuple[str, bytes, Headers]] = {}
        self.sequence = 0
        self.ids: dict[str, int] = {}
        self.asked: list[str] = []
        self.faults: deque[Fault | None] = deque()
        self.api = JetStreamApi(now=lambda: self.now, new_inbox=Inboxes(), server_version=lambda: "2.15.1", timeout=5.0)
        self.store = Store(self.api, "B", **options)

    # --- what is stored

    def write(self, subject: str, data: bytes, headers: Headers | None = None) -> int:
        self.sequence += 1
        self.messages[self.sequence] = subject, data, headers or Headers()
        return self.sequence

    def put(self, name: str, *chunks: bytes, nuid: str = "old", **fields: Any) -> ObjectInfo:
        """An object as any client may have written it."""
        for chunk in chunks:
            self.write(SUBJECTS.chunks(nuid), chunk)
        wire = {"name": name, "bucket": "B", "nuid": nuid, "size": sum(map(len, chunks)), "chunks": len(chunks)}
        self.write(SUBJECTS.meta(name), msgspec.json.encode({**wire, **fields}))
        return self.run(self.store.info(name, show_deleted=True))

    def chunks(self, nuid: str) -> list[bytes]:
        subject = SUBJECTS.chunks(nuid)
        return [data for _, (where, data, _) in sorted(self.messages.items()) if where == subject]

    @property
    def nuids(self) -> set[str]:
        found = {SUBJECTS.nuid_of(subject) for subject, _, _ in self.messages.values()}
        return {nuid for nuid in found if nuid is not None}

    # --- what it answers

    def run(self, operation: Operation[Any]) -> Any:
        """What the operation comes to."""
        try:
            effect = next(operation)
            while True:
                try:
                    answer = self._perform(effect)
                except NATSError as error:
                    effect = operation.throw(error)
                else:
                    effect = operation.send(answer)
        except StopIteration as end:
            return end.value

    def _perform(self, effect: Any) -> Message | None:
        if isinstance(effect, Pause):
            self.now += effect.seconds
            return None
        if isinstance(effect, Publish):
            self.asked.append(effect.subject)
            return None
        assert isinstance(effect, Request)
        self.asked.append(effect.subject)
        self.now += 0.001
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, NATSError):
            raise fault
        if isinstance(fault, bytes):
            answer = Message("in", 1, None, fault, None)
            assert effect.accept is None or effect.accept(answer)
            return answer
        if fault is not None:
            fault(self)
        answer = self.answer(effect.subject, bytes(effect.data), Headers(effect.headers or {}))
        assert effect.accept is None or effect.accept(answer)
        return answer

    def answer(self, subject: str, data: bytes, headers: Headers) -> Message:
        if subject.startswith("$O."):
            return self._stored(subject, data, headers)
        body = msgspec.json.decode(data) if data else {}
        match subject.removeprefix("$JS.API.").split("."):
            case ["STREAM", "MSG", "GET", "OBJ_B"]:
                return self._leader(self._last(body["last_by_subj"]))
            case ["STREAM", "MSG", "DELETE", "OBJ_B"]:
                if self.messages.pop(body["seq"], None) is None:
                    return failure(10057, "no message found")
                return reply({"success": True})
            case ["STREAM", "PURGE", "OBJ_B"]:
                return reply({"success": True, "purged": self._purge(body["filter"], body.get("seq"))})
            case ["STREAM", "INFO", "OBJ_B"]:
                return self._info(body.get("subjects_filter", ">"))
            case ["DIRECT", "GET", *_]:
                raise NoRespondersError("nobody", subject)
            case ["CONSUMER", "CREATE", "OBJ_B", name, *_]:
                return self._consumer(name, body["config"])
            case _:
                raise AssertionError(subject)

    def _last(self, subject: str) -> int:
        return max((number for number, stored in self.messages.items() if stored[0] == subject), default=0)

    def _stored(self, subject: str, data: bytes, headers: Headers) -> Message:
        expected = headers.get("Nats-Expected-Last-Subject-Sequence")
        last = self._last(subject)
        if expected is not None and int(expected) != last:
            return failure(10071, f"wrong last sequence: {last}")
        identity = headers.get("Nats-Msg-Id")
        if identity is not None and identity in self.ids:
            return reply({"stream": "OBJ_B", "seq": self.ids[identity], "duplicate": True})
        if headers.get("Nats-Rollup") == "sub":
            self._purge(subject, None)
        number = self.write(subject, data, headers)
        if identity is not None:
            self.ids[identity] = number
        return reply({"stream": "OBJ_B", "seq": number})

    def _purge(self, subject: str, up_to: int | None) -> int:
        gone = [n for n, stored in self.messages.items() if stored[0] == subject and (up_to is None or n < up_to)]
        for number in gone:
            del self.messages[number]
        return len(gone)

    def _leader(self, number: int) -> Message:
        if number not in self.messages:
            return failure(10037, "no message found")
        subject, data, headers = self.messages[number]
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        message = {
            "subject": subject,
            "seq": number,
            "time": "2026-01-02T03:04:05Z",
            "data": base64.b64encode(data).decode(),
            "hdrs": base64.b64encode(f"NATS/1.0\r\n{lines}\r\n".encode()).decode(),
        }
        return reply({"message": message})

    def _info(self, wanted: str) -> Message:
        subjects: dict[str, int] = {}
        for subject, _, _ in self.messages.values():
            if subject == wanted or (wanted.endswith(">") and subject.startswith(wanted[:-1])):
                subjects[subject] = subjects.get(subject, 0) + 1
        return reply(
            {
                "config": {"name": "OBJ_B", "subjects": ["$O.B.C.>", "$O.B.M.>"]},
                "state": {"messages": len(self.messages), "subjects": subjects},
                "ts": "2026-01-02T04:04:05Z",
            }
        )

    def _consumer(self, name: str, config: dict[str, Any]) -> Message:
        first = config.get("opt_start_seq", 1)
        pending = [n for n, stored in self.messages.items() if stored[0] == config["filter_subject"] and n >= first]
        return reply({"stream_name": "OBJ_B", "name": name, "config": config, "num_pending": len(pending)})


class Desk:
    """Runs a machine by hand: what it has published, asked and given."""

    def __init__(self, machine: Any, stream: Stream) -> None:
        self.machine = machine
        self.stream = stream
        self.published: list[Publish] = []
        """Not answered yet."""
        self.asked: list[Ask] = []
        self.given: list[Any] = []
        self.inbox: Subscribe | None = None

    def do(self) -> None:
        while self.machine.wants:
            want = self.machine.wants.popleft()
            if isinstance(want, Publish):
                self.published.append(want)
            elif isinstance(want, Ask):
                self.asked.append(want)
            else:
                assert isinstance(want, Subscribe)
                self.inbox = want
        while self.machine.items:
            self.given.append(self.machine.items.popleft())

    def answer(self, publish: Publish, message: Message | None = None) -> None:
        """The stream takes what was published; or this comes in its place."""
        if message is None:
            message = self.stream.answer(publish.subject, bytes(publish.data), Headers(publish.headers or {}))
        assert publish.reply is not None
        answer = Message(publish.reply, 1, None, message.data, message.header_block)
        self.machine.receive(answer, now=self.stream.now)
        self.do()

    def answer_all(self) -> None:
        """Until nothing is in flight."""
        self.do()
        while self.published:
            self.answer(self.published.pop(0))

    def tell(self, ask: Ask, error: NATSError | None = None) -> None:
        """What a call comes to."""
        result: object = error
        if error is None:
            try:
                result = ask.api.decode(self.stream.answer(ask.api.subject, ask.api.payload, Headers()))
            except NATSError as failed:
                result = failed
        self.machine.answered(ask.api, result, now=self.stream.now)
        self.do()

    def wait(self) -> None:
        """Until the machine is due."""
        due = self.machine.next_timeout()
        assert due is not None
        self.stream.now = max(self.stream.now, due)
        self.machine.handle_timeout(now=self.stream.now)
        self.do()


def reply(answer: object) -> Message:
    return Message("in", 1, None, msgspec.json.encode(answer), None)


def failure(code: int, description: str, http: int = 400) -> Message:
    return reply({"error": {"code": http, "err_code": code, "description": description}})
