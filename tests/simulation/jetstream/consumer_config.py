"""What the server makes of a consumer's configuration, and which ones it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from .wire import ApiFailure, matches

__all__ = ["check_consumer", "check_update", "consumer_config"]

DEFAULTS: Final[dict[str, Any]] = {"ack_policy": "none", "deliver_policy": "all", "replay_policy": "instant"}
ACK_WAIT: Final = 30_000_000_000
GROUP: Final = re.compile(r"[a-zA-Z0-9/_=+)-]{1,16}")
FIXED: Final = {
    "deliver_policy": "deliver policy",
    "mem_storage": "storage type",
    "direct": "direct",
    "opt_start_seq": "start sequence",
    "opt_start_time": "start time",
    "ack_policy": "ack policy",
    "replay_policy": "replay policy",
    "idle_heartbeat": "heart beats",
    "flow_control": "flow control",
}
"""What an update must leave as it is."""


def consumer_config(asked: dict[str, Any], stream: dict[str, Any]) -> dict[str, Any]:
    """The configuration as the server keeps it."""
    config = {**DEFAULTS, **{name: value for name, value in asked.items() if value not in (None, "", [], 0, False)}}
    config["num_replicas"] = asked.get("num_replicas", 0)
    config["max_deliver"] = max(config.get("max_deliver", -1), -1)
    if not config.get("deliver_subject"):
        config.setdefault("max_waiting", 512)
    if config["ack_policy"] != "none":
        config.setdefault("ack_wait", ACK_WAIT)
        limit = stream["consumer_limits"].get("max_ack_pending") or 1000
        config.setdefault("max_ack_pending", limit)
    if config.get("backoff"):
        config["ack_wait"] = config["backoff"][0]
    if stream["consumer_limits"].get("inactive_threshold"):
        config.setdefault("inactive_threshold", stream["consumer_limits"]["inactive_threshold"])
    if config.get("priority_policy") == "pinned_client":
        config.setdefault("priority_timeout", 120_000_000_000)
    if not config.get("durable_name"):
        config.setdefault("inactive_threshold", 5_000_000_000)
    return config


def check_consumer(config: dict[str, Any], stream: dict[str, Any]) -> None:
    """Raise what the server says to a configuration that it refuses."""
    backoff = config.get("backoff") or []
    if backoff and config["max_deliver"] != -1 and len(backoff) > config["max_deliver"]:
        raise ApiFailure(10116)
    if config.get("deliver_subject"):
        _check_push(config)
    else:
        _check_pull(config, stream)
    _check_filters(config)
    for wrong in _wrong_starts(config):
        raise ApiFailure(10094, "consumer delivery policy is deliver " + wrong)
    if config.get("flow_control") and not config.get("idle_heartbeat"):
        raise ApiFailure(10108)
    _check_groups(config)


def _check_push(config: dict[str, Any]) -> None:
    if config.get("max_ack_pending", 0) > 0 and config["ack_policy"] == "none":
        raise ApiFailure(10082)
    if 0 < config.get("idle_heartbeat", 0) < 100_000_000:
        raise ApiFailure(10083)


def _check_pull(config: dict[str, Any], stream: dict[str, Any]) -> None:
    refused = (
        (config["ack_policy"] == "none" and stream["retention"] == "workqueue", 10084),
        (config.get("rate_limit_bps"), 10086),
        (config.get("idle_heartbeat"), 10088),
        (config.get("flow_control"), 10089),
        (config.get("direct"), 10090),
    )
    for wrong, err_code in refused:
        if wrong:
            raise ApiFailure(err_code)


def _check_filters(config: dict[str, Any]) -> None:
    several = config.get("filter_subjects") or []
    if config.get("filter_subject") and several:
        raise ApiFailure(10136)
    if "" in several:
        raise ApiFailure(10139)
    for index, one in enumerate(several):
        if any(matches(other, one) for number, other in enumerate(several) if number != index):
            raise ApiFailure(10138)


def _wrong_starts(config: dict[str, Any]) -> Iterator[str]:
    seq, time, policy = config.get("opt_start_seq"), config.get("opt_start_time"), config["deliver_policy"]
    name = str(policy).replace("_", " ")
    if policy == "by_start_sequence":
        if not seq:
            yield "by start sequence, but optional start sequence is not set"
        if time:
            yield "by start sequence, but optional start time is also set"
    elif policy == "by_start_time":
        if not time:
            yield "by start time, but optional start time is not set"
        if seq:
            yield "by start time, but optional start sequence is also set"
    else:
        if seq:
            yield f"{name}, but optional start sequence is also set"
        if time:
            yield f"{name}, but optional start time is also set"
        if policy == "last_per_subject" and not (config.get("filter_subject") or config.get("filter_subjects")):
            yield "last per subject, but optional filter subject is not set"


def _check_groups(config: dict[str, Any]) -> None:
    groups = config.get("priority_groups") or []
    if config.get("priority_policy", "none") == "none":
        if groups:
            raise ApiFailure(10196)
        return
    if config.get("deliver_subject"):
        raise ApiFailure(10178)
    if not groups:
        raise ApiFailure(10159)
    for group in groups:
        if not group:
            raise ApiFailure(10161)
        if not GROUP.fullmatch(group):
            raise ApiFailure(10162)


def check_update(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Raise what the server says to an update that it refuses."""
    for name, text in FIXED.items():
        if before.get(name) != after.get(name):
            raise ApiFailure(10012, f"{text} can not be updated")
    if bool(before.get("deliver_subject")) != bool(after.get("deliver_subject")):
        way = "push consumer to pull" if before.get("deliver_subject") else "pull consumer to push"
        raise ApiFailure(10012, f"can not update {way} based")
    if before.get("max_waiting") != after.get("max_waiting"):
        raise ApiFailure(10012, "max waiting can not be updated")
