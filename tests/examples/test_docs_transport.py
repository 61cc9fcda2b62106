"""What the pages on TLS and on WebSocket show is run as it stands there, with other ports, where the files are."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

import nats_sync
from nats_sync.testing import LocalServer
from nats_sync.testing.process import LOOPBACK, reserve_port
from tests.faults.http_proxy import HTTPProxy

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def run(code: str, folder: Path) -> str:
    """What it prints; in a folder, warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, a server's and a client's certificate."""
    folder = tmp_path_factory.mktemp("files")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name, certificate in (("server", authority.issue_cert("localhost")), ("client", authority.issue_cert("me"))):
        certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        certificate.private_key_pem.write_to_path(folder / f"{name}-key.pem")
    return folder


def tls_config(files: Path) -> dict[str, object]:
    return {
        "cert_file": str(files / "server.pem"),
        "key_file": str(files / "server-key.pem"),
        "ca_file": str(files / "ca.pem"),
    }


@pytest.fixture(params=[False, True], ids=["server", "mutual"])
def tls_port(request: pytest.FixtureRequest, files: Path) -> Iterator[int]:
    """Of a server with TLS, maybe one that wants a client's certificate, and somebody who answers."""
    mutual: bool = request.param
    with LocalServer({"tls": {**tls_config(files), "verify": mutual}}) as server:
        context = ssl.create_default_context(cafile=str(files / "ca.pem"))
        context.load_cert_chain(files / "client.pem", files / "client-key.pem")
        with nats_sync.connect(f"tls://localhost:{server.port}", tls=context) as client:
            client.subscribe("echo", callback=lambda msg: msg.respond(msg.data) if msg.reply else None)
            client.flush()
            yield server.port


@pytest.fixture
def websocket_port() -> Iterator[int]:
    """Of a server with WebSocket, and somebody who answers."""
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        config = {"websocket": {"host": LOOPBACK, "port": port, "no_tls": True, "compression": True}}
        with LocalServer(config) as server, nats_sync.connect(server.url) as client:
            client.subscribe("echo", callback=lambda msg: msg.respond(msg.data))
            client.flush()
            yield port


def test_tls(tls_port: int, files: Path, request: pytest.FixtureRequest) -> None:
    threads, tasks, mutual = (code.replace("4222", str(tls_port)) for code in blocks("tls.md"))
    said = f"tls://localhost:{tls_port} b'hello'\n"
    if "server]" in request.node.name:
        assert run(threads, files) == said
        assert run(tasks, files) == said
        assert run(tasks.replace("run(main)", 'run(main, backend="trio")'), files) == said
    assert run(mutual, files) == "b'over the second connection'\n"


def test_websocket(websocket_port: int, tmp_path: Path) -> None:
    threads, tasks, proxied = (code.replace("8080", str(websocket_port)) for code in blocks("websocket.md"))
    assert run(threads, tmp_path) == "b'hello'\n"
    assert run(tasks, tmp_path) == "b'hello'\n"
    assert run(tasks.replace("run(main)", 'run(main, backend="trio")'), tmp_path) == "b'hello'\n"
    with HTTPProxy(credentials="me:secret") as proxy:
        assert run(proxied.replace("3128", str(proxy.port)), tmp_path) == "b'hello'\n"
        assert len(proxy.targets) == 1


def test_everything_named_exists() -> None:
    for page in ("tls.md", "websocket.md"):
        paths = re.findall(r"tests/[\w./]+", (DOCS / page).read_text())
        assert paths
        for path in paths:
            assert (DOCS.parent / path.rstrip(".")).exists(), path
