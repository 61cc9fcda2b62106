"""Rows 22, 35, 39 and 41 with workers in processes of their own, which are told to end, or killed."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest

from tests.adapters.legs import PATIENCE, Leg, eventually
from tests.jetstream.children import Child, child
from tests.jetstream.legs import jetstream
from tests.jetstream.readers import reading
from tests.jetstream.seen import counted
from tests.jetstream.steady import steadily

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]


@contextmanager
def worker(leg: Leg, url: str, *, concurrency: int = 1, seconds: float = 0.0, **options: Any) -> Iterator[Child]:
    """A process, as `tests.jetstream.worker` describes it."""
    with child("worker", leg, url, str(concurrency), str(seconds), json.dumps(options)) as made:
        yield made


@asynccontextmanager
async def queue(leg: Leg, url: str, count: int, **consumer: Any) -> AsyncIterator[tuple[Any, Any, Any]]:
    """A client, the stream with messages ``0``, ``1``, ..., and its consumer."""
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("WORK", subjects=["work"], storage="memory")
        made = await stream.create_consumer("worker", **consumer)
        await client.publish_many("work", [b"%d" % number for number in range(count)])
        await client.flush()
        await counted(made, count)
        yield client, stream, made


async def has_come(consumer: Any) -> bool:
    """Whether there is a message for it."""
    return bool((await consumer.refresh()).num_pending)


async def settled(consumer: Any) -> Any:
    with anyio.fail_after(PATIENCE):
        while (info := await consumer.refresh()).num_ack_pending or info.num_pending:
            await anyio.sleep(0.01)
    return info


async def test_row_22_a_worker_that_is_told_to_end_hands_back_what_it_has_not_begun(leg: Leg, url: str) -> None:
    async with queue(leg, url, 200, ack_wait=60) as (_, _, consumer):
        with worker(leg, url, concurrency=5, seconds=0.3, max_messages=200) as first:
            await first.wait_for(5, "begun")
            async with reading(consumer, "messages") as got:
                assert await first.end(signal.SIGTERM) == 0
                await got.wait_len(200 - len(first.numbers("begun")))
        assert first.numbers("begun") != []
        assert sorted(first.numbers("begun")) == sorted(first.numbers("done"))  # they were let finish
        assert sorted([*map(str, got), *first.numbers("begun")], key=int) == [str(number) for number in range(200)]
        assert (await settled(consumer)).num_ack_pending == 0


async def test_rows_35_and_41_the_messages_of_a_killed_worker_go_to_another_one(leg: Leg, url: str) -> None:
    """A short ``ack_wait`` is no reason for doubles as long as a worker lives, and soon over when it does not."""
    async with queue(leg, url, 4, ack_wait=2.0) as (_, _, consumer):
        with worker(leg, url, concurrency=2, seconds=60) as first, steadily(url) as steady:
            await first.wait_for(2, "begun")
            await anyio.sleep(2.7)  # a handler that takes longer than that has its messages still
            info = await consumer.refresh()
            assert (info.num_redelivered, info.num_ack_pending) == (0, 4) or steady.stood_still > 0.5
            assert await first.end(signal.SIGKILL) == -signal.SIGKILL
            assert len(first.numbers("begun")) == 2
            async with reading(consumer, "work") as got:
                await eventually(lambda: set(got) == {0, 1, 2, 3})
            assert got.redelivered == len(got)
        await settled(consumer)


async def test_row_35_another_worker_process_goes_on(leg: Leg, url: str) -> None:
    async with queue(leg, url, 10, ack_wait=0.5) as (_, _, consumer):
        with worker(leg, url, seconds=60) as first:
            await first.wait_for(1, "begun")
            with worker(leg, url) as second:
                await second.wait_for(8, "done")  # the killed one has one begun and one in reserve
                await first.end(signal.SIGKILL)
                await second.wait_for_all({str(number) for number in range(10)}, "done")
                assert await second.end(signal.SIGTERM) == 0
        assert first.numbers("begun") == ["0"]
        await settled(consumer)


async def test_row_18_a_worker_that_was_stopped_begins_nothing_that_came_meanwhile(leg: Leg, url: str) -> None:
    """The system has taken it for the worker, which cannot know when it came, and the server has sent it again: to the
    same worker, which has asked for more. It does each message once, when it comes again."""
    async with queue(leg, url, 1, ack_wait=1.0) as (client, _, consumer):
        with worker(leg, url, concurrency=20) as one, steadily(url) as steady:
            await one.wait_for(1, "done")
            one.process.send_signal(signal.SIGSTOP)
            await client.publish_many("work", [b"%d" % number for number in range(1, 6)])
            with anyio.fail_after(PATIENCE):
                while (await consumer.refresh()).num_redelivered < 5:
                    await anyio.sleep(0.01)
            one.process.send_signal(signal.SIGCONT)
            await one.wait_for_all({str(number) for number in range(6)}, "done")
            await settled(consumer)
            assert await one.end(signal.SIGTERM) == 0
        twice = len(one.numbers("begun")) - 6
        assert not twice or steady.stood_still > 0.2, one.lines
        assert sorted(one.numbers("done")) == sorted(one.numbers("begun"))


async def test_row_39_a_message_that_kills_its_workers_ends_among_the_dead_letters(leg: Leg, url: str) -> None:
    """No worker lives to say that it was the last attempt. The server says it, in an advisory that a stream may keep:
    so it is worked on like any other message."""
    async with queue(leg, url, 0, ack_wait=1.0, max_deliver=3) as (client, stream, _):
        js = jetstream(client)
        advisory = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.WORK.worker"
        given_up = await js.create_stream("GIVEN_UP", subjects=[advisory], storage="memory")
        dead = await js.create_stream("DEAD", subjects=["dead.>"], storage="memory")
        await js.publish("work", b"poison", headers={"Kind": "bad"})
        await js.publish("work", b"good")

        async def bury(message: Any) -> None:
            told = json.loads(message.data)
            letter = await stream.get_msg(told["stream_seq"])
            kept = () if letter.headers is None else letter.headers.items()
            headers = [*kept, ("Dead-Letter-Sequence", str(letter.sequence))]
            await js.publish("dead.work", letter.data, headers=headers, msg_id=f"WORK-{letter.sequence}")

        undertaker = await given_up.create_consumer("undertaker")
        with steadily(url) as steady:
            async with undertaker.work(bury):
                reader = await dead.create_consumer("reader")
                done: list[str] = []
                deaths = 0
                lives = False
                while not lives:
                    # One at a time: what a worker has in reserve when it is killed has lost an attempt as well.
                    with worker(leg, url, max_messages=1) as one:
                        while one.process.poll() is None and not await has_come(reader):
                            await anyio.sleep(0.02)
                        lives = one.process.poll() is None
                        if lives:
                            await one.wait_for(1, "ready")
                            assert (await reader.next(PATIENCE)).data == b"poison"
                            await settled(stream.consumer("worker"))
                            assert await one.end(signal.SIGTERM) == 0
                            assert "poison" not in one.numbers("begun")
                        else:
                            assert await one.ended() == -signal.SIGKILL
                            assert one.numbers("begun")[-1] == "poison"
                            deaths += 1
                        done += one.numbers("done")
                # Who gets no time of the machine does not begin what has become too old, and loses an attempt, too.
                assert deaths == 3 or (deaths < 3 and steady.stood_still > 0.2)
        assert (await dead.refresh()).state.messages == 1
        letter = await dead.get_msg(1)
        assert letter.data == b"poison"
        assert (letter.headers["Dead-Letter-Sequence"], letter.headers["Kind"]) == ("1", "bad")
        assert done == ["good"] or (set(done) == {"good"} and steady.stood_still > 0.2)
