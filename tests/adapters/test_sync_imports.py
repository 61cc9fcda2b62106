"""What ``import nats_sync`` loads, and what a plain connection adds to it: lists, since a clock would tell little."""

from __future__ import annotations

import os
import subprocess
import sys

import nats_sync
from nats_sync.testing import LocalServer

# msgspec takes typing_extensions where some other package has brought it, and with it `inspect`: left out here.
BEGIN = "import sys; sys.modules['typing_extensions'] = None\n"
END = "\nprint(*sorted(sys.modules))"

USE = """
with nats_sync.connect(URL, name="lean") as nc:
    with nc.subscribe("greet") as sub:
        nc.publish("greet", b"hello", headers={"A": "1"})
        assert sub.next(timeout=10).data == b"hello"
    nc.subscribe("ask", callback=lambda message: message.respond(b"ok"))
    assert nc.request("ask", timeout=10).data == b"ok"
    nc.flush()
"""

NEVER = {
    *("asyncio", "anyio", "trio", "ssl", "concurrent.futures", "multiprocessing", "subprocess", "tempfile", "shutil"),
    *("cryptography", "wsproto", "websockets", "zlib", "base64", "hmac", "hashlib", "_hashlib", "http", "email"),
    *("dataclasses", "inspect", "urllib.parse", "json"),
    *(
        "nats_sync.testing",
        "nats_sync.testing.server",
        "nats_proto._layers.tls",
        "nats_proto._layers.websocket",
        "nats_proto.nkeys",
    ),
    *(
        "nats_proto._auth.nkey_text",
        "nats_proto._auth.user_credentials",
        "nats_proto._layers.proxy_layer",
        "nats_proto._layers.http",
    ),
}
"""Loaded by those whose servers or options need it."""

NOT_BEFORE_A_CONNECTION = {
    *("logging", "random", "ipaddress"),
    *(
        "nats_proto._session.session",
        "nats_proto._connection.connection",
        "nats_proto._wire.parser",
        "nats_proto._servers.pool",
        "nats_sync._engine.threads",
    ),
}


def loaded_by(code: str) -> set[str]:
    """The modules of a fresh interpreter after ``code``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-W", "error", "-c", BEGIN + code + END]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert ran.stderr == ""
    return set(ran.stdout.split())


def test_an_import_loads_what_every_program_needs() -> None:
    modules = loaded_by("import nats_sync")
    assert "nats_sync" in modules
    assert modules & (NEVER | NOT_BEFORE_A_CONNECTION) == loaded_by("import msgspec") & NEVER == set()


def test_a_plain_connection_loads_what_it_needs() -> None:
    with LocalServer() as server:
        modules = loaded_by("import nats_sync" + USE.replace("URL", repr(server.url)))
    assert modules & NEVER == set()
    assert modules >= NOT_BEFORE_A_CONNECTION


def test_every_public_name_is_there_at_once() -> None:
    assert {name for name in nats_sync.__all__ if name not in vars(nats_sync)} == set()
