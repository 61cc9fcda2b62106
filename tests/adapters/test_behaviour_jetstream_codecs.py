"""Buckets whose keys and values are translated (ADR-54), on three legs: whatever is done goes through the codecs."""

from __future__ import annotations

from typing import Any, NamedTuple

import anyio
import pytest

from nats_proto.jetstream import (
    Base64Keys,
    Base64Values,
    ChainedKeys,
    ChainedValues,
    InitialValuesDone,
    KeyCodec,
    KeyDeletedError,
    KeyNotFoundError,
    PathKeys,
    ValueCodec,
    WildcardNotSupportedError,
)
from nats_sync.testing import LocalServer
from tests.adapters.jetstream import jetstream, js_server
from tests.adapters.legs import PATIENCE, Leg, eventually
from tests.server_version import needs_server

__all__ = ["js_server"]

pytestmark = pytest.mark.anyio


class Backwards:
    """A codec for keys that takes no patterns."""

    def encode(self, key: str) -> str:
        return f"x{key[::-1]}"

    def decode(self, key: str) -> str:
        if not key.startswith("x"):
            raise ValueError("it was not turned round")
        return key[:0:-1]


class Masked:
    """A codec for values: stands for one that encrypts them."""

    def encode(self, value: bytes) -> bytes:
        return b"\xff" + value[::-1]

    def decode(self, data: bytes) -> bytes:
        if not data.startswith(b"\xff"):
            raise ValueError("it is not masked")
        return data[:0:-1]


class Case(NamedTuple):
    """Two keys and a pattern that only the first one is of; what stands in the bucket for the first key and ``1``."""

    keys: KeyCodec
    values: ValueCodec
    key: str
    other: str
    pattern: str
    stored_key: str
    stored_value: bytes


CASES = {
    "base64": Case(
        Base64Keys(), Base64Values(), "Acme Inc.a.*", "Acme", "Acme Inc.>", "QWNtZSBJbmM.YQ.Kg", b"MQ"
    ),
    "paths": Case(PathKeys(), ChainedValues(), "/etc/app", "/usr", "/etc/*", "_root_.etc.app", b"1"),
    "chains": Case(
        ChainedKeys(PathKeys(), Base64Keys()),
        ChainedValues(Masked(), Base64Values()),
        "/etc/a b",
        "/usr",
        "/etc/*",
        "X3Jvb3Rf.ZXRj.YSBi",
        b"_zE",
    ),
    "no patterns": Case(Backwards(), Masked(), "a.b", "c", "a.b", "xb.a", b"\xff1"),
}  # fmt: skip


async def opened(leg_client: Any, case: Case) -> tuple[Any, Any]:
    """A bucket as it is, and through the codecs; it has a key that the codec cannot have made."""
    plain = await jetstream(leg_client).create_key_value("B", history=5)
    await plain.put("not-one-of-it", b"0")
    return plain, plain.with_keys(case.keys).with_values(case.values)


@pytest.mark.parametrize("name", CASES)
async def test_n16_what_is_written_is_read(leg: Leg, js_server: LocalServer, name: str) -> None:
    case = CASES[name]
    key, other = case.key, case.other
    async with leg.connect(js_server.url) as client:
        plain, kv = await opened(client, case)
        first = await kv.create(key, b"1")
        entry = await plain.get(case.stored_key)
        assert (entry.value, entry.revision) == (case.stored_value, first)
        entry = await kv.get(key)
        assert (entry.key, entry.value, entry.data) == (key, b"1", case.stored_value)
        assert (await kv.get(key, revision=first)).value == b"1"
        await plain.put(case.stored_key, case.values.encode(b"2"))  # by a client of another language
        assert (await kv.get(key, reads="leader")).value == b"2"
        assert await kv.modify(key, lambda value: value + b"3") == first + 2
        await kv.update(key, b"4", first + 2)
        await kv.put(other, b"5")
        # Where nothing but this key is meant, what would be a wildcard in a pattern is a part of it.
        assert [(one.key, one.value) for one in await kv.history(key)] == [
            (key, b"1"), (key, b"2"), (key, b"23"), (key, b"4"),
        ]  # fmt: skip
        many = await kv.get_many([key, other])
        assert {found: entry.value for found, entry in many.items()} == {key: b"4", other: b"5"}
        await kv.delete(key)
        with pytest.raises(KeyDeletedError) as deleted:
            await kv.get(key)
        assert deleted.value.key == key
        await kv.purge(other)
        assert (await kv.purge_deletes(older_than=0)).keys == 2
        with pytest.raises(KeyNotFoundError):
            await kv.history(key)
        assert (await plain.get("not-one-of-it")).value == b"0"


