"""`Consumer.work` and `Consumer.consume` with real servers: rows 17, 18, 21 to 23, 35 to 39 of what users ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from nats_proto.errors import ConnectionClosedError, LocalProtocolError, NATSTimeoutError
from nats_proto.jetstream import ConsumerDeletedError, ConsumerNotFoundError, Reject, Retry
from tests.adapters.legs import PATIENCE, Collected, Flag, Leg, eventually
from tests.jetstream.legs import jetstream
from tests.jetstream.seen import counted
from tests.jetstream.steady import steadily
from tests.transports import Transport

pytestmark = pytest.mark.anyio

LONG = 60.0
"""Seconds for what takes as long as a test has many messages."""


class Case:
    """A stream with messages ``0``, ``1``, ..., and a consumer."""

    def __init__(self, client: Any, js: Any, stream: Any, consumer: Any) -> None:
        self.client = client
        self.js = js
        self.stream = stream
        self.consumer = consumer

    async def publish(self, count: int, first: int = 0) -> None:
        await self.client.publish_many("work.in", [b"%d" % number for number in range(first, first + count)])
        await self.client.flush()


@asynccontextmanager
async def case(leg: Leg, url: str, count: int = 0, **consumer: Any) -> AsyncIterator[Case]:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("WORK", subjects=["work.in"], storage="memory")
        await stream.create_consumer("worker", **{"ack_policy": "explicit", **consumer})
        made = Case(client, js, stream, js.consumer("WORK", "worker"))
        await made.publish(count)
        await counted(made.consumer, count)
        yield made


def number_of(message: Any) -> int:
    return int(message.data)


async def settled(consumer: Any, *, pending: int = 0) -> Any:
    """The consumer's info, once nothing waits for an acknowledgement any more."""
    with anyio.fail_after(PATIENCE):
        while True:
            info = await consumer.refresh()
            if info.num_ack_pending == 0 and info.num_pending == pending:
                return info
            await anyio.sleep(0.01)


# --- consume ---------------------------------------------------------------------------------------------------------


async def test_consume_gives_one_message_at_a_time_and_survives_what_the_handler_raises(leg: Leg, url: str) -> None:
    async with case(leg, url, 20) as given:
        seen: Collected[int] = Collected()
        running: list[int] = []

        async def handle(message: Any) -> None:
            running.append(1)
            assert len(running) == 1
            await message.ack()
            running.pop()
            seen.add(number_of(message))
            if number_of(message) % 2:
                raise ValueError("the odd ones fail")

        async with given.consumer.consume(handle):
            await seen.wait_len(20)
        assert list(seen) == list(range(20))
        assert (await settled(given.consumer)).num_redelivered == 0


@pytest.mark.parametrize("how", ["consume", "work"])
async def test_row_17_a_deleted_consumer_ends_it_with_its_error(leg: Leg, url: str, how: str) -> None:
    async with case(leg, url, 1) as given:
        seen: Collected[int] = Collected()

        async def handle(message: Any) -> None:
            seen.add(number_of(message))

        reading = getattr(given.consumer, how)(handle)
        await seen.wait_len(1)
        await given.stream.delete_consumer("worker")
        with pytest.raises((ConsumerDeletedError, ConsumerNotFoundError)):
            await reading.wait(PATIENCE)
        with pytest.raises((ConsumerDeletedError, ConsumerNotFoundError)):
            await reading.drain()


async def test_work_on_a_consumer_that_does_not_exist(leg: Leg, url: str) -> None:
    async with case(leg, url) as given:

        async def handle(message: Any) -> None:
            raise AssertionError

        with pytest.raises(ConsumerNotFoundError):
            await given.js.consumer("WORK", "nobody").work(handle).wait(PATIENCE)


