"""Refusals of a real server find the request or the subscription they mean, whatever its subject is made of."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from nats_proto.errors import PermissionsError
from tests.adapters.legs import PATIENCE, Leg, in_thread
from tests.transports import Transport

pytestmark = pytest.mark.anyio

PASSWORD = "invoices2024"
DENIED: dict[str, Any] = {"publish": {"deny": ["no.>"]}, "subscribe": {"deny": ["no.>"]}}
USERS = {
    "accounts": {
        "A": {
            "users": [
                {"user": "accounting", "password": PASSWORD, "permissions": DENIED},
                {"user": "free", "password": "free"},
            ]
        }
    }
}
TOKENS = {
    "quote": 'a"b',
    "only a quote": '"',
    "apostrophe": "a'",
    "backslash": "a\\b",
    "backslash n": "a\\nb",
    "C1 control": "a\u0085b",
    "no-break blank": "a\u00a0b",
    "zero-width": "a\u200bb",
    "line separator": "a\u2028b",
    "private use": "\ue000",
    "tag": "\U000e0041",
    "emoji": "\U0001f600",
    "umlaut": "ä",
    "percent": "%s%q",
    "long": "x" * 900,
    "rest of the text": 'a(sid"5")',
    "password": PASSWORD,
    "user": "accounting",
}
REQUIRED = {"subscribe": ["_INBOX.>", "yes"]}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
async def test_a_refusal_finds_whom_it_concerns(leg: Leg, transport: Transport, token: str) -> None:
    subject = f"no.{token}"
    with transport.server(USERS) as server:
        async with (
            leg.connect(server.url, user="free", password="free") as service,
            leg.connect(server.url, user="accounting", password=PASSWORD) as client,
            service.subscribe("yes") as asked,
        ):
            await service.flush()
            async with anyio.create_task_group() as tasks:
                answers: list[bytes] = []

                async def ask() -> None:
                    answers.append((await client.request("yes", b"", timeout=60)).data)

                tasks.start_soon(ask)
                request = await asked.next(timeout=PATIENCE)  # it is on its way while others are refused
                with anyio.fail_after(PATIENCE), pytest.raises(PermissionsError) as caught:
                    await client.request(subject, b"", timeout=300)
                assert (caught.value.operation, caught.value.subject) == ("publish", subject)
                assert PASSWORD not in str(caught.value)
                await request.respond(b"yes")
            assert answers == [b"yes"]
            for queue in (None, "workers", 'q"uo\\te', PASSWORD):
                async with client.subscribe(subject, queue=queue) as sub:
                    with anyio.fail_after(PATIENCE), pytest.raises(PermissionsError) as caught:
                        await sub.next(timeout=300)
                assert (caught.value.subject, caught.value.queue) == (subject, queue)
            assert client.stats.reconnects == 0


def inbox_allowed(allowed: bool) -> dict[str, Any]:
    permissions = {"publish": ">", "subscribe": {"allow": ["service", "_INBOX.>"] if allowed else ["service"]}}
    return {"authorization": {"users": [{"user": "a", "password": "a", "permissions": permissions}]}}


async def test_a_permission_that_comes_back_is_used_by_the_next_request(leg: Leg, transport: Transport) -> None:
    with transport.server(inbox_allowed(False)) as server:
        async with leg.connect(server.url, user="a", password="a") as client:

            async def answer(message: Any) -> None:
                await message.respond(message.data)

            await client.subscribe("service", callback=leg.handler(answer))
            await client.flush()
            for _ in range(3):
                with anyio.fail_after(PATIENCE), pytest.raises(PermissionsError) as caught:
                    await client.request("service", b"", timeout=300)
                assert caught.value.operation == "subscribe"
            await in_thread(lambda: server.reload(inbox_allowed(True)))
            for number in range(3):
                with anyio.fail_after(PATIENCE):
                    assert (await client.request("service", b"%d" % number, timeout=300)).data == b"%d" % number
            await in_thread(lambda: server.reload(inbox_allowed(False)))
            await client.flush()
            for _ in range(2):
                with anyio.fail_after(PATIENCE), pytest.raises(PermissionsError):
                    await client.request("service", b"", timeout=300)
            await in_thread(lambda: server.reload(inbox_allowed(True)))
            with anyio.fail_after(PATIENCE):
                assert (await client.request("service", b"again", timeout=300)).data == b"again"
            assert client.stats.reconnects == 0
