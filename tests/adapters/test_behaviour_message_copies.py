"""A message is copied with its client, and pickled without."""

from __future__ import annotations

import copy
import pickle

import pytest

from nats_proto.errors import NoReplySubjectError
from tests.adapters.legs import PATIENCE, Leg, ThreadsMessage

pytestmark = pytest.mark.anyio


def real(message: object) -> object:
    return message.message if isinstance(message, ThreadsMessage) else message


async def test_an_unpickled_message_has_all_but_its_client(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("pickled") as sub:
        await client.publish("pickled", b"data", reply="answers", headers={"A": "1"})
        taken = await sub.next(timeout=PATIENCE)
        message = real(taken)
        assert message.headers is not None
        copied = pickle.loads(pickle.dumps(message))
        assert type(copied) is type(message)
        assert copied == message
        assert copied.client is None
        assert copied.headers == message.headers
        answering = ThreadsMessage(copied, taken._call) if isinstance(taken, ThreadsMessage) else copied
        with pytest.raises(NoReplySubjectError, match="no client"):
            await answering.respond(b"x")


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
async def test_a_copy_can_be_answered(leg: Leg, url: str, way: object) -> None:
    async with leg.connect(url) as client, client.subscribe("copied") as sub, client.subscribe("answers") as answers:
        await client.publish("copied", reply="answers")
        message = await sub.next(timeout=PATIENCE)
        if isinstance(message, ThreadsMessage):
            message.message = way(message.message)
        else:
            message = way(message)
        await message.respond(b"answered")
        assert (await answers.next(timeout=PATIENCE)).data == b"answered"
