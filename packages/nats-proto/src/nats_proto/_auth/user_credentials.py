"""A user's credentials as ``.creds`` files have them: a JWT, and the seed of the user's key.

    -----BEGIN NATS USER JWT-----
    eyJ0eXAi...                                 one line between the two
    ------END NATS USER JWT------

    -----BEGIN USER NKEY SEED-----
    SUA...
    ------END USER NKEY SEED------

Tolerated are three or more dashes, blanks around lines and within the dashes, CRLF, a UTF-8 byte order mark, any text
around the blocks, and either order of the blocks. The second block may be missing: then the seed comes from elsewhere,
or the server asks for no signature. A file that has the JWT and nothing else need not have the lines with dashes. Not
tolerated is anything that could make a file that was cut short or mixed up look whole.

Everything here is secret. Errors name the numbers of lines and quote nothing, and they are raised where no local
variable holds a part of the credentials.
"""

from __future__ import annotations

import re
from typing import Final

from .._secret import Secret
from .._value import Value
from ..errors import CredentialsError
from .nkey_text import Prefix, read_seed, wipe

__all__ = ["UserCredentials", "parse_credentials"]

MAX_CREDENTIALS: Final = 1024 * 1024
"""Bytes of a file. A JWT has some thousand; a file with more than this is another one, and is not read."""


class UserCredentials(Value, frozen=True, kw_only=True):
    """What a user shows to a server. Both parts print as ``***``; it cannot be pickled."""

    jwt: Secret
    seed: Secret | None = None
    """None: the nonce is signed elsewhere, or not at all (a bearer token)."""


def parse_credentials(data: bytes | str | Secret) -> UserCredentials:
    """Read the content of a ``.creds`` file, of at most 1 MiB; or a JWT alone.

    There must be one JWT and at most one seed. Raises `CredentialsError` with the line and what is wrong there, and
    with nothing of what stands there. The JWT is not checked beyond its form: the server decides.
    """
    result = _parse(data)
    if isinstance(result, UserCredentials):
        return result
    del data
    raise result


# --- what looks at secrets, and never raises -------------------------------------------------------------------------

_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")

_MARKER: Final = re.compile(rb"-{3,}[ \t]*(BEGIN|END)[ \t]+([A-Z][A-Z ]*[A-Z])[ \t]*-{3,}")
_JWT: Final = b"NATS USER JWT"
_SEED: Final = b"USER NKEY SEED"
_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_-]+")


class _Block:
    __slots__ = ("label", "line", "value", "value_line")

    def __init__(self, label: bytes, line: int) -> None:
        self.label = label
        self.line = line
        """The number of the line that begins the block, counted from 1."""
        self.value = b""
        self.value_line = 0
        """What stands between the two lines of the block, and the number of that line."""


def _parse(data: object) -> UserCredentials | CredentialsError | TypeError:
    content = _content(data)
    if content is None:
        return TypeError(f"credentials must be bytes, str or a Secret, not {type(data).__name__}")
    if len(content) > MAX_CREDENTIALS:
        return _unusable(f"there are {len(content)} bytes, {MAX_CREDENTIALS} at most are looked at")
    # Windows PowerShell writes such files when the output of a command is redirected into one.
    if content.startswith(_UTF16_MARKS):
        return _unusable("the text is UTF-16; save it as UTF-8")
    content = content.removeprefix(_UTF8_MARK)
    blocks = _blocks(content)
    result = blocks if isinstance(blocks, str) else _credentials(blocks, content.strip())
    return _unusable(result) if isinstance(result, str) else result


def _unusable(reason: str) -> CredentialsError:
    return CredentialsError(f"the credentials cannot be used: {reason}")


def _content(data: object) -> bytes | None:
    match data:
        case Secret():
            return data.reveal_bytes()
        case str():
            return str.encode(data, "utf-8", "replace")  # a UnicodeError would quote it
        case bytes():
            return data
        case _:
            return None


def _blocks(content: bytes) -> list[_Block] | str:
    """The blocks with any kind of JWT or seed, in order; or what is wrong with the lines."""
    blocks: list[_Block] = []
    block: _Block | None = None
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.strip()
        marker = _MARKER.fullmatch(text)
        begins, label = (marker[1] == b"BEGIN", marker[2]) if marker else (False, b"")
        if not label.endswith((b" JWT", b" SEED")):  # a line of text, or of another armoured thing
            if block is not None and text:
                if block.value:
                    return f"the block begun in line {block.line} has more than one line, the second is line {number}"
                block.value, block.value_line = text, number
        elif begins and block is None:
            block = _Block(label, number)
        elif block is None:
            return f"line {number} ends a block that no line has begun"
        elif begins or label != block.label:
            return f"the block begun in line {block.line} has no end line before line {number}"
        elif not block.value:
            return f"the block begun in line {block.line} is empty"
        else:
            blocks.append(block)
            block = None
    return blocks if block is None else f"the block begun in line {block.line} has no end line"


def _credentials(blocks: list[_Block], content: bytes) -> UserCredentials | str:
    """The credentials in the blocks, or what is wrong with the blocks."""
    found: dict[bytes, _Block] = {}
    for block in blocks:
        if block.label not in (_JWT, _SEED):
            return f"the block begun in line {block.line} has the JWT or seed of something else than a user"
        if block.label in found:
            return f"lines {found[block.label].line} and {block.line} begin blocks of the same kind"
        found[block.label] = block
    if not blocks and _is_jwt(content):
        return UserCredentials(jwt=Secret(content))
    jwt, seed = found.get(_JWT), found.get(_SEED)
    if jwt is None and not isinstance(read_seed(content, None), Exception):
        return "there is a seed alone; it is given as nkey_seed, not as credentials"
    if jwt is None:
        return "there is no line -----BEGIN NATS USER JWT-----"
    if not _is_jwt(jwt.value):
        return f"what stands in line {jwt.value_line} is no JWT: it must be three parts of base64url"
    if seed is None:
        return UserCredentials(jwt=Secret(jwt.value))
    key = read_seed(seed.value, Prefix.USER)
    if not isinstance(key, tuple):
        return f"in line {seed.value_line} {key}"
    # The seed was decoded only to find a fault now, where its line can be named. What is kept is its text.
    wipe(key[1])
    return UserCredentials(jwt=Secret(jwt.value), seed=Secret(seed.value))


def _is_jwt(text: bytes) -> bool:
    parts = text.split(b".")
    # No number of bytes has 4n + 1 characters in base64: such a part was cut short, or something was added.
    return len(parts) == 3 and all(_BASE64URL.fullmatch(part) and len(part) % 4 != 1 for part in parts)
