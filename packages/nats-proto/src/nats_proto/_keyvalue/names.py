"""Names of buckets, keys, and patterns of keys: what may be one (ADR-8).

A bucket's name is part of a stream's name, a key is the end of a subject. What a server would refuse, or would take for
something else, is refused before it is sent, with the character that is the reason.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import InvalidBucketError, InvalidKeyError

__all__ = ["STREAM_PREFIX", "check_bucket", "check_key", "check_pattern", "check_text", "stream_name"]

STREAM_PREFIX: Final = "KV_"

_MAX_BUCKET: Final = 255 - len(STREAM_PREFIX)
"""Characters, since the stream's name may have 255."""
_MAX_KEY: Final = 3072
"""Characters: servers take lines of 4096 bytes, and the bucket's name and a reply subject stand in it as well."""

_NOT_IN_A_BUCKET: Final = re.compile(r"[^A-Za-z0-9_-]").search
_PLAIN_KEY: Final = re.compile(r"[-/_=A-Za-z0-9]+(?:\.[-/_=A-Za-z0-9]+)*").fullmatch
"""Nearly all keys: one call tells that there is nothing wrong."""
_NOT_IN_A_KEY: Final = re.compile(r"[^-/_=.A-Za-z0-9]").search
_NOT_IN_A_PATTERN: Final = re.compile(r"[^-/_=.A-Za-z0-9*>]").search


def check_bucket(name: object) -> str:
    """A bucket's name: letters, digits, ``_`` and ``-``. Raises `InvalidBucketError`; `TypeError` when it is no str."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a bucket must be str, not {type(name).__name__}")
    plain = str.__str__(name)
    if not plain:
        raise InvalidBucketError("the name of a bucket must not be empty")
    wrong = _NOT_IN_A_BUCKET(plain)
    if wrong is not None:
        raise InvalidBucketError(f"the name of a bucket must not have {wrong[0]!a}: {plain[:64]!a}")
    if len(plain) > _MAX_BUCKET:
        raise InvalidBucketError(
            f"the name of a bucket has {len(plain)} characters, {_MAX_BUCKET} are allowed: {plain[:64]!a}"
        )
    return plain


def check_key(key: object) -> str:
    """A key: letters, digits and ``- / _ = .``, no dot at an end or beside another one.

    Raises `InvalidKeyError`; `TypeError` when it is no ``str``.
    """
    if type(key) is str and len(key) <= _MAX_KEY and _PLAIN_KEY(key) is not None:
        return key
    plain = _text("key", key)
    wrong = _NOT_IN_A_KEY(plain)
    if wrong is not None:
        raise InvalidKeyError(f"a key must not have {wrong[0]!a}: {plain[:64]!a}")
    _check_dots("key", plain)
    return plain


def check_pattern(pattern: object) -> str:
    """A key, or a pattern of keys: ``*`` in place of one part, ``>`` in place of the rest. Raises as `check_key`."""
    plain = _text("pattern of keys", pattern)
    wrong = _NOT_IN_A_PATTERN(plain)
    if wrong is not None:
        raise InvalidKeyError(f"a pattern of keys must not have {wrong[0]!a}: {plain[:64]!a}")
    _check_dots("pattern of keys", plain)
    parts = plain.split(".")
    for place, part in enumerate(parts):
        if part == "*" or (part == ">" and place == len(parts) - 1):
            continue
        if "*" in part or ">" in part:
            raise InvalidKeyError(
                f"a pattern of keys may have '*' as a whole part and '>' as its last one only: {plain[:64]!a}"
            )
    return plain


def check_text(what: str, key: object) -> str:
    """What a codec is given, which may have any characters. Raises `TypeError` when it is no ``str``."""
    if not isinstance(key, str):
        raise TypeError(f"a {what} must be str, not {type(key).__name__}")
    return str.__str__(key)


def stream_name(bucket: str) -> str:
    """The stream of a bucket. Raises as `check_bucket`."""
    return STREAM_PREFIX + check_bucket(bucket)


def _text(what: str, key: object) -> str:
    plain = check_text(what, key)
    if not plain:
        raise InvalidKeyError(f"a {what} must not be empty")
    if len(plain) > _MAX_KEY:
        raise InvalidKeyError(f"a {what} has {len(plain)} characters, {_MAX_KEY} are allowed: {plain[:64]!a}")
    return plain


def _check_dots(what: str, plain: str) -> None:
    if plain[0] == "." or plain[-1] == ".":
        raise InvalidKeyError(f"a {what} must not begin or end with '.': {plain[:64]!a}")
    if ".." in plain:
        raise InvalidKeyError(f"a {what} must not have '..': {plain[:64]!a}")
