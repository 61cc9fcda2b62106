"""Requests and answers of the API against the JSON schemas of the NATS project.

The schemas are not part of this repository. The environment variable ``NATS_SCHEMAS`` names a folder that has them in
``jetstream/``; without it nothing is validated. What the clients really send, and what the servers really answer, is
taken from the servers' own audit: each call of the API is published by the server that has answered it, with the text
of the request and the answer. A subscription to the API itself would hide that nobody answers.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import jsonschema
import pytest

import nats_sync
from tests.jetstream.cluster import PATIENT

__all__ = ["AUDIT", "FOLDER", "Auditor", "answer_faults", "needs_schemas", "request_faults"]

FOLDER: Final = os.environ.get("NATS_SCHEMAS")
AUDIT: Final = "$JS.EVENT.ADVISORY.API"
PATIENCE: Final = 30.0

needs_schemas: Final = pytest.mark.skipif(FOLDER is None, reason="NATS_SCHEMAS names no folder of schemas")

_KINDS: Final = (
    *("STREAM.MSG.GET", "STREAM.MSG.DELETE", "STREAM.LEADER.STEPDOWN", "STREAM.PEER.REMOVE"),
    *("CONSUMER.MSG.NEXT", "CONSUMER.LEADER.STEPDOWN"),
    "DIRECT.GET",
    "INFO",
)
"""Calls that are not named by the first two tokens of their subject."""
_NAMES: Final = {"CONSUMER.MSG.NEXT": "consumer_getnext", "DIRECT.GET": "stream_msg_get", "INFO": "account_info"}
_PREFIX: Final = "$JS.API."
_DEFAULTS_OF_STREAMS: Final[dict[str, object]] = {
    "retention": "limits",
    "storage": "file",
    "num_replicas": 1,
    "max_consumers": -1,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
}
_DEFAULTS_OF_CONSUMERS: Final = {"deliver_policy": "all"}
"""What the schemas demand and every server has a default for, so that a client need not send it."""


def request_faults(subject: str, data: bytes) -> list[str]:
    """What is wrong with a request, whose subject is below ``$JS.API.``; a request without a body has nothing wrong."""
    if not data:
        return []
    call = subject.removeprefix(_PREFIX)
    kind = next((one for one in _KINDS if call == one or call.startswith(f"{one}.")), None)
    kind = kind or ".".join(call.split(".")[:2])
    if kind == "CONSUMER.MSG.NEXT" and data.isdigit():
        return []  # the oldest form of a request for messages: their number
    name = _NAMES.get(kind) or kind.lower().replace(".", "_")
    return _faults(f"request {subject}", f"{name}_request", data, _with_defaults)


def answer_faults(what: str, data: bytes) -> list[str]:
    """What is wrong with an answer, which names its own type."""
    try:
        kind = str(json.loads(data)["type"])
    except (ValueError, TypeError, LookupError) as error:
        return [f"answer to {what} has no type: {error!r}"]
    return _faults(f"answer to {what}", kind.rpartition(".")[2], data)


def _with_defaults(name: str, value: Any) -> Any:
    if name in ("stream_create_request", "stream_update_request"):
        return {**_DEFAULTS_OF_STREAMS, **value}
    if name == "consumer_create_request" and isinstance(value.get("config"), dict):
        return {**value, "config": {**_DEFAULTS_OF_CONSUMERS, **value["config"]}}
    return value


def _faults(
    what: str, name: str, data: bytes, complete: Callable[[str, Any], Any] = lambda _, value: value
) -> list[str]:
    schema = _schema(name)
    if schema is None:
        return [f"{what}: there is no schema {name}"]
    try:
        value = complete(name, json.loads(data))
    except (ValueError, TypeError, AttributeError) as error:
        return [f"{what}: {error}"]
    validator = jsonschema.Draft7Validator(schema)
    return [f"{what}: {_told(error)}" for error in validator.iter_errors(value)]


def _told(error: jsonschema.ValidationError) -> str:
    deepest = jsonschema.exceptions.best_match([error])  # what an alternative of several has against it
    return f"{deepest.json_path}: {deepest.message[:300]}"


@cache
def _schema(name: str) -> Mapping[str, Any] | None:
    assert FOLDER is not None
    path = Path(FOLDER, "jetstream", f"{name}.json")
    if not path.exists():
        return None
    schema: Mapping[str, Any] = json.loads(path.read_bytes())
    return schema


class Auditor:
    """Listens to a server's audit while the block runs. After `catch_up`, `faults` has all that was wrong."""

    def __init__(self, url: str, **options: Any) -> None:
        self.calls = 0
        self.faults: list[str] = []
        self._marks = itertools.count(1)
        self._caught_up = threading.Event()
        self._mark = ""
        self._client = nats_sync.connect(url, name="auditor", **{**PATIENT, **options})
        self._subscription = self._client.subscribe(AUDIT, max_pending_msgs=0)
        self._client.flush()
        # A thread of our own: those of the client's callbacks would come and go while a test looks for leaks.
        self._thread = threading.Thread(target=self._listen, name="auditor")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()
        self._thread.join()

    def _listen(self) -> None:
        for message in self._subscription:
            self._audit(message)

    def catch_up(self) -> None:
        """Wait until all that was called before is audited: the server publishes in the order of the calls."""
        self._caught_up.clear()
        self._mark = f"{_PREFIX}STREAM.INFO.auditor-{next(self._marks)}"
        self._client.request(self._mark, timeout=PATIENCE)
        assert self._caught_up.wait(PATIENCE), "the server did not audit a call"

    def taken_faults(self) -> list[str]:
        """What was wrong since the last time."""
        self.catch_up()
        faults, self.faults = self.faults, []
        return faults

    def _audit(self, message: nats_sync.Message) -> None:
        told = json.loads(message.data)
        subject = told["subject"]
        if subject == self._mark:
            self._caught_up.set()
            return
        self.calls += 1
        self.faults += request_faults(subject, told.get("request", "").encode())
        self.faults += answer_faults(subject, told["response"].encode())