@pytest.mark.parametrize("how", ["consume", "work"])
async def test_row_21_stop_from_a_handler_ends_it(leg: Leg, url: str, how: str) -> None:
    async with case(leg, url, 50) as given:
        readings: list[Any] = []
        seen: Collected[int] = Collected()
        ready = Flag()

        async def handle(message: Any) -> None:
            await ready.wait()
            await message.ack()
            seen.add(number_of(message))
            readings[0].stop()
            with pytest.raises(LocalProtocolError):
                await readings[0].wait()
            await readings[0].drain()  # does not wait for itself

        readings.append(getattr(given.consumer, how)(handle))
        ready.set()
        await readings[0].wait(PATIENCE)
        readings[0].stop()
        assert list(seen) == [0]
        async with given.consumer.fetch(49, timeout=PATIENCE) as rest:  # they were handed back
            numbers = [number_of(message) async for message in rest]
        assert sorted(numbers) == list(range(1, 50))


async def test_wait_ends_with_its_time(leg: Leg, url: str) -> None:
    async with case(leg, url) as given:

        async def handle(message: Any) -> None:
            raise AssertionError

        async with given.consumer.work(handle) as work:
            with pytest.raises(NATSTimeoutError):
                await work.wait(0.01)


async def test_a_closed_client_ends_it_without_an_error(leg: Leg, url: str) -> None:
    async with case(leg, url) as given:

        async def handle(message: Any) -> None:
            raise AssertionError

        work = given.consumer.work(handle, concurrency=3)
        await given.client.close()
        await work.wait(PATIENCE)
        with pytest.raises(ConnectionClosedError):
            await given.consumer.work(handle).wait(PATIENCE)


# --- rows 18 and 23: how many at once --------------------------------------------------------------------------------


async def test_row_18_messages_do_not_age_in_the_buffer(leg: Leg, url: str, transport: Transport) -> None:
    with steadily(url, **transport.options) as steady:
        async with case(leg, url, 8, ack_wait=0.5) as given:
            seen: Collected[int] = Collected()

            async def handle(message: Any) -> None:
                seen.add(number_of(message))
                await pause(leg, 0.2)

            async with given.consumer.work(handle):
                await eventually(lambda: set(seen) == set(range(8)))
            info = await settled(given.consumer)
            assert (list(seen), info.num_redelivered) == (list(range(8)), 0) or steady.stood_still > 0.15


async def pause(leg: Leg, seconds: float) -> None:
    """In a handler."""
    if leg.name == "threads":
        import time

        time.sleep(seconds)
    else:
        await anyio.sleep(seconds)


async def test_row_23_exactly_so_many_at_once(leg: Leg, url: str) -> None:
    async with case(leg, url, 40) as given:
        running: list[int] = []
        most: list[int] = []
        done: Collected[int] = Collected()
        full = Flag()

        async def handle(message: Any) -> None:
            running.append(number_of(message))
            most.append(len(running))
            if len(running) >= 10:
                full.set()
            await full.wait()
            await pause(leg, 0.01)
            running.remove(number_of(message))
            done.add(number_of(message))

        work = given.consumer.work(handle, concurrency=10)
        await done.wait_len(40)
        await work.drain()
        assert max(most) == 10
        assert sorted(done) == list(range(40))
        assert (await settled(given.consumer)).num_redelivered == 0


async def test_row_23_order_per_key(leg: Leg, url: str) -> None:
    async with case(leg, url, 60) as given:
        begun: dict[int, list[int]] = {}
        running: set[int] = set()
        done: Collected[int] = Collected()

        async def handle(message: Any) -> None:
            key = number_of(message) % 3
            assert key not in running
            running.add(key)
            begun.setdefault(key, []).append(number_of(message))
            await pause(leg, 0.001)
            running.remove(key)
            done.add(number_of(message))

        async with given.consumer.work(handle, concurrency=8, key=lambda message: number_of(message) % 3):
            await done.wait_len(60)
        assert begun == {key: list(range(key, 60, 3)) for key in range(3)}
        assert (await settled(given.consumer)).num_redelivered == 0


async def test_row_23_a_key_that_cannot_be_made_is_a_failure_of_the_handler(leg: Leg, url: str) -> None:
    async with case(leg, url, 3) as given:
        done: Collected[int] = Collected()

        async def handle(message: Any) -> None:
            done.add(number_of(message))

        def key(message: Any) -> object:
            return [] if number_of(message) == 1 else 0

        async with given.consumer.work(handle, key=key, max_attempts=1):
            await done.wait_len(2)
            await settled(given.consumer)
        assert list(done) == [0, 2]


