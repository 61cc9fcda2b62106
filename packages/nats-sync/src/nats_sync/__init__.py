"""A threaded NATS client.

    with nats_sync.connect("nats://127.0.0.1:4222", name="billing") as nc:
        nc.publish("orders.new", b"...")
        with nc.subscribe("orders.*", queue="workers") as sub:
            for message in sub:
                message.respond(b"ok")

Events, options and errors are those of `nats_proto`; the ones that programs name are here as well.
"""

from nats_proto import (
    Challenge,
    ConnectOptions,
    Credentials,
    Headers,
    HeadersLike,
    Secret,
    ServerInfo,
    SessionStatus,
    StatsSnapshot,
    Status,
    errors,
)
from nats_proto import __version__ as __version__

from ._client import Answers, Client, Message, Subscription
from ._connect import connect

__all__ = [
    "Answers",
    "Challenge",
    "Client",
    "ConnectOptions",
    "Credentials",
    "Headers",
    "HeadersLike",
    "Message",
    "Secret",
    "ServerInfo",
    "SessionStatus",
    "StatsSnapshot",
    "Status",
    "Subscription",
    "connect",
    "errors",
]
