"""A nats-server that trusts an operator: accounts and users are JWTs, made when the test runs.

    world = OperatorMode()
    alice = world.user("alice", publish=["orders.>"], expires_in=2)
    with LocalServer(world.config()) as server:
        ...                                     # connect with alice.creds, or alice.jwt and alice.seed
        world.revoke(alice)
        server.reload(world.config())

The accounts are in the server's configuration (resolver MEMORY); the users are not, each shows its own JWT. So a user
can be made while the server runs; a new account, a new limit or a revocation needs a reload. Keys come from a seed, so
that the same test has the same ones each time. ``sys`` is the system account, ``app`` the one for everything else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nats_proto.nkeys import KeyPair, Prefix

__all__ = ["Account", "OperatorMode", "User", "encode_jwt", "sign_nonce"]

NO_LIMITS: dict[str, object] = {
    **dict.fromkeys(["subs", "data", "payload", "imports", "exports", "conn", "leaf"], -1),
    **dict.fromkeys(["mem_storage", "disk_storage", "streams", "consumer"], -1),
    "wildcards": True,
}


class User:
    """A user of an account: what a client needs to connect."""

    def __init__(self, account: Account, key: KeyPair, jwt: str) -> None:
        self.account = account
        self.key = key
        self.jwt = jwt

    @property
    def seed(self) -> str:
        """In text form."""
        return self.key.seed.reveal()

    @property
    def public_key(self) -> str:
        return self.key.public_key

    @property
    def creds(self) -> str:
        """The content of a ``.creds`` file."""
        return (
            f"-----BEGIN NATS USER JWT-----\n{self.jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.seed}\n------END USER NKEY SEED------\n"
        )


class Account:
    """An account. `OperatorMode.account` makes them."""

    def __init__(self, world: OperatorMode, name: str, expires_in: float | None, limits: Mapping[str, object]) -> None:
        self.name = name
        self.key = world.new_key(Prefix.ACCOUNT)
        self.revocations: dict[str, int] = {}
        self._world = world
        self._expiry = _expiry(expires_in)
        self._limits = limits

    @property
    def public_key(self) -> str:
        return self.key.public_key

    @property
    def jwt(self) -> str:
        """As it is now, with the revocations."""
        nats = {"type": "account", "version": 2, "limits": {**NO_LIMITS, **self._limits}}
        if self.revocations:
            nats["revocations"] = self.revocations
        claims = {"name": self.name, "sub": self.public_key, "nats": nats, **self._expiry}
        return encode_jwt(self._world.operator, claims)

    def user(
        self,
        name: str = "user",
        *,
        expires_in: float | None = None,
        publish: Sequence[str] | None = None,
        subscribe: Sequence[str] | None = None,
        bearer: bool = False,
        key: KeyPair | None = None,
        signer: KeyPair | None = None,
        **nats: object,
    ) -> User:
        """A new user, or a new JWT for the ``key`` of an old one.

        ``expires_in`` is seconds from now, negative for one that has run out. A JWT has whole seconds, so it is up to
        one more; the server ends a connection around the beginning of that second, and refuses new ones at its end.
        ``publish`` and ``subscribe`` are all the user may do; None: everything. ``bearer``: the server does not ask for
        a signature. ``signer`` signs instead of the account. ``nats`` are further claims.
        """
        key = key or self._world.new_key(Prefix.USER)
        revoked = self.revocations.get(key.public_key, 0)
        permissions: dict[str, object] = {
            "pub": {} if publish is None else {"allow": list(publish)},
            "sub": {} if subscribe is None else {"allow": list(subscribe)},
        }
        limits = {"subs": -1, "data": -1, "payload": -1, "bearer_token": bearer}
        claims = {
            "name": name,
            "sub": key.public_key,
            "iat": max(int(time.time()), revoked + 1),  # what is revoked is everything issued until then
            "nats": {"type": "user", "version": 2, **permissions, **limits, **nats},
            **_expiry(expires_in),
        }
        return User(self, key, encode_jwt(signer or self.key, claims))


class OperatorMode:
    """An operator with the accounts ``sys`` and ``app``. ``seed`` makes other keys; two worlds should differ."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self.operator = self.new_key(Prefix.OPERATOR)
        claims = {"name": "operator", "sub": self.operator.public_key, "nats": {"type": "operator", "version": 2}}
        self._jwt = encode_jwt(self.operator, claims)  # once: a server reloads no other
        self.accounts: list[Account] = []
        self.sys = self.account("SYS")
        self.app = self.account("APP")

    def new_key(self, prefix: Prefix) -> KeyPair:
        """The next key."""
        return KeyPair.create(prefix, self._random.randbytes(32))

    def account(self, name: str, *, expires_in: float | None = None, **limits: object) -> Account:
        """A new account. ``expires_in`` as for users; ``limits`` are claims such as ``conn=1``, none by default."""
        account = Account(self, name, expires_in, limits)
        self.accounts.append(account)
        return account

    def user(self, name: str = "user", **options: Any) -> User:
        """A new user of the account ``app``; see `Account.user`."""
        return self.app.user(name, **options)

    def revoke(self, user: User) -> None:
        """Once the server has the new `config`, it accepts no JWT the user has had until now; later ones it does."""
        revocations = user.account.revocations
        revocations[user.public_key] = max(int(time.time()), revocations.get(user.public_key, 0) + 1)

    def config(self, **settings: object) -> dict[str, object]:
        """The configuration of a server, for `LocalServer` and its `reload`; ``settings`` are further ones."""
        return {
            "operator": self._jwt,
            "system_account": self.sys.public_key,
            "resolver": "MEMORY",
            "resolver_preload": {account.public_key: account.jwt for account in self.accounts},
            **settings,
        }


def encode_jwt(signer: KeyPair, claims: Mapping[str, object]) -> str:
    """A JWT, signed. ``iss``, ``iat`` and ``jti`` (a hash of the rest) are added to the claims."""
    whole = {"iss": signer.public_key, "iat": int(time.time()), **claims}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).digest()
    whole["jti"] = base64.b32encode(digest).decode().rstrip("=")
    header = {"typ": "JWT", "alg": "ed25519-nkey"}
    signed = ".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, whole))
    return f"{signed}.{_base64url(signer.sign(signed.encode()))}"


def sign_nonce(key: KeyPair, nonce: str) -> str:
    """The ``sig`` of CONNECT for the nonce of INFO."""
    return _base64url(key.sign(nonce.encode()))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _expiry(expires_in: float | None) -> dict[str, int]:
    if expires_in is None:
        return {}
    if expires_in < 0:
        return {"exp": math.floor(time.time()) + math.floor(expires_in)}
    return {"exp": math.ceil(time.time() + expires_in)}
