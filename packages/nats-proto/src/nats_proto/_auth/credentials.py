"""What a user may give to say who they are: the answer of an ``auth`` callback, and where credentials come from.

What a handshake does with it is told in `authenticate`, in the room of the connection.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, Protocol, TypeGuard, runtime_checkable

from .._secret import Secret, discreet
from .._value import Value, set_once
from ..errors import CredentialsError

__all__ = [
    "AuthCallback",
    "Challenge",
    "Credentials",
    "CredentialsSource",
    "Path",
    "encoded_signature",
    "holds_credentials",
    "is_path",
]

SIGNATURE_SIZE: Final = 64
"""Bytes of an Ed25519 signature."""


@runtime_checkable
class Path(Protocol):
    """A path object, such as `pathlib.Path`."""

    def __fspath__(self) -> str: ...


class Challenge(Value, frozen=True, kw_only=True):
    """What an ``auth`` callback is asked."""

    server: str
    """The server's URL without user information."""
    nonce: bytes
    """To be signed with the user's key; empty when the server sent none, since it does not take keys."""


class Credentials(Value, frozen=True, kw_only=True):
    """What an ``auth`` callback answers: what it leaves out is not sent.

    With ``seed`` the nonce is signed here. Whoever keeps the seed elsewhere gives ``signature``, the 64 bytes of the
    Ed25519 signature of `Challenge.nonce`, with ``jwt`` or ``nkey``. Raises `CredentialsError` for what does not
    go together. ``repr`` shows none of it.
    """

    user: str | Secret | None = None
    password: str | Secret | None = None
    token: str | Secret | None = None
    jwt: str | Secret | None = None
    nkey: str | None = None
    """The public user key (``U…``), when there is no JWT."""
    seed: str | Secret | None = None
    signature: bytes | Secret | None = None
    """64 bytes. It is kept in the form in which CONNECT has it: base64 with the URL alphabet, without padding."""

    @discreet
    def __post_init__(self) -> None:
        for name in ("user", "password", "token", "jwt", "seed"):
            if getattr(self, name) is not None:
                set_once(self, name, _secret(getattr(self, name), name))
        if self.signature is not None:
            set_once(self, "signature", encoded_signature(self.signature))
        if self.password is not None and self.user is None:
            raise CredentialsError("a password without a user")
        if self.token is not None and self.user is not None:
            raise CredentialsError("token and user together; a server takes one of them")
        if self.seed is not None and self.signature is not None:
            raise CredentialsError("seed and signature together; one of them is enough")
        if self.signature is not None and self.jwt is None and self.nkey is None:
            raise CredentialsError("a signature without jwt or nkey")
        if self.nkey is not None and self.signature is None and self.seed is None:
            raise CredentialsError("nkey without seed or signature")

    def __repr__(self) -> str:
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        return f"Credentials({', '.join(f'{name}=***' for name in given)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Credentials are not pickled")


AuthCallback = Callable[[Challenge], Credentials | Awaitable[Credentials]]
_Text = str | bytes | Secret | Path
CredentialsSource = _Text | Callable[[], _Text | Awaitable[_Text]]


def holds_credentials(text: str) -> bool:
    """Whether a text is the content of a ``.creds`` file, or a JWT alone; else it is the path of one.

    A path is shown in errors. So a text that may be a piece of a JWT, or a seed that was meant for ``nkey_seed``,
    counts as content, and is not shown.
    """
    return "-----BEGIN" in text or "\n" in text or re.fullmatch(_PART, text.strip()) is not None


# Every JWT begins with "eyJ", which is a brace, a quote and a letter in base64, and no JWT has a slash, while most
# paths have one. The other form is base32, of a length that a seed has and file names seldom have.
_PART: Final = "eyJ[^/\\\\]*|[A-Z2-7]{40,}"


def is_path(value: object) -> TypeGuard[Path]:
    """Whether it is a path object of text."""
    path: object = value.__fspath__() if isinstance(value, Path) else None
    return isinstance(path, str)


def encoded_signature(signature: object) -> Secret:
    """The signature as CONNECT has it: base64 with the URL alphabet, without padding. Raises `CredentialsError`."""
    if isinstance(signature, Secret):
        return signature
    if isinstance(signature, bytes) and len(signature) == SIGNATURE_SIZE:
        from base64 import urlsafe_b64encode

        return Secret(urlsafe_b64encode(signature).rstrip(b"="))
    kind = type(signature).__name__
    # A traceback keeps the frame that raises, with its local variables; so the value goes first.
    del signature
    raise CredentialsError(f"a signature has {SIGNATURE_SIZE} bytes (Ed25519, not encoded), not {kind}")


def _secret(value: object, name: str) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        try:
            return Secret(value)
        except ValueError:
            pass
    kind = type(value).__name__
    del value
    raise CredentialsError(f"{name} must be text that UTF-8 can express, not {kind}")
