"""What becomes of the next connection's transport, which one thread makes and another one takes over."""

from __future__ import annotations

import socket

from nats_proto import OpenSuccessor, parse_servers
from nats_sync._engine.successor import Successor
from nats_sync._engine.transport import Transport
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect


def test_a_transport_that_was_left_for_the_manager_is_closed_when_it_is_given_up(server: LocalServer) -> None:
    """The client is closed after the thread that made the connection has ended, and before the manager looks."""
    ours, theirs = socket.socketpair()
    with theirs, connect(server) as client:
        manager = client._threads._inheritance._manager
        (named,) = parse_servers(server.url)
        successor = Successor(client._hub, OpenSuccessor(named, named.address, 0.0), "successor")
        successor.wakeup.close()
        successor.dialler.close()
        successor.transport = Transport(ours)
        manager.successor = successor
        manager._give_up_successor()
        assert manager.successor is None
        theirs.settimeout(PATIENCE)
        assert theirs.recv(1) == b""