async def test_row_23_a_warning_when_the_consumer_allows_fewer(leg: Leg, url: str) -> None:
    async with case(leg, url, 4, max_ack_pending=2) as given:
        done: Collected[int] = Collected()

        async def handle(message: Any) -> None:
            done.add(number_of(message))

        async with given.consumer.work(handle, concurrency=4) as work:
            await done.wait_len(4)
        assert [warning.kind for warning in work.warnings] == ["ack_limit"]


# --- row 22: the end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["work", "client"])
async def test_row_22_drain_lets_handlers_finish_and_hands_the_rest_back(leg: Leg, url: str, how: str) -> None:
    async with case(leg, url, 40) as given, leg.connect(url) as other:
        begun: Collected[int] = Collected()
        go_on = Flag()

        async def handle(message: Any) -> None:
            begun.add(number_of(message))
            await go_on.wait()

        work = given.consumer.work(handle, concurrency=5, max_messages=40)
        await begun.wait_len(5)
        consumer = jetstream(other).consumer("WORK", "worker")
        await counted(consumer, 0)

        async def drain() -> None:
            await (work.drain(LONG) if how == "work" else given.client.drain(LONG))

        async with anyio.create_task_group() as group:
            group.start_soon(drain)
            taken: list[int] = []
            while len(taken) < 35:
                message = await consumer.next(PATIENCE)
                taken.append(number_of(message))
                await message.ack()
            go_on.set()
        assert sorted([*taken, *begun]) == list(range(40))
        assert len(begun) == 5
        await settled(consumer)
        await work.wait(PATIENCE)


async def test_row_22_a_handler_may_drain_the_client(leg: Leg, url: str) -> None:
    async with case(leg, url, 1) as given, leg.connect(url) as other:

        async def handle(message: Any) -> None:
            await given.client.drain()

        work = given.consumer.work(handle)
        await work.wait(PATIENCE)
        await settled(jetstream(other).consumer("WORK", "worker"))


# --- rows 35, 36, 41: keeping alive ----------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [{"ack_wait": 0.4}, {"ack_wait": 0.4, "backoff": [0.4, 30.0], "max_deliver": 5}])
async def test_rows_35_and_36_a_long_handler_has_its_message_once(
    leg: Leg, url: str, waits: dict[str, Any], transport: Transport
) -> None:
    with steadily(url, **transport.options) as steady:
        async with case(leg, url, 1, **waits) as given:
            begun: Collected[int] = Collected()

            async def handle(message: Any) -> None:
                begun.add(message.metadata.num_delivered)
                await pause(leg, 1.5)

            async with given.consumer.work(handle, concurrency=2):
                await begun.wait_len(1)
                info = await settled(given.consumer)
            assert (list(begun), info.num_redelivered) == ([1], 0) or steady.stood_still > 0.1


async def test_row_35_keeping_alive_has_a_bound(leg: Leg, url: str) -> None:
    async with case(leg, url, 1, ack_wait=0.3) as given:
        begun: Collected[int] = Collected()
        go_on = Flag()

        async def handle(message: Any) -> None:
            begun.add(message.metadata.num_delivered)
            await go_on.wait()

        async with given.consumer.work(handle, concurrency=2, keep_alive=0.5):
            assert (await begun.wait_len(2))[:2] == [1, 2]
            go_on.set()


# --- rows 37 to 39: what becomes of a message ------------------------------------------------------------------------


