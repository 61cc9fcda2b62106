"""The text form of keys (nkeys): what a key's 32 bytes look like when people handle them.

                    bytes                                     characters
    public key      prefix (1), key (32), checksum (2)        56; the first one tells the kind: U, A, O, N, C or X
    seed            prefix (2), seed (32), checksum (2)       58; the first two are S and the kind

Written in base32 (RFC 4648), upper case, without padding. The checksum is CRC-16/XMODEM over all before it, its low
byte first. Reading is strict: one key has one text, and no other text is taken for it.

A seed is a secret. It is kept in a ``bytearray`` and overwritten when it is no longer needed. That cannot be done to
the ``str`` or ``bytes`` that a caller has, nor to the text in a `Secret`, so it is a precaution and no promise. The
promise is another one: no error quotes a seed, and no traceback holds one. So the functions that look at seeds never
raise. They return what is wrong, and it is raised where no local variable holds the seed in any form.
"""

from __future__ import annotations

import base64
import binascii
from enum import Enum
from typing import Final

from .._secret import Secret
from ..errors import CredentialsError

__all__ = ["Prefix", "checked", "public_key_text", "read_public_key", "read_seed", "seed_text", "wipe"]

RAW_LENGTH: Final = 32
"""Bytes of a seed and of a public key (Ed25519, and X25519 for curve keys)."""

PUBLIC_KEY_LENGTH: Final = 56
SEED_LENGTH: Final = 58

_SHOWN: Final = 7
"""Characters of a public key that an error shows: enough to know it again, too few to matter if it was none."""


class Prefix(Enum):
    """What a key is for. The value is the letter a public key begins with, and a seed has behind its ``S``."""

    USER = "U"
    ACCOUNT = "A"
    OPERATOR = "O"
    SERVER = "N"
    CLUSTER = "C"
    CURVE = "X"
    """For encryption. Such keys are read and written here, and sign nothing."""


def public_key_text(prefix: Prefix, raw: bytes | bytearray) -> str:
    """The text of a public key of 32 bytes."""
    return _encode(_PUBLIC_PREFIXES[prefix], raw)


def seed_text(prefix: Prefix, raw: bytearray) -> Secret:
    """The text of a seed of 32 bytes; ``raw`` is overwritten with zeros."""
    text = Secret(_encode(_SEED_PREFIXES[prefix], raw))
    wipe(raw)
    return text


def read_public_key(text: object, expected: Prefix | None) -> tuple[Prefix, bytes] | CredentialsError | TypeError:
    """Kind and 32 bytes; ``expected`` is the only kind that will do."""
    if not isinstance(text, str):
        return TypeError(f"a public key must be str, not {type(text).__name__}")
    plain = str.encode(text, "ascii", "replace")
    raw = _unsealed(bytearray(plain), PUBLIC_KEY_LENGTH)
    shown = f"the public key{_shown(plain)}"
    if isinstance(raw, str):
        return CredentialsError(f"{shown} {raw}")
    prefix = _BY_PUBLIC_PREFIX.get(bytes(raw[:1]))
    if prefix is None or expected not in (None, prefix):
        return CredentialsError(f"{shown} {_unwanted(prefix, expected, 'U, A, O, N, C and X')}")
    return prefix, bytes(raw[1:])


def read_seed(seed: object, expected: Prefix | None) -> tuple[Prefix, bytearray] | CredentialsError | TypeError:
    """Kind and 32 bytes, for the caller to overwrite; ``expected`` is the only kind that will do."""
    text = _text_of_seed(seed)
    if text is None:
        return TypeError(f"a seed must be str, bytes, bytearray or Secret, not {type(seed).__name__}")
    raw = _unsealed(text, SEED_LENGTH)
    wipe(text)
    if isinstance(raw, str):
        return CredentialsError(f"the seed {raw}")
    prefix = _BY_SEED_PREFIX.get(bytes(raw[:2]))
    if prefix is None or expected not in (None, prefix):
        wipe(raw)
        return CredentialsError(f"the seed {_unwanted(prefix, expected, 'SU, SA, SO, SN, SC and SX')}")
    del raw[:2]
    return prefix, raw


