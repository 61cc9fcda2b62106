"""A machine above a session, in the loop of ``selectors_loop.py``: several answers to one request.

    python examples/embedding/machine.py nats://127.0.0.1:4222

`items` is a driver: it does what the machine wants, waits for a message of its subscription, and tells it what came.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parents[2]))

from examples.embedding.selectors_loop import Loop
from nats_proto import Ask, CatchUp, Conductor, Machine, Message, Publish, RequestMany, Subscribe

ItemT = TypeVar("ItemT")


def items(loop: Loop, machine: Machine[Message, ItemT]) -> Iterator[ItemT]:
    """The items of a machine, each as soon as it is there."""
    session, conductor = loop.session, Conductor(machine)
    inbox = None
    while True:
        while machine.wants:
            want = machine.wants[0]
            if conductor.is_late(want, now=time.monotonic()):
                conductor.handle_timeout(now=time.monotonic())
                if machine.wants and machine.wants[0] is want:
                    break  # the machine has ended before it was sent
                continue
            machine.wants.popleft()
            match want:
                case Publish():
                    session.publish(want.subject, want.data, reply=want.reply, headers=want.headers)
                case Subscribe():
                    if inbox is not None:
                        session.unsubscribe(inbox)
                        conductor.resubscribed()
                    inbox = session.subscribe(want.subject, marks=True, awaits=want.awaits, asks=want.asks)
                    conductor.subscribed(want)
                case Ask():
                    token = session.request(want.api.subject, want.api.payload, into=inbox)
                    conductor.asked(token, want, now=time.monotonic())
                case CatchUp():
                    session.catch_up(inbox, want.number)
        yield from machine.items
        machine.items.clear()
        assert inbox is not None  # it is the first that a machine wants
        if machine.done:
            session.unsubscribe(inbox)
            if machine.error is not None:
                raise machine.error
            return
        until = conductor.next_timeout()
        seconds = 3600.0 if until is None else max(0.0, until - time.monotonic())
        if not loop.run_until(lambda sub=inbox: bool(sub.messages), seconds):
            conductor.handle_timeout(now=time.monotonic())
        while conductor.expired:
            session.cancel_request(conductor.expired.pop())
        message = inbox.pop()  # one, then drain: it may make the machine want another subscription
        if message is None:
            continue
        if message.subject:
            machine.receive(message, now=time.monotonic())
        else:
            conductor.marked(inbox.take_mark(), now=time.monotonic())


def main(url: str) -> None:
    """One request and two answers to it, which we send ourselves."""
    loop = Loop(url)
    loop.connect()
    loop.session.subscribe("greet")  # else the server would say that nobody is there
    inbox = loop.session.new_inbox()
    asked: RequestMany[Message] = RequestMany("greet", inbox=inbox, now=time.monotonic(), max_wait=5.0, max_msgs=2)
    asked.wants.append(Publish(inbox, b"hello from a machine"))
    asked.wants.append(Publish(inbox, b"and hello again"))
    for answer in items(loop, asked):
        print(answer.data.decode())
    loop.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222")
