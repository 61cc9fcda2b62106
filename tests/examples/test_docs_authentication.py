"""What the page on authentication shows is run as it stands there, against servers that want it."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import nats_sync
from nats_proto import errors
from nats_sync.testing import LocalServer
from tests.operator_mode import OperatorMode, User

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "authentication.md").read_text()
PASSWORD, NKEY, CREDS, PROVIDER, AUTH, REFUSED, EXPIRY = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ACCOUNTS = {"password": {"authorization": {"users": [{"user": "me", "password": "p@ss/word"}], "timeout": 30}}}


@pytest.fixture
def world() -> OperatorMode:
    return OperatorMode()


@pytest.fixture
def alice(world: OperatorMode, tmp_path: Path) -> User:
    """A user with all her files."""
    user = world.user("alice")
    for name, content in (("alice.creds", user.creds), ("alice.nk", user.seed), ("alice.jwt", user.jwt)):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    return user


@contextmanager
def answering(config: dict[str, object], **options: object) -> Iterator[LocalServer]:
    """A server, and somebody who answers."""
    with LocalServer(config) as server, nats_sync.connect(server.url, **options) as client:  # type: ignore[arg-type]
        client.subscribe("whoami", callback=lambda msg: msg.respond(b"known"))
        client.flush()
        yield server


def run(code: str, server: LocalServer, folder: Path, *, logged: str = "") -> str:
    """What it prints; in a folder that is also its home, warnings as errors. ``logged`` is in what it logs."""
    code = code.replace("127.0.0.1:4222", f"127.0.0.1:{server.port}")
    command = [sys.executable, "-W", "error", "-c", code]
    home = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder, env=home)
    assert (done.returncode, bool(done.stderr)) == (0, bool(logged)), done.stderr
    assert logged in done.stderr
    return done.stdout


def test_user_and_password(tmp_path: Path) -> None:
    with answering(ACCOUNTS["password"], user="me", password="p@ss/word") as server:
        assert run(PASSWORD, server, tmp_path) == "b'known'\n" * 2
        assert run(REFUSED, server, tmp_path, logged="said: Authorization Violation") == "AuthorizationError True\n"


def test_nkey(alice: User, tmp_path: Path) -> None:
    config: dict[str, object] = {"authorization": {"users": [{"nkey": alice.public_key}], "timeout": 30}}
    with answering(config, nkey_seed=alice.seed) as server:
        assert run(NKEY, server, tmp_path) == "b'known'\n"


@pytest.mark.parametrize("code", [CREDS, PROVIDER, AUTH], ids=["creds", "provider", "auth"])
def test_jwt(code: str, world: OperatorMode, alice: User, tmp_path: Path) -> None:
    with answering(world.config(), credentials=alice.creds) as server:
        assert run(code, server, tmp_path) == "b'known'\n"
        if code is PROVIDER:
            on_trio = code.replace("anyio.run(main)", 'anyio.run(main, backend="trio")')
            assert run(on_trio, server, tmp_path) == "b'known'\n"


@pytest.mark.long
def test_a_jwt_that_runs_out(world: OperatorMode, alice: User, tmp_path: Path) -> None:
    """The file is replaced in time, as those do who hand out short ones."""
    path = tmp_path / "short.creds"
    short = world.user("short", expires_in=6)  # time for a busy machine to start the program
    path.write_text(short.creds)
    path.chmod(0o600)
    with answering(world.config(), credentials=alice.creds) as server:
        code = EXPIRY.replace("127.0.0.1:4222", f"127.0.0.1:{server.port}")
        with (
            subprocess.Popen(
                [sys.executable, "-u", "-c", code],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as running,
            ExitStack() as stack,
        ):
            stack.callback(running.kill)
            wait_for_user(server, short)
            path.write_text(world.user("renewed", key=short.key).creds)
            assert running.stdout is not None
            assert running.stdout.readline() == "AuthenticationExpiredError False\n"
            assert running.stdout.readline() == "connected again\n"
            with nats_sync.connect(server.url, credentials=alice.creds) as client:
                while running.poll() is None:
                    client.publish("done")
                    time.sleep(0.05)
            assert running.returncode == 0


def wait_for_user(server: LocalServer, user: User) -> None:
    deadline = time.monotonic() + 30
    while user.public_key not in str(server.connz(auth=1)):
        assert time.monotonic() < deadline, "it did not connect"
        time.sleep(0.01)


def test_everything_named_exists() -> None:
    paths, names = re.findall(r"tests/[\w./]+", PAGE), re.findall(r"`(\w+Error)`", PAGE)
    assert paths
    for path in paths:
        assert (ROOT / path.rstrip(".")).exists(), path
    assert names
    for name in names:
        assert hasattr(errors, name), name
    fields = {field.name for field in dataclasses.fields(nats_sync.ConnectOptions)}
    assert {"user", "password", "token", "nkey_seed", "credentials", "auth", "tls", "retry_auth_errors"} <= fields
