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

OF_JETSTREAM = (
    *("nats_proto.jetstream", "nats_proto._jetstream", "nats_proto._publishing", "nats_proto._consuming"),
    *("nats_sync.jetstream", "nats_sync._jetstream"),
)
"""How the names of its modules begin: loaded by the first `Client.jetstream`, or by whoever imports them."""

OF_SERVICES = ("nats_proto.services", "nats_proto._services", "nats_sync.services", "nats_sync._services")
"""The same for services: `Client.add_service` and `Client.services`."""

USE_SERVICES = """
with nats_sync.connect(URL, name="lean") as nc, nc.add_service("orders", "1.2.0") as service:
    service.endpoint("create", lambda request: request.respond(b"ok"))
    assert nc.request("create", timeout=10).data == b"ok"
    assert [found.id for found in nc.services("orders", service.id, timeout=10).ping()] == [service.id]
"""

USE_JETSTREAM = """
with nats_sync.connect(URL, name="lean") as nc:
    js = nc.jetstream()
    js.create_stream("ORDERS", subjects=["orders.>"], storage="memory")
    assert js.publish("orders.new", b"a book", msg_id="1").sequence == 1
    message = js.stream("ORDERS").create_consumer("billing").next(timeout=10)
    assert message is not None
    message.ack_sync(timeout=10)
"""


def loaded_by(code: str) -> set[str]:
    """The modules of a fresh interpreter after ``code``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-W", "error", "-c", BEGIN + code + END]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert ran.stderr == ""
    return set(ran.stdout.split())


def of_jetstream(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith(OF_JETSTREAM)}


def of_services(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith(OF_SERVICES)}


def of_both(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith("nats_proto._json")}


def test_an_import_loads_what_every_program_needs() -> None:
    modules = loaded_by("import nats_sync")
    assert "nats_sync" in modules
    assert modules & (NEVER | NOT_BEFORE_A_CONNECTION) == loaded_by("import msgspec") & NEVER == set()
    assert of_jetstream(modules) == of_services(modules) == of_both(modules) == set()


def test_a_plain_connection_loads_what_it_needs() -> None:
    with LocalServer() as server:
        modules = loaded_by("import nats_sync" + USE.replace("URL", repr(server.url)))
    assert modules & NEVER == set()
    assert modules >= NOT_BEFORE_A_CONNECTION
    assert of_jetstream(modules) == of_services(modules) == of_both(modules) == set()


def test_jetstream_loads_no_more_than_itself() -> None:
    """The table of error codes neither, since an enumeration of its size takes long."""
    with LocalServer(jetstream=True) as server:
        modules = loaded_by("import nats_sync" + USE_JETSTREAM.replace("URL", repr(server.url)))
    assert modules & NEVER == set()
    assert of_jetstream(modules)
    assert of_services(modules) == set()
    assert "nats_proto._jetstream.error_codes" not in modules
    # Each with its machine; what programs use that write in batches or count.
    assert not {name for name in modules if name.endswith((".atomic_batch", ".fast_ingest", ".counter"))}


def test_services_load_no_more_than_themselves() -> None:
    """Nothing of JetStream, although both have values that are JSON."""
    with LocalServer() as server:
        modules = loaded_by("import nats_sync" + USE_SERVICES.replace("URL", repr(server.url)))
    assert modules & NEVER == set()
    assert of_services(modules)
    assert of_both(modules)
    assert of_jetstream(modules) == set()


def test_every_public_name_is_there_at_once() -> None:
    assert {name for name in nats_sync.__all__ if name not in vars(nats_sync)} == set()