async def test_row_37_each_outcome_has_its_frame_on_the_wire(leg: Leg, url: str) -> None:
    async with case(leg, url, 6) as given, leg.connect(url) as other:
        frames: Collected[tuple[int, bytes]] = Collected()

        async def note(message: Any) -> None:
            frames.add((int(message.subject.split(".")[5]) - 1, bytes(message.data)))

        async def handle(message: Any) -> None:
            match number_of(message):
                case 1:
                    raise OSError("no")
                case 2:
                    raise Retry(30)
                case 3:
                    raise Reject("nonsense")
                case 4:
                    await message.ack()
                case 5:
                    await message.nak(20)
                    raise OSError("after it was settled")

        _noting = await other.subscribe("$JS.ACK.>", callback=leg.handler(note))
        await other.flush()
        async with given.consumer.work(handle, backoff=[10]):
            await frames.wait_len(6)
        assert sorted(frames) == [
            (0, b"+ACK"),
            (1, b'-NAK {"delay": 10000000000}'),
            (2, b'-NAK {"delay": 30000000000}'),
            (3, b"+TERM nonsense"),
            (4, b"+ACK"),
            (5, b'-NAK {"delay": 20000000000}'),
        ]


async def test_row_37_on_error_is_told_and_may_decide(leg: Leg, url: str) -> None:
    async with case(leg, url, 1) as given:
        told: list[str] = []

        async def handle(message: Any) -> None:
            raise OSError("no")

        def on_error(message: Any, error: BaseException) -> None:
            told.append(f"{number_of(message)} {error}")
            raise Reject("as on_error says")

        async with given.consumer.work(handle, on_error=on_error):
            await settled(given.consumer)
        assert told == ["0 no"]


async def test_row_38_the_back_off_of_the_consumer_is_that_of_failures(leg: Leg, url: str) -> None:
    backoff = [0.1, 0.3, 0.5]
    async with case(leg, url, 1, backoff=backoff, max_deliver=4) as given:
        times: Collected[float] = Collected()

        async def handle(message: Any) -> None:
            times.add(message.received)
            raise OSError("no")

        async with given.consumer.work(handle):
            await times.wait_len(4)
            await settled(given.consumer)
        gaps = [after - before for before, after in zip(times, list(times)[1:], strict=False)]
        assert all(gap >= pause - 0.005 for gap, pause in zip(gaps, backoff, strict=True)), gaps


async def test_row_39_a_dead_letter_is_stored_once_and_ends_the_message(leg: Leg, url: str) -> None:
    async with case(leg, url, 2, max_deliver=3) as given:
        dead = await given.js.create_stream("DEAD", subjects=["dead.>"], storage="memory")
        attempts: Collected[int] = Collected()

        async def handle(message: Any) -> None:
            if number_of(message) == 0:
                attempts.add(message.metadata.num_delivered)
                raise OSError("poison")

        async with given.consumer.work(handle, backoff=[0.01], dead_letter="dead.work"):
            await attempts.wait_len(3)
            await settled(given.consumer)
        assert list(attempts) == [1, 2, 3]
        assert (await dead.refresh()).state.messages == 1
        letter = await dead.get_msg(1)
        assert (letter.subject, letter.data) == ("dead.work", b"0")
        assert letter.headers["Dead-Letter-Sequence"] == "1"
        assert letter.headers["Dead-Letter-Reason"] == "given up after 3 attempts: OSError: poison"


