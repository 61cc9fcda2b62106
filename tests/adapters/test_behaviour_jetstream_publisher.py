"""The window of a publisher against a server that follows a script, on three legs."""

from __future__ import annotations

import re

import pytest

from nats_proto.errors import MaxPayloadError
from tests.adapters.jetstream import jetstream
from tests.adapters.legs import PATIENCE, Leg
from tests.faults.peer import PONGS, Connection, Peer, handshake, info, loop

pytestmark = pytest.mark.anyio

PUBLISH = re.compile(rb"PUB (\w+) (\S+) (\d+)\r\n")
NOBODY = b"NATS/1.0 503\r\n\r\n"
ACK = b'{"stream":"S","seq":1}'


def _nobody_listens_and_then_less_is_taken(connection: Connection) -> None:
    """Refuse what comes first, and allow less before it is tried again."""
    sid = connection.expect(re.compile(rb"SUB _INBOX\S+\* (\d+)\r\n")).split()[-1]
    reply = connection.expect(PUBLISH).split()[2]
    connection.send(info(max_payload=4) + b"HMSG %s %s %d %d\r\n%s\r\n" % (reply, sid, 16, 16, NOBODY))
    small = connection.expect(re.compile(rb"PUB small (\S+) (\d+)\r\n")).split()[2]
    connection.send(b"MSG %s %s %d\r\n%s\r\n" % (small, sid, len(ACK), ACK))


async def test_a_try_that_the_client_does_not_send_any_more_fails_that_publish_alone(leg: Leg) -> None:
    with Peer([handshake(), _nobody_listens_and_then_less_is_taken, loop(PONGS)]) as peer:
        async with leg.connect(peer.url) as client, jetstream(client).publisher(timeout=PATIENCE) as publisher:
            large = await publisher.publish("large", b"12345")
            with pytest.raises(MaxPayloadError) as caught:
                await large.ack()
            assert caught.value.outcome == "failed"
            small = await publisher.publish("small", b"1")
            assert (await small.ack()).sequence == 1
            assert publisher.pending == 0
