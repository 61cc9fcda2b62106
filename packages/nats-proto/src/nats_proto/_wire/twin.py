"""Which of the twins is at work: the compiled module where it was built, the Python one elsewhere.

The environment variable ``NATS_PROTO_PURE=1`` turns the compiled one off. It is read once, at the first import.
"""

from __future__ import annotations

import os

__all__ = [
    "Assembly",
    "Deliveries",
    "EntryMaker",
    "FastPath",
    "InFlight",
    "MessageMaker",
    "Requests",
    "Tail",
    "TaskAnswer",
    "TaskAnswers",
    "ThreadAnswer",
    "ThreadAnswers",
    "TrioAnswer",
    "TrioAnswers",
    "accelerated",
]

accelerated: bool
"""Whether the compiled module is at work."""

try:
    if os.environ.get("NATS_PROTO_PURE", "") not in ("", "0"):
        raise ImportError
    # All come from one module or from none, so a compiled twin never works beside a Python one.
    from ._speedups import (  # pyright: ignore[reportMissingModuleSource]  # not built everywhere
        Assembly,
        Deliveries,
        EntryMaker,
        FastPath,
        InFlight,
        MessageMaker,
        Requests,
        Tail,
        TaskAnswer,
        TaskAnswers,
        ThreadAnswer,
        ThreadAnswers,
        TrioAnswer,
        TrioAnswers,
    )

    accelerated = True
except ImportError:
    from .assembly import Assembly
    from .deliveries import Deliveries, EntryMaker, MessageMaker
    from .fast_path import FastPath
    from .in_flight import InFlight
    from .requests import Requests
    from .tail import Tail
    from .task_answers import TaskAnswer, TaskAnswers
    from .thread_answers import ThreadAnswer, ThreadAnswers
    from .trio_answers import TrioAnswer, TrioAnswers

    accelerated = False
