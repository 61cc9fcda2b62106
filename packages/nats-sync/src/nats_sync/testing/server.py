"""One nats-server process of `nats_sync.testing`: its configuration, its life, what its monitoring says."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlencode, urlsplit

from .config import Config, ServerTLS, patient, write_config
from .process import LOOPBACK, LocalServerError, ServerProcess, find_server, reserve_port

__all__ = ["POLL_INTERVAL", "JetStreamChoice", "LocalServer", "WebSocketChoice"]

WebSocketChoice = bool | Literal["compressed"]
JetStreamChoice = bool | Mapping[str, object]

POLL_INTERVAL = 0.001  # seconds between two looks at a state that is waited for
LOG_TAIL = 2000  # characters of the log shown in an error
RELOADED = "Reloaded server configuration"
RELOAD_FAILED = "Failed to reload server configuration"
LAME_DUCK = "Entering lame duck mode"

_servers: weakref.WeakSet[LocalServer] = weakref.WeakSet()


class LocalServer:
    """One nats-server on loopback, as a context manager. For one owner: its methods are not meant to be called at once.

    ``config`` is the text of a configuration file, or a mapping that is written as one (JSON is valid there). What is
    said here instead (listeners, server name, cluster, monitoring) is set around it, and so survives a reload;
    ``include`` works with absolute paths. ``args`` go to the command line as they are. ``port`` 0 takes a free one and
    keeps it reserved until `close`, across `kill`, `stop`, `start` and `restart`.

    ``tls`` makes all clients use TLS. ``websocket`` opens a second port for WebSocket clients (`websocket_url`), with
    TLS when there is ``tls``; "compressed" lets them ask for compression.

    ``cluster_name`` makes it join a cluster, with ``routes`` (`route_url` of other servers) as the first to dial.
    ``jetstream`` is True for a private store that survives restarts and ends with `close`, or the folder to store in,
    or the settings of the ``jetstream`` block (``{"domain": "hub"}``), to which the private store is added.
    ``monitoring`` is needed for `varz`, `connz`, `routez`, `jsz` and `healthz`. ``debug`` and ``trace`` fill the log.
    ``timeout`` (seconds) limits each wait: for readiness, reload, or exit.

    `LocalServerError` is raised for whatever does not work, with the end of the server's log in the text.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        port: int = 0,
        name: str | None = None,
        args: Sequence[str] = (),
        tls: ServerTLS | None = None,
        websocket: WebSocketChoice = False,
        cluster_name: str | None = None,
        routes: Sequence[str] = (),
        jetstream: JetStreamChoice | str | os.PathLike[str] = False,
        monitoring: bool = True,
        debug: bool = False,
        trace: bool = False,
        timeout: float = 30.0,
    ) -> None:
        if websocket not in (True, False, "compressed"):
            raise ValueError(f'websocket must be True, False or "compressed", not {websocket!r}')
        self._binary = find_server()
        self._args = [*args, *(["-D"] if debug else []), *(["-V"] if trace else [])]
        self._config = config
        self._tls = tls
        self._websocket = websocket
        self._cluster_name = cluster_name
        self.routes: list[str] = list(routes)
        self._jetstream = jetstream
        self._monitoring = monitoring
        self._timeout = timeout
        self._closed = False
        self._final_log = ""
        self._monitor: tuple[str, int] | None = None
        self._reserved: list[socket.socket] = []
        self._port = port or self._reserve()
        self._websocket_port = self._reserve() if websocket else 0
        self._cluster_port = self._reserve() if cluster_name is not None else 0
        self.name = name or f"local-{self._port}"
        self._directory = Path(tempfile.mkdtemp(prefix="nats-server-"))
        self._process = ServerProcess()
        self._finalizer = weakref.finalize(self, _clean_up, self._process, self._directory, self._reserved, os.getpid())
        _servers.add(self)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "closed" if self._closed else "stopped"
        return f"<LocalServer {self.name} {self.url} {state}>"

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where clients connect: ``nats://127.0.0.1:<port>``, or ``tls://…``. The same for the object's whole life."""
        return f"{'nats' if self._tls is None else 'tls'}://{LOOPBACK}:{self._port}"

    @property
    def websocket_url(self) -> str:
        """Where WebSocket clients connect: ``ws://127.0.0.1:<port>``, or ``wss://…``. As constant as `url`."""
        if not self._websocket:
            raise LocalServerError(f"{self.name} has no WebSocket listener: make it with websocket=True")
        return f"{'ws' if self._tls is None else 'wss'}://{LOOPBACK}:{self._websocket_port}"

    @property
    def route_url(self) -> str:
        """Where other servers of the cluster connect."""
        if self._cluster_name is None:
            raise LocalServerError(f"{self.name} is in no cluster: give it a cluster_name")
        return f"nats://{LOOPBACK}:{self._cluster_port}"

    @property
    def port(self) -> int:
        """The port for clients."""
        return self._port

    @property
    def pid(self) -> int:
        """The process' id. Raises `LocalServerError` when none runs."""
        pid = self._process.pid
        if pid is None:
            raise LocalServerError(f"{self.name} is not running")
        return pid

    @property
    def running(self) -> bool:
        """Whether the process is there; also True while it is paused."""
        return self._process.pid is not None

    def log(self) -> str:
        """All the server has logged, over all its starts; still there after `close`."""
        if self._closed:
            return self._final_log
        with contextlib.suppress(FileNotFoundError):
            return self._log_file.read_text(encoding="utf-8", errors="replace")
        return ""

    # --- life cycle --------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it, on the port it had before, and wait until it takes clients. Does nothing when it runs."""
        if self._closed:
            raise LocalServerError(f"{self.name} was closed; make a new one")
        if self.running:
            return self
        self._write_config()
        self._spawn()
        self._wait_until(self._is_ready, "readiness")
        return self

    def stop(self) -> None:
        """Ask it to end (SIGTERM), wait until it has, insist (SIGKILL) at the time limit. Harmless when it is down."""
        self._process.end(timeout=self._timeout)

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does, and wait until it is gone. Harmless when it is down."""
        self._process.end(timeout=None)

    def restart(self) -> None:
        """`kill` and `start`: the same port, configuration and store."""
        self.kill()
        self.start()

    def close(self) -> None:
        """Stop it and remove its files and its port's reservation. It cannot be started again."""
        if not self._closed:
            self.stop()
            self._final_log = self.log()
            self._closed = True
            self._finalizer()

    def pause(self) -> None:
        """Freeze it (SIGSTOP), and wait until it is: the kernel still acknowledges what it is sent, nothing answers."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        # `kill` returns before the process has stopped, and until then the server may still answer.
        os.waitpid(pid, os.WUNTRACED)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    def reload(self, config: Config | None = None) -> None:
        """Apply ``config``, or the present one once more, without a restart, and wait until the server says it did.

        Raises `LocalServerError` when the server refuses it; it then runs on with what it had.
        """
        if config is not None:
            self._config = config
        self._write_config()
        # Before the signal: the log of earlier reloads says the same words.
        seen = len(self.log())
        self._signal(signal.SIGHUP)
        self._wait_until(
            lambda: RELOADED in self.log()[seen:] or RELOAD_FAILED in self.log()[seen:], "the end of the reload"
        )
        if RELOAD_FAILED in self.log()[seen:]:
            raise self._error("refused the new configuration")

    def lame_duck(self) -> None:
        """Tell it to send its clients away and end (SIGUSR2), and wait until it has begun to.

        How long it takes is the server's ``lame_duck_duration`` (at least 30 s) and ``lame_duck_grace_period``; without
        clients it ends at once.
        """
        seen = len(self.log())
        self._signal(signal.SIGUSR2)
        self.wait_for_log(LAME_DUCK, start=seen)

    def wait_for_log(self, text: str, *, start: int = 0) -> None:
        """Wait until ``text`` stands in the log, at or behind character ``start``."""
        self._wait_until(lambda: text in self.log()[start:], f"{text!r} in its log", may_end=True)

    def wait_until_ended(self) -> None:
        """Wait until the process has ended by itself, as it does at the end of a lame duck's duration."""
        self._wait_until(lambda: not self.running, "its end", may_end=True)

    # --- monitoring --------------------------------------------------------------------------------------------------

    def varz(self) -> dict[str, object]:
        """General state, as served at ``/varz``."""
        return self._read("/varz")

    def connz(self, **options: str | int) -> dict[str, object]:
        """Connections, as served at ``/connz``; ``options`` are its parameters: ``state="closed"``, ``subs=1``, …"""
        return self._read("/connz", **options)

    def routez(self) -> dict[str, object]:
        """Connections to other servers, as served at ``/routez``."""
        return self._read("/routez")

    def jsz(self, **options: str | int) -> dict[str, object]:
        """JetStream, as served at ``/jsz``: ``streams=1``, ``consumers=1``, ``accounts=1``, … say what else to tell."""
        return self._read("/jsz", **options)

    def healthz(self) -> dict[str, object]:
        """``{"status": "ok"}`` when all is well, as served at ``/healthz``."""
        return self._read("/healthz")

    def _read(self, path: str, **options: str | int) -> dict[str, object]:
        if self._monitor is None or not self.running:
            raise LocalServerError(f"{self.name} has no monitoring: it is not running, or was made without")
        connection = http.client.HTTPConnection(*self._monitor, timeout=self._timeout)
        try:
            connection.request("GET", f"{path}?{urlencode(options)}")
            content: dict[str, object] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._error(f"did not answer {path}: {error}") from error
        finally:
            connection.close()
        return content

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _log_file(self) -> Path:
        return self._directory / "server.log"

    def _reserve(self) -> int:
        reserved = reserve_port()
        self._reserved.append(reserved)
        port: int = reserved.getsockname()[1]
        return port

    def _write_config(self) -> None:
        before: dict[str, object] = {"server_name": self.name, "authorization": patient(None)}
        if self._cluster_name is not None:
            listen = f"{LOOPBACK}:{self._cluster_port}"
            before["cluster"] = {"name": self._cluster_name, "listen": listen, "routes": self.routes}
        if self._jetstream is not False:
            before["jetstream"] = self._jetstream_block()
        after: dict[str, object] = {"listen": f"{LOOPBACK}:{self._port}"}
        if self._tls is not None:
            after["tls"] = self._tls.settings()
        if self._websocket:
            tls = {"no_tls": True} if self._tls is None else {"tls": self._tls.settings()}
            listen = f"{LOOPBACK}:{self._websocket_port}"
            after["websocket"] = {"listen": listen, "compression": self._websocket == "compressed", **tls}
        if self._monitoring:
            # The server chooses the port, and tells it in its file of ports, where `_is_ready` finds it.
            after["http"] = f"{LOOPBACK}:-1"
        self._config_file = write_config(self._directory, self._config, before=before, after=after)

    def _jetstream_block(self) -> dict[str, object]:
        given = self._jetstream
        private = os.fspath(self._directory / "store")
        if isinstance(given, Mapping):
            return {"store_dir": private, **given}
        return {"store_dir": private if isinstance(given, bool) else os.fspath(given)}

    def _spawn(self) -> None:
        self._monitor = None
        # The file of an earlier start would be taken for a sign that this one is ready.
        for stale in self._directory.glob("*.ports"):
            stale.unlink()
        log = os.fspath(self._log_file)
        config = os.fspath(self._config_file)
        command = [self._binary, "-c", config, "-l", log, "--ports_file_dir", os.fspath(self._directory), *self._args]
        with self._log_file.open("ab") as output:  # a panic does not go to the log by itself
            self._process.begin(command, output)

    def _is_ready(self) -> bool:
        """The server writes the file of its ports when all its listeners are open."""
        for ports in self._directory.glob("*.ports"):
            try:
                found: dict[str, list[str]] = json.loads(ports.read_bytes())
            except (OSError, ValueError):  # seen half written
                return False
            for url in found.get("monitoring", ()):
                parts = urlsplit(url)
                self._monitor = (parts.hostname or LOOPBACK, parts.port or 0)
            return True
        return False

    def _signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def _wait_until(self, condition: Callable[[], bool], wanted: str, *, may_end: bool = False) -> None:
        deadline = time.monotonic() + self._timeout
        while not condition():
            if not may_end and not self.running:
                raise self._error(f"ended, instead of {wanted}")
            if time.monotonic() > deadline:
                raise self._error(f"was waited for in vain, {self._timeout:g} s for {wanted}")
            time.sleep(POLL_INTERVAL)

    def _error(self, what: str) -> LocalServerError:
        return LocalServerError(f"{self.name} ({self._binary}) {what}; its log ends:\n{self.log()[-LOG_TAIL:]}")


def _clean_up(process: ServerProcess, directory: Path, reserved: list[socket.socket], owner: int) -> None:
    process.end(timeout=None)
    for sock in reserved:
        sock.close()
    if os.getpid() == owner:  # a forked child leaves the files of its parent alone
        shutil.rmtree(directory, ignore_errors=True)
