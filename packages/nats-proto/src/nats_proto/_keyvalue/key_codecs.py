"""Ready-made codecs for keys (ADR-54): any text by base64, paths with slashes, and several codecs one after the other.

What a codec writes must be read back as the same key, by us and by the clients of other languages. So a key that would
come back as another one is refused, and a stored key that the codec cannot have made is none of its keys.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from typing import Final

from .codecs import KeyCodec, encode_pattern
from .errors import InvalidKeyError

__all__ = ["Base64Keys", "ChainedKeys", "PathKeys"]

ROOT: Final = "_root_"
"""What stands for the slash at the beginning of a path."""


class Base64Keys:
    """Keys of any characters: each part between dots is written as base64, in the alphabet for URLs, without padding.

    The dots part a key as otherwise, and so patterns go on to work. `InvalidKeyError` for a text that is no Unicode.
    """

    def encode(self, key: str) -> str:
        """The key as the bucket has it."""
        return ".".join(map(_to_base64, key.split(".")))

    def encode_pattern(self, pattern: str) -> str:
        """The same for a pattern."""
        return ".".join(part if part in ("*", ">") else _to_base64(part) for part in pattern.split("."))

    def decode(self, key: str) -> str:
        """The key as the program knows it. `ValueError` for what this has not made."""
        decoded = ".".join(map(_from_base64, key.split(".")))
        if self.encode(decoded) != key:
            raise ValueError(f"{key[:64]!a} was not written as base64 of a key")
        return decoded


class PathKeys:
    """Paths as keys: ``etc/app/port`` is the key ``etc.app.port``, ``/etc`` is ``_root_.etc``.

    A slash at the end is left out. `InvalidKeyError` for a path that would come back as another one: with a dot in it,
    or with ``_root_`` as its first part.
    """

    def encode(self, key: str) -> str:
        """The key as the bucket has it."""
        if "." in key:
            raise InvalidKeyError(f"a path that is to be a key must not have '.': {key[:64]!a}")
        path = key.removesuffix("/")
        if path == ROOT or path.startswith(f"{ROOT}/"):
            raise InvalidKeyError(f"a path that is to be a key must not begin with {ROOT!r}: {key[:64]!a}")
        if key == "/":
            return ROOT
        if path.startswith("/"):
            path = ROOT + path
        return path.replace("/", ".")

    def encode_pattern(self, pattern: str) -> str:
        """The same for a pattern, such as ``etc/*/port`` or ``etc/>``."""
        return self.encode(pattern)

    def decode(self, key: str) -> str:
        """The key as the program knows it."""
        if key == ROOT:
            return "/"
        return key.removeprefix(ROOT).replace(".", "/") if key.startswith(f"{ROOT}.") else key.replace(".", "/")


class ChainedKeys:
    """Several codecs: keys go through each in turn when they are written, and back in reverse; none changes nothing.

    It takes patterns if all of them do.
    """

    def __init__(self, *codecs: KeyCodec) -> None:
        self._codecs = codecs

    def encode(self, key: str) -> str:
        """The key as the bucket has it."""
        for codec in self._codecs:
            key = codec.encode(key)
        return key

    def encode_pattern(self, pattern: str) -> str:
        """The same for a pattern. `WildcardNotSupportedError` when one of the codecs takes none."""
        for codec in self._codecs:
            pattern = encode_pattern(codec, pattern)
        return pattern

    def decode(self, key: str) -> str:
        """The key as the program knows it. `ValueError` as of the codecs."""
        for codec in reversed(self._codecs):
            key = codec.decode(key)
        return key


def _to_base64(part: str) -> str:
    try:
        data = part.encode()
    except UnicodeEncodeError:
        raise InvalidKeyError(f"a key must be Unicode text: {part[:64]!a}") from None
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64(part: str) -> str:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
    except (NotBase64, ValueError):
        raise ValueError(f"{part[:64]!a} is no base64 of a text") from None
