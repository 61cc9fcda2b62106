"""Who carries the secrets of the canary test: eight clients that differ in how they say who they are, and for each the
scripted server it can talk to, be it behind TLS, WebSocket or a proxy.

    cast = Cast(folder)
    for role in cast.roles:
        with Peer([*role.greeted(), role.say(b"-ERR 'No'\\r\\n")], again=True) as peer:
            connect(role.url(peer.port), **role.options(peer.port, leg_awaits))
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import ssl
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trustme
from cryptography.hazmat.primitives import serialization

from nats_proto import Challenge, Credentials
from nats_proto.nkeys import KeyPair, Prefix
from tests.faults.canary import Index, index
from tests.faults.peer import PATIENCE as PEER_PATIENCE
from tests.faults.peer import TICK, Connection, Script, Step, info
from tests.proto.websocket_peer import accept, frame, unmask

__all__ = ["CONNECT", "NONCE", "Cast", "Role", "connect_line", "secured"]

NONCE = "PXoWU7zWAMt75FY"  # always the same, so that the signatures are known
HEAD = re.compile(rb"(?:GET|CONNECT) (?s:.*?)\r\n\r\n")
CONNECT = re.compile(rb"CONNECT \{.*?\}\r\n")

Options = dict[str, Any]


@dataclass(frozen=True)
class Role:
    """One client: the secrets it has, and how its server speaks."""

    name: str
    kinds: tuple[str, ...]
    given: Callable[[bool], Options]
    """The options; ``True``: where functions may be ``async``."""
    callback: str
    """The option that is a function, or becomes one where one has to fail."""
    user_info: str = ""
    scheme: str = "nats"
    path: str = ""
    proxy: str = ""
    """User information of a proxy, with the ``@``."""
    tls: ssl.SSLContext | None = None
    """Of the server."""
    secrets: tuple[str, ...] = field(default=(), repr=False)

    # --- the client ---------------------------------------------------------------------------------------------------

    def url(self, port: int, host: str = "127.0.0.1", *, scheme: str | None = None) -> str:
        """With all secrets that a URL can have. Behind a proxy it is another server that is named."""
        at = "127.0.0.1:4222" if self.proxy else f"{host}:{port}"
        return f"{scheme or self.scheme}://{self.user_info}{at}{self.path}"

    def options(self, port: int, awaits: bool, host: str = "127.0.0.1", **more: Any) -> Options:
        proxy = {"proxy": f"http://{self.proxy}{host}:{port}"} if self.proxy else {}
        return {**self.given(awaits), **proxy, **more}

    # --- the server ---------------------------------------------------------------------------------------------------

    def lower(self) -> Script:
        """What comes before INFO."""
        tunnel = [_tunnel] if self.proxy else []
        return [*tunnel, *([_upgrade] if self.scheme == "ws" else [])]

    def opening(self, **fields: object) -> Script:
        """Until it is the client's turn to say who it is."""
        start = self.say(info(**{"nonce": NONCE, "tls_required": self.tls is not None, **fields}))
        return [self.lower(), start, *([secured(self.tls)] if self.tls is not None else [])]

    def greeted(self) -> Script:
        """Until the client is connected."""
        return [self.opening(), self.hear(CONNECT), self.hear(re.compile(b"PING\r\n")), self.say(b"PONG\r\n")]

    def say(self, data: bytes) -> Step:
        said = _framed(data) if self.scheme == "ws" else data
        return lambda connection: connection.send(said)

    def hear(self, pattern: re.Pattern[bytes]) -> Step:
        return lambda connection: (self.heard(connection, pattern), None)[1]

    def heard(self, connection: Connection, pattern: re.Pattern[bytes]) -> bytes:
        """What matched."""
        return (_Unmasked.of(connection) if self.scheme == "ws" else connection).expect(pattern)


def connect_line(role: Role, connection: Connection) -> tuple[bytes, list[str]]:
    """CONNECT as it came, and the texts in it that are long enough to be recognised."""
    line = role.heard(connection, CONNECT)
    fields = json.loads(line[len("CONNECT ") :])
    return line, [value for key, value in fields.items() if key not in PUBLIC and isinstance(value, str)]


PUBLIC = {"name", "lang", "version", "nkey", "user"}


