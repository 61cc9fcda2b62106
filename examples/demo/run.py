"""Three nats-servers in a cluster, both clients at work, and one server after the other taken away under them.

    python examples/demo/run.py

Each client publishes a numbered stream, subscribes to both streams, answers requests and sends them to the other. Each
also stores numbered messages in a JetStream stream with three replicas, and handles all that is stored there by a
consumer of its own. The server each is connected to is killed (-9), the first of them while it leads the JetStream
stream; another becomes a lame duck; all are started again; 20 seconds in all.

At the end: what the clients say; what independent recorders on bare sockets saw of everything that was published while
a client had no connection; and what the JetStream stream has, asked for with plain requests. Exit status 1 if anything
that was buffered was lost, doubled or out of order; if anything that was acknowledged is not in the JetStream stream or
is there twice; if a client has left out a stored message, or has given one delivery twice.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs as a file, from anywhere

from examples.demo.clients import AsyncioClient, ThreadsClient
from examples.demo.ledger import judge, table
from examples.demo.recorder import Recorder
from examples.demo.streams import judge_stream, make_stream, stored_in
from examples.demo.timeline import Timeline
from nats_sync.testing import LocalCluster, LocalServer

PAUSE = 3.0
"""Seconds of calm between two faults; a killed server stays away for a second less."""
LENGTH = 20.0
"""Seconds in all."""
PATIENCE = 20.0
"""Seconds that are added at most, until both clients have handled what is in the stream. A leader that was killed last
is replaced after four to nine."""


class Stage:
    """The cluster, its witnesses, and the faults."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.servers = [cluster[index] for index in range(len(cluster))]
        self.names = {server.url: f"server {letter}" for server, letter in zip(self.servers, "ABC", strict=True)}
        self.timeline = Timeline(self.names)
        self.recorders = [Recorder(server.port) for server in self.servers]

    def server_of(self, url: str | None) -> LocalServer:
        return next((server for server in self.servers if server.url == url), self.servers[0])

    def kill(self, server: LocalServer, whose: str) -> None:
        self.timeline.say("servers", f"kill -9 {server.url}, where {whose} is connected")
        server.kill()

    def start(self, server: LocalServer) -> None:
        server.start()
        self.cluster.wait_until_formed()
        self.wait_for_recorders()
        self.timeline.say("servers", f"{server.url} is back")

    def wait_for_recorders(self) -> None:
        for recorder in self.recorders:
            if not recorder.recording.wait(10.0):
                raise RuntimeError("a recorder does not reach its server")


def play(stage: Stage, threads: ThreadsClient, on_asyncio: AsyncioClient) -> None:
    """The faults, one after the other."""
    time.sleep(PAUSE)
    for client in (threads, on_asyncio):
        victim = stage.server_of(client.connected_url)
        stage.kill(victim, client.ledger.name)
        time.sleep(PAUSE - 1.0)
        stage.start(victim)
        time.sleep(PAUSE - 1.0)
    duck = stage.server_of(threads.connected_url)
    stage.timeline.say("servers", f"lame duck signal to {duck.url}")
    duck.lame_duck()
    time.sleep(PAUSE)
    duck.kill()
    stage.timeline.say("servers", f"{duck.url} is gone")
    stage.start(duck)
    time.sleep(max(1.0, LENGTH - 0.5 - stage.timeline.now()))


def settle(stage: Stage, threads: ThreadsClient, on_asyncio: AsyncioClient) -> list[str]:
    """Wait until all that was published to the stream is acknowledged, and what is stored is handled. The latter."""
    threads.finish_storing()
    on_asyncio.finish_storing()
    stored = stored_in(stage.cluster.urls)
    deadline = time.monotonic() + PATIENCE
    while any(set(stored) - client.stored.handled.keys() for client in (threads, on_asyncio)):
        if time.monotonic() > deadline:
            break  # the table tells how many are left
        time.sleep(0.05)
    return stored


def main() -> int:
    """Run it; the exit status."""
    for name in ("nats_sync", "nats_anyio"):  # the time line shows what they would log
        logging.getLogger(name).addHandler(logging.NullHandler())
    stored: list[str] = []
    with LocalCluster(3, jetstream=True) as cluster:
        stage = Stage(cluster)
        for recorder in stage.recorders:
            recorder.start()
        try:
            stage.wait_for_recorders()
            urls = cluster.urls
            stage.timeline.say("servers", f"a cluster of three: {', '.join(urls)}")
            make_stream(urls, cluster[0].name, ("threads", "asyncio"))
            stage.timeline.say("servers", f"{urls[0]} leads a stream with a replica on each")
            threads = ThreadsClient(urls, "asyncio", stage.timeline)
            on_asyncio = AsyncioClient([*urls[1:], urls[0]], "threads", stage.timeline)
            threads.start()
            on_asyncio.start()
            try:
                play(stage, threads, on_asyncio)
                stored = settle(stage, threads, on_asyncio)
            finally:
                on_asyncio.stop()
                threads.stop()
            time.sleep(0.5)  # what is under way between the servers arrives
        finally:
            for recorder in stage.recorders:
                recorder.stop()
        clients = (threads, on_asyncio)
        rows = [(client.ledger, judge(client.ledger, stage.recorders)) for client in clients]
        streams = [(client.stored, judge_stream(client.stored, stored)) for client in clients]
    print()
    print(table(rows, streams))
    print()
    if not all(ledger.buffered for ledger, _ in rows):
        print("Nothing was published while a client was disconnected, so nothing was shown.")
        return 1
    if not all(verdict.good for _, verdict in rows):
        print("FAILED: see the three rows of what was buffered.")
        return 1
    if not all(verdict.good for _, verdict in streams):
        print("FAILED: see the rows of the stream.")
        return 1
    print("Nothing that was buffered was lost, doubled or out of order.")
    print("All that was acknowledged is in the stream, once. Each client was given all of it, and no delivery twice.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
