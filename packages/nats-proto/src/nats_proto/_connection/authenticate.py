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

from typing import TYPE_CHECKING, Final

from .._auth.credentials import Challenge, Credentials, CredentialsSource, encoded_signature, holds_credentials, is_path
from .._effects import Call, Inquiry, ReadFile
from .._secret import Secret
from .._value import Value
from ..errors import CredentialsError, NATSError

if TYPE_CHECKING:
    from .._auth.user_credentials import UserCredentials
    from .._interface.options import ConnectOptions
    from .._servers.server import Server
    from .._wire.info import ServerInfo

__all__ = ["Identity", "authenticate"]

MAX_CREDENTIALS_FILE: Final = 1024 * 1024
"""Bytes of a ``.creds`` file. Real ones have a few thousand."""


class Identity(Value, frozen=True, kw_only=True):
    """What CONNECT says of us."""

    user: Secret | None = None
    password: Secret | None = None
    token: Secret | None = None
    jwt: Secret | None = None
    nkey: str | None = None
    signature: Secret | None = None
    """In base64 with the URL alphabet, without padding."""


def authenticate(options: ConnectOptions, server: Server, info: ServerInfo) -> Inquiry[Identity]:
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


def _user_credentials(source: CredentialsSource) -> Inquiry[UserCredentials]:
    from .._auth.user_credentials import parse_credentials  # only who has them pays for loading it

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
    # All three are replaced at once: a user of the URL and a token of the options would be two identities, and a server
    # takes one.
    if server.user is not None or server.token is not None:
        user, password, token = server.user, server.password, server.token
    nkey = given.nkey
    signature = encoded_signature(given.signature) if given.signature is not None else None
    if (given.nkey is not None or (given.seed is not None and given.jwt is None)) and not nonce:
        return CredentialsError(f"server {server} sent no nonce to sign: it does not take NKeys")
    if given.seed is not None and nonce:
        signed = _sign(given.seed, nonce)
        if isinstance(signed, NATSError):
            return signed
        public, raw = signed
        # The JWT names the public key (it is its subject), so a server needs no nkey beside a JWT.
        nkey = None if given.jwt is not None else public
        signature = encoded_signature(raw)
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


def _as_secret(value: str | Secret | None) -> Secret | None:
    return value if value is None or isinstance(value, Secret) else Secret(value)
