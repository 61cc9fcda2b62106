"""Keys of users, accounts, operators and servers (nkeys): their texts, and signatures made with them.

    with KeyPair.from_seed(seed) as key:
        signature = key.sign(nonce)

A key pair is one of Ed25519, made from a seed of 32 bytes. This module draws no random numbers: `KeyPair.create` takes
bytes that its caller got from ``os.urandom`` or the like. Making a key pair and checking a signature need the extra
``nats-proto[nkeys]``; reading and writing the texts of keys do not.

`KeyPair.wipe` overwrites the seed in memory; ``with`` does so at the end. No error shows a part of a seed. Nor does a
traceback with local variables, as far as the functions of this module are in it: those that look at seeds return what
is wrong, and the others raise it after they have deleted the seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Self, final

from ._auth.nkey_text import Prefix, checked, public_key_text, read_public_key, read_seed, seed_text, wipe
from ._secret import Secret
from .errors import CredentialsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "KeyPair",
    "Prefix",
    "decode_public_key",
    "decode_seed",
    "encode_public_key",
    "encode_seed",
    "verify",
]


@final
class KeyPair:
    """An Ed25519 key pair, made by `create` or `from_seed`. As a context manager it is wiped at the end.

    ``repr`` shows the public key. It can neither be pickled nor copied (`TypeError`): a copy would outlive `wipe`.
    """

    __slots__ = ("__raw", "__wiped", "_prefix", "_public")

    def __init__(self, prefix: Prefix, raw: bytearray, public: bytes) -> None:
        """For this module alone: programs call `create` or `from_seed`. The pair keeps ``raw``, and overwrites it."""
        self._prefix = prefix
        self._public = public
        self.__raw = raw
        self.__wiped = False

    @classmethod
    def create(cls, prefix: Prefix, entropy: bytes | bytearray) -> KeyPair:
        """A new pair from 32 bytes that nobody can guess, for instance ``os.urandom(32)``.

        Raises `CredentialsError` when they are not 32, for `Prefix.CURVE`, and without ``nats-proto[nkeys]``.
        """
        made = _pair_of_entropy(prefix, entropy)
        if isinstance(made, KeyPair):
            return made
        # This frame becomes a part of the traceback, and what prints local variables would show the entropy.
        del entropy
        raise made

    @classmethod
    def from_seed(cls, seed: str | bytes | bytearray | Secret) -> KeyPair:
        """The pair of a seed in its text form, of any kind but curve keys.

        Raises `CredentialsError` when the seed is malformed or for a curve key, and without ``nats-proto[nkeys]``.
        """
        made = _pair_of_seed(seed)
        if isinstance(made, KeyPair):
            return made
        del seed
        raise made

    @property
    def prefix(self) -> Prefix:
        """What the key is for: a user, an account, and so on."""
        return self._prefix

    @property
    def public_key(self) -> str:
        """The public key as text. It is no secret, and can still be read after `wipe`."""
        return public_key_text(self._prefix, self._public)

    @property
    def seed(self) -> Secret:
        """The seed as text. The text is not overwritten by `wipe`. Raises `CredentialsError` after `wipe`."""
        return seed_text(self._prefix, self._copy_of_raw())

    def sign(self, data: bytes | bytearray) -> bytes:
        """The signature of ``data``: 64 raw bytes. Raises `CredentialsError` after `wipe`."""
        message = _data(data)
        if message is None:
            raise TypeError(f"what is to be signed must be bytes, not {type(data).__name__}")
        made = _sign(self._copy_of_raw(), message)
        if isinstance(made, bytes):
            return made
        raise made

    def verify(self, data: bytes | bytearray, signature: bytes | bytearray) -> bool:
        """Whether this pair signed ``data`` so. Possible also after `wipe`."""
        result = _verify(self.public_key, data, signature)
        if isinstance(result, bool):
            return result
        del data, signature
        raise result

    def wipe(self) -> None:
        """Overwrite the seed. From then on `seed` and `sign` raise `CredentialsError`. Harmless when done already."""
        # The mark is set before the bytes are overwritten. Another thread that copies the seed meanwhile looks at the
        # mark after it has copied (`_copy_of_raw`), so it never takes zeros for a seed.
        self.__wiped = True
        wipe(self.__raw)

    def _copy_of_raw(self) -> bytearray:
        raw = bytearray(self.__raw)
        if self.__wiped:
            del raw
            raise CredentialsError(f"the key pair of {self.public_key} was wiped; make it from its seed again")
        return raw

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"<KeyPair {self.public_key}{' wiped' if self.__wiped else ''}>"

    def __dir__(self) -> list[str]:  # for what shows an object by the names it has
        return [name for name in object.__dir__(self) if not name.startswith("_KeyPair__")]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyPair is neither pickled nor copied: it holds a seed")

    # Every object has this method since Python 3.11, and the inherited one would return the values of all slots.
    def __getstate__(self) -> NoReturn:
        self.__reduce__()


def encode_public_key(prefix: Prefix, raw: bytes | bytearray) -> str:
    """The text of a public key's 32 bytes. Raises `CredentialsError` when they are not 32."""
    given = checked(prefix, raw, "a public key")
    if isinstance(given, bytearray):
        return public_key_text(prefix, given)
    del raw
    raise given


