"""What clients ask of consumers and how they acknowledge, as another client of the same server hears it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nats_sync
from tests.adapters.legs import in_thread
from tests.faults.proxy import Proxy
from tests.jetstream.cluster import PATIENT

__all__ = ["Seen", "counted", "idle", "listening", "settled", "swallowed"]

PATIENCE = 15.0


@dataclass
class Seen:
    """Requests for messages, and acknowledgements, in the order in which the server got them.

    While somebody listens there is interest in both, so nothing that depends on "no responders" can be seen with it.
    """

    nc: nats_sync.Client
    requests: nats_sync.Subscription
    answers: nats_sync.Subscription

    async def pulls(self, client: Any) -> list[dict[str, Any]]:
        """The requests for messages since the last call, up to all that ``client`` has sent until now."""
        return [json.loads(message.data) for message in await self._taken(client, self.requests)]

    async def acks(self, client: Any) -> list[bytes]:
        """The same of acknowledgements."""
        return [message.data for message in await self._taken(client, self.answers)]

    async def _taken(self, client: Any, heard: nats_sync.Subscription) -> list[nats_sync.Message]:
        await client.flush()
        await in_thread(self.nc.flush)
        count, _ = heard.pending
        return heard.next_batch(count, timeout=PATIENCE) if count else []


@contextlib.contextmanager
def listening(url: str, **options: Any) -> Iterator[Seen]:
    """Listen on a server, over a connection of its own."""
    with (
        nats_sync.connect(url, **{**PATIENT, **options}) as nc,
        nc.subscribe("$JS.API.CONSUMER.MSG.NEXT.>") as requests,
        nc.subscribe("$JS.ACK.>") as answers,
    ):
        nc.flush()
        yield Seen(nc, requests, answers)


async def counted(consumer: Any, count: int) -> None:
    """Until so many messages wait at the consumer. A server counts them a moment after it has stored them, and until
    then nothing seems to be left to do."""
    deadline = time.monotonic() + PATIENCE
    while (info := await consumer.refresh()).num_pending != count:
        assert time.monotonic() < deadline, info


async def settled(consumer: Any, *, unacknowledged: int = 0) -> Any:
    """The consumer's info, once no request waits at it and only so many messages wait for their acknowledgement; or as
    it is when that does not come."""
    deadline = time.monotonic() + PATIENCE
    while True:
        info = await consumer.refresh()
        if (info.num_waiting, info.num_ack_pending) == (0, unacknowledged) or time.monotonic() > deadline:
            return info


async def idle(consumer: Any) -> Any:
    """The same, however many messages wait."""
    deadline = time.monotonic() + PATIENCE
    while (info := await consumer.refresh()).num_waiting and time.monotonic() < deadline:
        pass
    return info


def swallowed(proxy: Proxy) -> int:
    """How many bytes have vanished in the black holes of a proxy."""
    told = [text.partition(": ")[2].split() for _, text in list(proxy.log) if text.endswith("into the black hole")]
    return sum(int(count) for count, *_ in told)
