"""Rows 47 to 49: failures have a type and a text, lists are whole, and what was just made can be used."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

import nats_sync
from nats_proto.errors import NATSError, NATSTimeoutError, PermissionsError
from nats_proto.jetstream import (
    ApiError,
    JetStreamDecodeError,
    JetStreamDomainNotFoundError,
    JetStreamNotEnabledError,
    JetStreamNotEnabledForAccountError,
    StreamNotFoundError,
)
from tests.adapters.legs import Leg, in_thread
from tests.jetstream.cluster import STRICT, Replicas, patiently
from tests.jetstream.fake import FakeApi, consumer_answer, stream_answer
from tests.jetstream.legs import jetstream
from tests.jetstream.steady import steadily
from tests.transports import Transport

pytestmark = pytest.mark.anyio

FULL = os.environ.get("FAULTS") == "full"
LONG = 60.0  # seconds: a failure that is told by a time-out alone would end in the time limit of the test


async def failure(client: Any, **options: Any) -> NATSError:
    with pytest.raises(NATSError) as raised:
        await jetstream(client, timeout=LONG, **options).account_info()
    return raised.value


async def test_row_47_a_server_without_jetstream(leg: Leg, transport: Transport) -> None:
    with transport.server() as server:
        async with leg.connect(server.url) as client:
            error = await failure(client)
    assert type(error) is JetStreamNotEnabledError
    assert (error.code, error.outcome) == (503, "failed")
    assert "$JS.API.INFO" in str(error)


async def test_row_47_an_account_without_jetstream(leg: Leg, transport: Transport) -> None:
    accounts = {
        "WITH": {"jetstream": "enabled", "users": [{"user": "a", "password": "a"}]},
        "WITHOUT": {"users": [{"user": "b", "password": "b"}]},
    }
    with transport.server({"accounts": accounts}, jetstream=STRICT) as server:
        async with leg.connect(server.url, user="b", password="b") as client:
            error = await failure(client)
    assert type(error) is JetStreamNotEnabledForAccountError
    assert error.err_code == 10039
    assert "account info" in str(error)


async def test_row_47_a_domain_that_is_not_there(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        error = await failure(client, domain="nowhere")
    assert type(error) is JetStreamDomainNotFoundError
    assert "domain 'nowhere'" in str(error)


async def test_row_47_a_permission_that_is_missing(leg: Leg, transport: Transport) -> None:
    users = [{"user": "a", "password": "a", "permissions": {"publish": {"deny": ["$JS.API.>"]}}}]
    with transport.server({"authorization": {"users": users}}, jetstream=STRICT) as server:
        async with leg.connect(server.url, user="a", password="a") as client:
            error = await failure(client)
    assert isinstance(error, PermissionsError)
    assert "$JS.API.INFO" in str(error)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "empty"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'{"error":7}', "error"),
        (b'{"streams":7}', "streams"),
        (b"[" * 100_000, "nested"),
    ],
    ids=["empty", "cut off", "array", "null", "error of another shape", "no list", "deep"],
)
async def test_row_47_answers_that_are_none(leg: Leg, url: str, answer: bytes, said: str, transport: Transport) -> None:
    with FakeApi(url, lambda call, body: answer, **transport.options) as fake:
        async with leg.connect(url) as client:
            js = jetstream(client, api_prefix=fake.prefix)
            with pytest.raises(JetStreamDecodeError) as raised:
                _ = [name async for name in js.stream_names()]
            assert raised.value.outcome == "unknown"
            assert said in str(raised.value)
            with pytest.raises(JetStreamDecodeError):
                await js.stream("S").refresh()
            await client.flush()  # the connection is kept


async def test_row_47_a_time_out_names_the_call_and_the_state(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("SILENT.>"):
        await client.flush()
        for _ in range(5):
            with pytest.raises(NATSTimeoutError) as raised:
                await jetstream(client, api_prefix="SILENT", timeout=0.05).stream("S").refresh()
            if raised.value.outcome != "failed":  # where the machine stands still, it may not have been sent
                break
    for said in ("info of stream 'S'", "0.05 s", "SILENT.STREAM.INFO.S", "CONNECTED"):
        assert said in str(raised.value)
    assert raised.value.outcome == "unknown"


# --- row 48 ---------------------------------------------------------------------------------------------------------


async def test_row_48_a_list_of_several_pages_is_whole(leg: Leg, url: str, transport: Transport) -> None:
    """Infos come 256 at a time."""
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s"], storage="memory")
        names = {f"c{number}" for number in range(300)}
        await in_thread(lambda: make_consumers(url, names, transport))
        found = [info.name async for info in stream.consumers()]
        assert (len(found), set(found)) == (300, names)
        assert {name async for name in stream.consumer_names()} == names


def make_consumers(url: str, names: set[str], transport: Transport) -> None:
    with nats_sync.connect(url, **transport.options) as nc:
        for name in names:
            config = {"name": name, "mem_storage": True, "inactive_threshold": 60 * 10**9}
            body = json.dumps({"stream_name": "S", "config": config}).encode()
            assert b'"error"' not in nc.request(f"$JS.API.CONSUMER.CREATE.S.{name}", body, timeout=10).data


def page(call: str, names: list[str], total: int, offset: int) -> dict[str, Any]:
    about = {"total": total, "offset": offset, "limit": 2}
    match call:
        case "STREAM.NAMES":
            return {**about, "streams": names}
        case "STREAM.LIST":
            return {**about, "streams": [stream_answer({"name": name}) for name in names]}
        case "CONSUMER.NAMES.S":
            return {**about, "consumers": names}
        case _:
            return {**about, "consumers": [consumer_answer(name, {}) for name in names]}


PAGES = [
    ("shrinking", {0: (["a", "b"], 5), 2: (["c"], 3)}, "abc"),
    ("repeating", {0: (["a", "b"], 4), 2: (["b", "c"], 4), 4: ([], 4)}, "abc"),
    ("promising too much", {0: (["a"], 9), 1: ([], 9)}, "a"),
    ("growing", {0: (["a", "b"], 2), 2: (["c"], 3)}, "abc"),
    ("empty", {0: ([], 0)}, ""),
    ("saying it is empty", {0: ([], 7)}, ""),
]


@pytest.mark.parametrize(("name", "pages", "found"), PAGES, ids=[name for name, _, _ in PAGES])
async def test_row_48_every_list_ends_and_has_no_doubles(
    leg: Leg, url: str, name: str, pages: dict[int, tuple[list[str], int]], found: str, transport: Transport
) -> None:
    def answer(call: str, body: Any) -> dict[str, Any]:
        offset = (body or {}).get("offset", 0)
        names, total = pages.get(offset, ([], max(total for _, total in pages.values())))
        return page(call, names, total, offset)

    with FakeApi(url, answer, **transport.options) as fake:
        async with leg.connect(url) as client:
            js = jetstream(client, api_prefix=fake.prefix)
            stream = js.stream("S")
            if name == "growing":  # what came after the last page was asked for may be given, or not
                assert [item async for item in js.stream_names()] in (list("ab"), list("abc"))
                return
            assert [item async for item in js.stream_names()] == list(found)
            assert [info.config.name async for info in js.streams()] == list(found)
            assert [item async for item in stream.consumer_names()] == list(found)
            assert [info.name async for info in stream.consumers()] == list(found)


async def test_row_48_a_page_is_asked_for_when_it_is_needed(leg: Leg, url: str, transport: Transport) -> None:
    def answer(call: str, body: Any) -> dict[str, Any]:
        offset = (body or {}).get("offset", 0)
        return page(call, [f"n{offset}", f"n{offset + 1}"], 1000, offset)

    with FakeApi(url, answer, **transport.options) as fake:
        async with leg.connect(url) as client:
            names = jetstream(client, api_prefix=fake.prefix).stream_names()
            assert fake.calls == []
            seen = []
            async for name in names:
                seen.append(name)
                if len(seen) == 3:
                    break
    assert seen == ["n0", "n1", "n2"]
    assert len(fake.calls) == 2


# --- row 49 ---------------------------------------------------------------------------------------------------------


async def test_row_49_what_was_just_made_can_be_used(leg: Leg, calm_replicas: Replicas) -> None:
    """A stream made through one server, a consumer on it through another, a message through the third."""
    a, b, c = calm_replicas.urls
    async with leg.connect(a) as one, leg.connect(b) as two, leg.connect(c) as three:
        for number in range(300 if FULL else 15):
            name = f"S{number}"
            made = jetstream(one).create_stream
            await patiently(made, name, subjects=[name], num_replicas=3, storage="memory")
            consumer = await patiently(jetstream(two).stream(name).create_consumer, "c")
            assert consumer.name == "c"
            assert (await jetstream(three).publish(name, b"1")).sequence == 1
            assert (await patiently(jetstream(three).consumer(name, "c").refresh)).name == "c"
            await patiently(jetstream(one).delete_stream, name)


async def test_row_49_own_creations_are_waited_for_and_others_are_not(leg: Leg, url: str, transport: Transport) -> None:
    """A server that has not heard of the stream yet is asked again; and at once not when it is not ours."""
    unknown = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}
    heard = 0

    def answer(call: str, body: Any) -> dict[str, Any]:
        nonlocal heard
        if call == "STREAM.CREATE.S":
            return stream_answer(body)
        heard += 1
        return consumer_answer("c", body["config"]) if heard > 3 else unknown

    with FakeApi(url, answer, **transport.options) as fake:
        async with leg.connect(url) as client:
            js = jetstream(client, api_prefix=fake.prefix)
            with steadily(url, **transport.options) as steady:
                await js.create_stream("S")
                try:
                    assert (await js.stream("S").create_consumer("c")).name == "c"
                except StreamNotFoundError:
                    assert steady.stood_still > 1.0  # what was made seconds ago is new no more
                else:
                    assert heard == 4
            heard = 0
            with pytest.raises(StreamNotFoundError):
                await js.stream("T").create_consumer("c")
            assert heard == 1
            heard = -1000
            await js.create_stream("S")
            with steadily(url, **transport.options) as steady:
                with pytest.raises((StreamNotFoundError, NATSTimeoutError)) as raised:
                    await js.stream("S").create_consumer("c", timeout=2.0)  # no longer than the call may take
                if steady.stood_still < 0.1:
                    assert raised.type is StreamNotFoundError
                    assert heard > -1000 + 1


async def test_row_49_what_we_have_deleted_is_not_waited_for(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client, timeout=LONG)
        stream = await js.create_stream("S", subjects=["s"])
        await js.delete_stream("S")
        with pytest.raises(StreamNotFoundError) as raised:
            await stream.refresh()
        assert isinstance(raised.value, ApiError)
        assert "info of stream 'S'" in str(raised.value)
