"""The configuration that `nats_sync.testing` writes for a server: the user's, between ours."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

__all__ = ["Config", "ServerTLS", "patient", "write_config"]

Config = str | Mapping[str, object]
StrPath = str | os.PathLike[str]

AUTHENTICATION = 10.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTLS:
    """TLS of a `LocalServer`: the paths of PEM files that the caller has made, for ``127.0.0.1`` and ``localhost``."""

    cert: StrPath
    """The server's certificate, followed by those between it and its root, if there are any."""
    key: StrPath
    """The private key of the server's certificate."""
    ca: StrPath | None = None
    """The certificate of the authority that signs the certificates of clients."""
    verify: bool = False
    """Refuse clients that have no certificate signed by ``ca``."""
    handshake_first: bool | str = False
    """True: TLS comes before INFO, for all clients. A duration (``"50ms"``, or ``"auto"``): a client that has not begun
    TLS after that time is sent INFO in clear. For WebSocket it means nothing: there TLS always comes first."""
    timeout: float = 10.0
    """Seconds that a handshake may take. The server's own default, 2, is little on a busy machine."""

    def __post_init__(self) -> None:
        for name in ("cert", "key", "ca"):
            path: StrPath | None = getattr(self, name)
            if path is not None:  # a relative path means the present folder, wherever the server is started later
                object.__setattr__(self, name, os.path.abspath(path))

    def settings(self) -> dict[str, object]:
        """The ``tls`` block."""
        block: dict[str, object] = {
            "cert_file": self.cert,
            "key_file": self.key,
            "verify": self.verify,
            "timeout": self.timeout,
        }
        if self.ca is not None:
            block["ca_file"] = self.ca
        if self.handshake_first is not False:
            block["handshake_first"] = self.handshake_first
        return block


def patient(authorization: object) -> object:
    """An ``authorization`` block by which a client has ten seconds to say who it is, unless the block says otherwise.

    The server's own default, 2, is little on a busy machine.
    """
    if authorization is None:
        return {"timeout": AUTHENTICATION}
    return {"timeout": AUTHENTICATION, **authorization} if _is_block(authorization) else authorization


def _is_block(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping)


def write_config(
    directory: Path, given: Config | None, *, before: Mapping[str, object], after: Mapping[str, object]
) -> Path:
    """Write it and tell where: the user's settings override those ``before``, and are overridden by those ``after``."""
    if isinstance(given, Mapping) and "authorization" in given:
        given = {**given, "authorization": patient(given["authorization"])}
    text = given if isinstance(given, str) else _settings(given or {})
    (directory / "given.conf").write_text(text, encoding="utf-8")
    whole = directory / "server.conf"
    whole.write_text(f'{_settings(before)}include "given.conf"\n{_settings(after)}', encoding="utf-8")
    return whole


def _settings(settings: Mapping[str, object]) -> str:
    """One line for each setting; the values are JSON, which the server's configuration format takes."""
    return "".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in settings.items())
