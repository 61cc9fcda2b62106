"""Services on a real server, on three legs: what users suffer from, row by row (64 and 65), and what they ask for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from nats_proto import Reconnected
from nats_proto.errors import (
    InvalidSubjectError,
    MaxControlLineError,
    NATSTimeoutError,
    NoRespondersError,
    PermissionsError,
)
from nats_proto.services import (
    InvalidServiceError,
    ServiceDecodeError,
    ServiceError,
    ServiceStoppedError,
    service_error,
)
from tests.adapters.legs import PATIENCE, QUICK, Collected, EventLog, Flag, Leg, eventually, in_thread
from tests.adapters.services import add_service, found, found_all, services
from tests.transports import Transport

pytestmark = pytest.mark.anyio


class Order(msgspec.Struct):
    item: str


class Receipt(msgspec.Struct):
    number: int


async def echo(request: Any) -> None:
    await request.respond(request.value)


async def nothing(request: Any) -> None:
    """Answers nothing."""


async def is_gone(client: Any, subject: str) -> bool:
    """Nobody listens there."""
    try:
        await client.request(subject, b"", timeout=PATIENCE)
    except NoRespondersError:
        return True
    return False


# --- row 64: the end, the counters, the names, the format ------------------------------------------------------------


async def test_row_64_stop_answers_what_runs_and_leaves_nothing_subscribed(leg: Leg, url: str) -> None:
    begun, go_on = Flag(), Flag()

    async def slow(request: Any) -> None:
        begun.set()
        await go_on.wait()
        await request.respond(b"late")

    answers: list[bytes] = []

    async with leg.connect(url) as client, leg.connect(url) as other:
        service = add_service(client)
        service.endpoint("slow64", slow)
        service.endpoint("quick64", echo)
        await client.flush()

        async def ask() -> None:
            answers.append((await other.request("slow64", b"", timeout=PATIENCE)).data)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await begun.wait()
            group.start_soon(service.stop)
            # The other endpoint takes no more, although the first has still to answer.
            await eventually(lambda: service.stopped)
            with anyio.fail_after(PATIENCE):
                while not await is_gone(other, "quick64"):
                    await anyio.sleep(0.001)
            assert not answers
            go_on.set()
        assert answers == [b"late"]
        await service.stop()
        await service.stop(0.0)
        for subject in ("slow64", "$SRV.PING.orders", f"$SRV.PING.orders.{service.id}"):
            assert await is_gone(other, subject)
        assert await found(services(other, "orders").ping()) == []


async def test_row_64_a_stop_that_takes_too_long(leg: Leg, url: str) -> None:
    begun, go_on = Flag(), Flag()

    async def slow(request: Any) -> None:
        begun.set()
        await go_on.wait()

    async with leg.connect(url) as client:
        service = add_service(client)
        service.endpoint("late64", slow)
        await client.publish("late64", b"")
        await begun.wait()
        with pytest.raises(NATSTimeoutError, match=r"drain of the subscription to .* took longer"):
            await service.stop(0.01)  # on a busy machine another subscription may be late first
        assert not await service.wait(0.01)
        go_on.set()
        await service.stop()


async def test_row_64_each_endpoint_has_its_own_numbers(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, add_service(client) as service:
        group = service.group("v64").group("admin")
        first = group.endpoint("first", echo)
        second = group.endpoint("second", echo, subject="other.*")
        await client.flush()
        for subject in ("v64.admin.first", "v64.admin.other.a", "v64.admin.other.b"):
            assert (await client.request(subject, b"x", timeout=PATIENCE)).data == b"x"
        await eventually(lambda: second.stats().num_requests == 2)
        await eventually(lambda: first.stats().num_requests == 1)
        # The name is the endpoint's own, without the prefix of its groups.
        (told,) = await found(services(client, "orders", service.id).stats())
        assert [(one.name, one.subject) for one in told.endpoints] == [
            ("first", "v64.admin.first"),
            ("second", "v64.admin.other.*"),
        ]
        assert [one.num_requests for one in told.endpoints] == [1, 2]
        assert all(one.processing_time.nanoseconds > 0 for one in told.endpoints)


SCHEMAS = os.environ.get("NATS_SCHEMAS")


def check_schema(verb: str, raw: Any) -> None:
    """As the NATS project has it, where its schemas are there."""
    if SCHEMAS is not None:
        schema = json.loads(Path(SCHEMAS, "micro", f"{verb.lower()}_response.json").read_bytes())
        jsonschema = pytest.importorskip("jsonschema", reason="it is no part of the lowest versions")
        jsonschema.Draft7Validator(schema).validate(raw)


async def test_row_64_the_answers_are_as_on_the_wire_everywhere(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, add_service(client, "wire64", metadata={"region": "eu"}) as service:
        service.endpoint("a64", echo, metadata={"schema": "1"})
        service.endpoint("b64", echo, queue_group=None)
        await client.flush()
        await client.request("a64", b"", timeout=PATIENCE)
        for verb in ("PING", "INFO", "STATS"):
            raws = [
                json.loads((await client.request(f"$SRV.{verb}{which}", timeout=PATIENCE)).data)
                for which in (".wire64", f".wire64.{service.id}")
            ]
            for raw in raws:
                assert raw["metadata"] == {"region": "eu"}
                for endpoint in raw.get("endpoints", ()):
                    assert endpoint.get("metadata", {}) is not None
                check_schema(verb, raw)


# --- row 65: removal, wildcards, errors, concurrency, discovery ------------------------------------------------------


async def test_row_65_an_endpoint_is_removed(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, add_service(client) as service:
        gone, stays = service.endpoint("gone65", echo), service.endpoint("stays65", echo)
        await client.flush()
        await client.request("gone65", b"", timeout=PATIENCE)
        await gone.stop()
        await gone.stop()
        assert await is_gone(client, "gone65")
        assert (await client.request("stays65", b"x", timeout=PATIENCE)).data == b"x"
        (told,) = await found(services(client, "orders", service.id).info())
        assert [one.name for one in told.endpoints] == ["stays65"]
        assert [one.name for one in service.endpoints] == [stays.name]
        assert not service.stopped


async def test_row_65_three_instances_are_found(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as other:
        async with (
            add_service(client, "three65") as first,
            add_service(client, "three65", "2.0.0") as second,
            add_service(other, "three65") as third,
        ):
            ids = {first.id, second.id, third.id}
            await client.flush()
            await other.flush()
            pings = await found_all(lambda: services(client, "three65").ping(), ids)
            assert {one.id for one in pings} == ids
            assert sorted(one.version for one in pings) == ["1.2.0", "1.2.0", "2.0.0"]
            await found_all(lambda: services(client).info(), ids)
            (stats,) = await found(services(client, "three65", third.id).stats())
            assert stats.id == third.id
            assert stats.started is not None
        assert await found(services(client, "three65").ping()) == []


async def test_row_65_a_hostile_answer_hides_no_instance(leg: Leg, url: str) -> None:
    async def lie(message: Any) -> None:
        await message.respond(b'{"type":"io.nats.micro.v1.ping_response","name":7}')

    async with leg.connect(url) as client, leg.connect(url) as other:
        sub = await other.subscribe("$SRV.PING.lies65", callback=leg.handler(lie))
        await other.flush()
        async with add_service(client, "lies65") as service:
            await client.flush()
            with anyio.fail_after(PATIENCE):
                while True:  # on a busy machine one of the two answers may be late
                    answers = services(client, "lies65").ping()
                    ids = [one.id for one in await found(answers)]
                    if ids and answers.failures:
                        break
            assert ids == [service.id]
            assert [type(failure) for failure in answers.failures] == [ServiceDecodeError]
        await sub.unsubscribe()


FAILURES: dict[str, tuple[Callable[[Any], Any], int, str]] = {
    "an error of its own": (lambda _: ServiceError(404, "no such order", b"{}"), 404, "no such order"),
    "anything": (lambda _: ValueError("two\nlines"), 500, "two lines"),
    "nothing said": (lambda _: LookupError(), 500, "LookupError"),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_row_65_what_a_handler_raises_is_the_answer(leg: Leg, url: str, case: str) -> None:
    make, code, description = FAILURES[case]

    async def handler(request: Any) -> None:
        raise make(request)

    async with leg.connect(url) as client, add_service(client) as service:
        endpoint = service.endpoint("fails65", handler)
        await client.flush()
        answer = await client.request("fails65", b"", timeout=PATIENCE)
        assert answer.headers["Nats-Service-Error"] == description
        assert answer.headers["Nats-Service-Error-Code"] == str(code)
        failure = service_error(answer)
        assert failure is not None
        assert (failure.code, failure.description) == (code, description)
        assert failure.data == (b"{}" if code == 404 else b"")
        await eventually(lambda: endpoint.stats().num_requests == 1)
        stats = endpoint.stats()
        assert (stats.num_errors, stats.last_error) == (1, f"{code}:{description}")


async def test_row_65_an_error_is_answered_once(leg: Leg, url: str) -> None:
    async def handler(request: Any) -> None:
        if request.data == b"first":
            await request.respond(b"done")
        else:
            await request.respond_error(409, "taken", b"by you", headers={"Trace": "1"})
        raise ValueError("afterwards")

    async with leg.connect(url) as client, add_service(client) as service:
        endpoint = service.endpoint("once65", handler)
        await client.flush()
        answer = await client.request("once65", b"first", timeout=PATIENCE)
        assert (answer.data, service_error(answer)) == (b"done", None)
        await eventually(lambda: endpoint.stats().num_requests == 1)
        assert endpoint.stats().num_errors == 1
        replies = [one async for one in client.request_many("once65", b"second", max_wait=PATIENCE, stall=0.1)]
        assert [(one.data, str(service_error(one)), one.headers["Trace"]) for one in replies] == [
            (b"by you", "409:taken", "1")
        ]


async def test_row_65_so_many_at_once(leg: Leg, url: str) -> None:
    running: Collected[bytes] = Collected()
    go_on = Flag()

    async def slow(request: Any) -> None:
        running.add(request.data)
        await go_on.wait()
        await request.respond(b"ok")

    async with leg.connect(url) as client, leg.connect(url) as other, add_service(client) as service:
        endpoint = service.endpoint("many65", slow, concurrency=3)
        await client.flush()
        answers: list[bytes] = []

        async def ask(data: bytes) -> None:
            answers.append((await other.request("many65", data, timeout=PATIENCE)).data)

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(ask, b"%d" % number)
            await running.wait_len(3)
            await other.flush()
            await client.flush()
            assert len(running) == 3
            # Monitors are answered meanwhile.
            assert [one.id for one in await found(services(other, "orders", service.id).ping())] == [service.id]
            go_on.set()
        assert answers == [b"ok"] * 5
        await eventually(lambda: endpoint.stats().num_requests == 5)
        assert endpoint.stats().num_errors == 0


async def test_row_65_queue_groups(leg: Leg, url: str) -> None:
    got: Collected[str] = Collected()

    def named(name: str) -> Callable[[Any], Any]:
        async def handler(request: Any) -> None:
            got.add(f"{name} {request.subject}")

        return handler

    async with leg.connect(url) as client, add_service(client) as first, add_service(client) as second:
        for name, service in (("first", first), ("second", second)):
            service.endpoint("shared65", named(name))
            service.endpoint("all65", named(name), queue_group=None)
            service.group("g65", queue_group=None).group("x").endpoint("all", named(name))
            service.group("g65", queue_group=name).endpoint("own", named(name))
        for subject in ("shared65", "all65", "g65.x.all", "g65.own"):
            await client.publish(subject, b"")
        await got.wait_len(7)
        seen = sorted(got)
        assert [text for text in seen if not text.endswith("shared65")] == [
            f"{name} {subject}" for name in ("first", "second") for subject in ("all65", "g65.own", "g65.x.all")
        ]
        (info,) = await found(services(client, "orders", first.id).info())
        assert [one.queue_group for one in info.endpoints] == ["q", "", "", "first"]


async def test_row_65_typed_requests_and_answers(leg: Leg, url: str) -> None:
    async def create(request: Any) -> Any:
        if request.value.item == "wrong":
            return {"number": 1}
        return Receipt(len(request.value.item))

    async with leg.connect(url) as client, add_service(client) as service:
        endpoint = service.endpoint("typed65", create, request_type=Order, response_type=Receipt)
        raw = service.endpoint("raw65", lambda request: request.value[::-1], response_type=bytes)
        await client.flush()
        assert (await client.request("typed65", b'{"item":"book"}', timeout=PATIENCE)).data == b'{"number":4}'
        assert (await client.request("raw65", b"abc", timeout=PATIENCE)).data == b"cba"
        for data in (b"", b"{", b'{"item":7}'):
            failure = service_error(await client.request("typed65", data, timeout=PATIENCE))
            assert failure is not None
            assert failure.code == 400
        failure = service_error(await client.request("typed65", b'{"item":"wrong"}', timeout=PATIENCE))
        assert str(failure) == "500:the answer must be Receipt, not dict"
        await client.publish("raw65", b"nobody waits for this answer")
        await eventually(lambda: raw.stats().num_requests == 2)
        assert raw.stats().num_errors == 0
        await eventually(lambda: endpoint.stats().num_requests == 5)
        assert endpoint.stats().num_errors == 4


async def test_n18_a_program_asks_with_values(leg: Leg, url: str) -> None:
    async def create(request: Any) -> Any:
        if request.value.item == "none":
            raise ServiceError(404, "there is none", b"more")
        if request.value.item == "wrong":
            await request.respond(b'{"number":"x"}')
            return None
        return Receipt(len(request.value.item))

    async with leg.connect(url) as client, add_service(client) as service:
        options = {"timeout": PATIENCE}
        service.group("v1").endpoint("typed", create, request_type=Order, response_type=Receipt)
        service.endpoint("raw", lambda request: request.value[::-1], response_type=bytes)
        service.endpoint("trace", lambda request: request.headers["Trace"], response_type=str)
        await client.flush()
        order = Order("book")
        assert await client.request_service("v1.typed", order, response_type=Receipt, **options) == Receipt(4)
        assert await client.request_service("v1.typed", {"item": "a"}, **options) == b'{"number":1}'
        assert await client.request_service("raw", b"abc", **options) == b"cba"
        answer = await client.request_service("trace", response_type=str, headers={"Trace": "7"}, **options)
        assert answer == "7"
        for value, code, data in ((Order("none"), 404, b"more"), ({"item": 7}, 400, b"")):
            with pytest.raises(ServiceError) as raised:
                await client.request_service("v1.typed", value, response_type=Receipt, **options)
            assert (raised.value.code, raised.value.data) == (code, data)
        with pytest.raises(ServiceDecodeError, match=r"the answer from 'v1\.typed' cannot be read"):
            await client.request_service("v1.typed", Order("wrong"), response_type=Receipt, **options)
        with pytest.raises(NoRespondersError):
            await client.request_service("nobody", order, response_type=Receipt, **options)
        counted = client.stats.out_msgs
        for wrong in ({"response_type": 5}, {"value": object()}):
            with pytest.raises(TypeError):
                await client.request_service("v1.typed", **wrong)
        assert client.stats.out_msgs == counted


# --- what else -------------------------------------------------------------------------------------------------------


async def test_a_handler_may_stop_its_service(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        service = add_service(client)

        async def last(request: Any) -> None:
            await service.stop()
            await request.respond(b"bye")

        service.endpoint("one_stops", last)
        service.endpoint("two_stops", last)
        await client.flush()
        assert (await client.request("one_stops", b"", timeout=PATIENCE)).data == b"bye"
        assert await service.wait(PATIENCE)
        assert await is_gone(client, "two_stops")


async def test_handlers_that_all_stop_their_service_do_not_wait_for_one_another(leg: Leg, url: str) -> None:
    running: Collected[str] = Collected()
    async with leg.connect(url) as client:
        service = add_service(client)

        async def last(request: Any) -> None:
            running.add(request.subject)
            await running.wait_len(2)
            await service.stop()
            await request.respond(b"bye")

        service.endpoint("first_of_two", last)
        service.endpoint("second_of_two", last)
        await client.flush()
        answers: list[bytes] = []

        async def ask(subject: str) -> None:
            answers.append((await client.request(subject, b"", timeout=PATIENCE)).data)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "first_of_two")
            group.start_soon(ask, "second_of_two")
        assert answers == [b"bye"] * 2
        assert await service.wait(PATIENCE)


async def test_wait(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        async with add_service(client) as service:
            assert not await service.wait(0.0)
            async with anyio.create_task_group() as group:
                group.start_soon(service.wait)
                await anyio.lowlevel.checkpoint()
                await service.stop()
            assert await service.wait(PATIENCE)
        ended = add_service(client)
        async with anyio.create_task_group() as group:
            group.start_soon(ended.wait)
            await anyio.lowlevel.checkpoint()
            if leg.name == "threads":
                await eventually(lambda: ended.thing._running._waiters, what="it waits")
            await client.close()
        assert ended.stopped
        await ended.stop()


async def test_a_drain_of_the_client_answers_what_runs(leg: Leg, url: str) -> None:
    begun, go_on = Flag(), Flag()

    async def slow(request: Any) -> None:
        begun.set()
        await go_on.wait()
        await request.respond(b"late")

    async with leg.connect(url) as client, leg.connect(url) as other:
        service = add_service(client)
        service.endpoint("drained", slow)
        await client.flush()
        answers: list[bytes] = []

        async def ask() -> None:
            answers.append((await other.request("drained", b"", timeout=PATIENCE)).data)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await begun.wait()
            group.start_soon(client.drain)
            with anyio.fail_after(PATIENCE):
                while await found(services(other, "orders", service.id, timeout=0.5).ping()):
                    pass
            go_on.set()
        assert answers == [b"late"]
        assert service.stopped


async def test_a_service_goes_on_with_the_next_connection(leg: Leg, url: str) -> None:
    log = EventLog()
    async with (
        leg.connect(url) as other,
        leg.connect(url, on_event=log, **QUICK) as client,
        add_service(client, "goes_on") as service,
    ):
        service.endpoint("goes_on", echo)
        await client.flush()
        await client.reconnect()
        await log.wait(Reconnected)
        await client.flush()
        assert [one.id for one in await found(services(other, "goes_on", service.id).ping())] == [service.id]
        assert (await other.request("goes_on", b"x", timeout=PATIENCE)).data == b"x"


async def test_row_65_an_endpoint_that_the_server_refuses(leg: Leg, transport: Transport) -> None:
    allowed: dict[str, object] = {"publish": ">", "subscribe": {"deny": ["secret.>"]}}

    def config() -> dict[str, object]:
        return {"authorization": {"users": [{"user": "me", "password": "me", "permissions": allowed}]}}

    raised: list[PermissionsError] = []
    with transport.server(config()) as server:
        async with leg.connect(server.url, user="me", password="me", **QUICK) as client:
            service = add_service(client)
            service.endpoint("open", echo)
            assert not await service.wait(0.01)

            async def serve() -> None:
                with pytest.raises(PermissionsError) as caught:
                    await service.wait(PATIENCE)
                raised.append(caught.value)

            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    for _ in range(2):
                        group.start_soon(serve)
                    await eventually(lambda: waiting(service) == 2)
                    refused = service.group("secret").endpoint("hidden", echo)
            assert [error.subject for error in raised] == ["secret.hidden"] * 2
            with pytest.raises(PermissionsError):
                await service.wait(PATIENCE)  # it is refused still
            assert (await client.request("open", b"1", timeout=PATIENCE)).data == b"1"
            (told,) = await found(services(client, "orders", service.id).stats())
            text = "403:the server refuses the subscription to 'secret.hidden', which gets nothing"
            assert [(one.num_errors, one.last_error) for one in told.endpoints] == [(0, ""), (1, text)]
            assert refused.stats().num_errors == 1  # and not once more each time

            allowed["subscribe"] = ">"
            await in_thread(partial(server.reload, config()))
            await in_thread(server.restart)
            with anyio.fail_after(PATIENCE):
                while await is_gone(client, "secret.hidden"):
                    await anyio.sleep(0.01)
            assert not await service.wait(0.01)
            await service.stop()
            assert await service.wait()


def waiting(service: Any) -> int:
    """How many wait for the end of a service, as far as can be seen from outside."""
    running = getattr(service, "thing", service)._running
    return len(running._waiters) if hasattr(running, "_waiters") else running._refusal.statistics().tasks_waiting


async def test_statistics_of_the_program_and_reset(leg: Leg, url: str) -> None:
    def handler(info: Any) -> object:
        if info.name == "raises":
            raise ValueError("no statistics")
        return object() if info.name == "unknown" else {"load": [1, info.name]}

    async with leg.connect(url) as client, add_service(client, stats_handler=handler) as service:
        for name in ("plain", "raises", "unknown"):
            service.endpoint(name, echo, subject=f"stats.{name}")
        await client.flush()
        await client.request("stats.plain", b"", timeout=PATIENCE)
        await eventually(lambda: service.stats().endpoints[0].num_requests == 1)
        (told,) = await found(services(client, "orders", service.id).stats())
        assert [one.data for one in told.endpoints] == [{"load": [1, "plain"]}, None, None]
        assert service.endpoints[0].stats() == told.endpoints[0]
        service.reset()
        after = service.stats()
        assert [one.num_requests for one in after.endpoints] == [0, 0, 0]
        assert after.started > told.started


async def test_what_cannot_be_is_refused_before_anything_is_subscribed(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        for name, version, options, error in (
            ("a.b", "1.2.0", {}, InvalidServiceError),
            ("refused", "1.2", {}, InvalidServiceError),
            ("refused", "1.2.0", {"queue_group": "a b"}, InvalidSubjectError),
            ("refused", "1.2.0", {"metadata": {"a": 1}}, TypeError),
            ("refused", "1.2.0", {"stats_handler": 7}, TypeError),
        ):
            with pytest.raises(error):
                add_service(client, name, version, **options)
        async with add_service(client, "refused") as service:
            for name, handler, options, error in (
                ("a.b", echo, {}, InvalidServiceError),
                ("a", echo, {"subject": "a b"}, InvalidSubjectError),
                ("a", echo, {"subject": "$SRV.PING"}, InvalidServiceError),
                ("a", echo, {"concurrency": 0}, ValueError),
                ("a", echo, {"request_type": lambda: None}, TypeError),
                ("a", echo, {"nonsense": 1}, TypeError),
                ("a", 7, {}, TypeError),
            ):
                with pytest.raises(error):
                    service.endpoint(name, handler, **options)
            with pytest.raises(InvalidServiceError):
                service.group("a.>")
            assert service.endpoints == ()
        with pytest.raises(ServiceStoppedError, match="refused"):
            service.endpoint("a", echo)
        assert await found(services(client, "refused").ping()) == []


async def test_a_name_that_is_too_long_leaves_nothing_subscribed(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as other:
        with pytest.raises(MaxControlLineError):
            add_service(client, "x" * 5000)
        await client.flush()
        pings = await found(services(other).ping())
        assert not [one for one in pings if one.name.startswith("xxx")]


async def test_a_request_is_answered_later(leg: Leg, url: str) -> None:
    kept: Collected[Any] = Collected()

    async def keep(request: Any) -> None:
        kept.add(request)

    async with leg.connect(url) as client, leg.connect(url) as other, add_service(client) as service:
        endpoint = service.endpoint("later", keep)
        await client.flush()
        answers: list[str] = []

        async def ask() -> None:
            answers.append(str(service_error(await other.request("later", b"", timeout=PATIENCE))))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            (request,) = await kept.wait_len(1)
            assert not request.answered
            await request.respond_error(503, "not today")
            assert request.answered
        assert answers == ["503:not today"]
        assert endpoint.stats().last_error == "503:not today"
