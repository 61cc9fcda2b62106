"""Request and reply, one answer or many."""

from __future__ import annotations

import re

import anyio
import pytest

from nats_proto import SessionStatus
from nats_proto.errors import NATSTimeoutError, NoRespondersError, OutboundBufferLimitError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, EventLog, Flag, Leg, eventually
from tests.faults.peer import Connection, Peer, handshake

pytestmark = pytest.mark.anyio


async def echo(message: object) -> None:
    await message.respond(message.data, headers=message.headers)


# --- one answer ------------------------------------------------------------------------------------------------------


async def test_a_request_is_answered(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as service:
        await service.subscribe("price", callback=leg.handler(echo))
        await service.flush()
        reply = await client.request("price", b"42", timeout=PATIENCE, headers={"A": "b"})
        assert reply.data == b"42"
        assert reply.headers["A"] == "b"


async def test_a_request_to_nobody_fails_at_once(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        for n in range(20):
            with anyio.fail_after(PATIENCE), pytest.raises(NoRespondersError, match=f"nobody.{n}") as caught:
                await client.request(f"nobody.{n}", timeout=60)
            assert caught.value.subject == f"nobody.{n}"
            assert caught.value.outcome == "failed"


async def test_a_timeout_says_what_was_asked(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("silent"):
        with pytest.raises(NATSTimeoutError) as caught:
            await client.request("silent", timeout=0.05)
        text = str(caught.value)
        assert "request" in text
        assert "silent" in text
        assert re.search(r"\b0\.05 s", text)
        assert "CONNECTED" in text.upper()
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.outcome == "unknown"


async def test_many_requests_at_once_get_their_own_answers(leg: Leg, url: str) -> None:
    answers: dict[int, bytes] = {}
    async with leg.connect(url) as client, leg.connect(url) as service:
        await service.subscribe("price", queue="q", callback=leg.handler(echo))
        await service.flush()

        async def ask(n: int) -> None:
            answers[n] = (await client.request("price", b"%d" % n, timeout=PATIENCE)).data

        async with anyio.create_task_group() as group:
            for n in range(200):
                group.start_soon(ask, n)
        assert answers == {n: b"%d" % n for n in range(200)}
        assert client.stats.dropped_replies == 0


async def test_only_one_subscription_for_all_requests(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as client:
        await client.subscribe("price", callback=leg.handler(echo))
        for _ in range(10):
            await client.request("price", timeout=PATIENCE)
        (connection,) = server.connz()["connections"]
        assert connection["subscriptions"] == 2


async def test_a_late_answer_is_counted_and_reaches_nobody(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("late") as sub:
        with pytest.raises(NATSTimeoutError):
            await client.request("late", b"first", timeout=0.05)
        late = await sub.next(timeout=PATIENCE)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                reply = await client.request("late", b"second", timeout=PATIENCE)
                assert reply.data == b"to the second"

            group.start_soon(ask)
            second = await sub.next(timeout=PATIENCE)
            await late.respond(b"to the first")
            await second.respond(b"to the second")
        await eventually(lambda: client.stats.dropped_replies == 1)


async def test_the_first_of_two_answers_wins(leg: Leg, url: str) -> None:
    async def twice(message: object) -> None:
        await message.respond(b"one")
        await message.respond(b"two")

    async with leg.connect(url) as client:
        await client.subscribe("twice", callback=leg.handler(twice))
        for _ in range(5):
            assert (await client.request("twice", timeout=PATIENCE)).data == b"one"
        await client.flush()
        await eventually(lambda: client.stats.dropped_replies == 5)


@pytest.mark.parametrize("payload", [b"", b"not empty"], ids=["empty", "payload"])
async def test_only_a_503_without_payload_means_no_responders(leg: Leg, payload: bytes) -> None:
    block = b"NATS/1.0 503\r\n\r\n"

    def answer(connection: Connection) -> None:
        reply = connection.expect(re.compile(rb"PUB price (\S+) 0\r\n")).split()[2]
        sid = re.search(rb"SUB \S+ (\d+)\r\n", connection.received)[1]
        lengths = b"%d %d" % (len(block), len(block) + len(payload))
        connection.send(b"HMSG %b %b %b\r\n%b%b\r\n" % (reply, sid, lengths, block, payload))

    with Peer([handshake(), answer]) as peer:
        async with leg.connect(peer.url) as client:
            if payload:
                reply = await client.request("price", timeout=PATIENCE)
                assert reply.data == payload
                assert reply.status.code == 503
            else:
                with pytest.raises(NoRespondersError):
                    await client.request("price", timeout=PATIENCE)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
async def test_a_timeout_without_time_is_refused_or_over_at_once(leg: Leg, url: str, timeout: float) -> None:
    async with leg.connect(url) as client, client.subscribe("silent"):
        with anyio.fail_after(PATIENCE), pytest.raises((NATSTimeoutError, ValueError)):
            await client.request("silent", timeout=timeout)
        await client.flush()


async def test_a_cancelled_request_leaves_nothing(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("silent") as sub:
        with anyio.move_on_after(0.05) as scope:
            await client.request("silent", timeout=PATIENCE)
        assert scope.cancelled_caught
        message = await sub.next(timeout=PATIENCE)
        await message.respond(b"too late")
        await client.flush()
        await client.subscribe("price", callback=leg.handler(echo))
        assert (await client.request("price", b"ok", timeout=PATIENCE)).data == b"ok"


async def test_a_request_waits_for_a_reconnect(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    async with leg.connect(server.url, on_event=log, **QUICK) as client:
        server.kill()
        await eventually(lambda: client.status is SessionStatus.RECONNECTING)
        async with anyio.create_task_group() as group:
            await client.subscribe("price", callback=leg.handler(echo))

            async def ask() -> None:
                assert (await client.request("price", b"42", timeout=PATIENCE)).data == b"42"

            group.start_soon(ask)
            server.start()


async def test_a_request_while_down_times_out_naming_the_state(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, **QUICK) as client:
        server.kill()
        await eventually(lambda: client.status is SessionStatus.RECONNECTING)
        with pytest.raises(NATSTimeoutError, match=r"(?i)reconnecting"):
            await client.request("price", timeout=0.05)


async def test_a_request_counts_towards_the_buffer_while_down(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, pending_size=0, **QUICK) as client:
        server.kill()
        await eventually(lambda: client.status is SessionStatus.RECONNECTING)
        with pytest.raises(OutboundBufferLimitError):
            await client.request("price", timeout=1)


# --- many answers ----------------------------------------------------------------------------------------------------


async def collect(answers: object) -> list[bytes]:
    return [message.data async for message in answers]


def respond_with(*answers: bytes):
    async def handler(message: object) -> None:
        for answer in answers:
            await message.respond(answer)

    return handler


async def subscriptions_of(client: object, server: LocalServer) -> int:
    await client.flush()
    return server.connz()["connections"][0]["subscriptions"]


async def test_request_many_ends_with_the_maximum(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as client:
        await client.subscribe("ping", callback=leg.handler(respond_with(b"1", b"2", b"3", b"4")))
        with anyio.fail_after(PATIENCE):
            assert await collect(client.request_many("ping", max_wait=60, max_msgs=3)) == [b"1", b"2", b"3"]
        assert await subscriptions_of(client, server) == 1


async def test_request_many_ends_at_its_time_without_an_error(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as client:
        await client.subscribe("ping", callback=leg.handler(respond_with(b"1", b"2")))
        await client.subscribe("silent", callback=leg.handler(respond_with()))
        with anyio.fail_after(60):
            # On a machine that stands still for a moment the time is up before the answers come.
            while await collect(client.request_many("ping", max_wait=0.1)) != [b"1", b"2"]:
                pass
        assert await collect(client.request_many("silent", max_wait=0.1)) == []
        assert await subscriptions_of(client, server) == 2


async def test_request_many_ends_with_a_stall(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        await client.subscribe("ping", callback=leg.handler(respond_with(b"1", b"2")))
        with anyio.fail_after(PATIENCE):
            # On a machine that stands still for a moment the second answer comes too late.
            while (found := await collect(client.request_many("ping", max_wait=60, stall=0.1))) != [b"1", b"2"]:
                assert found == [b"1"]


async def test_a_stall_does_not_count_before_the_first_answer(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("ping") as sub:
        release = Flag()

        async def answer() -> None:
            message = await sub.next(timeout=PATIENCE)
            await release.wait()
            await message.respond(b"at last")

        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            group.start_soon(_set_after, release, 0.2)
            assert await collect(client.request_many("ping", max_wait=PATIENCE, stall=0.05)) == [b"at last"]


async def _set_after(flag: Flag, seconds: float) -> None:
    await anyio.sleep(seconds)  # longer than the stall: that is what the test is about
    flag.set()


async def test_request_many_ends_with_the_sentinel_and_does_not_give_it(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        await client.subscribe("ping", callback=leg.handler(respond_with(b"1", b"2", b"", b"3")))
        answers = client.request_many("ping", max_wait=60, sentinel=lambda message: not message.data)
        with anyio.fail_after(PATIENCE):
            assert await collect(answers) == [b"1", b"2"]


async def test_what_a_sentinel_raises_comes_out(leg: Leg, server: LocalServer) -> None:
    def broken(_: object) -> bool:
        raise ZeroDivisionError

    async with leg.connect(server.url) as client:
        await client.subscribe("ping", callback=leg.handler(respond_with(b"1")))
        with pytest.raises(ZeroDivisionError):
            await collect(client.request_many("ping", max_wait=60, sentinel=broken))
        assert await subscriptions_of(client, server) == 1


async def test_request_many_to_nobody_fails_at_once(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as client:
        with anyio.fail_after(PATIENCE), pytest.raises(NoRespondersError, match="nobody"):
            await collect(client.request_many("nobody", max_wait=60))
        assert await subscriptions_of(client, server) == 0


async def test_leaving_request_many_early_leaves_nothing(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as client:
        await client.subscribe("ping", callback=leg.handler(respond_with(b"1", b"2", b"3")))
        answers = client.request_many("ping", max_wait=60)
        got = []
        async for message in answers:
            got.append(message.data)
            break
        assert got == [b"1"]
        await answers.aclose()
        assert await subscriptions_of(client, server) == 1


async def test_requests_that_collect_do_not_mix(leg: Leg, url: str) -> None:
    async def twice(message: object) -> None:
        await message.respond(message.data)
        await message.respond(message.data)

    results: dict[int, list[bytes]] = {}
    async with leg.connect(url) as client:
        await client.subscribe("ping", callback=leg.handler(twice))

        async def ask(n: int) -> None:
            results[n] = await collect(client.request_many("ping", b"%d" % n, max_wait=PATIENCE, max_msgs=2))

        async with anyio.create_task_group() as group:
            for n in range(30):
                group.start_soon(ask, n)
    assert results == {n: [b"%d" % n] * 2 for n in range(30)}


@pytest.mark.parametrize(
    "wrong", [{"max_wait": 0}, {"max_wait": -1}, {"max_msgs": 0}, {"stall": 0}], ids=lambda wrong: "+".join(wrong)
)
async def test_wrong_limits_are_refused(leg: Leg, server: LocalServer, wrong: dict[str, float]) -> None:
    async with leg.connect(server.url) as client:
        with pytest.raises(ValueError):
            await collect(client.request_many("ping", **wrong))
        assert client.stats.out_msgs == 0
        assert await subscriptions_of(client, server) == 0
