"""An asyncio and trio NATS client.

    async with nats_anyio.connect("nats://127.0.0.1:4222", name="billing") as nc:
        await nc.publish("orders.new", b"...")
        async with nc.subscribe("orders.*", queue="workers") as sub:
            async for message in sub:
                await message.respond(b"ok")

Without a block: ``nc = await nats_anyio.open(...)`` and, in any task, ``await nc.close()``.

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
from ._connect import Connecting, connect
from ._open import open as open  # noqa: A004  # not in `__all__`: an ``import *`` must not hide Python's own

__all__ = [
    "Answers",
    "Challenge",
    "Client",
    "ConnectOptions",
    "Connecting",
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
