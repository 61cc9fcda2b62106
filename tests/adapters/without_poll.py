"""A pytest plugin: from here on this system has no ``poll``, ``epoll`` and the like, as on Windows or under eventlet.

``python -m pytest -p tests.adapters.without_poll -k threads ...``. What needs them for itself and is no part of the
client under test (asyncio's loop, the starting of servers, the import of trio) gets what is left, or was loaded before.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import selectors
import socket
import subprocess
import sys

import pytest

for _name in ("asyncio", "multiprocessing", "random", "trio", "anyio", "hypothesis"):
    importlib.import_module(_name)


class _Missing:
    """An attribute of a built-in type, which cannot be deleted."""

    def __get__(self, instance: object, owner: type) -> object:
        raise AttributeError("not on this system")


def _socketpair(*_: object) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets by way of TCP, as on Windows."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        one = socket.socket()
        one.connect(listener.getsockname())
        other, _address = listener.accept()
    return one, other


assert "nats_sync" not in sys.modules

for _holder, _names in {
    select: ("poll", "epoll", "kqueue", "devpoll", "POLLIN", "POLLOUT", "EPOLLIN", "EPOLLEXCLUSIVE"),
    selectors: ("PollSelector", "EpollSelector", "KqueueSelector", "DevpollSelector"),
    os: ("set_blocking", "register_at_fork"),
    socket: ("AF_UNIX",),
}.items():
    for _name in _names:
        with contextlib.suppress(AttributeError):
            delattr(_holder, _name)
selectors.DefaultSelector = selectors.SelectSelector  # type: ignore[misc]
subprocess._PopenSelector = selectors.SelectSelector  # type: ignore[attr-defined]
socket.socket.sendmsg = _Missing()  # type: ignore[assignment,method-assign]
socket.socketpair = _socketpair  # type: ignore[assignment]
assert not hasattr(socket.socket, "sendmsg")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the client under test has really used."""
    from nats_sync._engine import transport as _transport
    from nats_sync._engine import wakeup as _wakeup
    from nats_sync._engine.polling import SelectorPoll, new_poll

    used = isinstance(new_poll(), SelectorPoll) and not _transport.GATHERS and not _wakeup.PIPES
    terminalreporter.line(f"without poll: {used}")
