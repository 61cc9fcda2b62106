"""Who we say we are: from options, URL, files and callbacks to what CONNECT says.

Theory of operation
-------------------
`authenticate` runs once for each handshake, after INFO, so that a rotated file or secret is met at the next attempt:

    source                                  gives
    user information of the server's URL    user and password, or token: instead of those of the options or the callback
    user, password, token                   themselves
    nkey_seed                               nkey and sig
    credentials: text, path or callback     jwt, and sig when there is a seed
    auth: a callback                        whatever it returns, and nothing else of the options

``sig`` is the Ed25519 signature of INFO's nonce. A key without a nonce to sign is an error: the server does not know
keys. A JWT without one goes alone: a server that wants a signature sends a nonce.

Nothing of what a callback raises is passed on but the name of its class: its text and its locals may hold the secret.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeGuard, runtime_checkable

from .._effects import Call, Operation, ReadFile
from .._secret import Secret, discreet
from .._value import Value, set_once
from ..errors import CredentialsError, NATSError

if TYPE_CHECKING:
    from .._interface.options import ConnectOptions
    from .._servers.server import Server
    from .._wire.info import ServerInfo
    from .user_credentials import UserCredentials

__all__ = [
    "AuthCallback",
    "Challenge",
    "Credentials",
    "CredentialsSource",
    "Identity",
    "Path",
    "authenticate",
    "holds_credentials",
    "is_path",
]

MAX_CREDENTIALS_FILE: Final = 1024 * 1024
"""Bytes of a ``.creds`` file. Real ones have a few thousand."""


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
    """Kept in the form that CONNECT has."""

    @discreet
    def __post_init__(self) -> None:
        for name in ("user", "password", "token", "jwt", "seed"):
            if getattr(self, name) is not None:
                set_once(self, name, _secret(getattr(self, name), name))
        if self.signature is not None:
            set_once(self, "signature", _encoded(self.signature))
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


class Identity(Value, frozen=True, kw_only=True):
    """What CONNECT says of us."""

    user: Secret | None = None
    password: Secret | None = None
    token: Secret | None = None
    jwt: Secret | None = None
    nkey: str | None = None
    signature: Secret | None = None
    """In base64 with the URL alphabet, without padding."""


def authenticate(options: ConnectOptions, server: Server, info: ServerInfo) -> Operation[Identity]:
    """What to say in CONNECT to this server. Raises `CredentialsError`."""
    nonce = info.nonce.encode("utf-8", "surrogatepass")
    if options.auth is not None:
        answer = yield Call(options.auth, (Challenge(server=server.url, nonce=nonce),), "auth callback")
        if not isinstance(answer, Credentials):
            raise CredentialsError(f"the auth callback returned {type(answer).__name__}, not Credentials")
        given = answer
    elif options.credentials is not None:
        keys = yield from _user_credentials(options.credentials)
        given = Credentials(
            user=options.user, password=options.password, token=options.token, jwt=keys.jwt, seed=keys.seed
        )
    else:
        given = Credentials(user=options.user, password=options.password, token=options.token, seed=options.nkey_seed)
    result = _identity(given, server, nonce)
    if isinstance(result, NATSError):
        raise result
    return result


# --- .creds ----------------------------------------------------------------------------------------------------------


def holds_credentials(text: str) -> bool:
    """Whether a text is the content of a ``.creds`` file, or a JWT alone; else it is the path of one.

    A path is shown in errors. So what may be a piece of a JWT, or a seed that belongs to ``nkey_seed``, is none.
    """
    return "-----BEGIN" in text or "\n" in text or re.fullmatch(_PART, text.strip()) is not None


_PART: Final = "eyJ[^/\\\\]*|[A-Z2-7]{40,}"


def is_path(value: object) -> TypeGuard[Path]:
    """Whether it is a path object of text."""
    path: object = value.__fspath__() if isinstance(value, Path) else None
    return isinstance(path, str)


def _user_credentials(source: CredentialsSource) -> Operation[UserCredentials]:
    from .user_credentials import parse_credentials  # only who has them pays for loading it

    if callable(source):
        provided = yield Call(source, (), "credentials callback")
    else:
        provided = source
    if isinstance(provided, str) and not holds_credentials(provided):
        # What a callback returns may be anything, a secret too, so it is not shown.
        what = "the file named by the credentials callback" if callable(source) else f"credentials file {provided!r}"
        provided = yield ReadFile(provided, MAX_CREDENTIALS_FILE, what)
    elif is_path(provided):
        path = provided.__fspath__()
        provided = yield ReadFile(path, MAX_CREDENTIALS_FILE, f"credentials file {path!r}")
    if isinstance(provided, bytearray):
        provided = bytes(provided)
    if not isinstance(provided, (str, bytes, Secret)):
        raise CredentialsError(f"credentials must be text, bytes or a path, not {type(provided).__name__}")
    return parse_credentials(provided)


# --- what needs secrets in clear: raises nothing, so that no traceback has them --------------------------------------


def _identity(given: Credentials, server: Server, nonce: bytes) -> Identity | NATSError:
    user, password, token = _as_secret(given.user), _as_secret(given.password), _as_secret(given.token)
    if server.user is not None or server.token is not None:
        user, password, token = server.user, server.password, server.token
    nkey = given.nkey
    signature = _encoded(given.signature) if given.signature is not None else None
    if (given.nkey is not None or (given.seed is not None and given.jwt is None)) and not nonce:
        return CredentialsError(f"server {server} sent no nonce to sign: it does not take NKeys")
    if given.seed is not None and nonce:
        signed = _sign(given.seed, nonce)
        if isinstance(signed, NATSError):
            return signed
        public, raw = signed
        nkey = None if given.jwt is not None else public
        signature = _encoded(raw)
    return Identity(
        user=user,
        password=password,
        token=token,
        jwt=_as_secret(given.jwt),
        nkey=nkey,
        signature=signature if nonce else None,
    )


def _sign(seed: str | Secret, nonce: bytes) -> tuple[str, bytes] | NATSError:
    from ..nkeys import KeyPair, Prefix  # only who has keys pays for loading it

    try:
        with KeyPair.from_seed(seed) as keys:
            if keys.prefix is not Prefix.USER:
                return CredentialsError(f"the seed is one of a {keys.prefix.name.lower()}, not of a user")
            return keys.public_key, keys.sign(nonce)
    except NATSError as error:
        return error.with_traceback(None)


def _encoded(signature: object) -> Secret:
    if isinstance(signature, Secret):
        return signature
    if isinstance(signature, bytes) and len(signature) == SIGNATURE_SIZE:
        from base64 import urlsafe_b64encode

        return Secret(urlsafe_b64encode(signature).rstrip(b"="))
    kind = type(signature).__name__
    del signature
    raise CredentialsError(f"a signature has {SIGNATURE_SIZE} bytes (Ed25519, not encoded), not {kind}")


def _as_secret(value: str | Secret | None) -> Secret | None:
    return value if value is None or isinstance(value, Secret) else Secret(value)


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
