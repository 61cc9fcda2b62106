"""The leak fixture sees what it is there for."""

from __future__ import annotations

import socket
import threading

from nats_sync.testing import LocalServer
from tests.leaks import Snapshot


def test_nothing_left_is_no_leak() -> None:
    before = Snapshot.take()
    with LocalServer(), socket.socket():
        threading.Thread(target=lambda: None).start()
    assert before.leaks_until_gone() == []


def test_a_thread_that_ends_late_is_no_leak() -> None:
    before = Snapshot.take()
    told, ending = threading.Event(), threading.Event()

    def work() -> None:
        ending.set()
        told.wait()

    thread = threading.Thread(target=work)
    thread.start()
    ending.wait()
    assert len(before.leaks_until_gone(grace=0.0)) == 1
    told.set()
    assert before.leaks_until_gone() == []


def test_a_thread_is_shown_with_its_stack() -> None:
    before = Snapshot.take()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten")
    thread.start()
    leaks = before.leaks_until_gone(grace=0.0)
    release.set()
    thread.join()
    assert len(leaks) == 1
    assert "thread 'forgotten'" in leaks[0]
    assert "wait" in leaks[0]


def test_an_open_socket_is_a_leak_even_when_it_reuses_a_number() -> None:
    first = socket.socket()
    number = first.fileno()
    before = Snapshot.take()
    first.close()
    with socket.socket() as second:
        assert second.fileno() == number
        leaks = before.leaks_until_gone(grace=0.0)
    assert len(leaks) == 1
    assert leaks[0].startswith(f"fd {number}: socket:")


def test_a_running_server_is_a_leak() -> None:
    before = Snapshot.take()
    with LocalServer(name="left") as server:
        server.start()
        leaks = before.leaks_until_gone(grace=0.0)
    assert any("server <LocalServer left " in leak for leak in leaks)
