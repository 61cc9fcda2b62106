"""Ready-made codecs for values (ADR-54): base64, and several codecs one after the other."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from binascii import Error as NotBase64
from binascii import a2b_base64
from typing import Final

from .codecs import ValueCodec

__all__ = ["Base64Values", "ChainedValues"]

_TO_STANDARD: Final = bytes.maketrans(b"-_+/", b"+/!!")
"""The alphabet for URLs as the one that is read; the two characters that only the latter has become wrong ones."""


class Base64Values:
    """Values as base64, in the alphabet for URLs: where what is stored has to be text. It is a third longer.

    Written without padding, as clients of other languages write it; with padding it is read as well.
    """

    def encode(self, value: bytes) -> bytes:
        """The bytes that are stored."""
        return urlsafe_b64encode(value).rstrip(b"=")

    def decode(self, data: bytes) -> bytes:
        """The value. `ValueError` for what is no base64."""
        try:
            return a2b_base64(data.translate(_TO_STANDARD) + b"=" * (-len(data) % 4), strict_mode=True)
        except NotBase64:
            raise ValueError(f"{data[:64]!r} is no base64") from None


class ChainedValues:
    """Several codecs: values go through each in turn when they are written, and back in reverse; none changes nothing.

    So what is to be compressed and encrypted is compressed first: ``ChainedValues(Compressed(), Encrypted(key))``.
    """

    def __init__(self, *codecs: ValueCodec) -> None:
        self._codecs = codecs

    def encode(self, value: bytes) -> bytes:
        """The bytes that are stored. Raises what the codecs raise."""
        for codec in self._codecs:
            value = codec.encode(value)
        return value

    def decode(self, data: bytes) -> bytes:
        """The value. `ValueError` as of the codecs."""
        for codec in reversed(self._codecs):
            data = codec.decode(data)
        return data
