"""What servers never change of a stream or a consumer that exists.

A set-up asks before it changes anything, so that it need not be left in the middle. What a server refuses beyond these
rules (a replica count that the cluster has not) it refuses when it is asked. A test holds each rule to a real server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from .._jetstream.api_answer import Difference

__all__ = ["never_changed"]

Rule = Callable[[object, object], bool]
"""Whether a field can never go from what is there (the second) to what was asked for (the first)."""


def _never(_asked: object, _there: object) -> bool:
    return True


def _cannot_end(asked: object, there: object) -> bool:
    return bool(there) and not asked


def _of_work_queues(asked: object, there: object) -> bool:
    return "workqueue" in (asked, there)


def _cannot_begin(_asked: object, there: object) -> bool:
    return not there


_STREAM: Final[Mapping[str, Rule]] = {
    "storage": _never,
    "retention": _of_work_queues,
    "mirror": _never,
    "sealed": _cannot_end,
    "deny_delete": _cannot_end,
    "deny_purge": _cannot_end,
    "allow_msg_ttl": _cannot_end,
    "allow_msg_counter": _never,
    "persist_mode": _never,
}
_CONSUMER: Final[Mapping[str, Rule]] = {
    "deliver_policy": _never,
    "opt_start_seq": _never,
    "opt_start_time": _never,
    "ack_policy": _never,
    "replay_policy": _never,
    "idle_heartbeat": _never,
    "flow_control": _never,
    "max_waiting": _never,
    "deliver_subject": _cannot_begin,
}


def never_changed(kind: str, differences: tuple[Difference, ...]) -> tuple[Difference, ...]:
    """Those of the differences that no server makes good."""
    rules = _CONSUMER if kind == "consumer" else _STREAM
    found: list[Difference] = []
    for one in differences:
        rule = rules.get(one.field.partition(".")[0])  # a part of a mirror is a mirror
        if rule is not None and rule(one.asked, one.got):
            found.append(one)
    return tuple(found)
