"""Connect, publish, subscribe, headers, options: what every program does first."""

from __future__ import annotations

import pytest

import nats_proto
from nats_proto import ConnectOptions, Headers, SessionStatus
from nats_proto.errors import (
    ConfigurationError,
    ConnectionClosedError,
    InvalidHeaderError,
    InvalidSubjectError,
    InvalidURLError,
    MaxControlLineError,
    MaxPayloadError,
    NoReplySubjectError,
)
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, Collected, Leg, eventually
from tests.transports import Transport

pytestmark = pytest.mark.anyio


# --- connect ---------------------------------------------------------------------------------------------------------


@pytest.mark.transports("tcp", "tls", "ws", "wss")
async def test_connect_shows_where_it_is(leg: Leg, url: str) -> None:
    async with leg.connect(url, name="billing") as client:
        assert client.status is SessionStatus.CONNECTED
        assert client.connected_url == url
        assert list(client.servers) == [url]
        assert client.server_info is not None
        assert client.server_info.version.startswith("2.")
        assert client.max_payload == client.server_info.max_payload == 1024 * 1024
        assert client.last_error is None
        assert client.name == "billing"
        assert client.stats == nats_proto.StatsSnapshot()
    assert client.status is SessionStatus.CLOSED
    assert client.connected_url is None


@pytest.mark.parametrize("given", ["{0}", "{1}, {0}", "{0},{0}"], ids=["one", "comma", "twice"])
async def test_servers_as_one_string(leg: Leg, url: str, transport: Transport, free_port: int, given: str) -> None:
    dead = transport.url(free_port)
    async with leg.connect(given.format(url, dead), randomize_servers=False) as client:
        assert client.connected_url == url


async def test_servers_as_a_list(leg: Leg, url: str, transport: Transport, free_port: int) -> None:
    dead = transport.url(free_port)
    async with leg.connect([dead, url], randomize_servers=False) as client:
        assert client.connected_url == url
        assert set(client.servers) == {dead, url}


@pytest.mark.transports("tcp")
async def test_address_without_scheme(leg: Leg, shared_server: LocalServer) -> None:
    async with leg.connect(f"127.0.0.1:{shared_server.port}") as client:
        assert client.connected_url == shared_server.url


async def test_host_name(leg: Leg, url: str) -> None:
    async with leg.connect(url.replace("127.0.0.1", "localhost")) as client:
        await client.flush()


async def test_options_as_one_value(leg: Leg, url: str) -> None:
    async with leg.connect(url, options=ConnectOptions(name="one value", verbose=True)) as client:
        assert client.name == "one value"
        await client.flush()


