"""Programs that publish and end: what was published is written, or it is said how much was not; and none hangs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

import nats_sync
from nats_sync import Client
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE

BEGIN = """
import sys, threading, time
import nats_sync
nc = nats_sync.connect(sys.argv[1], reconnect_wait=60.0, ping_interval=0, pending_size=2**30)
"""
ONE = "nc.publish('a', b'last')\n"
MANY = "for _ in range(50): nc.publish('a', b'x' * 100_000)\nnc.publish('a', b'last')\n"

ENDS = {
    "the end of the script": ("", 0),
    "sys.exit": ("sys.exit(3)\n", 3),
    "an exception": ("raise ZeroDivisionError\n", 1),
    "a thread that goes on": (
        "threading.Thread(target=lambda: (time.sleep(0.1), nc.publish('a', b'last'))).start()\n",
        0,
    ),
    "a callback that hangs": (
        "nc.subscribe('h', callback=lambda _: time.sleep(600))\nnc.publish('h')\nnc.flush()\n",
        0,
    ),
    "a reader that waits": (
        "s = nc.subscribe('s')\nthreading.Thread(target=lambda: list(s), daemon=True).start()\n",
        0,
    ),
}
SAID = re.compile(r"^the interpreter ends and (\d+) published messages were not sent", re.MULTILINE)


def run(code: str, url: str) -> tuple[int, str]:
    """A program's end, and what it said. A minute is far more than any needs: it would be a hang."""
    command = [sys.executable, "-W", "error", "-c", BEGIN + code, url]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return ran.returncode, ran.stderr


@pytest.fixture
def listener(server: LocalServer) -> Iterator[Client]:
    with nats_sync.connect(server.url) as client:
        yield client


@pytest.mark.parametrize("publish", [ONE, MANY], ids=["one", "many"])
@pytest.mark.parametrize("end", list(ENDS))
def test_what_was_published_is_written_at_the_end(
    publish: str, end: str, server: LocalServer, listener: Client
) -> None:
    code, status = ENDS[end]
    with listener.subscribe("a") as sub:
        listener.flush()
        after = publish + code if "thread" not in end else code + publish
        ended, said = run(after, server.url)
        assert ended == status
        assert SAID.search(said) is None
        assert (said == "") == (status != 1)
        last = 2 if "thread" in end else 1
        while last:
            last -= sub.next(timeout=PATIENCE).data == b"last"


def test_the_log_says_how_much_was_not_written(server: LocalServer) -> None:
    """The server reads nothing any more: what the system has not taken is known, to the message."""
    code = f"import contextlib, os, signal\nos.kill({server.pid}, signal.SIGSTOP)\n" + (
        # What the thread is told at the end is not printed: it could come into the midst of the line looked for.
        "def fill():\n"
        "    with contextlib.suppress(nats_sync.errors.ConnectionClosedError):\n"
        "        for _ in range(2000): nc.publish('a', b'x' * 100_000)\n"
        "threading.Thread(target=fill, daemon=True).start()\n"
        "while nc._hub.session.writable: time.sleep(0.01)\n"
    )
    try:
        ended, said = run(code, server.url)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert ended == 0
    match = SAID.search(said)
    assert match is not None
    assert int(match[1]) > 0


def test_what_waits_for_a_connection_is_counted(server: LocalServer) -> None:
    code = (
        f"import os, signal\nos.kill({server.pid}, signal.SIGKILL)\n"
        "while nc.connected_url: time.sleep(0.01)\n"
        "for _ in range(7): nc.publish('a', b'x')\n"
    )
    ended, said = run(code, server.url)
    assert ended == 0
    match = SAID.search(said)
    assert match is not None
    assert match[1] == "7"


def test_all_clients_share_one_grace(server: LocalServer) -> None:
    code = (
        "import contextlib, os, signal\n"
        "others = [nats_sync.connect(sys.argv[1], ping_interval=0) for _ in range(20)]\n"
        f"os.kill({server.pid}, signal.SIGSTOP)\n"
        "def fill(each):\n"
        "    with contextlib.suppress(nats_sync.errors.ConnectionClosedError):\n"
        "        for _ in range(2000): each.publish('a', b'x' * 100_000)\n"
        "for each in others: threading.Thread(target=fill, args=(each,), daemon=True).start()\n"
        "while any(each._hub.session.writable for each in others): time.sleep(0.01)\n"
        "from nats_sync._engine import exit as _exit\n"
        # A clock that goes on only while the end waits, so that a slow machine changes nothing.
        "began, waits, sleep = time.monotonic(), [], time.sleep\n"
        "_exit.monotonic = lambda: began + sum(waits)\n"
        "_exit.sleep = lambda seconds: (waits.append(seconds), sleep(seconds))\n"
        "def timed(real=_exit._write_all):\n"
        "    real()\n    print(f'waited={sum(waits)}', file=sys.stderr)\n"
        "import atexit\natexit.unregister(_exit._write_all)\natexit.register(timed)\n"
    )
    try:
        ended, said = run(code, server.url)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert ended == 0
    assert SAID.search(said) is not None
    waited = re.search(r"waited=([\d.]+)", said)
    assert waited is not None
    assert float(waited[1]) == pytest.approx(0.5, abs=0.01)  # 10 when each had its own


def test_a_reconnect_delay_that_hangs_does_not_hold_up_the_end(server: LocalServer) -> None:
    code = (
        "import os, signal\nasked = threading.Event()\n"
        "hang = lambda _: (asked.set(), time.sleep(600))\n"
        "other = nats_sync.connect(sys.argv[1], reconnect_delay=hang)\n"
        f"os.kill({server.pid}, signal.SIGKILL)\nasked.wait()\nother.publish('a', b'x')\n"
    )
    ended, said = run(code, server.url)
    assert ended == 0
    match = SAID.search(said)
    assert match is not None
    assert match[1] == "1"


def test_a_client_that_was_closed_is_not_closed_again(server: LocalServer) -> None:
    ended, said = run("nc.publish('a')\nnc.close()\n", server.url)
    assert (ended, said) == (0, "")


def test_a_forked_child_leaves_its_parents_client_alone(server: LocalServer, listener: Client) -> None:
    code = (
        "import os\nnc.publish('a', b'before')\nnc.flush()\npid = os.fork()\nif not pid: sys.exit(4)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4\nnc.publish('a', b'last')\n"
    )
    with listener.subscribe("a") as sub:
        listener.flush()
        assert run(code, server.url) == (0, "")
        assert [sub.next(timeout=PATIENCE).data for _ in range(2)] == [b"before", b"last"]