async def test_row_39_a_message_that_kills_its_workers_is_not_begun_for_ever(
    leg: Leg, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without `max_deliver` nobody else stops it. Each delivery that came to nothing stands for a worker here."""
    async with case(leg, url, 1) as given:
        dead = await given.js.create_stream("DEAD", subjects=["dead.>"], storage="memory")
        for _ in range(12):
            await (await given.consumer.next(PATIENCE)).nak()
        begun: Collected[int] = Collected()

        async def handle(message: Any) -> None:
            begun.add(number_of(message))

        async with given.consumer.work(handle, max_attempts=2, dead_letter="dead.work"):
            await settled(given.consumer)
        assert list(begun) == []
        letter = await dead.get_msg(1)
        assert letter.data == b"0"
        assert letter.headers["Dead-Letter-Attempts"] == "13"
        assert "nothing was heard of it again" in letter.headers["Dead-Letter-Reason"]
        assert "work.in is not handled" in caplog.text


async def test_row_39_what_could_not_be_stored_is_not_lost(leg: Leg, url: str) -> None:
    async with case(leg, url, 1) as given:
        attempts: Collected[int] = Collected()
        dead: list[Any] = []

        async def handle(message: Any) -> None:
            attempts.add(1)
            if len(attempts) == 1:
                raise Reject("nonsense")

        # The stream has no room for it: that is refused at once, where no stream at all would be waited for.
        dead.append(await given.js.create_stream("DEAD", subjects=["dead.>"], max_msg_size=1, storage="memory"))
        async with given.consumer.work(handle, dead_letter="dead.work"):
            await attempts.wait_len(2)
            await settled(given.consumer)
        assert (await dead[0].refresh()).state.messages == 0


async def test_row_39_a_last_attempt_waits_until_its_dead_letter_is_stored(
    leg: Leg, url: str, transport: Transport
) -> None:
    """After the last attempt nothing brings the message back: it stays with its handler, kept alive."""
    with steadily(url, **transport.options) as steady:
        async with case(leg, url, 1, max_deliver=1, ack_wait=0.5) as given:
            dead = await given.js.create_stream(
                "DEAD", subjects=["dead.>"], max_msgs=1, discard="new", storage="memory"
            )
            await given.js.publish("dead.before", b"")
            attempts: Collected[int] = Collected()

            async def handle(message: Any) -> None:
                attempts.add(1)
                raise Reject("nonsense")

            async with given.consumer.work(handle, dead_letter="dead.work"):
                await attempts.wait_len(1)
                assert (await dead.refresh()).state.messages == 1
                unacknowledged = (await given.consumer.refresh()).num_ack_pending
                assert unacknowledged == 1 or steady.stood_still > 0.1
                await dead.purge()
                with anyio.fail_after(PATIENCE):
                    while (await dead.refresh()).state.messages == 0:
                        await anyio.sleep(0.01)
                await settled(given.consumer)
            assert (await dead.get_last_msg("dead.work")).data == b"0"
            assert len(attempts) == 1


@pytest.mark.parametrize("size", [{"max_msg_size": 1}, {"max_msgs": 1, "discard": "new"}], ids=["for good", "stopped"])
async def test_row_39_a_last_attempt_whose_dead_letter_cannot_be_stored_is_left(
    leg: Leg, url: str, size: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with case(leg, url, 1, max_deliver=1, ack_wait=60) as given:
        dead = await given.js.create_stream("DEAD", subjects=["dead.>"], storage="memory", **size)
        await given.js.publish("dead.before", b"")
        attempts: Collected[int] = Collected()

        async def handle(message: Any) -> None:
            attempts.add(1)
            raise Reject("nonsense")

        work = given.consumer.work(handle, dead_letter="dead.work")
        await attempts.wait_len(1)
        await eventually(lambda: "was not stored" in caplog.text)
        await work.drain()
        assert "message 1 of stream 'WORK'" in caplog.text
        assert (await given.consumer.refresh()).num_ack_pending == 1  # neither acknowledged nor ended
        assert (await given.stream.get_msg(1)).data == b"0"
        assert (await dead.refresh()).state.messages == 1


async def test_confirmed_acknowledgements(leg: Leg, url: str) -> None:
    async with case(leg, url, 20) as given:
        done: Collected[int] = Collected()

        async def handle(message: Any) -> None:
            done.add(number_of(message))

        async with given.consumer.work(handle, concurrency=4, confirmed=True):
            await done.wait_len(20)
        info = await given.consumer.refresh()
        assert (info.num_ack_pending, info.ack_floor.stream_seq) == (0, 20)


async def test_many_messages_are_handled_once_each(leg: Leg, url: str) -> None:
    async with case(leg, url, 5000) as given:
        done: Collected[int] = Collected()

        async def handle(message: Any) -> None:
            done.add(number_of(message))

        async with given.consumer.work(handle, concurrency=8):
            await eventually(lambda: len(done) >= 5000, timeout=LONG)
        assert sorted(done) == list(range(5000))
        assert (await settled(given.consumer)).num_redelivered == 0


@pytest.mark.parametrize("how", ["consume", "work"])
@pytest.mark.parametrize("handler", [None, 7, "handle"])
async def test_what_is_no_handler(leg: Leg, url: str, how: str, handler: Any) -> None:
    async with case(leg, url) as given:
        with pytest.raises(TypeError):
            getattr(given.consumer, how)(handler)
