"""Functions that are given to JetStream, to buckets and to services, and that would do nothing when they are called."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from nats_sync.testing import LocalServer
from tests.adapters.jetstream import jetstream, js_server
from tests.adapters.legs import Leg, in_thread

__all__ = ["js_server"]

pytestmark = pytest.mark.anyio


def generates(*_: object) -> Any:
    yield None


async def awaits(*_: object) -> None:
    """Nobody awaits it where threads call it, or where it is only told something."""


def plain(*_: object) -> None:
    """What can be called."""


class Everything:
    """What a client has to do with: the classes of the client itself, which for threads are not awaited."""

    client: Any
    js: Any
    stream: Any
    consumer: Any
    kv: Any
    store: Any


# Each by the words with which its error begins. The second: whether the client for tasks awaits what it returns.
GIVEN: dict[str, tuple[bool, Callable[[Everything, Any], object]]] = {
    "consume: the handler": (True, lambda given, wrong: given.consumer.consume(wrong)),
    "on_warning": (False, lambda given, wrong: given.consumer.consume(plain, on_warning=wrong)),
    "work: the handler": (True, lambda given, wrong: given.consumer.work(wrong)),
    "work: the key": (False, lambda given, wrong: given.consumer.work(plain, key=wrong)),
    "work: on_error": (False, lambda given, wrong: given.consumer.work(plain, on_error=wrong)),
    "on_change: the handler": (True, lambda given, wrong: given.kv.on_change(wrong)),
    "lock: on_lost": (True, lambda given, wrong: given.kv.lock("k", on_lost=wrong)),
    "modify: the change": (False, lambda given, wrong: given.kv.modify("k", wrong)),
    "put: progress": (False, lambda given, wrong: given.store.put("o", b"new", progress=wrong)),
    "get_bytes: progress": (False, lambda given, wrong: given.store.get_bytes("o", progress=wrong)),
    "fast_ingest: on_report": (False, lambda given, wrong: given.js.fast_ingest(on_report=wrong)),
    "request_many: the sentinel": (False, lambda given, wrong: given.client.request_many("a", sentinel=wrong)),
    "add_service: the stats_handler": (
        False,
        lambda given, wrong: given.client.add_service("s", version="1.0.0", stats_handler=wrong),
    ),
}


async def carried_out(call: Callable[[], Any], *, threads: bool) -> None:
    """Call it, and await what it returns, take the first item of that, or enter it: whatever it is made for."""
    if threads:
        await in_thread(lambda: _carried_out(call()))
        return
    result = call()
    if isinstance(result, Awaitable):
        result = await result
    if hasattr(result, "__anext__"):
        await anext(result, None)
    elif hasattr(result, "__aenter__"):
        async with result:
            pass


def _carried_out(result: Any) -> None:
    if hasattr(result, "__next__"):
        next(result, None)
    elif hasattr(result, "__enter__"):
        with result:
            pass


async def everything(client: Any, threads: bool) -> Everything:
    js = jetstream(client)
    stream = await js.create_stream("S", subjects=["s"], storage="memory")
    await stream.create_consumer("C")
    await (await js.create_key_value("B", storage="memory", limit_marker_ttl=10)).put("k", b"old")
    await (await js.create_object_store("O", storage="memory")).put("o", b"old")
    given = Everything()
    given.client = client.client if threads else client
    given.js = given.client.jetstream()
    given.stream = given.js.stream("S")
    given.consumer = given.stream.consumer("C")
    if threads:
        given.kv, given.store = await in_thread(lambda: (given.js.key_value("B"), given.js.object_store("O")))
    else:
        given.kv, given.store = await given.js.key_value("B"), await given.js.object_store("O")
    return given


async def test_a_function_that_would_do_nothing_is_refused_at_once(leg: Leg, js_server: LocalServer) -> None:
    threads = leg.name == "threads"
    async with leg.connect(js_server.url) as client:
        given = await everything(client, threads)
        for name, (awaited, call) in GIVEN.items():
            for wrong in ("text", generates, *(() if awaited and not threads else (awaits,))):
                with pytest.raises(TypeError, match=f"^{name} cannot be used, it "):
                    await carried_out(partial(call, given, wrong), threads=threads)
        js = jetstream(client)
        assert (await (await js.key_value("B")).get("k")).value == b"old"
        assert await (await js.object_store("O")).get_bytes("o") == b"old"
        assert (await js.consumer("S", "C").refresh()).num_waiting == 0


# Values of which something else than the call itself found out that they make no sense, in its own words. Each by the
# error, which names the argument.
VALUES: list[tuple[type[Exception], str, Callable[[Everything], object]]] = [
    (TypeError, "max_messages must be given, or max_bytes", lambda given: given.consumer.fetch()),
    (ValueError, "max_messages must be from 1", lambda given: given.consumer.fetch(-1)),
    (TypeError, "warnings must be an iterable, not NoneType", lambda given: given.consumer.diagnose(None)),
    (TypeError, "warnings must be several, not one str", lambda given: given.consumer.diagnose("silent")),
    (TypeError, "warnings must be ConsumerWarning, not int", lambda given: given.consumer.diagnose([1])),
    (TypeError, "modify: the change cannot be used, it must be callable", lambda given: given.kv.modify("k", None)),
    (TypeError, "keys must be an iterable, not NoneType", lambda given: given.kv.get_many(None)),
    (TypeError, "keys must be several, not one str: write ['k']", lambda given: given.kv.get_many("k")),
    (TypeError, "value_type cannot be read from JSON", lambda given: given.kv.typed(-1)),
    (TypeError, "subjects must be an iterable, not NoneType", lambda given: given.stream.get_last_msgs(None)),
    (
        TypeError,
        "filter_subjects must be an iterable, not int",
        lambda given: given.stream.ordered_consumer(filter_subjects=-1),
    ),
    (TypeError, "group must be str, not int", lambda given: given.stream.unpin_consumer("C", 1)),
    (ValueError, "group has a lone surrogate", lambda given: given.stream.unpin_consumer("C", "\ud800")),
    (TypeError, "value cannot be written as JSON", lambda given: given.client.request_service("s", object())),
    (ValueError, "value cannot be written as JSON", lambda given: given.client.request_service("s", "\ud800")),
    (
        TypeError,
        "response_type cannot be read from JSON",
        lambda given: given.client.request_service("s", b"", response_type=-1),
    ),
]


async def test_a_value_that_makes_no_sense_is_refused_by_the_name_of_its_argument(
    leg: Leg, js_server: LocalServer
) -> None:
    threads = leg.name == "threads"
    async with leg.connect(js_server.url) as client:
        given = await everything(client, threads)
        for error, text, call in VALUES:
            with pytest.raises(error, match=f"^{re.escape(text)}"):
                await carried_out(partial(call, given), threads=threads)
        await client.flush()


async def test_a_text_that_is_no_utf8_is_refused_at_once(leg: Leg, js_server: LocalServer) -> None:
    """It used to be found out by a thread or a task of the client, which ended the client."""
    threads = leg.name == "threads"
    async with leg.connect(js_server.url) as client:
        given = await everything(client, threads)
        wrong = "\ud800"
        calls: list[Callable[[], object]] = [
            lambda: given.consumer.consume(plain, group=wrong),
            lambda: given.consumer.messages(group=wrong),
            lambda: given.consumer.work(plain, group=wrong),
            lambda: given.consumer.next(timeout=1, group=wrong),
            lambda: given.consumer.fetch(1, timeout=1, group=wrong),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=r"^group has a lone surrogate"):
                await carried_out(call, threads=threads)
        with pytest.raises(ValueError, match=r"^holder has a lone surrogate"):
            given.kv.lock("k", holder=wrong)
        await client.flush()
