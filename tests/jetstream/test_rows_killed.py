"""Rows 22, 35, 39 and 41 with workers in processes of their own, which are told to end, or killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.adapters.legs import PATIENCE, Leg, in_thread
from tests.jetstream.legs import jetstream
from tests.jetstream.readings import reading
from tests.jetstream.seen import counted

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]

ROOT = Path(__file__).parents[2]


class Worker:
    """One process, as `tests.jetstream.worker` describes it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    async def wait_for(self, count: int, word: str) -> None:
        """Until it has told so many lines that begin with this word."""
        with anyio.fail_after(PATIENCE):
            while sum(line.startswith(word) for line in self.lines) < count:
                line = await anyio.to_thread.run_sync(self._readline, abandon_on_cancel=True)
                assert line, f"the worker has ended: {self.lines}"
                self.lines.append(line.strip())

    def _readline(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    async def end(self, how: signal.Signals) -> int:
        """What it returned, once it has ended. All that it told is there then."""
        self.process.send_signal(how)
        return await self.ended()

    async def ended(self) -> int:
        assert self.process.stdout is not None
        rest = await in_thread(self.process.stdout.read)
        self.lines += rest.splitlines()
        return await in_thread(lambda: self.process.wait(PATIENCE))

    def numbers(self, word: str) -> list[str]:
        """Which messages it has told this of."""
        return [line.split()[1] for line in self.lines if line.startswith(f"{word} ")]


@contextmanager
def worker(leg: Leg, url: str, *, concurrency: int = 1, seconds: float = 0.0, **options: Any) -> Iterator[Worker]:
    name = "tests.jetstream.worker"
    command = [sys.executable, "-m", name, leg.name, url, str(concurrency), str(seconds), json.dumps(options)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        try:
            yield Worker(process)
        finally:
            process.kill()


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
    async with queue(leg, url, 4, ack_wait=1.5) as (_, _, consumer):
        with worker(leg, url, concurrency=2, seconds=60) as first:
            await first.wait_for(2, "begun")
            await anyio.sleep(2.2)  # a handler that takes longer than that has its messages still
            info = await consumer.refresh()
            assert (info.num_redelivered, info.num_ack_pending) == (0, 4)
            assert await first.end(signal.SIGKILL) == -signal.SIGKILL
            assert len(first.numbers("begun")) == 2
            async with reading(consumer, "work") as got:
                assert sorted(await got.wait_len(4)) == [0, 1, 2, 3]
            assert got.redelivered == 4
        await settled(consumer)


async def test_row_35_another_worker_process_goes_on(leg: Leg, url: str) -> None:
    async with queue(leg, url, 10, ack_wait=0.5) as (_, _, consumer):
        with worker(leg, url, seconds=60) as first:
            await first.wait_for(1, "begun")
            with worker(leg, url) as second:
                await second.wait_for(8, "done")  # the killed one has one begun and one in reserve
                await first.end(signal.SIGKILL)
                await second.wait_for(10, "done")
                assert await second.end(signal.SIGTERM) == 0
        assert first.numbers("begun") == ["0"]
        assert sorted(second.numbers("done"), key=int) == [str(number) for number in range(10)]
        await settled(consumer)


async def test_row_39_a_message_that_kills_its_workers_ends_among_the_dead_letters(leg: Leg, url: str) -> None:
    """No worker lives to say that it was the last attempt. The server says it, in an advisory that a stream may keep:
    so it is worked on like any other message."""
    async with queue(leg, url, 0, ack_wait=0.3, max_deliver=3) as (client, stream, _):
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
        async with undertaker.work(bury):
            done: list[str] = []
            for _ in range(3):
                # One at a time: what a worker has in reserve when it is killed has lost an attempt as well.
                with worker(leg, url, max_messages=1) as one:
                    assert await one.ended() == -signal.SIGKILL
                    assert one.numbers("begun")[-1] == "poison"
                    done += one.numbers("done")
            with worker(leg, url, max_messages=1) as last:
                reader = await dead.create_consumer("reader")
                assert (await reader.next(PATIENCE)).data == b"poison"
                await settled(stream.consumer("worker"))
                assert await last.end(signal.SIGTERM) == 0
                done += last.numbers("done")
                assert "poison" not in last.numbers("begun")
        assert (await dead.refresh()).state.messages == 1
        letter = await dead.get_msg(1)
        assert letter.data == b"poison"
        assert (letter.headers["Dead-Letter-Sequence"], letter.headers["Kind"]) == ("1", "bad")
        assert done == ["good"]
