"""Names of buckets and objects, and the subjects that they become (ADR-20).

    stream                      OBJ_<bucket>
    the chunks of an object     $O.<bucket>.C.<nuid>
    the info of an object       $O.<bucket>.M.<its name as base64url, with padding>

An object may have any name. The ``nuid`` is new for each put, so that the chunks of two versions never mix. It is read
from the info, which anybody may have written, and becomes a part of what is purged: one that is no single token of a
subject would take the chunks of other objects away.

The subjects have no prefix, also for a bucket in another domain or behind an API prefix: servers translate only
subjects of the API and of Key-Value there. Leaf nodes pass them on as they are.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64encode
from typing import Final

from .._keyvalue.errors import InvalidBucketError
from .._keyvalue.names import check_bucket as check_any_bucket
from .errors import InvalidObjectNameError

__all__ = ["STREAM_PREFIX", "Subjects", "check_bucket", "check_object", "is_nuid", "stream_name"]

STREAM_PREFIX: Final = "OBJ_"

_MAX_BUCKET: Final = 255 - len(STREAM_PREFIX)
"""Characters, since the stream's name may have 255."""
_MAX_NAME: Final = 2048
"""Bytes: as base64 they are a third more, and servers take lines of 4096 bytes, where the bucket's name and a reply
subject stand as well."""

_NUID: Final = re.compile(r"[!-)+\-/-=?-~]{1,64}").fullmatch
"""Printable, without blank and ``. * >``. Clients write 22 letters and digits."""
_ENCODED: Final = re.compile(r"[A-Za-z0-9_=-]+").fullmatch


def check_bucket(name: object) -> str:
    """A bucket's name: letters, digits, ``_`` and ``-``. Raises `InvalidBucketError`; `TypeError` when it is no str."""
    plain = check_any_bucket(name)
    if len(plain) > _MAX_BUCKET:
        raise InvalidBucketError(
            f"the name of a bucket has {len(plain)} characters, {_MAX_BUCKET} are allowed: {plain[:64]!a}"
        )
    return plain


def check_object(name: object) -> str:
    """An object's name: any text, 1 to 2048 bytes of UTF-8. Raises `InvalidObjectNameError`; `TypeError`."""
    if not isinstance(name, str):
        raise TypeError(f"the name of an object must be str, not {type(name).__name__}")
    plain = str.__str__(name)
    if not plain:
        raise InvalidObjectNameError("the name of an object must not be empty")
    try:
        size = len(plain.encode())
    except UnicodeEncodeError:
        raise InvalidObjectNameError(
            f"the name of an object has a lone surrogate, which is no UTF-8: {plain[:64]!a}"
        ) from None
    if size > _MAX_NAME:
        raise InvalidObjectNameError(f"the name of an object has {size} bytes, {_MAX_NAME} are allowed: {plain[:64]!a}")
    return plain


def is_nuid(text: str) -> bool:
    """Whether this can be what tells the chunks of an object from others."""
    return _NUID(text) is not None


def stream_name(bucket: str) -> str:
    """The stream of a bucket. Raises as `check_bucket`."""
    return STREAM_PREFIX + check_bucket(bucket)


class Subjects:
    """Of one bucket. Raises as `check_bucket`."""

    __slots__ = ("_chunks", "_metas", "bucket", "stream")

    def __init__(self, bucket: str) -> None:
        self.bucket: str = check_bucket(bucket)
        self.stream: str = STREAM_PREFIX + self.bucket
        self._chunks = f"$O.{self.bucket}.C."
        self._metas = f"$O.{self.bucket}.M."

    @property
    def all_chunks(self) -> str:
        """Of all objects."""
        return f"{self._chunks}>"

    @property
    def all_metas(self) -> str:
        """Of all objects."""
        return f"{self._metas}>"

    def chunks(self, nuid: str) -> str:
        """Of the chunks of one object."""
        assert is_nuid(nuid)  # whoever has read it has looked
        return self._chunks + nuid

    def meta(self, name: str) -> str:
        """Of the info of an object. Raises as `check_object`."""
        return self._metas + urlsafe_b64encode(check_object(name).encode()).decode()

    def nuid_of(self, subject: str) -> str | None:
        """Whose chunks these are; None for another subject."""
        nuid = subject.removeprefix(self._chunks)
        return nuid if nuid != subject and is_nuid(nuid) else None

    def name_of(self, subject: str) -> str | None:
        """The object whose info has this subject; None for a subject that is none's."""
        encoded = subject.removeprefix(self._metas)
        if encoded == subject or not _ENCODED(encoded):
            return None
        try:
            return binascii.a2b_base64(encoded.replace("-", "+").replace("_", "/"), strict_mode=True).decode() or None
        except ValueError:
            return None
