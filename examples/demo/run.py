"""Three nats-servers in a cluster, both clients at work, and one server after the other taken away under them.

    python examples/demo/run.py

Each client publishes a numbered stream, subscribes to both streams, answers requests and sends them to the other. Each
also stores numbered messages in a JetStream stream with three replicas, and handles all that is stored there by a
consumer of its own; and each writes keys of a Key-Value bucket with three replicas, and watches all of them. The server
each is connected to is killed (-9), the first of them while it leads the JetStream stream; another becomes a lame duck;
all are started again; 20 seconds in all.

At the end: what the clients say; what independent recorders on bare sockets saw of everything that was published while
a client had no connection; and what the stream and the bucket have, asked for with plain requests. Exit status 1 if
anything that was buffered was lost, doubled or out of order; if anything that was acknowledged is not in the stream or
is there twice; if a client has left out a stored message, or has given one delivery twice; if a watch has left out a
change of the bucket, or has told one twice or out of order.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs as a file, from anywhere

from examples.demo.buckets import BUCKET, judge_bucket, make_bucket
from examples.demo.clients import AsyncioClient, ThreadsClient
from examples.demo.ledger import judge, table
from examples.demo.recorder import Recorder
from examples.demo.streams import judge_stream, make_stream, messages_of, stored_in
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


def settle(stage: Stage, threads: ThreadsClient, on_asyncio: AsyncioClient) -> tuple[list[str], list[int]]:
    """What is in the stream, and the revisions in the bucket, as soon as clients are done with that.

    All that was published to the stream is acknowledged, what is stored there is handled, and all changes were told.
    """
    threads.finish_storing()
    on_asyncio.finish_storing()
    stored = stored_in(stage.cluster.urls)
    revisions = [message["seq"] for message in messages_of(stage.cluster.urls, f"KV_{BUCKET}")]
    clients = (threads, on_asyncio)
    deadline = time.monotonic() + PATIENCE
    while any(
        set(stored) - client.stored.handled.keys() or set(revisions) - set(client.bucket.told) for client in clients
    ):
        if time.monotonic() > deadline:
            break  # the table tells how many are left
        time.sleep(0.05)
    return stored, revisions


def main() -> int:
    """Run it; the exit status."""
    for name in ("nats_sync", "nats_anyio"):  # the time line shows what they would log
        logging.getLogger(name).addHandler(logging.NullHandler())
    stored: list[str] = []
    revisions: list[int] = []
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
            make_bucket(urls)
            threads = ThreadsClient(urls, "asyncio", stage.timeline)
            on_asyncio = AsyncioClient([*urls[1:], urls[0]], "threads", stage.timeline)
            threads.start()
            on_asyncio.start()
            try:
                play(stage, threads, on_asyncio)
                stored, revisions = settle(stage, threads, on_asyncio)
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
        buckets = [(client.bucket, judge_bucket(client.bucket, revisions)) for client in clients]
    print()
    print(table(rows, streams, buckets))
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
    if not revisions or not all(verdict.good for _, verdict in buckets):
        print("FAILED: see the rows of the bucket.")
        return 1
    print("Nothing that was buffered was lost, doubled or out of order.")
    print("All that was acknowledged is in the stream, once. Each client was given all of it, and no delivery twice.")
    print("Each watch has told of every change of the bucket, once and in order.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
