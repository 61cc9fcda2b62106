"""Checks of the numbers that users give, seconds to wait, messages to count, and of some other plain values.

A number is refused at the call that gives it, or can be used everywhere behind it without another check. Both clients
call these functions, so that the same number gets the same answer. They raise `TypeError` for what is no number of the
kind, and `ValueError` for a number that cannot be used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

__all__ = [
    "MAX_CONCURRENCY",
    "MAX_COUNT",
    "MAX_SECONDS",
    "check_concurrency",
    "check_count",
    "check_encodable",
    "check_seconds",
    "check_text",
    "check_timeout",
    "is_number",
    "one_or_several",
    "several",
    "shown",
]

MAX_SECONDS: Final = 100 * 365.25 * 86400.0
"""A hundred years in seconds, the longest time that an option may have. Added to any clock, and multiplied by what a
back-off grows to, it is still exact to the microsecond as a float. A call that is given a longer time waits for
ever."""
MAX_COUNT: Final = 2**63 - 1
"""The most messages, or bytes, that can be asked for: servers count in signed numbers of 64 bits."""
MAX_CONCURRENCY: Final = 1024
"""Calls of one subscription's callback at the same time. A call that blocks takes a thread of its own in the client for
threads, and a process can have some thousands."""


def check_timeout(name: str, seconds: float) -> float:
    """How long to wait: 0.0 for 0 and less (the rest of a time that is up), infinity above `MAX_SECONDS`.

    Raises `TypeError` for what is neither int nor float, `ValueError` for NaN.
    """
    if type(seconds) is float and 0.0 <= seconds <= MAX_SECONDS:
        return seconds  # nearly always
    _check_number(name, seconds)
    if seconds > MAX_SECONDS:
        return float("inf")
    return float(seconds) if seconds > 0 else 0.0


def check_seconds(name: str, seconds: float) -> float:
    """As `check_timeout`, for a time that has to be longer than 0: else `ValueError`."""
    checked = check_timeout(name, seconds)
    if checked == 0.0:
        raise ValueError(f"{name} must be greater than 0 seconds: {shown(seconds)}")
    return checked


def check_count(name: str, count: int, *, least: int = 1) -> int:
    """A number of messages or bytes, from ``least`` to `MAX_COUNT`; raises `TypeError`, `ValueError`."""
    if type(count) is not int:
        raise TypeError(f"{name} must be int, not {type(count).__name__}")
    if not least <= count <= MAX_COUNT:
        raise ValueError(f"{name} must be from {least} to 2**63 - 1: {shown(count)}")
    return count


def check_encodable(name: str, text: str) -> None:
    """Raises `ValueError` for text that is no UTF-8, because it has a lone surrogate."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name} has a lone surrogate, which is no UTF-8: {text!a:.64}") from None


def check_text(name: str, text: object) -> None:
    """Raises `TypeError` for what is no str, `ValueError` for text that is no UTF-8."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str, not {type(text).__name__}")
    check_encodable(name, text)


def several(name: str, given: object) -> list[Any]:
    """What is to be several things, such as keys; raises `TypeError` for a single text, and for what is no iterable."""
    if isinstance(given, str):
        raise TypeError(f"{name} must be several, not one str: write [{given!r:.64}]")
    if not isinstance(given, Iterable):
        raise TypeError(f"{name} must be an iterable, not {type(given).__name__}")
    return list(given)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # looked at by the caller


def one_or_several(name: str, given: object) -> list[Any]:
    """The same, where a single text stands for a list of one."""
    return [given] if isinstance(given, str) else several(name, given)


def check_concurrency(concurrency: int, *, has_callback: bool) -> int:
    """How many calls of a callback may run at once; raises `TypeError`, `ValueError`."""
    if type(concurrency) is not int:
        raise TypeError(f"concurrency must be int, not {type(concurrency).__name__}")
    if not 1 <= concurrency <= MAX_CONCURRENCY:
        raise ValueError(f"concurrency must be from 1 to {MAX_CONCURRENCY}: {shown(concurrency)}")
    if concurrency > 1 and not has_callback:
        raise ValueError(
            "concurrency must be 1 without a callback: several readers may take messages of one subscription anyway"
        )
    return concurrency


def is_number(value: object) -> bool:
    """Whether it is an int or a float, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_number(name: str, seconds: object) -> None:
    if not is_number(seconds):
        raise TypeError(f"{name} must be a number of seconds, int or float, not {type(seconds).__name__}")
    if seconds != seconds:
        raise ValueError(f"{name} must be a number of seconds, not {seconds!r}")


def shown(value: object) -> str:
    """The value as Python writes it, cut short. Of a large int the number of bits, since Python refuses to write one
    that has thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an int of {value.bit_length()} bits"
    return f"{value!r:.64}"
