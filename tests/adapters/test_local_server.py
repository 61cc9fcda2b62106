"""`nats_sync.testing`: servers that start, stop, come back on their port, and never stay behind."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nats_sync.testing import LocalCluster, LocalServer, LocalServerError, find_server

PATIENCE = 10.0  # seconds until a state that is waited for is given up


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


def info_of(server: LocalServer) -> dict[str, object]:
    """What the server greets with, read by hand."""
    with connected(server) as (_, line):
        found: dict[str, object] = json.loads(line.removeprefix(b"INFO "))
        return found


def read_until(sock: socket.socket, text: bytes) -> bytes:
    """What is received up to ``text``, which comes before the end of the stream."""
    got = b""
    while text not in got:
        more = sock.recv(4096)
        assert more, got
        got += more
    return got


@contextlib.contextmanager
def connected(server: LocalServer) -> Iterator[tuple[socket.socket, bytes]]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock, sock.makefile("rb") as stream:
        yield sock, stream.readline()


def refused(server: LocalServer) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", server.port)) == errno.ECONNREFUSED


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie nobody reaps (it was given to a container's first process) has ended as well.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


# --- start and stop --------------------------------------------------------------------------------------------------


def test_starts_on_a_free_port_and_is_gone_after_the_block() -> None:
    with LocalServer() as server:
        assert server.running
        assert server.url == f"nats://127.0.0.1:{server.port}"
        assert info_of(server)["server_name"] == server.name
        pid = server.pid
    assert not server.running
    assert not is_alive(pid)
    assert refused(server)


def test_two_servers_have_two_ports() -> None:
    with LocalServer() as one, LocalServer() as two:
        assert one.port != two.port
        assert info_of(one)["server_id"] != info_of(two)["server_id"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_comes_back_on_its_port_as_another_process(server: LocalServer, end: str) -> None:
    port, pid = server.port, server.pid
    first = info_of(server)["server_id"]
    getattr(server, end)()
    assert not server.running
    assert not is_alive(pid)
    assert refused(server)
    server.start()
    assert server.port == port
    assert server.pid != pid
    assert info_of(server)["server_id"] != first


def test_restart_closes_the_connections_there_are(server: LocalServer) -> None:
    with connected(server) as (sock, _):
        server.restart()
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    assert info_of(server)["port"] == server.port


def test_the_port_is_not_given_away_while_the_server_is_down(server: LocalServer) -> None:
    server.kill()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", server.port))


def test_starting_twice_and_ending_twice_is_harmless(server: LocalServer) -> None:
    pid = server.pid
    assert server.start().pid == pid
    server.kill()
    server.kill()
    server.stop()
    server.close()
    server.close()


def test_a_closed_server_cannot_be_started() -> None:
    with LocalServer(name="done") as server:
        pass
    with pytest.raises(LocalServerError, match="done was closed"):
        server.start()
    with pytest.raises(LocalServerError, match="done is not running"):
        _ = server.pid


def test_a_given_port_is_used(free_port: int) -> None:
    with LocalServer(port=free_port) as server:
        assert server.port == free_port
        assert info_of(server)["port"] == free_port


def test_a_server_that_ends_at_the_start_says_why() -> None:
    with pytest.raises(LocalServerError, match="unknown_option") as caught, LocalServer("unknown_option: 1"):
        pass
    assert "ended" in str(caught.value)


def test_an_occupied_port_is_an_error_with_the_reason() -> None:
    with (
        LocalServer() as server,
        pytest.raises(LocalServerError, match="address already in use"),
        LocalServer(port=server.port),
    ):
        pass


def test_a_server_that_dies_by_itself_is_seen(server: LocalServer) -> None:
    os.kill(server.pid, signal.SIGKILL)
    server.wait_until_ended()
    assert not server.running
    server.start()
    assert server.running


# --- options ---------------------------------------------------------------------------------------------------------


def test_configuration_as_text_and_as_mapping() -> None:
    with LocalServer("max_payload: 1234\nauthorization { user: a, password: b }") as server:
        assert info_of(server)["max_payload"] == 1234
        assert info_of(server)["auth_required"] is True
    users = [{"user": "ä\"'$1", "password": "x"}]
    with LocalServer({"max_payload": 4321, "authorization": {"users": users}}) as server:
        assert info_of(server)["max_payload"] == 4321


def test_the_configuration_may_set_the_name_but_not_where_it_listens() -> None:
    config = {"server_name": "mine", "listen": "127.0.0.1:1", "http": "127.0.0.1:1"}
    with LocalServer(config) as server:
        info = info_of(server)
        assert (info["server_name"], info["port"]) == ("mine", server.port)
        assert server.healthz() == {"status": "ok"}


def test_name_arguments_and_debug() -> None:
    with LocalServer(name="n1", args=["--auth", "token"], debug=True, trace=True) as server:
        info = info_of(server)
        assert (info["server_name"], info["host"], info["auth_required"]) == ("n1", "127.0.0.1", True)
        assert "[DBG]" in server.log()


def test_jetstream_keeps_its_store_across_a_kill() -> None:
    with LocalServer(jetstream=True) as server:
        assert info_of(server)["jetstream"] is True
        store = store_of(server)
        server.restart()
        assert store_of(server) == store
        assert store.is_dir()
    assert not store.exists()


def test_jetstream_in_a_given_folder_is_left_there(tmp_path: Path) -> None:
    with LocalServer(jetstream=tmp_path) as server:
        assert tmp_path in store_of(server).parents
    assert (tmp_path / "jetstream").is_dir()


def store_of(server: LocalServer) -> Path:
    jetstream = server.varz()["jetstream"]
    assert isinstance(jetstream, dict)
    return Path(jetstream["config"]["store_dir"])


def test_monitoring(server: LocalServer) -> None:
    assert server.healthz() == {"status": "ok"}
    assert server.varz()["server_name"] == server.name
    with connected(server) as (sock, _):
        sock.sendall(b'CONNECT {"name":"by hand","verbose":false}\r\nSUB a.b 1\r\nPING\r\n')
        read_until(sock, b"PONG\r\n")
        connections = server.connz(subs=1)["connections"]
        assert isinstance(connections, list)
        assert [(one["name"], one["subscriptions_list"]) for one in connections] == [("by hand", ["a.b"])]


def test_monitoring_is_there_after_a_restart_and_not_without_a_server(server: LocalServer) -> None:
    server.restart()
    assert server.healthz() == {"status": "ok"}
    server.kill()
    with pytest.raises(LocalServerError, match="no monitoring"):
        server.varz()
    with LocalServer(monitoring=False) as without, pytest.raises(LocalServerError, match="no monitoring"):
        without.varz()


# --- signals ---------------------------------------------------------------------------------------------------------


def test_a_paused_server_takes_connections_and_says_nothing(server: LocalServer) -> None:
    server.pause()
    assert server.running
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        server.resume()
        sock.settimeout(PATIENCE)
        read_until(sock, b"INFO ")


def test_a_paused_server_can_be_stopped_and_paused_again(server: LocalServer) -> None:
    server.pause()
    server.resume()
    server.pause()
    pid = server.pid
    server.stop()
    assert not is_alive(pid)
    assert "Initiating Shutdown" in server.log()  # it went on, to end in good order


def test_reload_applies_a_configuration_and_keeps_connections(server: LocalServer) -> None:
    with connected(server) as (sock, _):
        sock.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        read_until(sock, b"PONG\r\n")
        server.reload({"max_payload": 2048})
        sock.sendall(b"PING\r\n")
        read_until(sock, b"PONG\r\n")
    assert info_of(server)["max_payload"] == 2048
    server.reload()
    server.restart()
    assert info_of(server)["max_payload"] == 2048


def test_a_refused_reload_raises_with_the_reason_and_the_server_runs_on(server: LocalServer) -> None:
    with pytest.raises(LocalServerError, match="unknown_option"):
        server.reload("unknown_option: 1")
    assert server.healthz() == {"status": "ok"}
    server.reload("max_payload: 99")
    assert info_of(server)["max_payload"] == 99


def test_reload_with_cluster_and_jetstream() -> None:
    with LocalCluster(2, name="c", jetstream=True) as cluster:
        cluster[0].reload("max_payload: 99")
        assert info_of(cluster[0])["max_payload"] == 99


def test_lame_duck_tells_its_clients_and_ends() -> None:
    with LocalServer({"lame_duck_duration": "30s", "lame_duck_grace_period": "1ms"}) as server:
        with connected(server) as (sock, _):
            sock.sendall(b'CONNECT {"protocol":1,"verbose":false}\r\nPING\r\n')
            read_until(sock, b"PONG\r\n")
            server.lame_duck()
            read_until(sock, b'"ldm":true')
        server.wait_until_ended()
        server.start()
        assert "ldm" not in info_of(server)


def test_waiting_for_what_never_comes_ends_with_the_log() -> None:
    with LocalServer() as server:
        server._timeout = 0.5  # not before it is up, which may take longer
        server.wait_for_log("Server is ready")
        with pytest.raises(LocalServerError, match=r"in vain(.|\n)*Server is ready"):
            server.wait_for_log("a text no server logs")


def test_the_log_is_there_after_the_end() -> None:
    with LocalServer() as server:
        server.restart()
    assert server.log().count("Server is ready") == 2


# --- cluster ---------------------------------------------------------------------------------------------------------


def test_a_cluster_tells_of_all_its_servers(cluster: LocalCluster) -> None:
    assert len(cluster) == len(set(cluster.urls)) == 3
    expected = {url.removeprefix("nats://") for url in cluster.urls}
    for number, server in enumerate(cluster.servers):
        info = info_of(server)
        assert (info["server_name"], info["cluster"]) == (f"local-{number}", "local")
        assert set(list_of(info["connect_urls"])) == expected


def list_of(value: object) -> list[str]:
    assert isinstance(value, list)
    return value


def test_a_cluster_forms_again_around_a_killed_server(cluster: LocalCluster) -> None:
    cluster[0].kill()
    cluster.wait_until_formed()
    assert len(list_of(info_of(cluster[1])["connect_urls"])) == 2
    cluster[0].start()
    cluster.wait_until_formed()
    assert len(list_of(info_of(cluster[1])["connect_urls"])) == 3


def test_a_cluster_that_was_down_as_a_whole_comes_back(cluster: LocalCluster) -> None:
    urls = cluster.urls
    for server in cluster.servers:
        server.kill()
    cluster.start()
    assert cluster.urls == urls
    assert len(list_of(info_of(cluster[2])["connect_urls"])) == 3


def test_a_cluster_carries_messages_between_its_servers(cluster: LocalCluster) -> None:
    with connected(cluster[0]) as (subscriber, _), connected(cluster[2]) as (publisher, _):
        subscriber.sendall(b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPING\r\n')
        read_until(subscriber, b"PONG\r\n")
        publisher.sendall(b'CONNECT {"verbose":false}\r\n')
        eventually(lambda: knows_subscription(cluster[2]))
        publisher.sendall(b"PUB a 2\r\nhi\r\n")
        read_until(subscriber, b"MSG a 1 2\r\nhi\r\n")


def knows_subscription(server: LocalServer) -> bool:
    routes = server._read("/routez", subs=1)["routes"]
    assert isinstance(routes, list)
    return any("a" in route.get("subscriptions_list", ()) for route in routes)


def test_a_cluster_that_does_not_form_is_an_error() -> None:
    cluster = LocalCluster(2)
    with cluster[0] as one, cluster[1] as two:
        two.stop()
        one.routes.clear()
        two.routes.clear()
        one.restart()
        two.start()
        with pytest.raises(LocalServerError, match="no route between all"):
            cluster.wait_until_formed(timeout=0.05)


def test_a_cluster_with_jetstream_is_up_when_it_can_place_replicated_streams() -> None:
    with LocalCluster(3, jetstream=True) as cluster:
        leader = cluster.wait_for_leader()
        others = [server for server in cluster.servers if server is not leader]
        create_with_three_replicas(others[0])
        leader.kill()
        successor = cluster.wait_for_leader()  # the two that are left are enough
        assert successor in others
        successor.kill()
        with pytest.raises(LocalServerError, match="no leader of all"):
            cluster.wait_for_leader(timeout=0.05)


def create_with_three_replicas(server: LocalServer) -> None:
    config = b'{"name":"S","subjects":["s"],"num_replicas":3}'
    with connected(server) as (sock, _):
        sock.sendall(b'CONNECT {"verbose":false}\r\nSUB a 1\r\n')
        sock.sendall(b"PUB $JS.API.STREAM.CREATE.S a %d\r\n%b\r\n" % (len(config), config))
        read_until(sock, b'"did_create":true')


@pytest.mark.parametrize("choice", ["mapping", "folder"])
def test_jetstream_with_settings_or_a_folder(choice: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    settings = {"domain": "hub", "max_memory_store": 1024}
    with LocalServer(jetstream=settings if choice == "mapping" else mine) as server:
        told = server.jsz()
        config = told["config"]
        assert isinstance(config, dict)
        if choice == "mapping":
            assert (config["domain"], config["max_memory"]) == ("hub", 1024)
            assert str(server._directory) in config["store_dir"]
        else:
            assert str(mine) in config["store_dir"]


def test_misuse_of_a_cluster() -> None:
    with pytest.raises(ValueError, match="at least one server"):
        LocalCluster(0)
    with LocalServer() as server, pytest.raises(LocalServerError, match="in no cluster"):
        _ = server.route_url


# --- the binary ------------------------------------------------------------------------------------------------------


def test_the_environment_names_the_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_SERVER", find_server())
    monkeypatch.setenv("PATH", "")
    with LocalServer() as server:
        assert server.running


def test_the_wheel_of_this_interpreter_is_found_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert Path(find_server()).name.startswith("nats-server")


def test_the_path_comes_before_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "nats-server"
    other.write_text("#!/bin/sh\nexit 3\n")
    other.chmod(0o755)
    monkeypatch.delenv("NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == str(other)
    with pytest.raises(LocalServerError, match="ended"), LocalServer():
        pass


def test_a_wrong_name_in_the_environment_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_SERVER", "/nonexistent/nats-server")
    with pytest.raises(LocalServerError, match="NATS_SERVER names"):
        LocalServer()


def test_without_a_binary_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nonexistent")
    with pytest.raises(LocalServerError, match=r"pip install 'nats-sync\[server\]'"):
        find_server()


# --- nothing stays behind --------------------------------------------------------------------------------------------


def test_a_forgotten_server_ends_with_its_object() -> None:
    server = LocalServer().start()
    pid = server.pid
    del server
    gc.collect()
    assert not is_alive(pid)


CHILD = """
import os, signal, sys
from nats_sync.testing import LocalServer
server = LocalServer().start()
print(server.pid, server._directory, flush=True)
{ending}
"""

ENDINGS = {
    "falls off the end": "",
    "exception": "raise RuntimeError",
    "KeyboardInterrupt": "os.kill(os.getpid(), signal.SIGINT); signal.pause()",
    "os._exit": "os._exit(3)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); signal.pause()",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL); signal.pause()",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_server_outlives_its_process(ending: str) -> None:
    code = CHILD.format(ending=ENDINGS[ending])
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    pid, directory = ran.stdout.split()
    eventually(lambda: not is_alive(int(pid)))
    if ending in ("falls off the end", "exception", "KeyboardInterrupt"):
        assert not Path(directory).exists()
    shutil.rmtree(directory, ignore_errors=True)  # who is killed cannot tidy up
    if ending == "falls off the end":
        assert (ran.returncode, ran.stderr) == (0, "")


def test_a_forked_child_leaves_its_parents_server_alone() -> None:
    fork = "\nif os.fork() == 0:\n    sys.exit(0)\nos.wait()\nprint(server.running, server._directory.exists())"
    command = [sys.executable, "-c", CHILD.format(ending=fork)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.split("\n")[-2] == "True True"
