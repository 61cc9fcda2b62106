"""Services with nats-py's ``micro``: each finds, asks and is answered by the other's."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from nats.micro import add_service as their_add_service

from nats_proto.services import service_error
from tests.adapters.legs import PATIENCE, Leg, eventually, in_thread
from tests.adapters.services import add_service, found_all, services
from tests.interop.nats_py import NatsPy

# From Python 3.12 on nats-py's services warn of a function of the standard library that they call.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning:nats")]


async def echo(request: Any) -> None:
    if request.data == b"wrong":
        await request.respond_error(409, "taken", b"by you")
    else:
        await request.respond(request.data)


class Theirs:
    """A service of nats-py: it answers as `echo` does."""

    def __init__(self, theirs: NatsPy, name: str) -> None:
        self._theirs = theirs
        self._service: Any = None
        self._name = name

    def __enter__(self) -> Any:
        return self._theirs.run(self._start)

    async def _start(self, client: Any) -> Any:
        service = self._service = await their_add_service(
            client, name=self._name, version="1.0.0", description="theirs", metadata={"of": "nats-py"}
        )
        group = service.add_group(name="v1")

        async def handler(request: Any) -> None:
            if request.data == b"wrong":
                await request.respond_error("409", "taken", b"by you")
            elif request.data == b"raises":
                raise ValueError("for a reason")
            else:
                await request.respond(request.data)

        await group.add_endpoint(name="theirs", handler=handler, metadata={"a": "b"})
        await client.flush()
        return service

    def __exit__(self, *exc: object) -> None:
        self._theirs.run(lambda _: self._service.stop())


async def test_ours_find_and_ask_theirs(leg: Leg, url: str, theirs: NatsPy) -> None:
    with Theirs(theirs, "mixed") as service:
        async with leg.connect(url) as client, add_service(client, "mixed") as own:
            assert (await client.request("v1.theirs", b"x", timeout=PATIENCE)).data == b"x"
            failure = service_error(await client.request("v1.theirs", b"wrong", timeout=PATIENCE))
            assert failure is not None
            assert (failure.code, failure.description, failure.data) == (409, "taken", b"by you")
            ids = {service.id, own.id}
            pings = await found_all(lambda: services(client, "mixed").ping(), ids)
            assert {one.id for one in pings} == ids
            (info,) = [one async for one in services(client, "mixed", service.id).info()]
            assert (info.description, info.metadata) == ("theirs", {"of": "nats-py"})
            assert [(one.name, one.subject, one.queue_group) for one in info.endpoints] == [
                ("theirs", "v1.theirs", "q")
            ]
            with anyio.fail_after(PATIENCE):
                while True:
                    (stats,) = [one async for one in services(client, "mixed", service.id).stats()]
                    if stats.endpoints[0].num_requests == 2:  # it counts when its handler has returned
                        break
            assert stats.started is not None


async def test_theirs_ask_and_find_ours(leg: Leg, url: str, theirs: NatsPy) -> None:
    async with leg.connect(url) as client, add_service(client, "ours", metadata={"of": "us"}) as service:
        service.group("v1").endpoint("ours", echo)
        await client.flush()

        def ask(subject: str, data: bytes = b"") -> Any:
            return theirs.run(lambda their: their.request(subject, data, timeout=PATIENCE))

        assert (await in_thread(lambda: ask("v1.ours", b"x"))).data == b"x"
        answer = await in_thread(lambda: ask("v1.ours", b"wrong"))
        assert answer.headers == {"Nats-Service-Error": "taken", "Nats-Service-Error-Code": "409"}
        assert answer.data == b"by you"
        for verb in ("PING", "INFO", "STATS"):
            raw = json.loads((await in_thread(lambda: ask(f"$SRV.{verb}.ours.{service.id}"))).data)  # noqa: B023
            assert (raw["type"], raw["metadata"]) == (f"io.nats.micro.v1.{verb.lower()}_response", {"of": "us"})


async def test_one_queue_group_of_both(leg: Leg, url: str, theirs: NatsPy) -> None:
    """Requests are shared: together the two have answered all, each once."""
    with Theirs(theirs, "shared") as service:
        async with leg.connect(url) as client, add_service(client, "shared") as own:
            endpoint = own.endpoint("both", echo, subject="v1.theirs")
            await client.flush()
            for number in range(40):
                assert (await client.request("v1.theirs", b"%d" % number, timeout=PATIENCE)).data == b"%d" % number

            # A request is counted when its handler has returned, which may be behind the answer.
            def answered() -> int:
                return int(endpoint.stats().num_requests + service.stats().endpoints[0].num_requests)

            await eventually(lambda: answered() == 40)