@pytest.mark.parametrize(
    "wrong",
    [
        {"options": ConnectOptions(), "name": "both"},
        {"ping_interval": -1.0},
        {"connect_timeout": 0.0},
        {"max_pings_out": 0},
        {"user": "u", "token": "t"},
        {"password": "p"},
        {"pending_size": -1},
    ],
    ids=lambda wrong: "+".join(wrong),
)
async def test_wrong_options_are_refused_before_the_dial(leg: Leg, url: str, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        async with leg.connect(url, **wrong):
            pass


async def test_an_unknown_option_is_a_type_error(leg: Leg, url: str) -> None:
    with pytest.raises(TypeError):
        async with leg.connect(url, no_such_option=1):
            pass


@pytest.mark.parametrize("wrong", ["http://127.0.0.1", "nats://127.0.0.1:99999", "nats://", "nats://a b", "nats://h:x"])
async def test_a_wrong_url_is_refused(leg: Leg, wrong: str) -> None:
    with pytest.raises(InvalidURLError):
        async with leg.connect(wrong):
            pass


async def test_the_server_is_told_who_we_are(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, name="billing"):
        (connection,) = server.connz()["connections"]
        assert connection["name"] == "billing"
        assert connection["lang"] == "python3"
        assert connection["version"] == nats_proto.__version__


@pytest.mark.parametrize("fields", [("verbose",), ("pedantic",), ("verbose", "pedantic")], ids="+".join)
async def test_verbose_and_pedantic(leg: Leg, url: str, fields: tuple[str, ...]) -> None:
    async with leg.connect(url, **dict.fromkeys(fields, True)) as client, client.subscribe("v") as sub:
        for n in range(100):
            await client.publish("v", b"%d" % n)
        assert [(await sub.next(timeout=PATIENCE)).data for _ in range(100)] == [b"%d" % n for n in range(100)]
        await client.flush()


async def test_an_exception_inside_the_block_comes_out_as_itself(leg: Leg, url: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with leg.connect(url) as client:
            raise ZeroDivisionError
    assert client.status is SessionStatus.CLOSED


# --- publish and subscribe -------------------------------------------------------------------------------------------


async def test_a_message_arrives_as_it_was_sent(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("orders.*") as sub:
        await client.publish("orders.new", b"\x00\r\n\xff", reply="answers.1", headers={"Trace": "1"})
        message = await sub.next(timeout=PATIENCE)
        assert message.subject == "orders.new"
        assert message.reply == "answers.1"
        assert message.data == b"\x00\r\n\xff"
        assert message.headers["Trace"] == "1"
        assert message.status is None
        assert message.header_error is None
        assert message.sid == sub.sid


async def test_a_message_without_headers_and_payload(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("empty") as sub:
        await client.publish("empty")
        message = await sub.next(timeout=PATIENCE)
        assert (message.data, message.reply, message.headers, message.status) == (b"", None, None, None)


@pytest.mark.transports("tcp", "tls", "ws", "wss")
@pytest.mark.parametrize("size", [1, 4096, 65_535, 65_536, 1_000_000])
async def test_payloads_of_all_sizes(leg: Leg, url: str, size: int) -> None:
    data = bytes(n * 31 % 251 for n in range(size))
    async with leg.connect(url) as client, client.subscribe("sizes") as sub:
        await client.publish("sizes", data)
        await client.publish("sizes", b"end")
        assert (await sub.next(timeout=PATIENCE)).data == data
        assert (await sub.next(timeout=PATIENCE)).data == b"end"


@pytest.mark.parametrize("kind", [bytearray, memoryview])
@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_buffer_changed_after_publish_does_not_change_the_message(
    leg: Leg, url: str, kind: type, size: int
) -> None:
    async with leg.connect(url) as client, client.subscribe("buffers") as sub:
        buffer = bytearray(b"a" * size)
        await client.publish("buffers", kind(buffer))
        buffer[:] = b"b" * size
        assert (await sub.next(timeout=PATIENCE)).data == b"a" * size


async def test_utf8_subjects(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("größe.*") as sub:
        await client.publish("größe.日本")
        assert (await sub.next(timeout=PATIENCE)).subject == "größe.日本"


async def test_wildcards(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("a.*.c") as star, client.subscribe("a.>") as rest:
        for subject in ("a.b.c", "a.b.d", "a.b", "b.b.c"):
            await client.publish(subject)
        await client.flush()
        assert star.pending[0] == 1
        assert [(await rest.next(timeout=PATIENCE)).subject for _ in range(3)] == ["a.b.c", "a.b.d", "a.b"]
        assert rest.pending == (0, 0)


async def test_a_queue_group_gets_each_message_once(leg: Leg, url: str) -> None:
    async with leg.connect(url) as one, leg.connect(url) as two:
        subs = [
            await one.subscribe("work", queue="workers"),
            await one.subscribe("work", queue="workers"),
            await two.subscribe("work", queue="workers"),
            await two.subscribe("work", queue="others"),
        ]
        assert [sub.queue for sub in subs] == ["workers", "workers", "workers", "others"]
        await two.flush()
        for n in range(300):
            await one.publish("work", b"%d" % n)
        await one.flush()
        await eventually(lambda: sum(sub.pending[0] for sub in subs) == 600)
        shares = [[message.data for message in await sub.next_batch(1000, timeout=PATIENCE)] for sub in subs]
        assert sorted((*shares[0], *shares[1], *shares[2]), key=int) == [b"%d" % n for n in range(300)]
        assert shares[3] == [b"%d" % n for n in range(300)]


async def test_no_echo(leg: Leg, url: str) -> None:
    async with leg.connect(url, echo=False) as silent, leg.connect(url) as other:
        own, seen = await silent.subscribe("echo"), await other.subscribe("echo")
        await other.flush()
        await silent.publish("echo", b"from silent")
        await silent.flush()
        await other.publish("echo", b"from other")
        assert (await own.next(timeout=PATIENCE)).data == b"from other"
        assert (await seen.next(timeout=PATIENCE)).data == b"from silent"


@pytest.mark.transports("tcp", "tls", "ws", "wss")
async def test_messages_of_one_publisher_keep_their_order(leg: Leg, url: str) -> None:
    async with leg.connect(url) as publisher, leg.connect(url) as reader, reader.subscribe("order.*") as sub:
        await reader.flush()
        for n in range(2000):
            await publisher.publish(f"order.{n % 3}", b"%d" % n)
        got = [int((await sub.next(timeout=PATIENCE)).data) for _ in range(2000)]
        assert got == list(range(2000))


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.transports("tcp", "tls", "ws", "wss")
async def test_headers_make_the_round_trip(leg: Leg, url: str) -> None:
    lines = [("Key", "1"), ("key", "odd"), ("Key", "2"), ("Empty", ""), ("Text", "größe 日本"), ("A-B_c!", "x:y")]
    async with leg.connect(url) as client, client.subscribe("headers") as sub:
        await client.publish("headers", b"data", headers=Headers(lines))
        headers = (await sub.next(timeout=PATIENCE)).headers
        assert list(headers.items()) == lines
        assert headers.values("Key") == ["1", "2"]
        assert headers.get("KEY") is None
        assert headers.get_any_case("KEY") in ("1", "odd")


@pytest.mark.parametrize("given", [{"A": ["1", "2"]}, [("A", "1"), ("A", "2")], Headers({"A": ["1", "2"]})], ids=repr)
async def test_headers_in_all_forms(leg: Leg, url: str, given: object) -> None:
    async with leg.connect(url) as client, client.subscribe("headers") as sub:
        await client.publish("headers", headers=given)
        assert (await sub.next(timeout=PATIENCE)).headers.values("A") == ["1", "2"]


async def test_no_headers_at_all_is_a_plain_message(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("headers") as sub:
        await client.publish("headers", headers={})
        assert (await sub.next(timeout=PATIENCE)).headers is None


async def test_headers_cannot_add_lines(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        for name, value in (
            ("A", "x\r\nB: y"), ("A\r\n", "x"), ("A:", "x"), ("", "x"), ("A", "x\x00"), ("A b", "x"), ("Ä", "x"),
            ("A", "x\n"), ("A", "\ud800"),
        ):  # fmt: skip
            for call in (client.publish, client.request):
                with pytest.raises(InvalidHeaderError):
                    await call("headers", headers={name: value})
        assert client.stats.out_msgs == 0
        await client.flush()


# --- misuse ----------------------------------------------------------------------------------------------------------


ATTACKS = ("", "a b", "a\r\nPUB b 0\r\n", "a\nb", "a\x00b", "a\tb", "a\x7fb", "a\ud800")


async def test_wrong_subjects_are_refused_before_the_wire(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        for subject in (*ATTACKS, "a..b", ".a", "a.", "a.*", ">"):
            for call in (client.publish, client.request):
                with pytest.raises(InvalidSubjectError):
                    await call(subject, b"data")
            with pytest.raises(InvalidSubjectError):
                await client.publish("a", reply=subject)
            with pytest.raises(InvalidSubjectError):
                async for _ in client.request_many(subject):
                    pass
        assert client.stats.out_msgs == 0
        await client.flush()
        assert client.status is SessionStatus.CONNECTED


async def test_wrong_subscriptions_are_refused_before_the_wire(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        for subject in (*ATTACKS, "a..b", ".a", "a.", "a*", ">.a", "a.>.b"):
            with pytest.raises(InvalidSubjectError):
                await client.subscribe(subject)
        for queue in ATTACKS:
            with pytest.raises(InvalidSubjectError):
                await client.subscribe("a", queue=queue)
        await client.flush()
        assert client.status is SessionStatus.CONNECTED


async def test_a_subject_longer_than_the_servers_line_is_refused(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        with pytest.raises(MaxControlLineError):
            await client.publish("a" * 5000)
        with pytest.raises(MaxControlLineError):
            await client.subscribe("a" * 5000)
        await client.flush()


@pytest.mark.parametrize("data", ["text", None, 5, ["list"]], ids=repr)
async def test_a_payload_that_is_no_buffer_is_a_type_error(leg: Leg, url: str, data: object) -> None:
    async with leg.connect(url) as client:
        with pytest.raises(TypeError):
            await client.publish("a", data)
        await client.flush()
        assert client.stats.out_msgs == 0


async def test_headers_count_towards_max_payload(leg: Leg, transport: Transport) -> None:
    with transport.server({"max_payload": 1000}) as server:
        async with leg.connect(server.url) as client, client.subscribe("big") as sub:
            assert client.max_payload == 1000
            await client.publish("big", b"x" * 1000)
            for data, headers in ((b"x" * 1001, None), (b"x" * 990, {"A": "b"}), (b"", {"A": "b" * 990})):
                with pytest.raises(MaxPayloadError, match="1000"):
                    await client.publish("big", data, headers=headers)
                with pytest.raises(MaxPayloadError):
                    await client.request("big", data, headers=headers)
            await client.publish("big", b"x" * 980, headers={"A": "b"})
            assert [len((await sub.next(timeout=PATIENCE)).data) for _ in range(2)] == [1000, 980]
            assert client.status is SessionStatus.CONNECTED
            assert client.stats.reconnects == 0


# --- respond, inboxes, statistics ------------------------------------------------------------------------------------


async def test_respond(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("asked") as asked, client.subscribe("answered") as answered:
        await client.publish("asked", reply="answered")
        await (await asked.next(timeout=PATIENCE)).respond(b"yes", headers={"A": "b"})
        answer = await answered.next(timeout=PATIENCE)
        assert answer.data == b"yes"
        assert answer.headers["A"] == "b"


async def test_respond_without_a_reply_subject(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("asked") as sub:
        await client.publish("asked")
        message = await sub.next(timeout=PATIENCE)
        with pytest.raises(NoReplySubjectError, match="asked"):
            await message.respond(b"yes")


async def test_inboxes_are_never_the_same(leg: Leg, url: str) -> None:
    async with leg.connect(url) as one, leg.connect(url, inbox_prefix="private.billing") as two:
        inboxes = {client.new_inbox() for _ in range(500) for client in (one, two)}
        assert len(inboxes) == 1000
        assert {inbox.rpartition(".")[0] for inbox in inboxes} == {"_INBOX", "private.billing"}
        async with one.subscribe(one.new_inbox()) as sub:
            await one.publish(sub.subject, b"for one")
            assert (await sub.next(timeout=PATIENCE)).data == b"for one"


async def test_requests_use_the_inbox_prefix(leg: Leg, url: str) -> None:
    async with leg.connect(url, inbox_prefix="private.billing") as client, client.subscribe("asked") as sub:
        replies: Collected[str] = Collected()

        async def answer(message: object) -> None:
            replies.add(message.reply)
            await message.respond(b"yes")

        await client.subscribe("price", callback=leg.handler(answer))
        assert (await client.request("price", timeout=PATIENCE)).data == b"yes"
        assert replies[0].startswith("private.billing.")
        assert sub.pending == (0, 0)


async def test_statistics(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("counted") as sub:
        for _ in range(5):
            await client.publish("counted", b"12345", headers={"not": "counted"})
        for _ in range(5):
            await sub.next(timeout=PATIENCE)
        stats = client.stats
        assert (stats.out_msgs, stats.out_bytes, stats.in_msgs, stats.in_bytes) == (5, 25, 5, 25)
        assert stats.reconnects == 0
        assert (sub.delivered, sub.dropped, sub.pending) == (5, 0, (0, 0))


async def test_after_the_block_everything_says_closed(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        sub = await client.subscribe("a")
    for call in (
        lambda: client.publish("a"),
        lambda: client.request("a"),
        lambda: client.flush(),
        lambda: client.rtt(),
        lambda: client.drain(),
        lambda: client.reconnect(),
        lambda: sub.next(timeout=1),
        lambda: sub.next_batch(5, timeout=1),
    ):
        with pytest.raises(ConnectionClosedError):
            await call()
    with pytest.raises(ConnectionClosedError):
        await client.subscribe("b")
    with pytest.raises(ConnectionClosedError):
        async for _ in client.request_many("a"):
            pass
    assert [message async for message in sub] == []
    await sub.unsubscribe()
    await client.close()
