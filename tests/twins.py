"""Both twins of the quick ways to read and to publish, side by side in one process.

The fixture `twin` (in ``tests/conftest.py``) runs a test once with each. Where the compiled module was not built its
turn is skipped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from nats_proto import Parser, Role
from nats_proto._wire import assembly as _assembly
from nats_proto._wire import deliveries as _deliveries
from nats_proto._wire import fast_path as _fast_path
from nats_proto._wire import in_flight as _in_flight
from nats_proto._wire import parser as _parser
from nats_proto._wire import requests as _requests
from nats_proto._wire import tail as _tail
from nats_proto._wire import task_answers as _task_answers
from nats_proto._wire import thread_answers as _thread_answers
from nats_proto._wire import trio_answers as _trio_answers

try:
    from nats_proto._wire import _speedups as compiled_module
except ImportError:
    compiled_module = None  # type: ignore[assignment]

__all__ = ["COMPILED", "PURE", "TWINS", "Twin", "compiled_module"]


@dataclass(frozen=True, eq=False)
class Twin:
    """One of the two."""

    name: str
    fast_path: type[_fast_path.FastPath]
    tail: type[_tail.Tail]
    assembly: type[_assembly.Assembly]
    requests: type[_requests.Requests[Any]]
    answer: type[_task_answers.TaskAnswer]
    answers: type[_task_answers.TaskAnswers]
    thread_answer: type[_thread_answers.ThreadAnswer]
    thread_answers: type[_thread_answers.ThreadAnswers]
    trio_answer: type[_trio_answers.TrioAnswer]
    trio_answers: type[_trio_answers.TrioAnswers]
    in_flight: type[_in_flight.InFlight[Any, Any]]
    deliveries: type[_deliveries.Deliveries[Any, Any]]
    message_maker: type[_deliveries.MessageMaker[Any, Any]]
    entry_maker: type[_deliveries.EntryMaker[Any]]

    def parser(self, role: Role = Role.CLIENT, **limits: Any) -> Parser:
        """A parser that has this twin's fast path and assembly."""
        with self.at_work():
            return Parser(role, **limits)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Parsers made meanwhile have this twin's fast path and assembly."""
        with (
            mock.patch.object(_parser, "FastPath", self.fast_path),
            mock.patch.object(_parser, "Assembly", self.assembly),
        ):
            yield


PURE = Twin(
    "pure",
    _fast_path.FastPath,
    _tail.Tail,
    _assembly.Assembly,
    _requests.Requests,
    _task_answers.TaskAnswer,
    _task_answers.TaskAnswers,
    _thread_answers.ThreadAnswer,
    _thread_answers.ThreadAnswers,
    _trio_answers.TrioAnswer,
    _trio_answers.TrioAnswers,
    _in_flight.InFlight,
    _deliveries.Deliveries,
    _deliveries.MessageMaker,
    _deliveries.EntryMaker,
)
COMPILED = compiled_module and Twin(
    "compiled",
    compiled_module.FastPath,
    compiled_module.Tail,
    compiled_module.Assembly,
    compiled_module.Requests,
    compiled_module.TaskAnswer,
    compiled_module.TaskAnswers,
    compiled_module.ThreadAnswer,
    compiled_module.ThreadAnswers,
    compiled_module.TrioAnswer,
    compiled_module.TrioAnswers,
    compiled_module.InFlight,
    compiled_module.Deliveries,
    compiled_module.MessageMaker,
    compiled_module.EntryMaker,
)
"""None when it was not built."""
TWINS = {"pure": PURE, "compiled": COMPILED}