def checked(prefix: object, raw: object, what: str) -> bytearray | CredentialsError | TypeError:
    """A copy of ``raw``, if it can be the 32 bytes of ``what``."""
    if not isinstance(prefix, Prefix):
        return TypeError(f"the prefix of {what} must be a Prefix, not {type(prefix).__name__}")
    if not isinstance(raw, (bytes, bytearray)):
        return TypeError(f"{what} must be made of bytes, not of {type(raw).__name__}")
    if len(raw) != RAW_LENGTH:
        return CredentialsError(f"{what} must be made of {RAW_LENGTH} bytes, not of {len(raw)}")
    return bytearray(raw)


def wipe(buffer: bytearray) -> None:
    """Overwrite it with zeros, in place."""
    buffer[:] = bytes(len(buffer))


# --- inside ----------------------------------------------------------------------------------------------------------

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_DIGITS: Final = {letter: digit for digit, letter in enumerate(_ALPHABET)}


def _seed_prefix(kind: int) -> bytes:
    """``S`` in the first five bits, the kind's byte in the next eight."""
    return bytes([_DIGITS[ord("S")] << 3 | kind >> 5, (kind & 0b11111) << 3])


_PUBLIC_PREFIXES: Final = {prefix: bytes([_DIGITS[ord(prefix.value)] << 3]) for prefix in Prefix}
_SEED_PREFIXES: Final = {prefix: _seed_prefix(public[0]) for prefix, public in _PUBLIC_PREFIXES.items()}
_BY_PUBLIC_PREFIX: Final = {value: prefix for prefix, value in _PUBLIC_PREFIXES.items()}
_BY_SEED_PREFIX: Final = {value: prefix for prefix, value in _SEED_PREFIXES.items()}
_LETTERS: Final = frozenset(prefix.value.encode() for prefix in Prefix)


def _text_of_seed(seed: object) -> bytearray | None:
    match seed:
        case Secret():
            return bytearray(seed.reveal_bytes())
        case str():
            # Whatever is not ASCII becomes a question mark, which no seed has: a UnicodeError would quote the seed.
            return bytearray(str.encode(seed, "ascii", "replace"))
        case bytes() | bytearray():
            return bytearray(seed)
        case _:
            return None


def _unwanted(prefix: Prefix | None, expected: Prefix | None, beginnings: str) -> str:
    if prefix is None or expected is None:
        return f"has a beginning that is none of {beginnings}"
    return f"is of kind {prefix.name}, and one of kind {expected.name} is needed"


def _shown(plain: bytes) -> str:
    """The beginning of what may be a public key; nothing of what may be a seed or anything else that is secret."""
    if len(plain) != PUBLIC_KEY_LENGTH or plain[:1] not in _LETTERS:
        return ""
    return f" {plain[:_SHOWN].decode() + '...'!a}"


def _encode(prefix: bytes, raw: bytes | bytearray) -> str:
    sealed = bytearray(prefix)
    sealed += raw
    sealed += binascii.crc_hqx(sealed, 0).to_bytes(2, "little")
    text = base64.b32encode(sealed).rstrip(b"=").decode()
    wipe(sealed)
    return text


def _unsealed(text: bytearray, length: int) -> bytearray | str:
    """The bytes in front of the checksum; or what is wrong, in words that an error puts behind the name of the key."""
    if len(text) != length:
        return f"has {len(text)} characters instead of {length}"
    raw = _decode_base32(text)
    if raw is None:
        return "has characters other than A to Z and 2 to 7"
    unused = (1 << length * 5 % 8) - 1  # bits of the last character that no byte has
    # A slice of `raw` itself would be a copy of the seed that nobody overwrites. The views are released before `raw` is
    # made shorter: a bytearray that has views cannot be resized.
    with memoryview(raw) as view, view[:-2] as body:
        checksum = binascii.crc_hqx(body, 0)
    if checksum != int.from_bytes(raw[-2:], "little") or _DIGITS[text[-1]] & unused:
        wipe(raw)
        return "is damaged: its checksum is wrong"
    del raw[-2:]
    return raw


def _decode_base32(text: bytearray) -> bytearray | None:
    """Decode base32; None for other characters. Not by `base64`, which leaves copies that cannot be overwritten."""
    raw = bytearray(len(text) * 5 // 8)
    at = value = bits = 0
    for letter in text:
        digit = _DIGITS.get(letter)
        if digit is None:
            wipe(raw)
            return None
        value = value << 5 | digit
        bits += 5
        if bits >= 8:
            bits -= 8
            raw[at] = value >> bits
            at += 1
            # Otherwise the number would grow until it has the whole seed in it, and a number cannot be overwritten.
            value &= (1 << bits) - 1
    return raw