@pytest.mark.parametrize("name", CASES)
async def test_n16_patterns(leg: Leg, js_server: LocalServer, name: str) -> None:
    case = CASES[name]
    key, other = case.key, case.other
    async with leg.connect(js_server.url) as client:
        _, kv = await opened(client, case)
        await kv.put(key, b"1")
        await kv.put(other, b"2")
        every = () if name != "paths" else (key, other)  # as a path any key could be read
        keys = {one async for one in kv.keys(*every)}
        assert keys == {key, other}
        assert [one async for one in kv.keys(case.pattern)] == [key]
        with anyio.fail_after(PATIENCE):
            async with kv.watch(case.pattern) as watch:
                seen: list[Any] = []
                async for entry in watch:
                    if isinstance(entry, InitialValuesDone):
                        await kv.put(other, b"3")
                        await kv.put(key, b"4")
                        continue
                    seen.append((entry.key, entry.value))
                    if len(seen) == 2:
                        break
        assert seen == [(key, b"1"), (key, b"4")]
        async with kv.mapping(case.pattern) as view:
            mapping = getattr(view, "thing", view)
            assert dict(mapping) == {key: b"4"}
            await kv.put(key, b"5")
            await eventually(lambda: dict(mapping) == {key: b"5"})
            await kv.delete(key)
            await eventually(lambda: not mapping)


async def test_n16_a_codec_that_takes_no_patterns(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        plain = await jetstream(client).create_key_value("B")
        kv = plain.with_keys(Backwards())
        await kv.put("a.b", b"1")
        await plain.put("y", b"2")

        async def watched(pattern: str) -> None:
            async with kv.watch(pattern):
                pass

        for pattern in ("a.*", ">.b", "a*"):
            with pytest.raises(WildcardNotSupportedError, match="Backwards takes no patterns"):
                await watched(pattern)
            with pytest.raises(WildcardNotSupportedError):
                _ = [key async for key in kv.keys(pattern)]
        for patterns in ((), (">",)):
            assert [key async for key in kv.keys(*patterns)] == ["a.b"]


async def test_n16_a_history_is_of_one_key(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = (await jetstream(client).create_key_value("B", history=5)).with_keys(Base64Keys())
        for key in ("a.b", "a.*", "a.c", "a.*"):
            await kv.put(key, key.encode())
        assert [entry.key for entry in await kv.history("a.*")] == ["a.*", "a.*"]
        assert [key async for key in kv.keys("a.*")] == ["a.b", "a.c", "a.*"]


@needs_server(2, 11, has="a time to live of messages")
async def test_n16_a_lock_whose_key_would_be_a_pattern(leg: Leg, js_server: LocalServer) -> None:
    """Another key that the pattern would match says nothing about the lock."""
    async with leg.connect(js_server.url) as client:
        kv = (await jetstream(client).create_key_value("B", limit_marker_ttl=60)).with_keys(Base64Keys())
        async with kv.lock("a.*", ttl=10, timeout=PATIENCE) as lock:
            held = getattr(lock, "thing", lock)
            await kv.put("a.b", b"1")
            await kv.delete("a.b")
            assert [entry.key for entry in await kv.history("a.b")] == ["a.b"]
            with pytest.raises(TimeoutError):
                await kv.lock("a.*", ttl=10).acquire(0.05)
            assert held.held
        assert not held.held
