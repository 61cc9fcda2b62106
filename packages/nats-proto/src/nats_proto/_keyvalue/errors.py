"""What can go wrong with a bucket. Each text names the operation, the bucket and the key.

A server knows nothing of keys: it refuses a message for its stream's last sequence. What that means for a key is said
here, so that no program has to look at the codes of servers.
"""

from __future__ import annotations

from typing import Final

from .._jetstream.errors import InvalidNameError, JetStreamError
from ..errors import Outcome

__all__ = [
    "BucketExistsError",
    "BucketNotFoundError",
    "InvalidBucketError",
    "InvalidKeyError",
    "KeyDeletedError",
    "KeyExistsError",
    "KeyNotFoundError",
    "LockLostError",
    "RevisionMismatchError",
    "WildcardNotSupportedError",
]

_NO_DIFFERENCES: Final[tuple[str, ...]] = ()


class InvalidBucketError(InvalidNameError):
    """A name that no bucket can have (ADR-8). The text names the character."""


class InvalidKeyError(InvalidNameError):
    """A key, or a pattern of keys, that cannot be one (ADR-8). The text names the character."""


class WildcardNotSupportedError(InvalidKeyError):
    """A pattern with ``*`` or ``>``, for a codec of keys that takes none (ADR-54). Nothing was asked."""


class BucketNotFoundError(JetStreamError):
    """There is no bucket of this name, or the stream of this name is none."""

    def __init__(self, message: str, *, bucket: str = "") -> None:
        super().__init__(message)
        self.bucket = bucket


class BucketExistsError(JetStreamError):
    """A bucket of this name exists, with another configuration.

    ``differences`` names the fields of its stream that are not as they were asked for, with both values.
    """

    def __init__(self, message: str, *, bucket: str = "", differences: tuple[str, ...] = _NO_DIFFERENCES) -> None:
        super().__init__(message)
        self.bucket = bucket
        self.differences = differences


class KeyNotFoundError(JetStreamError):
    """The bucket has no such key, or the key has no such revision."""

    def __init__(self, message: str, *, bucket: str = "", key: str = "") -> None:
        super().__init__(message)
        self.bucket = bucket
        self.key = key


class KeyDeletedError(KeyNotFoundError):
    """The last thing that happened to the key is that it was deleted or purged, or that it has expired.

    ``operation`` says which, ``revision`` is that of the marker in its place.
    """

    def __init__(
        self, message: str, *, bucket: str = "", key: str = "", revision: int = 0, operation: str = ""
    ) -> None:
        super().__init__(message, bucket=bucket, key=key)
        self.revision = revision
        self.operation = operation


class KeyExistsError(JetStreamError):
    """The key has a value already, so that it was not created.

    ``revision`` is that of the value; None when others write the key at this moment and it is not known.
    """

    def __init__(self, message: str, *, bucket: str = "", key: str = "", revision: int | None = None) -> None:
        super().__init__(message)
        self.bucket = bucket
        self.key = key
        self.revision = revision


class LockLostError(JetStreamError):
    """A lock is not held any more: it could not be renewed in time, or somebody has taken it away.

    ``token`` is that of the hold that was lost. Another program may hold the lock already.
    """

    def __init__(self, message: str, *, bucket: str = "", key: str = "", token: int = 0) -> None:
        super().__init__(message)
        self.bucket = bucket
        self.key = key
        self.token = token


class RevisionMismatchError(JetStreamError):
    """The key's last revision is another one than was expected, so that nothing was written.

    ``expected`` is what the program said, ``revision`` what the key has; None when that is not known.
    """

    outcome: Outcome = "failed"

    def __init__(
        self, message: str, *, bucket: str = "", key: str = "", expected: int = 0, revision: int | None = None
    ) -> None:
        super().__init__(message)
        self.bucket = bucket
        self.key = key
        self.expected = expected
        self.revision = revision
