"""Steps between whose parts no signal handler can run.

Python runs signal handlers in the main thread, between two instructions of Python code, and a handler may raise: by
default SIGINT raises `KeyboardInterrupt`. In ``message = queue.popleft()`` one may run after the call and before the
assignment; the message is in no queue then, and nobody has it. What is done by a single call of C code has no such
moment: ``list.extend`` and ``for`` fetch the next item of an iterator that is itself written in C, and put it into its
place, without looking for signals on the way. So what must not be torn apart is written as such an iterator.

    accepted.extend(results_of(sock.send, chunks[:1]))     what was sent and how much of it is known stay together
    for message in taken_from(queue): return message       a message is in the queue, or it is given
    received.extend(permitted(permit, sock.recv))          who reads has the permit, and its bytes are in the list
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from sys import maxsize
from typing import Final, TypeVar

__all__ = ["permitted", "results_of", "taken_from"]

A = TypeVar("A")
R = TypeVar("R")

results_of: Final = map
"""``results_of(function, arguments)``: each result as it is asked for. The name says what ``map`` is used for."""


def taken_from(queue: deque[A], limit: int = maxsize) -> Iterator[A]:
    """Items of a queue, each taken out of it when it is asked for, up to so many; `IndexError` when there is none."""
    return map(deque[A].popleft, repeat(queue, limit))


def permitted(permit: list[A], function: Callable[[A], R]) -> Iterator[R]:
    """Pops the permit, and calls the function with it: one result. `IndexError` when somebody else has popped it."""
    return map(function, islice(iter(permit.pop, None), 1))