class Cast:
    """All roles, and the secrets they have. ``folder`` is for their files."""

    def __init__(self, folder: Path) -> None:
        self._random = random.Random("canary")
        self.folder = folder
        self.kinds: dict[str, list[bytes]] = {}
        self._keys: list[KeyPair] = []
        self._authority = trustme.CA()
        self._server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("127.0.0.1", "localhost").configure_cert(self._server_tls)
        self.roles = [
            self._url_password(),
            self._url_token(),
            self._user_and_password(),
            self._token(),
            self._seed(),
            self._auth(),
            self._websocket(),
            self._websocket_behind_a_proxy(),
        ]
        self.index: Index = index(self.kinds)

    def stranger(self) -> ssl.SSLContext:
        """A server's context whose certificate nobody trusts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        return context

    # --- secrets ------------------------------------------------------------------------------------------------------

    def _word(self, kind: str, between: str = "") -> str:
        """A new secret, with those characters in the middle."""
        letters = string.ascii_letters + string.digits
        word = "".join(self._random.choices(letters, k=12)) + between + "".join(self._random.choices(letters, k=12))
        self.kinds.setdefault(kind, []).append(word.encode())
        return word

    def _key(self, kind: str) -> KeyPair:
        key = KeyPair.create(Prefix.USER, self._random.randbytes(32))
        self._keys.append(key)
        self.kinds.setdefault(kind, []).append(key.seed.reveal_bytes())
        self.kinds.setdefault("nonce signature", []).append(key.sign(NONCE.encode()))
        return key

    def _jwt(self, kind: str) -> str:
        parts = (b'{"typ":"JWT","alg":"ed25519-nkey"}', self._random.randbytes(180), self._random.randbytes(64))
        header, *rest = (base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        self.kinds.setdefault(kind, []).append(b".".join(rest))  # the header is everybody's
        return b".".join((header, *rest)).decode()

    def _creds(self, kind: str) -> str:
        key = self._key(kind)
        return (
            f"-----BEGIN NATS USER JWT-----\n{self._jwt(kind)}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{key.seed.reveal()}\n------END USER NKEY SEED------\n"
        )

    def _role(self, name: str, kinds: Sequence[str], given: Callable[[bool], Options], **more: Any) -> Role:
        secrets = tuple(secret.decode("latin-1") for kind in kinds for secret in self.kinds[kind])
        return Role(name=name, kinds=tuple(kinds), given=given, secrets=secrets, **more)

    # --- roles --------------------------------------------------------------------------------------------------------

    def _url_password(self) -> Role:
        password = quote(self._word("password in the URL", '/@:%?#é"'), safe="")
        creds = self._creds("creds as text")
        return self._role(
            "url-password",
            ["password in the URL", "creds as text", "nonce signature"],
            lambda awaits: {"credentials": creds},
            callback="credentials",
            user_info=f"{quote(self._word('user'))}:{password}@",
        )

    def _url_token(self) -> Role:
        token = quote(self._word("token in the URL", "/@ %"), safe="")
        file = self.folder / "user.creds"
        file.write_text(self._creds("creds as a file"))
        file.chmod(0o600)
        return self._role(
            "url-token",
            ["token in the URL", "creds as a file", "nonce signature"],
            lambda awaits: {"credentials": file if awaits else str(file)},
            callback="credentials",
            user_info=f"{token}@",
        )

    def _user_and_password(self) -> Role:
        user, password = self._word("user"), self._word("password option", '"\\é')
        proxy = quote(self._word("proxy credentials", "/@"), safe="")
        return self._role(
            "user-and-password",
            ["user", "password option", "proxy credentials"],
            lambda awaits: {"user": user, "password": password},
            callback="credentials",
            proxy=f"me:{proxy}@",
        )

    def _token(self) -> Role:
        token, creds = self._word("token option"), self._creds("creds from a function")

        def provider() -> str:
            return creds

        async def later() -> bytes:
            return creds.encode()

        return self._role(
            "token",
            ["token option", "creds from a function", "nonce signature"],
            lambda awaits: {"token": token, "credentials": later if awaits else provider},
            callback="credentials",
        )

    def _seed(self) -> Role:
        seed = self._key("nkey seed").seed.reveal()
        password = self._word("TLS key password")
        certificate = self._authority.issue_cert("client@example")
        key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode()),
        )
        file = self.folder / "client.pem"
        file.write_bytes(pem + b"".join(blob.bytes() for blob in certificate.cert_chain_pems))

        def context(url: str) -> ssl.SSLContext:
            made = ssl.create_default_context()
            self._authority.configure_trust(made)
            made.load_cert_chain(file, password=password)
            return made

        return self._role(
            "seed",
            ["nkey seed", "TLS key password", "nonce signature"],
            lambda awaits: {"nkey_seed": seed, "tls": context},
            callback="tls",
            tls=self._server_tls,
        )

    def _auth(self) -> Role:
        kind = "auth callback's answer"
        user, password, jwt, key = self._word("user"), self._word(kind), self._jwt(kind), self._key(kind)

        def answer(challenge: Challenge) -> Credentials:
            return Credentials(user=user, password=password, jwt=jwt, signature=key.sign(challenge.nonce))

        async def later(challenge: Challenge) -> Credentials:
            return answer(challenge)

        return self._role(
            "auth",
            [kind, "nonce signature"],
            lambda awaits: {"auth": later if awaits else answer},
            callback="auth",
        )

    def _websocket(self) -> Role:
        authorization = f"Bearer {self._word('WebSocket header')}"
        query, creds = self._word("query of the URL"), self._creds("creds as text")
        return self._role(
            "websocket",
            ["WebSocket header", "query of the URL", "creds as text", "nonce signature"],
            lambda awaits: {"websocket_headers": {"Authorization": authorization}, "credentials": creds},
            callback="websocket_headers",
            scheme="ws",
            path=f"/nats?token={query}",
        )

    def _websocket_behind_a_proxy(self) -> Role:
        authorization = f"Basic {base64.b64encode(self._word('WebSocket header').encode()).decode()}"
        proxy = self._word("proxy credentials")
        seed = self._key("auth callback's answer").seed

        def headers(url: str) -> list[tuple[str, str]]:
            return [("Authorization", authorization)]

        return self._role(
            "websocket-behind-a-proxy",
            ["WebSocket header", "proxy credentials", "auth callback's answer", "nonce signature"],
            lambda awaits: {"websocket_headers": headers, "auth": lambda challenge: Credentials(seed=seed)},
            callback="auth",
            scheme="ws",
            proxy=f"me:{proxy}@",
        )

    def close(self) -> None:
        for key in self._keys:
            key.wipe()
        for file in self.folder.iterdir():
            os.chmod(file, 0o600)


# --- steps below the protocol -----------------------------------------------------------------------------------------


def _tunnel(connection: Connection) -> None:
    connection.expect(HEAD)
    connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")


def _upgrade(connection: Connection) -> None:
    connection.send(accept(connection.expect(HEAD)))


def secured(context: ssl.SSLContext) -> Step:
    def step(connection: Connection) -> None:
        connection.sock.settimeout(PEER_PATIENCE)
        connection.sock = context.wrap_socket(connection.sock, server_side=True)
        connection.sock.settimeout(TICK)

    return step


def _framed(data: bytes) -> bytes:
    return frame(data)


class _Unmasked:
    """The payload of the frames a client sends, to be searched like what a plain one sends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._text = bytearray()
        self._seen = 0
        self._read = connection._seen

    @classmethod
    def of(cls, connection: Connection) -> _Unmasked:
        if not hasattr(connection, "unmasked"):
            connection.unmasked = cls(connection)  # type: ignore[attr-defined]
        found: _Unmasked = connection.unmasked  # type: ignore[attr-defined]
        return found

    def expect(self, pattern: re.Pattern[bytes]) -> bytes:
        while (match := pattern.search(self._text, self._seen)) is None:
            if not self._take_frame():
                self._connection.read()
        self._seen = match.end()
        return match.group()

    def _take_frame(self) -> bool:
        data = bytes(self._connection.received[self._read :])
        if len(data) < 2:
            return False
        width = {126: 2, 127: 8}.get(data[1] & 0x7F, 0)
        begin = 2 + width + 4
        size = int.from_bytes(data[2 : 2 + width], "big") if width else data[1] & 0x7F
        if len(data) < begin + size:
            return False
        self._text += unmask(data[begin : begin + size], data[begin - 4 : begin])
        self._read += begin + size
        return True
