"""A session over WebSocket: servers that another one told of."""

from __future__ import annotations

from nats_proto import Connected, Disconnected, Reconnected, ServersDiscovered
from tests.proto.driver import PONG, World, info
from tests.proto.websocket_peer import accept, frame, lines_of


def up(world: World, **fields: object) -> list[str]:
    """Dial, upgrade and handshake; the lines of the upgrade's request."""
    world.accept()
    request = world.wire()
    world.feed(accept(request) + frame(info(**fields)))
    world.feed(frame(PONG))
    return lines_of(request)


def test_a_discovered_server_is_reached_at_the_path_and_query_of_the_one_that_told_of_it() -> None:
    world = World("ws://a/gate/nats?key=s3cret", websocket_headers={"X-Key": "k"})
    request = up(world, connect_urls=["b:8080"])
    assert request[0] == "GET /gate/nats?key=s3cret HTTP/1.1"
    world.feed(frame(info(connect_urls=["b:8080", "c:8080"])))
    connected, discovered = world.events()
    assert isinstance(connected, Connected)
    assert discovered == ServersDiscovered(servers=("ws://c:8080/gate/nats",))
    world.cut()
    for host in ("b", "c"):
        again = up(world)
        assert again[0] == request[0]
        assert f"Host: {host}:8080" in again
        assert "X-Key: k" in again
        assert isinstance(world.events()[-1], Reconnected)
        world.cut()
        lost = world.events_of(Disconnected)[0]
        assert lost.server == f"ws://{host}:8080/gate/nats"
        assert "s3cret" not in f"{lost!r} {lost.error}"
