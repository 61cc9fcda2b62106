"""Whether a repetition counts: all that was sent was received, once, in order. Anything else makes it invalid."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["check_acknowledged", "check_answers", "check_order", "check_server", "check_stored", "check_subscriptions"]

Result = Mapping[str, object]


def check_order(result: Result, sent: object) -> str | None:
    """What is wrong with numbered messages, as `benchmarks.order.findings` has them; ``sent`` says the other side."""
    faults = [f"{result.get(name)} {name}" for name in ("lost", "doubled", "misordered") if result.get(name) != 0]
    if result.get("received") != sent:
        faults.insert(0, f"{result.get('received')} received of {sent} sent")
    return ", ".join(faults) or None


def check_answers(result: Result, asked: int) -> str | None:
    """What is wrong with replies: each has to carry the payload of its own request."""
    if result.get("received") != asked or result.get("wrong", 0) != 0:
        return f"{result.get('received')} answers to {asked} requests, {result.get('wrong', 0)} of them wrong"
    return None


def check_server(count: int, size: int, messages: int, nbytes: int) -> str | None:
    """What is wrong with the server's own counters of what it was sent."""
    if (messages, nbytes) != (count, count * size):
        return f"the server counted {messages} messages and {nbytes} bytes of {count} and {count * size}"
    return None


def check_subscriptions(expected: int, found: int) -> str | None:
    """What is wrong with the server's list; a client may have one more for its replies."""
    return None if found in (expected, expected + 1) else f"the server has {found} subscriptions of {expected}"


def check_stored(count: int, found: int) -> str | None:
    """What is wrong with the stream's own count of what was published."""
    return None if found == count else f"{found} messages are in the stream of {count}"


def check_acknowledged(count: int, floor: int) -> str | None:
    """What is wrong with the sequence up to which the server has all acknowledgements."""
    return None if floor == count else f"all are acknowledged up to {floor} of {count}"