def decode_public_key(text: str, expected: Prefix | None = None) -> tuple[Prefix, bytes]:
    """Kind and 32 bytes of a public key; ``expected`` is the only kind that will do.

    Raises `CredentialsError` when it is malformed or of another kind.
    """
    found = read_public_key(text, expected)
    if isinstance(found, tuple):
        return found
    del text
    raise found


def encode_seed(prefix: Prefix, raw: bytes | bytearray) -> Secret:
    """The text of a seed's 32 bytes. Raises `CredentialsError` when they are not 32."""
    given = checked(prefix, raw, "a seed")
    if isinstance(given, bytearray):
        return seed_text(prefix, given)
    del raw
    raise given


def decode_seed(seed: str | bytes | bytearray | Secret, expected: Prefix | None = None) -> tuple[Prefix, bytearray]:
    """Kind and 32 bytes of a seed, for the caller to overwrite; ``expected`` is the only kind that will do.

    Raises `CredentialsError` when it is malformed or of another kind; the text quotes nothing of it.
    """
    found = read_seed(seed, expected)
    if isinstance(found, tuple):
        return found
    del seed
    raise found


def verify(public_key: str, data: bytes | bytearray, signature: bytes | bytearray) -> bool:
    """Whether the owner of ``public_key`` signed ``data`` so.

    Raises `CredentialsError` when the key is malformed or a curve key, and without ``nats-proto[nkeys]``.
    """
    result = _verify(public_key, data, signature)
    if isinstance(result, bool):
        return result
    del public_key, data, signature
    raise result


# --- what looks at seeds, and never raises ---------------------------------------------------------------------------


def _pair_of_entropy(prefix: Prefix, entropy: object) -> KeyPair | CredentialsError | TypeError:
    raw = checked(prefix, entropy, "a key pair")
    return _pair(prefix, raw) if isinstance(raw, bytearray) else raw


def _pair_of_seed(seed: object) -> KeyPair | CredentialsError | TypeError:
    found = read_seed(seed, None)
    return _pair(*found) if isinstance(found, tuple) else found


def _pair(prefix: Prefix, raw: bytearray) -> KeyPair | CredentialsError:
    if prefix is Prefix.CURVE:
        # Curve keys are X25519 keys: two parties agree with them on a secret, and Ed25519 cannot sign with them.
        wipe(raw)
        return CredentialsError("a curve key signs nothing: no KeyPair can be made of it")
    private = _private_key(raw)
    if isinstance(private, CredentialsError):
        wipe(raw)
        return private
    return KeyPair(prefix, raw, private.public_key().public_bytes_raw())


def _sign(raw: bytearray, data: bytes) -> bytes | CredentialsError:
    private = _private_key(raw)
    # From here on cryptography signs with a copy of its own, so this one need not live any longer.
    wipe(raw)
    return private if isinstance(private, CredentialsError) else private.sign(data)


def _verify(public_key: object, data: object, signature: object) -> bool | CredentialsError | TypeError:
    found = read_public_key(public_key, None)
    if not isinstance(found, tuple):
        return found
    message, given = _data(data), _data(signature)
    if message is None or given is None:
        return TypeError("data and signature must be bytes")
    prefix, raw = found
    if prefix is Prefix.CURVE:
        return CredentialsError("a curve key signs nothing: there is no signature to verify")
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        return _no_cryptography(error)
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(given, message)
    except InvalidSignature:
        return False
    except Exception as error:
        # An OpenSSL without Ed25519. A key of a wrong length does not get here: reading its text has checked that.
        return _no_ed25519(error)
    return True


def _private_key(raw: bytearray) -> Ed25519PrivateKey | CredentialsError:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        return _no_cryptography(error)
    try:
        return Ed25519PrivateKey.from_private_bytes(raw)
    except Exception as error:  # of any kind, since the frames of its traceback hold the seed
        return _no_ed25519(error)


def _no_cryptography(error: ImportError) -> CredentialsError:
    return CredentialsError(
        f'keys need cryptography, which cannot be imported ({error}): pip install "nats-proto[nkeys]"'
    )


def _no_ed25519(error: Exception) -> CredentialsError:
    return CredentialsError(f"the installed cryptography does not do Ed25519 ({type(error).__name__})")


def _data(data: object) -> bytes | None:
    return bytes(data) if isinstance(data, (bytes, bytearray)) else None
