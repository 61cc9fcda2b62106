"""Calls as another client has them: what both of ours answer."""

from __future__ import annotations

from typing import Any

import pytest

import nats_anyio
import nats_sync
from nats_proto.errors import ConfigurationError
from tests.adapters.legs import Leg, hub_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("connect", [nats_sync.connect, nats_anyio.connect])
@pytest.mark.parametrize("name", ["user_credentials", "error_cb", "no_echo", "nmae"])
def test_connect_names_its_own_option(connect: Any, name: str) -> None:
    with pytest.raises(TypeError, match=rf"^connect has no option '{name}': "):
        connect("nats://127.0.0.1:1", **{name: "x"})


@pytest.mark.parametrize(
    ("args", "options", "text"),
    [
        (("workers",), {}, "queue='workers'"),
        ((print,), {}, r"callback=\.\.\."),
        ((), {"cb": print}, "it is callback"),
        ((), {"callback": "print"}, "must be callable, not str"),
    ],
)
async def test_subscribe_says_what_to_write(
    leg: Leg, url: str, args: tuple[object, ...], options: dict[str, object], text: str
) -> None:
    async with leg.connect(url) as client:
        real: Any = getattr(client, "client", client)
        with pytest.raises(TypeError, match=text):
            real.subscribe("a", *args, **options)
        await client.flush()
        assert not hub_of(client).subscriptions


async def test_a_generator_function_is_no_callback(leg: Leg, url: str) -> None:
    def handle(message: object) -> Any:
        yield message

    async def later(message: object) -> Any:
        yield message

    async with leg.connect(url) as client:
        for wrong in (handle, later):
            with pytest.raises(TypeError, match="generator function"):
                await client.subscribe("a", callback=wrong)
            with pytest.raises(ConfigurationError, match=r"^on_event: it is a generator function"):
                async with leg.connect(url, on_event=wrong):
                    pass
