"""Three servers with replicated streams, and what is done to them: leaders are killed, frozen, made to step down.

Who leads is read from the servers' monitoring, so that no client under test is asked. A cluster starts in some tenths
of a second. The loss of a leader that is killed costs an election of four to nine seconds, which no option of a server
shortens; a leader that steps down is followed at once.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import anyio

import nats_sync
from nats_proto.errors import ConnectionLostError, NATSTimeoutError, NoRespondersError
from nats_proto.jetstream import ApiError, ClusterUnavailableError, JetStreamNotEnabledError
from nats_sync.testing import LocalCluster, LocalServer
from tests.server_version import server_version

__all__ = ["ELECTION", "PATIENT", "STRICT", "Replicas", "answer_to", "api", "patiently"]

T = TypeVar("T")

STRICT: Final[dict[str, object]] = {"strict": True} if server_version() >= (2, 11) else {}
"""The settings of JetStream in all servers of these tests: what they do not know in a request, they refuse."""
PATIENT: Final[dict[str, Any]] = {"connect_timeout": 10.0}
"""What every client of these tests is connected with: the two seconds of a user are less than a machine with too much
to do may stand still."""
ELECTION: Final = 60.0
"""Seconds until an election is given up. It takes up to ten, and more when it has to be repeated."""
TRY: Final = 10.0
"""Seconds for each try of a call: between two leaders it may vanish."""
POLL: Final = 0.01
UNAVAILABLE: Final = 10008
"""The error of servers that have no leader of JetStream at the moment."""
NO_PEERS: Final = 10005
"""The error of a server that finds too few others for the replicas of a stream."""


class Replicas:
    """The cluster with what is done to it. ``options`` are those that a client needs to connect.

    Its methods block, so tests of tasks call them with `in_thread`. They are for one caller at a time; only the loop of
    `stepping_down` runs beside.
    """

    def __init__(self, cluster: LocalCluster, options: Mapping[str, Any]) -> None:
        self.cluster = cluster
        self.urls = cluster.urls
        self.frozen: set[LocalServer] = set()
        self.options = dict(options)

    @property
    def answering(self) -> list[LocalServer]:
        """The servers that are neither down nor frozen."""
        return [server for server in self.cluster.servers if server.running and server not in self.frozen]

    def api(self, call: str, body: object = None, *, each: float = TRY) -> dict[str, Any]:
        """Ask ``$JS.API.<call>``: the answer. Nothing of JetStream in the clients is used."""
        return api([server.url for server in self.answering], call, body, each=each, **self.options)

    def create_stream(self, name: str, *subjects: str, replicas: int = 3, **config: object) -> None:
        """A stream, and wait until its leader is known."""
        told = {"name": name, "subjects": subjects, "num_replicas": replicas, "storage": "file", **config}
        deadline = time.monotonic() + ELECTION
        # A leader of JetStream that is new may take the others for absent a moment longer.
        while "error" in (answer := self.api(f"STREAM.CREATE.{name}", told)):
            assert answer["error"]["err_code"] == NO_PEERS, answer
            assert time.monotonic() < deadline, answer
            time.sleep(POLL)
        self.leader_of(name)

    # --- who leads ---------------------------------------------------------------------------------------------------

    def leader_of(self, stream: str, consumer: str | None = None) -> LocalServer:
        """The server that leads a stream or a consumer, once there is one and the others that answer say the same."""
        what = f"leader of {stream}" if consumer is None else f"leader of {consumer} on {stream}"
        return _poll(lambda: self._leader_of(stream, consumer), what)

    def _leader_of(self, stream: str, consumer: str | None) -> LocalServer | None:
        named: set[object] = set()
        for server in self.answering:
            found = _details(server, stream, consumer)
            if found is not None:
                named.add(found.get("cluster", {}).get("leader"))
        for server in self.answering:
            if named == {server.name}:
                return server
        return None

    def followers_of(self, stream: str, consumer: str | None = None) -> list[LocalServer]:
        """The servers that answer and do not lead."""
        leader = self.leader_of(stream, consumer)
        return [server for server in self.answering if server is not leader]

    # --- faults ------------------------------------------------------------------------------------------------------

    def kill_leader(self, stream: str, consumer: str | None = None) -> LocalServer:
        """``kill -9`` of the leader: the server, to be started again."""
        leader = self.leader_of(stream, consumer)
        leader.kill()
        return leader

    def freeze(self, *servers: LocalServer) -> None:
        """SIGSTOP: the kernel still takes what they are sent."""
        for server in servers:
            self.frozen.add(server)
            server.pause()

    def thaw(self) -> None:
        """SIGCONT to all that are frozen."""
        for server in tuple(self.frozen):
            server.resume()
            self.frozen.discard(server)

    @contextlib.contextmanager
    def frozen_majority(self, stream: str) -> Iterator[LocalServer]:
        """Two of three do not answer, the leader among them: the one that is left has no quorum."""
        leader = self.leader_of(stream)
        left, other = (server for server in self.answering if server is not leader)
        self.freeze(leader, other)
        try:
            yield left
        finally:
            self.thaw()

    def step_down(self, stream: str, consumer: str | None = None) -> None:
        """The leader gives the lead away, in order. It may answer that there is none at the moment.

        Who has not answered in time may have done so all the same, and then the next leader steps down as well.
        """
        call = f"STREAM.LEADER.STEPDOWN.{stream}"
        self.api(call if consumer is None else f"CONSUMER.LEADER.STEPDOWN.{stream}.{consumer}", each=1.0)

    @contextlib.contextmanager
    def stepping_down(self, stream: str, consumer: str | None = None, *, every: float = 2.0) -> Iterator[list[float]]:
        """Meanwhile the leader steps down every so many seconds; the list has the times when it did."""
        over = threading.Event()
        done: list[float] = []

        def run() -> None:
            while not over.wait(every):
                self.step_down(stream, consumer)
                done.append(time.monotonic())

        thread = threading.Thread(target=run, name="step-down")
        thread.start()
        try:
            yield done
        finally:
            over.set()
            thread.join()

    def heal(self) -> None:
        """All servers run, and JetStream has a leader that has heard from all of them."""
        self.thaw()
        for server in self.cluster.servers:
            server.start()
        self.cluster.wait_until_formed(ELECTION)
        self.cluster.wait_for_leader(ELECTION)

    def wait_until_current(self, stream: str) -> None:
        """Wait until every replica of a stream has all of it."""
        _poll(lambda: self._is_current(stream), f"{stream} is the same everywhere")

    def _is_current(self, stream: str) -> bool:
        leader = self._leader_of(stream, None)
        found = None if leader is None else _details(leader, stream, None)
        if found is None:
            return False
        # Only the leader knows who is behind.
        heard = {replica["name"] for replica in found["cluster"]["replicas"] if replica["current"]}
        told = [one for server in self.answering if (one := _details(server, stream, None)) is not None]
        states = {(one["state"]["messages"], one["state"]["last_seq"]) for one in told}
        return len(states) == 1 and len(heard) == len(told) - 1


def api(
    servers: str | list[str], call: str, body: object = None, *, each: float = TRY, **options: Any
) -> dict[str, Any]:
    """Ask ``$JS.API.<call>`` of JetStream on a connection of its own: the answer.

    Between two leaders a request vanishes, or nobody is responsible: then it is asked again, for ``each`` seconds.
    """
    with nats_sync.connect(servers, **{**PATIENT, **options}) as nc:
        return answer_to(nc, call, body, each=each)


def answer_to(nc: nats_sync.Client, call: str, body: object = None, *, each: float = TRY) -> dict[str, Any]:
    """The same on a connection that is there."""
    data = b"" if body is None else json.dumps(body).encode()
    deadline = time.monotonic() + ELECTION
    while True:
        try:
            answer: dict[str, Any] = json.loads(nc.request(f"$JS.API.{call}", data, timeout=each).data)
        except (NATSTimeoutError, NoRespondersError, ConnectionLostError):
            if time.monotonic() > deadline:
                raise
        else:
            if answer.get("error", {}).get("err_code") != UNAVAILABLE or time.monotonic() > deadline:
                return answer
        time.sleep(POLL)


async def patiently(call: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
    """What a client asks of a cluster, asked again while nobody leads, or while servers are taken for absent.

    So it may be for a moment when the cluster has just formed or the machine stood still. It must be something that may
    be done twice.
    """
    with anyio.fail_after(ELECTION):
        while True:
            try:
                return await call(*args, **options, timeout=5.0)
            except (ClusterUnavailableError, JetStreamNotEnabledError):
                pass
            except (NATSTimeoutError, NoRespondersError, ConnectionLostError):
                pass
            except ApiError as error:
                if error.err_code != NO_PEERS:
                    raise
            await anyio.sleep(POLL)


def _poll(look: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + ELECTION
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain for {ELECTION:g} s: {what}")
        time.sleep(POLL)
    return found


def _details(server: LocalServer, stream: str, consumer: str | None) -> dict[str, Any] | None:
    """What a server says of a stream or consumer that it has a replica of."""
    told: Any = server.jsz(streams=1, consumers=int(consumer is not None))
    for account in told.get("account_details") or ():
        for one in account.get("stream_detail") or ():
            if one["name"] == stream:
                found: list[dict[str, Any]] = [one] if consumer is None else one.get("consumer_detail") or []
                return next((each for each in found if consumer in (None, each["name"])), None)
    return None
