"""What can go wrong with an object. Each text names the operation, the bucket and the object.

What concerns a bucket as a whole is told by the errors that Key-Value has as well.
"""

from __future__ import annotations

from .._jetstream.errors import InvalidNameError, JetStreamError

__all__ = [
    "DigestMismatchError",
    "InvalidObjectNameError",
    "ObjectDamagedError",
    "ObjectError",
    "ObjectExistsError",
    "ObjectLinkError",
    "ObjectNotFoundError",
    "ObjectReplacedError",
]


class InvalidObjectNameError(InvalidNameError):
    """A name that no object can have: empty, too long, or no text of UTF-8."""


class ObjectError(JetStreamError):
    """The base of errors about one object. ``name`` is the object's."""

    def __init__(self, message: str, *, bucket: str = "", name: str = "") -> None:
        super().__init__(message)
        self.bucket = bucket
        self.name = name


class ObjectNotFoundError(ObjectError):
    """The bucket has no object of this name, or it was deleted."""


class ObjectExistsError(ObjectError):
    """An object has this name already, which a link or another object was to get. Nothing was changed."""


class ObjectLinkError(ObjectError):
    """A link that leads nowhere or may not be: to another link, to a deleted object, to a whole bucket."""


class ObjectReplacedError(ObjectError):
    """The object was replaced or deleted while it was read. What was read of it is a part of the old one."""


class ObjectDamagedError(ObjectError):
    """What the bucket has stored is not what the object's info says: chunks are missing, or the size is wrong."""


class DigestMismatchError(ObjectDamagedError):
    """The bytes of the object are not those that were put: their digest is another one.

    ``expected`` is the digest that its info says, ``found`` that of the bytes.
    """

    def __init__(self, message: str, *, bucket: str = "", name: str = "", expected: str = "", found: str = "") -> None:
        super().__init__(message, bucket=bucket, name=name)
        self.expected = expected
        self.found = found
